//! What the service manager is told, where one started the collector as a service of `Type=notify`: that the first
//! tick is out, how plugins and outputs are, and, for its watchdog, that there is progress. The protocol is that of
//! sd_notify(3): datagrams to the socket that `NOTIFY_SOCKET` names.

use crate::health::State;
use rustix::time::{ClockId, clock_gettime};
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// Beside an interval, how long the first tick may take.
const FIRST_TICK: Duration = Duration::from_secs(60);
/// A status of more bytes is cut.
const LONGEST_STATUS: usize = 500;

/// The service manager, if there is one that wants to be told.
#[derive(Debug, Default)]
pub struct Service {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How long it waits for a word of progress.
    watchdog: Option<Duration>,
    /// When it last got one.
    fed: Option<Instant>,
    /// Whether it was logged that it gets none.
    starves: bool,
    ready: bool,
    status: String,
}

impl Service {
    /// As the environment says. What is wrong there is logged: the collector works all the same.
    #[must_use]
    pub fn of_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let period = number("WATCHDOG_USEC").filter(|usec| *usec > 0 && ours);
        Self::new(&name, period.map(Duration::from_micros)).unwrap_or_else(|why| {
            log::warn!("NOTIFY_SOCKET {}: {why}: nobody is told", name.display());
            Self::default()
        })
    }

    fn new(name: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::other("neither a path nor a name that begins with @")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?; // nobody waits for who reads it
        Ok(Self { to: Some((socket, address)), watchdog, ..Self::default() })
    }

    /// How long the watchdog waits, if there is one.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Whether somebody is told.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.to.is_some()
    }

    /// The first tick comes within an interval from now.
    pub fn starts(&mut self, interval: Duration) {
        let usec = (interval + FIRST_TICK).as_micros();
        self.say(&format!("EXTEND_TIMEOUT_USEC={usec}"));
    }

    /// A tick is out, and all is so.
    pub fn tick(&mut self, status: &str) {
        let mut words = Vec::new();
        if !std::mem::replace(&mut self.ready, true) {
            words.push("READY=1".to_owned());
        }
        if status != self.status {
            status.clone_into(&mut self.status);
            words.push(format!("STATUS={status}"));
        }
        if !words.is_empty() {
            self.say(&words.join("\n"));
        }
    }

    /// Tells the watchdog that there is progress, when it is time to; or does not, and logs why there is none.
    pub fn feed(&mut self, now: Instant, progress: impl FnOnce() -> Result<(), String>) {
        let Some(period) = self.watchdog else { return };
        if self.fed.is_some_and(|fed| now.duration_since(fed) < period / 4) {
            return;
        }
        match progress() {
            Ok(()) => {
                if std::mem::take(&mut self.starves) {
                    log::info!("there is progress again");
                }
                self.fed = Some(now);
                self.say("WATCHDOG=1");
            }
            Err(why) => {
                if !std::mem::replace(&mut self.starves, true) {
                    log::error!("{why}: the service manager's watchdog is not fed any more");
                }
            }
        }
    }

    /// The configuration is being read again.
    pub fn reloads(&mut self) {
        if self.ready {
            let now = clock_gettime(ClockId::Monotonic);
            let usec = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
            self.say(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
        }
    }

    /// It was read.
    pub fn reloaded(&mut self) {
        if self.ready {
            self.say("READY=1");
        }
    }

    /// The collector ends: its last word.
    pub fn stops(&mut self, why: &str) {
        self.say(&format!("STOPPING=1\nSTATUS=Ending: {why}"));
        self.to = None;
    }

    fn say(&mut self, words: &str) {
        let Some((socket, address)) = &self.to else { return };
        // A manager that does not listen now has to find its way without this word.
        if let Err(why) = socket.send_to_addr(words.as_bytes(), address) {
            log::debug!("the service manager is not told `{words}`: {why}");
        }
    }
}

