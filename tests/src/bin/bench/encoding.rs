//! Nanoseconds per line of each form: the collector's encoder beside the builder of influxdb-line-protocol. And what it
//! costs to translate lines for remote write and OTLP when they are sent.

use crate::{figure, median};
use anyhow::Result;
use collector::encode::{Schema, Tags};
use collector::encoder::{Encoder, Room};
use collector::form::{Buckets, Counters, Form};
use collector::output::http::{Auth, HttpConfig, Packer, Server, Version};
use influxdb_line_protocol::LineProtocolBuilder;
use plugin_api::abi::{TICK_TIME, Tick, Val};
use plugin_api::abi_stable::std_types::RStr;
use plugin_api::smallvec::SmallVec;
use plugin_api::{FieldValue as _, Snapshot, table};
use std::hint::black_box;
use std::time::Instant;

/// Series of a tick.
const ROWS: usize = 1_000;
const ROUNDS: usize = 301;

const TAGS: [(&str, &str); 3] = [("comm", "kworker/u8:2"), ("dc", "fra1"), ("host", "box-0417")];
const FIELDS: [&str; 4] = ["count", "sum_us", "max_us", "mean_us"];
const TIME: i64 = 1_700_000_000_000_000_000;
const ELAPSED: u64 = 10_000_312_911;

table! {
    /// A histogram, and nothing else.
    waits {
        tags {
            /// A name.
            comm,
        }
        /// How long.
        wait: histogram(us),
    }
}

fn tags() -> Tags {
    Tags::from([("dc".into(), "fra1".into()), ("host".into(), "box-0417".into())])
}

/// The median of nanoseconds per line, and lines per row, in a form. `push` pushes the row of a number.
fn measured(
    form: Form,
    table: &str,
    schema: Schema,
    push: impl Fn(&mut Encoder, u32, &str, usize) -> Result<()>,
) -> Result<(f64, f64)> {
    let mut encoder = Encoder::new(&[form]);
    let schema = encoder.add(table, schema);
    let names: Vec<String> = (0..ROWS).map(|n| format!("kworker/u8:{n}")).collect();
    let (mut times, mut lines) = (Vec::new(), 0);
    for round in 0..ROUNDS as i64 {
        let time_ns = TIME + round * 10_000_000_000;
        let begin = Instant::now();
        encoder.begin(Tick { seq: 0, time_ns, elapsed_ns: ELAPSED }, begin);
        for (n, name) in names.iter().enumerate() {
            push(&mut encoder, schema, name, n)?;
        }
        let ns = begin.elapsed().as_nanos() as f64;
        let pages = encoder.take();
        lines = black_box(&pages)[0].lines;
        times.push(ns / lines as f64);
    }
    Ok((median(times), lines as f64 / ROWS as f64))
}

