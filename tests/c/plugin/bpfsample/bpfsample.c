// SPDX-License-Identifier: MIT OR Apache-2.0
/* A skeleton of two names, no variable of it, deinit() with an argument and an answer: as in the guide. */
#include "bpfsample.h"
#include "../bpf_head.h"
#include "bpfsample.skel.h"

int init(void *arg)
{
	return LOAD_SKEL_OBJECT(bpf_sample);
}

int call(int t, struct unity_lines *lines)
{
	int countfd = bpf_map__fd(bpfsample->maps.count);
	int default_key = 0;
	uint64_t count = 0;
	uint64_t default_count = 0;
	struct unity_line *line;

	bpf_map_lookup_elem(countfd, &default_key, &count);
	bpf_map_update_elem(countfd, &default_key, &default_count, BPF_ANY);

	unity_alloc_lines(lines, 1);
	line = unity_get_line(lines, 0);
	unity_set_table(line, "bpfsample");
	unity_set_value(line, 0, "value", count);

	return 0;
}

int deinit(void *arg)
{
	return DESTORY_SKEL_BOJECT(bpf_sample);
}
