//! The collector with its load.

use std::collections::BTreeSet;
use std::fs;
use system_tests::running::Home;
use system_tests::wait;

const CONFIG: &str = "interval = \"50ms\"\n[plugin.stream]\nmax_lines = 100000\n";

#[test]
fn every_line_of_the_load_is_known_and_no_two_are_one_point() {
    let home = Home::new();
    let (out, progress) = (home.path("lines"), home.path("progress"));
    let mut collector = home.start(&format!(
        "{CONFIG}lines = 900\ntotal = 2500\nseries = 7\nrun = \"a\"\nprogress = \"{}\"\n\
         [[output]]\nkind = \"file\"\npath = \"{}\"\n",
        progress.display(),
        out.display()
    ));
    let written = || fs::read(&progress).is_ok_and(|text| text == b"00000000000000002500");
    collector.wait_until("the load to be over", |_| written());
    assert!(collector.memory().now > 1 << 20 && collector.memory().peak >= collector.memory().now);
    collector.terminate();
    let ended = collector.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let books = ended.only_books();
    assert!(books.balance() && books.delivered == books.produced, "{books:?}");

    let lines = collector::read::read(&fs::read(out).unwrap()).unwrap();
    assert_eq!(lines.len() as u64, books.delivered);
    let load: Vec<_> = lines.iter().filter(|line| line.table == "stream").collect();
    let values: Vec<_> = load.iter().map(|line| line.u64("value")).collect();
    assert_eq!(values, (1..=2500).collect::<Vec<_>>());
    let points: BTreeSet<_> =
        load.iter().map(|line| (&line.tags, line.time_ns / 1_000_000)).collect();
    assert_eq!(points.len(), 2500, "distinct, and in milliseconds too");
    assert!(load.iter().all(|line| line.tag("run") == "a" && line.time_ns % 1_000_000 == 0));
}

#[test]
fn a_collector_is_killed_at_once() {
    let home = Home::new();
    let out = home.path("lines");
    let output = format!("[[output]]\nkind = \"file\"\npath = \"{}\"\n", out.display());
    let collector = home.start(&format!("{CONFIG}{output}"));
    wait::until("lines", || fs::metadata(&out).is_ok_and(|file| file.len() > 0));
    let ended = collector.kill9();
    assert_eq!(ended.code, None);
    assert!(ended.books().is_empty(), "it had no time for books");
}
