/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef PERF_EVENTS_H
#define PERF_EVENTS_H

struct data_t {
	unsigned int pid;
	unsigned int cpu;
	unsigned long ns;
	char comm[16];
};

#ifndef __VMLINUX_H__
#include "../plugin_head.h"
#endif

#endif
