/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What tools ask about a task, on every kernel. */
#ifndef __UNITY_TASK_H
#define __UNITY_TASK_H

/* A thread's name, as the key of a table. */
struct comm {
	char name[16];
};

/* The name of the thread that runs, with zeros behind its end. */
static __always_inline struct comm current_comm(void)
{
	struct comm comm = {};

	bpf_get_current_comm(comm.name, sizeof(comm.name));
	return comm;
}

/*
 * A name out of kernel memory, with zeros behind its end: some kernels leave there what a longer name
 * was before, and two keys would have the same text.
 */
static __always_inline struct comm comm_at(const void *name)
{
	struct comm comm = {};

	bpf_probe_read_kernel_str(comm.name, sizeof(comm.name), name);
	return comm;
}

/* 0 while it runs or could run. `state` became `__state` in 5.14 (2f064a59a11f). */
static __always_inline long task_state(struct task_struct *task)
{
	if (bpf_core_field_exists(task->__state))
		return BPF_CORE_READ(task, __state);
	return BPF_CORE_READ((struct task_struct___pre_5_14 *)task, state);
}

#endif
