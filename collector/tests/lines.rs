//! The property of line protocol: any table and row is a line that reads back equal, or a counted refusal.

use arbitrary::{Arbitrary, Unstructured};
use collector::check::Checker;
use collector::form::Form;
use collector::read::read;
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
        let forms = [Form::default(), Form::VICTORIAMETRICS];
        let terms = Terms {
            plugin: "tool".to_owned(),
            tables: None,
            forms: forms.to_vec(),
            reports: Reports::Full,
            tags: case.configured.clone(),
            uint: case.uint,
            limits: Limits { lines: u64::MAX, bytes: usize::MAX, series: usize::MAX },
            log: |_, _, _| {},
        };
        let checker = Checker::new(&terms);
        let sink = Sink::leak(terms);
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
        let (closed, dropped) = (sink.close(), sink.take_dropped());
        for page in &closed.pages {
            let text = String::from_utf8_lossy(&page.bytes);
            assert_eq!(checker.check(&page.bytes, page.lines), Ok(()), "{text}");
        }
        let taken = closed.rows;
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

#[test]
fn bytes_that_pass_the_check_are_lines_for_a_reader_that_shares_nothing_with_it() {
    const PIECES: [&str; 24] = [
        "mine",
        ",a=b",
        ",c=d",
        " ",
        "n=1i",
        ",m=2.5e-3",
        " 1",
        "\n",
        "\\",
        "\"",
        "=",
        ",",
        "\\,",
        "\\\"",
        "collector_program,plugin=tool",
        "9223372036854775807",
        "-",
        "e",
        "#!~#",
        "ü",
        "\t",
        "\u{fffd}",
        "mine,a=b n=1i,s=\"x\" 5\n",
        "mine n=1i 1\n",
    ];
    let terms = Terms {
        plugin: "tool".to_owned(),
        tables: None,
        forms: vec![Form::default()],
        reports: Reports::Full,
        tags: Default::default(),
        uint: true,
        limits: Limits::DEFAULT,
        log: |_, _, _| {},
    };
    let checker = Checker::new(&terms);
    let passed = Cell::new(0);
    let text = vec(0..PIECES.len(), 0..12)
        .prop_map(|pieces| pieces.into_iter().map(|piece| PIECES[piece]).collect::<String>());
    let failure_persistence = None;
    let config = ProptestConfig { cases: 50_000, failure_persistence, ..ProptestConfig::default() };
    let result = TestRunner::new(config).run(&text, |text| {
        let lines = text.matches('\n').count() as u64;
        if checker.check(text.as_bytes(), lines).is_ok() {
            passed.set(passed.get() + lines);
            match read(text.as_bytes()) {
                Ok(read) => prop_assert_eq!(read.len() as u64, lines),
                // Of a field that is there twice every database takes the last.
                Err(why) => prop_assert!(format!("{why:#}").contains("there twice"), "{why:#}"),
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(passed.get() > 500, "{} lines passed", passed.get());
}

fn rstrs(texts: &[String]) -> Vec<RStr<'_>> {
    texts.iter().map(|text| RStr::from_str(text)).collect()
}
