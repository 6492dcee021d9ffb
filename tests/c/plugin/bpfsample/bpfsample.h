/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef BPF_SAMPLE_H
#define BPF_SAMPLE_H

#ifndef __VMLINUX_H__

#include "../plugin_head.h"

#endif

#endif
