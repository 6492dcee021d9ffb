// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Every write() of a 64-bit program, at its end. What was asked for still stands in the thread's
 * registers then: only where a program cannot reach these does the begin note it.
 *
 * seccomp refuses a call before sys_enter_write, and sys_exit_write fires all the same.
 */
#include "unity.bpf.h"
#include "unity/syscall_regs.h"
#include "filter.bpf.h"

/*
 * What the kernel takes of one call, at most (MAX_RW_COUNT): nobody's wish makes a sum absurd, nor the result that
 * a program without rights gives its own call by seccomp (SECCOMP_RET_USER_NOTIF).
 */
#define MOST_BYTES 0x7ffff000ULL
/* The kernel's own errors (include/linux/errno.h) end before this. */
#define ERRNOS 532

const volatile bool by_comm = false;

struct writes {
	__u64 calls;
	__u64 failed;
	__u64 asked_bytes;
	__u64 written_bytes;
};

COUNTERS(counts, SUCCEEDED, PARTIAL, ASKED_BYTES, WRITTEN_BYTES);
COUNTER_ARRAY(errnos, ERRNOS);
TABLE(comms, struct comm, struct writes, 4096);
PAIRS(begun, __u32, __u64, PER_THREAD);

static __always_inline void count_comm(__s64 ret, __u64 asked)
{
	CUT(cut);
	struct comm comm = current_comm();
	struct writes *writes = table_at(cut, &comms, &comm);

	if (!writes)
		return;
	__sync_fetch_and_add(&writes->calls, 1);
	__sync_fetch_and_add(&writes->asked_bytes, asked);
	if (ret < 0)
		__sync_fetch_and_add(&writes->failed, 1);
	else
		__sync_fetch_and_add(&writes->written_bytes, ret);
}

static __always_inline int ended(__s64 ret, __u64 wish)
{
	__u64 asked = wish < MOST_BYTES ? wish : MOST_BYTES;

	if (ret > (__s64)MOST_BYTES)
		ret = MOST_BYTES;
	counters_add(&counts, ASKED_BYTES, asked);
	if (ret < 0) {
		counters_add(&errnos, -ret, 1);
	} else {
		counters_add(&counts, SUCCEEDED, 1);
		counters_add(&counts, WRITTEN_BYTES, ret);
		if (ret < wish)
			counters_add(&counts, PARTIAL, 1);
	}
	if (by_comm)
		count_comm(ret, asked);
	return 0;
}

/* With the kernel's BTF, since 5.15 (dd6e10fbd9fb "bpf: Add bpf_task_pt_regs() helper"). */
SEC("tp/syscalls/sys_exit_write") int exit_btf(void *ctx)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());

	return filter_current() ? ended(PT_REGS_RC(regs), PT_REGS_PARM3_SYSCALL(regs)) : 0;
}

ON_SYSCALL_EXIT(exit, write)
{
	__u32 tid = bpf_get_current_pid_tgid();
	__u64 wish = 0;

	if (!filter_current())
		return 0;
	/* Of a call whose begin was not seen only the result is known. */
	if (!pairs_end(&begun, &tid, &wish))
		wish = 0;
	return ended(ret, wish);
}

ON_SYSCALL_ENTER(enter, write, __u64, count)
{
	__u32 tid = bpf_get_current_pid_tgid();

	if (filter_current())
		pairs_begin(&begun, &tid, &count);
	return 0;
}

SEC("raw_tp/sys_exit") int exit_raw(__u64 *ctx)
{
	const struct pt_regs *regs = (void *)ctx[0];

	if (syscall_number(regs) != SYSCALL_WRITE || syscall_is_32bit(regs) || !filter_current())
		return 0;
	return ended(ctx[1], syscall_argument(regs, 2));
}
