/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "../../../../../unity_host.h"
