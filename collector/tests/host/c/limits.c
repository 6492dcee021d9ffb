/* Every row of the layout's table at its limit. */
#include <stdio.h>
#include "unity.h"

#define LINES 2048
#define LOG   (64 * 1024)

int init(void *arg)
{
	return arg ? 0 : -1;
}

int call(int t, struct unity_lines *lines)
{
	char *log = malloc(LOG + 1);

	memset(log, 'x', LOG);
	log[LOG] = 0;
	unity_alloc_lines(lines, LINES);
	for (int i = 0; i < LINES; i++) {
		struct unity_line *line = unity_get_line(lines, i);
		char name[40], text[40];

		unity_set_table(line, "a_table_of_31_bytes_as_they_fit");
		for (int j = 0; j < 4; j++) {
			sprintf(name, "index_15_bytes%d", j);
			sprintf(text, "%09d_text%d", i, j);
			unity_set_index(line, j, name, text);
		}
		for (int j = 0; j < 32; j++) {
			sprintf(name, "value_15_byte%02d", j);
			unity_set_value(line, j, name, i * 100 + j);
		}
	}
	unity_set_log(unity_get_line(lines, 0), "a_log_15_bytes_", log);
	free(log);
	(void)t;
	return 0;
}

/* As the guide's text has it. */
int deinit(void *arg)
{
	return arg ? 0 : -1;
}
