/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef __UNITY_LOG2_H
#define __UNITY_LOG2_H

/* Floor of the binary logarithm, by shifts: clang 14 cannot compile __builtin_clzll for BPF. */
static __always_inline __u32 unity_log2(__u64 v)
{
	__u32 shift, log;

	log = (v > 0xffffffff) << 5;
	v >>= log;
	shift = (v > 0xffff) << 4;
	v >>= shift;
	log |= shift;
	shift = (v > 0xff) << 3;
	v >>= shift;
	log |= shift;
	shift = (v > 0xf) << 2;
	v >>= shift;
	log |= shift;
	shift = (v > 0x3) << 1;
	v >>= shift;
	log |= shift;
	return log | (v >> 1);
}

#endif
