#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Makes good what guides and sources for unity leave out or misspell; bpfso.mk runs it.
#
#   slips.sh names SKELETON SOURCE..   lines for the end of SKELETON.skel.h
#   slips.sh flags SOURCE..            flags for the C compiler
#
# - A skeleton that the sources call by another name: LOAD_SKEL_OBJECT(bpf_sample) over bpfsample.bpf.c. A name
#   that is equal without its underscores is made to mean the skeleton.
# - LOAD_SKEL_OBJECT without DEFINE_SEKL_OBJECT: the variable is declared.
# - LOAD_SKEL_OBJECT(name, perf) with a function handle_event, and nothing that would call it: the thread of
#   COOLBPF_PERF_THREAD does.
verb=$1
shift
if [ "$verb" = names ]; then
	skeleton=$1
	shift
fi

# The sources and the headers beside them.
text() {
	for source in "$@"; do
		cat "$source"
		for header in "$(dirname "$source")"/*.h; do
			[ -f "$header" ] && case $header in *.skel.h | */vmlinux.h) ;; *) cat "$header" ;; esac
		done
	done 2>/dev/null
}

macro='\(LOAD_SKEL_OBJECT\|DEFINE_SEKL_OBJECT\|DEFINE_SKEL_OBJECT\|DESTORY_SKEL_BOJECT\|DESTROY_SKEL_OBJECT\)'
uses() {
	text "$@" | grep -v '^[[:space:]]*#[[:space:]]*define' |
		sed -n "s/.*$macro *( *\\([A-Za-z_][A-Za-z_0-9]*\\).*/\\1 \\2/p" | sort -u
}

# Sources with macros of their own need nothing.
if text "$@" | grep -q '#[[:space:]]*define[[:space:]]*LOAD_SKEL_OBJECT'; then
	exit 0
fi

case $verb in
names)
	uses "$@" | while read -r _ name; do echo "$name"; done | sort -u | while read -r name; do
		if [ "$name" != "$skeleton" ] &&
			[ "$(echo "$name" | tr -d _)" = "$(echo "$skeleton" | tr -d _)" ]; then
			echo "/* The sources call this skeleton by another name. */"
			echo "#define $name $skeleton"
			echo "#define ${name}_bpf ${skeleton}_bpf"
		fi
	done
	if uses "$@" | grep -q '^LOAD_' && ! uses "$@" | grep -q '^DEFINE_' &&
		! text "$@" | grep -q "struct *${skeleton}_bpf *\\* *${skeleton}\\>"; then
		echo "/* The sources declare no such variable. */"
		echo "__attribute__((weak, visibility(\"hidden\"))) struct ${skeleton}_bpf *${skeleton};"
	fi
	;;
flags)
	if text "$@" | grep -q 'LOAD_SKEL_OBJECT *([^(),]*,' &&
		text "$@" | grep -q '\<handle_event *(' &&
		! text "$@" | grep -Eq 'COOLBPF_PERF_THREAD|perf_thread|perf_buffer__new|send_thread'; then
		echo -DCOOLBPF_PERF_THREAD
	fi
	;;
esac
