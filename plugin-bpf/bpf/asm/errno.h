/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* For <bpf/usdt.bpf.h>: clang has no <asm/errno.h> for the target bpf. */
#include <asm-generic/errno.h>
