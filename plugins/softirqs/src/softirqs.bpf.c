// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A CPU runs one soft interrupt at a time, from its entry to its exit. What interrupts it meanwhile is
 * within its time. Raised again before it is entered, it still waits since the first time.
 */
#include "unity.bpf.h"
#include "kernel/irq.h"

const volatile bool by_cpu = false;
const volatile bool delay = false;

struct place {
	__u32 vec;
	__u32 cpu;
};

struct runs {
	__u64 count;
	__u64 sum_ns;
};

CPU_PAIRS(begun, NR_SOFTIRQS);
CPU_PAIRS(raised, NR_SOFTIRQS);
HISTOGRAM(times, NR_SOFTIRQS, 1000);
HISTOGRAM(delays, NR_SOFTIRQS, 1000);
TABLE(cpus, struct place, struct runs, 1024);

ON_TRACEPOINT(raise, irq, softirq_raise, __u32, vec)
{
	__u64 *since = cpu_pairs_at(&raised, vec);

	if (since && !*since)
		*since = bpf_ktime_get_ns();
	return 0;
}

static __always_inline void entered(__u32 vec, __u64 now)
{
	CUT(cut);
	__u64 since = cpu_pairs_end(&raised, vec);

	if (since)
		histogram_add(cut, &delays, vec, now - since);
}

ON_TRACEPOINT(entry, irq, softirq_entry, __u32, vec)
{
	__u64 now = bpf_ktime_get_ns();

	cpu_pairs_begin(&begun, vec, now);
	if (delay)
		entered(vec, now);
	return 0;
}

static __always_inline void ended(__u32 vec, __u64 time)
{
	CUT(cut);
	struct place place = {.vec = vec, .cpu = cut->cpu};
	struct runs *runs;

	histogram_add(cut, &times, vec, time);
	if (!by_cpu)
		return;
	runs = table_at(cut, &cpus, &place);
	if (runs) {
		__sync_fetch_and_add(&runs->count, 1);
		__sync_fetch_and_add(&runs->sum_ns, time);
	}
}

ON_TRACEPOINT(exit, irq, softirq_exit, __u32, vec)
{
	__u64 since = cpu_pairs_end(&begun, vec);

	if (since)
		ended(vec, bpf_ktime_get_ns() - since);
	return 0;
}
