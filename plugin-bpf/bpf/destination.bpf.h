/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Where a connection is to go, and whether a list names it. Include it after unity.bpf.h.
 *
 *   DESTINATIONS(name, n)              a list of at most n; plugin_bpf::Destination::fill writes it
 *   destination_v4(address, port)      both in network byte order
 *   destination_v6(ip, port)           one of IPv4 where it is mapped
 *   destination_find(&name, &to)       the number of the entry that names it, from 1; 0: none does
 *
 * Of several entries that name it, one with a port is found before those without, and among these the
 * longest prefix.
 */
#ifndef __DESTINATION_BPF_H
#define __DESTINATION_BPF_H

#include "socket.bpf.h"

struct destination {
	__u16 family; /* enum family: a network of IPv6 holds no mapped addresses */
	__be16 port;  /* of an entry 0: any */
	struct ip ip;
};

struct destination_prefix {
	__u32 bits; /* of all of it */
	struct destination of;
};

#define DESTINATIONS(name, n)                                                                      \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_LPM_TRIE);                                               \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                              \
		__uint(max_entries, n);                                                            \
		__type(key, struct destination_prefix);                                            \
		__type(value, __u32);                                                              \
	} name SEC(".maps")

static __always_inline struct destination destination_v6(struct ip ip, __be16 port)
{
	struct destination to = {.family = ip_family(&ip), .port = port, .ip = ip};

	return to;
}

static __always_inline struct destination destination_v4(__be32 address, __be16 port)
{
	return destination_v6(ip_mapped(address), port);
}

static __always_inline __u32 destination_find(void *list, const struct destination *to)
{
	struct destination_prefix key = {.bits = 8 * sizeof(*to), .of = *to};
	__u32 *number = bpf_map_lookup_elem(list, &key);

	if (!number && key.of.port) {
		key.of.port = 0;
		number = bpf_map_lookup_elem(list, &key);
	}
	return number ? *number : 0;
}

#endif
