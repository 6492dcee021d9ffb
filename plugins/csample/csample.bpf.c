// SPDX-License-Identifier: MIT OR Apache-2.0
#include <vmlinux.h>
#include <coolbpf.h>
#include "csample.h"

BPF_ARRAY(count, u64, 200);

SEC("kprobe/netstat_seq_show")
int BPF_KPROBE(netstat_seq_show)
{
	int key = CSAMPLE_SHOWS;
	u64 *value = bpf_map_lookup_elem(&count, &key);

	if (value)
		__sync_fetch_and_add(value, 1);
	return 0;
}
