// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Preemption and interrupts are off from the outermost begin to its end on the same CPU; a switch to another
 * thread may lie between. The kernel says so only where it was built for that (CONFIG_TRACE_PREEMPT_TOGGLE,
 * CONFIG_TRACE_IRQFLAGS). These programs touch arrays only: a hash takes locks, which are such sections.
 *
 * Elsewhere timers tell: one that was to interrupt the CPU expires when interrupts are on again.
 */
#include "unity.bpf.h"
#include "kernel/timer.h"

enum mode { PREEMPT, IRQ, TIMER, MODES };

/* Instead of the time of a begin: the CPU was idle meanwhile. */
#define IDLE 1
/* The `state` of cpu_idle when the CPU leaves it. */
#define PWR_EVENT_EXIT ((__u32)-1)

const volatile __u64 min_ns = 0;

struct armed {
	__s64 expires; /* by the clock of its base */
	__u64 since;
	__u64 soft;
};

/* The timer that a CPU took from its queue last. */
struct taken {
	__u64 timer;
	struct armed armed;
};

CPU_PAIRS(begun, TIMER);
HISTOGRAM(times, MODES, 1);
/* By the address of the timer. Armed anew before it expires, the later time counts. */
HASH(timers, __u64, struct armed, PER_THREAD);
PERCPU_ARRAY(taken, struct taken, 1);
/* UNARMED: expired, but nobody saw it armed. DROPPED: no room in `timers`. */
COUNTERS(counts, IDLES, SOFT, UNARMED, DROPPED);

static __always_inline int count(enum mode mode, __u64 time)
{
	CUT(cut);
	histogram_add(cut, &times, mode, time);
	return 0;
}

static __always_inline int began(enum mode mode)
{
	cpu_pairs_begin(&begun, mode, bpf_ktime_get_ns());
	return 0;
}

static __always_inline int ended(enum mode mode)
{
	__u64 since = cpu_pairs_end(&begun, mode);
	__u64 time;

	if (since == IDLE)
		counters_add(&counts, IDLES, 1);
	if (since <= IDLE)
		return 0;
	time = bpf_ktime_get_ns() - since;
	return time < min_ns ? 0 : count(mode, time);
}

/* The ends come first: whose begin is seen, its end is seen too. */
ON_TRACEPOINT(preempt_on, preemptirq, preempt_enable)
{
	return ended(PREEMPT);
}

ON_TRACEPOINT(preempt_off, preemptirq, preempt_disable)
{
	return began(PREEMPT);
}

ON_TRACEPOINT(irq_on, preemptirq, irq_enable)
{
	return ended(IRQ);
}

ON_TRACEPOINT(irq_off, preemptirq, irq_disable)
{
	return began(IRQ);
}

SEC("kprobe/trace_preempt_on")
int preempt_on_kprobe(void *ctx)
{
	return ended(PREEMPT);
}

SEC("kprobe/trace_preempt_off")
int preempt_off_kprobe(void *ctx)
{
	return began(PREEMPT);
}

static __always_inline void idles(enum mode mode)
{
	__u64 *since = cpu_pairs_at(&begun, mode);

	if (since && *since)
		*since = IDLE;
}

/* An idle CPU keeps preemption off, and on some kernels interrupts. */
ON_TRACEPOINT(idle, power, cpu_idle, __u32, state)
{
	if (state == PWR_EVENT_EXIT)
		return 0;
	idles(PREEMPT);
	idles(IRQ);
	return 0;
}

/* Older kernels say hrtimer_cancel of a timer that expires, right before they say that it does. */
static __always_inline int cancelled(__u64 timer)
{
	struct armed *armed = bpf_map_lookup_elem(&timers, &timer);
	__u32 zero = 0;
	struct taken *last = bpf_map_lookup_elem(&taken, &zero);

	if (!armed || !last)
		return 0;
	last->timer = timer;
	last->armed = *armed;
	bpf_map_delete_elem(&timers, &timer);
	return 0;
}

/* What was armed, and is no longer. */
static __always_inline bool take(__u64 timer, struct armed *armed)
{
	struct armed *found = bpf_map_lookup_elem(&timers, &timer);
	__u32 zero = 0;
	struct taken *last;

	if (found) {
		*armed = *found;
		bpf_map_delete_elem(&timers, &timer);
		return true;
	}
	last = bpf_map_lookup_elem(&taken, &zero);
	if (!last || last->timer != timer)
		return false;
	last->timer = 0;
	*armed = last->armed;
	return true;
}

/* now: when the interrupt looked at its timers, by the clock of the timer's base. */
static __always_inline int expired(__u64 timer, __s64 now)
{
	struct armed armed;
	__u64 late, since;

	if (!take(timer, &armed)) {
		counters_add(&counts, UNARMED, 1);
		return 0;
	}
	if (armed.soft) {
		counters_add(&counts, SOFT, 1);
		return 0;
	}
	/* A timer that was set for the past is late since it was set. */
	since = bpf_ktime_get_ns() - armed.since;
	late = now > armed.expires ? now - armed.expires : 0;
	late = late < since ? late : since;
	return late < min_ns ? 0 : count(TIMER, late);
}

static __always_inline int start(__u64 timer, __s64 expires, __u32 mode)
{
	struct armed armed = {
		.expires = expires,
		.since = bpf_ktime_get_ns(),
		.soft = mode & HRTIMER_MODE_SOFT,
	};

	if (unity_update(&timers, &timer, &armed, BPF_ANY))
		counters_add(&counts, DROPPED, 1);
	return 0;
}

/* The time itself, or before 7.2 its address, which as a number is negative. */
ON_ARGUMENTS(expire, hrtimer_expire_entry, struct hrtimer *, timer, __s64, now)
{
	if (now < 0)
		bpf_probe_read_kernel(&now, sizeof(now), (const void *)now);
	return expired((__u64)timer, now);
}

ON_RECORD(expire, timer, hrtimer_expire_entry, __u64, hrtimer, __s64, now)
{
	return expired(hrtimer, now);
}

ON_TRACEPOINT(cancel, timer, hrtimer_cancel, __u64, hrtimer)
{
	return cancelled(hrtimer);
}

ON_ARGUMENTS(start, hrtimer_start, struct hrtimer *, timer, __u32, mode)
{
	return start((__u64)timer, READ(timer, node.expires), mode);
}

ON_RECORD(start, timer, hrtimer_start, __u64, hrtimer, __s64, expires, __u32, mode)
{
	return start(hrtimer, expires, mode);
}
