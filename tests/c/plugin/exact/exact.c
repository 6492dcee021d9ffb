// SPDX-License-Identifier: MIT OR Apache-2.0
#include "../bpf_head.h"
#include "exact.skel.h"

DEFINE_SKEL_OBJECT(exact);
static struct unity_exact *pieces;
static uint64_t before;

int init(void *arg)
{
	int err = LOAD_SKEL_OBJECT(exact), key = 0, pid = getpid();

	if (err)
		return err;
	pieces = unity_exact_new(exact->obj);
	before = 0;
	return bpf_map_update_elem(bpf_map__fd(exact->maps.process), &key, &pid, BPF_ANY);
}

static uint64_t sum_of(const char *map, unsigned int *rows)
{
	struct unity_rows taken = unity_exact_table(pieces, map);
	uint64_t sum = 0;

	for (unsigned int i = 0; i < taken.n; i++)
		sum += *(uint64_t *)unity_row_value(&taken, i);
	if (taken.error)
		fprintf(stderr, "%s: %s\n", map, strerror(-taken.error));
	*rows = taken.n;
	unity_rows_free(&taken);
	return sum;
}

int call(int t, struct unity_lines *lines)
{
	uint64_t zeroed = 0, kept = 0, zero = 0;
	struct unity_distribution sizes;
	struct unity_line *line;
	unsigned int rows;
	int key = 0;

	bpf_map_lookup_elem(bpf_map__fd(exact->maps.zeroed), &key, &zeroed);
	bpf_map_update_elem(bpf_map__fd(exact->maps.zeroed), &key, &zero, BPF_ANY);
	bpf_map_lookup_elem(bpf_map__fd(exact->maps.kept), &key, &kept);

	unity_alloc_lines(lines, 1);
	line = unity_get_line(lines, 0);
	unity_set_table(line, "exact");
	unity_set_value(line, 0, "zeroed", zeroed);
	unity_set_value(line, 1, "kept", kept - before);
	before = kept;
	unity_set_value(line, 2, "counters", unity_exact_count(pieces, "counts", "CALLS"));
	if (unity_exact_cut(pieces))
		return -1;
	unity_set_value(line, 3, "table", sum_of("threads", &rows));
	unity_set_value(line, 4, "rows", rows);
	unity_set_value(line, 5, "few", sum_of("few", &rows));
	unity_set_value(line, 6, "few_lost", unity_exact_lost(pieces, "few", UNITY_LOST_FULL));
	if (unity_exact_histogram(pieces, "sizes", 1, 1000, &sizes))
		return -2;
	unity_set_value(line, 7, "histogram", sizes.count);
	unity_set_value(line, 8, "histogram_sum", sizes.sum);
	unity_set_value(line, 9, "max", sizes.max);
	unity_set_value(line, 10, "again", sum_of("threads", &rows));
	unity_set_value(line, 11, "missed_sum", unity_missed(exact->obj));
	return 0;
}

void deinit(void)
{
	unity_exact_free(pieces);
	DESTROY_SKEL_OBJECT(exact);
}
