// SPDX-License-Identifier: MIT OR Apache-2.0
/* Programs that do nothing: what is left is the price of the kernel's traps. */
#include "unity.bpf.h"

SEC("uretprobe") int trapped_uretprobe(void *ctx)
{
	return 0;
}

SEC("uprobe") int trapped_uprobe(void *ctx)
{
	return 0;
}

/* No return is asked for. */
SEC("uprobe.session") int trapped_session(void *ctx)
{
	return 1;
}
