/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Names of coolbpf and bcc (coolbpf.bpf.h) beside the pieces of unity.bpf.h. */
#ifndef __COOLBPF_H
#define __COOLBPF_H

#include "unity.bpf.h"
#include "coolbpf.bpf.h"

#endif
