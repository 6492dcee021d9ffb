// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A clock interrupts each CPU, and whoever runs there is counted, once, in one row: with the stack that
 * leads to it, in the kernel and in the process. A row that is new tells user space to read the process's
 * maps while it lives.
 */
#include "unity.bpf.h"
#include "filter.bpf.h"

const volatile bool by_cgroup = false;
const volatile bool user_stacks = true;
const volatile bool kernel_stacks = true;
/* Stacks of the idle CPU, which otherwise has one row. */
const volatile bool idle_stacks = false;

struct sampled {
	struct comm comm;
	__u64 user; /* ids of stacks */
	__u64 kernel;
	__u64 cgroup;
	__u32 tgid; /* 0: idle */
	__u32 unused;
};

struct sum {
	__u64 samples;
	__u64 kernel; /* of these: in the kernel */
	__u64 since;  /* the first one */
};

struct sighting {
	__u32 tgid;
	__u32 unused;
	__u64 address;
};

TABLE(samples, struct sampled, struct sum, 1024);
STACKS(stacks, 1024);
/* When a process last executed another program. */
TABLE(execs, __u32, __u64, 1024);
QUEUE(sightings, struct sighting, 256);

/* Pushes the oldest one out, if need be. */
static __always_inline void saw(void *ctx, __u32 tgid)
{
	struct sighting seen = {.tgid = tgid};

	if (bpf_get_stack(ctx, &seen.address, sizeof(seen.address), BPF_F_USER_STACK) > 0)
		bpf_map_push_elem(&sightings, &seen, BPF_EXIST);
}

SEC("perf_event")
int sample_perf(void *ctx)
{
	struct sampled who = {.tgid = bpf_get_current_pid_tgid() >> 32};
	bool idle = !who.tgid, in_kernel;
	struct sum *sum;
	__u64 address;

	if (!filter_current())
		return 0;
	CUT(cut);
	/* A stack of the kernel begins where it was interrupted, and only if that was in the kernel. */
	in_kernel = bpf_get_stack(ctx, &address, sizeof(address), 0) > 0;
	if (!idle || idle_stacks) {
		who.comm = current_comm();
		if (by_cgroup)
			who.cgroup = bpf_get_current_cgroup_id();
		if (kernel_stacks && in_kernel)
			who.kernel = stacks_add(cut, ctx, &stacks, 0);
		if (user_stacks && !idle)
			who.user = stacks_add(cut, ctx, &stacks, BPF_F_USER_STACK);
	}
	sum = table_at(cut, &samples, &who);
	if (!sum)
		return 0;
	if (!sum->since) {
		sum->since = bpf_ktime_get_ns();
		if (user_stacks && who.user)
			saw(ctx, who.tgid);
	}
	__sync_fetch_and_add(&sum->samples, 1);
	if (in_kernel)
		__sync_fetch_and_add(&sum->kernel, 1);
	return 0;
}

/* What was sampled before it has addresses of another program. */
ON_TASK(exec, sched, sched_process_exec, tid)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	__u64 *last;
	CUT(cut);

	last = table_at(cut, &execs, &tgid);
	if (last)
		*last = bpf_ktime_get_ns();
	return 0;
}
