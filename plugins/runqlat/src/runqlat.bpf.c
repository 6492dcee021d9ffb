// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A thread starts to wait when it is woken or preempted, and stops when it is switched in. Its
 * entry in `waiting` stays for its life: a lookup costs a quarter of an insertion and a deletion.
 *
 * A wait is the one of the thread that runs next. Whoever runs in these hooks is the waker, or the thread
 * before. A thread that falls asleep is not looked up: its count of switches tells whether a wait that was
 * seen to begin is the one that ends.
 *
 * The records of tp programs say nothing of a thread but its number and name: that it sleeps, its cgroup, and
 * whether it is wanted, is noted when it leaves a CPU, because then it is whoever runs.
 */
#include "unity.bpf.h"
#include "filter.bpf.h"

#define TASK_RUNNING 0
/* The id of the root of the tree of cgroup2 (cgroup_setup_root()). */
#define ROOT_CGROUP 1

enum { BY_NOTHING, BY_COMM, BY_CGROUP, BY_PID_NS };

const volatile __u32 by = BY_NOTHING;
const volatile bool by_cause;

/* What began a wait. */
enum cause {
	WOKEN,
	PREEMPTED_SAME,
	PREEMPTED_OTHER,
	PREEMPTED_SYSTEM,
	PREEMPTED_UNKNOWN, /* in tp programs */
	THROTTLED,
	CAUSES,
	RUNS = CAUSES, /* in tp programs: it does not wait, nor sleep */
};

enum wanted { UNKNOWN_WANTED, WANTED, UNWANTED };

struct thread {
	__u64 since;	/* 0: it does not wait */
	__u64 switches; /* how often it had left a CPU then; always 0 in tp programs */
	__u64 cgroup;	/* in tp programs; 0: not known yet */
	__u32 cause;
	__u32 wanted; /* in tp programs */
};

/* What a wait is counted under: one of the two, or in tp programs none. */
struct group {
	struct comm comm;
	__u64 id; /* of a cgroup or pid namespace */
};

struct waits {
	__u64 count;
	__u64 sum_ns;
};

HASH(waiting, __u32, struct thread, PER_THREAD);
/*
 * UNMATCHED: switched in, but nobody saw it become runnable. UNENDED: it waited, and is switched out although nobody
 * saw it run. DROPPED: no room in `waiting`.
 */
COUNTERS(counts, UNMATCHED, UNENDED, UNKNOWN, DROPPED);
HISTOGRAM(latency, 1, 1000);
HISTOGRAM(causes, CAUSES, 1000); /* instead, with by_cause */
TABLE(groups, struct group, struct waits, 4096);

static __always_inline void insert(__u32 tid, const struct thread *thread)
{
	int err = unity_update(&waiting, &tid, thread, BPF_NOEXIST);

	if (err && err != -EEXIST && thread->since)
		counters_add(&counts, DROPPED, 1);
}

/* Whether it waits since it last left a CPU. Else nobody saw it run after an earlier wait. */
static __always_inline bool waits(const struct thread *thread, __u64 switches)
{
	if (!thread->since)
		return false;
	if (thread->switches == switches)
		return true;
	counters_add(&counts, UNENDED, 1);
	return false;
}

static __always_inline int woken(__u32 tid, __u64 switches)
{
	__u64 now = bpf_ktime_get_ns();
	struct thread *thread = bpf_map_lookup_elem(&waiting, &tid);

	if (!thread) {
		struct thread new = {.since = now, .switches = switches, .cause = WOKEN};

		insert(tid, &new);
	} else if (thread->cause != RUNS && !waits(thread, switches)) {
		/* Else it did not fall asleep, or is queued already, and has waited since then. */
		thread->cause = WOKEN;
		thread->switches = switches;
		thread->since = now;
	}
	return 0;
}

/* A thread leaves its CPU, and waits for another turn. */
static __always_inline void preempted(__u32 tid, __u64 now, __u64 switches, enum cause cause)
{
	struct thread *thread = bpf_map_lookup_elem(&waiting, &tid);

	if (!thread) {
		struct thread new = {.since = now, .switches = switches, .cause = cause};

		insert(tid, &new);
		return;
	}
	if (thread->since)
		counters_add(&counts, UNENDED, 1);
	thread->since = now;
	thread->switches = switches;
	thread->cause = cause;
}

/* A thread runs, and has waited if it was seen to begin. */
static __always_inline void entered(struct thread *thread, __u64 now, __u64 switches,
				    enum wanted wanted, struct group *group)
{
	bool waited = thread && waits(thread, switches);
	__u64 since = 0, wait;
	struct waits *waits;
	__u32 cause = WOKEN;

	if (thread) {
		since = thread->since;
		cause = thread->cause;
		thread->since = 0;
	}
	if (wanted == UNWANTED)
		return;
	if (!waited || wanted != WANTED) {
		counters_add(&counts, wanted == WANTED ? UNMATCHED : UNKNOWN, 1);
		return;
	}
	CUT(cut);
	wait = now > since ? now - since : 0; /* clocks of two CPUs may differ */
	if (by_cause)
		histogram_add(cut, &causes, cause, wait);
	else
		histogram_add(cut, &latency, 0, wait);
	if (by == BY_NOTHING)
		return;
	waits = table_at(cut, &groups, group);
	if (waits) {
		__sync_fetch_and_add(&waits->count, 1);
		__sync_fetch_and_add(&waits->sum_ns, wait);
	}
}

