// SPDX-License-Identifier: MIT OR Apache-2.0
/* Every macro of coolbpf.h in each of its forms, with one write to every map. */
#include "coolbpf.h"

struct key {
	u32 a;
	u32 b;
};

struct leaf {
	u64 n;
	u64 m;
};

struct v4 {
	u32 bits;
	u8 data[4];
};

struct v6 {
	u32 bits;
	u8 data[16];
};

struct event {
	u64 ns;
	u32 pid;
	u32 tid;
	u32 cpu;
	char comm[16];
	u32 number;
};

struct logs {
	u32 log2;
	u32 log10;
};

const volatile u32 process = 0;
const volatile u32 thread = 0;
const volatile u32 flood = 0;
u32 calls = 0;

BPF_HASH(hash1);
BPF_HASH(hash2, u32);
BPF_HASH(hash3, struct key, struct leaf);
BPF_HASH(hash4, u16, u8, 7);
BPF_LRU_HASH(lru1);
BPF_LRU_HASH(lru2, u32);
BPF_LRU_HASH(lru3, struct key, struct leaf);
BPF_LRU_HASH(lru4, u16, u8, 1000);
BPF_PERCPU_HASH(percpu_hash1);
BPF_PERCPU_HASH(percpu_hash2, u32);
BPF_PERCPU_HASH(percpu_hash3, struct key, struct leaf);
BPF_PERCPU_HASH(percpu_hash4, u16, u32, 7);
BPF_LRU_PERCPU_HASH(lru_percpu1);
BPF_LRU_PERCPU_HASH(lru_percpu2, u32);
BPF_LRU_PERCPU_HASH(lru_percpu3, struct key, struct leaf);
BPF_LRU_PERCPU_HASH(lru_percpu4, u16, u32, 1000);
BPF_ARRAY(array1);
BPF_ARRAY(array2, struct leaf);
BPF_ARRAY(array3, u8, 7);
BPF_PERCPU_ARRAY(percpu_array1);
BPF_PERCPU_ARRAY(percpu_array2, struct leaf);
BPF_PERCPU_ARRAY(percpu_array3, u32, 7);
BPF_LPM_TRIE(trie1);
BPF_LPM_TRIE(trie2, struct v4);
BPF_LPM_TRIE(trie3, struct v6, struct leaf);
BPF_LPM_TRIE(trie4, struct v4, u32, 7);
BPF_QUEUE(queue3, u64, 7);
BPF_QUEUE(queue4, struct leaf, 7, 0);
BPF_STACK(stack3, u64, 7);
BPF_STACK(stack4, struct leaf, 7, 0);
BPF_STACK_TRACE(stacks2, 128);
BPF_STACK_TRACE(stacks3, 128, 3);
BPF_PERF_OUTPUT(perf1);
BPF_PERF_OUTPUT(perf2, 1024);
BPF_RINGBUF(ring1);
BPF_RINGBUF(ring2, 4096);
BPF_PROG_ARRAY(programs, 2);
BPF_MAP(map5, BPF_MAP_TYPE_HASH, u32, u32, 7);

BPF_ARRAY(stack_ids, s64, 2);
BPF_ARRAY(tail_calls, u64, 1);
BPF_ARRAY(hist2, u64, 64);
BPF_ARRAY(hist10, u64, 20);
BPF_HASH(outcomes, int, u64, 2);
BPF_ARRAY(values, s64, 64);
BPF_ARRAY(logs, struct logs, 64);
BPF_ARRAY(attempts, u64, 1);
BPF_ARRAY(refused, u64, 1);

#define WRITE(map, key, value) bpf_map_update_elem(&map, &key, &value, BPF_ANY)

static __always_inline void write_hashes(void)
{
	u64 long_key = 1, n = 11;
	u32 int_key = 2, i = 14;
	u16 short_key = 4;
	u8 byte = 14;
	struct key key = {3, 33};
	struct leaf leaf = {13, 130};

	WRITE(hash1, long_key, n);
	WRITE(hash2, int_key, n);
	WRITE(hash3, key, leaf);
	WRITE(hash4, short_key, byte);
	WRITE(lru1, long_key, n);
	WRITE(lru2, int_key, n);
	WRITE(lru3, key, leaf);
	WRITE(lru4, short_key, byte);
	WRITE(percpu_hash1, long_key, n);
	WRITE(percpu_hash2, int_key, n);
	WRITE(percpu_hash3, key, leaf);
	WRITE(percpu_hash4, short_key, i);
	WRITE(lru_percpu1, long_key, n);
	WRITE(lru_percpu2, int_key, n);
	WRITE(lru_percpu3, key, leaf);
	WRITE(lru_percpu4, short_key, i);
	WRITE(map5, int_key, i);
}

