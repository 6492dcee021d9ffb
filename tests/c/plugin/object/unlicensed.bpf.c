// SPDX-License-Identifier: MIT OR Apache-2.0
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>

SEC("raw_tp/sys_enter") int on_enter(void *ctx)
{
	return 0;
}
