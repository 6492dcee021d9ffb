/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a C plugin and the collector share. A plugin is a shared library with three functions:
 *
 *   int init(void *queue);                        once; 0 is success
 *   int call(int t, struct unity_lines *lines);   once per tick; t: seconds since the last call, at least 1
 *   void deinit(void);                            at the end; not called when init() failed
 *
 * call() takes lines with unity_alloc_lines(), fills them in and returns 0; the collector writes them
 * out and frees them. A plugin may also start threads with beeQ_send_thread() that hand over lines at any
 * time with beeQ_send().
 *
 * The layout is that of sysAK's unity, so plugins built for unity load unchanged. The helpers take what
 * unity's take, and return an error where those end the process: a negative errno, or NULL. A setter that
 * is given NULL, as after an allocation that failed, stores nothing and says so.
 */
#ifndef UNITY_H
#define UNITY_H

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unity_host.h"

#ifdef __cplusplus
#define UNITY_ASSERT static_assert
extern "C" {
#else
#define UNITY_ASSERT _Static_assert
#endif

#define UNITY_INLINE static inline __attribute__((always_inline, unused))

/* Bytes of names, with the NUL: what is longer is cut off. */
#define TABLE_SIZE 32
#define NAME_SIZE  16
#define INDEX_SIZE 16
/* Entries of a line. The first one without a name ends the list. */
#define UNITY_INDEXS 4
#define UNITY_VALUES 32
#define UNITY_LOGS   1
/* Lines of one call, at most. */
#define MAX_UNITY_LINES 2048

/* A tag. */
struct unity_index {
	char name[NAME_SIZE];
	char index[INDEX_SIZE];
};

/* A field. */
struct unity_value {
	char name[NAME_SIZE];
	double value;
};

/* A field of text, in memory from malloc(). */
struct unity_log {
	char name[NAME_SIZE];
	char *log;
};

struct unity_line {
	char table[TABLE_SIZE];
	struct unity_index indexs[UNITY_INDEXS];
	struct unity_value values[UNITY_VALUES];
	struct unity_log logs[UNITY_LOGS];
};

/* `line` is one array from malloc(). The collector frees it and its logs, also after an error. */
struct unity_lines {
	int num;
	struct unity_line *line;
};

#if __SIZEOF_POINTER__ == 8
UNITY_ASSERT(sizeof(struct unity_index) == 32, "the layout of unity");
UNITY_ASSERT(sizeof(struct unity_value) == 24, "the layout of unity");
UNITY_ASSERT(sizeof(struct unity_log) == 24, "the layout of unity");
UNITY_ASSERT(sizeof(struct unity_line) == 952, "the layout of unity");
UNITY_ASSERT(sizeof(struct unity_lines) == 16, "the layout of unity");
UNITY_ASSERT(offsetof(struct unity_index, index) == 16, "the layout of unity");
UNITY_ASSERT(offsetof(struct unity_value, value) == 16, "the layout of unity");
UNITY_ASSERT(offsetof(struct unity_log, log) == 16, "the layout of unity");
UNITY_ASSERT(offsetof(struct unity_line, indexs) == 32, "the layout of unity");
UNITY_ASSERT(offsetof(struct unity_line, values) == 160, "the layout of unity");
UNITY_ASSERT(offsetof(struct unity_line, logs) == 928, "the layout of unity");
UNITY_ASSERT(offsetof(struct unity_lines, line) == 8, "the layout of unity");
#endif

/* ---- lines ---- */

/* Lines to push: fill them in, then beeQ_send(). NULL without memory. */
UNITY_INLINE struct unity_lines *unity_new_lines(void)
{
	return (struct unity_lines *)calloc(1, sizeof(struct unity_lines));
}

/* Takes `num` lines of zeros: `num`, -ERANGE for more than MAX_UNITY_LINES, or -ENOMEM. */
UNITY_INLINE int unity_alloc_lines(struct unity_lines *lines, unsigned int num)
{
	if (!lines)
		return -EINVAL;
	lines->num = 0;
	lines->line = NULL;
	if (num > MAX_UNITY_LINES)
		return -ERANGE;
	lines->line = (struct unity_line *)calloc(num ? num : 1, sizeof(struct unity_line));
	if (!lines->line)
		return -ENOMEM;
	lines->num = (int)num;
	return (int)num;
}

/* The i-th line; NULL past the last one. */
UNITY_INLINE struct unity_line *unity_get_line(struct unity_lines *lines, unsigned int i)
{
	if (!lines || !lines->line || lines->num < 0 || i >= (unsigned int)lines->num)
		return NULL;
	return &lines->line[i];
}

/* Copies a name and ends it: 0, or -ENAMETOOLONG when its end was cut off. */
UNITY_INLINE int unity_copy(char *to, size_t size, const char *name)
{
	size_t len;

	memset(to, 0, size);
	for (len = 0; len < size - 1 && name[len]; len++)
		to[len] = name[len];
	return name[len] ? -ENAMETOOLONG : 0;
}

/* The measurement. 0, -EINVAL, or -ENAMETOOLONG: the end of a name was cut off, the rest is stored. */
UNITY_INLINE int unity_set_table(struct unity_line *line, const char *table)
{
	if (!line || !table)
		return -EINVAL;
	return unity_copy(line->table, TABLE_SIZE, table);
}

/* The i-th tag. 0, -EINVAL, -ERANGE for i above 3, or -ENAMETOOLONG as above. */
UNITY_INLINE int unity_set_index(struct unity_line *line, unsigned int i, const char *name,
				 const char *index)
{
	int name_err, index_err;

	if (!line || !name || !index)
		return -EINVAL;
	if (i >= UNITY_INDEXS)
		return -ERANGE;
	name_err = unity_copy(line->indexs[i].name, NAME_SIZE, name);
	index_err = unity_copy(line->indexs[i].index, INDEX_SIZE, index);
	return name_err ? name_err : index_err;
}

/* The i-th field. 0, -EINVAL, -ERANGE for i above 31, or -ENAMETOOLONG as above. */
UNITY_INLINE int unity_set_value(struct unity_line *line, unsigned int i, const char *name,
				 double value)
{
	if (!line || !name)
		return -EINVAL;
	if (i >= UNITY_VALUES)
		return -ERANGE;
	line->values[i].value = value;
	return unity_copy(line->values[i].name, NAME_SIZE, name);
}

/* The field of text, copied; a second call replaces the first. 0, -EINVAL, -ENOMEM, or -ENAMETOOLONG. */
UNITY_INLINE int unity_set_log(struct unity_line *line, const char *name, const char *log)
{
	char *copy;

	if (!line || !name || !log)
		return -EINVAL;
	copy = strdup(log);
	if (!copy)
		return -ENOMEM;
	free(line->logs[0].log);
	line->logs[0].log = copy;
	return unity_copy(line->logs[0].name, NAME_SIZE, name);
}

#ifdef __cplusplus
}
#endif

#endif
