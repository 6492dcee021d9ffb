//! A wrong address, and what happens once something right answers there: no line is lost, and none is there
//! twice.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{io, thread};
use system_tests::database::Database;
use system_tests::load::{Load, assert_all, pushed};
use system_tests::running::Home;
use system_tests::servers::Tls;

const LINES: u64 = 3_000;
const LOAD: Load = Load {
    interval: Duration::from_millis(200),
    lines: LINES / 3,
    total: LINES,
    series: 100,
    odd: 0,
};
/// For the second run: no line of the table `stream`.
const NOTHING: Load = Load { lines: 1, total: 1, odd: 1, ..LOAD };

/// An address behind which something else can be put.
struct Address {
    here: SocketAddr,
    there: Arc<Mutex<SocketAddr>>,
}

impl Address {
    fn of(there: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let here = listener.local_addr().expect("an address");
        let there = Arc::new(Mutex::new(there));
        let target = Arc::clone(&there);
        // It ends with the test.
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(*target.lock().expect("no panic"));
                let Ok(far) = far else { continue };
                let _ = near.set_nodelay(true).and_then(|()| far.set_nodelay(true));
                let (Ok(back), Ok(forth)) = (near.try_clone(), far.try_clone()) else { continue };
                thread::spawn(move || pass(near, forth));
                thread::spawn(move || pass(far, back));
            }
        });
        Self { here, there }
    }

    /// For new connections.
    fn becomes(&self, there: SocketAddr) {
        *self.there.lock().expect("no panic") = there;
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// A server that answers so, whatever it is asked.
fn always(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut head = BufReader::new(stream.try_clone()?);
                let (mut line, mut length) = (String::new(), 0);
                while head.read_line(&mut line)? > 2 {
                    let lower = line.to_lowercase();
                    if let Some(value) = lower.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap_or(0);
                    }
                    line.clear();
                }
                io::copy(&mut head.take(length), &mut io::sink())?;
                stream.write_all(answer.as_bytes())
            });
        }
    });
    address
}

/// Starts at a wrong address, which holds all lines and says why; then the database answers there.
fn corrected(wrong: SocketAddr, database: &Database, words: &[&str]) {
    let (home, address) = (Home::new(), Address::of(wrong));
    let keys = format!("spool = \"{}\"\n", home.path("spool").display());
    let output = database.output(&home, address.here, &keys);
    let mut collector = home.start(&LOAD.config(&home, &[&output]));
    collector.wait_until("the lines", |_| pushed(&home) == LINES);
    collector.wait_until("the error", |said| words.iter().all(|words| said.contains(words)));
    collector.terminate();
    let ended = collector.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let books = ended.only_books();
    assert!(books.balance() && books.dropped.is_empty(), "{}", ended.stderr);
    assert_eq!((books.delivered, books.waiting), (0, books.produced), "{}", ended.stderr);
    let errors = ended.stderr.lines().filter(|line| line.contains(": error: "));
    let mut errors = errors.filter(|line| !line.contains("still failing at the end"));
    assert!(errors.next().is_some() && errors.next().is_none(), "{}", ended.stderr);

    address.becomes(database.address());
    let mut collector = home.start(&NOTHING.config(&home, &[&output]));
    collector.wait_until("all lines", |_| database.count() == LINES);
    collector.terminate();
    let ended = collector.end();
    let books = ended.only_books();
    assert!(books.balance() && books.dropped.is_empty(), "{}", ended.stderr);
    assert_eq!(books.waiting, 0, "{}", ended.stderr);
    assert_all(database.stored(), 1..=LINES);
    // One kind of database keeps no text.
    if !matches!(database, Database::Victoriametrics(_)) {
        let lines = database.stored().lines("collector_output");
        let reason = lines.iter().find(|line| line.get("reason").is_some()).expect("a reason");
        assert!(words.iter().all(|words| reason.text("reason").contains(words)), "{reason:?}");
    }
}

/// The output has another name then, and with it another folder for its spool.
#[test]
fn lines_of_a_wrong_kind_go_where_the_corrected_one_leads() {
    let (home, database) = (Home::new(), Database::influxdb1());
    let keys = format!("spool = \"{}\"\n", home.path("spool").display());
    let address = database.address();
    let wrong = format!(
        "[[output]]\nkind = \"influxdb3\"\nurl = \"http://{address}\"\ndatabase = \"x\"\n{keys}"
    );
    let mut collector = home.start(&LOAD.config(&home, &[&wrong]));
    collector.wait_until("the lines", |_| pushed(&home) == LINES);
    collector.wait_for("its lines wait");
    collector.terminate();
    let books = collector.end().only_books();
    assert_eq!((books.waiting, books.dropped.len()), (books.produced, 0));

    let right = database.output(&home, address, &keys);
    let mut collector = home.start(&NOTHING.config(&home, &[&right]));
    collector.wait_for("takes over the lines in ");
    collector.wait_until("all lines", |_| database.count() == LINES);
    collector.terminate();
    let ended = collector.end();
    let found = ended.only_books();
    assert!(found.balance() && found.dropped.is_empty(), "{}", ended.stderr);
    assert_eq!((found.recovered, found.waiting), (books.waiting, 0), "{}", ended.stderr);
    assert_all(database.stored(), 1..=LINES);
}

