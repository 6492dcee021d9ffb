//! To servers over HTTP.

use crate::process::{Running, collector, folder, run};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Takes uncompressed requests, or says 503 to them while it is out of order. It ends with the test.
struct Server {
    url: String,
    broken: Arc<AtomicBool>,
    /// What it took.
    heads: Arc<Mutex<String>>,
    lines: Arc<Mutex<String>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server =
            Self { url, broken: Arc::default(), heads: Arc::default(), lines: Arc::default() };
        let (broken, heads, lines) =
            (Arc::clone(&server.broken), Arc::clone(&server.heads), Arc::clone(&server.lines));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (broken, heads, lines) =
                    (Arc::clone(&broken), Arc::clone(&heads), Arc::clone(&lines));
                thread::spawn(move || serve(stream.unwrap(), &broken, &heads, &lines));
            }
        });
        server
    }

    fn broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    fn lines(&self) -> String {
        self.lines.lock().unwrap().clone()
    }
}

fn until(condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "it never came to pass");
        thread::sleep(Duration::from_millis(5));
    }
}

fn serve(stream: TcpStream, broken: &AtomicBool, heads: &Mutex<String>, lines: &Mutex<String>) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let begin = head.len();
            if stream.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
            let line = head[begin..].to_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        let answer = if broken.load(Ordering::SeqCst) {
            "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n"
        } else {
            *heads.lock().unwrap() += &head;
            *lines.lock().unwrap() += std::str::from_utf8(&body).unwrap();
            "HTTP/1.1 204 x\r\n\r\n"
        };
        stream.get_mut().write_all(answer.as_bytes()).unwrap();
    }
}

#[test]
fn secrets_are_sent_and_not_logged_at_any_level() {
    let server = Server::start();
    // Long enough that a dump in rows of 16 bytes shows it.
    let secret = "s3cret-".repeat(8);
    let dir = folder(&["good"]);
    let (config, token) = (dir.path().join("c.toml"), dir.path().join("token"));
    fs::write(&token, &secret).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let (url, token) = (&server.url, token.display());
    let text = format!(
        "interval = \"100ms\"\nlog = \"trace\"\n[[output]]\nkind = \"influxdb2\"\n\
         url = \"http://influx.invalid:8086\"\norg = \"o\"\nbucket = \"b\"\ngzip = false\n\
         token_file = \"{token}\"\nheaders = {{ X-Key = {{ file = \"{token}\" }} }}\n\
         proxy = \"{url}\"\nproxy_username = \"me\"\nproxy_password_file = \"{token}\"\n\
         [[output]]\nkind = \"influxdb3\"\nurl = \"https://influx.invalid\"\ndatabase = \"d\"\n\
         proxy = \"{url}\"\nproxy_username = \"me\"\nproxy_password_file = \"{token}\"\n"
    );
    fs::write(&config, text).unwrap();
    let ended = run(dir.path(), &["--config", config.to_str().unwrap(), "--ticks", "1"]);
    assert_eq!(ended.code, Some(3), "the proxy makes no tunnel: {}", ended.stderr);
    let heads = server.heads.lock().unwrap();
    assert!(heads.contains(&format!(": Token {secret}\r\n")), "{heads}");
    assert!(heads.contains(&format!("x-key: {secret}\r\n")), "{heads}");
    assert!(heads.contains("POST http://influx.invalid:8086/api/v2/write?org=o"), "{heads}");
    // "me:s3cret-s3c..": what a base64 of it begins with.
    let basic = "bWU6czNjcmV0";
    assert!(heads.contains(&format!("proxy-authorization: Basic {basic}")), "{heads}");
    assert!(heads.contains("CONNECT influx.invalid:443 HTTP/1.1\r\n"), "{heads}");
    assert!(server.lines().starts_with("good,"), "{}", server.lines());
    assert!(ended.stderr.contains("trace: ureq: "), "{}", ended.stderr);
    for word in ["s3cret", basic] {
        assert!(!ended.stderr.contains(word), "{}", ended.stderr);
    }
}

