// SPDX-License-Identifier: MIT OR Apache-2.0
/* Counts how often /proc/net/netstat is shown: the sample of the unity guide, without its losses. */
#include "../bpf_head.h"
#include "csample.h"
#include "csample.skel.h"

DEFINE_SKEL_OBJECT(csample);
static uint64_t before;

int init(void *arg)
{
	(void)arg;
	before = 0;
	return LOAD_SKEL_OBJECT(csample);
}

int call(int t, struct unity_lines *lines)
{
	int key = CSAMPLE_SHOWS;
	struct unity_line *line;
	uint64_t now;
	int err;

	(void)t;
	err = bpf_map_lookup_elem(bpf_map__fd(csample->maps.count), &key, &now);
	if (err)
		return err;
	err = unity_alloc_lines(lines, 1);
	if (err < 0)
		return err;
	line = unity_get_line(lines, 0);
	unity_set_table(line, "csample");
	/* The map is never written: a count that comes between two steps is in the next difference. */
	unity_set_value(line, 0, "value", (double)(now - before));
	before = now;
	return 0;
}

void deinit(void)
{
	DESTROY_SKEL_OBJECT(csample);
}
