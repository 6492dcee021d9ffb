/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The functions of an allocator, in a process: an entry knows the size, and the return the address. Each
 * has programs for two mechanisms: `session` asks at the entry whether the return is wanted, so that the
 * trap of a return costs only the calls that are tracked; uprobe and uretprobe trap at both.
 */

/* realloc(), memalign() and their kin call malloc() and free(); those inner calls are parts of them. */
#define OUTER true
#define INNER false

enum result {
	ADDRESS,
	STORED,	 /* an errno; the address lies where an argument points */
	MOVED,	 /* an address; the old block is gone, unless that failed */
	REMAPPED /* the same of a mapping */
};

/* Where a call has its return address; 0 for those that call others: a thread is in one of them. */
struct frame {
	__u64 sp;
	__u64 thread;
};

struct call {
	__u64 since;
	__u64 sp;
	__u64 size;
	__u64 old; /* or where the address is stored */
	__u32 result;
	__u32 is_chosen;
};

PAIRS(calls, struct frame, struct call, 4096);

/* What user space knows of the program that the process executes. */
struct image {
	__u64 executed;	 /* when it replaced another one; 0: not seen */
	__u64 allocator; /* text of the object that defines malloc() */
	__u64 allocator_len;
	__u64 libc; /* and of that which defines mmap() */
	__u64 libc_len;
	__u64 trampoline; /* what the kernel puts in place of a return address; 0: not known yet */
};
BPF_MAP(images, BPF_MAP_TYPE_ARRAY, __u32, struct image, 1);

const volatile __u32 process = 0;

#define SECOND 1000000000ULL

/* A return pops the address that the call pushed. */
#ifdef __TARGET_ARCH_x86
#define POPPED 8
#else
#define POPPED 0
#endif

/* Whether a longjmp has left a call: its caller's frame is gone, or its return address is another one's. */
static __always_inline bool is_left(struct pt_regs *ctx, struct call *call)
{
	if (PT_REGS_SP(ctx) > call->sp || bpf_ktime_get_ns() - call->since > SECOND)
		return true;
#ifdef __TARGET_ARCH_x86
	__u32 zero = 0;
	struct image *image = bpf_map_lookup_elem(&images, &zero);
	__u64 address = 0;

	if (!image || !image->trampoline)
		return false;
	bpf_probe_read_user(&address, sizeof(address), (void *)call->sp);
	return address != image->trampoline;
#else
	return false;
#endif
}

/* Whether a call is made by one that is counted. */
static __always_inline bool is_part(struct pt_regs *ctx, __u64 thread)
{
	struct frame frame = {.thread = thread};
	struct call *call = bpf_map_lookup_elem(&calls, &frame);

	if (!call)
		return false;
	if (is_left(ctx, call)) {
		pairs_died(&calls, &frame);
		return false;
	}
	counters_add(&counts, NESTED, 1);
	return true;
}

/* Gives 0 when the return is wanted. */
static __always_inline int begin(struct pt_regs *ctx, bool outer, struct call *call)
{
	struct frame frame = {.sp = outer ? 0 : PT_REGS_SP(ctx)};

	frame.thread = (__u32)bpf_get_current_pid_tgid();
	if (is_part(ctx, frame.thread))
		return 1;
	call->is_chosen = is_chosen(call->size);
	if (!outer && !call->is_chosen && call->result != REMAPPED)
		return 1;
	call->since = bpf_ktime_get_ns();
	call->sp = PT_REGS_SP(ctx);
	return !pairs_begin(&calls, &frame, call);
}

/* The old block of a call that moved it. What lies there since the call began is another thread's. */
static __always_inline void moved(struct call *call, __u64 result)
{
	struct place place = place_of(call->old);
	struct block *block = bpf_map_lookup_elem(&blocks, &place);

	if (block && block->since > call->since)
		return;
	/* realloc(old, 0) may have called free(), and who unmaps need not have mapped: only a match counts. */
	if (block || (call->result == MOVED && result))
		end_block(&place);
}

static __always_inline int end(struct pt_regs *ctx, bool outer)
{
	__u64 sp = PT_REGS_SP(ctx) - POPPED, result = PT_REGS_RC(ctx);
	struct frame frame = {.sp = outer ? 0 : sp};
	struct call call, *begun;

	frame.thread = (__u32)bpf_get_current_pid_tgid();
	begun = bpf_map_lookup_elem(&calls, &frame);
	if (!begun || begun->sp != sp || !pairs_end(&calls, &frame, &call))
		return 0;
	if (call.result == STORED &&
	    ((int)result || bpf_probe_read_user(&result, sizeof(result), (void *)call.old)))
		result = 0;
	if (result > -4096ULL) /* MAP_FAILED */
		result = 0;
	if (!result && (call.size || call.result != MOVED)) {
		counters_add(&counts, FAILED, 1);
		return 0;
	}
	if (call.old && (call.result == MOVED || call.result == REMAPPED))
		moved(&call, result);
	return result && call.is_chosen ? allocated(ctx, result, call.size, call.since) : 0;
}

