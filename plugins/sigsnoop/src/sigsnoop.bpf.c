// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A signal is counted when it is generated, once for each process or thread that it is for. Whoever runs
 * then has sent it only when its code says that a process did: a timer's signal interrupts anybody.
 */
#include "unity.bpf.h"
#include "filter.bpf.h"

/* include/uapi/asm-generic/siginfo.h and signal.h */
#define SI_USER	 0
#define SI_QUEUE -1
#define SI_TKILL -6
#define SIGPIPE	 13
#define SIGXFSZ	 25

/* Signals have the numbers 1 to 64; results are enum trace_signal_result of the kernel. */
#define SIGNALS 65
#define RESULTS 5

const volatile bool by_comm = false;

struct kernel_siginfo {
	int si_code;
} __attribute__((preserve_access_index));

struct sent {
	__u64 sent;
	__u64 failed;
};

COUNTER_ARRAY(signals, SIGNALS * 2 * RESULTS);
TABLE(comms, struct comm, struct sent, 4096);

/* Whether a process sent it, by one of the kill and sigqueue calls. */
static __always_inline bool is_sent(int code)
{
	return code == SI_USER || code == SI_QUEUE || code == SI_TKILL;
}

static __always_inline void count_sender(bool failed)
{
	CUT(cut);
	struct comm comm = current_comm();
	struct sent *sent = table_at(cut, &comms, &comm);

	if (!sent)
		return;
	__sync_fetch_and_add(&sent->sent, 1);
	if (failed)
		__sync_fetch_and_add(&sent->failed, 1);
}

static __always_inline int generated(__u32 sig, bool user, __u32 result)
{
	__u32 i = (sig * 2 + user) * RESULTS + result;

	/* Unknown ones go past the end, where they are counted as lost. */
	counters_add(&signals, sig < SIGNALS && result < RESULTS ? i : -1, 1);
	if (by_comm && user)
		count_sender(result == 3);
	return 0;
}

/* For 0 and 1 as info (SEND_SIG_NOINFO, SEND_SIG_PRIV) the kernel itself is the sender. */
ON_ARGUMENTS(generate, signal_generate, __u32, sig, struct kernel_siginfo *, info,
	     struct task_struct *, task, int, group, __u32, result)
{
	bool user = (__u64)info > 1 && is_sent(BPF_CORE_READ(info, si_code));

	return filter_task(task) ? generated(sig, user, result) : 0;
}

/* Not knowing info: what a thread gets for its own write has the code of kill() too. */
ON_RECORD(generate, signal, signal_generate, __u32, sig, int, code, __u32, pid, __u32, result)
{
	bool own = (sig == SIGPIPE || sig == SIGXFSZ) && code == SI_USER &&
		   pid == (__u32)bpf_get_current_pid_tgid();

	return generated(sig, is_sent(code) && !own, result);
}
