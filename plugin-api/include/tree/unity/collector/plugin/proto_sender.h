/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "../../../../proto_sender.h"
