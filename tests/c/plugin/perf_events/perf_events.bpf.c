// SPDX-License-Identifier: MIT OR Apache-2.0
#include <vmlinux.h>
#include <coolbpf.h>
#include "perf_events.h"

BPF_PERF_OUTPUT(perf, 1024);
BPF_ARRAY(process, u32, 1);

SEC("raw_tracepoint/sys_enter")
int sys_enter(struct bpf_raw_tracepoint_args *ctx)
{
	struct data_t data = {};
	int key = 0;
	u32 *wanted = bpf_map_lookup_elem(&process, &key);

	if (!wanted || *wanted != pid() || ctx->args[1] != 110) /* getppid */
		return 0;
	data.pid = pid();
	data.cpu = cpu();
	data.ns = ns();
	comm(data.comm);
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &data, sizeof(data));
	return 0;
}
