// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A CPU runs one hard interrupt at a time: it keeps others out. On a line that devices share, every
 * handler is called in turn, and those whose device did not interrupt answer IRQ_NONE.
 *
 * A handler is known by its id: the address of its irqaction, or in tp programs, whose records have
 * none, a hash of its line and name. What is told of it once in a tick is in `handlers`.
 */
#include "unity.bpf.h"
#include "kernel/irq.h"

#define NAME_WORDS 8

const volatile bool by_cpu = false;

/* Kinds that a CPU does one at a time. But for the first, the ids of interrupts without a handler. */
enum kind {
	HANDLER,
	LOCAL_TIMER,
	RESCHEDULE,
	CALL_FUNCTION,
	CALL_FUNCTION_SINGLE,
	IRQ_WORK,
	KINDS,
};

struct handler {
	__u64 none; /* calls answered with IRQ_NONE */
	__u64 none_ns;
	__u32 irq;
	__u32 named; /* 1: the rest is set */
	char name[8 * NAME_WORDS];
};

/* The handler that a tp program saw begin. */
struct entered {
	__u64 id;
	__u64 name[NAME_WORDS];
};

struct place {
	__u64 id;
	__u32 cpu;
	__u32 unused;
};

struct runs {
	__u64 count;
	__u64 sum_ns;
};

CPU_PAIRS(begun, KINDS);
HISTOGRAMS(times, __u64, 2048, 1000);
TABLE(handlers, __u64, struct handler, 256);
TABLE(cpus, struct place, struct runs, 1024);
PERCPU_ARRAY(seen, struct entered, 1);

static __always_inline void count_cpu(cut_t cut, __u64 id, __u64 time)
{
	struct place place = {.id = id, .cpu = cut->cpu};
	struct runs *runs = table_at(cut, &cpus, &place);

	if (runs) {
		__sync_fetch_and_add(&runs->count, 1);
		__sync_fetch_and_add(&runs->sum_ns, time);
	}
}

/* name: where it can be read with bpf_probe_read_kernel(). */
static __always_inline void handled(__u64 id, __u32 irq, const void *name, bool none, __u64 time)
{
	CUT(cut);
	struct handler *handler;

	if (!none && by_cpu)
		count_cpu(cut, id, time);
	if (!none && !histograms_add(cut, &times, &id, time))
		return;
	handler = table_at(cut, &handlers, &id);
	if (!handler)
		return;
	if (!handler->named) {
		handler->irq = irq;
		bpf_probe_read_kernel_str(handler->name, sizeof(handler->name), name);
		handler->named = 1;
	}
	if (none) {
		__sync_fetch_and_add(&handler->none, 1);
		__sync_fetch_and_add(&handler->none_ns, time);
	}
}

ON_ARGUMENTS(entry, irq_handler_entry)
{
	cpu_pairs_begin(&begun, HANDLER, bpf_ktime_get_ns());
	return 0;
}

ON_ARGUMENTS(exit, irq_handler_exit, int, irq, struct irqaction *, action, int, ret)
{
	__u64 since = cpu_pairs_end(&begun, HANDLER);

	if (since)
		handled((__u64)action, irq, READ(action, name), ret == IRQ_NONE,
			bpf_ktime_get_ns() - since);
	return 0;
}

ON_RECORD(entry, irq, irq_handler_entry, int, irq, const char *, name)
{
	__u32 zero = 0;
	struct entered *entered = bpf_map_lookup_elem(&seen, &zero);

	if (!entered)
		return 0;
	__builtin_memset(entered, 0, sizeof(*entered));
	bpf_probe_read_kernel_str(entered->name, sizeof(entered->name), name);
	entered->id = irq;
	for (int i = 0; i < NAME_WORDS; i++) {
		entered->id = (entered->id ^ entered->name[i]) * 0x9e3779b97f4a7c15ULL;
		entered->id ^= entered->id >> 32;
	}
	entered->id |= 1ULL << 63;
	cpu_pairs_begin(&begun, HANDLER, bpf_ktime_get_ns());
	return 0;
}

ON_RECORD(exit, irq, irq_handler_exit, int, irq, int, ret)
{
	__u32 zero = 0;
	struct entered *entered = bpf_map_lookup_elem(&seen, &zero);
	__u64 since = cpu_pairs_end(&begun, HANDLER);

	if (since && entered)
		handled(entered->id, irq, entered->name, ret == IRQ_NONE,
			bpf_ktime_get_ns() - since);
	return 0;
}

static __always_inline int vector_ended(__u64 id)
{
	__u64 since = cpu_pairs_end(&begun, id);
	__u64 time;
	CUT(cut);

	if (!since)
		return 0;
	time = bpf_ktime_get_ns() - since;
	histograms_add(cut, &times, &id, time);
	if (by_cpu)
		count_cpu(cut, id, time);
	return 0;
}

/* The exit is attached first: whose begin is seen, its end is seen too. */
#define ON_VECTOR(name, id)                                                                        \
	ON_TRACEPOINT(name##_exit, irq_vectors, name##_exit)                                       \
	{                                                                                          \
		return vector_ended(id);                                                           \
	}                                                                                          \
	ON_TRACEPOINT(name##_entry, irq_vectors, name##_entry)                                     \
	{                                                                                          \
		cpu_pairs_begin(&begun, id, bpf_ktime_get_ns());                                   \
		return 0;                                                                          \
	}

ON_VECTOR(local_timer, LOCAL_TIMER)
ON_VECTOR(reschedule, RESCHEDULE)
ON_VECTOR(call_function, CALL_FUNCTION)
ON_VECTOR(call_function_single, CALL_FUNCTION_SINGLE)
ON_VECTOR(irq_work, IRQ_WORK)
