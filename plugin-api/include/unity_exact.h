/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Reads COUNTERS, HISTOGRAM and TABLE of unity.bpf.h in a C plugin: every event once, none lost and none
 * twice, while programs go on counting.
 *
 *   exact = unity_exact_new(csample->obj);                        in init(), after LOAD_SKEL_OBJECT
 *
 *   unity_exact_cut(exact);                                       in call(), before tables are read
 *   n = unity_exact_count(exact, "counts", "SHOWS");              growth since the last time
 *   rows = unity_exact_table(exact, "comms");                     keys and values since the last cut
 *
 * LOAD_SKEL_OBJECT and coolbpf_object_load() set the sizes of such maps. Whoever loads by other means calls
 * unity_exact_prepare() between open and load: the kernel refuses the maps for their size otherwise.
 *
 * Programs add to one of two halves, and announce themselves before (CUT(cut) in unity/cut.h). The cut turns
 * the half over and waits until nobody holds the old one: mostly less than a microsecond. All is done from
 * one thread. The object is compiled without UNITY_FETCH, as bpfso.mk does.
 */
#ifndef UNITY_EXACT_H
#define UNITY_EXACT_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#ifdef __cplusplus
extern "C" {
#endif

#define UNITY_API static inline __attribute__((unused))

/* ---- maps by name ---- */

/* The descriptor of a map, or -ENOENT and a message with the maps that there are. */
UNITY_API int unity_find_map(struct bpf_object *obj, const char *name)
{
	struct bpf_map *map = obj && name ? bpf_object__find_map_by_name(obj, name) : NULL;

	if (!obj || !name)
		return -EINVAL;
	if (map)
		return bpf_map__fd(map);
	fprintf(stderr, "%s has no map `%s`; it has", bpf_object__name(obj), name);
	bpf_object__for_each_map(map, obj) fprintf(stderr, " %s", bpf_map__name(map));
	fprintf(stderr, "\n");
	return -ENOENT;
}

/* ---- sizes, set before the object is loaded ---- */

/* In max_entries, as in unity/base.h and unity/histogram.h. */
#define UNITY_EXACT_BANKED     (1u << 29)
#define UNITY_EXACT_PER_THREAD ((1u << 28) | 1)
#define UNITY_EXACT_LEN	       ((1u << 27) - 1)

/* The highest possible CPU's number plus one: bpf_get_smp_processor_id() stays below. */
UNITY_API unsigned int unity_cpus(void)
{
	FILE *file = fopen("/sys/devices/system/cpu/possible", "re");
	unsigned int highest = 0, number;
	char sign = 0;

	if (!file) {
		long configured = sysconf(_SC_NPROCESSORS_CONF);

		return configured > 0 ? (unsigned int)configured : 1;
	}
	while (fscanf(file, "%u%c", &number, &sign) >= 1)
		highest = number;
	fclose(file);
	return highest + 1;
}

UNITY_API unsigned int unity_limit(const char *path, unsigned int otherwise)
{
	FILE *file = fopen(path, "re");
	unsigned int limit;

	if (!file)
		return otherwise;
	if (fscanf(file, "%u", &limit) != 1)
		limit = otherwise;
	fclose(file);
	return limit;
}

/* Room for every thread that this machine can have, within 8,192 for each CPU and 65,536. */
UNITY_API unsigned int unity_max_threads(void)
{
	unsigned int most = 8192 * unity_cpus();
	unsigned int pids = unity_limit("/proc/sys/kernel/pid_max", most);
	unsigned int threads = unity_limit("/proc/sys/kernel/threads-max", most);

	if (most > 65536)
		most = 65536;
	if (threads < pids)
		pids = threads;
	return pids < 1024 ? 1024 : pids > most ? most : pids;
}

/* Sets the sizes of the maps of unity.bpf.h, between open and load. 0, or a negative errno. */
UNITY_API int unity_exact_prepare(struct bpf_object *obj)
{
	unsigned int cpus = unity_cpus();
	struct bpf_map *map;
	int err = 0;

	bpf_object__for_each_map(map, obj)
	{
		unsigned int declared = bpf_map__max_entries(map);

		if (bpf_map__type(map) == BPF_MAP_TYPE_RINGBUF) {
			if (bpf_map__value_size(map))
				err = bpf_map__set_value_size(map, 0); /* EVENTS: for Rust */
		} else if (declared == UNITY_EXACT_PER_THREAD) {
			err = bpf_map__set_max_entries(map, unity_max_threads());
		} else if (declared & UNITY_EXACT_BANKED) {
			err = bpf_map__set_max_entries(map, (declared & UNITY_EXACT_LEN) * cpus);
		} else if (declared > UNITY_EXACT_LEN) {
			err = bpf_map__set_max_entries(map, declared & UNITY_EXACT_LEN);
		}
		if (err)
			return err;
	}
	return 0;
}

/* ---- the pieces of a loaded object ---- */

/* Cells of 8 bytes of a banked array, in this process's memory. */
struct unity_bank {
	struct unity_bank *next;
	const char *name;
	uint64_t *cells;
	size_t len; /* of all CPUs */
	uint64_t *before;
};

struct unity_exact {
	struct bpf_object *obj;
	unsigned int cpus;
	struct unity_bank *banks;
	struct unity_bank *cut; /* NULL: no program enters a cut */
	uint64_t active;
	bool pending;
	bool sleepable;
	int quiet; /* the half that nobody adds to, or a negative errno */
	int grace[2];
};

/* The memory of a banked array, or NULL and errno. */
UNITY_API struct unity_bank *unity_bank_of(struct unity_exact *e, const char *name)
{
	struct unity_bank *bank;
	struct bpf_map *map;
	void *memory;
	int fd;

	for (bank = e->banks; bank; bank = bank->next)
		if (!strcmp(bank->name, name))
			return bank;
	fd = unity_find_map(e->obj, name);
	if (fd < 0) {
		errno = -fd;
		return NULL;
	}
	map = bpf_object__find_map_by_name(e->obj, name);
	bank = (struct unity_bank *)calloc(1, sizeof(*bank));
	if (!bank)
		return NULL;
	bank->name = bpf_map__name(map);
	bank->len = (size_t)bpf_map__max_entries(map) * bpf_map__value_size(map) / 8;
	memory = mmap(NULL, bank->len * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED || !(bank->before = (uint64_t *)calloc(bank->len, 8))) {
		if (memory != MAP_FAILED)
			munmap(memory, bank->len * 8);
		free(bank);
		return NULL;
	}
	bank->cells = (uint64_t *)memory;
	bank->next = e->banks;
	e->banks = bank;
	return bank;
}

/* Frees what unity_exact_new() made; NULL is fine. Before the object is destroyed. */
UNITY_API void unity_exact_free(struct unity_exact *e)
{
	struct unity_bank *bank, *next;

	if (!e)
		return;
	for (bank = e->banks; bank; bank = next) {
		next = bank->next;
		munmap(bank->cells, bank->len * 8);
		free(bank->before);
		free(bank);
	}
	for (int i = 0; i < 2; i++)
		if (e->grace[i] >= 0)
			close(e->grace[i]);
	free(e);
}

/* The pieces of a loaded object. NULL and errno: no memory, or the object was loaded unprepared. */
UNITY_API struct unity_exact *unity_exact_new(struct bpf_object *obj)
{
	struct unity_exact *e = (struct unity_exact *)calloc(1, sizeof(*e));
	struct bpf_program *program;

	if (!e)
		return NULL;
	e->obj = obj;
	e->cpus = unity_cpus();
	e->quiet = -EAGAIN;
	e->grace[0] = e->grace[1] = -1;
	bpf_object__for_each_program(program, obj) if (strstr(bpf_program__section_name(program),
							      ".s/")) e->sleepable = true;
	if (!bpf_object__find_map_by_name(obj, "unity_cut"))
		return e;
	e->cut = unity_bank_of(e, "unity_cut");
	if (!e->cut) {
		int err = errno;

		unity_exact_free(e);
		errno = err;
		return NULL;
	}
	return e;
}

/* ---- the cut ---- */

/* Cells of struct unity_cell. */
#define UNITY_CELLS 8
#define UNITY_WORD  0
#define UNITY_HALF  3

UNITY_API uint64_t unity_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Whether everybody who may hold the old half has left, within 50 ms. */
UNITY_API bool unity_left(struct unity_exact *e)
{
#if defined(__x86_64__) || defined(__i386__)
	uint64_t begin = unity_now_ns();
	long pause = 50000;

	for (unsigned int cpu = 0; cpu < e->cpus; cpu++) {
		uint64_t *word = &e->cut->cells[cpu * UNITY_CELLS + UNITY_WORD];

		while (__atomic_load_n(word, __ATOMIC_ACQUIRE)) {
			uint64_t waited = unity_now_ns() - begin;
			struct timespec sleep = {0, pause};

			if (waited >= 50000000)
				return false;
			if (waited < 20000)
				continue;
			nanosleep(&sleep, NULL);
			pause = pause < 500000 ? 2 * pause : 1000000;
		}
	}
	return true;
#else
	(void)e; /* announcing is no barrier there */
	return false;
#endif
}

/* Waits for every program that runs now, by a map-in-map, whose update does. 0, or a negative errno. */
UNITY_API int unity_grace_period(struct unity_exact *e)
{
	struct bpf_map_create_opts opts;
	uint32_t zero = 0;

	memset(&opts, 0, sizeof(opts));
	opts.sz = sizeof(opts);
	if (e->grace[0] < 0)
		e->grace[0] = bpf_map_create(BPF_MAP_TYPE_ARRAY, "unity_grace", 4, 4, 1, NULL);
	if (e->grace[0] < 0)
		return e->grace[0];
	opts.inner_map_fd = (uint32_t)e->grace[0];
	if (e->grace[1] < 0)
		e->grace[1] =
			bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "unity_grace", 4, 4, 1, &opts);
	if (e->grace[1] < 0)
		return e->grace[1];
	return bpf_map_update_elem(e->grace[1], &zero, &e->grace[0], BPF_ANY);
}

