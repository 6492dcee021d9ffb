//! The real databases.

use collector::read::read;
use system_tests::Stored;
use system_tests::http::get;
use system_tests::port::is_closed;
use system_tests::servers::{Influx, Login, Victoria};

const LINES: &str = "t,a=x,b=y\\ z i=9007199254740993i,f=0.1,s=\"q\",b=true 1700000000001000000\n\
                     t,a=x i=-1i,f=2 1700000000002000000\n";

#[test]
fn influxdb_gives_back_what_was_written_types_and_all() {
    let influx = Influx::start();
    assert_eq!(influx.write(LINES).status, 204);
    assert_eq!(influx.write(LINES).status, 204, "a point that is written twice is there once");
    let by_time = |mut lines: Vec<_>| {
        lines.sort_by_key(|line: &collector::read::Line| line.time_ns);
        lines
    };
    assert_eq!(by_time(influx.lines("t")), read(LINES.as_bytes()).unwrap());
    assert_eq!(influx.numbers("t", "i"), [-1, 9_007_199_254_740_993]);
    assert_eq!((influx.count("t", "i"), influx.count("t", "none")), (2, 0));
}

#[test]
fn influxdb_stores_the_good_lines_beside_a_bad_one_and_says_so() {
    let influx = Influx::start();
    let answer = influx.write("t i=1i 1\nt i= 2\nt i=3i 3\n");
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.body.contains("partial write: unable to parse 't i= 2'"), "{answer:?}");
    let answer = influx.write("t i=4i 4\nt i=5.0 5\n");
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.body.contains("field type conflict"), "{answer:?}");
    assert!(answer.body.contains("dropped=1"), "{answer:?}");
    assert_eq!(influx.numbers("t", "i"), [1, 3, 4]);
}

#[test]
fn influxdb_lets_nobody_in_without_the_login() {
    let influx = Influx::start_with_login(Login { user: "u", password: "p&+ w" });
    assert_eq!(influx.write("t i=1i 1").status, 204);
    let answer = get(&(influx.server.url() + "/query"), &[("q", "SHOW DATABASES")]).unwrap();
    assert_eq!(answer.status, 401, "{answer:?}");
}

#[test]
fn influxdb_comes_back_after_kill_9_with_all_that_it_acknowledged() {
    let mut influx = Influx::start();
    let address = influx.server.address();
    assert_eq!(influx.write("t i=1i 1").status, 204);
    influx.server.kill9();
    assert!(is_closed(address));
    influx.server.start();
    assert_eq!(influx.server.address(), address);
    assert_eq!(influx.numbers("t", "i"), [1]);
}

#[test]
fn victoriametrics_keeps_numbers_in_milliseconds_and_each_writing() {
    let mut victoria = Victoria::start();
    let address = victoria.server.address();
    for _ in 0..2 {
        assert_eq!(victoria.write(LINES).status, 204);
    }
    let lines = victoria.lines("t");
    let times: Vec<_> = lines.iter().map(|line| line.time_ns).collect();
    assert_eq!(times, [1_700_000_000_002_000_000, 1_700_000_000_001_000_000], "by tags");
    assert_eq!(lines[0].tags, [("a".to_owned(), "x".to_owned())].into());
    assert_eq!(victoria.numbers("t", "i"), [-1, 9_007_199_254_740_992], "floats: 53 bits");
    assert_eq!(victoria.count("t_i"), 4, "what was sent twice is there twice");
    victoria.server.stop();
    assert!(is_closed(address));
    victoria.server.start();
    assert_eq!(victoria.count("t_i"), 4, "what it took is on disk when it was stopped");
}

#[test]
fn victoriametrics_skips_a_bad_line_and_only_counts_it() {
    let victoria = Victoria::start();
    let answer = victoria.write("t i=1i 1700000000001000000\nt i 1700000000002000000\n");
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!((victoria.numbers("t", "i"), victoria.refused()), (vec![1], 1));
}

/// By which the collector asks whether a server takes lines at all.
#[test]
fn a_comment_is_a_write_of_nothing() {
    let (influx, victoria) = (Influx::start(), Victoria::start());
    assert_eq!(influx.write("# lines?\n").status, 204);
    assert_eq!(victoria.write("# lines?\n").status, 204);
    assert_eq!(victoria.refused(), 0);
}