#[test]
fn what_each_of_several_urls_got_is_in_the_lines_and_the_log() {
    let (a, b) = (Server::start(), Server::start());
    let dir = folder(&["good"]);
    let config = dir.path().join("c.toml");
    let text = format!(
        "interval = \"50ms\"\n[[output]]\nkind = \"stdout\"\n[[output]]\nkind = \"influxdb1\"\n\
         urls = [\"{}\", \"{}\"]\ndatabase = \"d\"\ngzip = false\nbatch_time = \"0s\"\n",
        a.url, b.url
    );
    fs::write(&config, text).unwrap();
    let args = ["--config", config.to_str().unwrap()];
    let running = Running::start(collector(dir.path(), &args));
    let name = a.url.replace("http://", "influxdb1://") + "/d";
    until(|| !a.lines().is_empty());
    a.broken(true);
    running.wait_for(&format!("output {name}: {}: 503; its lines go to {} now", a.url, b.url));
    a.broken(false);
    let before = b.lines().len();
    until(|| b.lines().len() > before); // it stays there for a while, though the first is well
    b.broken(true);
    running.wait_for(&format!("output {name}: {} works again: its lines go there", a.url));
    running.signal("TERM");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    // All lines together are those on standard output, each once.
    let count = |text: &str| text.matches('\n').count() as u64;
    assert_eq!(count(&a.lines()) + count(&b.lines()), count(&ended.stdout), "{}", ended.stderr);
    for server in [&a, &b] {
        let lines = count(&server.lines());
        let words = format!("output {name}: {lines} lines went to {}", server.url);
        assert!(ended.stderr.contains(&words), "{words}: {}", ended.stderr);
    }
    // The lines about it balance at each tick.
    let (mut outputs, mut urls, mut failed) = ((0, 0), (0, 0), 0);
    for line in &ended.lines {
        let sums = match &*line.table {
            "collector_output" if line.tag("output") == name => &mut outputs,
            "collector_output_url" => {
                assert_eq!(line.tag("output"), name);
                failed += line.u64("errors");
                &mut urls
            }
            "collector_host" => {
                assert_eq!(outputs, urls);
                continue;
            }
            _ => continue,
        };
        sums.0 += line.u64("lines_delivered");
        sums.1 += line.u64("bytes");
    }
    assert!(outputs.0 > 0 && failed >= 2, "{outputs:?} {failed}");
    assert_eq!(ended.table("collector_output_url").count() % 2, 0);
}

/// A server that lets in who has the token `right`, until the process ends.
fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut request = [0; 1 << 16];
                while let Ok(length @ 1..) = stream.read(&mut request) {
                    let right = String::from_utf8_lossy(&request[..length]).contains("Token right");
                    let answer = match right {
                        true => "HTTP/1.1 204 No Content\r\n\r\n",
                        false => "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
                    };
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    url
}

#[test]
fn a_corrected_token_counts_within_seconds_and_at_once_on_sighup() {
    let url = server();
    for sighup in [false, true] {
        let dir = folder(&["good"]);
        let (config, token) = (dir.path().join("c.toml"), dir.path().join("token"));
        fs::write(&token, "wrong").unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "interval = \"100ms\"\n[[output]]\nkind = \"influxdb2\"\nurl = \"{url}\"\n\
             org = \"o\"\nbucket = \"b\"\nbatch_time = \"10ms\"\ntoken_file = \"{}\"\n",
            token.display()
        );
        fs::write(&config, text).unwrap();
        let running =
            Running::start(collector(dir.path(), &["--config", config.to_str().unwrap()]));
        running.wait_for("correct the token");
        fs::write(&token, "right").unwrap();
        let corrected = Instant::now();
        if sighup {
            running.signal("HUP");
        }
        running.wait_for("works again");
        // An attempt is due once in a minute; the rest is for a busy machine.
        let took = corrected.elapsed();
        assert!(took < Duration::from_secs(30), "{took:?}");
        println!("TABLE: from a corrected token to its use, SIGHUP {sighup}: {took:.1?}");
        running.signal("TERM");
        assert_eq!(running.end().code, Some(0));
    }
}