/*
 * Turns the half over and waits until the old one is quiet: it is read until the next cut. 0; -EAGAIN: a
 * sleepable program still holds it, so there is nothing to read, and the next cut covers both ticks; or
 * what the kernel answered.
 */
UNITY_API int unity_exact_cut(struct unity_exact *e)
{
	int err = 0;

	if (!e)
		return -EINVAL;
	if (!e->cut)
		return 0;
	if (!e->pending) {
		e->active ^= 1;
		for (unsigned int cpu = 0; cpu < e->cpus; cpu++)
			__atomic_store_n(&e->cut->cells[cpu * UNITY_CELLS + UNITY_HALF], e->active,
					 __ATOMIC_SEQ_CST);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		e->pending = true;
	}
	if (!unity_left(e))
		err = e->sleepable ? -EAGAIN : unity_grace_period(e);
	e->pending = err != 0;
	e->quiet = err ? err : (int)(e->active ^ 1);
	return err;
}

/* ---- COUNTERS and COUNTER_ARRAY ---- */

/* The type that a map is declared with, in the object's BTF; NULL when there is no such map. */
UNITY_API const struct btf_type *unity_declaration(const struct btf *btf, const char *map)
{
	int id = btf ? btf__find_by_name_kind(btf, ".maps", BTF_KIND_DATASEC) : -ENOENT;
	const struct btf_type *section = id > 0 ? btf__type_by_id(btf, (uint32_t)id) : NULL;

	for (unsigned int i = 0; section && i < btf_vlen(section); i++) {
		const struct btf_type *var =
			btf__type_by_id(btf, btf_var_secinfos(section)[i].type);

		if (!strcmp(btf__name_by_offset(btf, var->name_off), map))
			return btf__type_by_id(btf, var->type);
	}
	return NULL;
}

/* The type of a member, or what it points at. */
UNITY_API const struct btf_type *unity_member(const struct btf *btf, const struct btf_type *of,
					      const char *name)
{
	for (unsigned int i = 0; of && i < btf_vlen(of); i++) {
		const struct btf_member *member = &btf_members(of)[i];
		const struct btf_type *type = btf__type_by_id(btf, member->type);

		if (strcmp(btf__name_by_offset(btf, member->name_off), name))
			continue;
		return btf_is_ptr(type) ? btf__type_by_id(btf, type->type) : type;
	}
	return NULL;
}

/* The number of a name that COUNTERS(map, NAME, ..) declares, or -ENOENT and a message with the names. */
UNITY_API int unity_exact_number(struct unity_exact *e, const char *map, const char *name)
{
	const struct btf *btf = e ? bpf_object__btf(e->obj) : NULL;
	const struct btf_type *value = unity_member(btf, unity_declaration(btf, map), "value");
	const struct btf_type *names = unity_member(btf, value, "index");
	unsigned int n = names && btf_is_enum(names) ? btf_vlen(names) : 0;

	for (unsigned int i = 0; i < n; i++)
		if (!strcmp(btf__name_by_offset(btf, btf_enum(names)[i].name_off), name))
			return btf_enum(names)[i].val;
	fprintf(stderr, "map `%s` has no counter `%s`; it has", map, name);
	for (unsigned int i = 0; i + 1 < n; i++)
		fprintf(stderr, " %s", btf__name_by_offset(btf, btf_enum(names)[i].name_off));
	fprintf(stderr, "\n");
	return -ENOENT;
}

