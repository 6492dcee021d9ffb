/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "../../../../plugin_head.h"
