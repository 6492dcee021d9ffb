/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The kernel side of plugin-bpf: maps that can be read and reset without losing or doubling a count.
 *
 *   COUNTERS(name, n)          n counters                counters_add(&name, i, delta)
 *   HISTOGRAM(name, n, div)    n histograms              histogram_add(&name, i, value)
 *   TABLE(name, K, V, n)       at most n keys a tick     table_at(&name, &key), table_add(...)
 *   EVENTS(name, T, bytes)     single events             events_emit(ctx, &name, &event)
 *
 * Each has its Rust side of the same name in plugin_bpf. What cannot be stored is counted (the map's
 * `__lost` counters), never silently gone.
 *
 * COUNTERS and HISTOGRAM are arrays that user space maps into its memory, with a bank for every
 * possible CPU, each a multiple of a cache line. max_entries in the object is for one CPU; a high bit
 * asks the SDK to multiply it when it loads the object. An object that is loaded without the SDK is
 * refused by the kernel for its size, rather than wrong.
 */
#ifndef __UNITY_BPF_H
#define __UNITY_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/*
 * bpf_map_update_elem() with its result as the int that it is: up to Linux 6.3 the helper's "long" has
 * undefined upper bits, so that it equals no -EEXIST (d7ba4cc900bf "bpf: return long from bpf_map_ops
 * funcs").
 */
static __always_inline int unity_update(void *map, const void *key, const void *value, __u64 flags)
{
	return (int)bpf_map_update_elem(map, key, value, flags);
}

/* ---- banks: a slice of an mmapped array for every possible CPU ---- */

/* Not higher: the kernel's BTF has no array of 4 GiB. */
#define UNITY_BANKED (1u << 29)

/* What the object says as max_entries: __uint() makes a number the length of an array type. */
#define unity_max_entries(map) (sizeof(*(map)->max_entries) / sizeof(int))
#define unity_bank_len(map)    ((__u32)unity_max_entries(map) & ((1u << 27) - 1))

/* ---- the half that programs write now ---- */

/*
 * HISTOGRAM and TABLE have two halves. At a tick user space switches the half, waits until every
 * program that may have seen the old one has left (an RCU grace period), and then reads a half that
 * nobody writes: one consistent cut through all of a plugin's maps. Sleepable programs are not
 * waited for, so they must not use these two.
 */
#define UNITY_HALF volatile __u32 unity_half SEC(".data.unity")

/* ---- counters ---- */

#define COUNTERS(name, n)                                                                          \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                  \
		__uint(map_flags, BPF_F_MMAPABLE);                                                 \
		__uint(max_entries, UNITY_BANKED | (((n) + 7) & ~7u));                             \
		__type(key, __u32);                                                                \
		__type(value, __u64);                                                              \
	} name SEC(".maps")

/*
 * Atomic, although every CPU has its own: a program in process context can be preempted by another
 * one on the same CPU (PREEMPT kernels since 5.11). An index past the bank is ignored.
 */
static __always_inline void unity_counters_add(void *map, __u32 len, __u32 i, __u64 delta)
{
	__u32 key = bpf_get_smp_processor_id() * len + i;
	__u64 *cell;

	if (i >= len)
		return;
	cell = bpf_map_lookup_elem(map, &key);
	if (cell)
		__sync_fetch_and_add(cell, delta);
}

/* Adds delta to the i-th counter of the map. */
#define counters_add(map, i, delta) unity_counters_add(map, unity_bank_len(map), i, delta)

/* ---- histograms ---- */

/* Slots: one each for 0..8, then 4 for every power of two; as plugin_api::histogram::slot(). */
#define UNITY_SLOTS 252

struct unity_histogram {
	__u64 slots[UNITY_SLOTS];
	__u64 sum; /* of the values as they were given */
	__u64 max;
	__u64 div; /* user space's note to itself */
	__u64 unused;
};

/* div: what a given value is divided by to find its slot, 1, 1000, 1000000 or 1000000000. */
#define UNITY_DIV(div)                                                                             \
	((div) == 1	       ? 0u                                                                \
	 : (div) == 1000       ? 1u << 27                                                          \
	 : (div) == 1000000    ? 2u << 27                                                          \
	 : (div) == 1000000000 ? 3u << 27                                                          \
			       : -1)
#define unity_div(map)                                                                             \
	(((unity_max_entries(map) >> 27) & 3) == 0   ? 1                                           \
	 : ((unity_max_entries(map) >> 27) & 3) == 1 ? 1000                                        \
	 : ((unity_max_entries(map) >> 27) & 3) == 2 ? 1000000                                     \
						     : 1000000000)

/*
 * n histograms of values that are given in one unit and shown in another: HISTOGRAM(latency, 1,
 * 1000) takes nanoseconds and shows microseconds, without rounding every single one in the sum. One
 * page (4 KiB) each for every possible CPU.
 */
#define HISTOGRAM(name, n, div)                                                                    \
	UNITY_HALF;                                                                                \
	_Static_assert((div) == 1 || (div) == 1000 || (div) == 1000000 || (div) == 1000000000,     \
		       "HISTOGRAM divides by 1, 1000, 1000000 or 1000000000");                     \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                  \
		__uint(map_flags, BPF_F_MMAPABLE);                                                 \
		__uint(max_entries, UNITY_BANKED | UNITY_DIV(div) | (2 * (n)));                    \
		__type(key, __u32);                                                                \
		__type(value, struct unity_histogram);                                             \
	} name SEC(".maps")

