// SPDX-License-Identifier: MIT OR Apache-2.0
/* No BPF: it prints, at each call, what must not come to a terminal on which something else is drawn. */
#include "../plugin_head.h"
#include <unistd.h>

static int calls;

int init(void *arg)
{
	printf("init of a plugin\n");
	return 0;
}

int call(int t, struct unity_lines *lines)
{
	static const char direct[] = "\033[5;5Hdescriptor 1 of a plugin\n";
	struct unity_line *line;

	/* Clears the screen, draws at places of its own, fills some lines, and leaves one without an end. */
	printf("\033[2J\033[1;1Hstdout of a plugin\n");
	fprintf(stderr, "\033[31m\033[10;10Hstderr of a plugin\n");
	if (write(STDOUT_FILENO, direct, sizeof(direct) - 1) < 0)
		return -1;
	for (int i = 0; i < 100; i++)
		printf("%d bottles of a plugin%s", i, i % 3 ? "\n" : "\r");
	fflush(stdout);

	unity_alloc_lines(lines, 1);
	line = unity_get_line(lines, 0);
	unity_set_table(line, "prints");
	unity_set_value(line, 0, "calls", ++calls);
	return 0;
}

void deinit(void)
{
	printf("deinit of a plugin\n");
}
