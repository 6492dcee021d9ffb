// SPDX-License-Identifier: MIT OR Apache-2.0
/* Macros of its own, a thread of the host's, and coolbpf's functions to stop it. */
#include <unistd.h>
#include <pthread.h>
#include <coolbpf.h>
#include "ownmacros.h"
#include "ownmacros.skel.h"
#include "../../../../unity/beeQ/beeQ.h"

static unsigned long summary, prev;

void handle_event(void *ctx, int cpu, void *data, __u32 data_sz)
{
	struct event *e = (struct event *)data;

	if (e->pid == getpid())
		summary++;
}

DEFINE_SEKL_OBJECT(ownmacros);

int init(void *arg)
{
	struct perf_thread_arguments *perf_args;
	int err, key = 0, pid = getpid();

	bump_memlock_rlimit();
	ownmacros = ownmacros_bpf__open();
	if (!ownmacros)
		return -errno;
	err = ownmacros_bpf__load(ownmacros);
	if (err) {
		DESTORY_SKEL_BOJECT(ownmacros);
		return -err;
	}
	bpf_map_update_elem(bpf_map__fd(ownmacros->maps.args_map), &key, &pid, 0);
	perf_args = malloc(sizeof(struct perf_thread_arguments));
	memset(perf_args, 0, sizeof(struct perf_thread_arguments));
	perf_args->mapfd = bpf_map__fd(ownmacros->maps.events);
	perf_args->sample_cb = handle_event;
	perf_args->lost_cb = handle_lost_events;
	perf_args->ctx = arg;
	perf_thread = beeQ_send_thread(arg, perf_args, thread_worker);
	err = ownmacros_bpf__attach(ownmacros);
	if (err) {
		DESTORY_SKEL_BOJECT(ownmacros);
		return err;
	}
	printf("coolbpf library version: %s\n", coolbpf_version_string());
	return 0;
}

#define delta(sum, prev) sum - prev
int call(int t, struct unity_lines *lines)
{
	struct unity_line *line;

	usleep(300 * 1000); /* the thread reads what there is */
	unity_alloc_lines(lines, 1);
	line = unity_get_line(lines, 0);
	unity_set_table(line, "ownmacros");
	unity_set_index(line, 0, "mod", "sum");
	unity_set_value(line, 0, "dltnum", delta(summary, prev));
	prev = summary;
	return 0;
}

void deinit(void)
{
	DESTORY_SKEL_BOJECT(ownmacros);
}
