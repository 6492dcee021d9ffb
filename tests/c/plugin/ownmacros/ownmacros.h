/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef OWNMACROS_H
#define OWNMACROS_H

struct event {
	long ns;
	long cpu;
	int pid;
	char comm[16];
	int size;
};

#ifndef __VMLINUX_H__

#include "../plugin_head.h"

/* Macros of their own, as some plugins of unity have them. */
#define DEFINE_SEKL_OBJECT(skel_name)                                                              \
	struct skel_name##_bpf *skel_name = NULL;                                                  \
	static pthread_t perf_thread = 0;                                                          \
	int thread_worker(struct beeQ *q, void *arg)                                               \
	{                                                                                          \
		perf_thread_worker(arg);                                                           \
		return 0;                                                                          \
	}                                                                                          \
	void handle_lost_events(void *ctx, int cpu, __u64 lost_cnt)                                \
	{                                                                                          \
		printf("Lost %llu events on CPU #%d!\n", lost_cnt, cpu);                           \
	}

#define DESTORY_SKEL_BOJECT(skel_name)                                                             \
	if (perf_thread > 0)                                                                       \
		kill_perf_thread(perf_thread);                                                     \
	skel_name##_bpf__destroy(skel_name);

int init(void *arg);
int call(int t, struct unity_lines *lines);
void deinit(void);

#endif

#endif
