# C plugins include this as ../bpfso.mk, as in a tree of unity.
include $(dir $(realpath $(lastword $(MAKEFILE_LIST))))../etc/bpfso.mk
