// SPDX-License-Identifier: MIT OR Apache-2.0
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Proprietary";

SEC("raw_tp/sys_enter") int on_enter(void *ctx)
{
	bpf_printk("for the GPL only");
	return 0;
}
