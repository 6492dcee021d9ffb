//! The page and the metrics: what Prometheus and a browser have of them are the numbers of the lines, and collecting
//! goes on whatever is asked.

use plugin_api::histogram::{BUCKETS, bucket};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use system_tests::browser::Browser;
use system_tests::http;
use system_tests::load::Load;
use system_tests::pictures::keep;
use system_tests::port::Port;
use system_tests::running::{Home, Running};
use system_tests::servers::{Prometheus, executable};
use system_tests::wait;
use system_tests::waits::{assert_quantile, counted, lines, wait_for_lines};

/// Lines of a table that the file got.
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

fn waits(home: &Home, address: SocketAddr) -> String {
    let path = |name: &str| home.path(name).display().to_string();
    format!(
        "interval = \"100ms\"\nhttp = \"{address}\"\n[[output]]\nkind = \"file\"\npath = \"{}\"\n\
         [plugin.waits]\npushed = \"{}\"\nfail = \"{}\"\n",
        path("lines"),
        path("pushed"),
        path("fail")
    )
}

fn end(collector: Running) {
    collector.terminate();
    let ended = collector.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for (output, books) in ended.books() {
        assert!(
            books.balance() && books.dropped.is_empty() && books.waiting == 0,
            "{output}: {}",
            ended.stderr
        );
    }
}

#[test]
fn prometheus_scrapes_the_counts_of_the_file_through_a_restart_of_the_plugin() {
    let (home, port) = (Home::of("waits"), Port::reserve());
    let mut collector = home.start(&waits(&home, port.address()));
    wait_for_lines(&mut collector, &home, 8);
    let classic = Prometheus::scraping(port.address(), false);
    let native = Prometheus::scraping(port.address(), true);
    wait_for_lines(&mut collector, &home, 20);
    // The plugin fails until it is ended, and is started again.
    fs::write(home.path("fail"), "").expect("a file");
    collector.wait_for("next start in");
    fs::remove_file(home.path("fail")).expect("it is there");
    collector.wait_for("works again");
    wait_for_lines(&mut collector, &home, 20);
    // Then it says nothing any more, and what it has said is scraped.
    fs::write(home.path("fail"), "").expect("a file");
    thread::sleep(Duration::from_millis(400));
    let lines = lines(&home, "waits");
    for series in ["steady", "rare"] {
        let (buckets, count, sum) = counted(&lines, series);
        let selector = |metric: &str| format!("waits_{metric}{{series=\"{series}\"}}");
        let mut last = (0, 0, 0);
        wait::until(format!("{series}: {count} values to be scraped"), || {
            let of = |prometheus: &Prometheus, query: &str| {
                prometheus.query(query, now_ms()).first().map_or(0, |(_, value)| *value as u64)
            };
            let native_count = format!("histogram_count({})", selector("us"));
            last = (
                of(&classic, &selector("us_count")),
                of(&classic, &selector("us_sum")),
                of(&native, &native_count),
            );
            last == (count, sum, count)
        });
        for (labels, value) in classic.query(&selector("us_bucket"), now_ms()) {
            let below =
                labels["le"].parse::<f64>().ok().filter(|le| le.is_finite()).map(|le| le as u64);
            let expected: u64 = (0..BUCKETS)
                .filter(|n| below.is_none_or(|below| bucket(*n).1.is_some_and(|b| b <= below)))
                .map(|n| buckets[n])
                .sum();
            assert_eq!(value as u64, expected, "le={}", labels["le"]);
        }
        for (prometheus, what) in [(&classic, "us_bucket"), (&native, "us")] {
            let query = format!("histogram_quantile(0.99, {})", selector(what));
            let found = prometheus.query(&query, now_ms())[0].1;
            assert_quantile(&query, found, &buckets, count);
        }
    }
    let own = classic.query("count({__name__=~\"collector_.*\"})", now_ms());
    assert!(own[0].1 > 20.0, "the collector's own tables: {own:?}");
    let up = classic.query("min_over_time(up[1m])", now_ms());
    assert_eq!(up[0].1, 1.0, "each scrape was taken");
    let ready = http::get(&format!("http://{}/readyz", port.address()), &[]).expect("an answer");
    assert!(ready.status == 503 && ready.body.contains("waits: "), "{ready:?}");
    end(collector);
}

