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
const volatile __u64 min_duration_ns = 0;

struct lives {
	__u64 execs;
	__u64 exits;
	__u64 sum_ns;
};

enum {
	EXEC,
	EXIT,
};

struct event {
	__u64 ktime_ns;
	__u64 life_ns; /* 0: not known */
	__u32 kind;
	__u32 pid;
	__u32 ppid;   /* 0: not known */
	__s32 status; /* as wait(2) gives it; -1: not known */
	char comm[16];
	char filename[128];
};

struct process {
	__u64 start_ns;
	__u64 pid;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct process);
	__type(value, __u8);
} ended SEC(".maps");

/* When a program was started, for tp programs, which cannot read a task; created for them only. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, __u64);
} exec_at SEC(".maps");

COUNTERS(counts, EXECS, EXITS, FAILED, SIGNALED, SHORT_LIVED);
HISTOGRAM(lifetime, 1, 1000000);
TABLE(comms, struct comm, struct lives, 4096);
EVENTS(events_ring, struct event, 256 * 1024);

static __always_inline void event_init(struct event *event, __u32 kind, __u64 now)
{
	__builtin_memset(event, 0, sizeof(*event));
	event->ktime_ns = now;
	event->kind = kind;
	event->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
}

static __always_inline int executed(void *ctx, __u32 ppid, const char *filename)
{
	CUT(cut);
	struct comm comm = current_comm();
	struct lives *lives = table_at(cut, &comms, &comm);
	struct event event;

	counters_add(&counts, EXECS, 1);
	if (lives)
		__sync_fetch_and_add(&lives->execs, 1);
	if (!events || min_duration_ns)
		return 0;
	event_init(&event, EXEC, bpf_ktime_get_ns());
	event.ppid = ppid;
	bpf_probe_read_kernel_str(event.filename, sizeof(event.filename), filename);
	events_emit(ctx, &events_ring, &event);
	return 0;
}

/* life_ns 0 and status -1: not known. */
static __always_inline int exited(void *ctx, __u64 now, __u64 life_ns, __u32 ppid, __s32 status)
{
	CUT(cut);
	struct comm comm = current_comm();
	struct lives *lives = table_at(cut, &comms, &comm);
	struct event event;

	counters_add(&counts, EXITS, 1);
	if (status != -1 && status & 0x7f)
		counters_add(&counts, SIGNALED, 1);
	else if (status != -1 && status)
		counters_add(&counts, FAILED, 1);
	if (life_ns)
		histogram_add(cut, &lifetime, 0, life_ns);
	if (lives) {
		__sync_fetch_and_add(&lives->exits, 1);
		__sync_fetch_and_add(&lives->sum_ns, life_ns);
	}
	if (life_ns && life_ns < min_duration_ns) {
		counters_add(&counts, SHORT_LIVED, 1);
		return 0;
	}
	if (!events)
		return 0;
	event_init(&event, EXIT, now);
	event.life_ns = life_ns;
	event.ppid = ppid;
	event.status = status;
	events_emit(ctx, &events_ring, &event);
	return 0;
}

/* The last thread of a process ends. */
static __always_inline int last_exit(void *ctx, struct task_struct *task)
{
	__u64 now = bpf_ktime_get_ns();
	__u64 start = BPF_CORE_READ(task, group_leader, start_time);
	__s32 status = BPF_CORE_READ(task, signal, group_exit_code);

	if (!status)
		status = BPF_CORE_READ(task, exit_code);
	return exited(ctx, now, now - start, BPF_CORE_READ(task, real_parent, tgid), status);
}

ON_ARGUMENTS(exec, sched_process_exec, struct task_struct *, task, pid_t, old_pid,
	     struct linux_binprm *, bprm)
{
	return executed(ctx, BPF_CORE_READ(task, real_parent, tgid), READ(bprm, filename));
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

/* Since 6.16; before, the verifier knows no second argument. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(exit_group_btf, struct task_struct *task, bool group_dead)
{
	return group_dead ? last_exit(ctx, task) : 0;
}

/* Without the kernel's BTF: no field of a kernel struct, only the tracepoints' own records. */

ON_RECORD(exec, sched, sched_process_exec, const char *, filename)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 now = bpf_ktime_get_ns();

	bpf_map_update_elem(&exec_at, &pid, &now, BPF_ANY);
	return executed(ctx, 0, filename);
}

/* The life is that since the last exec, and unknown without one. */
static __always_inline int exited_unread(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 *since = bpf_map_lookup_elem(&exec_at, &pid);
	__u64 now = bpf_ktime_get_ns();
	__u64 life = since ? now - *since : 0;

	bpf_map_delete_elem(&exec_at, &pid);
	return exited(ctx, now, life, 0, -1);
}

ON_RECORD(exit_group, sched, sched_process_exit, __u8, group_dead)
{
	return group_dead ? exited_unread(ctx) : 0;
}

/* Before 6.16 the end of the thread that the process began with counts: mostly it is the last one. */
SEC("tp/sched/sched_process_exit") int exit_tp(void *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();

	return id >> 32 == (__u32)id ? exited_unread(ctx) : 0;
}
