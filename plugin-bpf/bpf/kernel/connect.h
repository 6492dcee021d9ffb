/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a connect is asked with, and the context of programs for it in cgroups.
 *
 * msghdr is checked against the BTF of Linux 5.10, 6.1, 6.12, 6.18 and 7.2 (tests/tests/kernel_headers.rs).
 * The context is no type of the kernel's BTF: the verifier rewrites each access to it.
 */
#ifndef __UNITY_KERNEL_CONNECT_H
#define __UNITY_KERNEL_CONNECT_H

#include "sock.h"

#define SOCK_STREAM  1
#define MSG_FASTOPEN 0x20000000

#ifndef UNITY_FULL_VMLINUX

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#endif

struct msghdr {
	void *msg_name; /* the address, in the kernel's memory */
	int msg_namelen;
	unsigned int msg_flags;
};

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

/* include/uapi/linux/bpf.h. Addresses and the port are in network byte order. */
struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 mark;
	__u32 priority;
	__u32 src_ip4;
	__u32 src_ip6[4];
};

struct bpf_sock_addr {
	__u32 user_family;
	__u32 user_ip4;
	__u32 user_ip6[4];
	__u32 user_port;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 msg_src_ip4;
	__u32 msg_src_ip6[4];
	__attribute__((aligned(8))) struct bpf_sock *sk;
};

#endif /* UNITY_FULL_VMLINUX */

#endif
