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

/* bpftool's vmlinux.h of an older kernel does not have it. */
struct task_struct___since_5_14 {
	unsigned int __state;
} __attribute__((preserve_access_index));

/*
 * 0 while it runs or could run, in a body of ON_ARGUMENTS. `state` became `__state` in 5.14
 * (2f064a59a11f).
 */
#define TASK_STATE(task)                                                                           \
	(bpf_core_field_exists(((struct task_struct___since_5_14 *)(task))->__state)               \
		 ? (long)READ((struct task_struct___since_5_14 *)(task), __state)                  \
		 : READ((struct task_struct___pre_5_14 *)(task), state))

/* Whether it has a CPU, in a body of ON_ARGUMENTS. Kernels have an int there, or a byte. */
#define TASK_ON_CPU(task) (unity_btf ? (task)->on_cpu : unity_on_cpu(task))
static __always_inline __u32 unity_on_cpu(struct task_struct *task)
{
	__u32 on_cpu = 0;

	bpf_probe_read_kernel(&on_cpu, bpf_core_field_size(task->on_cpu),
			      __builtin_preserve_access_index(&task->on_cpu));
	return on_cpu;
}

/* The process that a task's parent belongs to. */
static __always_inline __u32 task_ppid(struct task_struct *task)
{
	return BPF_CORE_READ(task, real_parent, tgid);
}

/*
 * What wait(2) will say of a process, asked when its last thread ends. `group_exit_code` is its status
 * only where the group ended as a whole: a stop leaves its signal there too. Kernels differ in whether a
 * last thread that ends alone ends the group (6.1 and later), or the first thread's status stays (5.10).
 */
static __always_inline int task_wait_status(struct task_struct *task)
{
	if (BPF_CORE_READ(task, signal, flags) & SIGNAL_GROUP_EXIT)
		return BPF_CORE_READ(task, signal, group_exit_code);
	return BPF_CORE_READ(task, group_leader, exit_code);
}

#endif
