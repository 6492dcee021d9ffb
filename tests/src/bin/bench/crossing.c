/* Lines whose making is measured, for `cargo xtask bench crossing`: the last line says how long it took. */
#include <stdio.h>
#include <time.h>
#include "unity.h"

#define LINES 2000

static long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000L + time.tv_nsec;
}

int init(void *arg)
{
	return arg ? 0 : -1;
}

int call(int t, struct unity_lines *lines)
{
	long begin = now();
	char comm[16];

	unity_alloc_lines(lines, LINES + 1);
	for (int i = 0; i < LINES; i++) {
		struct unity_line *line = unity_get_line(lines, i);

		snprintf(comm, sizeof(comm), "kworker/u8:%d", i);
		unity_set_table(line, "runqlat_comm");
		unity_set_index(line, 0, "comm", comm);
		unity_set_index(line, 1, "dc", "fra1");
		unity_set_index(line, 2, "host", "box-0417");
		unity_set_value(line, 0, "count", i);
		unity_set_value(line, 1, "sum_us", i * 731);
		unity_set_value(line, 2, "max_us", i * 17);
		unity_set_value(line, 3, "mean_us", i * 0.37);
	}
	unity_set_table(unity_get_line(lines, LINES), "own");
	unity_set_value(unity_get_line(lines, LINES), 0, "ns", now() - begin);
	(void)t;
	return 0;
}

void deinit(void)
{
}
