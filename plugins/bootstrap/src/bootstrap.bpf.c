// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Starts of programs (exec) and ends of processes, each counted once, by name and as single events.
 *
 * A process ends when its last thread does. Since 6.16 the tracepoint says so (group_dead); before,
 * the thread that finds signal->live at 0 is the last one, and where two threads find that at the
 * same time the first of them to enter the process into `ended` counts it.
 */
#include "unity.bpf.h"

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

struct process {
	__u64 start_ns;
	__u64 pid;
};

LRU_HASH(ended, struct process, __u8, 1024);
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
	event.ppid = BPF_CORE_READ(task, real_parent, tgid);
	event.status = BPF_CORE_READ(task, signal, group_exit_code);
	if (!event.status)
		event.status = BPF_CORE_READ(task, exit_code);
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
	return executed(ctx, BPF_CORE_READ(task, real_parent, tgid), READ(bprm, filename));
}

ON_RECORD(exec, sched, sched_process_exec, const char *, filename)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 now = bpf_ktime_get_ns();

	bpf_map_update_elem(&exec_at, &pid, &now, BPF_ANY);
	return executed(ctx, 0, filename);
}

/* Since 6.16; before, the verifier knows no second argument. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(exit_btf_group, struct task_struct *task, bool group_dead)
{
	return group_dead ? last_exit(ctx, task) : 0;
}

/* A thread ends: the last one of its process, that nobody else counted? */
ON_ARGUMENTS(exit, sched_process_exit, struct task_struct *, task)
{
	struct process process = {};
	__u8 one = 1;

	if (BPF_CORE_READ(task, signal, live.counter))
		return 0;
	process.start_ns = BPF_CORE_READ(task, group_leader, start_time);
	process.pid = BPF_CORE_READ(task, tgid);
	if (unity_update(&ended, &process, &one, BPF_NOEXIST) == -EEXIST)
		return 0;
	return last_exit(ctx, task);
}

ON_RECORD_VARIANT(exit, group, sched, sched_process_exit, __u8, group_dead)
{
	return group_dead ? unread_exit(ctx) : 0;
}

/* Before 6.16 the end of the thread that the process began with counts: mostly it is the last one. */
SEC("tp/sched/sched_process_exit") int exit_tp(void *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();

	return id >> 32 == (__u32)id ? unread_exit(ctx) : 0;
}
