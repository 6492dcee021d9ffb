/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The first process of an emulated arm64 machine: loads the BPF objects of the tools as plugin-bpf does, attaches what
 * attaches by itself, makes a known load, and says what came of it. Beside libbpf there is no library and no other
 * process; `cargo xtask arm64` reads the lines that begin with `arm64:`.
 */
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/* unity/base.h */
#define BANKED	   (1u << 29)
#define LEN	   ((1u << 27) - 1)
#define PER_THREAD ((1u << 28) | 1)

#define PROGRAMS 64
/* How often the load does each thing. */
#define TIMES 200

/* unity/hooks.h */
struct unity_field {
	char program[48];
	char name[32];
	unsigned int size;
	unsigned int offset;
	unsigned int location;
	unsigned int unused;
};

struct verdict {
	char name[64];
	char section[128];
	char why[256];
	int refused;
};

/* What libbpf said last of a program, and which. */
static char said[256], blamed[64];

static int listen(enum libbpf_print_level level, const char *format, va_list arguments)
{
	char text[4096];
	char *line, *rest = text;

	if (level > LIBBPF_WARN)
		return 0;
	vsnprintf(text, sizeof(text), format, arguments);
	if (sscanf(text, "libbpf: prog '%63[^']'", blamed) == 1 && !*said &&
	    !strstr(text, "-- BEGIN"))
		snprintf(said, sizeof(said), "%.255s", text + strlen("libbpf: "));
	/* The verifier's last words come before its statistics. */
	if (strstr(text, "-- BEGIN PROG LOAD LOG --"))
		while ((line = strsep(&rest, "\n")))
			if (*line && !strstr(line, "-- END") && strncmp(line, "processed ", 10) &&
			    strncmp(line, "libbpf", 6))
				snprintf(said, sizeof(said), "%.255s", line);
	return 0;
}

static void cut_line(char *text)
{
	text[strcspn(text, "\r\n")] = 0;
}

/* Offset and kind of a field, out of the format file of a tracepoint. */
static void fill(struct unity_field *field, const char *section)
{
	char path[256], line[512], name[64];
	int offset, is_location;
	FILE *format;
	char *at;

	snprintf(path, sizeof(path), "/sys/kernel/tracing/events/%s/format", section + 3);
	format = fopen(path, "r");
	if (!format)
		return;
	while (fgets(line, sizeof(line), format)) {
		at = strstr(line, "field:");
		if (!at || !strchr(at, ';'))
			continue;
		is_location = !!strstr(at, "__data_loc");
		*strchr(at, ';') = 0;
		if (sscanf(at + strlen(at) + 1, " offset:%d", &offset) != 1)
			continue;
		if (strchr(at, '['))
			*strrchr(at, '[') = 0;
		for (char *end = at + strlen(at) - 1; end > at && *end == ' '; end--)
			*end = 0;
		if (!strrchr(at, ' '))
			continue;
		snprintf(name, sizeof(name), "%s", strrchr(at, ' ') + 1);
		if (!strcmp(name, field->name) && offset >= 8) {
			field->offset = offset;
			field->location = is_location;
		}
	}
	fclose(format);
}

/* Sizes for this machine, as plugin-bpf's object/prepare.rs has them. */
static void prepare(struct bpf_object *object)
{
	unsigned int cpus = libbpf_num_possible_cpus();
	struct bpf_program *program;
	struct bpf_map *map;

	bpf_object__for_each_map(map, object)
	{
		unsigned int entries = bpf_map__max_entries(map);
		const char *name = bpf_map__name(map);
		size_t size = 0;
		void *value;

		if (entries == PER_THREAD)
			bpf_map__set_max_entries(map, 32768);
		else if (entries & BANKED)
			bpf_map__set_max_entries(map, (entries & LEN) * cpus);
		else if (entries > LEN)
			bpf_map__set_max_entries(map, entries & LEN);
		if (bpf_map__type(map) == BPF_MAP_TYPE_RINGBUF)
			bpf_map__set_value_size(map, 0);
		value = bpf_map__initial_value(map, &size);
		if (!value || strcmp(name, ".rodata.unity_record"))
			continue;
		bpf_object__for_each_program(
			program, object) for (struct unity_field *field = value;
					      (char *)(field + 1) <= (char *)value + size;
					      field++) if (!strcmp(field->program,
								   bpf_program__name(program)))
			fill(field, bpf_program__section_name(program));
	}
}

/* What is counted must be at least this, if it is counted at all. */
static void load_the_machine(void)
{
	int null = open("/dev/null", O_WRONLY | O_CREAT, 0600);

	for (int i = 0; i < TIMES; i++) {
		pid_t child;
		int file;

		if (write(null, "x", 1) != 1)
			break;
		file = open("/tmp/file", O_WRONLY | O_CREAT, 0600);
		if (file >= 0)
			close(file);
		unlink("/tmp/file");
		if (i % 10)
			continue;
		child = fork();
		if (!child)
			_exit(0);
		waitpid(child, NULL, 0);
	}
	close(null);
}

/* All words of the arrays of counters. */
static unsigned long long counted(struct bpf_object *object)
{
	unsigned long long sum = 0;
	struct bpf_map *map;

	bpf_object__for_each_map(map, object)
	{
		const char *name = bpf_map__name(map);
		unsigned int size = bpf_map__value_size(map);
		unsigned long long *value;

		if (bpf_map__type(map) != BPF_MAP_TYPE_ARRAY || strchr(name, '.') ||
		    !strncmp(name, "unity_", 6) || size % 8)
			continue;
		value = malloc(size);
		for (unsigned int key = 0; key < bpf_map__max_entries(map); key++)
			if (!bpf_map__lookup_elem(map, &key, sizeof(key), value, size, 0))
				for (unsigned int word = 0; word < size / 8; word++)
					sum += value[word];
		free(value);
	}
	return sum;
}

static int attaches_itself(const char *section)
{
	static const char *const kinds[] = {"tp_btf/", "raw_tp/", "tp/",	"fentry/",
					    "fexit/",  "kprobe/", "kretprobe/", "lsm/"};

	for (unsigned int i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (!strncmp(section, kinds[i], strlen(kinds[i])))
			return 1;
	return 0;
}

static void try_object(const char *path, const char *tool)
{
	static struct verdict verdicts[PROGRAMS];
	struct bpf_object *object = NULL;
	struct bpf_program *program;
	int count = 0, error = -1;

	memset(verdicts, 0, sizeof(verdicts));
	for (int tries = 0; tries <= PROGRAMS && error; tries++) {
		struct verdict *culprit = NULL;
		int at = 0;

		object = bpf_object__open_file(path, NULL);
		if (!object) {
			printf("arm64: %s - - refused: opening it: %s\n", tool, strerror(errno));
			return;
		}
		bpf_object__for_each_program(program, object)
		{
			if (at == PROGRAMS)
				break;
			snprintf(verdicts[at].name, sizeof(verdicts[at].name), "%s",
				 bpf_program__name(program));
			snprintf(verdicts[at].section, sizeof(verdicts[at].section), "%s",
				 bpf_program__section_name(program));
			bpf_program__set_autoload(program, !verdicts[at].refused);
			/* As plugin-bpf loads it where the kernel has no sessions. */
			if (!strcmp(verdicts[at].section, "uprobe.session"))
				bpf_program__set_expected_attach_type(program, 0);
			at++;
		}
		count = at;
		prepare(object);
		*said = *blamed = 0;
		error = bpf_object__load(object);
		if (!error)
			break;
		bpf_object__close(object);
		object = NULL;
		for (int i = 0; i < count; i++)
			if (!verdicts[i].refused && !strcmp(verdicts[i].name, blamed))
				culprit = &verdicts[i];
		if (!culprit) {
			printf("arm64: %s - - refused: loading it: %s\n", tool, strerror(-error));
			return;
		}
		culprit->refused = 1;
		cut_line(said);
		snprintf(culprit->why, sizeof(culprit->why), "%s", said);
	}
	for (int i = 0; i < count; i++) {
		struct verdict *it = &verdicts[i];
		unsigned long long before;
		struct bpf_link *link;

		if (it->refused) {
			printf("arm64: %s %s %s refused: %s\n", tool, it->name, it->section,
			       it->why);
			continue;
		}
		program = bpf_object__find_program_by_name(object, it->name);
		if (!attaches_itself(it->section)) {
			printf("arm64: %s %s %s loaded\n", tool, it->name, it->section);
			continue;
		}
		*said = 0;
		link = bpf_program__attach(program);
		if (!link) {
			cut_line(said);
			printf("arm64: %s %s %s not attached: %s\n", tool, it->name, it->section,
			       said);
			continue;
		}
		before = counted(object);
		load_the_machine();
		printf("arm64: %s %s %s attached: counted %llu\n", tool, it->name, it->section,
		       counted(object) - before);
		bpf_link__destroy(link);
	}
	bpf_object__close(object);
}

/* Where this kernel has the fields of pt_regs that kernel/types.h declares. */
static void registers(void)
{
	static const struct {
		const char *name;
		unsigned int at;
	} ours[] = {{"orig_x0", 34 * 8}, {"syscallno", 35 * 8}};
	struct btf *btf = btf__load_vmlinux_btf();
	const struct btf_type *type;
	int id = btf ? btf__find_by_name_kind(btf, "pt_regs", BTF_KIND_STRUCT) : -1;

	if (id < 0) {
		printf("arm64: - pt_regs - refused: not in the kernel's BTF\n");
		return;
	}
	type = btf__type_by_id(btf, id);
	for (unsigned int i = 0; i < sizeof(ours) / sizeof(*ours); i++) {
		int found = -1;

		for (int j = 0; j < btf_vlen(type); j++)
			if (!strcmp(btf__name_by_offset(btf, btf_members(type)[j].name_off),
				    ours[i].name))
				found = btf_member_bit_offset(type, j) / 8;
		printf("arm64: - pt_regs.%s - %s: at %d, declared at %u\n", ours[i].name,
		       found == (int)ours[i].at ? "loaded" : "refused", found, ours[i].at);
	}
	btf__free(btf);
}

int main(void)
{
	struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
	struct dirent **entries;
	struct utsname kernel;
	int count, console;

	mkdir("/proc", 0755), mkdir("/sys", 0755), mkdir("/dev", 0755), mkdir("/tmp", 01777);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mount("tracing", "/sys/kernel/tracing", "tracefs", 0, NULL);
	mount("bpf", "/sys/fs/bpf", "bpf", 0, NULL);
	console = open("/dev/ttyAMA0", O_RDWR);
	dup2(console, 0), dup2(console, 1), dup2(console, 2);
	setlinebuf(stdout);
	setrlimit(RLIMIT_MEMLOCK, &all);
	libbpf_set_print(listen);
	uname(&kernel);
	printf("\narm64: - - - booted %s %s\n", kernel.release, kernel.machine);
	registers();
	count = scandir("/objects", &entries, NULL, alphasort);
	for (int i = 0; i < count; i++) {
		char path[512], tool[256];

		if (*entries[i]->d_name == '.')
			continue;
		snprintf(path, sizeof(path), "/objects/%s", entries[i]->d_name);
		snprintf(tool, sizeof(tool), "%s", entries[i]->d_name);
		*strchrnul(tool, '.') = 0;
		try_object(path, tool);
	}
	printf("arm64: - - - done\n");
	tcdrain(1);
	reboot(RB_POWER_OFF);
	return 0;
}