/*
 * How much the i-th counter grew since it was asked for the last time. Counters are never reset: the
 * difference loses nothing. 0 and a message for a map or a number that is not there.
 */
UNITY_API uint64_t unity_exact_counter(struct unity_exact *e, const char *map, unsigned int i)
{
	struct unity_bank *bank = e ? unity_bank_of(e, map) : NULL;
	size_t len = bank ? bank->len / e->cpus : 0;
	uint64_t now = 0, before;

	if (!bank)
		return 0;
	if (i >= len) {
		fprintf(stderr, "map `%s` has no counter %u\n", map, i);
		return 0;
	}
	for (unsigned int cpu = 0; cpu < e->cpus; cpu++)
		now += __atomic_load_n(&bank->cells[cpu * len + i], __ATOMIC_RELAXED);
	before = bank->before[i];
	bank->before[i] = now;
	return now - before;
}

/* The same of a counter by its name. */
UNITY_API uint64_t unity_exact_count(struct unity_exact *e, const char *map, const char *name)
{
	int number = unity_exact_number(e, map, name);

	return number < 0 ? 0 : unity_exact_counter(e, map, (unsigned int)number);
}

/* ---- HISTOGRAM ---- */

#define UNITY_EXACT_SLOTS 252
#define UNITY_EXACT_CELLS 256

struct unity_distribution {
	uint64_t count;
	uint64_t sum; /* in the unit that is shown: what was given, divided */
	uint64_t max;
	uint64_t slots[UNITY_EXACT_SLOTS];
};

/* The lowest value of a slot; of the slot behind it, what is just above. */
UNITY_API uint64_t unity_slot_low(unsigned int slot)
{
	unsigned int power = slot / 4 + 1;

	if (slot < 8)
		return slot;
	if (power > 63)
		return UINT64_MAX;
	return (uint64_t)(4 + slot % 4) << (power - 2);
}

/* What is not above a share of the values: unity_quantile(&d, 0.99). The upper end of its slot, or max. */
UNITY_API uint64_t unity_quantile(const struct unity_distribution *d, double share)
{
	double seen = 0;

	for (unsigned int slot = 0; slot < UNITY_EXACT_SLOTS; slot++) {
		seen += (double)d->slots[slot];
		if (d->slots[slot] && seen >= share * (double)d->count) {
			uint64_t high = unity_slot_low(slot + 1) - 1;

			return high < d->max ? high : d->max;
		}
	}
	return 0;
}

