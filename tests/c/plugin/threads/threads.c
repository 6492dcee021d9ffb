// SPDX-License-Identifier: MIT OR Apache-2.0
/* No BPF: a thread of the host's that pushes, and lines at all limits. */
#include "../plugin_head.h"
#include "../proto_sender.h"
#include <unistd.h>

static volatile pthread_t sample_thread_id = 0;

static int sample_thread_func(struct beeQ *q, void *arg)
{
	while (plugin_is_working()) {
		struct unity_line *line;
		struct unity_lines *lines = unity_new_lines();

		unity_alloc_lines(lines, 1);
		line = unity_get_line(lines, 0);
		unity_set_table(line, "pushed");
		unity_set_value(line, 0, "value1", 1.0);
		unity_set_log(line, "log", "replaced");
		unity_set_log(line, "log", "hello world.");
		beeQ_send(q, lines);
		if (sleep(5) > 0)
			break;
	}
	return 0;
}

int init(void *arg)
{
	sample_thread_id = beeQ_send_thread((struct beeQ *)arg, NULL, sample_thread_func);
	printf("proc: %s\n", get_unity_proc());
	return 0;
}

int call(int t, struct unity_lines *lines)
{
	struct unity_lines none = {0, NULL};
	struct unity_line *line;
	char name[64];

	if (unity_alloc_lines(&none, MAX_UNITY_LINES + 1) != -ERANGE || none.num || none.line)
		return 1;
	if (unity_get_line(&none, 0) || unity_set_table(NULL, "t") != -EINVAL ||
	    unity_set_value(unity_get_line(&none, 0), 0, "v", 1) != -EINVAL)
		return 2;
	if (unity_alloc_lines(lines, MAX_UNITY_LINES) != MAX_UNITY_LINES)
		return 3;
	if (unity_get_line(lines, MAX_UNITY_LINES) || unity_get_line(lines, -1))
		return 4;
	line = unity_get_line(lines, MAX_UNITY_LINES - 1);
	if (unity_set_table(line, "abcdefghijklmnopqrstuvwxyz01234") ||
	    unity_set_table(line, "abcdefghijklmnopqrstuvwxyz012345") != -ENAMETOOLONG)
		return 5;
	for (int i = 0; i < UNITY_INDEXS; i++) {
		snprintf(name, sizeof(name), "index%010d", i);
		if (unity_set_index(line, i, name, name))
			return 6;
	}
	for (int i = 0; i < UNITY_VALUES; i++) {
		snprintf(name, sizeof(name), "value%010d", i);
		if (unity_set_value(line, i, name, i))
			return 7;
	}
	if (unity_set_index(line, UNITY_INDEXS, "i", "i") != -ERANGE ||
	    unity_set_value(line, UNITY_VALUES, "v", 1) != -ERANGE ||
	    unity_set_index(line, 0, "index", "0123456789abcdef") != -ENAMETOOLONG)
		return 8;
	return 0;
}

void deinit(void)
{
	plugin_thread_stop(sample_thread_id);
	printf("thread plugin uninstall\n");
}
