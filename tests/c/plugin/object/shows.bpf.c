// SPDX-License-Identifier: MIT OR Apache-2.0
/* Several programs and maps in one object, without a skeleton. */
#include <vmlinux.h>
#include <coolbpf.h>

BPF_ARRAY(enters, u64, 1);
BPF_HASH(exits, u32, u64, 64);
BPF_ARRAY(process, u32, 1);

static __always_inline bool is_wanted(void)
{
	int key = 0;
	u32 *wanted = bpf_map_lookup_elem(&process, &key);

	return wanted && *wanted == pid();
}

SEC("raw_tp/sys_enter") int on_enter(struct bpf_raw_tracepoint_args *ctx)
{
	if (is_wanted() && ctx->args[1] == 110)
		incr_hist(&enters, 0);
	return 0;
}

SEC("raw_tp/sys_exit") int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
	u32 key = tid() & 31;
	u64 zero = 0;

	if (!is_wanted() || BPF_CORE_READ((struct pt_regs *)ctx->args[0], orig_ax) != 110)
		return 0;
	bpf_map_update_elem(&exits, &key, &zero, BPF_NOEXIST);
	add_hist(&exits, key, 1);
	return 0;
}
