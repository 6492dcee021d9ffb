// SPDX-License-Identifier: MIT OR Apache-2.0
#include "unity.bpf.h"

COUNTERS(forks, 1);

SEC("tp_btf/sched_process_fork") int BPF_PROG(forks_btf)
{
	counters_add(&forks, 0, 1);
	return 0;
}

SEC("raw_tp/sched_process_fork") int BPF_PROG(forks_raw)
{
	counters_add(&forks, 0, 1);
	return 0;
}
