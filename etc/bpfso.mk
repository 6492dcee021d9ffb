# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds a C plugin. Its Makefile sets these variables, as for sysAK's unity, and includes this file:
#
#   newdirs := $(shell find ./ -type d)     folders of sources below this one; may be left out
#   bpfsrcs := csample.bpf.c                BPF programs: each becomes a skeleton, csample.skel.h
#   csrcs := csample.c                      the user side
#   so := libcsample.so                     what is made, in this folder
#   include ../bpfso.mk
#
# make             the plugin. It needs libelf and zlib where it runs, and no other library: libbpf is inside.
# make install     copies it into the collector's folder of plugins (PLUGINS=...)
# make clean       removes what was made
# make -f bpfso.mk new NAME=demo      starts a plugin in the folder demo, from a template
#
# It needs make, a C compiler, clang, llvm, bpftool, libelf's and zlib's development files, and the headers
# and libbpf.a that belong to it. These are looked for in $(COLLECTOR_DIST), beside this file, where this
# file was installed from, and in the usual places of an installed collector.
#
# More variables: CC, CFLAGS, LDFLAGS, CLANG, BPFFLAGS (for clang), LLVM_STRIP, BPFTOOL, V=1 (shows commands),
# objdir (what lies between source and plugin; .build), COLLECTOR_DIST.

bpfso_mk := $(realpath $(lastword $(MAKEFILE_LIST)))
# Written by `cargo xtask build`.
bpfso_home :=

bpfso_above = $(if $(1),$(1) $(call bpfso_above,$(patsubst %/,%,$(dir $(1)))))
bpfso_places := $(COLLECTOR_DIST) $(dir $(bpfso_mk)).. $(bpfso_home) $(dir $(bpfso_mk))../target/dist \
	$(addsuffix /target/dist,$(call bpfso_above,$(CURDIR))) $(dir $(shell command -v collector)) \
	/usr/lib/collector /usr/local/lib/collector /opt/collector
bpfso_dist := $(realpath $(firstword $(foreach place,$(bpfso_places),\
	$(if $(wildcard $(place)/include/unity.h),$(place)))))
ifeq ($(bpfso_dist),)
$(error bpfso.mk: the headers of the collector are not found. Set COLLECTOR_DIST to its install tree, the \
	folder with include/unity.h: `cargo xtask build` makes it as target/dist. Looked in: $(bpfso_places))
endif

CLANG ?= clang
LLVM_STRIP ?= llvm-strip
LLVM_OBJDUMP ?= $(subst strip,objdump,$(LLVM_STRIP))
BPFTOOL ?= $(firstword $(shell command -v bpftool /usr/sbin/bpftool /usr/local/sbin/bpftool) bpftool)
PLUGINS ?= $(bpfso_dist)/plugins
objdir ?= .build

# An older form of the variable.
so ?= $(target)

ifeq ($(V),1)
bpfso_q :=
bpfso_say = @:
else
bpfso_q := @
bpfso_say = @printf '  %-8s %s\n' $(1) $(2)
endif

bpfso_arch := $(shell uname -m | sed 's/x86_64/x86/; s/aarch64/arm64/')
bpfso_multiarch := $(shell $(CC) -print-multiarch 2>/dev/null)
bpfso_dirs := $(sort $(objdir) $(addprefix $(objdir)/,$(filter-out $(objdir)% ./$(objdir)%,\
	$(newdirs) $(dir $(bpfsrcs) $(csrcs)))))
# Sources for unity include "../bpf_head.h" and the like, relative to a place in its tree.
bpfso_includes := $(addprefix -I,$(bpfso_dirs)) -I. -I$(bpfso_dist)/include \
	-I$(bpfso_dist)/include/tree/unity/collector/plugin/name
bpfso_bpf_includes := $(bpfso_includes) -I$(bpfso_dist)/include/kit \
	$(if $(bpfso_multiarch),-idirafter /usr/include/$(bpfso_multiarch))

bpfso_objects := $(addprefix $(objdir)/,$(bpfsrcs:.c=.o))
bpfso_skeletons := $(bpfso_objects:.bpf.o=.skel.h)
bpfso_cobjects := $(addprefix $(objdir)/,$(csrcs:.c=.o))
bpfso_share := $(bpfso_dist)/share

