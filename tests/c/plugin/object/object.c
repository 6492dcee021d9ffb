// SPDX-License-Identifier: MIT OR Apache-2.0
/* By name, from files beside the plugin; and each mistake's sentence as a line. */
#include "../plugin_head.h"
#include "unity_object.h"

static struct unity_object shows;

static void mistake(struct unity_lines *lines, unsigned int i, const char *what, int err,
		    const char *error)
{
	struct unity_line *line = unity_get_line(lines, i);

	unity_set_table(line, "mistake");
	unity_set_index(line, 0, "what", what);
	unity_set_value(line, 0, "errno", -err);
	unity_set_log(line, "says", error);
}

int init(void *arg)
{
	int key = 0, pid = getpid();

	(void)arg;
	if (unity_object_open(&shows, "shows.bpf.o") || unity_object_load(&shows) ||
	    unity_object_attach(&shows, "on_enter") || unity_object_attach(&shows, "on_exit"))
		return unity_object_failed(&shows);
	return bpf_map_update_elem(unity_object_map(&shows, "process"), &key, &pid, BPF_ANY);
}

int call(int t, struct unity_lines *lines)
{
	uint64_t enters = 0, exits = 0, value;
	struct unity_object other;
	uint32_t key, *after = NULL;
	int zero = 0, err;

	(void)t;
	if (unity_alloc_lines(lines, 7) < 0)
		return -ENOMEM;
	bpf_map_lookup_elem(unity_object_map(&shows, "enters"), &zero, &enters);
	while (!bpf_map_get_next_key(unity_object_map(&shows, "exits"), after, &key)) {
		if (!bpf_map_lookup_elem(unity_object_map(&shows, "exits"), &key, &value))
			exits += value;
		after = &key;
	}
	unity_set_table(unity_get_line(lines, 0), "object");
	unity_set_value(unity_get_line(lines, 0), 0, "enters", (double)enters);
	unity_set_value(unity_get_line(lines, 0), 1, "exits", (double)exits);

	err = unity_object_map(&shows, "entries");
	mistake(lines, 1, "map", err, shows.error);
	err = unity_object_attach(&shows, "on_open");
	mistake(lines, 2, "program", err, shows.error);
	err = unity_object_open(&other, "./show.bpf.o");
	mistake(lines, 3, "file", err, other.error);
	err = unity_object_open(&other, "/proc/self/cmdline");
	mistake(lines, 4, "format", err, other.error);
	err = unity_object_open(&other, "unlicensed.bpf.o");
	mistake(lines, 5, "none", err, other.error);
	unity_object_close(&other);
	err = unity_object_open(&other, "proprietary.bpf.o");
	if (!err)
		err = unity_object_load(&other);
	mistake(lines, 6, "licence", err, other.error);
	unity_object_close(&other);
	return 0;
}

void deinit(void)
{
	unity_object_close(&shows);
}
