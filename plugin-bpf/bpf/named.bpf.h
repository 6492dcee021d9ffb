/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Processes that execute a program of a certain name, or give a thread such a name: plugin_bpf::Files
 * looks what they run. Include it after unity.bpf.h.
 *
 *   ON_NAMED(hook)        hook_raw, hook_tp
 *   comm_is(comm, text)   whether a struct comm is that text
 *
 * ON_NAMED is followed by a body that sees `comm`, the new name, and says whether it is one of those. An
 * exec gives the first 15 bytes of the file's name, of a script the script's.
 */
#ifndef __NAMED_BPF_H
#define __NAMED_BPF_H

/* Processes that user space has not looked at. When it is full all processes are looked at instead. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1024);
	__type(value, __u32);
} unity_named SEC(".maps");

#define unity_char(text, i) ((__u64)(__u8)((i) < sizeof(text) ? (text)[i] : 0) << 8 * ((i) % 8))
#define unity_word_of(text, i)                                                                     \
	(unity_char(text, i) | unity_char(text, i + 1) | unity_char(text, i + 2) |                 \
	 unity_char(text, i + 3) | unity_char(text, i + 4) | unity_char(text, i + 5) |             \
	 unity_char(text, i + 6) | unity_char(text, i + 7))

#define comm_is(comm, text)                                                                        \
	({                                                                                         \
		__u64 unity_name[2];                                                               \
		_Static_assert(sizeof(text) <= 16, "a comm has at most 15 bytes");                 \
		__builtin_memcpy(unity_name, &(comm), 16);                                         \
		unity_name[0] == unity_word_of(text, 0) &&                                         \
			unity_name[1] == unity_word_of(text, 8);                                   \
	})

#define ON_NAMED(hook)                                                                             \
	static __always_inline bool hook##__is_wanted(struct comm comm);                           \
	static __always_inline int hook##__named(struct comm comm)                                 \
	{                                                                                          \
		__u32 process = bpf_get_current_pid_tgid() >> 32;                                  \
                                                                                                   \
		if (hook##__is_wanted(comm))                                                       \
			bpf_map_push_elem(&unity_named, &process, 0);                              \
		return 0;                                                                          \
	}                                                                                          \
	SEC("raw_tp/task_rename") int hook##_raw(__u64 *ctx)                                       \
	{                                                                                          \
		return hook##__named(comm_at((void *)ctx[1]));                                     \
	}                                                                                          \
	ON_RECORD(hook, task, task_rename, const char *, newcomm)                                  \
	{                                                                                          \
		return hook##__named(comm_at(newcomm));                                            \
	}                                                                                          \
	static __always_inline bool hook##__is_wanted(struct comm comm)

#endif
