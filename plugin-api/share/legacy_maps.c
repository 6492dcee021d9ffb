// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * legacy_maps OBJECT: makes maps with types (BTF) of maps without, in place.
 *
 * Sources from before libbpf 1.0 declare maps as `struct bpf_map_def SEC("maps") name = {..}`: their numbers
 * lie in the section `maps`. Newer versions of libbpf refuse it, and read the section `.maps`, where each
 * number is the length of an array type. bpfso.mk runs this between clang and bpftool. An object without
 * such maps stays as it is.
 */
#include <elf.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

static const char *path;

struct object {
	char *bytes;
	size_t size;
};

/* struct bpf_map_def. */
struct legacy {
	__u32 type, key_size, value_size, max_entries, map_flags;
};

static void fail(const char *why)
{
	fprintf(stderr, "%s: %s\n", path, why);
	exit(1);
}

static struct object read_object(void)
{
	FILE *file = fopen(path, "rb");
	struct object object = {0};
	long size;

	if (!file || fseek(file, 0, SEEK_END) || (size = ftell(file)) < (long)sizeof(Elf64_Ehdr))
		fail("cannot be read");
	rewind(file);
	object.size = (size_t)size;
	object.bytes = malloc(object.size);
	if (!object.bytes || fread(object.bytes, 1, object.size, file) != object.size)
		fail("cannot be read");
	fclose(file);
	return object;
}

static Elf64_Shdr *sections(struct object *object)
{
	return (Elf64_Shdr *)(object->bytes + ((Elf64_Ehdr *)object->bytes)->e_shoff);
}

/* The number of a section, 0 when there is none. */
static unsigned int find(struct object *object, const char *name)
{
	Elf64_Ehdr *elf = (Elf64_Ehdr *)object->bytes;
	Elf64_Shdr *all = sections(object);
	const char *names = object->bytes + all[elf->e_shstrndx].sh_offset;

	for (unsigned int i = 1; i < elf->e_shnum; i++)
		if (!strcmp(names + all[i].sh_name, name))
			return i;
	return 0;
}

/* Gives a section other content, at the end of the file. */
static void put(struct object *object, unsigned int section, const void *content, size_t size)
{
	size_t at = (object->size + 7) / 8 * 8;
	char *bytes = realloc(object->bytes, at + size);

	if (!bytes)
		fail("no memory");
	memset(bytes + object->size, 0, at - object->size);
	memcpy(bytes + at, content, size);
	object->bytes = bytes;
	object->size = at + size;
	sections(object)[section].sh_offset = at;
	sections(object)[section].sh_size = size;
}

/* Two contents, one behind the other. */
static char *joined(const char *a, size_t a_size, const char *b, size_t b_size)
{
	char *both = malloc(a_size + b_size);

	if (!both)
		fail("no memory");
	memcpy(both, a, a_size);
	memcpy(both + a_size, b, b_size);
	return both;
}

static void rename_section(struct object *object, unsigned int section, const char *name)
{
	unsigned int names = ((Elf64_Ehdr *)object->bytes)->e_shstrndx;
	Elf64_Shdr *table = &sections(object)[names];
	size_t old = table->sh_size;
	char *longer = joined(object->bytes + table->sh_offset, old, name, strlen(name) + 1);

	put(object, names, longer, old + strlen(name) + 1);
	sections(object)[section].sh_name = (Elf64_Word)old;
	free(longer);
}

/*
 * The type of a map: for each number a pointer to an array of that length. They all lie at the beginning:
 * only names and lengths are read. libbpf adds members to the type that was made last, so pointers first.
 */
static int map_type(struct btf *btf, int word, const struct legacy *map)
{
	const char *names[] = {"type", "key_size", "value_size", "max_entries", "map_flags"};
	const __u32 values[] = {map->type, map->key_size, map->value_size, map->max_entries,
				map->map_flags};
	int pointers[5], type;

	for (int i = 0; i < 5; i++)
		pointers[i] = btf__add_ptr(btf, btf__add_array(btf, word, word, values[i]));
	type = btf__add_struct(btf, "", 8);
	for (int i = 0; i < 5; i++)
		if (values[i] && btf__add_field(btf, names[i], pointers[i], 0, 0))
			fail("no memory");
	if (type < 0)
		fail("no memory");
	return type;
}