/*
 * What the i-th histogram of a map counted between the last two cuts, once for each cut. `div` is the
 * divisor that the map was declared with. 0, or a negative errno; then there is nothing in it.
 */
UNITY_API int unity_exact_histogram(struct unity_exact *e, const char *map, unsigned int i,
				    uint64_t div, struct unity_distribution *d)
{
	struct unity_bank *bank = e ? unity_bank_of(e, map) : NULL;
	uint64_t now[UNITY_EXACT_SLOTS + 1] = {0};
	uint64_t max = 0, *before, *rest, sum;
	size_t len, at;
	unsigned int top = 0;

	memset(d, 0, sizeof(*d));
	if (!bank)
		return e ? -errno : -EINVAL;
	if (e->quiet < 0)
		return e->quiet;
	len = bank->len / e->cpus;
	at = (2 * (size_t)i + (size_t)e->quiet) * UNITY_EXACT_CELLS;
	if (at + UNITY_EXACT_CELLS > len || !div)
		return -ERANGE;
	for (unsigned int cpu = 0; cpu < e->cpus; cpu++) {
		uint64_t *cells = &bank->cells[cpu * len + at];
		uint64_t of_cpu =
			__atomic_exchange_n(&cells[UNITY_EXACT_SLOTS + 1], 0, __ATOMIC_RELAXED);

		if (of_cpu > max)
			max = of_cpu;
		for (unsigned int slot = 0; slot <= UNITY_EXACT_SLOTS; slot++)
			now[slot] += __atomic_load_n(&cells[slot], __ATOMIC_RELAXED);
	}
	before = &bank->before[at];
	for (unsigned int slot = 0; slot < UNITY_EXACT_SLOTS; slot++) {
		d->slots[slot] = now[slot] - before[slot];
		d->count += d->slots[slot];
		if (d->slots[slot])
			top = slot;
	}
	/* What the division leaves over comes with a later tick; it is kept where a maximum would be. */
	rest = &bank->before[2 * (size_t)i * UNITY_EXACT_CELLS + UNITY_EXACT_SLOTS + 1];
	sum = now[UNITY_EXACT_SLOTS] - before[UNITY_EXACT_SLOTS] + *rest;
	memcpy(before, now, sizeof(now));
	*rest = sum % div;
	d->sum = sum / div;
	if (d->count) {
		d->max = max / div;
		if (d->max < unity_slot_low(top))
			d->max = unity_slot_low(top);
		if (d->max > unity_slot_low(top + 1) - 1)
			d->max = unity_slot_low(top + 1) - 1;
	}
	return 0;
}

/* ---- TABLE ---- */

/* Keys and values, in no order; freed by unity_rows_free(). */
struct unity_rows {
	int error; /* 0, or a negative errno; the rows that there are count all the same */
	unsigned int n;
	size_t key_size, stride;
	char *memory;
};

#define unity_row_key(rows, i)	 ((void *)((rows)->memory + (i) * (rows)->stride))
#define unity_row_value(rows, i) ((void *)((char *)unity_row_key(rows, i) + (rows)->key_size))

UNITY_API void unity_rows_free(struct unity_rows *rows)
{
	free(rows->memory);
	rows->memory = NULL;
	rows->n = 0;
}

/*
 * The keys that a TABLE got between the last two cuts, with their values, once for each cut. What an error
 * leaves in the map comes with the next cut but one.
 */
