// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Hooks of which some ways cannot work, and what becomes of the others. Each counts thread renames or
 * forks of the test.
 */
#include "unity.bpf.h"

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} __attribute__((preserve_access_index));

COUNTERS(seen, RENAMES, FORKS, GUESSES, NEVER, ENTERED, RETURNED);
TABLE(names, struct comm, __u64, 64);

const volatile __u32 tester = 0;

static __always_inline bool is_ours(void)
{
	return bpf_get_current_pid_tgid() >> 32 == tester;
}

/* Its record has no such field, on any kernel; its arguments are there. */
ON_ARGUMENTS(rename, task_rename, struct task_struct *, task)
{
	if (is_ours())
		counters_add(&seen, RENAMES, 1);
	return 0;
}

ON_RECORD(rename, task, task_rename, __u32, no_such_field)
{
	if (is_ours() && no_such_field != 1)
		counters_add(&seen, RENAMES, 1);
	return 0;
}

/* No kernel has this tracepoint for its first two ways. */
SEC("tp_btf/no_such_tracepoint") int fork_btf(void *ctx)
{
	counters_add(&seen, NEVER, 1);
	return 0;
}

SEC("raw_tp/no_such_tracepoint") int fork_raw(void *ctx)
{
	counters_add(&seen, NEVER, 1);
	return 0;
}

ON_RECORD(fork, task, task_newtask, __u32, pid)
{
	if (is_ours() && pid)
		counters_add(&seen, FORKS, 1);
	return 0;
}

/* No way of this one works. */
SEC("tp_btf/no_such_tracepoint") int guess_btf(void *ctx)
{
	counters_add(&seen, GUESSES, 1);
	return 0;
}

/* A record's field that is wider than what the program reads, and one that is narrower. */
ON_RECORD(narrow, task, task_newtask, __u64, pid)
{
	counters_add(&seen, NEVER, 1);
	return 0;
}

/* The same short name before different bytes. */
SEC("raw_tp/task_rename") int dirty_raw(void *ctx)
{
	CUT(cut);
	char dirty[16] = "ab";
	__u32 random = bpf_get_prandom_u32();
	struct comm comm;

	if (!is_ours())
		return 0;
	__builtin_memcpy(dirty + 3, &random, sizeof(random));
	comm = comm_at(dirty);
	table_add(cut, &names, &comm, 1);
	return 0;
}

/* The verifier refuses it: a task's address is a number here. */
SEC("raw_tp/task_rename") int wild_raw(void *ctx)
{
	__u64 task = bpf_get_current_task();

	return *(__u32 *)task;
}

/* Entry and return of a function: one program for both where the kernel has sessions (6.10). */
static __always_inline int entered(void)
{
	if (is_ours())
		counters_add(&seen, ENTERED, 1);
	return 0;
}

static __always_inline int returned(void)
{
	if (is_ours())
		counters_add(&seen, RETURNED, 1);
	return 0;
}

extern bool bpf_session_is_return(void) __ksym __weak;

SEC("kprobe.session/__x64_sys_getppid") int call_kprobe_session(void *ctx)
{
	return bpf_session_is_return() ? returned() : entered();
}

SEC("kprobe/__x64_sys_getppid") int call_kprobe(void *ctx)
{
	return entered();
}

SEC("kretprobe/__x64_sys_getppid") int call_kretprobe(void *ctx)
{
	return returned();
}

/* A system call with arguments of several types, of which the second is a text. */
ON_SYSCALL_EXIT(prctl_exit, prctl)
{
	if (is_ours() && ret == -22) /* EINVAL */
		counters_add(&seen, RETURNED, 1);
	return 0;
}

ON_SYSCALL_ENTER(prctl_enter, prctl, int, option, const char *, arg2, long, arg3, __u8, arg4)
{
	char text[8] = {};

	if (!is_ours() || option != -2 || arg3 != -3 || arg4 != 4)
		return 0;
	bpf_probe_read_user_str(text, sizeof(text), arg2);
	if (text[0] == 'l' && text[5] == 'r' && !text[6])
		counters_add(&seen, ENTERED, 1);
	return 0;
}

ON_SYSCALL_ENTER(no_argument, prctl, int, option, long, no_such_argument)
{
	counters_add(&seen, NEVER, option + no_such_argument);
	return 0;
}

/* The tasks of the test, one word each. */
SEC("iter/task") int tasks_iter(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	__u32 tid;

	if (!task || task->tgid != tester)
		return 0;
	tid = task->pid;
	bpf_seq_write(ctx->meta->seq, &tid, sizeof(tid));
	return 0;
}
