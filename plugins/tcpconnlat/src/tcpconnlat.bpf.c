// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A connect begins when its socket leaves CLOSE for SYN_SENT, in the thread that calls connect(), and
 * ends when it leaves SYN_SENT, wherever the answer, a timer or close() is processed: who connects is
 * noted at the begin. Two ends that send each other a SYN go through SYN_RECV. A socket's address is used
 * again as soon as it is free: every entry ends with its connect, at the latest with its socket.
 *
 * The passive side: an entry from the child's ESTABLISHED until accept() has returned it.
 */
#include "unity.bpf.h"
#include "filter.bpf.h"
#include "socket.bpf.h"

enum { BY_NOTHING, BY_COMM, BY_CGROUP, BY_REMOTE_PORT, BY_REMOTE_PREFIX };

const volatile __u32 by = BY_NOTHING;
const volatile __u32 ipv4_prefix = 24;
const volatile __u32 ipv6_prefix = 48;
const volatile __u64 min_ns = 0;
const volatile bool passive = false;

/* What became of a connect; behind these, the two histograms of the passive side. */
enum result {
	CONNECTED,
	REFUSED,
	TIMED_OUT,
	RESET,
	ABORTED,
	UNREACHABLE,
	LOCAL,
	UNKNOWN, /* in tp programs, whose record has no error */
	ACCEPTED,
	QUEUED,
	RESULTS,
};

/* A name, a network, or the number of a cgroup or port. */
struct group {
	char name[16];
};

struct connect {
	__u64 since; /* 0: not wanted */
	struct group group;
	__u32 family;
	__u32 was_reset; /* an RST has arrived */
};

struct connects {
	__u64 connected;
	__u64 failed;
	__u64 slow;
	__u64 sum_ns; /* of both */
};

struct child {
	__u64 since;
	__u64 handshake_ns; /* from its SYN until then; 0: not known */
	__u64 family;
};

PAIRS(begun, __u64, struct connect, 8192);
PAIRS(waiting, __u64, struct child, 8192);
/* By family and result. */
HISTOGRAMS(durations, __u32, 1024, 1000);
COUNTER_ARRAY(slow, FAMILIES);
TABLE(groups, struct group, struct connects, 4096);

static __always_inline void begin(__u64 sk, bool wanted, struct ip ip, __u64 port)
{
	struct connect connect = {.family = ip_family(&ip)};

	if (wanted)
		connect.since = bpf_ktime_get_ns();
	if (by == BY_COMM) {
		struct comm comm = current_comm();
		__builtin_memcpy(&connect.group, &comm, sizeof(comm));
	} else if (by == BY_CGROUP) {
		__u64 id = bpf_get_current_cgroup_id();
		__builtin_memcpy(&connect.group, &id, sizeof(id));
	} else if (by == BY_REMOTE_PORT) {
		__builtin_memcpy(&connect.group, &port, sizeof(port));
	} else if (by == BY_REMOTE_PREFIX) {
		ip = ip_prefix(ip, ipv4_prefix, ipv6_prefix);
		__builtin_memcpy(&connect.group, &ip, sizeof(ip));
	}
	pairs_begin(&begun, &sk, &connect);
}

static __always_inline void count(struct connect *connect, enum result result, __u64 time)
{
	bool is_slow = result == CONNECTED && time >= min_ns;
	__u32 kind = connect->family * RESULTS + result;
	struct connects *connects;

	CUT(cut);
	histograms_add(cut, &durations, &kind, time);
	if (is_slow)
		counters_add(&slow, connect->family, 1);
	connects = by != BY_NOTHING ? table_at(cut, &groups, &connect->group) : NULL;
	if (!connects)
		return;
	__sync_fetch_and_add(result == CONNECTED ? &connects->connected : &connects->failed, 1);
	if (is_slow)
		__sync_fetch_and_add(&connects->slow, 1);
	__sync_fetch_and_add(&connects->sum_ns, time);
}

static __always_inline void end(__u64 sk, int from, int to, enum result result)
{
	__u64 now = bpf_ktime_get_ns();
	struct connect connect;

	if (!pairs_end(&begun, &sk, &connect) || !connect.since)
		return;
	if (to == TCP_ESTABLISHED)
		result = CONNECTED;
	else if (to != TCP_CLOSE)
		result = ABORTED;
	else if (connect.was_reset)
		result = from == TCP_SYN_SENT ? REFUSED : RESET;
	/* Clocks of two CPUs may differ. */
	count(&connect, result, now > connect.since ? now - connect.since : 0);
}

/* SYN_RECV is also where every accepted connection comes from. */
static __always_inline bool is_end(__u64 sk, int from, int to)
{
	if (from == TCP_SYN_SENT)
		return to != TCP_SYN_RECV;
	return from == TCP_SYN_RECV && bpf_map_lookup_elem(&begun, &sk);
}