UNITY_API struct unity_rows unity_exact_table(struct unity_exact *e, const char *name)
{
	struct unity_rows rows;
	struct bpf_map *map;
	size_t key_size, value_size, room = 0;
	char half[BPF_OBJ_NAME_LEN * 4], *next = NULL;
	int fd;

	memset(&rows, 0, sizeof(rows));
	rows.error = !e || !name ? -EINVAL : e->quiet < 0 ? e->quiet : 0;
	if (rows.error)
		return rows;
	snprintf(half, sizeof(half), "%s%s", name, e->quiet ? "__b" : "");
	rows.error = fd = unity_find_map(e->obj, half);
	if (fd < 0)
		return rows;
	map = bpf_object__find_map_by_name(e->obj, half);
	key_size = bpf_map__key_size(map);
	value_size = bpf_map__value_size(map);
	rows.key_size = (key_size + 7) / 8 * 8;
	rows.stride = rows.key_size + (value_size + 7) / 8 * 8;
	next = (char *)malloc(key_size);
	rows.error = next ? bpf_map_get_next_key(fd, NULL, next) : -ENOMEM;
	while (!rows.error) {
		char *row;

		if (rows.n == room) {
			char *more = (char *)realloc(rows.memory, (room + 256) * 2 * rows.stride);

			if (!more) {
				rows.error = -ENOMEM;
				break;
			}
			rows.memory = more;
			room = (room + 256) * 2;
		}
		row = (char *)unity_row_key(&rows, rows.n);
		memset(row, 0, rows.stride);
		memcpy(row, next, key_size);
		rows.error = bpf_map_lookup_elem(fd, row, row + rows.key_size);
		if (rows.error)
			break;
		/* Before it is removed: behind a key that is gone the map begins anew. */
		rows.error = bpf_map_get_next_key(fd, row, next);
		if (rows.error && rows.error != -ENOENT)
			break;
		if (bpf_map_delete_elem(fd, row)) {
			rows.error = -errno;
			break;
		}
		rows.n++;
	}
	if (rows.error == -ENOENT)
		rows.error = 0;
	free(next);
	return rows;
}

/* ---- what a map could not store ---- */

/* As enum unity_cause. */
enum unity_exact_cause {
	UNITY_LOST_FULL,
	UNITY_LOST_BUSY,
	UNITY_LOST_TRUNCATED,
	UNITY_LOST_TWICE,
	UNITY_LOST_UNMATCHED,
	UNITY_LOST_DIED,
	UNITY_LOST_PAST,
	UNITY_LOST_CAUSES = 8,
};

#define UNITY_EXACT_PIECES 24

/* The number of a piece: its declaration is a struct unity_KIND__NUMBER. */
UNITY_API int unity_piece_of(struct bpf_object *obj, const char *map)
{
	const struct btf *btf = bpf_object__btf(obj);
	const struct btf_type *declared = unity_declaration(btf, map);
	const char *tag = declared ? btf__name_by_offset(btf, declared->name_off) : "";
	const char *number = strstr(tag, "__");

	return number ? atoi(number + 2) : -ENOENT;
}

/* How much a map could not store since it was asked for the last time, for a cause. */
UNITY_API uint64_t unity_exact_lost(struct unity_exact *e, const char *map,
				    enum unity_exact_cause cause)
{
	int piece = e ? unity_piece_of(e->obj, map) : -EINVAL;

	if (piece < 0 || piece >= UNITY_EXACT_PIECES)
		return 0;
	return unity_exact_counter(e, "unity_lost",
				   (unsigned int)piece * UNITY_LOST_CAUSES + (unsigned int)cause);
}

/*
 * Runs of an object's programs that the kernel skipped, since they were loaded: preemptible kernels do not
 * run a program on a CPU where it is running already. 0 before Linux 5.12, which says nothing about it.
 */
UNITY_API uint64_t unity_missed(struct bpf_object *obj)
{
	struct bpf_program *program;
	uint64_t sum = 0;

	bpf_object__for_each_program(program, obj)
	{
		struct bpf_prog_info info;
		uint32_t size = sizeof(info);
		int fd = bpf_program__fd(program);

		memset(&info, 0, sizeof(info));
		if (fd >= 0 && !bpf_prog_get_info_by_fd(fd, &info, &size))
			sum += info.recursion_misses;
	}
	return sum;
}

#ifdef __cplusplus
}
#endif

#endif