/// Writes a certificate for this address, signed by an authority, and its key.
fn certify(home: &Home, authority: &CertifiedIssuer<'_, KeyPair>) {
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    let key = KeyPair::generate().expect("a key");
    let cert = params.signed_by(&key, authority).expect("a certificate");
    fs::write(home.path("cert.pem"), cert.pem()).expect("a file");
    secret(&home.path("key.pem"), &key.serialize_pem());
}

fn secret(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("it is ours");
}

#[test]
fn prometheus_scrapes_over_tls_through_a_renewal_and_floods_of_handshakes_touch_nobody() {
    let mut params = CertificateParams::new([]).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
    let (home, port) = (Home::of("waits"), Port::reserve());
    let (ca, token) = (home.path("ca.pem"), home.path("token"));
    fs::write(&ca, authority.pem()).expect("a file");
    secret(&token, "s3cret\n");
    certify(&home, &authority);
    let keys = format!(
        "http_cert_file = \"{}\"\nhttp_key_file = \"{}\"\nhttp_token_file = \"{}\"\n",
        home.path("cert.pem").display(),
        home.path("key.pem").display(),
        token.display()
    );
    let mut collector = home.start(&(keys + &waits(&home, port.address())));
    wait_for_lines(&mut collector, &home, 4);
    let plain = http::get(&format!("http://{}/metrics", port.address()), &[]).expect("an answer");
    assert!(plain.status == 400 && plain.body.contains("https://"), "{plain:?}");
    let prometheus = Prometheus::scraping_over_tls(port.address(), &ca, &token);
    let scraped = |query: &str| prometheus.query(query, now_ms()).first().map(|(_, value)| *value);
    wait::until("a scrape", || scraped("up") == Some(1.0));

    let before = collector.memory();
    let mut slow = std::collections::VecDeque::new();
    for _ in 0..2000 {
        if let Ok(mut stream) = TcpStream::connect(port.address()) {
            let _ = stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
            slow.push_back(stream);
        }
        if slow.len() > 500 {
            slow.pop_front();
        }
    }
    certify(&home, &authority);
    let hang_up = || {
        let _ = rustix::process::kill_process(collector.pid(), rustix::process::Signal::HUP);
    };
    hang_up();
    wait::until("the new certificate", || collector.said().contains("was read again"));
    secret(&home.path("key.pem"), &KeyPair::generate().expect("a key").serialize_pem());
    hang_up();
    wait::until("a refusal", || {
        collector.said().contains("key.pem: it is not the key of the certificate in ")
    });
    // What it counts from now on is scraped with the certificate that was read before.
    drop(slow);
    wait_for_lines(&mut collector, &home, 6);
    fs::write(home.path("fail"), "").expect("a file");
    thread::sleep(Duration::from_millis(300));
    let (_, count, _) = counted(&lines(&home, "waits"), "steady");
    wait::until(format!("{count} values"), || {
        scraped("waits_us_count{series=\"steady\"}") == Some(count as f64)
    });
    let after = collector.memory();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "TABLE: TLS: {:.1} MiB before, {:.1} MiB at most in a flood",
        mib(before.now),
        mib(after.peak)
    );
    assert!(after.peak < before.now + (12 << 20), "{after:?}");
    let about = lines(&home, "collector_plugin");
    let missed: u64 = about
        .iter()
        .filter_map(|line| line.get("ticks_missed").map(|_| line.u64("ticks_missed")))
        .sum();
    assert_eq!(missed, 0, "every tick was made");
    end(collector);
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics_of_all_tools() {
    let (home, port) = (Home::with_tools(), Port::reserve());
    let mut collector =
        home.start(&format!("interval = \"500ms\"\nhttp = \"{}\"\n", port.address()));
    let url = format!("http://{}", port.address());
    collector.wait_until("readiness", |_| {
        http::get(&(url.clone() + "/readyz"), &[]).is_ok_and(|it| it.status == 200)
    });
    thread::sleep(Duration::from_secs(2));
    let text = http::get(&(url.clone() + "/metrics"), &[]).expect("an answer").body;
    assert!(
        text.contains("# TYPE collector_plugin_up gauge\n") && text.contains("# HELP "),
        "{text}"
    );
    let mut promtool = Command::new(executable("promtool"));
    promtool
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool");
    let mut input = promtool.stdin.take().expect("it is piped");
    let written = text.clone();
    let writer = thread::spawn(move || drop(input.write_all(written.as_bytes())));
    let output = promtool.wait_with_output().expect("its words");
    writer.join().expect("it wrote");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    // 3: no error, but a matter of style: our units are those that are measured, `us` and not seconds.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{said}");
    let mut words: Vec<&str> =
        said.lines().map(|line| line.split_once(' ').map_or("", |it| it.1)).collect();
    words.sort_unstable();
    words.dedup();
    println!("{} lines of metrics; about their style: {words:#?}", text.lines().count());
    let began = Instant::now();
    for _ in 0..20 {
        http::get(&(url.clone() + "/metrics"), &[]).expect("an answer");
    }
    println!("a scrape took {:?}, {} KiB", began.elapsed() / 20, text.len() / 1024);
    end(collector);
}

