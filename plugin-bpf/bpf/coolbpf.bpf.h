/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The names that authors know from coolbpf and bcc, for tools in Rust (coolbpf.h) and for C plugins, which
 * need none of unity.bpf.h's maps.
 *
 * Maps, with the optional arguments and defaults of bcc; coolbpf's are the longest form of each. A `;`
 * behind them is allowed, as with coolbpf's:
 *
 *   BPF_HASH(name[, key[, leaf[, size]]])         u64 -> u64, 10240 entries
 *   BPF_LRU_HASH, BPF_PERCPU_HASH, BPF_LRU_PERCPU_HASH       likewise
 *   BPF_ARRAY(name[, leaf[, size]])               int -> u64, 10240 entries
 *   BPF_PERCPU_ARRAY                                         likewise
 *   BPF_LPM_TRIE(name[, key[, leaf[, size]]])     u64 (IPv4: 4 bytes of length, 4 of address) -> u64
 *   BPF_QUEUE(name, leaf, size[, flags])
 *   BPF_STACK(name, leaf, size[, flags])
 *   BPF_STACK_TRACE(name, size[, frames])         20 frames, as coolbpf has it; bcc has 127
 *   BPF_PERF_OUTPUT(name[, size])                 for every CPU
 *   BPF_RINGBUF(name[, bytes])                    256 KiB
 *   BPF_PROG_ARRAY(name, size)
 *   BPF_MAP(name, type, key, leaf, size)
 *
 * In Rust they are read by the types of plugin_bpf::maps. None of them can be read and reset
 * without loss: what counts belongs into COUNTERS, HISTOGRAM or TABLE of unity.bpf.h.
 *
 * What bcc does by rewriting C has no counterpart here: write bpf_map_lookup_elem(&name, &key) for
 * name.lookup(&key), and so on.
 */
#ifndef __COOLBPF_BPF_H
#define __COOLBPF_BPF_H

#include "vmlinux.h"
/* bpf_printk() keeps its format on the stack, as coolbpf has it: no map for it. */
#ifndef BPF_NO_GLOBAL_DATA
#define BPF_NO_GLOBAL_DATA
#endif
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_endian.h>

#include "unity/license.h"
#include "unity/plain.h"
#include "unity/log2.h"

/* ---- maps ---- */

/* The form for as many arguments as there are: they push it to the place that is picked. */
#define COOLBPF_PICK3(_1, _2, _3, form, ...)	 form
#define COOLBPF_PICK4(_1, _2, _3, _4, form, ...) form

#define COOLBPF_KEYED1(type, name)		    BPF_MAP(name, type, u64, u64, 10240)
#define COOLBPF_KEYED2(type, name, key)		    BPF_MAP(name, type, key, u64, 10240)
#define COOLBPF_KEYED3(type, name, key, leaf)	    BPF_MAP(name, type, key, leaf, 10240)
#define COOLBPF_KEYED4(type, name, key, leaf, size) BPF_MAP(name, type, key, leaf, size)
#define COOLBPF_KEYED(type, ...)                                                                   \
	COOLBPF_PICK4(__VA_ARGS__, COOLBPF_KEYED4, COOLBPF_KEYED3, COOLBPF_KEYED2, COOLBPF_KEYED1) \
	(type, __VA_ARGS__)

#define BPF_HASH(...)		 COOLBPF_KEYED(BPF_MAP_TYPE_HASH, __VA_ARGS__)
#define BPF_LRU_HASH(...)	 COOLBPF_KEYED(BPF_MAP_TYPE_LRU_HASH, __VA_ARGS__)
#define BPF_PERCPU_HASH(...)	 COOLBPF_KEYED(BPF_MAP_TYPE_PERCPU_HASH, __VA_ARGS__)
#define BPF_LRU_PERCPU_HASH(...) COOLBPF_KEYED(BPF_MAP_TYPE_LRU_PERCPU_HASH, __VA_ARGS__)

