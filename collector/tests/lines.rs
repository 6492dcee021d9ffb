//! The property of line protocol: any table and row is a line that reads back equal, or a counted refusal.

use arbitrary::{Arbitrary, Unstructured};
use collector::form::Form;
use collector::sink::{Dropped, Limits, Reports, Sink, Terms};
use line_cases::{Case, Checked, check};
use plugin_api::abi::{Status, Val};
use plugin_api::abi_stable::std_types::{RSlice, RStr};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::Cell;

/// Cases from bytes, which proptest shrinks to fewer and smaller ones.
fn cases() -> impl Strategy<Value = Case> {
    vec(any::<u8>(), 0..2000).prop_map(|bytes| {
        Case::arbitrary(&mut Unstructured::new(&bytes)).expect("bytes that are missing are zeros")
    })
}

/// Runs a property on many cases; returns how many lines and refusals there were.
fn run(count: u32, property: impl Fn(&Case) -> Checked) -> Checked {
    let (lines, refused) = (Cell::new(0), Cell::new(0));
    // A failure is printed as a case of its own, so no file of seeds is kept.
    let failure_persistence = None;
    let config = ProptestConfig { cases: count, failure_persistence, ..ProptestConfig::default() };
    let result = TestRunner::new(config).run(&cases(), |case| {
        let checked = property(&case);
        lines.set(lines.get() + checked.lines);
        refused.set(refused.get() + checked.refused);
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    Checked { lines: lines.get(), refused: refused.get() }
}

#[test]
fn any_row_is_one_line_that_reads_back_equal_or_is_refused_without_a_trace() {
    let Checked { lines, refused } = run(20_000, check);
    assert!(lines > 10_000 && refused > 5_000, "the cases are one-sided: {lines} and {refused}");
}

#[test]
fn the_host_counts_every_row_that_it_refuses_and_only_those() {
    let Checked { lines, refused } = run(2_000, |case| {
        let expected = check(case);
        let sink = Sink::leak(Terms {
            plugin: "tool".to_owned(),
            tables: None,
            forms: vec![Form::default()],
            reports: Reports::Full,
            tags: case.configured.clone(),
            uint: case.uint,
            limits: Limits { lines: u64::MAX, bytes: usize::MAX, series: usize::MAX },
            log: |_, _, _| {},
        });
        let (ctx, host) = (sink.host().ctx, sink.host().host);
        let (tags, fields) = (rstrs(&case.tags), rstrs(&case.fields));
        let (tags, fields) = (RSlice::from_slice(&tags), RSlice::from_slice(&fields));
        let id = host.schema()(ctx, RStr::from_str(&case.table), tags, fields);
        sink.open(case.tick);
        for row in &case.rows {
            let cells: Vec<Val<'_>> = row.cells.iter().map(line_cases::Cell::val).collect();
            let (tags, cells) = (rstrs(&row.tags), RSlice::from_slice(&cells));
            let status = host.row()(ctx, id, RSlice::from_slice(&tags), cells, row.time_ns);
            let possible = [Status::OK, Status::INVALID, Status::FULL]; // two of one series
            assert!(possible.contains(&status), "{status:?}");
        }
        let (taken, dropped) = (sink.close().rows, sink.take_dropped());
        let counted = Checked { lines: taken + dropped.duplicate, refused: dropped.invalid };
        assert_eq!(counted, expected);
        assert_eq!(
            dropped,
            Dropped {
                invalid: dropped.invalid,
                duplicate: dropped.duplicate,
                ..Dropped::default()
            }
        );
        assert_eq!(sink.take_dropped(), Dropped::default());
        counted
    });
    assert!(lines > 0 && refused > 0);
}

fn rstrs(texts: &[String]) -> Vec<RStr<'_>> {
    texts.iter().map(|text| RStr::from_str(text)).collect()
}
