/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Control groups.
 *
 * A cgroup's id is its kernfs node's, since 5.5 (743210386c03 "cgroup: use cgrp->kn->id as the cgroup ID");
 * before, that id was a union, which these declarations do not read.
 *
 * Checked against the BTF of Linux 5.10, 6.1, 6.12, 6.18 and 7.2 (tests/tests/kernel_headers.rs).
 */
#ifndef __UNITY_KERNEL_CGROUP_H
#define __UNITY_KERNEL_CGROUP_H

#include "types.h"

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#endif

#ifndef UNITY_FULL_VMLINUX

struct kernfs_node {
	const char *name; /* the folder's */
	u64 id;
};

struct cgroup {
	int level; /* 0 for the root */
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp; /* in the tree of cgroup2; never NULL */
};

#endif /* UNITY_FULL_VMLINUX */

/* Ids or cgroups from the root to the cgroup itself, level + 1 of them. */
struct cgroup___6_1 {
	/* 7f203bc89eb6 "cgroup: Replace cgroup->ancestor_ids[] with ->ancestors[]" */
	struct cgroup *ancestors[0];
};

struct cgroup___pre_6_1 {
	u64 ancestor_ids[0];
};

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif
