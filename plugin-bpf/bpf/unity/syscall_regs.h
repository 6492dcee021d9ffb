/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a system call is asked, out of the registers of its thread: the first argument of
 * raw_tp/sys_enter and raw_tp/sys_exit, which run for every system call and need neither tracefs nor
 * CONFIG_FTRACE_SYSCALLS. Include it after unity.bpf.h.
 *
 *   syscall_number(regs)        SYSCALL_WRITE ..; of 32-bit calls it is one of another table
 *   syscall_is_32bit(regs)      ask this too, when the number is the wanted one
 *   syscall_argument(regs, i)   from 0; the kernel leaves them there until the exit
 */
#ifndef __UNITY_SYSCALL_REGS_H
#define __UNITY_SYSCALL_REGS_H

static __always_inline __u64 unity_register(const struct pt_regs *regs, __u64 offset)
{
	__u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (const void *)regs + offset);
	return value;
}

#if defined(__TARGET_ARCH_x86)

#define SYSCALL_WRITE	 1
#define SYSCALL_UNLINK	 87
#define SYSCALL_UNLINKAT 263

#define UNITY_USER32_CS 0x23 /* __USER32_CS */
#define UNITY_TS_COMPAT 2    /* TS_COMPAT: this call is one of the 32-bit table */

struct task_struct___x86 {
	struct {
		__u32 status;
	} thread_info;
} __attribute__((preserve_access_index));

static __always_inline int syscall_number(const struct pt_regs *regs)
{
	return unity_register(regs, offsetof(struct pt_regs, orig_ax));
}

/*
 * A 64-bit program can make 32-bit calls too, by int $0x80. Without the kernel's BTF those are not
 * known from its others.
 */
static __always_inline bool syscall_is_32bit(const struct pt_regs *regs)
{
	struct task_struct___x86 *task = (void *)bpf_get_current_task();

	if (bpf_core_field_exists(task->thread_info.status))
		return BPF_CORE_READ(task, thread_info.status) & UNITY_TS_COMPAT;
	/* The upper bits may hold more (FRED). */
	return (__u16)unity_register(regs, offsetof(struct pt_regs, cs)) == UNITY_USER32_CS;
}

#define syscall_argument(regs, i)                                                                  \
	unity_register(regs, (i) == 0	? offsetof(struct pt_regs, di)                             \
			     : (i) == 1 ? offsetof(struct pt_regs, si)                             \
			     : (i) == 2 ? offsetof(struct pt_regs, dx)                             \
			     : (i) == 3 ? offsetof(struct pt_regs, r10)                            \
			     : (i) == 4 ? offsetof(struct pt_regs, r8)                             \
					: offsetof(struct pt_regs, r9))

#elif defined(__TARGET_ARCH_arm64)

#define SYSCALL_WRITE	 64
#define SYSCALL_UNLINK	 -2 /* there is none */
#define SYSCALL_UNLINKAT 35

#define UNITY_PSR_MODE32_BIT 0x10

static __always_inline int syscall_number(const struct pt_regs *regs)
{
	return unity_register(regs, offsetof(struct pt_regs, syscallno));
}

static __always_inline bool syscall_is_32bit(const struct pt_regs *regs)
{
	return unity_register(regs, offsetof(struct pt_regs, pstate)) & UNITY_PSR_MODE32_BIT;
}

#define syscall_argument(regs, i)                                                                  \
	unity_register(regs, (i) == 0 ? offsetof(struct pt_regs, orig_x0)                          \
				      : offsetof(struct pt_regs, regs) + 8 * (i))

#endif

#endif
