// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A thread starts to wait when it is woken or preempted, and stops when it is switched in. Its
 * entry in `waiting` stays for its life, 0 while it does not wait: a lookup costs a quarter of an
 * insertion and a deletion.
 */
#include "unity.bpf.h"

#define TASK_RUNNING 0

const volatile bool by_comm = false;

struct waits {
	__u64 count;
	__u64 sum_ns;
};

HASH(waiting, __u32, __u64, PER_THREAD);
/* UNMATCHED: switched in, but nobody saw it become runnable. DROPPED: no room in `waiting`. */
COUNTERS(counts, UNMATCHED, DROPPED);
HISTOGRAM(latency, 1, 1000);
TABLE(comms, struct comm, struct waits, 4096);

static __always_inline void start(__u32 tid, __u64 now)
{
	int err = unity_update(&waiting, &tid, &now, BPF_NOEXIST);

	if (err && err != -EEXIST)
		counters_add(&counts, DROPPED, 1);
}

static __always_inline int woken(__u32 tid)
{
	__u64 now = bpf_ktime_get_ns();
	__u64 *since = bpf_map_lookup_elem(&waiting, &tid);

	if (!since)
		start(tid, now);
	else if (!*since) /* else it is queued already, and has waited since then */
		*since = now;
	return 0;
}

static __always_inline void waited(__u64 wait, const void *name)
{
	CUT(cut);
	struct comm comm;
	struct waits *waits;

	histogram_add(cut, &latency, 0, wait);
	if (!by_comm)
		return;
	comm = comm_at(name);
	waits = table_at(cut, &comms, &comm);
	if (waits) {
		__sync_fetch_and_add(&waits->count, 1);
		__sync_fetch_and_add(&waits->sum_ns, wait);
	}
}

/* comm: where the name of the thread that runs next can be read, with bpf_probe_read_kernel(). */
static __always_inline int switched(__u32 prev, bool prev_runnable, __u32 next, const void *comm)
{
	__u64 now = bpf_ktime_get_ns();
	__u64 *since, begin;

	/* Every CPU has a thread 0, and it waits for nothing. */
	if (prev) {
		since = bpf_map_lookup_elem(&waiting, &prev);
		if (since)
			*since = prev_runnable ? now : 0;
		else if (prev_runnable)
			start(prev, now);
	}
	if (!next)
		return 0;
	since = bpf_map_lookup_elem(&waiting, &next);
	begin = since ? *since : 0;
	if (since)
		*since = 0;
	if (begin && begin <= now) /* clocks of two CPUs may differ by a little */
		waited(now - begin, comm);
	else
		counters_add(&counts, UNMATCHED, 1);
	return 0;
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

ON_ARGUMENTS(switch, sched_switch, bool, preempt, struct task_struct *, prev, struct task_struct *,
	     next)
{
	bool runnable = preempt || task_state(prev) == TASK_RUNNING;

	return switched(READ(prev, pid), runnable, READ(next, pid), next->comm);
}

/* prev_state: 0 is running, 0x100 (TASK_REPORT_MAX) preempted; a sleep is in the low bits. */
ON_RECORD(switch, sched, sched_switch, __u32, prev_pid, long, prev_state, __u32, next_pid,
	  const char *, next_comm)
{
	return switched(prev_pid, !(prev_state & 0xff), next_pid, next_comm);
}