#define COOLBPF_INDEXED1(type, name)		 BPF_MAP(name, type, int, u64, 10240)
#define COOLBPF_INDEXED2(type, name, leaf)	 BPF_MAP(name, type, int, leaf, 10240)
#define COOLBPF_INDEXED3(type, name, leaf, size) BPF_MAP(name, type, int, leaf, size)
#define COOLBPF_INDEXED(type, ...)                                                                 \
	COOLBPF_PICK3(__VA_ARGS__, COOLBPF_INDEXED3, COOLBPF_INDEXED2, COOLBPF_INDEXED1)           \
	(type, __VA_ARGS__)

#define BPF_ARRAY(...)	      COOLBPF_INDEXED(BPF_MAP_TYPE_ARRAY, __VA_ARGS__)
#define BPF_PERCPU_ARRAY(...) COOLBPF_INDEXED(BPF_MAP_TYPE_PERCPU_ARRAY, __VA_ARGS__)

/* By size: the kernel wants the type of a trie's key to be a struct (trie_check_btf). */
#define COOLBPF_LPM_TRIE4(name, key, leaf, size)                                                   \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_LPM_TRIE);                                               \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                              \
		__uint(max_entries, size);                                                         \
		__uint(key_size, sizeof(key));                                                     \
		__uint(value_size, sizeof(leaf));                                                  \
	} name SEC(".maps");
#define COOLBPF_LPM_TRIE3(name, key, leaf) COOLBPF_LPM_TRIE4(name, key, leaf, 10240)
#define COOLBPF_LPM_TRIE2(name, key)	   COOLBPF_LPM_TRIE4(name, key, u64, 10240)
#define COOLBPF_LPM_TRIE1(name)		   COOLBPF_LPM_TRIE4(name, u64, u64, 10240)
#define BPF_LPM_TRIE(...)                                                                          \
	COOLBPF_PICK4(__VA_ARGS__, COOLBPF_LPM_TRIE4, COOLBPF_LPM_TRIE3, COOLBPF_LPM_TRIE2,        \
		      COOLBPF_LPM_TRIE1)                                                           \
	(__VA_ARGS__)

#define COOLBPF_KEYLESS4(map_type, name, leaf, size, flags)                                        \
	struct {                                                                                   \
		__uint(type, map_type);                                                            \
		__uint(map_flags, flags);                                                          \
		__uint(max_entries, size);                                                         \
		__type(value, leaf);                                                               \
	} name SEC(".maps");
#define COOLBPF_KEYLESS3(type, name, leaf, size) COOLBPF_KEYLESS4(type, name, leaf, size, 0)
#define COOLBPF_KEYLESS(type, ...)                                                                 \
	COOLBPF_PICK4(__VA_ARGS__, COOLBPF_KEYLESS4, COOLBPF_KEYLESS3, , )                         \
	(type, __VA_ARGS__)

#define BPF_QUEUE(...) COOLBPF_KEYLESS(BPF_MAP_TYPE_QUEUE, __VA_ARGS__)
#define BPF_STACK(...) COOLBPF_KEYLESS(BPF_MAP_TYPE_STACK, __VA_ARGS__)

#ifndef MAX_STACK_DEPTH
#define MAX_STACK_DEPTH 20
#endif

#define COOLBPF_STACK_TRACE3(name, size, frames)                                                   \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_STACK_TRACE);                                            \
		__uint(max_entries, size);                                                         \
		__uint(key_size, sizeof(u32));                                                     \
		__uint(value_size, (frames) * sizeof(u64));                                        \
	} name SEC(".maps");
#define COOLBPF_STACK_TRACE2(name, size) COOLBPF_STACK_TRACE3(name, size, MAX_STACK_DEPTH)
#define BPF_STACK_TRACE(...)                                                                       \
	COOLBPF_PICK3(__VA_ARGS__, COOLBPF_STACK_TRACE3, COOLBPF_STACK_TRACE2, )(__VA_ARGS__)

/* 0 entries: libbpf makes one for every possible CPU. */
#define COOLBPF_PERF_OUTPUT2(name, size)                                                           \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);                                       \
		__uint(max_entries, size);                                                         \
		__uint(key_size, sizeof(u32));                                                     \
		__uint(value_size, sizeof(u32));                                                   \
	} name SEC(".maps");