/* A section of variables that is not wanted any more: types cannot be removed, so it becomes a struct. */
static void forget(struct btf *btf, const char *name, int word)
{
	int id = btf__find_by_name_kind(btf, name, BTF_KIND_DATASEC);
	struct btf_type *section;
	struct btf_member *members;

	if (id < 0)
		return;
	section = (struct btf_type *)btf__type_by_id(btf, id);
	members = (struct btf_member *)(section + 1);
	for (unsigned int i = 0; i < btf_vlen(section); i++)
		members[i] = (struct btf_member){.type = word};
	section->name_off = 0;
	section->info = BTF_KIND_STRUCT << 24 | btf_vlen(section);
	section->size = 4;
}

static int variable(struct btf *btf, const char *name)
{
	int id = btf__find_by_name_kind(btf, name, BTF_KIND_VAR);

	if (id < 0)
		fail("it was compiled without -g: there are no types");
	return id;
}

struct symbol {
	__u32 variable;
	__u32 at, size;
};

static int by_place(const void *a, const void *b)
{
	return (int)((const struct symbol *)a)->at - (int)((const struct symbol *)b)->at;
}

int main(int argc, char **argv)
{
	unsigned int legacy, typed, table, of_btf, n = 0, moved;
	struct symbol found[256];
	struct object object;
	Elf64_Shdr *all;
	struct btf *btf;
	const void *raw;
	__u32 raw_size;
	FILE *file;
	int word;

	if (argc != 2) {
		fprintf(stderr, "usage: legacy_maps OBJECT\n");
		return 2;
	}
	path = argv[1];
	object = read_object();
	if (memcmp(object.bytes, ELFMAG, SELFMAG))
		fail("is no object");
	legacy = find(&object, "maps");
	if (!legacy)
		return 0;
	typed = find(&object, ".maps");
	table = find(&object, ".symtab");
	of_btf = find(&object, ".BTF");
	if (!table || !of_btf)
		fail("it was compiled without -g: there are no types");
	all = sections(&object);
	btf = btf__new(object.bytes + all[of_btf].sh_offset, all[of_btf].sh_size);
	if (!btf)
		fail("its types cannot be read");
	word = btf__add_int(btf, "int", 4, BTF_INT_SIGNED);

	/* Each map becomes a variable of .maps, behind those that are there. */
	moved = typed ? (unsigned int)all[typed].sh_size : 0;
	for (size_t i = 0; i < all[table].sh_size / sizeof(Elf64_Sym); i++) {
		Elf64_Sym *symbol = (Elf64_Sym *)(object.bytes + all[table].sh_offset) + i;
		const char *name =
			object.bytes + all[all[table].sh_link].sh_offset + symbol->st_name;
		bool is_legacy = symbol->st_shndx == legacy;

		if (ELF64_ST_TYPE(symbol->st_info) != STT_OBJECT ||
		    (!is_legacy && (!typed || symbol->st_shndx != typed)))
			continue;
		if (n == sizeof(found) / sizeof(found[0]))
			fail("has too many maps");
		if (is_legacy) {
			struct legacy map = {0};
			size_t size = symbol->st_size < sizeof(map) ? symbol->st_size : sizeof(map);
			int type;

			memcpy(&map, object.bytes + all[legacy].sh_offset + symbol->st_value, size);
			type = map_type(btf, word, &map);
			((struct btf_type *)btf__type_by_id(btf, variable(btf, name)))->type = type;
			symbol->st_value += moved;
			if (typed)
				symbol->st_shndx = typed;
		}
		found[n].variable = variable(btf, name);
		found[n].at = symbol->st_value;
		found[n++].size = symbol->st_size;
	}
	qsort(found, n, sizeof(found[0]), by_place);
	forget(btf, "maps", word);
	forget(btf, ".maps", word);
	if (btf__add_datasec(btf, ".maps", moved + (__u32)all[legacy].sh_size) < 0)
		fail("no memory");
	for (unsigned int i = 0; i < n; i++)
		if (btf__add_datasec_var_info(btf, found[i].variable, found[i].at, found[i].size))
			fail("no memory");
	raw = btf__raw_data(btf, &raw_size);
	if (!raw)
		fail("no memory");
	put(&object, of_btf, raw, raw_size);
	if (typed) {
		all = sections(&object);
		char *both = joined(object.bytes + all[typed].sh_offset, moved,
				    object.bytes + all[legacy].sh_offset, all[legacy].sh_size);

		put(&object, typed, both, moved + sections(&object)[legacy].sh_size);
		free(both);
		rename_section(&object, legacy, ".debug_maps"); /* libbpf skips it */
	} else {
		rename_section(&object, legacy, ".maps");
	}
	file = fopen(path, "wb");
	if (!file || fwrite(object.bytes, 1, object.size, file) != object.size || fclose(file))
		fail("cannot be written");
	btf__free(btf);
	free(object.bytes);
	return 0;
}
