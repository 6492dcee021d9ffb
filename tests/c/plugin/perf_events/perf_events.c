// SPDX-License-Identifier: MIT OR Apache-2.0
/* The push style of unity: a thread reads a perf buffer, and each event is a line. */
#include "perf_events.h"
#define COOLBPF_PERF_THREAD
#include "../bpf_head.h"
#include "perf_events.skel.h"

static volatile int seen = 0;

void handle_event(void *ctx, int cpu, void *data, __u32 data_sz)
{
	struct data_t *e = (struct data_t *)data;
	struct beeQ *q = (struct beeQ *)ctx;
	struct unity_line *line;
	struct unity_lines *lines = unity_new_lines();

	unity_alloc_lines(lines, 1);
	line = unity_get_line(lines, 0);
	unity_set_table(line, "perf_events");
	unity_set_index(line, 0, "comm", e->comm);
	unity_set_value(line, 0, "events", 1);
	unity_set_value(line, 1, "cpu", e->cpu);
	beeQ_send(q, lines);
	seen++;
}

DEFINE_SEKL_OBJECT(perf_events);

int init(void *arg)
{
	int ret = LOAD_SKEL_OBJECT(perf_events, perf);

	if (ret >= 0) {
		int fd = coobpf_map_find(perf_events->obj, "process");
		int key = 0, pid = getpid();

		bpf_map_update_elem(fd, &key, &pid, BPF_ANY);
	}
	return ret;
}

int call(int t, struct unity_lines *lines)
{
	return 0;
}

void deinit(void)
{
	printf("plugin uninstall.\n");
	DESTORY_SKEL_BOJECT(perf_events);
}
