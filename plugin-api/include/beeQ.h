/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Sources that were written for sysAK's unity include this name: the queue is declared in unity_host.h. */
#ifndef UNITY_BEEQ_H
#define UNITY_BEEQ_H

#include "unity_host.h"

#endif
