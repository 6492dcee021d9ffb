/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Interrupts.
 *
 * Checked against the BTF of Linux 5.10, 6.1, 6.12, 6.18 and 7.2 (tests/tests/kernel_headers.rs).
 */
#ifndef __UNITY_KERNEL_IRQ_H
#define __UNITY_KERNEL_IRQ_H

#include "types.h"
#include "trace.h"

#ifndef UNITY_FULL_VMLINUX

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#endif

struct irqaction {
	unsigned int irq;
	const char *name;
	struct irqaction *next; /* others on a shared line */
};

/* What a handler returned: the `ret` of irq_handler_exit. */
enum irqreturn {
	IRQ_NONE = 0, /* another device's */
	IRQ_HANDLED = 1,
	IRQ_WAKE_THREAD = 2,
};

/* The `vec` of softirq_entry and softirq_exit. */
enum {
	HI_SOFTIRQ = 0,
	TIMER_SOFTIRQ = 1,
	NET_TX_SOFTIRQ = 2,
	NET_RX_SOFTIRQ = 3,
	BLOCK_SOFTIRQ = 4,
	IRQ_POLL_SOFTIRQ = 5,
	TASKLET_SOFTIRQ = 6,
	SCHED_SOFTIRQ = 7,
	HRTIMER_SOFTIRQ = 8,
	RCU_SOFTIRQ = 9,
	NR_SOFTIRQS = 10,
};

struct trace_event_raw_irq_handler_entry {
	struct trace_entry ent;
	int irq;
	u32 __data_loc_name; /* offset of the text in the low 16 bits, length in the high ones */
};

struct trace_event_raw_irq_handler_exit {
	struct trace_entry ent;
	int irq;
	int ret;
};

struct trace_event_raw_softirq {
	struct trace_entry ent;
	unsigned int vec;
};

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* UNITY_FULL_VMLINUX */

#endif
