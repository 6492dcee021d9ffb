/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One hook, all its mechanisms. Each macro is followed by a body, as BPF_PROG is, and makes the
 * programs that call it:
 *
 *   ON_TRACEPOINT(hook, category, name, T, field, ..)   hook_btf, hook_raw, hook_tp
 *   ON_ARGUMENTS(hook, name, T, argument, ..)           hook_btf, hook_raw
 *   ON_RECORD(hook, category, name, T, field, ..)       hook_tp
 *   ON_RECORD_VARIANT(hook, variant, ..)                hook_tp_variant, for a record of some kernels
 *   ON_TASK(hook, category, name, tid)                  hook_btf, hook_raw, hook_tp
 *   ON_FUNCTION(hook, function, T, argument, ..)        hook_fentry, hook_kprobe
 *   ON_SYSCALL_ENTER(hook, name, T, argument, ..)       hook_tp
 *   ON_SYSCALL_EXIT(hook, name)                         hook_tp, whose body sees `long ret`
 *
 * ON_TRACEPOINT is for tracepoints whose arguments are the fields of their record, as irq and vec
 * are. Where arguments are pointers (tasks, sockets), write ON_ARGUMENTS, and ON_RECORD for kernels
 * without BTF. ON_TASK is for the many tracepoints whose first argument is a task and whose record has
 * its `pid`. The body sees `ctx`.
 *
 * Arguments of system calls have the names of the tracepoint's format file; a pointer is the caller's
 * (bpf_probe_read_user()). 32-bit callers and io_uring do not come by these tracepoints.
 */
#ifndef __UNITY_HOOKS_H
#define __UNITY_HOOKS_H

/*
 * A field of a pointer argument, in a body of ON_ARGUMENTS: a plain load under tp_btf, whose arguments
 * the verifier knows, and bpf_probe_read_kernel() under raw_tp.
 */
#define READ(pointer, field) (unity_btf ? (pointer)->field : BPF_CORE_READ(pointer, field))

/* ---- from pairs (T, a, U, b) to parameters and arguments, eight at most ---- */

