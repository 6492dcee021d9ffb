// SPDX-License-Identifier: MIT OR Apache-2.0
/* The other one: the same renamings in a histogram. */
#include "unity.bpf.h"

const volatile __u32 tester = 0;

HISTOGRAM(renames, 1, 1);
TABLE(full, __u32, __u64, 1);

SEC("raw_tp/task_rename") int counted_raw(void *ctx)
{
	CUT(cut);
	__u64 id = bpf_get_current_pid_tgid();
	__u32 thread = id;

	if (id >> 32 != tester)
		return 0;
	histogram_add(cut, &renames, 0, 1);
	table_add(cut, &full, &thread, 1);
	return 0;
}
