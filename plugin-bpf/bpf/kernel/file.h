/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Files, paths and what is executed.
 *
 * Checked against the BTF of Linux 5.10, 6.1, 6.12, 6.18 and 7.2 (tests/tests/kernel_headers.rs).
 */
#ifndef __UNITY_KERNEL_FILE_H
#define __UNITY_KERNEL_FILE_H

#include "types.h"

#ifndef UNITY_FULL_VMLINUX

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#endif

struct dentry;
struct super_block;

struct qstr {
	u32 len;
	const unsigned char *name;
};

struct inode {
	unsigned short i_mode;
	unsigned long i_ino;
	struct super_block *i_sb;
};

struct super_block {
	u32 s_dev; /* 12 bits major, 20 bits minor */
	unsigned long s_magic;
};

/* d_name.name points to the text also where that lies in the dentry itself. */
struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
};

struct vfsmount {
	struct dentry *mnt_root;
	struct super_block *mnt_sb;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
	unsigned int f_flags;
	unsigned int f_mode;
	void *private_data; /* of a socket: its struct socket */
};

/* Open files by descriptor. */
struct fdtable {
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct filename {
	const char *name;
};

struct open_how {
	__u64 flags;
	__u64 mode;
};

struct linux_binprm {
	struct file *file;
	const char *filename;
	const char *interp;
	int argc;
};

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* UNITY_FULL_VMLINUX */

#endif
