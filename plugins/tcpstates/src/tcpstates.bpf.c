// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Every change of a TCP socket's state, and how long it was in the state that it leaves. An entry for each socket
 * from its first change until CLOSE: what is not there is older than the tool, and its time is not known.
 *
 * A socket's first change comes before its ends are known: connect() has no port of its own yet, and the
 * child of a listener is still a copy of that. It is counted with the second one, which knows them.
 */
#include "unity.bpf.h"
#include "socket.bpf.h"

#define PORTS 16

const volatile __u32 family = 0; /* 1 + the wanted one; 0: both */
const volatile __u32 local_ports = 0;
const volatile __u32 remote_ports = 0;
const volatile __u16 local_port[PORTS] = {};
const volatile __u16 remote_port[PORTS] = {};

/* What is known of a change's time. */
enum age {
	MEASURED,
	FIRST, /* there is no time before it */
	OLDER,
};

struct ends {
	__u32 family;
	__u16 local_port;
	__u16 remote_port;
};

struct entry {
	__u64 since;
	__u32 state;
	__u32 first; /* the state before the first change while that is not counted; 0: it is */
};

/* States end at 12. */
struct change {
	__u8 family;
	__u8 from;
	__u8 to;
	__u8 age;
};

PAIRS(sockets, __u64, struct entry, 16384);
HISTOGRAMS(durations, struct change, 2048, 1000);

static __always_inline bool is_listed(__u16 port, const volatile __u16 *list, __u32 len)
{
#pragma unroll
	for (int i = 0; i < PORTS; i++)
		if (i < len && list[i] == port)
			return true;
	return !len;
}

static __always_inline bool is_wanted(const struct ends *ends)
{
	return (!family || family == 1 + ends->family) &&
	       is_listed(ends->local_port, local_port, local_ports) &&
	       is_listed(ends->remote_port, remote_port, remote_ports);
}

static __always_inline void count(cut_t cut, const struct ends *ends, __u32 from, __u32 to,
				  enum age age, __u64 time)
{
	struct change change = {ends->family, from, to, age};

	histograms_add(cut, &durations, &change, time);
}

/* A connect, a listener, or the child of one. */
static __always_inline int first(__u64 sk, __u32 from, __u32 to, const struct ends *ends)
{
	bool is_early = from == TCP_LISTEN || (local_ports && !ends->local_port);
	struct entry entry = {.since = bpf_ktime_get_ns(), .state = to};

	if (!is_early && !is_wanted(ends))
		return 0;
	if (is_early)
		entry.first = from;
	if (pairs_begin(&sockets, &sk, &entry) && is_early)
		return 0;
	if (is_early && !is_wanted(ends))
		return 0;
	CUT(cut);
	count(cut, ends, from, to, FIRST, 0);
	return 0;
}

static __always_inline int next(__u64 sk, __u32 from, __u32 to, const struct ends *ends)
{
	struct entry *entry = bpf_map_lookup_elem(&sockets, &sk);
	struct entry before = {}, after = {.since = bpf_ktime_get_ns(), .state = to};
	bool is_wanted_here = is_wanted(ends);

	if (entry)
		before = *entry;
	if (entry && (to == TCP_CLOSE || !is_wanted_here))
		bpf_map_delete_elem(&sockets, &sk);
	else if (entry)
		*entry = after;
	else if (to != TCP_CLOSE && is_wanted_here)
		pairs_begin(&sockets, &sk, &after);
	if (!is_wanted_here)
		return 0;
	CUT(cut);
	if (before.first && before.state == from)
		count(cut, ends, before.first, from, FIRST, 0);
	if (before.state == from)
		/* Clocks of two CPUs may differ. */
		count(cut, ends, from, to, MEASURED,
		      after.since > before.since ? after.since - before.since : 0);
	else
		count(cut, ends, from, to, OLDER, 0);
	return 0;
}

static __always_inline int changed(__u64 sk, __u32 from, __u32 to, const struct ends *ends)
{
	if (from == TCP_CLOSE || (from == TCP_LISTEN && to == TCP_SYN_RECV))
		return first(sk, from, to, ends);
	return next(sk, from, to, ends);
}

ON_ARGUMENTS(state, inet_sock_set_state, struct sock *, sk, int, from, int, to)
{
	struct ends ends = {};
	struct ip ip;

	if (READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	ip = socket_remote_ip(sk);
	ends.family = ip_family(&ip);
	if (local_ports)
		ends.local_port = socket_local_port(sk);
	if (remote_ports)
		ends.remote_port = socket_remote_port(sk);
	return changed((__u64)sk, from, to, &ends);
}

ON_RECORD(state, sock, inet_sock_set_state, __u64, skaddr, int, oldstate, int, newstate, __u16,
	  protocol, __u16, sport, __u16, dport, const char *, daddr_v6)
{
	struct ip ip = ip_at(daddr_v6);
	struct ends ends = {ip_family(&ip), sport, dport};

	return protocol == IPPROTO_TCP ? changed(skaddr, oldstate, newstate, &ends) : 0;
}

/* Whatever was missed: an entry does not outlive its socket. */
ON_TRACEPOINT(destroy, tcp, tcp_destroy_sock, __u64, skaddr)
{
	pairs_died(&sockets, &skaddr);
	return 0;
}