#define COOLBPF_PERF_OUTPUT1(name) COOLBPF_PERF_OUTPUT2(name, 0)
#define BPF_PERF_OUTPUT(...)                                                                       \
	COOLBPF_PICK3(__VA_ARGS__, , COOLBPF_PERF_OUTPUT2, COOLBPF_PERF_OUTPUT1)(__VA_ARGS__)

/* A power of two, at least a page. Linux 5.8. */
#define COOLBPF_RINGBUF2(name, bytes)                                                              \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_RINGBUF);                                                \
		__uint(max_entries, bytes);                                                        \
	} name SEC(".maps");
#define COOLBPF_RINGBUF1(name) COOLBPF_RINGBUF2(name, 256 * 1024)
#define BPF_RINGBUF(...)                                                                           \
	COOLBPF_PICK3(__VA_ARGS__, , COOLBPF_RINGBUF2, COOLBPF_RINGBUF1)(__VA_ARGS__)

#define BPF_PROG_ARRAY(name, size) BPF_MAP(name, BPF_MAP_TYPE_PROG_ARRAY, u32, u32, size)

/* ---- the current task and moment; macros, so that `u32 pid = pid();` compiles ---- */

#define ns()	bpf_ktime_get_ns()			  /* nanoseconds since boot, less suspend */
#define pid()	((u32)(bpf_get_current_pid_tgid() >> 32)) /* the process: tgid in the kernel */
#define tid()	((u32)bpf_get_current_pid_tgid())	  /* the thread: pid in the kernel */
#define comm(c) bpf_get_current_comm(c, sizeof(c))	  /* c is an array: char c[16] */
#define cpu()	bpf_get_smp_processor_id()

/* ---- histograms in plain maps with int keys and u64 values ---- */

/*
 * Slots of a power of two, or of ten: BPF_ARRAY(hist, u64, 64) and BPF_ARRAY(hist, u64, 20) hold
 * every value. A slot's number is the rounded-down logarithm; 0 has what is below 2, or 10, or
 * negative. Adding is atomic, reading and resetting is not: HISTOGRAM of unity.bpf.h is finer and
 * exact.
 */
static __always_inline int fast_log2(long value)
{
	return value < 1 ? 0 : unity_log2(value);
}

static __always_inline int fast_log10(long value)
{
	u64 power = 1;
	int n;

	if (value < 1)
		return 0;
#pragma unroll
	for (n = 0; n < 18; n++) {
		power *= 10;
		if ((u64)value < power)
			break;
	}
	return n;
}

/* Adds to the u64 of a key; a key that a hash does not have is ignored. */
static __always_inline void add_hist(void *map, int key, long value)
{
	u64 *sum = bpf_map_lookup_elem(map, &key);

	if (sum)
		__sync_fetch_and_add(sum, value);
}

static __always_inline void incr_hist(void *map, int key)
{
	add_hist(map, key, 1);
}

static __always_inline void hist2_push(void *map, long value)
{
	incr_hist(map, fast_log2(value));
}

static __always_inline void hist10_push(void *map, long value)
{
	incr_hist(map, fast_log10(value));
}

/* ---- what older sources use ---- */

/*
 * A map before there was BTF: struct bpf_map_def SEC("maps") name = {..}. libbpf 1.0 and later have no such
 * maps; bpfso.mk rewrites them in the object (legacy_maps.c).
 */
struct bpf_map_def {
	unsigned int type;
	unsigned int key_size;
	unsigned int value_size;
	unsigned int max_entries;
	unsigned int map_flags;
};

#ifdef UNITY_FULL_VMLINUX
/* Whether this kernel keeps thread_info inside of task_struct (CONFIG_THREAD_INFO_IN_TASK). */
#define bpf_core_task_struct_thread_info_exist(task)                                               \
	bpf_core_field_exists(((struct task_struct *)(task))->thread_info)
#endif

#endif
