/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The licence that the kernel is told; half of the helpers are for the GPL only. Under a name of our own: a
 * source may have its `LICENSE` or `_license` beside it. The first one in the object counts, which is this.
 */
#ifndef __UNITY_LICENSE_H
#define __UNITY_LICENSE_H

char unity_license[] SEC("license") = "Dual MIT/GPL";

#endif
