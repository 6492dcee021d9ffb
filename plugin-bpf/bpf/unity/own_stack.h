/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * OWN_STACK(ctx): for programs of uprobes, uretprobes and USDT with more than 64 bytes on their stack.
 * Include it after unity.bpf.h, and call it first in the program.
 *
 * Since Linux 6.13 such a program's stack is memory of the CPU ("private stack", e00931c02568 "bpf: Enable
 * private stack for eligible subprogs"), which is sound for programs that the kernel does not run anew on a
 * CPU before they ended. Those of uprobes it does, where it preempts programs: the next thread's run
 * overwrites what the first one had there (seen on 7.2: sizes and addresses of another thread's call). A
 * program with a tail call keeps its variables on the thread's own stack; that the call is never made, the
 * verifier knows from the constant, and leaves it out.
 */
#ifndef __UNITY_OWN_STACK_H
#define __UNITY_OWN_STACK_H

const volatile __u32 unity_never SEC(".rodata.unity_never") = 0;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} unity_tails SEC(".maps");

#define OWN_STACK(ctx)                                                                             \
	do {                                                                                       \
		if (unity_never)                                                                   \
			bpf_tail_call(ctx, &unity_tails, 0);                                       \
	} while (0)

#endif
