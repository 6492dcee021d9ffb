// SPDX-License-Identifier: MIT OR Apache-2.0
/* One of two objects of one plugin: renamings by thread. */
#include "unity.bpf.h"

const volatile __u32 tester = 0;

TABLE(renames, __u32, __u64, 64);

SEC("raw_tp/task_rename") int renamed_raw(void *ctx)
{
	CUT(cut);
	__u64 id = bpf_get_current_pid_tgid();
	__u32 thread = id;

	if (id >> 32 == tester)
		table_add(cut, &renames, &thread, 1);
	return 0;
}
