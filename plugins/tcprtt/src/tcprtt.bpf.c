// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Each segment that an established connection receives, with its round-trip time as TCP has smoothed it
 * when the segment arrives.
 */
#include "unity.bpf.h"
#include "socket.bpf.h"

#define PORTS	    16
#define CONNECTIONS 8192

enum by { BY_NOTHING, BY_LOCAL_PORT, BY_REMOTE_PORT, BY_LOCAL_PREFIX, BY_REMOTE_PREFIX };

const volatile enum by by = BY_NOTHING;
const volatile bool changes = false;
/* Those that are wanted; all when the first is 0. */
const volatile __u16 local_ports[PORTS] = {};
const volatile __u16 remote_ports[PORTS] = {};

/* What it is grouped by; the rest is 0. */
struct group {
	struct ip ip;
	__u32 port;
};

struct segment {
	__u64 connection;
	__u32 rtt_us;
	__u16 local_port;
	__u16 remote_port;
	struct ip local;
	struct ip remote;
};

HISTOGRAM(rtts, FAMILIES, 1);
HISTOGRAMS(groups, struct group, 8192, 1);
COUNTERS(counts, UNMEASURED, UNCHANGED, DROPPED);
/* What was counted last of each connection. */
HASH(values, __u64, __u32, CONNECTIONS);

static __always_inline bool is_wanted(const volatile __u16 *ports, __u16 port)
{
	if (!ports[0])
		return true;
#pragma unroll
	for (int i = 0; i < PORTS; i++)
		if (ports[i] == port)
			return true;
	return false;
}

static __always_inline struct group group_of(const struct segment *segment)
{
	struct group group = {};

	switch (by) {
	case BY_LOCAL_PORT:
		group.port = segment->local_port;
		break;
	case BY_REMOTE_PORT:
		group.port = segment->remote_port;
		break;
	case BY_LOCAL_PREFIX:
		group.ip = ip_prefix(segment->local, 24, 48);
		break;
	case BY_REMOTE_PREFIX:
		group.ip = ip_prefix(segment->remote, 24, 48);
		break;
	default:
		break;
	}
	return group;
}

/* The kernel hands the segments of a connection over one after another. */
static __always_inline bool is_change(const struct segment *segment)
{
	__u32 *before = bpf_map_lookup_elem(&values, &segment->connection);

	if (before && *before == segment->rtt_us) {
		counters_add(&counts, UNCHANGED, 1);
		return false;
	}
	if (before) {
		*before = segment->rtt_us;
		return true;
	}
	if (!unity_update(&values, &segment->connection, &segment->rtt_us, BPF_ANY))
		return true;
	counters_add(&counts, DROPPED, 1);
	return false;
}

static __always_inline int received(const struct segment *segment, bool is_measured)
{
	if (!is_wanted(local_ports, segment->local_port) ||
	    !is_wanted(remote_ports, segment->remote_port))
		return 0;
	if (!is_measured) {
		counters_add(&counts, UNMEASURED, 1);
		return 0;
	}
	if (changes && !is_change(segment))
		return 0;

	CUT(cut);
	histogram_add(cut, &rtts, ip_family(&segment->remote), segment->rtt_us);
	if (by) {
		struct group group = group_of(segment);

		histograms_add(cut, &groups, &group, segment->rtt_us);
	}
	return 0;
}

/* The smoothed round-trip time, in eighths of a microsecond. */
static __always_inline __u32 srtt_of(const bool unity_btf, struct sock *sk)
{
	struct tcp_sock *tcp;

	if (!unity_btf)
		return BPF_CORE_READ((struct tcp_sock *)sk, srtt_us);
	tcp = bpf_skc_to_tcp_sock(sk);
	return tcp ? tcp->srtt_us : 0;
}

/* At the head of tcp_rcv_established(). */
ON_ARGUMENTS(tcp_rcv, tcp_probe, struct sock *, sk)
{
	__u32 eighths = srtt_of(unity_btf, sk);
	struct segment segment = {.connection = (__u64)sk, .rtt_us = eighths >> 3};

	segment.remote = socket_remote_ip(sk);
	if (by == BY_LOCAL_PREFIX)
		segment.local = socket_local_ip(sk);
	if (by == BY_LOCAL_PORT || local_ports[0])
		segment.local_port = socket_local_port(sk);
	if (by == BY_REMOTE_PORT || remote_ports[0])
		segment.remote_port = socket_remote_port(sk);
	return received(&segment, eighths);
}

/* Of a record's saddr and daddr, which are a struct sockaddr_in or sockaddr_in6. */
static __always_inline struct ip ip_of(const void *sockaddr)
{
	struct {
		__u16 family;
		__be16 port;
		__be32 v4;
		struct ip v6;
	} address = {};

	bpf_probe_read_kernel(&address, sizeof(address), sockaddr);
	return address.family == AF_INET6 ? address.v6 : ip_mapped(address.v4);
}

/* Below one microsecond a value is shown as none here. */
ON_RECORD(tcp_rcv, tcp, tcp_probe, const char *, saddr, const char *, daddr, __u16, sport, __u16,
	  dport, __u32, srtt, __u64, sock_cookie)
{
	struct segment segment = {.connection = sock_cookie,
				  .rtt_us = srtt,
				  .local_port = sport,
				  .remote_port = dport,
				  .local = ip_of(saddr),
				  .remote = ip_of(daddr)};

	return received(&segment, srtt);
}

static __always_inline int destroyed(__u64 connection)
{
	bpf_map_delete_elem(&values, &connection);
	return 0;
}

ON_ARGUMENTS(destroy, tcp_destroy_sock, struct sock *, sk)
{
	return destroyed((__u64)sk);
}

ON_RECORD(destroy, tcp, tcp_destroy_sock, __u64, sock_cookie)
{
	return destroyed(sock_cookie);
}
