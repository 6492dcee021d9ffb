// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A line is what readline() returns to bash. readline_internal_teardown() returns it first, also in a shell
 * that waited in readline() already when the tool came; not every build calls it as a function, and readline()
 * may say at once that the input has ended. So both are probed, and a line is counted by the first that returns it.
 */
#include "unity.bpf.h"
#include "unity/own_stack.h"
#include "filter.bpf.h"
#include "named.bpf.h"
#include "kernel/file.h"
#include "kernel/mm.h"

#define TEXT 1024 /* with a NUL */

const volatile bool by_uid = false;
const volatile bool texts = false;

struct entered {
	__u64 commands;
	__u64 empty;
	__u64 eofs;
};

struct event {
	__u64 ktime_ns;
	__u32 pid;
	__u32 uid;
	__u32 is_truncated;
	__u32 unused;
	char text[TEXT];
};

COUNTERS(counts, COMMANDS, EMPTY, EOFS, UNREAD);
TABLE(shells, __u32, __u64, 1024);
TABLE(uids, __u32, struct entered, 1024);
EVENTS(typed, struct event, 256 * 1024);
SCRATCH(typed);
/* Threads whose line readline_internal_teardown() has returned, and readline() has not. */
LRU_HASH(returned, __u32, __u8, 1024);

static __always_inline void emit(void *ctx, const char *text)
{
	struct event *event = scratch_take(&typed);
	char next = 0;
	long len;

	if (!event)
		return;
	event->ktime_ns = bpf_ktime_get_ns();
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->uid = bpf_get_current_uid_gid();
	len = bpf_probe_read_user_str(event->text, TEXT, text);
	if (len < 0)
		len = 0;
	if (len == TEXT)
		bpf_probe_read_user(&next, sizeof(next), text + TEXT - 1);
	event->is_truncated = next != 0;
	events_emit_part(ctx, &typed, event, offsetof(struct event, text) + len);
	scratch_give(&typed, event);
}

static __always_inline int entered(void *ctx, const char *text)
{
	CUT(cut);
	__u32 process = bpf_get_current_pid_tgid() >> 32, uid = bpf_get_current_uid_gid();
	struct entered *entered;
	char first = 0;

	if (!filter_current())
		return 0;
	if (text && bpf_probe_read_user(&first, sizeof(first), text)) {
		counters_add(&counts, UNREAD, 1);
		return 0;
	}
	table_add(cut, &shells, &process, 1);
	counters_add(&counts, !text ? EOFS : first ? COMMANDS : EMPTY, 1);
	entered = by_uid ? table_at(cut, &uids, &uid) : NULL;
	if (entered)
		__sync_fetch_and_add(!text   ? &entered->eofs
				     : first ? &entered->commands
					     : &entered->empty,
				     1);
	if (texts && first)
		emit(ctx, text);
	return 0;
}

static __always_inline int torn_down(struct pt_regs *ctx)
{
	__u32 thread = bpf_get_current_pid_tgid();
	__u8 one = 1;

	unity_update(&returned, &thread, &one, BPF_ANY);
	return entered(ctx, (void *)PT_REGS_RC(ctx));
}

static __always_inline int line_read(struct pt_regs *ctx)
{
	__u32 thread = bpf_get_current_pid_tgid();

	if (!(int)bpf_map_delete_elem(&returned, &thread))
		return 0;
	return entered(ctx, (void *)PT_REGS_RC(ctx));
}

SEC("uretprobe") int torn_uretprobe(struct pt_regs *ctx)
{
	OWN_STACK(ctx);
	return torn_down(ctx);
}

SEC("uretprobe") int line_uretprobe(struct pt_regs *ctx)
{
	OWN_STACK(ctx);
	return line_read(ctx);
}

/*
 * Many programs read lines by the library. Which one runs is told by its file; without the kernel's BTF by its
 * name, which it may change.
 */
static __always_inline bool is_bash(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct comm comm = current_comm();

	if (bpf_core_field_exists(task->mm))
		comm = comm_at(BPF_CORE_READ(task, mm, exe_file, f_path.dentry, d_name.name));
	return comm_is(comm, "bash");
}

SEC("uretprobe") int torn_lib_uretprobe(struct pt_regs *ctx)
{
	OWN_STACK(ctx);
	return is_bash() ? torn_down(ctx) : 0;
}

SEC("uretprobe") int line_lib_uretprobe(struct pt_regs *ctx)
{
	OWN_STACK(ctx);
	return is_bash() ? line_read(ctx) : 0;
}

/* By links too: where sh is bash. */
ON_NAMED(named)
{
	return comm_is(comm, "bash") || comm_is(comm, "sh") || comm_is(comm, "rbash");
}