#[test]
fn collecting_is_not_touched_by_those_who_mean_it_no_good() {
    let (home, port) = (Home::new(), Port::reserve());
    let load = Load { lines: 1000, series: 200, ..Load::default() };
    let file =
        format!("[[output]]\nkind = \"file\"\npath = \"{}\"\n", home.path("lines").display());
    let toml = format!("http = \"{}\"\n{}", port.address(), load.config(&home, &[&file]));
    let mut collector = home.start(&toml);
    collector.wait_until("lines", |_| lines(&home, "stream").len() >= 5000);
    let before = collector.memory();
    let connect = || {
        let stream = TcpStream::connect(port.address());
        stream.and_then(|it| it.set_read_timeout(Some(Duration::from_secs(10))).map(|()| it))
    };
    let ask = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut still = Vec::new();
    for _ in 0..30 {
        let mut stream = connect().expect("a connection");
        stream.write_all(ask.as_bytes()).expect("it is open");
        still.push(stream);
    }
    let mut slow = std::collections::VecDeque::new();
    for n in 0..10_000 {
        if let Ok(mut stream) = connect() {
            let _ = stream.write_all(b"GET /metr");
            slow.push_back(stream);
        }
        if slow.len() > 500 {
            slow.pop_front();
        }
        if n % 1000 == 0 {
            let mut stream = connect().expect("a connection");
            stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").expect("it is open");
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            assert!(answer.ends_with("ok\n"), "{n}: {answer:?}");
        }
    }
    let after = collector.memory();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "TABLE: memory {:.1} MiB before, {:.1} MiB at most in a flood",
        mib(before.now),
        mib(after.peak)
    );
    assert!(after.peak < before.now + (12 << 20), "{after:?}");
    end(collector);
    let lines = lines(&home, "collector_plugin");
    let missed: u64 = lines
        .iter()
        .filter_map(|line| line.get("ticks_missed").map(|_| line.u64("ticks_missed")))
        .sum();
    assert_eq!(missed, 0, "every tick was made");
}

