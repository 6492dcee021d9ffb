/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Sources that were written for sysAK's unity include this name. */
#ifndef UNITY_PLUGIN_HEAD_H
#define UNITY_PLUGIN_HEAD_H

#include "unity.h"

#endif
