// SPDX-License-Identifier: MIT OR Apache-2.0
#include "unity.bpf.h"

COUNTERS(shows, 1);

SEC("fentry/netstat_seq_show") int BPF_PROG(shows_fentry)
{
	counters_add(&shows, 0, 1);
	return 0;
}

SEC("kprobe/netstat_seq_show") int BPF_KPROBE(shows_kprobe)
{
	counters_add(&shows, 0, 1);
	return 0;
}
