/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* HISTOGRAM: distributions of latencies and sizes, two halves for every CPU. */
#ifndef __UNITY_HISTOGRAM_H
#define __UNITY_HISTOGRAM_H

#include "log2.h"

/* Slots: one each for 0..8, then 4 for every power of two; as plugin_api::histogram::slot(). */
#define UNITY_SLOTS 252

struct unity_histogram {
	__u64 slots[UNITY_SLOTS];
	__u64 sum; /* of the values as they were given */
	__u64 max;
	__u64 unused[2];
};

/* What a given value is divided by to find its slot stands in bits 27 and 28 of max_entries. */
#define UNITY_DIV(div)                                                                             \
	((div) == 1	       ? 0u                                                                \
	 : (div) == 1000       ? 1u << 27                                                          \
	 : (div) == 1000000    ? 2u << 27                                                          \
	 : (div) == 1000000000 ? 3u << 27                                                          \
			       : -1)
#define unity_div_of(number)                                                                       \
	(((number) >> 27 & 3) == 0   ? 1                                                           \
	 : ((number) >> 27 & 3) == 1 ? 1000                                                        \
	 : ((number) >> 27 & 3) == 2 ? 1000000                                                     \
				     : 1000000000)
#define UNITY_CHECK_DIV(div)                                                                       \
	_Static_assert((div) == 1 || (div) == 1000 || (div) == 1000000 || (div) == 1000000000,     \
		       "a histogram divides by 1, 1000, 1000000 or 1000000000")

/*
 * n histograms of values that are given in one unit and shown in another: HISTOGRAM(latency, 1,
 * 1000) takes nanoseconds and shows microseconds, without rounding every single one in the sum. One
 * page (4 KiB) each for every possible CPU.
 */
#define HISTOGRAM(name, n, div) UNITY_HISTOGRAM(__COUNTER__, name, n, div)
#define UNITY_HISTOGRAM(number, name, n, div)                                                      \
	UNITY_CHECK_DIV(div);                                                                      \
	UNITY_PIECE(name, number, n);                                                              \
	struct unity_paste(unity_histogram__, number)                                              \
	{                                                                                          \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                  \
		__uint(map_flags, BPF_F_MMAPABLE);                                                 \
		__uint(max_entries, UNITY_BANKED | UNITY_DIV(div) | (2 * (n)));                    \
		__type(key, __u32);                                                                \
		__type(value, struct unity_histogram);                                             \
	}                                                                                          \
	name SEC(".maps")

static __always_inline __u32 unity_slot(__u64 value)
{
	__u32 power;

	if (value < 8)
		return value;
	power = unity_log2(value);
	return (power - 1) * 4 + ((value >> (power - 2)) & 3);
}

static __always_inline void unity_histogram_add(cut_t cut, void *map, __u32 len, __u32 piece,
						__u32 i, __u64 value, __u64 div)
{
	__u32 key = cut->cpu * len + 2 * i + cut->half;
	struct unity_histogram *h;
	__u64 slot;

	if (2 * i >= len) {
		unity_lose(piece, UNITY_PAST);
		return;
	}
	h = bpf_map_lookup_elem(map, &key);
	if (!h)
		return;
	slot = unity_slot(value / div);
	barrier_var(slot); /* the verifier shall see the very register compared that indexes */
	if (slot < UNITY_SLOTS)
		__sync_fetch_and_add(&h->slots[slot], 1);
	__sync_fetch_and_add(&h->sum, value);
	/*
	 * Exact where a program cannot be preempted by another one on its CPU (irq, timer,
	 * scheduler). In process context on a preemptible kernel it may be understated, never
	 * overstated; user space keeps it within the highest slot.
	 */
	if (value > h->max)
		h->max = value;
}

void unity_no_such_histogram(void) UNITY_ERROR("histogram_add: this map has no such histogram");

/* Adds a value to the i-th histogram of the map. The compiler refuses a number past the end. */
#define histogram_add(cut, map, i, value)                                                          \
	({                                                                                         \
		__u32 unity_index = (i);                                                           \
		if (unity_is_past(unity_index, map))                                               \
			unity_no_such_histogram();                                                 \
		unity_histogram_add(cut, map, unity_bank_len(map), unity_piece(map##__notes),      \
				    unity_index, value, unity_div_of(unity_max_entries(map)));     \
	})

#endif
