/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Sources that were written for sysAK's unity include this name. */
#ifndef UNITY_PROTO_SENDER_H
#define UNITY_PROTO_SENDER_H

#include "unity.h"

#endif