/// A VictoriaMetrics gets sums since the start, which to another kind would be wrong numbers.
#[test]
fn sums_never_go_where_they_would_be_read_as_what_came_since() {
    let (home, database) = (Home::new(), Database::influxdb1());
    let keys = format!("spool = \"{}\"\n", home.path("spool").display());
    let address = database.address();
    let wrong =
        format!("[[output]]\nkind = \"victoriametrics\"\nurl = \"http://{address}\"\n{keys}");
    let mut collector = home.start(&LOAD.config(&home, &[&wrong]));
    collector.wait_until("the lines", |_| pushed(&home) == LINES);
    collector.wait_for("400 database is required: no words of a VictoriaMetrics about lines");
    collector.terminate();
    let books = collector.end().only_books();
    assert_eq!((books.waiting, books.dropped.len()), (books.produced, 0));

    let right = database.output(&home, address, &keys);
    let mut collector = home.start(&NOTHING.config(&home, &[&right]));
    collector.wait_for("holds lines of an output that is not configured: they wait for it");
    collector.wait_until("new lines", |_| pushed(&home) == 1);
    collector.terminate();
    let found = collector.end().only_books();
    assert!(found.balance() && found.dropped.is_empty() && found.delivered > 0, "{found:?}");
    assert_eq!((found.recovered, database.count()), (0, 0));

    // They are still there for one of their own kind.
    let mut collector = home.start(&NOTHING.config(&home, &[&wrong]));
    collector.wait_for(&format!("{} lines recovered from its spool", books.waiting));
}

#[test]
fn http_to_a_port_for_https_waits_for_a_person() {
    let tls = Tls::start();
    corrected(
        tls.address(),
        &Database::influxdb1(),
        &[
            "400 Client sent an HTTP request to an HTTPS server",
            "the URL has to begin with https://",
        ],
    );
}

#[test]
fn a_server_of_another_kind_waits_for_a_person() {
    let (Database::Influxdb1(influx), Database::Victoriametrics(victoria)) =
        (Database::influxdb1(), Database::victoriametrics())
    else {
        unreachable!()
    };
    let (one, vm) = (influx.server.address(), victoria.server.address());
    let kind = ["check `kind` and `url`"];
    let database = "400 database is required";
    corrected(one, &Database::victoriametrics(), &[&[database][..], &kind].concat());
    corrected(vm, &Database::influxdb3(), &["400 ", "unsupported path requested", "check `kind`"]);
    corrected(one, &Database::influxdb2(), &["404 404 page not found", "correct its name"]);
    assert_eq!((influx.count("stream", "value"), victoria.count("stream_value")), (0, 0));
}

#[test]
fn pages_of_proxies_are_no_answers() {
    corrected(
        always(
            "HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nContent-Type: text/html\r\nContent-Length: 78\r\n\
             Connection: close\r\n\r\n<html><center>The plain HTTP request was sent to HTTPS port</center>\
             </html>\r\n\r\n",
        ),
        &Database::influxdb1(),
        &["The plain HTTP request was sent to HTTPS port", "begin with https://"],
    );
    corrected(
        always(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n\
             <html>Please log in.</html>",
        ),
        &Database::influxdb2(),
        &["200 <html>Please log in.</html>: no answer of an InfluxDB 2", "check `kind` and `url`"],
    );
}

/// It takes lines at InfluxDB's path, whatever it is called, and names itself.
#[test]
fn servers_are_named_in_the_log_and_a_kind_that_fits_by_chance_delivers() {
    for (database, name) in [
        (Database::influxdb1(), "InfluxDB 1.6.7"),
        (Database::victoriametrics(), "VictoriaMetrics"),
    ] {
        let home = Home::new();
        let address = database.address();
        let output = format!(
            "[[output]]\nkind = \"influxdb1\"\nurl = \"http://{address}\"\ndatabase = \"telegraf\"\n"
        );
        let mut collector = home.start(&LOAD.config(&home, &[&output]));
        let says = format!("output influxdb1://{address}/telegraf: {name}");
        collector.wait_until("its name", |said| {
            said.lines().any(|line| line.contains(&says) && line.contains(" answers at "))
        });
        collector.wait_until("all lines", |_| database.count() == LINES);
        collector.terminate();
        assert!(collector.end().only_books().dropped.is_empty());
        assert_all(database.stored(), 1..=LINES);
    }
}
