/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * For unity's plugins about late scheduling (unity_nosched, unity_irqoff), whose sources include this name:
 * sysAK keeps it elsewhere. The BPF program sends the event, user space keeps the summary.
 */
#ifndef UNITY_SCHED_JIT_H
#define UNITY_SCHED_JIT_H

#ifndef __bpf__
#include <linux/types.h>
#endif

#ifndef TASK_COMM_LEN
#define TASK_COMM_LEN 16
#endif

/* One delay, without padding. */
struct event {
	__u64 stamp;
	__u64 enter;
	__u64 exit;
	__u64 delay;
	__u32 cpu;
	__u32 pid;
	__u32 ret; /* the id of a stack */
	__u32 unused;
	char comm[TASK_COMM_LEN];
};

/* Delays, and how many of them were below these lengths, or above the last one. */
struct sched_jit_summary {
	unsigned long num;
	__u64 total;
	unsigned long less10ms;
	unsigned long less50ms;
	unsigned long less100ms;
	unsigned long less500ms;
	unsigned long less1s;
	unsigned long plus1s;
};

#endif
