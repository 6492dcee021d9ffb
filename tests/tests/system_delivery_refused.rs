//! One bad line among 5,000: it is refused alone, in few requests, and kept with the server's words.

use collector::read::read;
use std::fs;
use std::time::Duration;
use system_tests::Stored;
use system_tests::contract::{Contract, Refusal};
use system_tests::database::Database;
use system_tests::http::get;
use system_tests::load::{Load, pushed};
use system_tests::running::Home;

const LINES: u64 = 5_000;
/// Somewhere.
const BAD: u64 = 3_210;
/// Requests beyond the one that holds all lines.
const EXTRA: u64 = 26;

/// All in one tick. The collector's own words come at the end, in one request.
const LOAD: Load =
    Load { interval: Duration::from_secs(1), lines: LINES, total: LINES, series: 100, odd: BAD };

/// Sends the lines to a server that refuses the odd one; `requests` counts those that it was sent.
fn refused(database: &Database, words: &str, requests: impl Fn() -> u64) {
    let home = Home::new();
    let letters = home.path("refused");
    let keys = format!("dead_letters = \"{}\"\n", letters.display());
    let output = database.output(&home, database.address(), &keys);
    let before = requests();
    let config = LOAD.config(&home, &[&output]);
    // The collector's own ticks are not to come between.
    let config = config.replacen("\"1000ms\"\n", "\"1h\"\n", 1);
    let config = config.replacen("[plugin.stream]\n", "[plugin.stream]\ninterval = \"1s\"\n", 1);
    let mut collector = home.start(&config);
    collector.wait_until("the lines", |_| pushed(&home) == LINES);
    collector.wait_until("all lines but one", |_| database.count() == LINES - 1);
    collector.wait_until("the dead letter", |said| said.contains("lines given up: 1"));
    collector.terminate();
    let ended = collector.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let books = ended.only_books();
    assert!(books.balance() && books.waiting == 0, "{}", ended.stderr);
    assert_eq!(books.dropped, [("rejected".to_owned(), 1)].into(), "{}", ended.stderr);
    let numbers = database.stored().numbers("stream", "value");
    assert!(numbers.iter().copied().eq((1..=LINES as i64).filter(|n| *n != BAD as i64)));
    let letter = fs::read_to_string(&letters).expect("a dead-letter file");
    let lines = read(letter.as_bytes()).expect("line protocol with comments");
    assert_eq!(lines.len(), 1, "{letter}");
    assert_eq!((&*lines[0].table, lines[0].u64("value")), ("odd", BAD));
    let said = letter.lines().next().expect("a comment");
    assert!(said.starts_with("# ") && said.contains(words), "{letter}");

    // The lines, and the collector's words at its end.
    let extra = requests() - before - 2;
    println!(
        "TABLE: one bad line among {LINES}, {}: {extra} extra requests; `{said}`",
        database.kind()
    );
    assert!(extra <= EXTRA, "{extra} extra requests");
}

/// A server that stands for another, and refuses the odd line with these words.
fn by_contract(database: Database, refusal: Refusal) {
    let (Refusal::Malformed(words) | Refusal::Conflict(words)) = refusal.clone();
    server(&database).refuse(move |line| line.starts_with("odd").then(|| refusal.clone()));
    refused(&database, &words, || server(&database).seen().len() as u64);
}

fn server(database: &Database) -> &Contract {
    match database {
        Database::Influxdb2(server) | Database::Influxdb3(server) => server,
        _ => panic!("it follows no rule of ours"),
    }
}

#[test]
fn a_server_that_refuses_the_whole_batch_gets_all_lines_but_the_bad_one() {
    by_contract(Database::influxdb2(), Refusal::Malformed("no odd lines".to_owned()));
}

#[test]
fn a_server_that_counts_the_bad_lines_gets_the_others() {
    by_contract(Database::influxdb2(), Refusal::Conflict("field type conflict".to_owned()));
}

#[test]
fn a_server_that_names_the_bad_line_gets_the_others() {
    by_contract(Database::influxdb3(), Refusal::Malformed("no odd lines".to_owned()));
}

#[test]
fn influxdb1_gets_all_lines_but_the_one_whose_field_has_another_type_there() {
    let database = Database::influxdb1();
    let Database::Influxdb1(influx) = &database else { unreachable!() };
    assert_eq!(influx.write("odd value=0.5").status, 204);
    let requests = || {
        let answer = get(&(influx.server.url() + "/debug/vars"), &[]).expect("an answer");
        let vars: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        let mut all = vars.as_object().expect("statistics").values();
        let http = all.find(|module| module["name"] == "httpd").expect("those of HTTP");
        http["values"]["writeReq"].as_u64().expect("a count")
    };
    refused(&database, "partial write: field type conflict", requests);
    let odd = influx.lines("odd");
    assert_eq!(odd.len(), 1, "what was there is there: {odd:?}");
}