static __always_inline void write_others(void)
{
	int index = 6;
	u64 n = 11;
	u32 i = 14;
	u8 byte = 14;
	struct leaf leaf = {13, 130};
	struct v4 v4 = {8, {10}};
	struct v6 v6 = {16, {0xfe, 0x80}};

	WRITE(array1, index, n);
	WRITE(array2, index, leaf);
	WRITE(array3, index, byte);
	WRITE(percpu_array1, index, n);
	WRITE(percpu_array2, index, leaf);
	WRITE(percpu_array3, index, i);
	WRITE(trie1, v4, n);
	WRITE(trie2, v4, n);
	WRITE(trie3, v6, leaf);
	WRITE(trie4, v4, i);
	bpf_map_push_elem(&queue3, &n, BPF_ANY);
	bpf_map_push_elem(&queue4, &leaf, BPF_ANY);
	bpf_map_push_elem(&stack3, &n, BPF_ANY);
	bpf_map_push_elem(&stack4, &leaf, BPF_ANY);
}

static __always_inline void write_events(void *ctx)
{
	struct event event = {};
	s64 stack;
	int i = 0;

	event.ns = ns();
	event.pid = pid();
	event.tid = tid();
	event.cpu = cpu();
	comm(event.comm);
	event.number = 1;
	bpf_perf_event_output(ctx, &perf1, BPF_F_CURRENT_CPU, &event, sizeof(event));
	bpf_ringbuf_output(&ring1, &event, sizeof(event), 0);
	event.number = 2;
	bpf_perf_event_output(ctx, &perf2, BPF_F_CURRENT_CPU, &event, sizeof(event));
	bpf_ringbuf_output(&ring2, &event, sizeof(event), 0);

	stack = bpf_get_stackid(ctx, &stacks2, BPF_F_USER_STACK);
	WRITE(stack_ids, i, stack);
	i = 1;
	stack = bpf_get_stackid(ctx, &stacks3, BPF_F_USER_STACK);
	WRITE(stack_ids, i, stack);
}

static __always_inline void write_histograms(void)
{
	hist2_push(&hist2, 1000);
	hist2_push(&hist2, 1023);
	hist10_push(&hist10, 1000);
	incr_hist(&hist10, 0);
	add_hist(&outcomes, 0, 5);
	add_hist(&outcomes, 1, 5); /* not in the hash */
}

/* The logarithms of one value, another one at each call. */
static __always_inline void write_logs(u32 call)
{
	u32 i = call & 63;
	s64 *value = bpf_map_lookup_elem(&values, &i);
	struct logs result;

	if (!value)
		return;
	result.log2 = fast_log2(*value);
	result.log10 = fast_log10(*value);
	WRITE(logs, i, result);
}

/* An event to each of the two small buffers, at every call. */
static __always_inline void write_flood(void *ctx)
{
	struct event event = {};

	add_hist(&attempts, 0, 1);
	if (bpf_ringbuf_output(&ring2, &event, sizeof(event), 0))
		incr_hist(&refused, 0);
	bpf_perf_event_output(ctx, &perf2, BPF_F_CURRENT_CPU, &event, sizeof(event));
}

SEC("raw_tp") int tail(void *ctx)
{
	add_hist(&tail_calls, 0, 1);
	return 0;
}

SEC("raw_tp/sys_enter") int sys_enter(void *ctx)
{
	u32 call = calls;

	if (pid() != process || tid() != thread)
		return 0;
	if (flood) {
		write_flood(ctx);
		return 0;
	}
	calls = call + 1; /* one thread: nobody else counts */
	write_logs(call);
	if (call)
		return 0;
	write_hashes();
	write_others();
	write_events(ctx);
	write_histograms();
	bpf_tail_call(ctx, &programs, 1);
	return 0;
}
