// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Programs that are started, and execs that fail.
 *
 * sched_process_exec comes once for each success, whatever the system call and whoever calls it. Failures
 * are told by the exits of the system calls; a call that succeeds is not paired with its begin, since a
 * thread that executes a program takes over the first thread's id on the way.
 *
 * The arguments are read where the kernel has just put them for the new program: they are in memory,
 * nobody has changed them yet, and they are what /proc/PID/cmdline shows.
 */
#include "unity.bpf.h"
#include "filter.bpf.h"
#include "kernel/mm.h"

#define ERRNOS	   512 /* from here on a call is restarted, or its thread dies (ERESTARTSYS ..) */
#define ARGS_BYTES 2048

const volatile bool by_comm = false;
const volatile bool events = false;

struct calls {
	__u64 execs;
	__u64 failed;
};

struct exec {
	__u64 ktime_ns;
	__u32 pid;
	__u32 ppid; /* 0: not known */
	__u32 uid;
	__s32 args_bytes; /* of all of them; -1: not known */
	char comm[16];
	char filename[128];
	__u8 args[ARGS_BYTES]; /* each with a NUL at its end */
};

COUNTERS(counts, EXECS, FROM_THREAD, UNREAD);
COUNTER_ARRAY(errnos, ERRNOS);
TABLE(comms, struct comm, struct calls, 4096);
EVENTS(started, struct exec, 1024 * 1024);
SCRATCH(started);

/* How many bytes of the event's `args` are set. */
static __always_inline __u64 read_args(struct exec *exec, struct task_struct *task)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	__u64 start = BPF_CORE_READ(mm, arg_start);
	__u64 bytes = BPF_CORE_READ(mm, arg_end) - start;
	__u64 kept = bytes;

	barrier_var(kept);
	if (kept > ARGS_BYTES)
		kept = ARGS_BYTES;
	if (bpf_probe_read_user(exec->args, kept, (void *)start)) {
		counters_add(&counts, UNREAD, 1);
		return 0;
	}
	exec->args_bytes = bytes;
	return kept;
}

static __always_inline void emit(void *ctx, struct task_struct *task, const char *filename)
{
	struct exec *exec = scratch_take(&started);
	__u64 kept = 0;

	if (!exec)
		return;
	exec->ktime_ns = bpf_ktime_get_ns();
	exec->pid = bpf_get_current_pid_tgid() >> 32;
	exec->ppid = task ? task_ppid(task) : 0;
	exec->uid = bpf_get_current_uid_gid();
	exec->args_bytes = -1;
	bpf_get_current_comm(exec->comm, sizeof(exec->comm));
	bpf_probe_read_kernel_str(exec->filename, sizeof(exec->filename), filename);
	if (task)
		kept = read_args(exec, task);
	events_emit_part(ctx, &started, exec, offsetof(struct exec, args) + kept);
	scratch_give(&started, exec);
}

/* task: NULL in the tp program, which cannot read one. */
static __always_inline int executed(void *ctx, struct task_struct *task, __u32 old_pid,
				    const char *filename)
{
	CUT(cut);
	struct comm comm = current_comm();
	struct calls *calls = by_comm ? table_at(cut, &comms, &comm) : NULL;

	counters_add(&counts, EXECS, 1);
	if (old_pid != (__u32)bpf_get_current_pid_tgid())
		counters_add(&counts, FROM_THREAD, 1);
	if (calls)
		__sync_fetch_and_add(&calls->execs, 1);
	if (events)
		emit(ctx, task, filename);
	return 0;
}

ON_ARGUMENTS(exec, sched_process_exec, struct task_struct *, task, pid_t, old_pid,
	     struct linux_binprm *, bprm)
{
	return filter_task(task) ? executed(ctx, task, old_pid, READ(bprm, filename)) : 0;
}

ON_RECORD(exec, sched, sched_process_exec, __u32, old_pid, const char *, filename)
{
	return filter_current() ? executed(ctx, NULL, old_pid, filename) : 0;
}

static __always_inline int returned(long ret)
{
	CUT(cut);
	struct comm comm = current_comm();
	struct calls *calls;

	if (ret >= 0 || ret <= -ERRNOS || !filter_current())
		return 0;
	counters_add(&errnos, -ret, 1);
	calls = by_comm ? table_at(cut, &comms, &comm) : NULL;
	if (calls)
		__sync_fetch_and_add(&calls->failed, 1);
	return 0;
}

ON_SYSCALL_EXIT(execve, execve)
{
	return returned(ret);
}

ON_SYSCALL_EXIT(execveat, execveat)
{
	return returned(ret);
}
