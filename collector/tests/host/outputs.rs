//! Where lines go, while readers stand still, leave, and files are moved away.

use crate::process::{Running, an_hour_beside_prints, as_a_service, collector, folder};
use collector::read::{Line, read};
use rustix::io::ioctl_fionread;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(180);

/// A collector whose standard output is the test's own; it is killed when the test fails.
struct Collector(Child);

impl Collector {
    fn start(mut command: Command) -> Self {
        Self(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for its end; the exit code, and how long it took.
    fn end(&mut self) -> (Option<i32>, Duration) {
        let began = Instant::now();
        wait("the collector's end", || self.0.try_wait().unwrap().is_some());
        (self.0.wait().unwrap().code(), began.elapsed())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for a condition.
fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < LIMIT, "waited in vain for {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Waits until a pipe has been at the same level for a while: its reader stands still, so its writer does.
fn wait_until_stuck(pipe: impl AsFd) {
    let (mut before, mut since) = (0, Instant::now());
    wait("a full pipe", || {
        let now = ioctl_fionread(&pipe).unwrap();
        if now != before {
            (before, since) = (now, Instant::now());
        }
        now > 0 && since.elapsed() > Duration::from_millis(500)
    });
}

/// Whole lines, each of them line protocol.
fn whole(bytes: &[u8]) -> Vec<Line> {
    assert!(bytes.ends_with(b"\n"), "a torn line: {:?}", String::from_utf8_lossy(&bytes[..60]));
    read(bytes).unwrap()
}

/// A collector whose lines are all of that length at least, on standard output.
fn printing(plugins: &Path, length: usize) -> Collector {
    let mut command = collector(plugins, &["--interval", "10ms"]);
    for tag in 0..length / 3_000 {
        command.arg("--tag").arg(format!("long{tag}={}", "x".repeat(3_000)));
    }
    command.stderr(Stdio::null());
    Collector::start(command)
}

/// More than a pipe takes whole anyway.
const LONG: usize = 9_000;

#[test]
fn killed_while_its_reader_stands_still_it_leaves_no_part_of_a_line() {
    let plugins = folder(&["good"]);
    for (length, name) in [(0, "KILL"), (LONG, "KILL"), (LONG, "TERM")] {
        let mut collector = printing(plugins.path(), length);
        let mut stdout = collector.0.stdout.take().unwrap();
        wait_until_stuck(&stdout);
        collector.signal(name);
        let (_, took) = collector.end();
        assert!(took < Duration::from_secs(20), "{name}: {took:?}");
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).unwrap();
        assert!(!whole(&bytes).is_empty());
    }
}

#[test]
fn killed_at_any_moment_it_leaves_no_part_of_a_line() {
    let plugins = folder(&["good"]);
    for round in 0..15 {
        let mut collector = printing(plugins.path(), LONG);
        let mut stdout = collector.0.stdout.take().unwrap();
        let mut bytes = vec![0; 40_000 + 7_919 * round];
        stdout.read_exact(&mut bytes).unwrap();
        collector.signal("KILL");
        stdout.read_to_end(&mut bytes).unwrap();
        whole(&bytes);
    }
}

#[test]
fn a_file_that_is_rotated_loses_no_line() {
    let dir = folder(&["good"]);
    let path = |name: &str| dir.path().join(name);
    let lines = path("lines");
    let url = format!("file:{}", lines.display());
    let args = ["--interval", "20ms", "--output", &url];
    let running = Running::start(as_a_service(collector(dir.path(), &args)));
    let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    for old in ["1", "2", "3"] {
        wait("lines", || size(&lines) > 0);
        fs::rename(&lines, path(old)).unwrap();
        if old != "2" {
            running.signal("HUP"); // as logrotate's postrotate does, but it is no matter
        }
    }
    wait("lines", || size(&lines) > 0);
    running.signal("TERM");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let all: Vec<Vec<u8>> =
        ["1", "2", "3", "lines"].iter().map(|name| fs::read(path(name)).unwrap()).collect();
    let count: usize = all.iter().map(|bytes| whole(bytes).len()).sum();
    let said = format!("output {url}: {count} lines produced = {count} delivered");
    assert!(ended.stderr.contains(&said), "{count}: {}", ended.stderr);
    assert!(ended.stderr.contains("SIGHUP: outputs are opened again"), "{}", ended.stderr);
}

/// The file on a disk of 64 KiB that is full for a while.
const FULL_DISK: &str = r#"
set -e
mount -t tmpfs -o size=64k none "$1"
head -c 40960 /dev/zero > "$1/ballast"
"$2" --plugins "$3" --interval 10ms --tag long="$5" --output "file:$1/lines" 2> "$4/stderr" &
pid=$!
trap 'kill -9 $pid' EXIT
until grep -q 'No space left' "$4/stderr"; do sleep 0.05; kill -0 $pid; done
tail -c 1 "$1/lines" > "$4/last"
rm "$1/ballast"
until grep -q 'works again' "$4/stderr"; do sleep 0.05; kill -0 $pid; done
kill -TERM $pid
wait $pid
trap - EXIT
cp "$1/lines" "$4/lines"
"#;

#[test]
fn a_full_disk_tears_no_line() {
    if !Command::new("unshare").args(["-m", "true"]).output().is_ok_and(|o| o.status.success()) {
        return println!("SKIPPED: `unshare -m` fails: no disk to fill");
    }
    let (plugins, disk, out) =
        (folder(&["good"]), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut script = Command::new("unshare");
    script.args(["-m", "sh", "-c", FULL_DISK, "sh"]).arg(disk.path());
    script.arg(env!("CARGO_BIN_EXE_collector")).arg(plugins.path()).arg(out.path());
    // Few lines, so that the disk is not full again at once.
    let done = script.arg("x".repeat(700)).output().unwrap();
    let read_out = |name: &str| fs::read(out.path().join(name)).unwrap_or_default();
    let said = String::from_utf8_lossy(&read_out("stderr")).into_owned();
    assert!(done.status.success(), "{}\n{said}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(read_out("last"), b"\n", "the full disk has whole lines");
    let lines = whole(&read_out("lines"));
    let calls: Vec<u64> =
        lines.iter().filter(|l| l.table == "good").map(|line| line.u64("calls")).collect();
    assert!(calls.windows(2).all(|two| two[1] == two[0] + 1), "a gap or a repetition: {calls:?}");
}

/// The next connection.
fn accept(listener: &UnixListener) -> BufReader<UnixStream> {
    listener.set_nonblocking(true).unwrap();
    let mut stream = None;
    wait("a connection", || {
        stream = listener.accept().ok();
        stream.is_some()
    });
    let stream = stream.unwrap().0;
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    BufReader::new(stream)
}

/// Reads lines of `good` from a socket: so many calls at least, one after the other, and what was received along
/// with them.
fn calls(stream: &mut BufReader<UnixStream>, count: usize) -> Vec<u64> {
    let mut calls = Vec::new();
    while calls.len() < count || !stream.buffer().is_empty() {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap() == 0 {
            break;
        }
        assert!(line.ends_with('\n'), "a torn line: {line}");
        let line = &read(line.as_bytes()).unwrap()[0];
        if line.table == "good" {
            calls.push(line.u64("calls"));
        }
    }
    calls
}

#[test]
fn a_reader_that_is_restarted_while_lines_come_misses_none() {
    let dir = folder(&["good"]);
    let socket = dir.path().join("socket");
    let url = format!("unix:{}", socket.display());
    let running = Running::start(collector(dir.path(), &["--interval", "10ms", "--output", &url]));
    running.wait_for("nobody has made the socket yet");
    let mut seen: Vec<u64> = Vec::new();
    for round in 0..5 {
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let mut stream = accept(&listener);
        if round == 4 {
            running.signal("TERM");
        }
        let calls = calls(&mut stream, if round == 4 { usize::MAX } else { 20 });
        // What the last reader had was perhaps not known to be read; it may come again.
        assert!(calls[0] <= seen.last().unwrap_or(&0) + 1, "{} after {:?}", calls[0], seen.last());
        seen.extend(&calls);
        assert!(calls.windows(2).all(|two| two[1] == two[0] + 1), "{calls:?}");
        // Now the listener and the connection are closed, with lines unread.
    }
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("delivered + 0 waiting"), "{}", ended.stderr);
}

#[test]
fn sighup_makes_a_socket_connect_again() {
    let dir = folder(&["good"]);
    let socket = dir.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let url = format!("unix:{}", socket.display());
    let args = ["--interval", "20ms", "--output", &url];
    let running = Running::start(as_a_service(collector(dir.path(), &args)));
    let mut first = accept(&listener);
    calls(&mut first, 2);
    running.signal("HUP");
    let more = std::thread::spawn(move || calls(&mut first, usize::MAX));
    let mut second = accept(&listener);
    let before = more.join().unwrap();
    let after = calls(&mut second, 2);
    assert_eq!(
        after[0],
        before.last().map_or(3, |last| last + 1),
        "no call is missing or repeated"
    );
    running.signal("TERM");
    calls(&mut second, usize::MAX);
    assert_eq!(running.end().code, Some(0));
}

#[test]
fn a_reader_that_never_reads_does_not_hold_up_the_end() {
    let dir = folder(&["good"]);
    let socket = dir.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let url = format!("unix:{}", socket.display());
    let running = Running::start(collector(dir.path(), &["--interval", "20ms", "--output", &url]));
    running.wait_for("its reader has read nothing for 2 s");
    let told = Instant::now();
    running.signal("TERM");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(told.elapsed() < Duration::from_secs(20), "{:?}", told.elapsed());
    assert!(ended.stderr.contains(" = 0 delivered"), "nobody has read it: {}", ended.stderr);
}

#[test]
fn when_standard_input_is_closed_it_ends_as_on_a_signal() {
    let plugins = folder(&["good", "prints"]);
    let config = an_hour_beside_prints(plugins.path());
    let args = ["--config", &config, "--stop-on-stdin-close"];
    let mut command = collector(plugins.path(), &args);
    command.stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let running = Running::of(child);
    running.wait_for_lines("prints", 1);
    for _ in 0..1000 {
        stdin.write_all(b"\n").unwrap(); // as Telegraf's `signal = "STDIN"`
    }
    assert_eq!(running.lines().iter().filter(|line| line.table == "good").count(), 0);
    drop(stdin);
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.table("good").count(), 1, "the last tick");
    assert!(ended.stderr.contains("ending: standard input is closed"), "{}", ended.stderr);
}