# Folders of the build are in no plugin.
bpfso_prefixes := -ffile-prefix-map=$(abspath $(objdir))=. -ffile-prefix-map=$(CURDIR)=. \
	-ffile-prefix-map=$(bpfso_dist)=/usr/lib/collector

# Sources that older compilers took with a warning are taken by newer ones.
bpfso_cflags := $(bpfso_prefixes) -std=gnu11 -g -O2 -Wall -fPIC -Wno-error=implicit-function-declaration \
	-Wno-error=int-conversion -Wno-error=incompatible-pointer-types \
	$(if $(csrcs),$(shell sh $(bpfso_share)/slips.sh flags $(csrcs)))
# No other library's function of the same name comes between, and none of libbpf is given to others.
bpfso_ldflags := -shared -Wl,-soname,$(notdir $(so)) -Wl,-Bsymbolic -Wl,--exclude-libs,ALL -Wl,--as-needed

.PHONY: all install clean new
.DELETE_ON_ERROR:
.SECONDARY:

all: $(so)

$(so): $(bpfso_cobjects) $(bpfso_dist)/lib/libbpf.a
	$(call bpfso_say,LINK,$@)
	$(bpfso_q)$(CC) $(bpfso_ldflags) $^ $(LDFLAGS) -lelf -lz -lpthread -o $@
	$(bpfso_q)if [ -d ../../native ]; then cp $@ ../../native; fi

$(bpfso_cobjects): $(objdir)/%.o: %.c $(bpfso_skeletons) | $(bpfso_dirs)
	$(call bpfso_say,CC,$<)
	$(bpfso_q)$(CC) $(bpfso_cflags) $(CFLAGS) $(bpfso_includes) -MMD -c $< -o $@

$(bpfso_skeletons): $(objdir)/%.skel.h: $(objdir)/%.bpf.o $(csrcs)
	$(call bpfso_say,SKELETON,$(notdir $@))
	$(bpfso_q)$(BPFTOOL) gen skeleton $< > $@ || \
		{ rm -f $@; echo "bpftool makes the skeleton of a BPF program: install it (Debian: apt install bpftool)" >&2; false; }
	$(bpfso_q)sh $(bpfso_share)/slips.sh names $(subst -,_,$(notdir $*)) $(csrcs) >> $@

# Maps without types are given some: libbpf does not take them any more.
$(bpfso_objects): $(objdir)/%.o: %.c | $(bpfso_dirs)
	$(call bpfso_say,BPF,$<)
	$(bpfso_q)$(CLANG) $(bpfso_prefixes) -g -O2 -Wall -Wno-unused-function -Wno-visibility -target bpf \
		-D__TARGET_ARCH_$(bpfso_arch) -DVER310_LATER $(BPFFLAGS) $(bpfso_bpf_includes) -MMD -c $< -o $@
	$(bpfso_q)$(LLVM_STRIP) -g $@
	$(bpfso_q)if $(LLVM_OBJDUMP) -h $@ | grep -q ' maps  *[0-9a-f]'; then \
		$(MAKE) -s -f $(bpfso_mk) $(objdir)/legacy_maps objdir=$(objdir) so=none bpfsrcs= csrcs= && \
		$(objdir)/legacy_maps $@; fi

$(objdir)/legacy_maps: $(bpfso_share)/legacy_maps.c | $(objdir)
	$(bpfso_q)$(CC) -O1 -I$(bpfso_dist)/include $< $(bpfso_dist)/lib/libbpf.a -lelf -lz -o $@

$(bpfso_dirs):
	$(bpfso_q)mkdir -p $@

install: $(so)
	mkdir -p $(DESTDIR)$(PLUGINS)
	cp $(so) $(DESTDIR)$(PLUGINS)/.new-$(notdir $(so))
	mv $(DESTDIR)$(PLUGINS)/.new-$(notdir $(so)) $(DESTDIR)$(PLUGINS)/$(notdir $(so))

clean:
	rm -rf $(objdir) $(so)

new:
	sh $(bpfso_share)/new.sh $(NAME)

-include $(bpfso_objects:.o=.d) $(bpfso_cobjects:.o=.d)
