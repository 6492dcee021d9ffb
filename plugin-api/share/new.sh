#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# new.sh NAME: starts a C plugin in the folder NAME, from the template beside this script.
name=$1
case $name in
"" | *[!a-z0-9_]* | [!a-z]*)
	echo "\`$name\` is no plugin name: a-z, then a-z, 0-9 and _; NAME=demo" >&2
	exit 2
	;;
esac
if [ ${#name} -gt 15 ]; then
	echo "\`$name\` is too long: the kernel keeps 15 characters of an object's name" >&2
	exit 2
fi
if [ -e "$name" ]; then
	echo "$name exists already; choose another name" >&2
	exit 1
fi
share=$(dirname "$0")
mkdir "$name" || exit
for file in "$share"/template/*; do
	sed "s/{{name}}/$name/g" "$file" > "$name/$(basename "$file" | sed "s/{{name}}/$name/")" || exit
done
if [ ! -e bpfso.mk ]; then
	# It knows the tree that it comes from, wherever that was copied to.
	home=$(cd "$share/.." && pwd) || exit
	sed "s|^bpfso_home :=.*|bpfso_home := $home|" "$share/../etc/bpfso.mk" > bpfso.mk || exit
fi
echo "$name counts new tasks until you change it. Next: make -C $name"