#[test]
fn a_browser_shows_the_numbers_of_the_lines() {
    let Some(mut browser) = Browser::start() else { return };
    let (home, port) = (Home::of("waits"), Port::reserve());
    let mut collector = home.start(&waits(&home, port.address()));
    wait_for_lines(&mut collector, &home, 30);
    let url = format!("http://{}/", port.address());
    browser.open(&url);
    browser.wait_until(
        "[...document.querySelectorAll('nav button')].some(it => it.textContent === 'waits')",
    );
    browser.wait_until("document.querySelector('main td')?.textContent && document.body.innerText.includes('1 of 1 plugins running')");
    keep("overview.png", &browser.picture(1200, 900, false));
    // The overview, the collector's own tables, then the plugin's: by the keyboard.
    while browser.evaluate("location.hash") != "#waits" {
        browser.press("j");
        browser.evaluate("new Promise(done => setTimeout(done, 50))");
    }
    browser.wait_until("app.data.get('waits')?.list.length === 2");
    // It stands still: the last tick of the page is one of the file.
    browser.press("p");
    browser.wait_until("document.querySelector('#pause').getAttribute('aria-pressed') === 'true'");
    browser.evaluate("new Promise(done => setTimeout(done, 1500))");
    browser.evaluate("draw()");
    let shown = browser.evaluate(
        "[...document.querySelectorAll('main tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))",
    );
    let heads =
        browser.evaluate("[...document.querySelectorAll('main th')].map(it => it.textContent)");
    // Numbers beyond 2^53 are rounded by the browser: nanoseconds.
    let time = browser.evaluate("String(BigInt(Math.round(app.data.get('waits').time_ns / 1e6)))");
    let time_ms: i64 = time.as_str().expect("a time").parse().expect("a number");
    collector.wait_until("that tick in the file", |_| {
        lines(&home, "waits").last().is_some_and(|line| line.time_ns / 1_000_000 > time_ms)
    });
    let all = lines(&home, "waits");
    let of = |series: &str| {
        all.iter().find(|line| line.time_ns / 1_000_000 == time_ms && line.tag("series") == series)
    };
    let column = |name: &str| {
        let heads = heads.as_array().expect("heads").iter();
        heads
            .clone()
            .position(|head| head.as_str().is_some_and(|it| it.starts_with(name)))
            .expect(name)
    };
    let rows = shown.as_array().expect("rows");
    assert_eq!(rows.len(), 2, "{shown}");
    for row in rows {
        let series = row[0].as_str().expect("a name");
        let text = |name: &str| row[column(name)].as_str().expect("a text").to_owned();
        println!("{series} at {time_ms}: {row}");
        match of(series) {
            Some(line) => {
                assert_eq!(text("count"), line.u64("count").to_string(), "{series}");
                assert_eq!(text("call"), line.u64("call").to_string(), "{series}");
            }
            None => assert_eq!(text("count"), "–", "{series} had no line in that tick"),
        }
    }
    for (name, width, dark) in [
        ("waits-light.png", 1200, false),
        ("waits-dark.png", 1200, true),
        ("waits-narrow.png", 400, true),
    ] {
        let picture = browser.picture(width, 900, dark);
        assert!(picture.starts_with(b"\x89PNG") && picture.len() > 10_000, "{}", picture.len());
        keep(name, &picture);
        let wide = browser.evaluate("document.documentElement.scrollWidth");
        assert!(wide.as_u64().is_some_and(|wide| wide <= u64::from(width)), "{name}: {wide} wide");
    }
    let controls = ["button", "textbox", "searchbox", "combobox", "img", "image", "link", "region"];
    let accessible = browser.accessible();
    let named = accessible.iter().filter(|(role, _)| controls.contains(&&**role));
    assert!(named.clone().count() > 10, "{accessible:?}");
    let nameless: Vec<_> = named.filter(|(_, name)| name.is_empty()).collect();
    assert!(nameless.is_empty(), "{nameless:?}");
    assert!(
        browser.asked().iter().all(|asked| asked.starts_with(&url) || asked.starts_with("data:")),
        "{:?}",
        browser.asked()
    );
    let console = browser.console();
    assert!(console.is_empty(), "{console:?}");
    end(collector);
}

#[test]
fn a_storm_of_20000_series_leaves_the_page_responsive_and_memory_bounded() {
    let Some(mut browser) = Browser::start() else { return };
    let (home, port) = (Home::new(), Port::reserve());
    let load =
        Load { interval: Duration::from_secs(1), lines: 20_000, series: 20_000, ..Load::default() };
    let toml =
        load.config(&home, &[]).replace("[plugin.stream]", "[plugin.stream]\nmax_series = 100000");
    let toml = format!("http = \"{}\"\n{toml}", port.address());
    let mut collector = home.start(&toml);
    let url = format!("http://{}", port.address());
    collector.wait_until("all series", |_| {
        let answer =
            http::get(&format!("{url}/api/series"), &[("table", "stream"), ("limit", "1")]);
        answer.is_ok_and(|it| it.body.contains("\"count\":20000"))
    });
    browser.open(&format!("{url}/#stream"));
    browser.wait_until("app.data.get('stream')?.list.length === 20");
    let mut longest: f64 = 0.0;
    for _ in 0..10 {
        browser.evaluate("new Promise(done => setTimeout(done, 500))");
        longest = longest.max(browser.evaluate("app.frame_ms").as_f64().expect("a time"));
    }
    let began = Instant::now();
    let answer =
        http::get(&format!("{url}/api/series"), &[("table", "stream")]).expect("an answer");
    let api = began.elapsed();
    let memory = collector.memory();
    println!(
        "TABLE: 20,000 series: a frame takes {longest:.1} ms at most, /api/series {api:?} ({} KiB), memory {:.1} MiB at most",
        answer.body.len() / 1024,
        memory.peak as f64 / f64::from(1 << 20)
    );
    assert!(longest < 100.0, "{longest} ms a frame");
    let console = browser.console();
    assert!(console.is_empty(), "{console:?}");
    end(collector);
}
