/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A BPF program in a C plugin, over the skeleton that `bpftool gen skeleton` makes of csample.bpf.c:
 *
 *   #include "../bpf_head.h"
 *   #include "csample.skel.h"
 *
 *   DEFINE_SKEL_OBJECT(csample);                                     the variable `csample`
 *   int init(void *arg) { return LOAD_SKEL_OBJECT(csample); }        open, load, attach
 *   void deinit(void) { DESTROY_SKEL_OBJECT(csample); }              detach and free
 *
 * LOAD_SKEL_OBJECT is 0 or a negative errno; after an error there is nothing left to free.
 *
 * With `#define COOLBPF_PERF_THREAD` before this header a thread reads the perf buffer `perf` (a map of the
 * program) and calls the plugin's handle_event for each event. `arg` is init()'s argument and becomes
 * `ctx`:
 *
 *   void handle_event(void *ctx, int cpu, void *data, __u32 size) { .. beeQ_send(ctx, lines); }
 *   DEFINE_SKEL_OBJECT(csample);
 *   int init(void *arg) { return LOAD_SKEL_OBJECT(csample, perf); }
 *
 * The buffer is there before the programs are attached, so the first event is in it. What finds no room
 * in it is counted, in perf_events_lost() and in lines `csample_lost`.
 *
 * DEFINE_SEKL_OBJECT and DESTORY_SKEL_BOJECT are the names that sources for unity use.
 */
#ifndef UNITY_BPF_HEAD_H
#define UNITY_BPF_HEAD_H

#include "coolbpf.h"
#include "plugin_head.h"

/* Prints why a step failed, and passes the error on. */
static inline __attribute__((unused)) int unity_failed(const char *skeleton, const char *step,
						       int err)
{
	if (err > 0)
		err = -err;
	fprintf(stderr, "%s: cannot %s: %s\n", skeleton, step, strerror(-err));
	return err;
}

/* A value that a statement may ignore. */
static inline __attribute__((unused)) int unity_done(void)
{
	return 0;
}

/* One round of expansion, so that a name may be a macro: bpfso.mk makes some for misspelt skeletons. */
#define UNITY_PICK2(_1, _2, form, ...) form
#define UNITY_DEFINE(...)	       UNITY_DEFINE_(__VA_ARGS__)
#define UNITY_DESTROY(...)	       UNITY_DESTROY_(__VA_ARGS__)
#define UNITY_LOAD1(...)	       UNITY_LOAD1_(__VA_ARGS__)
#define UNITY_LOAD2(...)	       UNITY_LOAD2_(__VA_ARGS__)

/*
 * Opens and loads; then `then`, an expression of an error; then attaches. After an error the variable is a
 * skeleton of zeros: sources look for maps in it before they look at the answer.
 */
