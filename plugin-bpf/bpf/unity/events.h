/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* EVENTS: single events, each with a time of its own. */
#ifndef __UNITY_EVENTS_H
#define __UNITY_EVENTS_H

/* Set before loading where the kernel has no ring buffer (before 5.8): the map is a perf buffer. */
const volatile __u32 unity_perf SEC(".rodata.unity") = 0;

/*
 * Room for `bytes` (a power of two, at least a page) of events of type T between two ticks. The type
 * is for Rust and for the macros; the SDK takes it away before the kernel sees it.
 */
#define EVENTS(name, T, bytes) UNITY_EVENTS(__COUNTER__, name, T, bytes)
#define UNITY_EVENTS(number, name, T, bytes)                                                       \
	UNITY_PIECE(name, number, 1);                                                              \
	struct unity_paste(unity_events__, number)                                                 \
	{                                                                                          \
		__uint(type, BPF_MAP_TYPE_RINGBUF);                                                \
		__uint(max_entries, bytes);                                                        \
		__type(value, T);                                                                  \
	}                                                                                          \
	name SEC(".maps")

/*
 * Memory for an event that is larger than a program's stack (512 bytes) or of varying length. Held
 * from scratch_take() to scratch_give(); NULL when another program on this CPU holds it, which is
 * counted as a lost event (`busy`).
 *
 *   struct exec *event = scratch_take(&execs);
 *   if (!event)
 *       return 0;
 *   ...
 *   events_emit_part(ctx, &execs, event, offsetof(struct exec, args) + len);
 *   scratch_give(&execs, event);
 */
#define SCRATCH(name)                                                                              \
	struct name##__scratch_value {                                                             \
		__u64 taken;                                                                       \
		typeof(*name.value) event;                                                         \
	};                                                                                         \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);                                           \
		__uint(max_entries, 1);                                                            \
		__type(key, __u32);                                                                \
		__type(value, struct name##__scratch_value);                                       \
	} name##__scratch SEC(".maps")

#define scratch_take(map)                                                                          \
	({                                                                                         \
		__u32 unity_zero = 0;                                                              \
		typeof((map)->value) unity_event = NULL;                                           \
		typeof((map##__scratch)->value) unity_scratch =                                    \
			bpf_map_lookup_elem(map##__scratch, &unity_zero);                          \
		if (unity_scratch && unity_take(&unity_scratch->taken))                            \
			unity_event = &unity_scratch->event;                                       \
		else                                                                               \
			unity_lose(unity_piece(map##__notes), UNITY_BUSY);                         \
		unity_event;                                                                       \
	})

#define scratch_give(map, event) unity_give((__u64 *)(event)-1)

static __always_inline void unity_emit(void *ctx, void *map, __u32 piece, void *event, __u64 size)
{
	long err;

	if (unity_perf)
		err = bpf_perf_event_output(ctx, map, BPF_F_CURRENT_CPU, event, size);
	else
		err = bpf_ringbuf_output(map, event, size, 0);
	if (err)
		unity_lose(piece, UNITY_FULL);
}

/* Hands an event (a pointer to the map's T) to user space at the next tick; ctx is the program's. */
#define events_emit(ctx, map, event)                                                               \
	({                                                                                         \
		typeof((map)->value) unity_event = event;                                          \
		unity_emit(ctx, map, unity_piece(map##__notes), unity_event,                       \
			   sizeof(*unity_event));                                                  \
	})

/* The same with the first `len` bytes only; Rust finds zeros behind them. */
#define events_emit_part(ctx, map, event, len)                                                     \
	({                                                                                         \
		typeof((map)->value) unity_event = event;                                          \
		__u64 unity_bytes = len;                                                           \
		barrier_var(unity_bytes);                                                          \
		if (unity_bytes > sizeof(*unity_event))                                            \
			unity_bytes = sizeof(*unity_event);                                        \
		unity_emit(ctx, map, unity_piece(map##__notes), unity_event, unity_bytes);         \
	})

/*
 * An event that is filled in place: NULL when there is no room (counted). It must be submitted on
 * every way out.
 *
 * With UNITY_FETCH, that is where there are ring buffers in any case, it lies in the ring and is not
 * copied. Else it lies in SCRATCH(map). Not one or the other at run time: verifiers before 6.2 do not
 * see that a pointer of two sources is one that was checked.
 */
#ifdef UNITY_FETCH
#define events_reserve(map)                                                                        \
	({                                                                                         \
		typeof((map)->value) unity_room =                                                  \
			bpf_ringbuf_reserve(map, sizeof(*unity_room), 0);                          \
		if (!unity_room)                                                                   \
			unity_lose(unity_piece(map##__notes), UNITY_FULL);                         \
		unity_room;                                                                        \
	})
#define events_submit(ctx, map, event) bpf_ringbuf_submit(event, 0)
#else
#define events_reserve(map) scratch_take(map)
#define events_submit(ctx, map, event)                                                             \
	({                                                                                         \
		typeof((map)->value) unity_reserved = event;                                       \
		events_emit(ctx, map, unity_reserved);                                             \
		scratch_give(map, unity_reserved);                                                 \
	})
#endif

#endif
