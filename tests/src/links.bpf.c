// SPDX-License-Identifier: MIT OR Apache-2.0
/* Programs of which no section says where they attach. */
#include "unity.bpf.h"
#include <bpf/usdt.bpf.h>

COUNTERS(counts, CALLS, RETURNS, RETURNED, PROBES, PASSED, CONNECTS);
COUNTER_ARRAY(samples, 1024); /* by CPU */

SEC("uprobe") int called_uprobe(void *ctx)
{
	counters_add(&counts, CALLS, 1);
	return 0;
}

SEC("uretprobe") int called_uretprobe(struct pt_regs *ctx)
{
	counters_add(&counts, RETURNS, 1);
	counters_add(&counts, RETURNED, PT_REGS_RC(ctx));
	return 0;
}

SEC("usdt") int BPF_USDT(passed_usdt, __u64 number)
{
	counters_add(&counts, PROBES, 1);
	counters_add(&counts, PASSED, number);
	return 0;
}

SEC("perf_event") int sampled_perf(void *ctx)
{
	counters_add(&samples, bpf_get_smp_processor_id(), 1);
	return 0;
}

SEC("cgroup/connect4") int connected_cgroup(void *ctx)
{
	counters_add(&counts, CONNECTS, 1);
	return 1; /* allowed */
}