#define UNITY_START(skel, then)                                                                    \
	({                                                                                         \
		int unity_err = 0;                                                                 \
		skel = skel##_bpf__open();                                                         \
		if (!skel)                                                                         \
			unity_err = unity_failed(#skel, "open", errno ? errno : EINVAL);           \
		if (!unity_err && (unity_err = unity_exact_prepare(skel->obj)))                    \
			unity_err = unity_failed(#skel, "set the sizes of maps", unity_err);       \
		if (!unity_err && (unity_err = skel##_bpf__load(skel)))                            \
			unity_err = unity_failed(#skel, "load", unity_err);                        \
		if (!unity_err)                                                                    \
			unity_err = (then);                                                        \
		if (!unity_err && (unity_err = skel##_bpf__attach(skel)))                          \
			unity_err = unity_failed(#skel, "attach", unity_err);                      \
		unity_err;                                                                         \
	})

/* The answer of a load; what failed is freed. */
#define UNITY_LOADED(skel, err)                                                                    \
	({                                                                                         \
		static struct skel##_bpf unity_nothing;                                            \
		if (err) {                                                                         \
			UNITY_DESTROY_(skel);                                                      \
			skel = &unity_nothing;                                                     \
		}                                                                                  \
		err;                                                                               \
	})

#define UNITY_LOAD1_(skel)                                                                         \
	({                                                                                         \
		int unity_loaded = UNITY_START(skel, 0);                                           \
		UNITY_LOADED(skel, unity_loaded);                                                  \
	})

#ifndef COOLBPF_PERF_THREAD

#define UNITY_DEFINE_(skel) __attribute__((visibility("hidden"))) struct skel##_bpf *skel = NULL

#define UNITY_DESTROY_(skel)                                                                       \
	({                                                                                         \
		if (skel && skel->skeleton)                                                        \
			skel##_bpf__destroy(skel);                                                 \
		skel = NULL;                                                                       \
		unity_done();                                                                      \
	})

/* Without COOLBPF_PERF_THREAD nothing reads the map that is named: sources name one all the same. */
#define UNITY_LOAD2_(skel, map) UNITY_LOAD1_(skel)

#else

/* Pages of the buffer for each CPU, a power of two. */
#ifndef COOLBPF_PERF_PAGES
#define COOLBPF_PERF_PAGES 128
#endif

/* What the thread reads. */
struct unity_perf {
	struct perf_buffer *buffer;
	pthread_t thread;
	const char *skeleton;
	__u64 lost;
};

static struct unity_perf unity_perf;

#ifndef __cplusplus
/* For sources that do without DEFINE_SKEL_OBJECT. */
static pthread_t perf_thread __attribute__((unused));
#endif

/* Events that found no room in the perf buffer, since the plugin was loaded. */
static inline __attribute__((unused)) __u64 perf_events_lost(void)
{
	return __atomic_load_n(&unity_perf.lost, __ATOMIC_RELAXED);
}

/* Counts them, and says so each time that there are twice as many. */
static inline __attribute__((unused)) void unity_count_lost(int cpu, __u64 n)
{
	__u64 all = __atomic_add_fetch(&unity_perf.lost, n, __ATOMIC_RELAXED);
	__u64 before = all - n;

	if ((all & ~before) > before)
		fprintf(stderr,
			"%llu events lost so far, the last ones on CPU %d: no room in the buffer\n",
			(unsigned long long)all, cpu);
}

/* A line NAME_lost as well, so that what is counted and what is lost add up. */
static inline __attribute__((unused)) void unity_perf_lost(void *queue, int cpu, __u64 n)
{
	struct unity_lines *lines = unity_new_lines();
	struct unity_line *line;
	char table[TABLE_SIZE];

	unity_count_lost(cpu, n);
	snprintf(table, sizeof(table), "%.26s_lost", unity_perf.skeleton);
	if (!lines || unity_alloc_lines(lines, 1) < 0) {
		free(lines);
		return;
	}
	line = unity_get_line(lines, 0);
	unity_set_table(line, table);
	unity_set_index(line, 0, "cause", "full");
	unity_set_value(line, 0, "events", (double)n);
	beeQ_send((struct beeQ *)queue, lines);
}

static inline __attribute__((unused)) int unity_perf_run(struct beeQ *q, void *arg)
{
	(void)q;
	(void)arg;
	coolbpf_read(unity_perf.buffer, 100);
	return 0;
}

static inline __attribute__((unused)) int
unity_perf_open(struct bpf_map *map, perf_buffer_sample_fn each, void *ctx, const char *skeleton)
{
	unity_perf.skeleton = skeleton;
	unity_perf.buffer = perf_buffer__new(bpf_map__fd(map), COOLBPF_PERF_PAGES, each,
					     unity_perf_lost, ctx, NULL);
	return unity_perf.buffer ? 0
				 : unity_failed(bpf_map__name(map), "make a perf buffer", errno);
}

static inline __attribute__((unused)) int unity_perf_start(void *queue)
{
	unity_perf.thread = beeQ_send_thread((struct beeQ *)queue, NULL, unity_perf_run);
	return unity_perf.thread ? 0 : unity_failed("perf", "start a thread", EAGAIN);
}

static inline __attribute__((unused)) void unity_perf_stop(void)
{
	if (unity_perf.thread)
		kill_perf_thread(unity_perf.thread);
	unity_perf.thread = 0;
	perf_buffer__free(unity_perf.buffer);
	unity_perf.buffer = NULL;
}

#define UNITY_DEFINE_(skel)                                                                        \
	__attribute__((visibility("hidden"))) struct skel##_bpf *skel = NULL;                      \
	static inline __attribute__((unused)) int thread_worker(struct beeQ *q, void *arg)         \
	{                                                                                          \
		(void)q;                                                                           \
		perf_thread_worker(arg);                                                           \
		return 0;                                                                          \
	}                                                                                          \
	static inline __attribute__((unused)) void handle_lost_events(void *ctx, int cpu,          \
								      __u64 lost)                  \
	{                                                                                          \
		(void)ctx;                                                                         \
		unity_count_lost(cpu, lost);                                                       \
	}                                                                                          \
	static pthread_t perf_thread __attribute__((unused))

/* First nothing new happens, then what is in the buffer is read. */
#define UNITY_DESTROY_(skel)                                                                       \
	({                                                                                         \
		if (skel && skel->skeleton)                                                        \
			skel##_bpf__detach(skel);                                                  \
		if (perf_thread)                                                                   \
			kill_perf_thread(perf_thread);                                             \
		perf_thread = 0;                                                                   \
		unity_perf_stop();                                                                 \
		if (skel && skel->skeleton)                                                        \
			skel##_bpf__destroy(skel);                                                 \
		skel = NULL;                                                                       \
		unity_done();                                                                      \
	})

#define UNITY_LOAD2_(skel, map)                                                                    \
	({                                                                                         \
		int unity_loaded = UNITY_START(                                                    \
			skel, unity_perf_open(skel->maps.map, handle_event, arg, #skel));          \
		if (!unity_loaded)                                                                 \
			unity_loaded = unity_perf_start(arg);                                      \
		UNITY_LOADED(skel, unity_loaded);                                                  \
	})

#endif

#define DEFINE_SKEL_OBJECT(skel)  UNITY_DEFINE(skel)
#define DESTROY_SKEL_OBJECT(skel) UNITY_DESTROY(skel)
#define LOAD_SKEL_OBJECT(...)	  UNITY_PICK2(__VA_ARGS__, UNITY_LOAD2, UNITY_LOAD1, )(__VA_ARGS__)

/* As sources for unity spell them. */
#define DEFINE_SEKL_OBJECT(skel)  UNITY_DEFINE(skel)
#define DESTORY_SKEL_BOJECT(skel) UNITY_DESTROY(skel)

#define coobpf_map_find(object, name)	  unity_find_map(object, name)
#define coobpf_key_next(fd, key, next)	  bpf_map_get_next_key(fd, key, next)
#define coobpf_key_value(fd, key, value)  bpf_map_lookup_elem(fd, key, value)
#define coolbpf_map_find(object, name)	  unity_find_map(object, name)
#define coolbpf_key_next(fd, key, next)	  bpf_map_get_next_key(fd, key, next)
#define coolbpf_key_value(fd, key, value) bpf_map_lookup_elem(fd, key, value)

#endif
