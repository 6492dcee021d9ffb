/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Which tasks a tool looks at, and what it groups them by. Include it after unity.bpf.h.
 *
 *   filter_task(task)      whether a task is wanted; needs the kernel's BTF
 *   filter_current()       the same for whoever runs now; needs none
 *   filter_process()       that without the cgroup, for programs that are attached to it
 *   filter_is_set()        false: every task is wanted
 *   task_cgroup_id(task)   the id of its cgroup, for plugin_bpf::group::Cgroups
 *   task_pidns(task)       its pid namespace, as in /proc/PID/ns/pid
 *
 * In the hooks of the scheduler, of interrupts and of the network, whoever runs is not whom the event
 * is about: ask filter_task() there, with the task of the event.
 *
 * User space (plugin_bpf::group::Filter) sets what is wanted before the object is loaded. A filter that is
 * left as zeros wants every task, and the verifier then removes the tests: it knows the constants of a
 * .rodata map since 5.5 (a23740ec43ba "bpf: Track contents of read-only maps as scalars").
 */
#ifndef __FILTER_BPF_H
#define __FILTER_BPF_H

#include "kernel/task.h"
#include "kernel/cgroup.h"

#define UNITY_FILTER_TGIDS 16
#define UNITY_FILTER_COMMS 8
#define UNITY_COMM_LEN	   16 /* TASK_COMM_LEN */

/* All that are set must match; of a list, one. The layout is that of Filter in group/filter.rs. */
struct unity_filter {
	__u64 cgroup;	    /* id of the root of the wanted subtree; 0: any */
	__u32 cgroup_level; /* of that root */
	__u32 tgids;	    /* how many of tgid[] are set; 0: any */
	__u32 comms;	    /* the same of comm[] */
	__u32 except;	    /* the collector's own process, unless it is named; 0: none */
	__u32 tgid[UNITY_FILTER_TGIDS];
	__u64 comm[UNITY_FILTER_COMMS][UNITY_COMM_LEN / 8]; /* filled up with NULs */
};

const volatile struct unity_filter unity_filter SEC(".rodata.unity_filter");

static __always_inline bool filter_is_set(void)
{
	return unity_filter.tgids || unity_filter.comms || unity_filter.cgroup;
}

/* The id of a task's cgroup in the tree of cgroup2. */
static __always_inline __u64 task_cgroup_id(struct task_struct *task)
{
	return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
}

/*
 * The inode number of a task's pid namespace; 0 for one that was reaped, as may happen in
 * sched_process_free.
 */
static __always_inline __u32 task_pidns(struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	void *numbers;

	if (!pid)
		return 0;
	numbers = __builtin_preserve_access_index(&pid->numbers);
	numbers += (__u64)BPF_CORE_READ(pid, level) * bpf_core_type_size(struct upid);
	return BPF_CORE_READ((struct upid *)numbers, ns, ns.inum);
}

/* The id of a cgroup's ancestor at a level that is not below its own; of itself at its own. */
static __always_inline __u64 unity_ancestor_id(struct cgroup *cgroup, __u32 level)
{
	struct cgroup *ancestor = NULL;
	void *at;
	__u64 id = 0;

	if (bpf_core_field_exists(struct cgroup___6_1, ancestors)) {
		at = __builtin_preserve_access_index(&((struct cgroup___6_1 *)cgroup)->ancestors);
		bpf_probe_read_kernel(&ancestor, sizeof(ancestor), at + level * sizeof(ancestor));
		return BPF_CORE_READ(ancestor, kn, id);
	}
	at = __builtin_preserve_access_index(&((struct cgroup___pre_6_1 *)cgroup)->ancestor_ids);
	bpf_probe_read_kernel(&id, sizeof(id), at + level * sizeof(id));
	return id;
}

static __always_inline bool unity_in_cgroup(struct task_struct *task)
{
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);
	__u32 level = unity_filter.cgroup_level;

	return (__u32)BPF_CORE_READ(cgroup, level) >= level &&
	       unity_ancestor_id(cgroup, level) == unity_filter.cgroup;
}

static __always_inline bool unity_is_listed_tgid(__u32 tgid)
{
#pragma unroll
	for (int i = 0; i < UNITY_FILTER_TGIDS; i++)
		if (i < unity_filter.tgids && unity_filter.tgid[i] == tgid)
			return true;
	return false;
}

static __always_inline bool unity_is_listed_comm(struct comm name)
{
	__u64 comm[UNITY_COMM_LEN / 8];

	__builtin_memcpy(comm, &name, sizeof(comm));
#pragma unroll
	for (int i = 0; i < UNITY_FILTER_COMMS; i++)
		if (i < unity_filter.comms && unity_filter.comm[i][0] == comm[0] &&
		    unity_filter.comm[i][1] == comm[1])
			return true;
	return false;
}

/* Whether the tool looks at this task. */
static __always_inline bool filter_task(struct task_struct *task)
{
	if (unity_filter.except && unity_filter.except == BPF_CORE_READ(task, tgid))
		return false;
	if (unity_filter.tgids && !unity_is_listed_tgid(BPF_CORE_READ(task, tgid)))
		return false;
	if (unity_filter.comms && !unity_is_listed_comm(comm_at(task->comm)))
		return false;
	return !unity_filter.cgroup || unity_in_cgroup(task);
}

static __always_inline bool filter_process(void)
{
	if (unity_filter.except && unity_filter.except == bpf_get_current_pid_tgid() >> 32)
		return false;
	if (unity_filter.tgids && !unity_is_listed_tgid(bpf_get_current_pid_tgid() >> 32))
		return false;
	return !unity_filter.comms || unity_is_listed_comm(current_comm());
}

/*
 * Whether the tool looks at whoever runs now, for programs that run in process context: system calls,
 * uprobes. Needs no BTF of the kernel. A cgroup needs Linux 5.14 (95b861a7935b "bpf: Allow
 * bpf_get_current_ancestor_cgroup_id for tracing"); an older one refuses the program when a cgroup is
 * set. There, where it has BTF, filter_task((void *)bpf_get_current_task()) says the same.
 */
static __always_inline bool filter_current(void)
{
	return filter_process() && (!unity_filter.cgroup ||
				    bpf_get_current_ancestor_cgroup_id(unity_filter.cgroup_level) ==
					    unity_filter.cgroup);
}

#endif
