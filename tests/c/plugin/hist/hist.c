// SPDX-License-Identifier: MIT OR Apache-2.0
#include "../plugin_head.h"
#include "../bpf_head.h"
#include "hist.skel.h"

#define SIZE 20

DEFINE_SEKL_OBJECT(hist);
static int dist_fd = 0;

int init(void *arg)
{
	int ret, key = 0, pid = getpid();

	ret = LOAD_SKEL_OBJECT(hist, perf); /* there is no such map */
	if (ret >= 0) {
		dist_fd = coobpf_map_find(hist->obj, "hist");
		bpf_map_update_elem(coobpf_map_find(hist->obj, "process"), &key, &pid, BPF_ANY);
	}
	return ret;
}

int call(int t, struct unity_lines *lines)
{
	static unsigned long rec[SIZE];
	unsigned long value = 0;
	struct unity_line *line;
	int key = 0, next, i = 1;

	unity_alloc_lines(lines, 1);
	line = unity_get_line(lines, 0);
	unity_set_table(line, "hist");
	while (coobpf_key_next(dist_fd, &key, &next) == 0 && i < 5) {
		char name[16];

		coobpf_key_value(dist_fd, &next, &value);
		snprintf(name, sizeof(name), "p%d", next);
		unity_set_value(line, i - 1, name, value - rec[i]);
		rec[i++] = value;
		key = next;
	}
	return 0;
}

void deinit(void)
{
	DESTORY_SKEL_BOJECT(hist);
}