/* Followed by a body that fills in `call`, and gives false where the call is not wanted. */
#define ON_CALL(hook, outer)                                                                       \
	static __always_inline bool hook##__call(struct pt_regs *ctx, struct call *call);          \
	SEC("uretprobe") int hook##_uretprobe(struct pt_regs *ctx)                                 \
	{                                                                                          \
		OWN_STACK(ctx);                                                                    \
		return end(ctx, outer);                                                            \
	}                                                                                          \
	SEC("uprobe") int hook##_uprobe(struct pt_regs *ctx)                                       \
	{                                                                                          \
		struct call call = {};                                                             \
                                                                                                   \
		OWN_STACK(ctx);                                                                    \
		if (hook##__call(ctx, &call))                                                      \
			begin(ctx, outer, &call);                                                  \
		return 0;                                                                          \
	}                                                                                          \
	SEC("uprobe.session") int hook##_session(struct pt_regs *ctx)                              \
	{                                                                                          \
		struct call call = {};                                                             \
                                                                                                   \
		OWN_STACK(ctx);                                                                    \
		if (PT_REGS_IP(ctx) != bpf_get_func_ip(ctx))                                       \
			return end(ctx, outer);                                                    \
		return hook##__call(ctx, &call) ? begin(ctx, outer, &call) : 1;                    \
	}                                                                                          \
	static __always_inline bool hook##__call(struct pt_regs *ctx, struct call *call)

/* The same for functions whose return tells nothing. */
#define ON_ENTRY(hook)                                                                             \
	static __always_inline void hook##__entry(struct pt_regs *ctx);                            \
	SEC("uprobe") int hook##_uprobe(struct pt_regs *ctx)                                       \
	{                                                                                          \
		OWN_STACK(ctx);                                                                    \
		hook##__entry(ctx);                                                                \
		return 0;                                                                          \
	}                                                                                          \
	SEC("uprobe.session") int hook##_session(struct pt_regs *ctx)                              \
	{                                                                                          \
		OWN_STACK(ctx);                                                                    \
		hook##__entry(ctx);                                                                \
		return 1;                                                                          \
	}                                                                                          \
	static __always_inline void hook##__entry(struct pt_regs *ctx)

ON_CALL(malloc, INNER)
{
	call->size = PT_REGS_PARM1(ctx);
	return true;
}

ON_CALL(calloc, INNER)
{
	__u64 n = PT_REGS_PARM1(ctx), size = PT_REGS_PARM2(ctx);

	call->size = n * size; /* one that overflows fails */
	return true;
}

ON_CALL(memalign, OUTER)
{
	call->size = PT_REGS_PARM2(ctx);
	return true;
}

ON_CALL(posix, OUTER)
{
	call->result = STORED;
	call->old = PT_REGS_PARM1(ctx);
	call->size = PT_REGS_PARM3(ctx);
	return true;
}

ON_CALL(realloc, OUTER)
{
	call->result = MOVED;
	call->old = PT_REGS_PARM1(ctx);
	call->size = PT_REGS_PARM2(ctx);
	return true;
}

ON_ENTRY(free)
{
	struct place place = place_of(PT_REGS_PARM1(ctx));

	if (place.address && !is_part(ctx, (__u32)bpf_get_current_pid_tgid()))
		end_block(&place);
}

/*
 * Whether the allocator itself maps, or the C library: what it maps is given out in blocks, or is a
 * thread's stack. Before user space knows where they lie after an exec, everything is theirs.
 */
static __always_inline bool is_internal(struct pt_regs *ctx)
{
	__u32 zero = 0;
	struct image *image = bpf_map_lookup_elem(&images, &zero);
	__u64 caller = 0;

	if (!image || !image->libc_len)
		return true;
#ifdef __TARGET_ARCH_x86
	bpf_probe_read_user(&caller, sizeof(caller), (void *)PT_REGS_SP(ctx));
#else
	caller = PT_REGS_RET(ctx);
#endif
	return caller - image->allocator < image->allocator_len ||
	       caller - image->libc < image->libc_len;
}

ON_CALL(mmap, INNER)
{
	call->size = PT_REGS_PARM2(ctx);
	return !is_internal(ctx);
}

ON_CALL(mremap, INNER)
{
	call->result = REMAPPED;
	call->old = PT_REGS_PARM1(ctx);
	call->size = PT_REGS_PARM3(ctx);
	return !is_internal(ctx);
}

/* A mapping ends with its first page. */
ON_ENTRY(munmap)
{
	struct place place = place_of(PT_REGS_PARM1(ctx));

	if (PT_REGS_PARM2(ctx) && !is_internal(ctx) && bpf_map_lookup_elem(&blocks, &place))
		end_block(&place);
}

/* The process executes another program: its memory is gone. */
SEC("raw_tp/sched_process_exec") int executed(void *ctx)
{
	struct image none = {.executed = bpf_ktime_get_ns()};
	__u32 zero = 0;

	if (bpf_get_current_pid_tgid() >> 32 == process)
		bpf_map_update_elem(&images, &zero, &none, BPF_ANY);
	return 0;
}
