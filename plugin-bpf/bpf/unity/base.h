/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What all pieces share: banks of mmapped arrays, and the counts of what was lost.
 *
 * A piece is declared by a struct whose tag names its kind and number: `struct unity_table__3`. The
 * build script reads tags, types and sizes from the object's BTF and writes the Rust side from them.
 */
#ifndef __UNITY_BASE_H
#define __UNITY_BASE_H

#include "plain.h"

/*
 * bpf_map_update_elem() with its result as the int that it is: up to Linux 6.3 the helper's "long" has
 * undefined upper bits, so that it equals no -EEXIST (d7ba4cc900bf "bpf: return long from bpf_map_ops
 * funcs").
 */
static __always_inline int unity_update(void *map, const void *key, const void *value, __u64 flags)
{
	return (int)bpf_map_update_elem(map, key, value, flags);
}

#define unity_paste_(a, b) a##b
#define unity_paste(a, b)  unity_paste_(a, b)

/* ---- banks: a slice of an mmapped array for every possible CPU ---- */

/*
 * In max_entries: the rest of the number is for one CPU, and the SDK multiplies it when it loads the
 * object. The kernel refuses such a map for its size when an object is loaded without the SDK. Not
 * a higher bit: the kernel's BTF has no array of 4 GiB.
 */
#define UNITY_BANKED (1u << 29)

/* As max_entries of a hash: one entry for every thread that this machine can have. */
#define PER_THREAD ((1u << 28) | 1)

/* What the object says as max_entries: __uint() makes a number the length of an array type. */
#define unity_max_entries(map) (sizeof(*(map)->max_entries) / sizeof(int))
#define unity_bank_len(map)    ((__u32)unity_max_entries(map) & ((1u << 27) - 1))

/* ---- what was lost, by piece and cause ---- */

enum unity_cause {
	UNITY_FULL,	 /* no room for a new key or event: raise the declared size */
	UNITY_BUSY,	 /* the kernel refused for another reason, as for a nested program */
	UNITY_TRUNCATED, /* stored, but its end was cut off */
	UNITY_TWICE,	 /* begun while it was under way already; the later begin counts */
	UNITY_UNMATCHED, /* ended, but nobody saw it begin */
	UNITY_DIED,	 /* begun, and its thread or socket is gone */
	UNITY_PAST,	 /* a number past the end of a piece: the program's mistake */
	UNITY_CAUSES = 8,
};

/* Pieces of one object, at most. */
#define UNITY_PIECES 24

struct unity_losses {
	__u64 causes[UNITY_CAUSES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, UNITY_BANKED | UNITY_PIECES);
	__type(key, __u32);
	__type(value, struct unity_losses);
} unity_lost SEC(".maps");

static __always_inline void unity_lose(__u32 piece, enum unity_cause cause)
{
	__u32 key = bpf_get_smp_processor_id() * UNITY_PIECES + piece;
	struct unity_losses *losses = bpf_map_lookup_elem(&unity_lost, &key);

	if (losses)
		__sync_fetch_and_add(&losses->causes[cause], 1);
}

/*
 * Notes of a piece for the macros that use it. The variable is declared and never defined: only its
 * type is read, as in unity_piece(&name__notes).
 */
#define UNITY_PIECE(name, number, n)                                                               \
	_Static_assert(number < UNITY_PIECES, "too many maps in one object: at most 24 pieces");   \
	extern struct name##__notes {                                                              \
		char (*piece)[(number) + 1];                                                       \
		char (*len)[n];                                                                    \
	} name##__notes
/* A function that no program may call: whoever would call it does not compile. */
#define UNITY_ERROR(text) __attribute__((error(text)))

/* Whether the compiler knows a number, and knows that it is past the end of a piece. */
#define unity_is_past(i, map) (__builtin_constant_p(i) && (i) >= unity_len(map##__notes))

#define unity_piece(notes) ((__u32)sizeof(*(notes)->piece) - 1)
#define unity_len(notes)   ((__u32)sizeof(*(notes)->len))

/* ---- scratch: memory of a CPU, held by one program at a time ---- */

/*
 * Programs in process context can be preempted by another one on the same CPU, so whoever finds the
 * memory taken does without. Where the kernel has no fetching atomics it has no preemption of
 * programs either (both came with 5.11 and 5.12): there a program is nested within the other's run,
 * and a plain flag is enough.
 */
static __always_inline bool unity_take(__u64 *taken)
{
#ifdef UNITY_FETCH
	return !__sync_lock_test_and_set(taken, 1);
#else
	if (*(volatile __u64 *)taken)
		return false;
	*(volatile __u64 *)taken = 1;
	return true;
#endif
}

static __always_inline void unity_give(__u64 *taken)
{
	barrier();
	*(volatile __u64 *)taken = 0;
}

#endif
