/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The cut: which half a program adds to, and how user space knows that nobody adds to a half any more.
 *
 * A program enters before it touches a half and leaves at every return:
 *
 *   CUT(cut);
 *   histogram_add(cut, &latency, 0, wait);
 *   table_add(cut, &comms, &comm, 1);
 *
 * Once per tick user space turns the half over and waits until those who entered before have left: a
 * few loads from mmapped memory, no grace period. Every object is compiled twice (plugin_bpf::cut has
 * the other side, and the proofs):
 *
 * with UNITY_FETCH, for kernels whose verifier and JIT take fetching atomics (x86-64 from 5.12, arm64
 * from 5.18): entering chooses the half in one operation. Newcomers never delay the wait.
 *
 * without: the program announces itself, then reads the half. The announcement is a full barrier on
 * x86; elsewhere user space waits for a grace period instead.
 */
#ifndef __UNITY_CUT_H
#define __UNITY_CUT_H

/* A CPU's cache line. The names are those of plugin_bpf::cut. */
struct unity_cell {
	__u64 word; /* with fetch: twice the entries, plus the half; without: entered minus left */
	__u64 left[2]; /* with fetch: those who left, by half */
	__u64 half;    /* without fetch: the half */
	__u64 unused[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, UNITY_BANKED | 1);
	__type(key, __u32);
	__type(value, struct unity_cell);
} unity_cut SEC(".maps");

/* One run of a program, between entering and leaving. */
struct unity_run {
	struct unity_cell *cell;
	__u32 cpu;
	__u32 half;
};

static __always_inline struct unity_run unity_enter(void)
{
	struct unity_run run = {};

	run.cpu = bpf_get_smp_processor_id();
	run.cell = bpf_map_lookup_elem(&unity_cut, &run.cpu);
	if (!run.cell) /* not reached: there is a cell for every possible CPU */
		return run;
#ifdef UNITY_FETCH
	run.half = __sync_fetch_and_add(&run.cell->word, 2) & 1;
#else
	__sync_fetch_and_add(&run.cell->word, 1);
	run.half = *(volatile __u64 *)&run.cell->half & 1;
#endif
	return run;
}

static __always_inline void unity_leave(struct unity_run *run)
{
	if (!run->cell)
		return;
#ifdef UNITY_FETCH
	/* The fetching form, for its order on arm64; it is emitted when the result is used. */
	__u64 *left = run->half ? &run->cell->left[1] : &run->cell->left[0];
	__u64 before = __sync_fetch_and_add(left, 1);

	asm volatile("" : : "r"(before));
#else
	__sync_fetch_and_add(&run->cell->word, -1);
#endif
}

/* Enters, once in a run; leaves when `name` goes out of scope. Hand `name` to the pieces. */
#define CUT(name)                                                                                  \
	struct unity_run name##__run __attribute__((cleanup(unity_leave))) = unity_enter();        \
	struct unity_run *name = &name##__run

typedef struct unity_run *cut_t;

#endif
