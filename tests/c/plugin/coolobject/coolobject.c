// SPDX-License-Identifier: MIT OR Apache-2.0
/* coolbpf's objects and threads, without the macros of unity. */
#include "../plugin_head.h"
#include <coolbpf.h>
#include "coolobject.skel.h"

static struct coolbpf_object *object;
static pthread_t thread;
static unsigned long events, lost;

static void on_event(void *ctx, int cpu, void *data, __u32 size)
{
	(*(unsigned long *)ctx)++;
}

static void on_lost(void *ctx, int cpu, __u64 n)
{
	lost += n;
}

static int before_load(void *ctx, void *skel)
{
	((struct coolobject_bpf *)skel)->rodata->process = getpid();
	return 0;
}

int init(void *arg)
{
	struct perf_thread_arguments perf = {
		.sample_cb = on_event, .lost_cb = on_lost, .ctx = &events};

	if (get_kernel_version() < 0x050400)
		return -1;
	bump_memlock_rlimit();
	events = lost = 0;
	object = coolbpf_object_new_with_prehandler(coolobject, before_load, NULL, NULL);
	if (!object)
		return -1;
	perf.mapfd = coolbpf_object_find_map(object, "perf");
	thread = initial_perf_thread(&perf);
	return coolbpf_object_find_map(object, "perfs") == -ENOENT ? 0 : -2;
}

int call(int t, struct unity_lines *lines)
{
	struct unity_line *line;

	usleep(300 * 1000);
	unity_alloc_lines(lines, 1);
	line = unity_get_line(lines, 0);
	unity_set_table(line, "coolobject");
	unity_set_value(line, 0, "events", __atomic_exchange_n(&events, 0, __ATOMIC_RELAXED));
	unity_set_value(line, 1, "lost", lost);
	return 0;
}

void deinit(void)
{
	kill_perf_thread(thread);
	coolbpf_object_destroy(object);
}
