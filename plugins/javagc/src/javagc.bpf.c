// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A collection begins and ends in one thread of its JVM. The pools that it works on have probes of their own
 * within: several are under way in a thread at a time, each known by where the JVM has its name.
 */
#include "unity.bpf.h"
#include "unity/own_stack.h"
#include "filter.bpf.h"
#include "named.bpf.h"
#include "probe.bpf.h"

/* Histograms: of each kind those that are not full, and the full ones. */
#define COLLECTIONS 0
#define POOLS	    2

const volatile bool by_jvm = false;

struct collected {
	__u64 collections;
	__u64 full;
	__u64 sum_ns;
};

struct begun {
	__u64 since;
	__u64 is_full;
};

struct pool {
	__u64 name;
	__u32 thread;
	__u32 unused;
};

HISTOGRAM(pauses, 4, 1000);
TABLE(jvms, __u32, struct collected, 512);
PAIRS(gcs, __u32, struct begun, 256);
PAIRS(pools, struct pool, struct begun, 1024);
COUNTERS(counts, UNREAD);

SEC("uprobe") int gc_begin_uprobe(struct pt_regs *ctx)
{
	__u32 thread = bpf_get_current_pid_tgid();
	struct begun begun = {.since = bpf_ktime_get_ns()};

	OWN_STACK(ctx);
	if (!filter_current())
		return 0;
	if (!probe_argument(ctx, &begun.is_full))
		counters_add(&counts, UNREAD, 1);
	begun.is_full = begun.is_full != 0;
	pairs_begin(&gcs, &thread, &begun);
	return 0;
}

SEC("uprobe") int gc_end_uprobe(struct pt_regs *ctx)
{
	CUT(cut);
	__u32 thread = bpf_get_current_pid_tgid(), process = bpf_get_current_pid_tgid() >> 32;
	__u64 now = bpf_ktime_get_ns();
	struct collected *collected;
	struct begun begun;

	OWN_STACK(ctx);
	if (!filter_current() || !pairs_end(&gcs, &thread, &begun))
		return 0;
	histogram_add(cut, &pauses, COLLECTIONS + (begun.is_full & 1), now - begun.since);
	collected = by_jvm ? table_at(cut, &jvms, &process) : NULL;
	if (!collected)
		return 0;
	__sync_fetch_and_add(&collected->collections, 1);
	__sync_fetch_and_add(&collected->full, begun.is_full);
	__sync_fetch_and_add(&collected->sum_ns, now - begun.since);
	return 0;
}

static __always_inline bool this_pool(void *ctx, struct pool *pool)
{
	pool->thread = bpf_get_current_pid_tgid();
	if (probe_argument(ctx, &pool->name))
		return true;
	counters_add(&counts, UNREAD, 1);
	return false;
}

SEC("uprobe") int pool_begin_uprobe(struct pt_regs *ctx)
{
	struct begun begun = {.since = bpf_ktime_get_ns()}, *collection;
	struct pool pool = {};

	OWN_STACK(ctx);
	if (!filter_current() || !this_pool(ctx, &pool))
		return 0;
	collection = bpf_map_lookup_elem(&gcs, &pool.thread);
	if (collection)
		begun.is_full = collection->is_full;
	pairs_begin(&pools, &pool, &begun);
	return 0;
}

SEC("uprobe") int pool_end_uprobe(struct pt_regs *ctx)
{
	CUT(cut);
	__u64 now = bpf_ktime_get_ns();
	struct pool pool = {};
	struct begun begun;

	OWN_STACK(ctx);
	if (!filter_current() || !this_pool(ctx, &pool) || !pairs_end(&pools, &pool, &begun))
		return 0;
	histogram_add(cut, &pauses, POOLS + (begun.is_full & 1), now - begun.since);
	return 0;
}

/* The thread that collections run in has this name since Java 9; it begins once the library is mapped. */
ON_NAMED(named)
{
	return comm_is(comm, "VM Thread") || comm_is(comm, "java");
}
