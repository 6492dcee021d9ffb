// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Every deletion of a file, from its begin to its end in the same thread.
 *
 * A function's struct filename is given back before the function returns, so the name is read at its
 * begin. A system call's name is read at its end: before the kernel itself has read it, it may lie in a
 * page that is not in memory, where a program cannot fetch it.
 */
#include "unity.bpf.h"
#include "unity/syscall_regs.h"
#include "filter.bpf.h"
#include "kernel/file.h"

/* The kernel's own errors (include/linux/errno.h) end before this. */
#define ERRNOS	  532
#define MAX_ERRNO 4095

const volatile bool events = false;
const volatile bool by_comm = false;
const volatile __u64 min_duration_ns = 0;

struct calls {
	__u64 count;
	__u64 failed;
	__u64 sum_ns;
};

struct event {
	__u64 ktime_ns;
	__u64 duration_ns;
	__u64 caller_path; /* where to read it at the end; 0: it was read */
	__u32 pid;
	__s32 result;
	char comm[16];
	char path[256];
};

COUNTERS(counts, DELETED);
COUNTER_ARRAY(errnos, ERRNOS);
HISTOGRAM(durations, 1, 1000);
TABLE(comms, struct comm, struct calls, 4096);
/* When each thread's call began. 0: it deletes no file. */
PAIRS(begun, __u32, __u64, PER_THREAD);
PAIRS(named, __u32, struct event, 1024);
EVENTS(events_ring, struct event, 256 * 1024);

static __always_inline int begin(const char *path, bool of_caller, __u64 now)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct event event = {};

	if (!filter_current() || !pairs_begin(&begun, &tid, &now) || !events || !now)
		return 0;
	if (of_caller)
		event.caller_path = (__u64)path;
	else if (path)
		bpf_probe_read_kernel_str(event.path, sizeof(event.path), path);
	pairs_begin(&named, &tid, &event);
	return 0;
}

/* The name is an error where the caller's pointer or text was none. */
static __always_inline int begin_function(struct filename *name)
{
	bool is_error = (__u64)name >= (__u64)-MAX_ERRNO;

	return begin(is_error ? NULL : BPF_CORE_READ(name, name), false, bpf_ktime_get_ns());
}

/* With AT_REMOVEDIR it is an rmdir(), and any other flag is refused: the functions see neither. */
static __always_inline int begin_call(const char *path, int flag)
{
	return begin(path, true, flag ? 0 : bpf_ktime_get_ns());
}

static __always_inline void emit(void *ctx, __u32 *tid, int result, __u64 since, __u64 now)
{
	struct event *event = bpf_map_lookup_elem(&named, tid);

	if (!event)
		return;
	event->ktime_ns = now;
	event->duration_ns = now - since;
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->result = result;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	if (event->caller_path)
		bpf_probe_read_user_str(event->path, sizeof(event->path),
					(void *)event->caller_path);
	if (event->duration_ns >= min_duration_ns)
		events_emit(ctx, &events_ring, event);
	bpf_map_delete_elem(&named, tid);
}

static __always_inline void count(int result, __u64 time)
{
	CUT(cut);
	struct comm comm = current_comm();
	struct calls *calls = by_comm ? table_at(cut, &comms, &comm) : NULL;

	histogram_add(cut, &durations, 0, time);
	if (result < 0)
		counters_add(&errnos, -result, 1);
	else
		counters_add(&counts, DELETED, 1);
	if (!calls)
		return;
	__sync_fetch_and_add(&calls->count, 1);
	__sync_fetch_and_add(&calls->sum_ns, time);
	if (result < 0)
		__sync_fetch_and_add(&calls->failed, 1);
}

/* The functions return an int or a long, by version: an error is one in the int. */
static __always_inline int end(void *ctx, int result)
{
	__u32 tid = bpf_get_current_pid_tgid();
	__u64 since = 0, now = bpf_ktime_get_ns();

	if (!filter_current() || !pairs_end(&begun, &tid, &since) || !since)
		return 0;
	count(result, now - since);
	if (events)
		emit(ctx, &tid, result, since, now);
	return 0;
}

/* Each end is attached before its begin. */
#define ON_DELETION(function, variant)                                                             \
	SEC("fexit/" #function) int del_fexit##variant(__u64 *ctx)                                 \
	{                                                                                          \
		return end(ctx, ctx[2]);                                                           \
	}                                                                                          \
	SEC("fentry/" #function) int del_fentry##variant(__u64 *ctx)                               \
	{                                                                                          \
		return begin_function((void *)ctx[1]);                                             \
	}                                                                                          \
	SEC("kretprobe/" #function) int del_kretprobe##variant(struct pt_regs *ctx)                \
	{                                                                                          \
		return end(ctx, PT_REGS_RC(ctx));                                                  \
	}                                                                                          \
	SEC("kprobe/" #function) int del_kprobe##variant(struct pt_regs *ctx)                      \
	{                                                                                          \
		return begin_function((void *)PT_REGS_PARM2(ctx));                                 \
	}

ON_DELETION(do_unlinkat, )
ON_DELETION(filename_unlinkat, _7) /* its name since 7.0 */

ON_SYSCALL_EXIT(plain_exit, unlink)
{
	return end(ctx, ret);
}

ON_SYSCALL_ENTER(plain_enter, unlink, const char *, pathname)
{
	return begin_call(pathname, 0);
}

ON_SYSCALL_EXIT(at_exit, unlinkat)
{
	return end(ctx, ret);
}

ON_SYSCALL_ENTER(at_enter, unlinkat, int, dfd, const char *, pathname, int, flag)
{
	return begin_call(pathname, flag);
}

static __always_inline bool is_deletion(const struct pt_regs *regs, int number)
{
	return (number == SYSCALL_UNLINK || number == SYSCALL_UNLINKAT) && !syscall_is_32bit(regs);
}

SEC("raw_tp/sys_exit") int sys_exit_raw(__u64 *ctx)
{
	const struct pt_regs *regs = (void *)ctx[0];

	return is_deletion(regs, syscall_number(regs)) ? end(ctx, ctx[1]) : 0;
}

SEC("raw_tp/sys_enter") int sys_enter_raw(__u64 *ctx)
{
	const struct pt_regs *regs = (void *)ctx[0];

	if (!is_deletion(regs, ctx[1]))
		return 0;
	if ((int)ctx[1] == SYSCALL_UNLINK)
		return begin_call((void *)syscall_argument(regs, 0), 0);
	return begin_call((void *)syscall_argument(regs, 1), syscall_argument(regs, 2));
}