/* Floor of the binary logarithm, by shifts: clang 14 cannot compile __builtin_clzll for BPF. */
static __always_inline __u32 unity_log2(__u64 v)
{
	__u32 shift, log;

	log = (v > 0xffffffff) << 5;
	v >>= log;
	shift = (v > 0xffff) << 4;
	v >>= shift;
	log |= shift;
	shift = (v > 0xff) << 3;
	v >>= shift;
	log |= shift;
	shift = (v > 0xf) << 2;
	v >>= shift;
	log |= shift;
	shift = (v > 0x3) << 1;
	v >>= shift;
	log |= shift;
	return log | (v >> 1);
}

static __always_inline __u32 unity_slot(__u64 value)
{
	__u32 power;

	if (value < 8)
		return value;
	power = unity_log2(value);
	return (power - 1) * 4 + ((value >> (power - 2)) & 3);
}

static __always_inline void unity_histogram_add(void *map, __u32 len, __u32 half, __u32 i,
						__u64 value, __u64 div)
{
	struct unity_histogram *h;
	__u64 slot;
	__u32 key;

	if (2 * i >= len)
		return;
	key = bpf_get_smp_processor_id() * len + 2 * i + half;
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

/* Adds a value to the i-th histogram of the map. */
#define histogram_add(map, i, value)                                                               \
	unity_histogram_add(map, unity_bank_len(map), unity_half & 1, i, value, unity_div(map))

/* ---- tables ---- */

enum {
	UNITY_LOST_FULL, /* no room for a new key or event */
	UNITY_LOST_BUSY, /* the kernel refused for another reason, as for a nested program */
};

/* At most n different keys between two ticks; what comes later is counted as lost. */
#define TABLE(name, K, V, n)                                                                       \
	UNITY_HALF;                                                                                \
	struct name##__map {                                                                       \
		__uint(type, BPF_MAP_TYPE_HASH);                                                   \
		__uint(max_entries, n);                                                            \
		__type(key, K);                                                                    \
		__type(value, V);                                                                  \
	};                                                                                         \
	struct name##__map name SEC(".maps");                                                      \
	struct name##__map name##__b SEC(".maps");                                                 \
	COUNTERS(name##__lost, 2)

static __always_inline void *unity_find_or_insert(void *map, void *lost, __u32 lost_len,
						  const void *key, const void *zero)
{
	void *value = bpf_map_lookup_elem(map, key);
	int err;

	if (value)
		return value;
	err = unity_update(map, key, zero, BPF_NOEXIST);
	if (!err || err == -EEXIST) /* another CPU was first */
		value = bpf_map_lookup_elem(map, key);
	if (!value)
		unity_counters_add(lost, lost_len,
				   err == -E2BIG ? UNITY_LOST_FULL : UNITY_LOST_BUSY, 1);
	return value;
}

/*
 * The value of a key, made as zeros when it is new. NULL when it could not be made: the event is
 * counted as lost already, so just return. Several CPUs may hold the same value: add to it atomically
 * (__sync_fetch_and_add).
 */
#define table_at(map, key)                                                                         \
	({                                                                                         \
		typeof(*(map)->value) unity_zero;                                                  \
		typeof((map)->value) unity_value;                                                  \
		__builtin_memset(&unity_zero, 0, sizeof(unity_zero));                              \
		if (unity_half & 1)                                                                \
			unity_value = unity_find_or_insert(map##__b, map##__lost,                  \
							   unity_bank_len(map##__lost), key,       \
							   &unity_zero);                           \
		else                                                                               \
			unity_value = unity_find_or_insert(                                        \
				map, map##__lost, unity_bank_len(map##__lost), key, &unity_zero);  \
		unity_value;                                                                       \
	})

/* Adds delta to a key's value, which is a __u64. */
#define table_add(map, key, delta)                                                                 \
	({                                                                                         \
		__u64 *unity_sum = table_at(map, key);                                             \
		if (unity_sum)                                                                     \
			__sync_fetch_and_add(unity_sum, delta);                                    \
	})

/* ---- events ---- */

/* Set before loading where the kernel has no ring buffer (before 5.8): the map is a perf buffer. */
#define UNITY_PERF const volatile __u32 unity_perf SEC(".rodata.unity")

/*
 * Room for `bytes` (a power of two, at least a page) of events of type T between two ticks. The
 * type is for Rust and for events_emit(); the SDK takes it away before the kernel sees it.
 */
#define EVENTS(name, T, bytes)                                                                     \
	UNITY_PERF;                                                                                \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_RINGBUF);                                                \
		__uint(max_entries, bytes);                                                        \
		__type(value, T);                                                                  \
	} name SEC(".maps");                                                                       \
	COUNTERS(name##__lost, 2)

static __always_inline void unity_emit(void *ctx, void *map, bool perf, void *lost, __u32 lost_len,
				       void *event, __u64 size)
{
	long err;

	if (perf)
		err = bpf_perf_event_output(ctx, map, BPF_F_CURRENT_CPU, event, size);
	else
		err = bpf_ringbuf_output(map, event, size, 0);
	if (err)
		unity_counters_add(lost, lost_len, UNITY_LOST_FULL, 1);
}

/* Hands an event (a pointer to the map's T) to user space at the next tick; ctx is the program's. */
#define events_emit(ctx, map, event)                                                               \
	({                                                                                         \
		typeof((map)->value) unity_event = event;                                          \
		unity_emit(ctx, map, unity_perf, map##__lost, unity_bank_len(map##__lost),         \
			   unity_event, sizeof(*unity_event));                                     \
	})

#endif
