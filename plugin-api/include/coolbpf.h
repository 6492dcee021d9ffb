/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The names that authors know from coolbpf: in a BPF program its macros for maps and histograms, in user
 * space its objects and its threads that read a perf buffer. Nothing of libcoolbpf.so is needed.
 *
 *   struct coolbpf_object *object = coolbpf_object_new(csample);    over csample.skel.h
 *   int fd = coolbpf_object_find_map(object, "count");
 *   coolbpf_object_destroy(object);
 */
#if defined(__bpf__)

#include "vmlinux.h"
#include <coolbpf.bpf.h>

#elif !defined(COOLBPF_USER_H)
#define COOLBPF_USER_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <syslog.h>
#include <unistd.h>
#include <linux/types.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "unity_exact.h"

#ifdef __cplusplus
extern "C" {
#endif

#define COOLBPF_MAJOR_VERSION 1
#define COOLBPF_MINOR_VERSION 0

#ifndef COOLBPF_API
#define COOLBPF_API static inline __attribute__((unused))
#endif

COOLBPF_API uint32_t coolbpf_major_version(void)
{
	return COOLBPF_MAJOR_VERSION;
}

COOLBPF_API uint32_t coolbpf_minor_version(void)
{
	return COOLBPF_MINOR_VERSION;
}

COOLBPF_API const char *coolbpf_version_string(void)
{
	return "v1.0";
}

/* The running kernel, as KERNEL_VERSION(a, b, c) of <linux/version.h>: 0x050a02 is 5.10.2. 0: unknown. */
COOLBPF_API uint32_t get_kernel_version(void)
{
	unsigned int major, minor, patch = 0;
	struct utsname name;

	if (uname(&name) || sscanf(name.release, "%u.%u.%u", &major, &minor, &patch) < 2)
		return 0;
	return (major << 16) + (minor << 8) + (patch > 255 ? 255 : patch);
}

/* Up to Linux 5.10 maps count against the memory that a process may lock. */
COOLBPF_API int bump_memlock_rlimit(void)
{
	struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};

	return setrlimit(RLIMIT_MEMLOCK, &unlimited);
}

/* ---- what libbpf says ---- */

/* LOG_WARNING of <syslog.h>, as without a call: warnings; LOG_INFO: what is done too; LOG_DEBUG: everything. */
COOLBPF_API int *coolbpf_loglevel(void)
{
	static int level = LOG_WARNING;

	return &level;
}

COOLBPF_API __attribute__((format(printf, 2, 0))) int
coolbpf_print(enum libbpf_print_level level, const char *format, va_list args)
{
	int of_libbpf[] = {LOG_ERR, LOG_INFO, LOG_DEBUG};

	return of_libbpf[level] <= *coolbpf_loglevel() ? vfprintf(stderr, format, args) : 0;
}

COOLBPF_API void coolbpf_set_loglevel(int level)
{
	*coolbpf_loglevel() = level;
	libbpf_set_print(coolbpf_print);
}

/* ---- objects: a skeleton of bpftool with its life ---- */

typedef int (*pre_load)(void *ctx, void *skel);
typedef int (*pre_attach)(void *ctx, void *skel);

struct coolbpf_object {
	int (*skel_load)(void *skel);
	int (*skel_attach)(void *skel);
	void (*skel_destroy)(void *skel);
	void *skel_obj;	      /* struct NAME_bpf */
	pre_load preload;     /* called before loading, with ctx and skel_obj */
	pre_attach preattach; /* called before attaching */
	void *ctx;
	struct bpf_object *obj;
};

/* Loads what coolbpf_object_open() made. 0, or a negative errno. */
COOLBPF_API int coolbpf_object_load(struct coolbpf_object *cb)
{
	int err = cb->preload ? cb->preload(cb->ctx, cb->skel_obj) : 0;

	if (!err)
		err = unity_exact_prepare(cb->obj);
	return err ? err : cb->skel_load(cb->skel_obj);
}

/* Attaches what is loaded. 0, or a negative errno. */
COOLBPF_API int coolbpf_object_attach(struct coolbpf_object *cb)
{
	int err = cb->preattach ? cb->preattach(cb->ctx, cb->skel_obj) : 0;

	return err ? err : cb->skel_attach(cb->skel_obj);
}

/* Detaches and frees it; NULL is fine. */
COOLBPF_API void coolbpf_object_destroy(struct coolbpf_object *cb)
{
	if (!cb)
		return;
	cb->skel_destroy(cb->skel_obj);
	free(cb);
}

#define coolbpf_object_destory	     coolbpf_object_destroy /* older sources spell it so */

COOLBPF_API struct bpf_object *coolbpf_get_bpf_object(struct coolbpf_object *cb)
{
	return cb ? cb->obj : NULL;
}

/* The descriptor of a map, or -ENOENT and a message with the maps that there are. */
COOLBPF_API int coolbpf_object_find_map(struct coolbpf_object *cb, const char *name)
{
	if (!cb)
		return -EINVAL;
	return unity_find_map(cb->obj, name);
}

/* Pins all maps below /sys/fs/bpf, or where the programs say. */
COOLBPF_API int coolbpf_object_pin_maps(struct coolbpf_object *cb)
{
	return cb ? bpf_object__pin_maps(cb->obj, NULL) : -EINVAL;
}

/* Any function, as one of another type. */
#define coolbpf_cast(type, function) ((type)(void (*)(void))(function))

/* What can be opened is opened: NULL, or an object to be loaded and attached. */
#define coolbpf_object_open_with_prehandler(skel, before_load, before_attach, context)             \
	({                                                                                         \
		struct coolbpf_object *coolbpf_made =                                              \
			(struct coolbpf_object *)calloc(1, sizeof(*coolbpf_made));                 \
		struct skel##_bpf *coolbpf_skel = coolbpf_made ? skel##_bpf__open() : NULL;        \
		if (!coolbpf_skel) {                                                               \
			fprintf(stderr, #skel ": cannot open: %s\n", strerror(errno));             \
			free(coolbpf_made);                                                        \
			coolbpf_made = NULL;                                                       \
		} else {                                                                           \
			coolbpf_made->skel_load = coolbpf_cast(int (*)(void *), skel##_bpf__load); \
			coolbpf_made->skel_attach =                                                \
				coolbpf_cast(int (*)(void *), skel##_bpf__attach);                 \
			coolbpf_made->skel_destroy =                                               \
				coolbpf_cast(void (*)(void *), skel##_bpf__destroy);               \
			coolbpf_made->skel_obj = coolbpf_skel;                                     \
			coolbpf_made->obj = coolbpf_skel->obj;                                     \
			coolbpf_made->preload = before_load;                                       \
			coolbpf_made->preattach = before_attach;                                   \
			coolbpf_made->ctx = context;                                               \
		}                                                                                  \
		coolbpf_made;                                                                      \
	})
#define coolbpf_object_open(skel) coolbpf_object_open_with_prehandler(skel, NULL, NULL, NULL)

COOLBPF_API struct coolbpf_object *coolbpf_start(struct coolbpf_object *cb, const char *name)
{
	const char *step = "load";
	int err;

	if (!cb)
		return NULL;
	err = coolbpf_object_load(cb);
	if (!err) {
		step = "attach";
		err = coolbpf_object_attach(cb);
	}
	if (err) {
		fprintf(stderr, "%s: cannot %s: %s\n", name, step, strerror(-err));
		coolbpf_object_destroy(cb);
		errno = err < 0 ? -err : err;
		return NULL;
	}
	return cb;
}

/* Opens, loads and attaches. NULL and a message on stderr when one of them fails. */
#define coolbpf_object_new_with_prehandler(skel, before_load, before_attach, context)              \
	coolbpf_start(                                                                             \
		coolbpf_object_open_with_prehandler(skel, before_load, before_attach, context),    \
		#skel)
#define coolbpf_object_new(skel) coolbpf_object_new_with_prehandler(skel, NULL, NULL, NULL)

/* ---- threads that read a perf buffer ---- */

/* Of the collector; elsewhere there is none. */
extern int plugin_is_working(void) __attribute__((weak));

struct perf_thread_arguments {
	int mapfd;
	perf_buffer_sample_fn sample_cb;
	perf_buffer_lost_fn lost_cb;
	int pg_cnt;	/* pages for each CPU, a power of two; 0: 128 */
	int timeout_ms; /* the longest that a stop takes; 0: 100 */
	void *ctx;	/* for the callbacks */
};

/* A thread that reads, until it is stopped. */
struct coolbpf_reader {
	struct coolbpf_reader *next;
	pthread_t thread;
	bool stopped;
};

/* The readers of this library. */
struct coolbpf_readers {
	pthread_mutex_t lock;
	struct coolbpf_reader *first;
};

__attribute__((weak, visibility("hidden"))) struct coolbpf_readers coolbpf_readers = {
	PTHREAD_MUTEX_INITIALIZER, NULL};

/* The note of a thread, made when there is none. A thread may be stopped before it has begun. */
COOLBPF_API struct coolbpf_reader *coolbpf_reader_of(pthread_t thread)
{
	struct coolbpf_reader *reader;

	for (reader = coolbpf_readers.first; reader; reader = reader->next)
		if (pthread_equal(reader->thread, thread))
			return reader;
	reader = (struct coolbpf_reader *)calloc(1, sizeof(*reader));
	if (!reader)
		return NULL;
	reader->thread = thread;
	reader->next = coolbpf_readers.first;
	coolbpf_readers.first = reader;
	return reader;
}

COOLBPF_API void coolbpf_forget_reader(pthread_t thread)
{
	struct coolbpf_reader **at = &coolbpf_readers.first;

	while (*at && !pthread_equal((*at)->thread, thread))
		at = &(*at)->next;
	if (*at) {
		struct coolbpf_reader *gone = *at;

		*at = gone->next;
		free(gone);
	}
}

/* Whether this thread was told to end, by kill_perf_thread() or by the collector. */
COOLBPF_API bool coolbpf_is_stopped(void)
{
	struct coolbpf_reader *reader;
	bool stopped;

	pthread_mutex_lock(&coolbpf_readers.lock);
	reader = coolbpf_reader_of(pthread_self());
	stopped = !reader || reader->stopped;
	pthread_mutex_unlock(&coolbpf_readers.lock);
	return stopped || (plugin_is_working && !plugin_is_working());
}

/* Reads until this thread is told to end; then what came before. */
COOLBPF_API void coolbpf_read(struct perf_buffer *buffer, int timeout_ms)
{
	struct coolbpf_reader *reader;
	int n;

	do {
		n = perf_buffer__poll(buffer, timeout_ms);
	} while ((n >= 0 || n == -EINTR) && !coolbpf_is_stopped());
	if (n < 0 && n != -EINTR)
		fprintf(stderr, "reading a perf buffer: %s\n", strerror(-n));
	perf_buffer__consume(buffer);
	pthread_mutex_lock(&coolbpf_readers.lock);
	reader = coolbpf_reader_of(pthread_self());
	if (reader && !reader->stopped) /* else kill_perf_thread() does it */
		coolbpf_forget_reader(pthread_self());
	pthread_mutex_unlock(&coolbpf_readers.lock);
}

/* The body of a thread: reads the perf buffer of its arguments, which it frees, until it is stopped. */
COOLBPF_API void *perf_thread_worker(void *arguments)
{
	struct perf_thread_arguments args = *(struct perf_thread_arguments *)arguments;
	int pages = args.pg_cnt > 0 ? args.pg_cnt : 128;
	int timeout_ms = args.timeout_ms > 0 ? args.timeout_ms : 100;
	struct perf_buffer *buffer;

	free(arguments);
	buffer = perf_buffer__new(args.mapfd, (size_t)pages, args.sample_cb, args.lost_cb, args.ctx,
				  NULL);
	if (!buffer) {
		fprintf(stderr, "no perf buffer of map %d: %s\n", args.mapfd, strerror(errno));
		return NULL;
	}
	coolbpf_read(buffer, timeout_ms);
	perf_buffer__free(buffer);
	return NULL;
}

/* Starts a thread that reads a perf buffer; the arguments are copied. 0 when there is none. */
COOLBPF_API pthread_t initial_perf_thread(struct perf_thread_arguments *args)
{
	struct perf_thread_arguments *copy = (struct perf_thread_arguments *)malloc(sizeof(*copy));
	pthread_t thread;

	if (!copy)
		return 0;
	*copy = *args;
	if (pthread_create(&thread, NULL, perf_thread_worker, copy)) {
		free(copy);
		return 0;
	}
	return thread;
}

/* Ends a thread that reads a perf buffer and waits for it: it reads what is there, and no signal is sent. */
COOLBPF_API int kill_perf_thread(pthread_t thread)
{
	struct coolbpf_reader *reader;
	int err;

	if (!thread)
		return -ESRCH;
	pthread_mutex_lock(&coolbpf_readers.lock);
	reader = coolbpf_reader_of(thread);
	if (reader)
		reader->stopped = true;
	pthread_mutex_unlock(&coolbpf_readers.lock);
	if (!reader)
		return -ENOMEM;
	err = pthread_join(thread, NULL);
	pthread_mutex_lock(&coolbpf_readers.lock);
	coolbpf_forget_reader(thread);
	pthread_mutex_unlock(&coolbpf_readers.lock);
	return -err;
}

/* Does nothing and answers 0, as coolbpf's: use initial_perf_thread(). */
COOLBPF_API int coolbpf_create_perf_thread(struct coolbpf_object *cb, const char *map)
{
	(void)cb;
	(void)map;
	return 0;
}

#ifdef __cplusplus
}
#endif

#endif
