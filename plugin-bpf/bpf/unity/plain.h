/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Plain maps: a tool's own state, which no tick reads or resets; coolbpf.bpf.h has more. */
#ifndef __UNITY_PLAIN_H
#define __UNITY_PLAIN_H

#define HASH(name, K, V, n)	BPF_MAP(name, BPF_MAP_TYPE_HASH, K, V, n)
#define LRU_HASH(name, K, V, n) BPF_MAP(name, BPF_MAP_TYPE_LRU_HASH, K, V, n)
/* n values of each CPU. */
#define PERCPU_ARRAY(name, V, n) BPF_MAP(name, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, V, n)
/* n values that bpf_map_push_elem() adds; whoever takes the oldest has it alone. */
#define QUEUE(name, V, n)                                                                          \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_QUEUE);                                                  \
		__uint(max_entries, n);                                                            \
		__type(value, V);                                                                  \
	} name SEC(".maps");
#define BPF_MAP(name, kind, K, V, n)                                                               \
	struct {                                                                                   \
		__uint(type, kind);                                                                \
		__uint(max_entries, n);                                                            \
		__type(key, K);                                                                    \
		__type(value, V);                                                                  \
	} name SEC(".maps");

#endif
