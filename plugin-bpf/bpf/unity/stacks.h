/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* STACKS: call stacks inside the cut, keyed by a 64-bit hash of their frames. */
#ifndef __UNITY_STACKS_H
#define __UNITY_STACKS_H

/* Frames of a stack, at most: kernel.perf_event_max_stack is 127 unless it was lowered. */
#define UNITY_FRAMES 127

struct unity_stack {
	__u64 len; /* frames */
	__u64 frames[UNITY_FRAMES];
};

/* Memory of a CPU for programs that take a stack at the same time, as one that was preempted does. */
#define UNITY_STACK_SCRATCHES 3

struct unity_stack_scratch {
	__u64 taken;
	struct unity_stack stack;
};

/*
 * At most n different stacks between two ticks, in two halves like a TABLE. An id is a hash of the
 * frames: it never goes stale, two halves and two CPUs give the same stack the same id, and two
 * stacks have the same one in 1 of 10^19 cases.
 */
#define STACKS(name, n) UNITY_STACKS(__COUNTER__, name, n)
#define UNITY_STACKS(number, name, n)                                                              \
	UNITY_HALVES(unity_stacks__, number, name, __u64, struct unity_stack, n, n);               \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);                                           \
		__uint(max_entries, UNITY_STACK_SCRATCHES);                                        \
		__type(key, __u32);                                                                \
		__type(value, struct unity_stack_scratch);                                         \
	} name##__scratch SEC(".maps")

/* Multiplies and rotates, as wyhash and fxhash do; the last step spreads every bit. */
static __always_inline __u64 unity_hash_stack(const struct unity_stack *stack)
{
	__u64 hash = stack->len;

	for (int i = 0; i < UNITY_FRAMES; i++) {
		if (i >= stack->len)
			break;
		hash = (hash << 5 | hash >> 59) ^ stack->frames[i];
		hash *= 0x9e3779b97f4a7c15ULL;
	}
	hash ^= hash >> 32;
	hash *= 0xd6e8feb86659fd93ULL;
	hash ^= hash >> 32;
	return hash ? hash : 1;
}

static __always_inline __u64 unity_stacks_add(void *ctx, void *map, void *scratch_map, __u32 piece,
					      __u64 flags)
{
	struct unity_stack_scratch *scratch = NULL;
	__u64 hash = 0;
	long bytes;
	int err;

	for (__u32 i = 0; i < UNITY_STACK_SCRATCHES; i++) {
		__u32 key = i;

		scratch = bpf_map_lookup_elem(scratch_map, &key);
		if (!scratch || unity_take(&scratch->taken))
			break;
		scratch = NULL;
	}
	if (!scratch) {
		unity_lose(piece, UNITY_BUSY);
		return 0;
	}
	/* Up to 127 frames; the rest of the memory becomes zeros. */
	bytes = bpf_get_stack(ctx, scratch->stack.frames, sizeof(scratch->stack.frames), flags);
	if (bytes > 0) {
		scratch->stack.len = bytes / sizeof(__u64);
		if (scratch->stack.len >= UNITY_FRAMES)
			unity_lose(piece, UNITY_TRUNCATED);
		hash = unity_hash_stack(&scratch->stack);
		if (!bpf_map_lookup_elem(map, &hash)) {
			err = unity_update(map, &hash, &scratch->stack, BPF_NOEXIST);
			if (err && err != -EEXIST) {
				unity_lose(piece, err == -E2BIG ? UNITY_FULL : UNITY_BUSY);
				hash = 0;
			}
		}
	}
	unity_give(&scratch->taken);
	return hash;
}

/*
 * Stores the stack that leads to this program and returns its id: of the kernel, or with
 * BPF_F_USER_STACK of the process. 0: there is none (a kernel thread has no user stack), or it is
 * counted as lost.
 */
#define stacks_add(cut, ctx, map, flags)                                                           \
	({                                                                                         \
		__u64 unity_id;                                                                    \
		if ((cut)->half)                                                                   \
			unity_id = unity_stacks_add(ctx, map##__b, map##__scratch,                 \
						    unity_piece(map##__notes), flags);             \
		else                                                                               \
			unity_id = unity_stacks_add(ctx, map, map##__scratch,                      \
						    unity_piece(map##__notes), flags);             \
		unity_id;                                                                          \
	})

/* ---- stacks that stay ---- */

/*
 * At most n different stacks, for state that no tick resets, such as what is held: they stay until
 * user space removes them. In one hash, without the cut.
 */
#define STACK_STORE(name, n) UNITY_STACK_STORE(__COUNTER__, name, n)
#define UNITY_STACK_STORE(number, name, n)                                                         \
	UNITY_PIECE(name, number, n);                                                              \
	struct unity_paste(unity_stack_store__, number)                                            \
	{                                                                                          \
		__uint(type, BPF_MAP_TYPE_HASH);                                                   \
		__uint(max_entries, n);                                                            \
		__type(key, __u64);                                                                \
		__type(value, struct unity_stack);                                                 \
	}                                                                                          \
	name SEC(".maps");                                                                         \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);                                           \
		__uint(max_entries, UNITY_STACK_SCRATCHES);                                        \
		__type(key, __u32);                                                                \
		__type(value, struct unity_stack_scratch);                                         \
	} name##__scratch SEC(".maps")

/* As stacks_add(). */
#define stack_store_add(ctx, map, flags)                                                           \
	unity_stacks_add(ctx, map, map##__scratch, unity_piece(map##__notes), flags)

#endif
