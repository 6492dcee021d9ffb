// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A thread starts to wait when it is woken or preempted, and stops when it is switched in. Its
 * entry in `waiting` stays for its life, 0 while it does not wait: a lookup costs a quarter of an
 * insertion and a deletion.
 */
#include "unity.bpf.h"

#define TASK_RUNNING 0

/* What tp programs read, from the tracepoints' format files. */
const volatile struct offsets {
	__u32 wakeup_pid;
	__u32 prev_pid;
	__u32 prev_state;
	__u32 next_pid;
	__u32 next_comm;
	__u32 free_pid;
} offsets;
const volatile bool by_comm = false;

enum {
	UNMATCHED, /* switched in, but nobody saw it become runnable */
	LOST,	   /* no room in `waiting` */
	COUNTS,
};

struct comm {
	char name[16];
};

struct waits {
	__u64 count;
	__u64 sum_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); /* user space sets it from pid_max */
	__type(key, __u32);
	__type(value, __u64);
} waiting SEC(".maps");

COUNTERS(counts, COUNTS);
HISTOGRAM(latency, 1, 1000);
TABLE(comms, struct comm, struct waits, 4096);

static __always_inline void start(__u32 tid, __u64 now)
{
	int err = unity_update(&waiting, &tid, &now, BPF_NOEXIST);

	if (err && err != -EEXIST)
		counters_add(&counts, LOST, 1);
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

/* comm: where the name of the thread that runs next can be read, with bpf_probe_read_kernel(). */
static __always_inline int switched(__u32 prev, bool prev_runnable, __u32 next, const void *comm)
{
	__u64 now = bpf_ktime_get_ns();
	__u64 *since, wait;

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
	if (!since || !*since || *since > now) { /* clocks of two CPUs may differ by a little */
		counters_add(&counts, UNMATCHED, 1);
		if (since)
			*since = 0;
		return 0;
	}
	wait = now - *since;
	*since = 0;
	histogram_add(&latency, 0, wait);
	if (by_comm) {
		struct comm key = {};
		struct waits *waits;

		bpf_probe_read_kernel(&key, sizeof(key), comm);
		waits = table_at(&comms, &key);
		if (waits) {
			__sync_fetch_and_add(&waits->count, 1);
			__sync_fetch_and_add(&waits->sum_ns, wait);
		}
	}
	return 0;
}

static __always_inline int freed(__u32 tid)
{
	bpf_map_delete_elem(&waiting, &tid);
	return 0;
}

static __always_inline bool runnable(struct task_struct *task)
{
	if (bpf_core_field_exists(task->__state))
		return BPF_CORE_READ(task, __state) == TASK_RUNNING;
	return BPF_CORE_READ((struct task_struct___pre_5_14 *)task, state) == TASK_RUNNING;
}

SEC("tp_btf/sched_wakeup") int BPF_PROG(wakeup_btf, struct task_struct *task)
{
	return woken(task->pid);
}

SEC("tp_btf/sched_wakeup_new") int BPF_PROG(wakeup_new_btf, struct task_struct *task)
{
	return woken(task->pid);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(switch_btf, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	return switched(prev->pid, preempt || runnable(prev), next->pid, next->comm);
}

SEC("tp_btf/sched_process_free") int BPF_PROG(free_btf, struct task_struct *task)
{
	return freed(task->pid);
}

SEC("raw_tp/sched_wakeup") int BPF_PROG(wakeup_raw, struct task_struct *task)
{
	return woken(BPF_CORE_READ(task, pid));
}

SEC("raw_tp/sched_wakeup_new") int BPF_PROG(wakeup_new_raw, struct task_struct *task)
{
	return woken(BPF_CORE_READ(task, pid));
}

SEC("raw_tp/sched_switch")
int BPF_PROG(switch_raw, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	return switched(BPF_CORE_READ(prev, pid), preempt || runnable(prev),
			BPF_CORE_READ(next, pid), next->comm);
}

SEC("raw_tp/sched_process_free") int BPF_PROG(free_raw, struct task_struct *task)
{
	return freed(BPF_CORE_READ(task, pid));
}

/* Without the kernel's BTF: no field of a kernel struct, only the tracepoints' own records. */

static __always_inline __u32 field(const void *record, __u32 offset)
{
	__u32 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), record + offset);
	return value;
}

SEC("tp/sched/sched_wakeup") int wakeup_tp(void *ctx)
{
	return woken(field(ctx, offsets.wakeup_pid));
}

SEC("tp/sched/sched_wakeup_new") int wakeup_new_tp(void *ctx)
{
	return woken(field(ctx, offsets.wakeup_pid));
}

/* prev_state: 0 is running, 0x100 (TASK_REPORT_MAX) preempted; a sleep is in the low bits. */
SEC("tp/sched/sched_switch") int switch_tp(void *ctx)
{
	bool runnable = !(field(ctx, offsets.prev_state) & 0xff);

	return switched(field(ctx, offsets.prev_pid), runnable, field(ctx, offsets.next_pid),
			ctx + offsets.next_comm);
}

SEC("tp/sched/sched_process_free") int free_tp(void *ctx)
{
	return freed(field(ctx, offsets.free_pid));
}
