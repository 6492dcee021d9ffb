/*
 * What authors get wrong, one thing at a time: -DFAULT=name. Where lines are given, the first one is good:
 * `right value=<number of the call>`.
 */
#include <math.h>
#include <stdint.h>
#include "unity.h"

enum {
	none,
	init_negative,
	init_positive,
	call_negative,
	call_positive,
	num_negative,
	num_over_limit,
	num_over_memory,
	null_lines,
	hole_in_values,
	hole_in_indexes,
	no_table,
	no_value,
	comment_table,
	report_table,
	no_terminator,
	not_utf8,
	not_finite,
	only_not_finite,
	name_twice,
	tag_and_field,
	reserved_name,
	number_and_text,
	log_null,
	log_too_long,
	log_not_utf8,
	log_static,
	log_shared,
	log_without_name,
	static_lines,
	odd_pointer,
	same_series,
};

static int calls;

int init(void *arg)
{
	(void)arg;
	calls = 0;
	if (FAULT == init_negative)
		return -22;
	if (FAULT == init_positive)
		return 13;
	return 0;
}

static struct unity_line *wrong(struct unity_lines *lines, int i)
{
	struct unity_line *line = &lines->line[i];

	unity_set_table(line, "wrong");
	unity_set_value(line, 0, "value", i);
	return line;
}

static void fill(struct unity_lines *lines, int num)
{
	lines->num = num;
	lines->line = calloc(num, sizeof(struct unity_line));
	unity_set_table(&lines->line[0], "right");
	unity_set_value(&lines->line[0], 0, "value", calls);
}

int call(int t, struct unity_lines *lines)
{
	static struct unity_line at_rest[2];
	struct unity_line *line;
	char *log;

	(void)t;
	calls++;
	if (FAULT == null_lines) {
		lines->num = 5;
		return 0;
	}
	if (FAULT == odd_pointer) {
		lines->num = 1;
		lines->line = (void *)(uintptr_t)12345;
		return 0;
	}
	if (FAULT == static_lines) {
		lines->num = 2;
		lines->line = at_rest;
		unity_set_table(&at_rest[0], "right");
		unity_set_value(&at_rest[0], 0, "value", calls);
		unity_set_table(&at_rest[1], "wrong");
		at_rest[1].logs[0].log = NULL; /* the host has freed it */
		unity_set_log(&at_rest[1], "log", "of malloc");
		return 0;
	}
	if (FAULT == num_over_limit) {
		fill(lines, 3000);
		for (int i = 1; i < 3000; i++) {
			line = wrong(lines, i);
			line->indexs[0] = (struct unity_index){"n",
							       {'0' + i / 1000, '0' + i / 100 % 10,
								'0' + i / 10 % 10, '0' + i % 10}};
			if (i > 2990)
				unity_set_log(line, "log", "a text that nobody reads");
		}
		return 0;
	}
	fill(lines, 4);
	line = wrong(lines, 1);
	lines->num = 2;
	switch (FAULT) {
	case call_negative:
		unity_set_log(line, "log", "of a call that fails");
		return -5;
	case call_positive:
		return 2;
	case num_negative:
		unity_set_log(line, "log", "of no line");
		lines->num = -3;
		break;
	case num_over_memory:
		wrong(lines, 2);
		lines->num = 2000;
		unity_set_index(&lines->line[2], 0, "n", "2");
		break;
	case hole_in_values:
		unity_set_value(line, 2, "lost", 1);
		unity_set_value(line, 3, "lost_too", 1);
		break;
	case hole_in_indexes:
		unity_set_index(line, 1, "lost", "x");
		break;
	case no_table:
		memset(line->table, 0, sizeof(line->table));
		break;
	case no_value:
		memset(line->values, 0, sizeof(line->values));
		break;
	case comment_table:
		memcpy(line->table, "#wrong", 7);
		break;
	case report_table:
		memcpy(line->table, "collector_plugin", 17);
		break;
	case no_terminator:
		memset(line->table, 't', sizeof(line->table));
		memset(line->indexs[0].name, 'i', 16);
		memset(line->indexs[0].index, 'x', 16);
		memset(line->values[0].name, 'v', 16);
		memset(line->logs[0].name, 'l', 16);
		line->logs[0].log = strdup("text");
		break;
	case not_utf8:
		unity_set_index(line, 0, "comm", "caf\xc3");
		unity_set_value(line, 0, "val\xffue", 1);
		break;
	case not_finite:
		unity_set_value(line, 1, "nan", NAN);
		unity_set_value(line, 2, "inf", -INFINITY);
		break;
	case only_not_finite:
		unity_set_value(line, 0, "value", NAN);
		break;
	case name_twice:
		unity_set_value(line, 1, "value", 99);
		break;
	case tag_and_field:
		unity_set_index(line, 0, "value", "x");
		unity_set_value(line, 1, "other", 1);
		break;
	case reserved_name:
		unity_set_index(line, 0, "time", "x");
		unity_set_value(line, 1, "interval_ns", 1);
		break;
	case number_and_text:
		memset(&lines->line[2], 0, sizeof(*line));
		unity_set_table(&lines->line[2], "wrong");
		unity_set_index(&lines->line[2], 0, "n", "2");
		unity_set_value(&lines->line[2], 0, "other", 1);
		unity_set_log(&lines->line[2], "value", "no number");
		lines->num = 3;
		break;
	case log_null:
		memcpy(line->logs[0].name, "log", 4);
		break;
	case log_too_long:
		log = malloc(100001);
		memset(log, 'y', 100000);
		/* 64 KiB end within the second byte of this character. */
		memcpy(log + 65535, "\xc3\xa4", 2);
		log[100000] = 0;
		unity_set_log(line, "log", log);
		free(log);
		break;
	case log_not_utf8:
		unity_set_log(line, "log",
			      "a\xff"
			      "b");
		break;
	case log_static:
		memcpy(line->logs[0].name, "log", 4);
		line->logs[0].log = "a constant";
		break;
	case log_shared:
		unity_set_log(line, "log", "of two");
		line = wrong(lines, 2);
		unity_set_index(line, 0, "n", "2");
		line->logs[0] = lines->line[1].logs[0];
		lines->num = 3;
		break;
	case log_without_name:
		unity_set_log(line, "", "nobody knows whose");
		break;
	case same_series:
		wrong(lines, 2);
		lines->num = 3;
		break;
	}
	return 0;
}

void deinit(void)
{
	if (FAULT == init_negative || FAULT == init_positive)
		abort(); /* what init has freed already */
}
