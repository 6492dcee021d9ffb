//! What the service manager hears.

use crate::process::{Running, as_a_service, collector, folder};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A manager that listens.
struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Self { socket, folder }
    }

    /// Starts a collector that is to tell it, with a watchdog of so many milliseconds.
    fn start(&self, plugins: &TempDir, watchdog: u64) -> Running {
        let mut command = collector(plugins.path(), &["--interval", "100ms"]);
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        command.env("WATCHDOG_USEC", (watchdog * 1000).to_string()).env_remove("WATCHDOG_PID");
        Running::start(as_a_service(command))
    }

    /// All that it hears until it has heard these words, in order; or for so long.
    fn hear(&self, until: &str, at_most: Duration) -> Vec<String> {
        let (began, mut heard) = (Instant::now(), Vec::<String>::new());
        let mut buffer = [0; 2048];
        while began.elapsed() < at_most {
            if let Ok(length) = self.socket.recv(&mut buffer) {
                heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
                if heard.last().is_some_and(|words| words.contains(until)) {
                    return heard;
                }
            }
        }
        heard
    }

    fn expect(&self, words: &str) -> Vec<String> {
        let heard = self.hear(words, Duration::from_secs(30));
        assert!(heard.last().is_some_and(|last| last.contains(words)), "no {words}: {heard:?}");
        heard
    }
}

fn monotonic_usec() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (now.tv_sec * 1_000_000 + now.tv_nsec / 1000).unsigned_abs()
}

#[test]
fn it_hears_of_the_first_tick_of_a_reload_and_of_the_end() {
    let manager = Manager::new();
    let plugins = folder(&["good", "panics"]);
    let running = manager.start(&plugins, 0);
    let before = manager.expect("READY=1");
    assert!(before[0].starts_with("EXTEND_TIMEOUT_USEC="), "{before:?}");
    assert!(before.last().unwrap().contains("STATUS="), "{before:?}");
    let status = "STATUS=1 of 2 plugins run; panics ";
    if !before.iter().any(|words| words.contains(status)) {
        manager.expect(status);
    }
    // With `Type=notify-reload` systemd waits for these two, and takes no earlier time than that of its signal.
    for _ in 0..2 {
        let asked = monotonic_usec();
        running.signal("HUP");
        let heard = manager.expect("RELOADING=1\nMONOTONIC_USEC=");
        let time = heard.last().unwrap().rsplit('=').next().unwrap().parse::<u64>().unwrap();
        assert!((asked..=monotonic_usec()).contains(&time), "{asked}: {heard:?}");
        let heard = manager.expect("READY=1");
        assert!(!heard.iter().any(|words| words.contains("RELOADING")), "{heard:?}");
    }
    running.signal("TERM");
    let last = manager.expect("STOPPING=1\nSTATUS=Ending: SIGTERM");
    assert!(!last.iter().any(|words| words.contains("WATCHDOG")), "there is none: {last:?}");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.table("good").count() > 0, "a tick was out");
    assert!(manager.hear("=", Duration::from_millis(200)).is_empty(), "the last word was the last");
}

#[test]
fn the_watchdog_is_fed_beside_one_plugin_that_hangs_and_not_when_all_do() {
    let manager = Manager::new();
    let plugins = folder(&["good", "sleeps"]);
    let running = manager.start(&plugins, 400);
    manager.expect("sleeps late");
    (0..4).for_each(|_| drop(manager.expect("WATCHDOG=1")));
    running.signal("TERM");
    running.end();

    let plugins = folder(&["sleeps"]);
    let running = manager.start(&plugins, 400);
    manager.expect("WATCHDOG=1");
    running.wait_for("no plugin has come to the end of its call");
    manager.hear("nothing", Duration::from_millis(200)); // what waits in the socket
    let heard = manager.hear("WATCHDOG=1", Duration::from_millis(1000));
    assert!(!heard.iter().any(|words| words == "WATCHDOG=1"), "{heard:?}");
    running.signal("TERM");
    running.end();
}
