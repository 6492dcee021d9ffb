/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* COUNTERS and COUNTER_ARRAY: monotonic counts of few, known keys, in a bank of every CPU. */
#ifndef __UNITY_COUNTERS_H
#define __UNITY_COUNTERS_H

/* Whole cache lines, so that two CPUs share none. */
#define unity_bank(n) (((n) + 7) & ~7u)

/*
 * Named counters: COUNTERS(counts, UNMATCHED, DROPPED) declares the enum `counts` with these names and
 * the map. In Rust `counts.take()` gives a struct with the fields `unmatched` and `dropped`.
 */
#define COUNTERS(name, ...) UNITY_COUNTERS(__COUNTER__, name, __VA_ARGS__)
#define UNITY_COUNTERS(number, name, ...)                                                          \
	enum name { __VA_ARGS__, name##__n };                                                      \
	UNITY_COUNTER_MAP(unity_counters__, number, name, enum name, name##__n)

/* n counters by number. In Rust `take(i)`. A number past the end is counted (collector_map `past`). */
#define COUNTER_ARRAY(name, n) UNITY_COUNTER_ARRAY(__COUNTER__, name, n)
#define UNITY_COUNTER_ARRAY(number, name, n)                                                       \
	UNITY_COUNTER_MAP(unity_counter_array__, number, name, __u32, n)

#define UNITY_COUNTER_MAP(kind, number, name, type_of_index, n)                                    \
	union unity_names__##name {                                                                \
		__u64 cell;                                                                        \
		type_of_index index;                                                               \
	};                                                                                         \
	UNITY_PIECE(name, number, n);                                                              \
	struct unity_paste(kind, number)                                                           \
	{                                                                                          \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                  \
		__uint(map_flags, BPF_F_MMAPABLE);                                                 \
		__uint(max_entries, UNITY_BANKED | unity_bank(n));                                 \
		__type(key, __u32);                                                                \
		__type(value, union unity_names__##name);                                          \
	}                                                                                          \
	name SEC(".maps")

/*
 * Atomic, although every CPU has its own: a program in process context can be preempted by another
 * one on the same CPU (PREEMPT kernels since 5.11).
 */
static __always_inline void unity_counters_add(void *map, __u32 bank, __u32 n, __u32 piece, __u32 i,
					       __u64 delta)
{
	__u32 key = bpf_get_smp_processor_id() * bank + i;
	__u64 *cell;

	if (i >= n) {
		unity_lose(piece, UNITY_PAST);
		return;
	}
	cell = bpf_map_lookup_elem(map, &key);
	if (cell)
		__sync_fetch_and_add(cell, delta);
}

void unity_no_such_counter(void) UNITY_ERROR("counters_add: this map has no such counter");

/* Adds delta to a counter. The compiler refuses a name of another map and a number past the end. */
#define counters_add(map, i, delta)                                                                \
	({                                                                                         \
		typeof((map)->value->index) unity_index = (i);                                     \
		if (unity_is_past(unity_index, map))                                               \
			unity_no_such_counter();                                                   \
		unity_counters_add(map, unity_bank_len(map), unity_len(map##__notes),              \
				   unity_piece(map##__notes), unity_index, delta);                 \
	})

#endif
