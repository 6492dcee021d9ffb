// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Ends of processes, by cause, with their age; and of threads whose process goes on. A process ends with
 * its last thread and has the name of its first one, which is there until then: where another thread
 * executed a program, that one has become the first, with the first one's id and start.
 */
#include "unity.bpf.h"
#include "exit.bpf.h"
#include "filter.bpf.h"

const volatile bool by_comm = false;
const volatile bool events = false;
const volatile __u64 min_duration_ns = 0;

/* Numbers of causes: an exit status, 0 to 255; SIGNALED and a signal, with 0x80 where it left a core. */
#define SIGNALED 256
#define UNKNOWN	 512

struct ends {
	__u64 exits;
	__u64 failed;
	__u64 signaled;
	__u64 sum_ns;
};

struct event {
	__u64 ktime_ns;
	__u64 age_ns; /* 0: not known */
	__u32 pid;
	__u32 ppid; /* 0: not known */
	__u32 cause;
	__u32 unused;
	char comm[16];
};

COUNTER_ARRAY(causes, UNKNOWN + 1);
COUNTERS(counts, THREADS, SHORT_LIVED);
HISTOGRAM(ages, 1, 1000000);
TABLE(comms, struct comm, struct ends, 4096);
EVENTS(ended, struct event, 256 * 1024);

/* status: as wait(2) gives it. Kernel threads may end with any number. */
static __always_inline __u32 cause_of(int status)
{
	if (status & ~0xffff)
		return UNKNOWN;
	return status & 0x7f ? SIGNALED + (status & 0xff) : status >> 8;
}

static __always_inline void count_comm(cut_t cut, const struct event *event)
{
	struct comm comm;
	struct ends *ends;

	__builtin_memcpy(&comm, event->comm, sizeof(comm));
	ends = table_at(cut, &comms, &comm);
	if (!ends)
		return;
	__sync_fetch_and_add(&ends->exits, 1);
	__sync_fetch_and_add(&ends->sum_ns, event->age_ns);
	if (event->cause > 0 && event->cause < SIGNALED)
		__sync_fetch_and_add(&ends->failed, 1);
	else if (event->cause >= SIGNALED && event->cause < UNKNOWN)
		__sync_fetch_and_add(&ends->signaled, 1);
}

/* leader: NULL in tp programs. */
static __always_inline int process_ended(void *ctx, struct task_struct *leader)
{
	CUT(cut);
	struct event event = {.ktime_ns = bpf_ktime_get_ns(), .cause = UNKNOWN};
	struct comm comm = leader ? comm_at(leader->comm) : current_comm();

	event.pid = bpf_get_current_pid_tgid() >> 32;
	__builtin_memcpy(event.comm, &comm, sizeof(event.comm));
	if (leader) {
		event.age_ns = event.ktime_ns - BPF_CORE_READ(leader, start_time);
		event.ppid = task_ppid(leader);
		event.cause = cause_of(task_wait_status(leader));
		histogram_add(cut, &ages, 0, event.age_ns);
	}
	counters_add(&causes, event.cause, 1);
	if (by_comm)
		count_comm(cut, &event);
	if (leader && event.age_ns < min_duration_ns)
		counters_add(&counts, SHORT_LIVED, 1);
	else if (events)
		events_emit(ctx, &ended, &event);
	return 0;
}

ON_EXIT(exit)
{
	struct task_struct *leader = task ? BPF_CORE_READ(task, group_leader) : NULL;

	if (task ? !filter_task(leader) : !filter_current())
		return 0;
	if (last)
		return process_ended(ctx, leader);
	counters_add(&counts, THREADS, 1);
	return 0;
}
