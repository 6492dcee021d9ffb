/*
 * Threads that send lines as fast as they can. What was sent, and what became of it, is written to the file that the
 * variable COUNTS of the environment names, when the plugin ends.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>
#include "unity.h"

#ifndef THREADS
#define THREADS 4
#endif
#ifndef PAUSE_US
#define PAUSE_US 0
#endif
#ifdef IGNORES
#define MAY_GO_ON 1
#else
#define MAY_GO_ON plugin_is_working()
#endif

static pthread_t threads[THREADS];
static atomic_long taken, full, stopped, other;
static int calls;

static int send_lines(struct beeQ *q, void *arg)
{
	char index[16];
	long i = 0;

	snprintf(index, sizeof(index), "%ld", (long)arg);
#ifdef BLOCKS
	int ends[2];

	if (pipe(ends))
		return -1;
	while (MAY_GO_ON)
		if (read(ends[0], index, 1) >= 0)
			abort(); /* nobody writes */
	close(ends[0]);
	close(ends[1]);
#endif
	while (MAY_GO_ON) {
		struct unity_lines *lines = unity_new_lines();
		struct unity_line *line;

		unity_alloc_lines(lines, 1);
		line = unity_get_line(lines, 0);
		unity_set_table(line, "pushed");
		unity_set_index(line, 0, "thread", index);
		unity_set_value(line, 0, "number", i++);
		if (i % 16 == 0)
			unity_set_log(line, "log", "of one in sixteen");
		switch (beeQ_send(q, lines)) {
		case 0:
			taken++;
			break;
		case -ENOBUFS:
			full++;
			break;
		case -ESHUTDOWN:
			stopped++;
			break;
		default:
			other++;
		}
		if (PAUSE_US)
			usleep(PAUSE_US);
	}
	return 0;
}

/* What an earlier process of this plugin has counted. */
static void go_on_counting(void)
{
	const char *path = getenv("COUNTS");
	FILE *file = path && !taken ? fopen(path, "r") : NULL;
	long counts[4];

	if (!file)
		return;
	if (fscanf(file, "%ld %ld %ld %ld", &counts[0], &counts[1], &counts[2], &counts[3]) == 4) {
		taken = counts[0];
		full = counts[1];
		stopped = counts[2];
		other = counts[3];
	}
	fclose(file);
}

int init(void *arg)
{
	calls = 0;
	go_on_counting();
	for (long i = 0; i < THREADS; i++) {
		threads[i] = beeQ_send_thread(arg, (void *)i, send_lines);
		if (!threads[i])
			return -EAGAIN;
	}
	return 0;
}

int call(int t, struct unity_lines *lines)
{
	(void)t;
	(void)lines;
	calls++;
#ifdef FAILS_EVERY
	/* Three failures in a row end it, and it is started again. */
	if (calls > FAILS_EVERY)
		return -EIO;
#endif
	return 0;
}

void deinit(void)
{
	const char *path = getenv("COUNTS");
	FILE *file;

#ifdef JOINS_ONLY
	/* As coolbpf's kill_perf_thread. */
	for (int i = 0; i < THREADS; i++) {
		pthread_kill(threads[i], SIGQUIT);
		pthread_join(threads[i], NULL);
	}
#elif !defined(LEAVES_THREADS)
	for (int i = 0; i < THREADS; i++)
		plugin_thread_stop(threads[i]);
	for (int i = 0; i < THREADS; i++)
		plugin_thread_stop(threads[i]); /* once too often */
#endif
	file = path ? fopen(path, "w") : NULL;
	if (file) {
		fprintf(file, "%ld %ld %ld %ld\n", (long)taken, (long)full, (long)stopped,
			(long)other);
		fclose(file);
	}
}
