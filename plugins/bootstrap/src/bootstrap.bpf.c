// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Starts of programs (exec) and ends of processes, each counted once, by name and as single events. A
 * process ends with its last thread.
 */
#include "unity.bpf.h"
#include "exit.bpf.h"

const volatile bool events = false;
const volatile bool by_comm = false;
const volatile __u64 min_duration_ns = 0;

struct lives {
	__u64 execs;
	__u64 exits;
	__u64 sum_ns;
};

struct event {
	__u64 ktime_ns;
	__u64 life_ns; /* 0: not known */
	__u32 exit;    /* 0: an exec */
	__u32 pid;
	__u32 ppid;   /* 0: not known */
	__s32 status; /* as wait(2) gives it; -1: none, or not known */
	char comm[16];
	char filename[128];
};

/* When a program was started, for tp programs, which cannot read a task. */
LRU_HASH(exec_at, __u32, __u64, 8192);
COUNTERS(counts, EXECS, EXITS, FAILED, SIGNALED, SHORT_LIVED);
HISTOGRAM(lifetime, 1, 1000000);
TABLE(comms, struct comm, struct lives, 4096);
EVENTS(events_ring, struct event, 256 * 1024);

static __always_inline void emit(void *ctx, struct event *event, const char *filename)
{
	event->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	if (filename)
		bpf_probe_read_kernel_str(event->filename, sizeof(event->filename), filename);
	events_emit(ctx, &events_ring, event);
}

static __always_inline int executed(void *ctx, __u32 ppid, const char *filename)
{
	CUT(cut);
	struct event event = {.status = -1, .ppid = ppid, .ktime_ns = bpf_ktime_get_ns()};
	struct comm comm = current_comm();
	struct lives *lives = by_comm ? table_at(cut, &comms, &comm) : NULL;

	counters_add(&counts, EXECS, 1);
	if (lives)
		__sync_fetch_and_add(&lives->execs, 1);
	if (events && !min_duration_ns)
		emit(ctx, &event, filename);
	return 0;
}

static __always_inline int exited(void *ctx, struct event *event)
{
	CUT(cut);
	struct comm comm = current_comm();
	struct lives *lives = by_comm ? table_at(cut, &comms, &comm) : NULL;

	counters_add(&counts, EXITS, 1);
	if (event->status > 0 && event->status & 0x7f)
		counters_add(&counts, SIGNALED, 1);
	else if (event->status > 0)
		counters_add(&counts, FAILED, 1);
	if (event->life_ns)
		histogram_add(cut, &lifetime, 0, event->life_ns);
	if (lives) {
		__sync_fetch_and_add(&lives->exits, 1);
		__sync_fetch_and_add(&lives->sum_ns, event->life_ns);
	}
	if (event->life_ns && event->life_ns < min_duration_ns)
		counters_add(&counts, SHORT_LIVED, 1);
	else if (events)
		emit(ctx, event, NULL);
	return 0;
}

/* The last thread of a process ends. */
static __always_inline int last_exit(void *ctx, struct task_struct *task)
{
	struct event event = {.exit = 1, .ktime_ns = bpf_ktime_get_ns()};

	event.life_ns = event.ktime_ns - BPF_CORE_READ(task, group_leader, start_time);
	event.ppid = task_ppid(task);
	event.status = task_wait_status(task);
	return exited(ctx, &event);
}

/* Without the kernel's BTF the life is that since the last exec, and unknown without one. */
static __always_inline int unread_exit(void *ctx)
{
	struct event event = {.exit = 1, .status = -1, .ktime_ns = bpf_ktime_get_ns()};
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 *since = bpf_map_lookup_elem(&exec_at, &pid);

	event.life_ns = since ? event.ktime_ns - *since : 0;
	bpf_map_delete_elem(&exec_at, &pid);
	return exited(ctx, &event);
}

ON_ARGUMENTS(exec, sched_process_exec, struct task_struct *, task, pid_t, old_pid,
	     struct linux_binprm *, bprm)
{
	return executed(ctx, task_ppid(task), READ(bprm, filename));
}

ON_RECORD(exec, sched, sched_process_exec, const char *, filename)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 now = bpf_ktime_get_ns();

	bpf_map_update_elem(&exec_at, &pid, &now, BPF_ANY);
	return executed(ctx, 0, filename);
}

ON_EXIT(exit)
{
	if (!last)
		return 0;
	return task ? last_exit(ctx, task) : unread_exit(ctx);
}
