// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * What the exactness tests count: renamings of threads by this process, a known number. Nobody else
 * renames threads meanwhile, so a run that the kernel skipped is one of ours too. One program for every
 * way to count, and the way of others that loses.
 */
#include "unity.bpf.h"

#define KEYS 4096

const volatile __u32 tester = 0;
/* Readings of the clock (some 25 ns each) between entering the cut and adding. */
const volatile __u32 pause = 0;

struct event {
	__u64 ktime_ns;
	__u64 key;
};

/* Larger than a program's stack. */
struct large_event {
	__u64 ktime_ns;
	__u64 key;
	__u64 tail[126];
};

struct few {
	char name[16];
};

COUNTER_ARRAY(counters, KEYS);
COUNTERS(named, EVEN, ODD);
HISTOGRAM(histograms, 2, 1);
HISTOGRAM(scaled, 1, 1000);
TABLE(table, __u32, __u64, KEYS);
TABLE(small_table, __u32, __u64, 16);
HISTOGRAMS(by_name, struct few, KEYS, 1000);
STACKS(stacks, 64);
TABLE(by_stack, __u64, __u64, 64);
PAIRS(pairs, __u32, __u64, 64);
EVENTS(events, struct event, 16 * 1024);
EVENTS(large, struct large_event, 64 * 1024);
SCRATCH(large);

/* The unity sample's map. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 200);
	__type(key, __u32);
	__type(value, __u64);
} unity_sample SEC(".maps");

static __always_inline void take_time(void)
{
	for (__u32 i = 0; i < 256; i++) {
		if (i >= pause)
			break;
		bpf_ktime_get_ns();
	}
}

/* Whether it is a call to count, and of which key: two bytes of six bits each (see calls.rs). */
static __always_inline bool is_call(const char *name, __u32 *key)
{
	unsigned char digits[2] = {};

	if (bpf_get_current_pid_tgid() >> 32 != tester)
		return false;
	bpf_probe_read_kernel(digits, sizeof(digits), name);
	*key = (digits[0] & 63) | (digits[1] & 63) << 6;
	return true;
}

#define ON_CALL(program)                                                                           \
	static __always_inline int program##__call(void *ctx, __u32 key);                          \
	SEC("raw_tp/task_rename")                                                                  \
	int BPF_PROG(program, struct task_struct *task, const char *name)                          \
	{                                                                                          \
		__u32 key;                                                                         \
                                                                                                   \
		return is_call(name, &key) ? program##__call(ctx, key) : 0;                        \
	}                                                                                          \
	static __always_inline int program##__call(void *ctx, __u32 key)

ON_CALL(count_counters)
{
	counters_add(&counters, key, 1);
	if (key & 1)
		counters_add(&named, ODD, 1);
	else
		counters_add(&named, EVEN, 1);
	return 0;
}

ON_CALL(count_past)
{
	counters_add(&counters, key + KEYS - 2048, 1);
	return 0;
}

ON_CALL(count_histograms)
{
	CUT(cut);

	take_time();
	histogram_add(cut, &histograms, key & 1, key);
	histogram_add(cut, &scaled, 0, key * 10 + 7);
	return 0;
}

ON_CALL(count_table)
{
	CUT(cut);

	take_time();
	table_add(cut, &table, &key, 1);
	return 0;
}

ON_CALL(count_small_table)
{
	CUT(cut);

	table_add(cut, &small_table, &key, 1);
	return 0;
}

/* One event in three pieces, with time between them. */
ON_CALL(count_all)
{
	CUT(cut);
	struct few few = {};

	few.name[0] = 'a' + (key & 15);
	take_time();
	histogram_add(cut, &scaled, 0, key * 10 + 7);
	take_time();
	table_add(cut, &table, &key, 1);
	histograms_add(cut, &by_name, &few, key * 10 + 7);
	return 0;
}

ON_CALL(count_stacks)
{
	CUT(cut);
	__u64 id = stacks_add(cut, ctx, &stacks, 0);

	if (id)
		table_add(cut, &by_stack, &id, 1);
	return 0;
}

/* Even keys begin, odd ones end what their own thread began; `named` counts what was paired. */
ON_CALL(count_pairs)
{
	__u32 thread = bpf_get_current_pid_tgid();
	__u64 begun = key;

	if (!(key & 1)) {
		counters_add(&named, EVEN, 1);
		pairs_begin(&pairs, &thread, &begun);
	} else if (pairs_end(&pairs, &thread, &begun)) {
		counters_add(&named, ODD, 1);
	}
	return 0;
}

ON_CALL(count_events)
{
	struct event event = {};

	event.ktime_ns = bpf_ktime_get_ns();
	event.key = key;
	events_emit(ctx, &events, &event);
	return 0;
}

/* In place. */
ON_CALL(count_large_events)
{
	struct large_event *event = events_reserve(&large);

	if (!event)
		return 0;
	event->ktime_ns = bpf_ktime_get_ns();
	event->key = key;
	event->tail[125] = key;
	events_submit(ctx, &large, event);
	return 0;
}

/* As much of it as the key says. */
ON_CALL(count_parts)
{
	struct large_event *event = scratch_take(&large);

	if (!event)
		return 0;
	event->ktime_ns = bpf_ktime_get_ns();
	event->key = key;
	event->tail[125] = key;
	events_emit_part(ctx, &large, event, key & 1 ? sizeof(*event) : 16);
	scratch_give(&large, event);
	return 0;
}

ON_CALL(count_unity_sample)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&unity_sample, &zero);

	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

/* A program that can be preempted, and one that can sleep: calls of a function of the test itself. */

SEC("uprobe//proc/self/exe:exact_called") int BPF_KPROBE(count_called, __u32 key)
{
	CUT(cut);

	take_time();
	table_add(cut, &table, &key, 1);
	return 0;
}

/* Reads memory of the caller that is not there yet, and sleeps until somebody brings it. */
SEC("uprobe.s//proc/self/exe:exact_sleeps")
int BPF_KPROBE(count_sleeps, const void *memory, __u32 key)
{
	CUT(cut);
	__u64 word = 0;

	bpf_copy_from_user(&word, sizeof(word), memory);
	table_add(cut, &table, &key, 1);
	return 0;
}

/* For BPF_PROG_TEST_RUN: the slot of the first argument. */
SEC("raw_tp/sys_enter") int slot_of(unsigned long long *ctx)
{
	return unity_slot(ctx[0]);
}
