/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the collector exports to C plugins; unity.h includes it. */
#ifndef UNITY_HOST_H
#define UNITY_HOST_H

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The queue that init() is given. It lives as long as the process. */
struct beeQ;

/*
 * Hands over lines (a struct unity_lines from unity_new_lines()), from any thread, without waiting. The
 * memory belongs to the collector from here on, whatever the answer. 0: they go out with the next tick.
 * -ENOBUFS: as many lines as a plugin may have wait already. -ESHUTDOWN: the plugin is not running. Lines
 * that are not taken are dropped and counted.
 */
int beeQ_send(struct beeQ *q, void *lines);

/* Starts a thread that runs cb(q, arg): a joinable thread, or 0. `arg` stays the plugin's. */
pthread_t beeQ_send_thread(struct beeQ *q, void *arg, int (*cb)(struct beeQ *q, void *arg));

/* 1 until the plugin, or the calling thread, is told to end. */
int plugin_is_working(void);

/* Tells a thread to end, interrupts its system calls until it has (SIGUSR2), and joins it. */
void plugin_thread_stop(pthread_t tid);

/* Tells all threads of this plugin to end. */
void plugin_stop(void);

/* What stands before "/proc/.." and "/sys/..". Never freed. */
char *get_unity_proc(void);
char *get_unity_sys(void);

typedef unsigned long addr_t;

struct ksym_cell {
	addr_t addr;
	char func[64];
	char module[31];
	char type;
};

/* The kernel function that an address lies in, or NULL. Never freed. */
struct ksym_cell *ksym_search(addr_t key);
/* Reads the symbols now instead of at the first search: how many, or a negative errno. */
int ksym_setup(int stack_only);

#ifdef __cplusplus
}
#endif

#endif
