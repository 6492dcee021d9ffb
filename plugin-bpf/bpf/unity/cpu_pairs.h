/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* CPU_PAIRS: begin and end on one CPU, such as those of interrupts, without a hash. */
#ifndef __UNITY_CPU_PAIRS_H
#define __UNITY_CPU_PAIRS_H

/*
 * n kinds of things of which a CPU does one at a time, from the begin to the end. For each CPU and kind the
 * map holds when it began, or 0. Begun again is counted as `twice`, an end without a begin as `unmatched`
 * (collector_map); a number past the end as `past`.
 *
 * A thread may continue on another CPU: for what it does, use PAIRS.
 */
#define CPU_PAIRS(name, n) UNITY_CPU_PAIRS(__COUNTER__, name, n)
#define UNITY_CPU_PAIRS(number, name, n)                                                           \
	UNITY_PIECE(name, number, n);                                                              \
	struct unity_paste(unity_cpu_pairs__, number)                                              \
	{                                                                                          \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                  \
		__uint(max_entries, UNITY_BANKED | unity_bank(n));                                 \
		__type(key, __u32);                                                                \
		__type(value, __u64);                                                              \
	}                                                                                          \
	name SEC(".maps")

static __always_inline __u64 *unity_cpu_pairs_at(void *map, __u32 bank, __u32 n, __u32 piece,
						 __u32 i)
{
	__u32 key = bpf_get_smp_processor_id() * bank + i;

	if (i >= n) {
		unity_lose(piece, UNITY_PAST);
		return NULL;
	}
	return bpf_map_lookup_elem(map, &key);
}

static __always_inline void unity_cpu_pairs_begin(__u64 *since, __u32 piece, __u64 now)
{
	if (!since)
		return;
	if (*since)
		unity_lose(piece, UNITY_TWICE);
	*since = now;
}

static __always_inline __u64 unity_cpu_pairs_end(__u64 *since, __u32 piece)
{
	__u64 begun;

	if (!since)
		return 0;
	begun = *since;
	*since = 0;
	if (!begun)
		unity_lose(piece, UNITY_UNMATCHED);
	return begun;
}

/* When the i-th kind began on this CPU, or 0; NULL past the end. For begins that may come more than once. */
#define cpu_pairs_at(map, i)                                                                       \
	unity_cpu_pairs_at(map, unity_bank_len(map), unity_len(map##__notes),                      \
			   unity_piece(map##__notes), i)

/* Notes that the i-th kind begins now, at a time that is not 0. */
#define cpu_pairs_begin(map, i, now)                                                               \
	unity_cpu_pairs_begin(cpu_pairs_at(map, i), unity_piece(map##__notes), now)

/* Notes that it ends; returns when it began, 0 when nobody saw that. */
#define cpu_pairs_end(map, i) unity_cpu_pairs_end(cpu_pairs_at(map, i), unity_piece(map##__notes))

#endif
