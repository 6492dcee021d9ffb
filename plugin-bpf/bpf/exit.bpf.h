/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The end of a thread, and whether its process ends with it. Include it after unity.bpf.h.
 *
 *   ON_EXIT(hook)   hook_btf_group, hook_btf, hook_raw, hook_tp_group, hook_tp
 *
 * It is followed by a body, which sees `ctx`, `task` (the thread; NULL in tp programs, which cannot read
 * one) and `last` (the process ends with it).
 *
 * Since 6.16 the tracepoint says whether it does (group_dead). Before, the thread that finds
 * signal->live at 0 is the last one, and where two threads find that at the same time the first of them
 * to enter the process into `unity_ended` is. A tp program before 6.16 takes the end of the process's
 * first thread for that of the process.
 */
#ifndef __EXIT_BPF_H
#define __EXIT_BPF_H

#include "kernel/task.h"

struct unity_process {
	__u64 start_ns;
	__u64 pid;
};

LRU_HASH(unity_ended, struct unity_process, __u8, 1024);

static __always_inline bool unity_is_last(struct task_struct *task)
{
	struct unity_process process = {};
	__u8 one = 1;

	if (BPF_CORE_READ(task, signal, live.counter))
		return false;
	process.start_ns = BPF_CORE_READ(task, group_leader, start_time);
	process.pid = BPF_CORE_READ(task, tgid);
	return unity_update(&unity_ended, &process, &one, BPF_NOEXIST) != -EEXIST;
}

/*
 * hook_btf_group: before 6.16 the verifier knows no second argument. What the body does where there is
 * no task is left out of programs that have one.
 */
#define ON_EXIT(hook)                                                                              \
	static __always_inline int hook##__exit(void *ctx, struct task_struct *task, bool last);   \
	SEC("tp_btf/sched_process_exit") int hook##_btf_group(void *ctx)                           \
	{                                                                                          \
		struct task_struct *task = (void *)((__u64 *)ctx)[0];                              \
                                                                                                   \
		__builtin_assume(task != NULL);                                                    \
		return hook##__exit(ctx, task, ((__u64 *)ctx)[1]);                                 \
	}                                                                                          \
	ON_ARGUMENTS(hook, sched_process_exit, struct task_struct *, task)                         \
	{                                                                                          \
		__builtin_assume(task != NULL);                                                    \
		return hook##__exit(ctx, task, unity_is_last(task));                               \
	}                                                                                          \
	ON_RECORD_VARIANT(hook, group, sched, sched_process_exit, __u8, group_dead)                \
	{                                                                                          \
		return hook##__exit(ctx, NULL, group_dead);                                        \
	}                                                                                          \
	SEC("tp/sched/sched_process_exit") int hook##_tp(void *ctx)                                \
	{                                                                                          \
		__u64 id = bpf_get_current_pid_tgid();                                             \
                                                                                                   \
		return hook##__exit(ctx, NULL, id >> 32 == (__u32)id);                             \
	}                                                                                          \
	static __always_inline int hook##__exit(void *ctx, struct task_struct *task, bool last)

#endif
