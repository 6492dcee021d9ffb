/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * High-resolution timers.
 *
 * Checked against the BTF of Linux 5.10, 6.1, 6.12, 6.18 and 7.2 (tests/tests/kernel_headers.rs).
 */
#ifndef __UNITY_KERNEL_TIMER_H
#define __UNITY_KERNEL_TIMER_H

#include "types.h"

#ifndef UNITY_FULL_VMLINUX

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#endif

typedef s64 ktime_t;

struct timerqueue_node {
	ktime_t expires; /* the latest time that it was set for, by the clock of its base */
};

struct hrtimer {
	struct timerqueue_node node;
};

/* Bits of the `mode` of hrtimer_start. */
enum hrtimer_mode {
	HRTIMER_MODE_SOFT = 4, /* expires in a soft interrupt */
};

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* UNITY_FULL_VMLINUX */

#endif