type Fields = SmallVec<[Val<'static>; 16]>;

/// A row is 3 tags and 4 fields, `interval_ns` among them: 3 integers and 1 float. Its series is looked up, as
/// in a tick of a plugin. Then a histogram's line with 10 buckets, and those buckets as lines of their own.
pub fn run() -> Result<()> {
    let theirs = theirs();
    println!("influxdb-line-protocol's builder: {theirs:.0} ns per line");
    for (_, histogram) in Buckets::ALL {
        for (word, counters) in Counters::NAMED {
            let form = Form { histogram, counters };
            let what = format!("{histogram:?}, {word}").to_lowercase();
            if histogram == Buckets::Fields {
                let names = ["count", "sum_us", "mean_us"];
                let schema =
                    Schema::new("runqlat_comm", &["comm"], &names, &tags(), false)?.counting();
                let push = |encoder: &mut Encoder, schema, name: &str, n| {
                    let n = n as u64;
                    let row = [Val::U64(n), Val::U64(n * 731), Val::F64(n as f64 * 0.37)];
                    let tags = [RStr::from_str(name)];
                    Ok(encoder.push(schema, &tags, &row, TICK_TIME, ELAPSED, Room::ANY)?)
                };
                let (ns, _) = measured(form, "runqlat_comm", schema, push)?;
                figure(&format!("{what}: ns per line of 3 tags and 4 fields"), ns, " ns", 115.0);
                if counters == Counters::Delta {
                    figure("ratio to the builder", ns / theirs, "", 0.2);
                }
            }
            let schema = Schema::of(&waits::TABLE, &tags(), false)?;
            let row = |n: u64| {
                let mut wait = Snapshot::default();
                (0..10).for_each(|power| (0..=n % 7).for_each(|_| wait.add(1 << power)));
                let (wait, mut fields) = (Box::leak(Box::new(wait)), Fields::new());
                wait.value(&mut fields);
                fields
            };
            let rows: Vec<Fields> = (0..ROWS as u64).map(row).collect();
            let push = |encoder: &mut Encoder, schema, name: &str, n: usize| {
                let tags = [RStr::from_str(name)];
                Ok(encoder.push(schema, &tags, &rows[n], TICK_TIME, ELAPSED, Room::ANY)?)
            };
            let (ns, lines) = measured(form, "waits", schema, push)?;
            println!("{what}: {ns:.0} ns per line of a histogram, {lines:.0} lines a histogram");
        }
    }
    translations()
}

/// Translating lines, with protobuf and compression: rows of 3 tags and 3 numbers, and of a histogram with 10 buckets.
fn translations() -> Result<()> {
    let remote = |version, native| Server::Prometheus { version, native };
    let ways = [
        ("remote write 1.0", Form::PROMETHEUS, remote(Version::V1, false)),
        ("remote write 1.0, native", Form::PROMETHEUS, remote(Version::V1, true)),
        ("remote write 2.0", Form::PROMETHEUS, remote(Version::V2, false)),
        ("remote write 2.0, native", Form::PROMETHEUS, remote(Version::V2, true)),
        ("OTLP", Form::OTLP, Server::Otlp),
    ];
    for (what, form, server) in ways {
        let config = HttpConfig::new(server, "http://h:1".to_owned(), Auth::None);
        let mut packer = Packer::new(&config, &tags());
        for (kind, lines) in [("3 numbers", numbers(form)?), ("a histogram", histograms(form)?)] {
            let count = lines.iter().filter(|byte| **byte == b'\n').count() as f64;
            let (mut times, mut length) = (Vec::new(), 0);
            for _ in 0..ROUNDS / 3 {
                let begin = Instant::now();
                length = black_box(packer.pack(&lines)?);
                times.push(begin.elapsed().as_nanos() as f64 / count);
            }
            println!(
                "{what}: {:.0} ns per line of {kind}, {:.0} bytes of {:.0}",
                median(times),
                length as f64 / count,
                lines.len() as f64 / count
            );
        }
    }
    Ok(())
}

/// The lines of a tick of plain rows.
fn numbers(form: Form) -> Result<Vec<u8>> {
    let names = ["count", "sum_us", "mean_us"];
    let schema = Schema::new("runqlat_comm", &["comm"], &names, &tags(), false)?.counting();
    let row = |n: u64| vec![Val::U64(n), Val::U64(n * 731), Val::F64(n as f64 * 0.37)];
    tick(form, "runqlat_comm", schema, row)
}

/// The lines of a tick of histograms.
fn histograms(form: Form) -> Result<Vec<u8>> {
    let row = |n: u64| {
        let mut wait = Snapshot::default();
        (0..10).for_each(|power| (0..=n % 7).for_each(|_| wait.add(1 << power)));
        let (wait, mut fields) = (Box::leak(Box::new(wait)), Fields::new());
        wait.value(&mut fields);
        fields.to_vec()
    };
    tick(form, "waits", Schema::of(&waits::TABLE, &tags(), false)?, row)
}

/// The lines of a tick in the midst of many, without begins of series.
fn tick(
    form: Form,
    table: &str,
    schema: Schema,
    row: impl Fn(u64) -> Vec<Val<'static>>,
) -> Result<Vec<u8>> {
    let mut encoder = Encoder::new(&[form]);
    let schema = encoder.add(table, schema);
    for round in 0..2 {
        let time_ns = TIME + round * ELAPSED as i64;
        encoder.begin(Tick { seq: 0, time_ns, elapsed_ns: ELAPSED }, Instant::now());
        encoder.take();
        for n in 0..ROWS as u64 {
            let name = format!("kworker/u8:{n}");
            let tags = [RStr::from_str(&name)];
            encoder.push(schema, &tags, &row(n), TICK_TIME, ELAPSED, Room::ANY)?;
        }
    }
    Ok(encoder.take().remove(0).bytes)
}

/// The same line by the builder.
fn theirs() -> f64 {
    let (mut out, mut times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        out.clear();
        for n in 0..ROWS as i64 {
            let mut line = LineProtocolBuilder::new_with(&mut out).measurement("runqlat_comm");
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
        times.push(begin.elapsed().as_nanos() as f64 / ROWS as f64);
        black_box(&out);
    }
    median(times)
}
