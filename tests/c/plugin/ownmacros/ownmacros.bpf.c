// SPDX-License-Identifier: MIT OR Apache-2.0
/* Maps from before BTF beside newer ones, and a licence of its own. */
#include <vmlinux.h>
#include <coolbpf.h>
#include "ownmacros.h"

#define _(P)                                                                                       \
	({                                                                                         \
		typeof(P) val = 0;                                                                 \
		bpf_probe_read(&val, sizeof(val), &P);                                             \
		val;                                                                               \
	})

struct bpf_map_def SEC("maps") args_map = {
	.type = BPF_MAP_TYPE_HASH,
	.key_size = sizeof(int),
	.value_size = sizeof(u32),
	.max_entries = 1,
};

struct bpf_map_def SEC("maps") stackmap = {
	.type = BPF_MAP_TYPE_STACK_TRACE,
	.key_size = sizeof(u32),
	.value_size = 32 * sizeof(u64),
	.max_entries = 1000,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 64);
	__type(key, u64);
	__type(value, u64);
} info_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(u32));
} events SEC(".maps");

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("raw_tracepoint/sys_enter")
int sys_enter(struct bpf_raw_tracepoint_args *ctx)
{
	u64 cpuid = bpf_get_smp_processor_id(), one = 1, *n;
	struct event e = {};
	u32 *wanted;
	int key = 0;

	wanted = bpf_map_lookup_elem(&args_map, &key);
	if (!wanted || _(*wanted) != pid() || ctx->args[1] != 110) /* getppid */
		return 0;
	n = bpf_map_lookup_elem(&info_map, &cpuid);
	if (n)
		*n += 1;
	else
		bpf_map_update_elem(&info_map, &cpuid, &one, BPF_ANY);
	e.ns = ns();
	e.cpu = cpu();
	e.pid = pid();
	e.size = bpf_get_stackid(ctx, &stackmap, BPF_F_FAST_STACK_CMP);
	comm(e.comm);
	bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &e, sizeof(e));
	return 0;
}
