//! Nanoseconds per line: the collector's encoder beside the builder of influxdb-line-protocol.

use crate::{figure, median};
use anyhow::Result;
use collector::encode::{Schema, Tags, encode_row};
use influxdb_line_protocol::LineProtocolBuilder;
use plugin_api::abi::{TICK_TIME, Tick, Val};
use plugin_api::abi_stable::std_types::RStr;
use std::hint::black_box;
use std::time::Instant;

const LINES: usize = 10_000;
const ROUNDS: usize = 101;

const TAGS: [(&str, &str); 3] = [("comm", "kworker/u8:2"), ("dc", "fra1"), ("host", "box-0417")];
const FIELDS: [&str; 4] = ["count", "sum_us", "max_us", "mean_us"];
const TIME: i64 = 1_700_000_000_000_000_000;

/// Both write 3 tags and 4 fields (3 integers, 1 float) into a buffer that they use again; values change
/// from line to line. `interval_ns` counts as the collector's fourth field.
pub fn run() -> Result<()> {
    let tags = Tags::from([("dc".into(), "fra1".into()), ("host".into(), "box-0417".into())]);
    let schema =
        Schema::new("runqlat_comm", &["comm"], &["count", "sum_us", "mean_us"], &tags, false)?;
    let tick = Tick { seq: 0, time_ns: TIME, elapsed_ns: 10_000_312_911 };
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        ours.clear();
        for n in 0..LINES as u64 {
            let fields = [Val::U64(n), Val::U64(n * 731), Val::F64(n as f64 * 0.37)];
            let tag = [RStr::from_str(TAGS[0].1)];
            encode_row(&schema, &tag, &fields, TICK_TIME, &tick, &mut ours)
                .map_err(|e| anyhow::anyhow!("{e}"))?;
        }
        our_times.push(begin.elapsed().as_nanos() as f64 / LINES as f64);
        black_box(&ours);

        let begin = Instant::now();
        theirs.clear();
        for n in 0..LINES as i64 {
            let mut line = LineProtocolBuilder::new_with(&mut theirs).measurement("runqlat_comm");
            for (key, value) in TAGS {
                line = line.tag(key, value);
            }
            line.field(FIELDS[0], n)
                .field(FIELDS[1], n * 731)
                .field(FIELDS[2], 10_000_312_911_i64)
                .field(FIELDS[3], n as f64 * 0.37)
                .timestamp(TIME)
                .close_line()
                .build();
        }
        their_times.push(begin.elapsed().as_nanos() as f64 / LINES as f64);
        black_box(&theirs);
    }
    let (ours, theirs) = (median(our_times), median(their_times));
    println!("collector {ours:.0} ns per line, influxdb-line-protocol's builder {theirs:.0}");
    figure("ratio", ours / theirs, "", 0.2);
    Ok(())
}
