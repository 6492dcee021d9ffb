// SPDX-License-Identifier: MIT OR Apache-2.0
#include <vmlinux.h>
#include "unity.bpf.h"

COUNTERS(counts, FORKS);

SEC("raw_tp/sched_process_fork")
int on_fork(void *ctx)
{
	counters_add(&counts, FORKS, 1);
	return 0;
}
