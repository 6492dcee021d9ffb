// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same events by every way: read and zeroed as in the guide, read and subtracted, and the exact pieces. */
#include <vmlinux.h>
#include <coolbpf.h>
#include "unity.bpf.h"

BPF_ARRAY(process, u32, 1);
BPF_ARRAY(zeroed, u64, 200);
BPF_ARRAY(kept, u64, 1);
COUNTERS(counts, OTHER_CALLS, CALLS);
TABLE(threads, struct comm, u64, 64);
TABLE(few, u32, u64, 2);
HISTOGRAM(sizes, 2, 1000);

static __always_inline void add(void *map)
{
	int key = 0;
	u64 *value = bpf_map_lookup_elem(map, &key);

	if (value)
		__sync_fetch_and_add(value, 1);
}

SEC("raw_tp/sys_enter")
int sys_enter(struct bpf_raw_tracepoint_args *ctx)
{
	struct comm name = current_comm();
	u32 thread = tid() % 16;
	int key = 0;
	u32 *wanted = bpf_map_lookup_elem(&process, &key);

	if (!wanted || *wanted != pid())
		return 0;
	if (ctx->args[1] != 110) {
		counters_add(&counts, OTHER_CALLS, 1);
		return 0;
	}
	CUT(cut);
	add(&zeroed);
	add(&kept);
	counters_add(&counts, CALLS, 1);
	table_add(cut, &threads, &name, 1);
	table_add(cut, &few, &thread, 1);
	histogram_add(cut, &sizes, 1, 2500);
	return 0;
}