/* Why a socket leaves SYN_SENT or SYN_RECV for CLOSE: its error is set before. */
static __always_inline enum result cause_of(const bool unity_btf, struct sock *sk, int from)
{
	int err = READ(sk, sk_err);
	struct socket *socket = READ(sk, sk_socket);

	/* An RST gives SYN_SENT another error: this one was left by a connect that was broken off before. */
	if (err == ECONNRESET && from == TCP_SYN_SENT)
		err = 0;
	switch (err) {
	case 0:
		break;
	case ECONNREFUSED:
		return REFUSED;
	case ETIMEDOUT:
		return TIMED_OUT;
	case ECONNRESET:
		return RESET;
	case ECONNABORTED:
		return ABORTED;
	default:
		return UNREACHABLE;
	}
	/*
	 * Before 6.11 a timer reports its error first, and the caller may have taken it already ("tcp: fix
	 * race in tcp_write_err()"). A task that ends the connect holds the lock.
	 */
	if (!READ(sk, sk_lock.owned))
		return TIMED_OUT;
	/* Within connect() itself, as without a free port, the socket is not yet connecting. */
	return socket && BPF_CORE_READ(socket, state) == SS_UNCONNECTED ? LOCAL : ABORTED;
}

static __always_inline void establish(__u64 sk, __u64 family, __u64 handshake_ns)
{
	struct child child = {bpf_ktime_get_ns(), handshake_ns, family};

	pairs_begin(&waiting, &sk, &child);
}

/* The first round trip of a child is from its SYN, which is answered at once, to the handshake's end. */
static __always_inline __u64 handshake_ns(struct sock *sk)
{
	return (BPF_CORE_READ((struct tcp_sock *)sk, srtt_us) >> 3) * 1000ULL;
}

ON_ARGUMENTS(state, inet_sock_set_state, struct sock *, sk, int, from, int, to)
{
	__u64 key = (__u64)sk;

	if (READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	if (from == TCP_CLOSE && to == TCP_SYN_SENT) {
		begin(key, filter_task((void *)bpf_get_current_task()), socket_remote_ip(sk),
		      socket_remote_port(sk));
	} else if (is_end(key, from, to)) {
		end(key, from, to, cause_of(unity_btf, sk, from));
	} else if (passive && from == TCP_SYN_RECV && to == TCP_ESTABLISHED) {
		struct ip ip = socket_remote_ip(sk);

		establish(key, ip_family(&ip), handshake_ns(sk));
	} else if (passive && to == TCP_CLOSE) {
		pairs_died(&waiting, &key);
	}
	return 0;
}

ON_RECORD(state, sock, inet_sock_set_state, __u64, skaddr, int, oldstate, int, newstate, __u16,
	  protocol, __u16, dport, const char *, daddr_v6)
{
	if (protocol != IPPROTO_TCP)
		return 0;
	if (oldstate == TCP_CLOSE && newstate == TCP_SYN_SENT) {
		begin(skaddr, filter_current(), ip_at(daddr_v6), dport);
	} else if (is_end(skaddr, oldstate, newstate)) {
		end(skaddr, oldstate, newstate, UNKNOWN);
	} else if (passive && oldstate == TCP_SYN_RECV && newstate == TCP_ESTABLISHED) {
		struct ip ip = ip_at(daddr_v6);

		establish(skaddr, ip_family(&ip), 0);
	} else if (passive && newstate == TCP_CLOSE) {
		pairs_died(&waiting, &skaddr);
	}
	return 0;
}

/* Also where no record tells the error, and where the caller reads it before we do. */
ON_TRACEPOINT(reset, tcp, tcp_receive_reset, __u64, skaddr)
{
	struct connect *connect = bpf_map_lookup_elem(&begun, &skaddr);

	if (connect)
		connect->was_reset = 1;
	return 0;
}

/* Whatever was missed: an entry does not outlive its socket. */
ON_TRACEPOINT(destroy, tcp, tcp_destroy_sock, __u64, skaddr)
{
	pairs_died(&begun, &skaddr);
	if (passive)
		pairs_died(&waiting, &skaddr);
	return 0;
}

static __always_inline int accepted(struct sock *sk)
{
	__u64 key = (__u64)sk, now = bpf_ktime_get_ns(), time;
	struct child child;
	__u32 kind;

	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP || !pairs_end(&waiting, &key, &child) ||
	    !filter_task((void *)bpf_get_current_task()))
		return 0;
	time = now > child.since ? now - child.since : 0;
	CUT(cut);
	kind = child.family * RESULTS + QUEUED;
	histograms_add(cut, &durations, &kind, time);
	if (!child.handshake_ns)
		return 0;
	kind = child.family * RESULTS + ACCEPTED;
	histograms_add(cut, &durations, &kind, child.handshake_ns + time);
	return 0;
}

/* It has locked the child, and so waited for its ESTABLISHED. */
SEC("fexit/inet_accept") int accept_fexit(__u64 *ctx)
{
	return accepted(BPF_CORE_READ((struct socket *)ctx[1], sk));
}

ON_SYSCALL_EXIT(accept_call, accept)
{
	return ret < 0 ? 0 : accepted(socket_of(ret));
}

ON_SYSCALL_EXIT(accept4_call, accept4)
{
	return ret < 0 ? 0 : accepted(socket_of(ret));
}
