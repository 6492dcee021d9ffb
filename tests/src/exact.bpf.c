// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * What the exactness tests count: calls of getppid(key) by this process, a known number. One
 * program for every way to count, and the ways of others that lose.
 */
#include "unity.bpf.h"

#if defined(__TARGET_ARCH_x86)
#define SYS_getppid 110
#else
#define SYS_getppid 173
#endif
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
EVENTS(events, struct event, 64 * 1024);

/* The unity sample's map. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 200);
	__type(key, __u32);
	__type(value, __u64);
} unity_sample SEC(".maps");

/* Whether it is a call to count, and of which key. */
static __always_inline bool is_call(struct pt_regs *regs, long id, __u32 *key)
{
	__u64 arg = 0;

	if (id != SYS_getppid || bpf_get_current_pid_tgid() >> 32 != tester)
		return false;
	bpf_probe_read_kernel(&arg, sizeof(arg), &PT_REGS_PARM1_SYSCALL(regs));
	*key = arg % KEYS;
	return true;
}

SEC("raw_tp/sys_enter") int BPF_PROG(count_counters, struct pt_regs *regs, long id)
{
	__u32 key;

	if (is_call(regs, id, &key))
		counters_add(&counters, key, 1);
	return 0;
}

SEC("raw_tp/sys_enter") int BPF_PROG(count_histograms, struct pt_regs *regs, long id)
{
	__u32 key;

	if (is_call(regs, id, &key)) {
		histogram_add(&histograms, key & 1, key);
		histogram_add(&scaled, 0, key * 10 + 7);
	}
	return 0;
}

SEC("raw_tp/sys_enter") int BPF_PROG(count_table, struct pt_regs *regs, long id)
{
	__u32 key;

	if (is_call(regs, id, &key))
		table_add(&table, &key, 1);
	return 0;
}

SEC("raw_tp/sys_enter") int BPF_PROG(count_small_table, struct pt_regs *regs, long id)
{
	__u32 key;

	if (is_call(regs, id, &key))
		table_add(&small_table, &key, 1);
	return 0;
}

SEC("raw_tp/sys_enter") int BPF_PROG(count_events, struct pt_regs *regs, long id)
{
	struct event event = {};
	__u32 key;

	if (is_call(regs, id, &key)) {
		event.ktime_ns = bpf_ktime_get_ns();
		event.key = key;
		events_emit(ctx, &events, &event);
	}
	return 0;
}

SEC("raw_tp/sys_enter") int BPF_PROG(count_unity_sample, struct pt_regs *regs, long id)
{
	__u32 key, zero = 0;
	__u64 *count;

	if (!is_call(regs, id, &key))
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
