// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * What the exactness tests count: renamings of threads by this process, a known number. Nobody else
 * renames threads meanwhile, so a run that the kernel skipped is one of ours too. One program for every
 * way to count, and the way of others that loses.
 */
#include "unity.bpf.h"

#define KEYS 4096

const volatile __u32 tester = 0;

struct event {
	__u64 ktime_ns;
	__u64 key;
};

COUNTERS(counters, KEYS);
HISTOGRAM(histograms, 2, 1);
HISTOGRAM(scaled, 1, 1000);
TABLE(table, __u32, __u64, KEYS);
TABLE(small_table, __u32, __u64, 16);
EVENTS(events, struct event, 16 * 1024);

/* The unity sample's map. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 200);
	__type(key, __u32);
	__type(value, __u64);
} unity_sample SEC(".maps");

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

SEC("raw_tp/task_rename") int BPF_PROG(count_counters, struct task_struct *task, const char *name)
{
	__u32 key;

	if (is_call(name, &key))
		counters_add(&counters, key, 1);
	return 0;
}

SEC("raw_tp/task_rename") int BPF_PROG(count_histograms, struct task_struct *task, const char *name)
{
	__u32 key;

	if (is_call(name, &key)) {
		histogram_add(&histograms, key & 1, key);
		histogram_add(&scaled, 0, key * 10 + 7);
	}
	return 0;
}

SEC("raw_tp/task_rename") int BPF_PROG(count_table, struct task_struct *task, const char *name)
{
	__u32 key;

	if (is_call(name, &key))
		table_add(&table, &key, 1);
	return 0;
}

SEC("raw_tp/task_rename")
int BPF_PROG(count_small_table, struct task_struct *task, const char *name)
{
	__u32 key;

	if (is_call(name, &key))
		table_add(&small_table, &key, 1);
	return 0;
}

SEC("raw_tp/task_rename") int BPF_PROG(count_events, struct task_struct *task, const char *name)
{
	struct event event = {};
	__u32 key;

	if (is_call(name, &key)) {
		event.ktime_ns = bpf_ktime_get_ns();
		event.key = key;
		events_emit(ctx, &events, &event);
	}
	return 0;
}

SEC("raw_tp/task_rename")
int BPF_PROG(count_unity_sample, struct task_struct *task, const char *name)
{
	__u32 key, zero = 0;
	__u64 *count;

	if (!is_call(name, &key))
		return 0;
	count = bpf_map_lookup_elem(&unity_sample, &zero);
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

/* For BPF_PROG_TEST_RUN: the slot of the first argument. */
SEC("raw_tp/sys_enter") int slot_of(unsigned long long *ctx)
{
	return unity_slot(ctx[0]);
}
