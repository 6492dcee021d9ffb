// SPDX-License-Identifier: MIT OR Apache-2.0
/* TODO: what this tool counts. */
#include "../bpf_head.h"
#include "{{name}}.skel.h"

DEFINE_SKEL_OBJECT({{name}});
static struct unity_exact *exact;

int init(void *arg)
{
	int err = LOAD_SKEL_OBJECT({{name}});

	(void)arg;
	if (err)
		return err;
	exact = unity_exact_new({{name}}->obj);
	if (!exact) {
		DESTROY_SKEL_OBJECT({{name}});
		return -ENOMEM;
	}
	return 0;
}

int call(int t, struct unity_lines *lines)
{
	struct unity_line *line;
	int err = unity_alloc_lines(lines, 1);

	(void)t;
	if (err < 0)
		return err;
	line = unity_get_line(lines, 0);
	unity_set_table(line, "{{name}}");
	unity_set_value(line, 0, "forks", unity_exact_count(exact, "counts", "FORKS"));
	return 0;
}

void deinit(void)
{
	unity_exact_free(exact);
	exact = NULL;
	DESTROY_SKEL_OBJECT({{name}});
}
