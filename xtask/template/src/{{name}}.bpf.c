// SPDX-License-Identifier: MIT OR Apache-2.0
#include "unity.bpf.h"

COUNTERS(counts, FORKS);

ON_TRACEPOINT(fork, sched, sched_process_fork)
{
	counters_add(&counts, FORKS, 1);
	return 0;
}
