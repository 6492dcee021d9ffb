// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Each connect is seen where it can be refused: by the security hook that all connects pass, or in a
 * cgroup; else only where the system call begins.
 *
 * TCP Fast Open connects within sendmsg(), past the hook of connect(): it has a hook of its own. The
 * programs of cgroups are asked in both cases.
 */
#include "unity.bpf.h"
#include "filter.bpf.h"
#include "destination.bpf.h"
#include "kernel/connect.h"

#define EPERM		   1
#define ENTRIES		   1024
#define INADDR_LOOPBACK	   0x7f000001
#define LONGEST		   128 /* sizeof(struct sockaddr_storage): the kernel takes no more */
#define SIZEOF_SOCKADDR_IN 16
#define SIN6_LEN_RFC2133   24 /* without the scope, which the kernel can do without */

/* The first two are those of enum family. */
enum kind { INET, INET6, UNIX, UNSPEC, OTHER, INVALID, KINDS };

/* Whether somebody is to be denied, and the list is there. */
const volatile bool deny = false;

/* By kind: allowed, denied. */
COUNTER_ARRAY(attempts, 2 * KINDS);
/* By entry of the list. */
COUNTER_ARRAY(denials, ENTRIES);
COUNTERS(counts, RUNS, UNREAD);
DESTINATIONS(listed, ENTRIES);

/* As much as is looked at of what connect() is given, which is a struct sockaddr of some kind. */
struct address {
	__u16 family;
	__be16 port;
	__be32 v4; /* of IPv6 the flow */
	struct ip v6;
	__u32 scope;
};

static __always_inline enum kind kind_of(const struct address *address, int length,
					 struct destination *to)
{
	if (length < (int)sizeof(address->family) || length > LONGEST)
		return INVALID;
	switch (address->family) {
	case AF_UNSPEC: /* it disconnects */
		return UNSPEC;
	case AF_UNIX:
		return UNIX;
	case AF_INET:
		if (length < SIZEOF_SOCKADDR_IN)
			return INVALID;
		*to = destination_v4(address->v4, address->port);
		return INET;
	case AF_INET6:
		if (length < SIN6_LEN_RFC2133)
			return INVALID;
		*to = destination_v6(address->v6, address->port);
		return to->family == FAMILY_IPV4 ? INET : INET6;
	}
	return OTHER;
}

/*
 * Counts, and gives the answer. To connect to no address means to this host: by IPv4 to the address
 * that the socket is bound to, else to the one of the loopback interface.
 */
static __always_inline int judge(enum kind kind, struct destination *to, __be32 bound,
				 const struct ip *bound_v6)
{
	__u32 entry = 0;

	if (deny && kind <= INET6) {
		const __be32 *word = to->ip.word;

		if (kind == INET && !to->ip.word[3])
			to->ip.word[3] = bound ? bound : bpf_htonl(INADDR_LOOPBACK);
		if (kind == INET6 && !(word[0] | word[1] | word[2] | word[3])) {
			to->ip.word[3] = bpf_htonl(1);
			if (ip_family(bound_v6) == FAMILY_IPV4)
				*to = destination_v4(bpf_htonl(INADDR_LOOPBACK), to->port);
		}
		entry = destination_find(&listed, to);
	}
	counters_add(&attempts, 2 * kind + !!entry, 1);
	if (entry)
		counters_add(&denials, entry - 1, 1);
	return entry ? -EPERM : 0;
}

static __always_inline int asked(struct socket *sock, const void *from, int length)
{
	struct sock *sk = BPF_CORE_READ(sock, sk);
	struct address address = {};
	struct destination to = {};
	struct ip bound_v6 = {};
	__be32 bound = 0;
	enum kind kind;

	if (bpf_probe_read_kernel(&address, sizeof(address), from)) {
		counters_add(&counts, UNREAD, 1);
		return 0;
	}
	kind = kind_of(&address, length, &to);
	if (deny && kind <= INET6) {
		bound = BPF_CORE_READ((struct inet_sock *)sk, inet_saddr);
		bound_v6 = ip_at(&sk->__sk_common.skc_v6_rcv_saddr);
	}
	return judge(kind, &to, bound, &bound_v6);
}

SEC("lsm/socket_connect") int connect_lsm(__u64 *ctx)
{
	int before = (int)ctx[3]; /* the answer of another program */

	counters_add(&counts, RUNS, 1);
	if (before)
		return before;
	if (!filter_task((void *)bpf_get_current_task()))
		return 0;
	return asked((void *)ctx[0], (void *)ctx[1], (int)ctx[2]);
}

SEC("lsm/socket_sendmsg") int fastopen_lsm(__u64 *ctx)
{
	struct msghdr *message = (void *)ctx[1];
	int before = (int)ctx[3];
	const void *name;

	if (before)
		return before;
	if (!(message->msg_flags & MSG_FASTOPEN))
		return 0;
	name = message->msg_name;
	/* Of other sockets the flag says nothing. */
	if (!name || BPF_CORE_READ((struct socket *)ctx[0], type) != SOCK_STREAM ||
	    !filter_task((void *)bpf_get_current_task()))
		return 0;
	return asked((void *)ctx[0], name, message->msg_namelen);
}

/*
 * 1: allowed. An address of another family than the program's comes here too, and the kernel refuses it
 * later.
 */
SEC("cgroup/connect4") int connect4_cgroup(struct bpf_sock_addr *ctx)
{
	struct destination to = destination_v4(ctx->user_ip4, ctx->user_port);
	struct ip bound_v6 = {};

	if (ctx->user_family != AF_INET || !filter_process())
		return 1;
	return !judge(INET, &to, ctx->sk->src_ip4, &bound_v6);
}

SEC("cgroup/connect6") int connect6_cgroup(struct bpf_sock_addr *ctx)
{
	struct ip ip = {
		.word = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]}};
	struct destination to = destination_v6(ip, ctx->user_port);
	struct bpf_sock *sk = ctx->sk;
	struct ip bound_v6 = {
		.word = {sk->src_ip6[0], sk->src_ip6[1], sk->src_ip6[2], sk->src_ip6[3]}};

	if (ctx->user_family != AF_INET6 || !filter_process())
		return 1;
	return !judge(to.family == FAMILY_IPV4 ? INET : INET6, &to, sk->src_ip4, &bound_v6);
}

ON_SYSCALL_ENTER(connect, connect, const void *, uservaddr, int, addrlen)
{
	__u64 bytes = (__u32)addrlen;
	struct address address = {};
	struct destination to = {};

	if (!filter_current())
		return 0;
	barrier_var(bytes); /* the verifier shall see the very register compared */
	if (bytes > sizeof(address))
		bytes = sizeof(address);
	if (bpf_probe_read_user(&address, bytes, uservaddr)) {
		counters_add(&counts, UNREAD, 1);
		return 0;
	}
	counters_add(&attempts, 2 * kind_of(&address, addrlen, &to), 1);
	return 0;
}
