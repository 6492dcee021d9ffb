// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Hooks of which some ways cannot work, and what becomes of the others. Each counts thread renames or
 * forks of the test.
 */
#include "unity.bpf.h"

COUNTERS(seen, RENAMES, FORKS, GUESSES, NEVER);
TABLE(names, struct comm, __u64, 64);

const volatile __u32 tester = 0;

static __always_inline bool is_ours(void)
{
	return bpf_get_current_pid_tgid() >> 32 == tester;
}

/* Its record has no such field, on any kernel; its arguments are there. */
ON_ARGUMENTS(rename, task_rename, struct task_struct *, task)
{
	if (is_ours())
		counters_add(&seen, RENAMES, 1);
	return 0;
}

ON_RECORD(rename, task, task_rename, __u32, no_such_field)
{
	if (is_ours() && no_such_field != 1)
		counters_add(&seen, RENAMES, 1);
	return 0;
}

/* No kernel has this tracepoint for its first two ways. */
SEC("tp_btf/no_such_tracepoint") int fork_btf(void *ctx)
{
	counters_add(&seen, NEVER, 1);
	return 0;
}

SEC("raw_tp/no_such_tracepoint") int fork_raw(void *ctx)
{
	counters_add(&seen, NEVER, 1);
	return 0;
}

ON_RECORD(fork, task, task_newtask, __u32, pid)
{
	if (is_ours() && pid)
		counters_add(&seen, FORKS, 1);
	return 0;
}

/* No way of this one works. */
SEC("tp_btf/no_such_tracepoint") int guess_btf(void *ctx)
{
	counters_add(&seen, GUESSES, 1);
	return 0;
}

/* A record's field that is wider than what the program reads, and one that is narrower. */
ON_RECORD(narrow, task, task_newtask, __u64, pid)
{
	counters_add(&seen, NEVER, 1);
	return 0;
}

/* The same short name before different bytes. */
SEC("raw_tp/task_rename") int dirty_raw(void *ctx)
{
	CUT(cut);
	char dirty[16] = "ab";
	__u32 random = bpf_get_prandom_u32();
	struct comm comm;

	if (!is_ours())
		return 0;
	__builtin_memcpy(dirty + 3, &random, sizeof(random));
	comm = comm_at(dirty);
	table_add(cut, &names, &comm, 1);
	return 0;
}
