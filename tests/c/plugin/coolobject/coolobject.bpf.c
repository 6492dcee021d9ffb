// SPDX-License-Identifier: MIT OR Apache-2.0
#include <vmlinux.h>
#include <coolbpf.h>

const volatile __u32 process = 0;

BPF_PERF_OUTPUT(perf, 1024);
BPF_PERCPU_ARRAY(calls, u64, 1);

SEC("raw_tp/sys_enter")
int sys_enter(struct bpf_raw_tracepoint_args *ctx)
{
	int key = 0;
	u64 *value = bpf_map_lookup_elem(&calls, &key), time = ns();

	if (!value || pid() != process || ctx->args[1] != 110)
		return 0;
	__sync_fetch_and_add(value, 1);
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &time, sizeof(time));
	return 0;
}
