// SPDX-License-Identifier: MIT OR Apache-2.0
#include "unity.bpf.h"

COUNTERS(counts, SHOWS);

ON_FUNCTION(shows, netstat_seq_show)
{
	counters_add(&counts, SHOWS, 1);
	return 0;
}
