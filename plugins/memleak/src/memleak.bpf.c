// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Blocks of memory that were allocated and are not freed yet, and sums by the stack that allocated them.
 * All of it is state, which no tick resets: the sums only grow, and what is held is their difference. So
 * a tick reads as many sums as there are stacks, however many blocks there are.
 */
#include "unity.bpf.h"
#include "unity/own_stack.h"

const volatile __u64 min_size = 0;
/* A block is tracked with this probability, of 2^32; 0: always. */
const volatile __u32 chance = 0;
const volatile bool kernel = false;

struct place {
	__u64 address;
	__u64 process; /* 0: the kernel */
};

struct block {
	__u64 size;
	__u64 stack;
	__u64 since;
};

struct sums {
	__u64 allocs;
	__u64 frees;
	__u64 alloc_bytes;
	__u64 free_bytes;
};

/* An end that is unmatched is a free of what is not tracked. */
PAIRS(blocks, struct place, struct block, 65536);
STACK_STORE(stacks, 2048);
/* By stack; user space makes the one of the stack 0, which is for those that have no room. */
HASH(sums, __u64, struct sums, 2049);
COUNTERS(counts, NESTED, REUSED, FAILED);

/* Decided where the allocation begins, by chance alone: a rule would fall in step with the program. */
static __always_inline bool is_chosen(__u64 size)
{
	return size >= min_size && (!chance || bpf_get_prandom_u32() < chance);
}

static __always_inline struct place place_of(__u64 address)
{
	struct place place = {.address = address};

	if (!kernel)
		place.process = bpf_get_current_pid_tgid() >> 32;
	return place;
}

static __always_inline struct sums *sums_of(__u64 *stack)
{
	struct sums none = {}, *found = bpf_map_lookup_elem(&sums, stack);

	if (found)
		return found;
	unity_update(&sums, stack, &none, BPF_NOEXIST);
	found = bpf_map_lookup_elem(&sums, stack);
	if (!found) {
		*stack = 0;
		found = bpf_map_lookup_elem(&sums, stack);
	}
	return found;
}

static __always_inline bool end_block(struct place *place)
{
	struct block block;
	struct sums *of;

	if (!pairs_end(&blocks, place, &block))
		return false;
	of = bpf_map_lookup_elem(&sums, &block.stack);
	if (of) {
		__sync_fetch_and_add(&of->frees, 1);
		__sync_fetch_and_add(&of->free_bytes, block.size);
	}
	return true;
}

/* A block that a call which began then has allocated. */
static __always_inline int allocated(void *ctx, __u64 address, __u64 size, __u64 begun)
{
	struct place place = place_of(address);
	struct block block = {.size = size}, *before;
	struct sums *of;

	before = bpf_map_lookup_elem(&blocks, &place);
	if (before) {
		/* By a function that the call has called: a name of the same one. */
		if (begun && before->since >= begun)
			return 0;
		/* Nobody saw how it was freed, but it was, or it could not be given out again. */
		end_block(&place);
		counters_add(&counts, REUSED, 1);
	}
	block.stack = stack_store_add(ctx, &stacks, kernel ? 0 : BPF_F_USER_STACK);
	of = sums_of(&block.stack);
	block.since = bpf_ktime_get_ns();
	if (of && pairs_begin(&blocks, &place, &block)) {
		__sync_fetch_and_add(&of->allocs, 1);
		__sync_fetch_and_add(&of->alloc_bytes, size);
	}
	return 0;
}

#include "calls.h"
#include "kmem.h"
