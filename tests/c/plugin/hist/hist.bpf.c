// SPDX-License-Identifier: MIT OR Apache-2.0
/* As unity's cpudist: a tracepoint with a struct of its own, and a histogram of powers of ten. */
#include <vmlinux.h>
#include <coolbpf.h>

BPF_ARRAY(hist, u64, 20);
BPF_HASH(start, u32, u64, 128 * 1024);
BPF_ARRAY(process, u32, 1)

struct enter_args {
	u64 common;
	s64 id;
	u64 args[6];
};

static void inc_value(struct bpf_map *maps, u32 k)
{
	u64 *pv = bpf_map_lookup_elem(maps, &k);
	if (pv) {
		__sync_fetch_and_add(pv, 1);
	} else {
		u64 v = 1;
		bpf_map_update_elem(maps, &k, &v, BPF_ANY);
	}
}

SEC("tracepoint/raw_syscalls/sys_enter")
int enter_hook(struct enter_args *args)
{
	int key = 0;
	u32 *wanted = bpf_map_lookup_elem(&process, &key);
	u32 thread = tid();

	if (!wanted || *wanted != pid() || args->id != 110)
		return 0;
	inc_value((struct bpf_map *)&start, thread);
	hist10_push((struct bpf_map_def *)&hist, 1000);
	return 0;
}