/// A line for people: how many plugins run, and who does not; outputs that do not deliver.
#[must_use]
pub fn status<'a>(
    plugins: &[(String, State)],
    troubled: impl IntoIterator<Item = &'a str>,
) -> String {
    let up = plugins.iter().filter(|(_, state)| state.is_up()).count();
    let mut status = format!("{up} of {} plugins run", plugins.len());
    for (name, state) in plugins.iter().filter(|(_, state)| !state.is_up()) {
        status += &format!("; {name} {}", state.word());
    }
    for output in troubled {
        status += &format!("; {output} does not deliver");
    }
    if status.len() > LONGEST_STATUS {
        let end = (0..LONGEST_STATUS).rev().find(|at| status.is_char_boundary(*at));
        status.truncate(end.unwrap_or_default());
        status += "...";
    }
    status.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const PERIOD: Duration = Duration::from_secs(40);

    /// A manager that listens on a path.
    fn listening(folder: &Path) -> (UnixDatagram, Service) {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        (socket, Service::new(path.as_os_str(), Some(PERIOD)).unwrap())
    }

    fn heard(socket: &UnixDatagram) -> Vec<String> {
        let mut all = Vec::new();
        let mut buffer = [0; 1024];
        while let Ok(length) = socket.recv(&mut buffer) {
            all.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        all
    }

    #[test]
    fn it_is_ready_with_the_first_tick_and_says_only_what_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, mut service) = listening(dir.path());
        service.starts(Duration::from_secs(10));
        service.reloads();
        service.reloaded();
        assert_eq!(heard(&socket), ["EXTEND_TIMEOUT_USEC=70000000"], "not ready, so no reload");
        service.tick("all well");
        service.tick("all well");
        service.tick("not so well");
        assert_eq!(heard(&socket), ["READY=1\nSTATUS=all well", "STATUS=not so well"]);
        service.reloads();
        service.reloaded();
        service.stops("SIGTERM");
        service.tick("the last report");
        let words = heard(&socket);
        let time = words[0].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(time.parse::<u64>().unwrap() > 0, "{words:?}");
        assert_eq!(words[1..], ["READY=1", "STOPPING=1\nSTATUS=Ending: SIGTERM"]);
    }

    #[test]
    fn the_watchdog_is_fed_four_times_a_period_and_only_with_progress() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, mut service) = listening(dir.path());
        let begin = Instant::now();
        let mut asked = 0;
        for second in 0..40 {
            service.feed(begin + Duration::from_secs(second), || {
                asked += 1;
                Ok(())
            });
        }
        assert_eq!((asked, heard(&socket)), (4, vec!["WATCHDOG=1".to_owned(); 4]));
        for second in 40..80 {
            let now = begin + Duration::from_secs(second);
            service.feed(now, || Err("nothing moves".to_owned()));
        }
        assert_eq!(heard(&socket), [""; 0]);
        service.feed(begin + Duration::from_secs(80), || Ok(()));
        assert_eq!(heard(&socket), ["WATCHDOG=1"], "at once");
    }

    #[test]
    fn a_name_that_begins_with_an_at_is_abstract() {
        let name = format!("collector-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut service = Service::new(format!("@{name}").as_ref(), None).unwrap();
        service.tick("fine");
        assert_eq!(heard(&socket), ["READY=1\nSTATUS=fine"]);
        service.feed(Instant::now(), || unreachable!("no watchdog, no question"));
        assert!(Service::new("vsock:2:1".as_ref(), None).is_err());
    }

    #[test]
    fn nobody_to_tell_is_no_trouble() {
        let mut service = Service::default();
        service.starts(PERIOD);
        service.tick("fine");
        service.stops("SIGTERM");
        let dir = tempfile::tempdir().unwrap();
        let (socket, mut service) = listening(dir.path());
        drop(socket);
        service.tick("fine");
    }

    #[test]
    fn the_status_names_who_is_not_well() {
        let plugin = |name: &str, state| (name.to_owned(), state);
        let all = [plugin("a", State::Running), plugin("b", State::Running)];
        assert_eq!(status(&all, []), "2 of 2 plugins run");
        let some = [plugin("a", State::Running), plugin("b", State::Quarantined)];
        assert_eq!(
            status(&some, ["udp://h:1"]),
            "1 of 2 plugins run; b quarantined; udp://h:1 does not deliver"
        );
        let many: Vec<_> = (0..200).map(|n| plugin(&format!("é{n}\n"), State::Failed)).collect();
        let status = status(&many, []);
        assert!(status.len() <= LONGEST_STATUS + 3 && status.ends_with("..."), "{status}");
        assert!(!status.contains('\n'), "{status}");
    }
}
