//! What it costs to replace a plugin a thousand times, and what becomes of the events meanwhile.

use crate::figure;
use anyhow::{Context, Result};
use system_tests::replace::{Replaced, What, replace};

/// Replacements, unless `replace` is followed by another number.
const TIMES: u64 = 1000;

/// Four runs of some three minutes.
pub fn run() -> Result<()> {
    let times = std::env::args().skip_while(|word| word != "replace").nth(1);
    let times = times.map_or(Ok(TIMES), |word| word.parse()).context("replace TIMES")?;
    for (what, isolated, bound) in [
        (What::File, false, 16.0),
        (What::File, true, 0.0),
        (What::Configuration, false, 16.0),
        (What::Configuration, true, 0.0),
    ] {
        let place = if isolated { "in processes of its own" } else { "in the collector's process" };
        let Replaced { events, counted, gap, resident, missed } = replace(times, what, isolated);
        println!(
            "{what:?} replaced {times} times, {place}: {events} events, the other plugin has all of them; in no line {}, in \
             {:.1} us on average between two instances; in two lines none; {missed} ticks missed",
            events - counted,
            gap.as_secs_f64() * 1e6 / times as f64
        );
        let mib = resident.map(|bytes| bytes as f64 / f64::from(1 << 20));
        println!(
            "resident memory: {:.2} MiB, after a tenth {:.2}, in the end {:.2}",
            mib[0], mib[1], mib[2]
        );
        // The first ones take pages and buffers that all that follow use again.
        let first = if isolated { mib[1] } else { mib[0] };
        figure("resident memory, whole MiB", (mib[2] - first).trunc(), " MiB more", bound);
    }
    Ok(())
}
