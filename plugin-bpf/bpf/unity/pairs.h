/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* PAIRS: the begin and the end of something, such as a connect, a system call, an interrupt. */
#ifndef __UNITY_PAIRS_H
#define __UNITY_PAIRS_H

/*
 * What has begun and not yet ended: state that no tick resets, at most n at a time (PER_THREAD for
 * one per thread). Every begin has one fate, and each but the first is counted (collector_map):
 * ended, begun again (`twice`), died (`died`), found no room (`full`, `busy`). An end without a begin
 * is `unmatched`.
 */
#define PAIRS(name, K, V, n) UNITY_PAIRS(__COUNTER__, name, K, V, n)
#define UNITY_PAIRS(number, name, K, V, n)                                                         \
	UNITY_PIECE(name, number, 1);                                                              \
	struct unity_paste(unity_pairs__, number)                                                  \
	{                                                                                          \
		__uint(type, BPF_MAP_TYPE_HASH);                                                   \
		__uint(max_entries, n);                                                            \
		__type(key, K);                                                                    \
		__type(value, V);                                                                  \
	}                                                                                          \
	name SEC(".maps")

static __always_inline bool unity_pairs_begin(void *map, __u32 piece, const void *key,
					      const void *value)
{
	int err = unity_update(map, key, value, BPF_NOEXIST);

	if (err == -EEXIST) {
		unity_lose(piece, UNITY_TWICE);
		err = unity_update(map, key, value, BPF_ANY);
	}
	if (err)
		unity_lose(piece, err == -E2BIG ? UNITY_FULL : UNITY_BUSY);
	return !err;
}

static __always_inline bool unity_pairs_end(void *map, __u32 piece, const void *key, void *value,
					    __u32 size)
{
	void *begun = bpf_map_lookup_elem(map, key);

	if (!begun) {
		unity_lose(piece, UNITY_UNMATCHED);
		return false;
	}
	__builtin_memcpy(value, begun, size);
	/* Whoever removes it has ended it: of two ends at the same time one is unmatched. */
	if ((int)bpf_map_delete_elem(map, key)) {
		unity_lose(piece, UNITY_UNMATCHED);
		return false;
	}
	return true;
}

/* Notes that something begins; false when it is counted as lost. */
#define pairs_begin(map, key_, value_)                                                             \
	({                                                                                         \
		typeof((map)->key) unity_key = key_;                                               \
		typeof((map)->value) unity_begun = value_;                                         \
		unity_pairs_begin(map, unity_piece(map##__notes), unity_key, unity_begun);         \
	})

/* Takes what was noted into *value and forgets it; false when nothing was. */
#define pairs_end(map, key_, value_)                                                               \
	({                                                                                         \
		typeof((map)->key) unity_key = key_;                                               \
		typeof((map)->value) unity_begun = value_;                                         \
		unity_pairs_end(map, unity_piece(map##__notes), unity_key, unity_begun,            \
				sizeof(*unity_begun));                                             \
	})

/* The thread, socket or request of this key is gone: what it began will not end. */
#define pairs_died(map, key_)                                                                      \
	({                                                                                         \
		typeof((map)->key) unity_key = key_;                                               \
		if (!(int)bpf_map_delete_elem(map, unity_key))                                     \
			unity_lose(unity_piece(map##__notes), UNITY_DIED);                         \
	})

#endif
