// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A thread starts to wait when it is woken or preempted, and stops when it is switched in. Its
 * entry in `waiting` stays for its life: a lookup costs a quarter of an insertion and a deletion.
 *
 * A wait is the one of the thread that runs next. Whoever runs in these hooks is the waker, or the thread
 * before. The records of tp programs say nothing of a thread but its number and name: its cgroup, and
 * whether it is wanted, is noted when it leaves a CPU, because then it is whoever runs.
 */
#include "unity.bpf.h"
#include "filter.bpf.h"

#define TASK_RUNNING 0
/* The id of the root of the tree of cgroup2 (cgroup_setup_root()). */
#define ROOT_CGROUP 1

enum { BY_NOTHING, BY_COMM, BY_CGROUP, BY_PID_NS };

const volatile __u32 by = BY_NOTHING;

/* What began a wait. */
enum cause {
	WOKEN,
	PREEMPTED_SAME,
	PREEMPTED_OTHER,
	PREEMPTED_SYSTEM,
	PREEMPTED_UNKNOWN, /* in tp programs */
	THROTTLED,
	CAUSES,
	RUNS = CAUSES, /* none: it does not wait, nor sleep */
};

enum wanted { UNKNOWN_WANTED, WANTED, UNWANTED };

struct thread {
	__u64 since;  /* 0: it does not wait */
	__u64 cgroup; /* in tp programs; 0: not known yet */
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
HISTOGRAM(latency, CAUSES, 1000);
TABLE(groups, struct group, struct waits, 4096);

static __always_inline void insert(__u32 tid, const struct thread *thread)
{
	int err = unity_update(&waiting, &tid, thread, BPF_NOEXIST);

	if (err && err != -EEXIST && thread->since)
		counters_add(&counts, DROPPED, 1);
}

static __always_inline int woken(__u32 tid)
{
	__u64 now = bpf_ktime_get_ns();
	struct thread *thread = bpf_map_lookup_elem(&waiting, &tid);

	if (!thread) {
		struct thread new = {.since = now, .cause = WOKEN};

		insert(tid, &new);
	} else if (!thread->since && thread->cause != RUNS) {
		/* Else it is queued already, and has waited since then, or did not fall asleep. */
		thread->cause = WOKEN;
		thread->since = now;
	}
	return 0;
}

/* A thread leaves its CPU. since: when it began to wait for another turn, 0 when it sleeps. */
static __always_inline void left(__u32 tid, __u64 since, enum cause cause, __u64 cgroup,
				 enum wanted wanted)
{
	struct thread *thread = bpf_map_lookup_elem(&waiting, &tid);

	if (!thread) {
		struct thread new = {since, cgroup, cause, wanted};

		insert(tid, &new);
		return;
	}
	if (thread->since)
		counters_add(&counts, UNENDED, 1);
	thread->since = since;
	thread->cause = cause;
	if (wanted == UNKNOWN_WANTED)
		return;
	thread->cgroup = cgroup;
	thread->wanted = wanted;
}

/* A thread runs, and has waited if it was seen to begin. */
static __always_inline void entered(struct thread *thread, __u64 now, enum wanted wanted,
				    struct group *group)
{
	__u64 since = 0, wait;
	__u32 cause = WOKEN;
	struct waits *waits;

	if (thread) {
		since = thread->since;
		cause = thread->cause;
		thread->since = 0;
		thread->cause = RUNS;
	}
	if (wanted == UNWANTED)
		return;
	if (!since || wanted != WANTED) {
		counters_add(&counts, wanted == WANTED ? UNMATCHED : UNKNOWN, 1);
		return;
	}
	CUT(cut);
	wait = now > since ? now - since : 0; /* clocks of two CPUs may differ */
	histogram_add(cut, &latency, cause, wait);
	if (by == BY_NOTHING)
		return;
	waits = table_at(cut, &groups, group);
	if (waits) {
		__sync_fetch_and_add(&waits->count, 1);
		__sync_fetch_and_add(&waits->sum_ns, wait);
	}
}

ON_TASK(wakeup, sched, sched_wakeup, tid)
{
	return woken(tid);
}

ON_TASK(wakeup_new, sched, sched_wakeup_new, tid)
{
	return woken(tid);
}

ON_TASK(free, sched, sched_process_free, tid)
{
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
	if (from && (preempt || task_state(prev) == TASK_RUNNING))
		left(from, now, cause_of(unity_btf, prev, next), 0, UNKNOWN_WANTED);
	else if (from)
		left(from, 0, WOKEN, 0, UNKNOWN_WANTED);
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
	entered(bpf_map_lookup_elem(&waiting, &to), now, filter_task(next) ? WANTED : UNWANTED,
		&group);
	return 0;
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
		left(prev_pid, prev_state & 0xff ? 0 : now, cause, ours,
		     filter_current() ? WANTED : UNWANTED);
	if (!next_pid)
		return 0;
	if (by == BY_COMM)
		group.comm = comm_at(next_comm);
	else if (by == BY_CGROUP)
		group.id = theirs;
	entered(next, now,
		!filter_is_set() ? WANTED
		: next		 ? next->wanted
				 : UNKNOWN_WANTED,
		&group);
	return 0;
}
