/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Threads, processes and their namespaces.
 *
 * Checked against the BTF of Linux 5.10, 6.1, 6.12, 6.18 and 7.2 (tests/tests/kernel_headers.rs).
 */
#ifndef __UNITY_KERNEL_TASK_H
#define __UNITY_KERNEL_TASK_H

#include "types.h"

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#endif

#ifndef UNITY_FULL_VMLINUX

typedef struct {
	unsigned int val;
} kuid_t;

typedef struct {
	unsigned int val;
} kgid_t;

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t euid;
};

struct signal_struct {
	/* The number of live threads: 0 when the last one is on its way out. */
	struct {
		int counter;
	} live;
	int group_exit_code;
	unsigned int flags; /* SIGNAL_GROUP_EXIT .. */
};

struct ns_common {
	unsigned int inum; /* as in /proc/PID/ns/pid */
};

struct pid_namespace {
	unsigned int level; /* 0 for the initial one */
	struct ns_common ns;
};

struct net {
	struct ns_common ns;
};

struct nsproxy {
	struct net *net_ns;
	/* Not the thread's own one, which is in thread_pid->numbers. */
	struct pid_namespace *pid_ns_for_children;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;	/* of the namespace that the thread was made in */
	struct upid numbers[1]; /* one for each level from 0 to `level` */
};

struct css_set;
struct files_struct;
struct mm_struct;

struct task_struct {
	pid_t pid;
	pid_t tgid;
	/* __state since 5.14 (2f064a59a11f "sched: Change task_struct::state"). */
	unsigned int __state;
	unsigned int flags;
	/* It has a CPU; with CONFIG_SMP. An int, and a byte in 7.2: libbpf makes the load that fits. */
	unsigned int on_cpu;
	int exit_code;
	unsigned long nvcsw; /* how often it left a CPU to sleep, and otherwise */
	unsigned long nivcsw;
	u64 start_time; /* CLOCK_MONOTONIC, of the thread */
	/* real_start_time before 5.5 (cf25e24db61c "time: Rename tsk->real_start_time to
	   ->start_boottime"). */
	u64 start_boottime;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct signal_struct *signal;
	struct pid *thread_pid;	 /* NULL once it was reaped */
	struct nsproxy *nsproxy; /* NULL once it is exiting */
	struct css_set *cgroups;
	struct files_struct *files; /* NULL once it is exiting; kernel/file.h */
	struct mm_struct *mm;	    /* NULL for kernel threads, and once it is exiting */
	const struct cred *real_cred;
	char comm[16];
};

#endif /* UNITY_FULL_VMLINUX */

/* include/linux/sched/signal.h */
#define SIGNAL_GROUP_EXIT 0x4 /* all threads end, with the status in group_exit_code */

/* In task_struct.flags (include/linux/sched.h). */
#define PF_KTHREAD 0x00200000

struct task_struct___pre_5_14 {
	long state;
};

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif
