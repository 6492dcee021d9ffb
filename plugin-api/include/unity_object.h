/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A BPF object from a file, its maps and programs by name: for authors who have a .o and no skeleton.
 *
 *   static struct unity_object shows;
 *
 *   if (unity_object_open(&shows, "shows.bpf.o") || unity_object_load(&shows) ||
 *       unity_object_attach(&shows, NULL))
 *           return unity_object_failed(&shows);         prints why
 *   fd = unity_object_map(&shows, "count");
 *   ..
 *   unity_object_close(&shows);
 *
 * An object may have any number of programs and of maps, which it declares with their types (BTF:
 * SEC(".maps")). Each function is 0 (or a descriptor) or a negative errno; then `error` says in a sentence
 * what is wrong, and what there is instead. Between open and load, `obj` is libbpf's object: sizes of maps
 * and constants can be set.
 */
#ifndef UNITY_OBJECT_H
#define UNITY_OBJECT_H

#include <dirent.h>
#include <elf.h>
#include <libgen.h>
#include <stdarg.h>

#include "unity_exact.h"

#ifdef __cplusplus
extern "C" {
#endif

struct unity_object {
	struct bpf_object *obj;
	struct bpf_link **links;
	unsigned int attached;
	char license[32];
	char error[1024];
};

/* Keeps a sentence about what went wrong, and passes the error on. */
UNITY_API __attribute__((format(printf, 3, 4))) int
unity_object_error(struct unity_object *o, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(o->error, sizeof(o->error), format, args);
	va_end(args);
	return err < 0 ? err : -err;
}

UNITY_API __attribute__((format(printf, 2, 3))) void unity_object_add(struct unity_object *o,
								      const char *format, ...)
{
	size_t len = strlen(o->error);
	va_list args;

	va_start(args, format);
	vsnprintf(o->error + len, sizeof(o->error) - len, format, args);
	va_end(args);
}

/* Prints the last error; -1, for a return statement. */
UNITY_API int unity_object_failed(struct unity_object *o)
{
	fprintf(stderr, "%s\n", o->error[0] ? o->error : "no error");
	return -1;
}

/* Adds to the error which objects lie in the folder of a file that is not there. */
UNITY_API void unity_object_neighbours(struct unity_object *o, const char *path)
{
	const char *slash = strrchr(path, '/');
	char folder[512];
	struct dirent *entry;
	bool any = false;
	DIR *dir;

	snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path) : 1,
		 slash ? path : ".");
	if (slash == path)
		snprintf(folder, sizeof(folder), "/");
	dir = opendir(folder);
	if (!dir) {
		unity_object_add(o, "; there is no folder %s", folder);
		return;
	}
	while ((entry = readdir(dir))) {
		const char *dot = strrchr(entry->d_name, '.');

		if (!dot || strcmp(dot, ".o"))
			continue;
		unity_object_add(o, "%s%s",
				 any ? ", " : "; the objects there are: ", entry->d_name);
		any = true;
	}
	closedir(dir);
	if (!any)
		unity_object_add(o, "; there is no object in %s", folder);
}

/* What an object declares in SEC("license"): its text, or NULL. */
UNITY_API const char *unity_object_license(const char *file, size_t size)
{
	const Elf64_Ehdr *elf = (const Elf64_Ehdr *)file;
	const Elf64_Shdr *sections, *names;

	if (size < sizeof(*elf) || memcmp(elf->e_ident, ELFMAG, SELFMAG) ||
	    elf->e_shentsize != sizeof(*sections) || elf->e_shoff > size ||
	    elf->e_shnum > (size - elf->e_shoff) / sizeof(*sections) ||
	    elf->e_shstrndx >= elf->e_shnum || elf->e_shoff % 8)
		return NULL;
	sections = (const Elf64_Shdr *)(const void *)(file + elf->e_shoff);
	names = &sections[elf->e_shstrndx];
	for (unsigned int i = 1; i < elf->e_shnum; i++) {
		const Elf64_Shdr *section = &sections[i];
		size_t at = names->sh_offset + section->sh_name;

		if (at < names->sh_offset || at >= size || size - at < sizeof("license") ||
		    memcmp(file + at, "license", sizeof("license")))
			continue;
		if (section->sh_offset >= size || section->sh_size > size - section->sh_offset ||
		    !memchr(file + section->sh_offset, 0, section->sh_size))
			return NULL;
		return file + section->sh_offset;
	}
	return NULL;
}

/* The whole of a file in memory from malloc(), or NULL and errno. */
UNITY_API char *unity_object_read(const char *path, size_t *size)
{
	FILE *file = fopen(path, "re");
	char *content = NULL;
	long len = -1;

	if (!file)
		return NULL;
	if (!fseek(file, 0, SEEK_END) && (len = ftell(file)) >= 0 && !fseek(file, 0, SEEK_SET))
		content = (char *)malloc((size_t)len + 1);
	if (content && fread(content, 1, (size_t)len, file) != (size_t)len) {
		free(content);
		content = NULL;
		errno = EIO;
	}
	fclose(file);
	*size = content ? (size_t)len : 0;
	return content;
}

/* Frees and detaches all; a closed or a zeroed object is fine. */
UNITY_API void unity_object_close(struct unity_object *o)
{
	for (unsigned int i = 0; i < o->attached; i++)
		bpf_link__destroy(o->links[i]);
	free(o->links);
	bpf_object__close(o->obj);
	o->links = NULL;
	o->attached = 0;
	o->obj = NULL;
}

/* Opens a file and sets the sizes of its maps of unity.bpf.h. */
UNITY_API int unity_object_open(struct unity_object *o, const char *path)
{
	struct bpf_object_open_opts opts;
	const char *license, *slash;
	char *file, name[64];
	size_t size = 0;
	int err;

	memset(o, 0, sizeof(*o));
	memset(&opts, 0, sizeof(opts));
	opts.sz = sizeof(opts);
	if (!path)
		return unity_object_error(o, EINVAL, "no path of an object is given");
	file = unity_object_read(path, &size);
	if (!file) {
		err = unity_object_error(o, errno, "%s: %s", path, strerror(errno));
		if (err == -ENOENT || err == -ENOTDIR)
			unity_object_neighbours(o, path);
		return err;
	}
	license = unity_object_license(file, size);
	snprintf(o->license, sizeof(o->license), "%s", license ? license : "");
	slash = strrchr(path, '/');
	snprintf(name, sizeof(name), "%s", slash ? slash + 1 : path);
	name[strcspn(name, ".")] = 0;
	opts.object_name = name;
	o->obj = bpf_object__open_mem(file, size, &opts);
	err = o->obj ? 0 : -errno;
	free(file);
	if (err)
		return unity_object_error(o, err, "%s is no BPF object that libbpf %s can open: %s",
					  path, libbpf_version_string(), strerror(-err));
	if (!o->license[0]) {
		unity_object_close(o);
		return unity_object_error(
			o, EINVAL,
			"%s says no licence: add `char LICENSE[] SEC(\"license\") = \"GPL\";`, "
			"or another one that is compatible with the GPL, to its source",
			path);
	}
	err = unity_exact_prepare(o->obj);
	if (err)
		unity_object_close(o);
	return err ? unity_object_error(o, err, "%s: sizes of maps: %s", path, strerror(-err)) : 0;
}

/* Licences that give a program the helpers of the GPL: license_is_gpl_compatible() of the kernel. */
UNITY_API bool unity_object_is_gpl(const char *license)
{
	static const char *const known[] = {
		"GPL",		"GPL v2",	"GPL and additional rights",
		"Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"};

	for (unsigned int i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(license, known[i]))
			return true;
	return false;
}

/* Loads its programs and makes its maps. */
UNITY_API int unity_object_load(struct unity_object *o)
{
	int err;

	if (!o->obj)
		return unity_object_error(o, EINVAL, "no object is open");
	err = bpf_object__load(o->obj);
	if (!err)
		return 0;
	unity_object_error(o, err, "%s cannot be loaded: %s", bpf_object__name(o->obj),
			   strerror(-err));
	if (!unity_object_is_gpl(o->license))
		unity_object_add(
			o,
			"; its licence `%s` is not compatible with the GPL, so the kernel gives it "
			"only some helpers",
			o->license);
	return err;
}

/* The descriptor of a map. */
UNITY_API int unity_object_map(struct unity_object *o, const char *name)
{
	struct bpf_map *map = o->obj ? bpf_object__find_map_by_name(o->obj, name) : NULL;
	bool any = false;

	if (map)
		return bpf_map__fd(map);
	if (!o->obj)
		return unity_object_error(o, EINVAL, "no object is open");
	unity_object_error(o, ENOENT, "%s has no map `%s`", bpf_object__name(o->obj), name);
	bpf_object__for_each_map(map, o->obj)
	{
		unity_object_add(o, "%s%s", any ? ", " : "; its maps are: ", bpf_map__name(map));
		any = true;
	}
	if (!any)
		unity_object_add(o, "; it has no maps");
	return -ENOENT;
}

/* Attaches a program to what its section names. */
UNITY_API int unity_object_attach_program(struct unity_object *o, struct bpf_program *program)
{
	struct bpf_link **links = (struct bpf_link **)realloc(
		o->links, (o->attached + 1) * sizeof(struct bpf_link *));
	struct bpf_link *link;

	if (!links)
		return unity_object_error(o, ENOMEM, "no memory");
	o->links = links;
	link = bpf_program__attach(program);
	if (!link)
		return unity_object_error(o, errno, "program `%s` cannot be attached to %s: %s",
					  bpf_program__name(program),
					  bpf_program__section_name(program), strerror(errno));
	o->links[o->attached++] = link;
	return 0;
}

/* Attaches the program of this name; with NULL all of them. What is attached before an error stays so. */
UNITY_API int unity_object_attach(struct unity_object *o, const char *name)
{
	struct bpf_program *program;
	int err = name ? -ENOENT : 0;
	bool any = false;

	if (!o->obj)
		return unity_object_error(o, EINVAL, "no object is open");
	bpf_object__for_each_program(program, o->obj)
	{
		if (name && strcmp(name, bpf_program__name(program)))
			continue;
		err = unity_object_attach_program(o, program);
		if (err || name)
			return err;
		any = true;
	}
	if (any)
		return 0;
	unity_object_error(o, ENOENT, "%s has no program `%s`", bpf_object__name(o->obj),
			   name ? name : "at all");
	bpf_object__for_each_program(program, o->obj)
	{
		unity_object_add(o, "%s%s (%s)",
				 any ? ", " : "; its programs are: ", bpf_program__name(program),
				 bpf_program__section_name(program));
		any = true;
	}
	return -ENOENT;
}

#ifdef __cplusplus
}
#endif

#endif