#define SWITCHES(task) (READ(task, nvcsw) + READ(task, nivcsw))

/* A thread that has a CPU did not fall asleep: it was woken just before. */
ON_ARGUMENTS(wakeup, sched_wakeup, struct task_struct *, task)
{
	return TASK_ON_CPU(task) ? 0 : woken(READ(task, pid), SWITCHES(task));
}

ON_RECORD(wakeup, sched, sched_wakeup, __u32, pid)
{
	return woken(pid, 0);
}

ON_ARGUMENTS(wakeup_new, sched_wakeup_new, struct task_struct *, task)
{
	return woken(READ(task, pid), SWITCHES(task));
}

ON_RECORD(wakeup_new, sched, sched_wakeup_new, __u32, pid)
{
	return woken(pid, 0);
}

ON_TASK(free, sched, sched_process_free, tid)
{
	struct thread *thread = bpf_map_lookup_elem(&waiting, &tid);

	if (thread && thread->since)
		counters_add(&counts, UNENDED, 1);
	bpf_map_delete_elem(&waiting, &tid);
	return 0;
}

/* The cgroup that next is in decides, unless it is a kernel thread or the idle one. */
static __always_inline enum cause cause_of(const bool unity_btf, struct task_struct *prev,
					   struct task_struct *next)
{
	struct css_set *ours = READ(prev, cgroups), *theirs = READ(next, cgroups);
	struct cgroup *cgroup = READ(theirs, dfl_cgrp);

	if (!READ(next, pid))
		return THROTTLED;
	if (READ(next, flags) & PF_KTHREAD)
		return PREEMPTED_SYSTEM;
	if (READ(ours, dfl_cgrp) == cgroup)
		return PREEMPTED_SAME;
	return READ(cgroup, level) ? PREEMPTED_OTHER : PREEMPTED_SYSTEM;
}

ON_ARGUMENTS(switch, sched_switch, bool, preempt, struct task_struct *, prev, struct task_struct *,
	     next)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 from = READ(prev, pid), to = READ(next, pid);
	struct group group;

	/* Every CPU has a thread 0, and it waits for nothing. */
	if (from && (preempt || TASK_STATE(prev) == TASK_RUNNING))
		preempted(from, now, SWITCHES(prev),
			  by_cause ? cause_of(unity_btf, prev, next) : WOKEN);
	if (!to)
		return 0;
	if (by != BY_NOTHING)
		__builtin_memset(&group, 0, sizeof(group));
	if (by == BY_COMM)
		group.comm = comm_at(next->comm);
	else if (by == BY_CGROUP)
		group.id = task_cgroup_id(next);
	else if (by == BY_PID_NS)
		group.id = task_pidns(next);
	entered(bpf_map_lookup_elem(&waiting, &to), now, SWITCHES(next),
		filter_task(next) ? WANTED : UNWANTED, &group);
	return 0;
}

/* A thread leaves its CPU, in tp programs. since: when it began to wait for another turn, 0 when it sleeps. */
static __always_inline void left(__u32 tid, __u64 since, enum cause cause, __u64 cgroup)
{
	struct thread *thread = bpf_map_lookup_elem(&waiting, &tid);
	struct thread new = {.since = since,
			     .cgroup = cgroup,
			     .cause = since ? cause : WOKEN,
			     .wanted = filter_current() ? WANTED : UNWANTED};

	if (!thread) {
		insert(tid, &new);
		return;
	}
	if (thread->since)
		counters_add(&counts, UNENDED, 1);
	*thread = new;
}

/* prev_state: 0 is running, 0x100 (TASK_REPORT_MAX) preempted; a sleep is in the low bits. */
ON_RECORD(switch, sched, sched_switch, __u32, prev_pid, long, prev_state, __u32, next_pid,
	  const char *, next_comm)
{
	__u64 now = bpf_ktime_get_ns(), ours = bpf_get_current_cgroup_id();
	struct thread *next = bpf_map_lookup_elem(&waiting, &next_pid);
	__u64 theirs = next ? next->cgroup : 0;
	enum cause cause = PREEMPTED_OTHER;
	struct group group = {};

	/* Kernel threads are in the root, and so may other threads be. */
	if (!next_pid)
		cause = THROTTLED;
	else if (!theirs || (theirs == ours && theirs == ROOT_CGROUP))
		cause = PREEMPTED_UNKNOWN;
	else if (theirs == ours)
		cause = PREEMPTED_SAME;
	else if (theirs == ROOT_CGROUP)
		cause = PREEMPTED_SYSTEM;
	if (prev_pid)
		left(prev_pid, prev_state & 0xff ? 0 : now, cause, ours);
	if (!next_pid)
		return 0;
	if (by == BY_COMM)
		group.comm = comm_at(next_comm);
	else if (by == BY_CGROUP)
		group.id = theirs;
	entered(next, now, 0,
		!filter_is_set() ? WANTED
		: next		 ? next->wanted
				 : UNKNOWN_WANTED,
		&group);
	if (next)
		next->cause = RUNS;
	return 0;
}
