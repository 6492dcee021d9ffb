/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The two ends of a socket. Include it after unity.bpf.h.
 *
 *   socket_remote_ip(sk), socket_local_ip(sk)        the addresses
 *   socket_remote_port(sk), socket_local_port(sk)    the ports, in the host's byte order; 0: none yet
 *   ip_at(address)                                   an address out of a tracepoint's record (saddr_v6, daddr_v6)
 *   ip_family(&ip)                                   FAMILY_IPV4 or FAMILY_IPV6
 *   ip_prefix(ip, 24, 48)                            the first bits of an address, by its family
 *
 *   socket_of(fd)                                    the socket behind a descriptor of the running process
 *
 * Those that take a socket belong into a body of ON_ARGUMENTS, as READ() does. plugin_bpf::net has the
 * names of families, addresses and prefixes.
 */
#ifndef __SOCKET_BPF_H
#define __SOCKET_BPF_H

#include <bpf/bpf_endian.h>
#include "kernel/file.h"
#include "kernel/sock.h"

/*
 * An address of IPv6, or one of IPv4 as IPv6 maps it, ::ffff:192.0.2.1. So a connection by IPv4 has the
 * same key whichever kind of socket it was made with.
 */
struct ip {
	__be32 word[4];
};

enum family { FAMILY_IPV4, FAMILY_IPV6, FAMILIES };

static __always_inline enum family ip_family(const struct ip *ip)
{
	bool is_mapped = !ip->word[0] && !ip->word[1] && ip->word[2] == bpf_htonl(0xffff);

	return is_mapped ? FAMILY_IPV4 : FAMILY_IPV6;
}

static __always_inline struct ip ip_mapped(__be32 v4)
{
	struct ip ip = {.word = {0, 0, bpf_htonl(0xffff), v4}};

	return ip;
}

static __always_inline struct ip ip_at(const void *address)
{
	struct ip ip = {};

	bpf_probe_read_kernel(&ip, sizeof(ip), address);
	return ip;
}

static __always_inline struct ip ip_prefix(struct ip ip, __u32 v4_bits, __u32 v6_bits)
{
	__u32 bits = ip_family(&ip) == FAMILY_IPV4 ? 96 + v4_bits : v6_bits;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		__u32 keep = bits > 32 * i ? bits - 32 * i : 0;

		if (!keep)
			ip.word[i] = 0;
		else if (keep < 32)
			ip.word[i] &= bpf_htonl(~0u << ((32 - keep) & 31));
	}
	return ip;
}

/* A kernel without IPv6 has no addresses of it. */
#define UNITY_SOCKET_IP(name, v4, v6)                                                              \
	static __always_inline struct ip name(const bool unity_btf, struct sock *sk)               \
	{                                                                                          \
		struct ip ip = {};                                                                 \
                                                                                                   \
		if (READ(sk, __sk_common.skc_family) != AF_INET6 ||                                \
		    !bpf_core_field_exists(sk->__sk_common.v6))                                    \
			return ip_mapped(READ(sk, __sk_common.v4));                                \
		if (!unity_btf)                                                                    \
			return ip_at(&sk->__sk_common.v6);                                         \
		ip.word[0] = sk->__sk_common.v6.in6_u.u6_addr32[0];                                \
		ip.word[1] = sk->__sk_common.v6.in6_u.u6_addr32[1];                                \
		ip.word[2] = sk->__sk_common.v6.in6_u.u6_addr32[2];                                \
		ip.word[3] = sk->__sk_common.v6.in6_u.u6_addr32[3];                                \
		return ip;                                                                         \
	}
UNITY_SOCKET_IP(unity_remote_ip, skc_daddr, skc_v6_daddr)
UNITY_SOCKET_IP(unity_local_ip, skc_rcv_saddr, skc_v6_rcv_saddr)

#define socket_remote_ip(sk)   unity_remote_ip(unity_btf, sk)
#define socket_local_ip(sk)    unity_local_ip(unity_btf, sk)
#define socket_remote_port(sk) bpf_ntohs(READ(sk, __sk_common.skc_dport))

/* A socket that is closed has given skc_num back, and still says here which port it had. */
static __always_inline __u16 socket_local_port(struct sock *sk)
{
	return bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
}

/* For the end of a system call that made or used a socket. Not checked: of another kind of file it is no socket. */
static __always_inline struct sock *socket_of(long fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct file **files = BPF_CORE_READ(task, files, fdt, fd), *file = NULL;
	struct socket *socket;

	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

#endif