#define unity_count(...)                                                                           \
	unity_count_(0, ##__VA_ARGS__, 8, 8, 7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0)
#define unity_count_(_0, _1, _2, _3, _4, _5, _6, _7, _8, _9, _a, _b, _c, _d, _e, _f, _g, n, ...) n

#define unity_params0(...)
#define unity_params1(T, a)	 , T a
#define unity_params2(T, a, ...) , T a unity_params1(__VA_ARGS__)
#define unity_params3(T, a, ...) , T a unity_params2(__VA_ARGS__)
#define unity_params4(T, a, ...) , T a unity_params3(__VA_ARGS__)
#define unity_params5(T, a, ...) , T a unity_params4(__VA_ARGS__)
#define unity_params6(T, a, ...) , T a unity_params5(__VA_ARGS__)
#define unity_params7(T, a, ...) , T a unity_params6(__VA_ARGS__)
#define unity_params8(T, a, ...) , T a unity_params7(__VA_ARGS__)
#define unity_params(...)	 unity_paste(unity_params, unity_count(__VA_ARGS__))(__VA_ARGS__)

/* The i-th word of a raw tracepoint's or fentry's context. */
#define unity_words0(i, ...)
#define unity_words1(i, T, a)	   , (T)((__u64 *)ctx)[i]
#define unity_words2(i, T, a, ...) , (T)((__u64 *)ctx)[i] unity_words1(i + 1, __VA_ARGS__)
#define unity_words3(i, T, a, ...) , (T)((__u64 *)ctx)[i] unity_words2(i + 1, __VA_ARGS__)
#define unity_words4(i, T, a, ...) , (T)((__u64 *)ctx)[i] unity_words3(i + 1, __VA_ARGS__)
#define unity_words5(i, T, a, ...) , (T)((__u64 *)ctx)[i] unity_words4(i + 1, __VA_ARGS__)
#define unity_words6(i, T, a, ...) , (T)((__u64 *)ctx)[i] unity_words5(i + 1, __VA_ARGS__)
#define unity_words7(i, T, a, ...) , (T)((__u64 *)ctx)[i] unity_words6(i + 1, __VA_ARGS__)
#define unity_words8(i, T, a, ...) , (T)((__u64 *)ctx)[i] unity_words7(i + 1, __VA_ARGS__)
#define unity_words(...)	   unity_paste(unity_words, unity_count(__VA_ARGS__))(0, ##__VA_ARGS__)

/* The parameters of a kprobed function. */
#define unity_regs(...) unity_paste(unity_regs_, unity_count(__VA_ARGS__))(__VA_ARGS__)
#define unity_regs_0(...)
#define unity_regs_1(T, a)	 , (T)PT_REGS_PARM1((struct pt_regs *)ctx)
#define unity_regs_2(T, a, U, b) unity_regs_1(T, a), (U)PT_REGS_PARM2((struct pt_regs *)ctx)
#define unity_regs_3(T, a, U, b, V, c)                                                             \
	unity_regs_2(T, a, U, b), (V)PT_REGS_PARM3((struct pt_regs *)ctx)
#define unity_regs_4(T, a, U, b, V, c, W, d)                                                       \
	unity_regs_3(T, a, U, b, V, c), (W)PT_REGS_PARM4((struct pt_regs *)ctx)
#define unity_regs_5(T, a, U, b, V, c, W, d, X, e)                                                 \
	unity_regs_4(T, a, U, b, V, c, W, d), (X)PT_REGS_PARM5((struct pt_regs *)ctx)

/* ---- fields of a tracepoint's record, found by name when the object is loaded ---- */

/*
 * One field that a tp program reads. The SDK fills the offset from the tracepoint's format file, and
 * only when that program is tried.
 */
struct unity_field {
	char program[48];
	char name[32];
	__u32 size; /* of the type that the program reads; 0: its address */
	__u32 offset;
	__u32 location; /* the record has, at the offset, where the field lies (__data_loc) */
	__u32 unused;
};

#define unity_is_address(T)	 __builtin_types_compatible_p(T, const char *)
#define unity_field_var(prog, i) unity_paste(prog, unity_paste(__field, i))

#define unity_declare(prog, i, T, a)                                                               \
	const volatile struct unity_field unity_field_var(prog, i) SEC(".rodata.unity_record") = { \
		.program = #prog,                                                                  \
		.name = #a,                                                                        \
		.size = unity_is_address(T) ? 0 : sizeof(T),                                       \
	};
#define unity_declare0(...)
#define unity_declare1(prog, i, T, a) unity_declare(prog, i, T, a)
#define unity_declare2(prog, i, T, a, ...)                                                         \
	unity_declare(prog, i, T, a) unity_declare1(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_declare3(prog, i, T, a, ...)                                                         \
	unity_declare(prog, i, T, a) unity_declare2(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_declare4(prog, i, T, a, ...)                                                         \
	unity_declare(prog, i, T, a) unity_declare3(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_declare5(prog, i, T, a, ...)                                                         \
	unity_declare(prog, i, T, a) unity_declare4(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_declare6(prog, i, T, a, ...)                                                         \
	unity_declare(prog, i, T, a) unity_declare5(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_declare7(prog, i, T, a, ...)                                                         \
	unity_declare(prog, i, T, a) unity_declare6(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_declare8(prog, i, T, a, ...)                                                         \
	unity_declare(prog, i, T, a) unity_declare7(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_declares(prog, ...)                                                                  \
	unity_paste(unity_declare, unity_count(__VA_ARGS__))(prog, 1, ##__VA_ARGS__)

static __always_inline const void *unity_locate(const void *ctx,
						const volatile struct unity_field *field)
{
	__u32 location = 0; /* offset in the low half, length in the high one */

	if (!field->location)
		return ctx + field->offset;
	bpf_probe_read_kernel(&location, sizeof(location), ctx + field->offset);
	return ctx + (location & 0xffff);
}

#define unity_read(prog, i, T, a)                                                                  \
	__builtin_choose_expr(                                                                     \
		unity_is_address(T), unity_locate(ctx, &unity_field_var(prog, i)), ({              \
			typeof(T) unity_value = (T)0;                                              \
			bpf_probe_read_kernel(&unity_value, sizeof(unity_value),                   \
					      ctx + unity_field_var(prog, i).offset);              \
			unity_value;                                                               \
		}))
#define unity_reads0(...)
#define unity_reads1(prog, i, T, a) , unity_read(prog, i, T, a)
#define unity_reads2(prog, i, T, a, ...)                                                           \
	, unity_read(prog, i, T, a) unity_reads1(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_reads3(prog, i, T, a, ...)                                                           \
	, unity_read(prog, i, T, a) unity_reads2(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_reads4(prog, i, T, a, ...)                                                           \
	, unity_read(prog, i, T, a) unity_reads3(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_reads5(prog, i, T, a, ...)                                                           \
	, unity_read(prog, i, T, a) unity_reads4(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_reads6(prog, i, T, a, ...)                                                           \
	, unity_read(prog, i, T, a) unity_reads5(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_reads7(prog, i, T, a, ...)                                                           \
	, unity_read(prog, i, T, a) unity_reads6(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_reads8(prog, i, T, a, ...)                                                           \
	, unity_read(prog, i, T, a) unity_reads7(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_reads(prog, ...)                                                                     \
	unity_paste(unity_reads, unity_count(__VA_ARGS__))(prog, 1, ##__VA_ARGS__)

/* ---- system calls: a word of the record for each argument, whatever its type ---- */

#define unity_word_declares(prog, ...)                                                             \
	unity_paste(unity_word_declare, unity_count(__VA_ARGS__))(prog, 1, ##__VA_ARGS__)
#define unity_word_declare0(...)
#define unity_word_declare1(prog, i, T, a) unity_declare(prog, i, __u64, a)
#define unity_word_declare2(prog, i, T, a, ...)                                                    \
	unity_declare(prog, i, __u64, a) unity_word_declare1(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_word_declare3(prog, i, T, a, ...)                                                    \
	unity_declare(prog, i, __u64, a) unity_word_declare2(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_word_declare4(prog, i, T, a, ...)                                                    \
	unity_declare(prog, i, __u64, a) unity_word_declare3(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_word_declare5(prog, i, T, a, ...)                                                    \
	unity_declare(prog, i, __u64, a) unity_word_declare4(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_word_declare6(prog, i, T, a, ...)                                                    \
	unity_declare(prog, i, __u64, a) unity_word_declare5(prog, unity_paste(i, 1), __VA_ARGS__)

/*
 * The verifier allows a load from the record only at an offset that stands in the instruction. It knows
 * field->offset, and so one of these is left: a load, where the kernel has the words as they are
 * everywhere, at 16, 24 ..
 */
static __always_inline __u64 unity_word(const void *ctx, const volatile struct unity_field *field)
{
	__u32 offset = field->offset;
	__u64 word = 0;

#define unity_word_at(at)                                                                          \
	if (offset == at) {                                                                        \
		asm volatile("%0 = *(u64 *)(%1 + " #at ")" : "=r"(word) : "r"(ctx));               \
		return word;                                                                       \
	}
	unity_word_at(16);
	unity_word_at(24);
	unity_word_at(32);
	unity_word_at(40);
	unity_word_at(48);
	unity_word_at(56);
#undef unity_word_at
	bpf_probe_read_kernel(&word, sizeof(word), ctx + offset);
	return word;
}

#define unity_word_reads(prog, ...)                                                                \
	unity_paste(unity_word_reads, unity_count(__VA_ARGS__))(prog, 1, ##__VA_ARGS__)
#define unity_word_read(prog, i, T) , (T)unity_word(ctx, &unity_field_var(prog, i))
#define unity_word_reads0(...)
#define unity_word_reads1(prog, i, T, a) unity_word_read(prog, i, T)
#define unity_word_reads2(prog, i, T, a, ...)                                                      \
	unity_word_read(prog, i, T) unity_word_reads1(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_word_reads3(prog, i, T, a, ...)                                                      \
	unity_word_read(prog, i, T) unity_word_reads2(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_word_reads4(prog, i, T, a, ...)                                                      \
	unity_word_read(prog, i, T) unity_word_reads3(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_word_reads5(prog, i, T, a, ...)                                                      \
	unity_word_read(prog, i, T) unity_word_reads4(prog, unity_paste(i, 1), __VA_ARGS__)
#define unity_word_reads6(prog, i, T, a, ...)                                                      \
	unity_word_read(prog, i, T) unity_word_reads5(prog, unity_paste(i, 1), __VA_ARGS__)

/* ---- the macros ---- */

#define ON_ARGUMENTS(hook, name, ...)                                                              \
	static __always_inline int hook##__arguments(                                              \
		void *ctx, const bool unity_btf unity_params(__VA_ARGS__));                        \
	SEC("tp_btf/" #name) int hook##_btf(void *ctx)                                             \
	{                                                                                          \
		return hook##__arguments(ctx, true unity_words(__VA_ARGS__));                      \
	}                                                                                          \
	SEC("raw_tp/" #name) int hook##_raw(void *ctx)                                             \
	{                                                                                          \
		return hook##__arguments(ctx, false unity_words(__VA_ARGS__));                     \
	}                                                                                          \
	static __always_inline int hook##__arguments(                                              \
		void *ctx, const bool unity_btf unity_params(__VA_ARGS__))

#define ON_RECORD(hook, category, name, ...) UNITY_RECORD(hook##_tp, category, name, __VA_ARGS__)
#define ON_RECORD_VARIANT(hook, variant, category, name, ...)                                      \
	UNITY_RECORD(hook##_tp_##variant, category, name, __VA_ARGS__)
#define UNITY_RECORD(program, category, name, ...)                                                 \
	static __always_inline int program##__record(void *ctx unity_params(__VA_ARGS__));         \
	unity_declares(program, __VA_ARGS__) SEC("tp/" #category "/" #name) int program(void *ctx) \
	{                                                                                          \
		return program##__record(ctx unity_reads(program, __VA_ARGS__));                   \
	}                                                                                          \
	static __always_inline int program##__record(void *ctx unity_params(__VA_ARGS__))

#define ON_TRACEPOINT(hook, category, name, ...)                                                   \
	static __always_inline int hook##__event(void *ctx unity_params(__VA_ARGS__));             \
	SEC("tp_btf/" #name) int hook##_btf(void *ctx)                                             \
	{                                                                                          \
		return hook##__event(ctx unity_words(__VA_ARGS__));                                \
	}                                                                                          \
	SEC("raw_tp/" #name) int hook##_raw(void *ctx)                                             \
	{                                                                                          \
		return hook##__event(ctx unity_words(__VA_ARGS__));                                \
	}                                                                                          \
	unity_declares(hook##_tp, __VA_ARGS__)                                                     \
		SEC("tp/" #category "/" #name) int hook##_tp(void *ctx)                            \
	{                                                                                          \
		return hook##__event(ctx unity_reads(hook##_tp, __VA_ARGS__));                     \
	}                                                                                          \
	static __always_inline int hook##__event(void *ctx unity_params(__VA_ARGS__))

#define ON_TASK(hook, category, name, tid)                                                         \
	static __always_inline int hook##__task(void *ctx, __u32 tid);                             \
	ON_ARGUMENTS(hook, name, struct task_struct *, task)                                       \
	{                                                                                          \
		return hook##__task(ctx, READ(task, pid));                                         \
	}                                                                                          \
	ON_RECORD(hook, category, name, __u32, pid)                                                \
	{                                                                                          \
		return hook##__task(ctx, pid);                                                     \
	}                                                                                          \
	static __always_inline int hook##__task(void *ctx, __u32 tid)

#define ON_FUNCTION(hook, function, ...)                                                           \
	static __always_inline int hook##__call(void *ctx unity_params(__VA_ARGS__));              \
	SEC("fentry/" #function) int hook##_fentry(void *ctx)                                      \
	{                                                                                          \
		return hook##__call(ctx unity_words(__VA_ARGS__));                                 \
	}                                                                                          \
	SEC("kprobe/" #function) int hook##_kprobe(void *ctx)                                      \
	{                                                                                          \
		return hook##__call(ctx unity_regs(__VA_ARGS__));                                  \
	}                                                                                          \
	static __always_inline int hook##__call(void *ctx unity_params(__VA_ARGS__))

#define ON_SYSCALL_ENTER(hook, name, ...) UNITY_SYSCALL(hook##_tp, sys_enter_##name, ##__VA_ARGS__)
#define ON_SYSCALL_EXIT(hook, name)	  UNITY_SYSCALL(hook##_tp, sys_exit_##name, long, ret)
#define UNITY_SYSCALL(program, name, ...)                                                          \
	static __always_inline int program##__syscall(void *ctx unity_params(__VA_ARGS__));        \
	unity_word_declares(program, ##__VA_ARGS__) SEC("tp/syscalls/" #name) int program(         \
		void *ctx)                                                                         \
	{                                                                                          \
		return program##__syscall(ctx unity_word_reads(program, ##__VA_ARGS__));           \
	}                                                                                          \
	static __always_inline int program##__syscall(void *ctx unity_params(__VA_ARGS__))

#endif
