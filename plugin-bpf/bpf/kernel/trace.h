/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What all records of tracepoints begin with, and those of every system call.
 *
 * Checked against the BTF of Linux 5.10, 6.1, 6.12, 6.18 and 7.2 (tests/tests/kernel_headers.rs).
 */
#ifndef __UNITY_KERNEL_TRACE_H
#define __UNITY_KERNEL_TRACE_H

#include "types.h"

#ifndef UNITY_FULL_VMLINUX

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#endif

struct trace_entry {
	unsigned short type;
	unsigned char flags;
	unsigned char preempt_count;
	int pid;
};

struct trace_event_raw_sys_enter {
	struct trace_entry ent;
	long id;
	unsigned long args[6];
};

struct trace_event_raw_sys_exit {
	struct trace_entry ent;
	long id;
	long ret;
};

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* UNITY_FULL_VMLINUX */

#endif
