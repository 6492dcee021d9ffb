// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A call is counted when it returns: only then is the page of its path sure to be in memory. What it asked
 * for is an argument of do_sys_openat2(), by which all of the calls go (Linux 5.6), or still in the
 * registers of its thread (bpf_task_pt_regs(), 5.15). Else, and for the latency, entry and return are a
 * pair.
 */
#include "unity.bpf.h"
#include "filter.bpf.h"

/* include/uapi/asm-generic/fcntl.h */
#define O_ACCMODE     00000003
#define O_WRONLY      00000001
#define O_RDWR	      00000002
#define O_CREAT	      00000100
#define O_TRUNC	      00001000
#define O_LARGEFILE   00100000
#define O_PATH	      010000000
#define O_TMPFILE_BIT 020000000
#define CREAT_FLAGS   (O_CREAT | O_WRONLY | O_TRUNC)

/* Errors of user space are below 134, the kernel's own (ERESTARTSYS ..) from 512 to 531. */
#define ERRNOS 536

const volatile bool by_comm = false;
const volatile bool events = false;
const volatile bool latency = false;

/* What a call was asked. */
struct call {
	__u64 since; /* 0: the entry was not seen */
	__u64 path;
	__u64 flags; /* of openat2 at first the address of its struct open_how, which begins with them */
};

struct opens {
	__u64 opens;
	__u64 failed;
};

struct event {
	__u64 ktime_ns;
	__u64 flags;
	__u32 pid;
	__s32 result;	  /* a file descriptor, or a negative error */
	__u32 path_bytes; /* with the NUL; 0: it could not be read */
	char comm[16];
	char path[256];
};

COUNTER_ARRAY(results, ERRNOS);
COUNTERS(counts, FOR_WRITING, CREATING);
PAIRS(calls, __u32, struct call, PER_THREAD);
HISTOGRAM(times, 1, 1000);
TABLE(comms, struct comm, struct opens, 4096);
EVENTS(singles, struct event, 256 * 1024);
SCRATCH(singles);

static __always_inline void emit(void *ctx, long ret, const struct call *call)
{
	struct event *event = scratch_take(&singles);
	long bytes;

	if (!event)
		return;
	event->ktime_ns = bpf_ktime_get_ns();
	event->flags = call->flags;
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->result = ret;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bytes = bpf_probe_read_user_str(event->path, sizeof(event->path), (void *)call->path);
	/* Of an empty text some kernels say 0, rather than 1 (the NUL). */
	event->path_bytes = bytes > 0 ? bytes : !bytes;
	events_emit_part(ctx, &singles, event, offsetof(struct event, path) + event->path_bytes);
	scratch_give(&singles, event);
}

static __always_inline void count_halves(long ret, const struct call *call)
{
	CUT(cut);
	struct comm comm = current_comm();
	struct opens *opens = by_comm ? table_at(cut, &comms, &comm) : NULL;

	if (opens) {
		__sync_fetch_and_add(&opens->opens, 1);
		if (ret < 0)
			__sync_fetch_and_add(&opens->failed, 1);
	}
	if (latency && call->since)
		histogram_add(cut, &times, 0, bpf_ktime_get_ns() - call->since);
}

static __always_inline int count(void *ctx, long ret, const struct call *call)
{
	/* With O_PATH the kernel looks at no other of these. */
	__u64 flags = call->flags & O_PATH ? 0 : call->flags;

	counters_add(&results, ret < 0 ? -ret : 0, 1);
	if ((flags & O_ACCMODE) == O_WRONLY || (flags & O_ACCMODE) == O_RDWR)
		counters_add(&counts, FOR_WRITING, 1);
	if (flags & (O_CREAT | O_TMPFILE_BIT))
		counters_add(&counts, CREATING, 1);
	if (by_comm || latency)
		count_halves(ret, call);
	if (events)
		emit(ctx, ret, call);
	return 0;
}

/* The function adds a flag of its own for open, openat and creat. */
SEC("fexit/do_sys_openat2") int open_fexit(__u64 *ctx)
{
	struct call call = {.path = ctx[1]};

	if (!filter_current())
		return 0;
	bpf_probe_read_kernel(&call.flags, sizeof(call.flags), (void *)ctx[2]);
	call.flags &= ~(__u64)O_LARGEFILE;
	return count(ctx, (int)ctx[3], &call);
}

static __always_inline int returned(void *ctx, long ret, bool how, struct call *call)
{
	__u64 flags = (__u32)call->flags;

	if (how && bpf_probe_read_user(&flags, sizeof(flags), (void *)call->flags))
		flags = 0;
	call->flags = flags;
	return count(ctx, ret, call);
}

static __always_inline int entered(__u64 path, __u64 flags)
{
	struct call call = {.path = path, .flags = flags};
	__u32 tid = bpf_get_current_pid_tgid();

	if (!filter_current())
		return 0;
	call.since = bpf_ktime_get_ns();
	pairs_begin(&calls, &tid, &call);
	return 0;
}

static __always_inline int left(void *ctx, long ret, bool how)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct call call = {};

	if (!filter_current())
		return 0;
	/* Counted all the same when nobody saw it begin. */
	return returned(ctx, ret, pairs_end(&calls, &tid, &call) && how, &call);
}

/*
 * Of each argument: where the registers have it, and its name at the entry. The exit is attached first:
 * whose entry is seen, its return is seen too.
 */
#define ON_OPEN(name, has_how, path_parm, flags_parm, path_word, flags_word, ...)                  \
	ON_SYSCALL_EXIT(regs_##name, name)                                                         \
	{                                                                                          \
		struct pt_regs *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());       \
		struct call call = {.path = path_parm, .flags = flags_parm};                       \
                                                                                                   \
		return filter_current() ? returned(ctx, ret, has_how, &call) : 0;                  \
	}                                                                                          \
	ON_SYSCALL_EXIT(exit_##name, name)                                                         \
	{                                                                                          \
		return left(ctx, ret, has_how);                                                    \
	}                                                                                          \
	ON_SYSCALL_ENTER(enter_##name, name, __VA_ARGS__)                                          \
	{                                                                                          \
		return entered(path_word, flags_word);                                             \
	}

ON_OPEN(openat, false, PT_REGS_PARM2(regs), PT_REGS_PARM3(regs), filename, flags, __u64, filename,
	__u64, flags)
ON_OPEN(openat2, true, PT_REGS_PARM2(regs), PT_REGS_PARM3(regs), filename, how, __u64, filename,
	__u64, how)
ON_OPEN(open, false, PT_REGS_PARM1(regs), PT_REGS_PARM2(regs), filename, flags, __u64, filename,
	__u64, flags)
ON_OPEN(creat, false, PT_REGS_PARM1(regs), CREAT_FLAGS, pathname, CREAT_FLAGS, __u64, pathname)
