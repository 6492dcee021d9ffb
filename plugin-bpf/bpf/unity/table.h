/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* TABLE and HISTOGRAMS: values of keys that nobody knows beforehand, in two hashes. */
#ifndef __UNITY_TABLE_H
#define __UNITY_TABLE_H

/* A hash for each half: NAME and NAME__b. */
#define UNITY_HALVES(kind, number, name, K, V, n, entries)                                         \
	UNITY_PIECE(name, number, n);                                                              \
	struct unity_paste(kind, number)                                                           \
	{                                                                                          \
		__uint(type, BPF_MAP_TYPE_HASH);                                                   \
		__uint(max_entries, entries);                                                      \
		__type(key, K);                                                                    \
		__type(value, V);                                                                  \
	};                                                                                         \
	struct unity_paste(kind, number) name SEC(".maps");                                        \
	struct unity_paste(kind, number) name##__b SEC(".maps")

/*
 * At most n different keys between two ticks; what comes later is counted as lost (`full`). The key
 * must have no padding, or be zeroed before it is filled: names are read with a `_str` function into
 * zeroed bytes, so that nothing stands behind their NUL.
 */
#define TABLE(name, K, V, n)		   UNITY_TABLE(__COUNTER__, name, K, V, n)
#define UNITY_TABLE(number, name, K, V, n) UNITY_HALVES(unity_table__, number, name, K, V, n, n)

static __always_inline void *unity_find_or_insert(void *map, __u32 piece, const void *key,
						  const void *zero)
{
	void *value = bpf_map_lookup_elem(map, key);
	int err;

	if (value)
		return value;
	err = unity_update(map, key, zero, BPF_NOEXIST);
	if (!err || err == -EEXIST) /* another CPU was first */
		value = bpf_map_lookup_elem(map, key);
	if (!value)
		unity_lose(piece, err == -E2BIG ? UNITY_FULL : UNITY_BUSY);
	return value;
}

/*
 * The value of a key, made as zeros when it is new. NULL when it could not be made: the event is
 * counted as lost already, so just return. Several CPUs may hold the same value: add to it atomically
 * (__sync_fetch_and_add).
 */
#define table_at(cut, map, key_)                                                                   \
	({                                                                                         \
		typeof(*(map)->value) unity_zero;                                                  \
		typeof((map)->value) unity_value;                                                  \
		typeof((map)->key) unity_key = key_;                                               \
		__builtin_memset(&unity_zero, 0, sizeof(unity_zero));                              \
		if ((cut)->half)                                                                   \
			unity_value = unity_find_or_insert(map##__b, unity_piece(map##__notes),    \
							   unity_key, &unity_zero);                \
		else                                                                               \
			unity_value = unity_find_or_insert(map, unity_piece(map##__notes),         \
							   unity_key, &unity_zero);                \
		unity_value;                                                                       \
	})

/* Adds delta to a key's value, which is a __u64. */
#define table_add(cut, map, key, delta)                                                            \
	({                                                                                         \
		__u64 *unity_sum = table_at(cut, map, key);                                        \
		if (unity_sum)                                                                     \
			__sync_fetch_and_add(unity_sum, delta);                                    \
	})

/* ---- a histogram per key ---- */

/* What a slot of one key counted. */
struct unity_sums {
	__u64 count;
	__u64 sum; /* of the values as they were given */
	__u64 max;
};

/*
 * A histogram for every key: at most n slots of all keys together between two ticks, so that a key
 * with few values costs few cells. `div` as for HISTOGRAM.
 */
#define HISTOGRAMS(name, K, n, div) UNITY_HISTOGRAMS(__COUNTER__, name, K, n, div)
#define UNITY_HISTOGRAMS(number, name, K, n, div)                                                  \
	UNITY_CHECK_DIV(div);                                                                      \
	struct unity_key__##name {                                                                 \
		K key;                                                                             \
		__u32 slot;                                                                        \
	};                                                                                         \
	UNITY_HALVES(unity_histograms__, number, name, struct unity_key__##name,                   \
		     struct unity_sums, n, UNITY_DIV(div) | (n))

static __always_inline bool unity_slot_add(struct unity_sums *slot, __u64 value)
{
	bool first;

	if (!slot)
		return false;
	first = !slot->count;
	barrier_var(
		value); /* of adding 0 the compiler makes an atomic or, which 5.10 does not know */
	__sync_fetch_and_add(&slot->count, 1);
	__sync_fetch_and_add(&slot->sum, value);
#ifdef UNITY_FETCH
	/* Other CPUs may raise it meanwhile: four tries, then it may be understated. */
	__u64 max = slot->max;

	for (int i = 0; i < 4 && value > max; i++) {
		__u64 seen = __sync_val_compare_and_swap(&slot->max, max, value);

		if (seen == max)
			break;
		max = seen;
	}
#else
	if (value > slot->max)
		slot->max = value;
#endif
	return first;
}

/*
 * Adds a value to the histogram of a key. True for the first value of a slot, on two CPUs perhaps: what
 * is to be told of a key once in a tick (its name) is told then.
 */
#define histograms_add(cut, map, key_, value)                                                      \
	({                                                                                         \
		__u64 unity_given = value;                                                         \
		typeof(*(map)->key) unity_cell;                                                    \
		__builtin_memset(&unity_cell, 0, sizeof(unity_cell));                              \
		__builtin_memcpy(&unity_cell.key, key_, sizeof(unity_cell.key));                   \
		unity_cell.slot = unity_slot(unity_given / unity_div_of(unity_max_entries(map)));  \
		unity_slot_add(table_at(cut, map, &unity_cell), unity_given);                      \
	})

#endif
