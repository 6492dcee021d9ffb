//! A storm of forks, execs, opens, writes, signals, deletions and connects under all tools at once. What it did is
//! compared with what the lines say: to the event, or short of it by what the lines say was missed or found no room.

use anyhow::{Context, Result, ensure};
use collector::read::{Value, read};
use plugin_testing::tcp;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::ops::AddAssign;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use system_tests::running::Home;

/// The name of the threads and programs that make the storm.
const NAME: &str = "stormer";
/// Tools that can look at these alone.
const FILTERED: [&str; 7] =
    ["syswrite", "unlink", "opensnoop", "sigsnoop", "execsnoop", "exitsnoop", "tcpconnlat"];
const SECONDS: u64 = 60;

/// What threads of that name did.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    opens: u64,
    failed_opens: u64,
    deletions: u64,
    failed_deletions: u64,
    execs: u64,
    failed_execs: u64,
    exits: u64,
    signals: u64,
    writes: u64,
    bytes: u64,
    connects: u64,
    refused_connects: u64,
}

impl AddAssign for Done {
    fn add_assign(&mut self, more: Self) {
        self.opens += more.opens;
        self.failed_opens += more.failed_opens;
        self.deletions += more.deletions;
        self.failed_deletions += more.failed_deletions;
        self.execs += more.execs;
        self.failed_execs += more.failed_execs;
        self.exits += more.exits;
        self.signals += more.signals;
        self.writes += more.writes;
        self.bytes += more.bytes;
        self.connects += more.connects;
        self.refused_connects += more.refused_connects;
    }
}

/// A minute of it, or as many seconds as the last argument says.
pub fn run() -> Result<()> {
    let seconds =
        std::env::args().next_back().and_then(|word| word.parse().ok()).unwrap_or(SECONDS);
    let home = Home::with_tools();
    let lines = home.path("lines");
    // A listener for each thread: nobody closes another's connection.
    let listeners: Vec<_> =
        (0..4).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let closed = tcp::closed_port();
    // It knows no threads: the storm's sockets are those that connect to the storm's ports.
    let mut ports = vec![closed];
    for listener in &listeners {
        ports.push(listener.local_addr()?.port());
    }
    let mut config = format!("interval = \"1s\"\n[plugin.tcpstates]\nremote_port = {ports:?}\n");
    for tool in FILTERED {
        config += &format!("[plugin.{tool}]\ncomm = [\"{NAME}\"]\n");
    }
    config += &format!("[[output]]\nkind = \"file\"\npath = \"{}\"\n", lines.display());
    let mut collector = home.start(&config);
    collector.wait_until("lines of every tool", |_| {
        let text = fs::read_to_string(&lines).unwrap_or_default();
        FILTERED.iter().chain(&["tcpstates"]).all(|tool| text.contains(&format!("\n{tool}_lost,")))
    });
    // This storm is no error of the processes that make it.
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
    let folder = tempfile::tempdir()?;
    let program = folder.path().join(NAME);
    fs::copy("/bin/busybox", &program).context("busybox-static; `cargo xtask deps` installs it")?;
    let begin = Instant::now();
    let time = Duration::from_secs(seconds);
    let (mut done, mut memory) = (Done::default(), Vec::new());
    thread::scope(|scope| {
        let stormers: Vec<_> = listeners
            .iter()
            .enumerate()
            .map(|(number, listener)| {
                let (folder, program) = (folder.path(), &program);
                let ports = (listener, closed);
                let storm = move || storm(folder, program, number, ports, begin, time);
                thread::Builder::new().name(NAME.to_owned()).spawn_scoped(scope, storm)
            })
            .collect();
        while begin.elapsed() < time {
            thread::sleep(time / 10);
            memory.push(collector.memory().now / 1024);
        }
        for stormer in stormers {
            done += stormer?.join().expect("no stormer panics")?;
        }
        anyhow::Ok(())
    })?;
    thread::sleep(Duration::from_millis(1500)); // a whole tick
    collector.terminate();
    let _ = collector.end();
    println!("{seconds} s: {done:?}");

    let sums = sums(&fs::read_to_string(&lines)?)?;
    let mut wrong = Vec::new();
    let mut compare = |tool: &str, field: &str, was: u64| {
        let said = sums.of(tool, field);
        let missed = sums.missed.get(tool.split(',').next().unwrap_or(tool)).copied().unwrap_or(0);
        println!("{tool} {field}: {said} of {was}, {missed} runs of its programs missed");
        if said > was || said + missed < was {
            wrong.push(format!("{tool} {field}"));
        }
    };
    compare("opensnoop", "opens", done.opens + done.failed_opens);
    compare("opensnoop", "failed", done.failed_opens);
    compare("unlink", "deleted", done.deletions);
    compare("unlink", "failed", done.failed_deletions);
    compare("execsnoop", "execs", done.execs);
    compare("execsnoop", "failed", done.failed_execs);
    compare("exitsnoop", "exits", done.exits);
    compare("sigsnoop,sig=SIGUSR1", "sent", done.signals);
    compare("syswrite", "calls", done.writes);
    compare("syswrite", "written_bytes", done.bytes);
    compare("tcpconnlat", "count", done.connects);
    compare("tcpconnlat", "failed", done.refused_connects);
    compare("tcpstates", "transitions", 3 * done.connects + 2 * done.refused_connects);
    ensure!(wrong.is_empty(), "the books do not balance: {}", wrong.join(", "));
    for (map, full) in &sums.full {
        println!("{map}: {full} events found no room");
    }
    ensure!(sums.full.is_empty(), "maps were full");
    println!("resident: {memory:?} KiB");
    let (early, late) = (memory[memory.len() / 3], memory[memory.len() - 1]);
    ensure!(late <= early + 1024, "memory grows: {early} to {late} KiB");
    Ok(())
}

/// What one thread does until the time is over.
fn storm(
    folder: &Path,
    program: &Path,
    number: usize,
    (listener, closed): (&TcpListener, u16),
    begin: Instant,
    time: Duration,
) -> Result<Done> {
    let mut done = Done::default();
    let mut null = File::options().write(true).open("/dev/null")?;
    done.opens += 1;
    let file = folder.join(number.to_string());
    // SAFETY: it only asks for a number.
    let (pid, tid) = unsafe { (libc::getpid(), libc::gettid()) };
    while begin.elapsed() < time {
        for _ in 0..100 {
            drop(File::create(&file)?);
            fs::remove_file(&file)?;
            ensure!(fs::remove_file(&file).is_err() && File::open(&file).is_err());
            done.opens += 1;
            done.failed_opens += 1;
            done.deletions += 1;
            done.failed_deletions += 1;
            null.write_all(&[0; 100])?;
            done.writes += 1;
            done.bytes += 100;
            // SAFETY: a signal that is ignored, to this thread.
            let sent = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, libc::SIGUSR1) };
            done.signals += u64::from(sent == 0);
            let client = TcpStream::connect(listener.local_addr()?)?;
            let server = listener.accept()?;
            tcp::reset(client);
            drop(server);
            done.connects += 1;
            ensure!(TcpStream::connect(("127.0.0.1", closed)).is_err());
            done.refused_connects += 1;
        }
        for _ in 0..5 {
            Command::new(program).arg0("true").status()?;
            done.execs += 1;
            done.exits += 1;
        }
        // The child that fails to become it has no name but that of this thread.
        ensure!(Command::new(folder.join("none")).status().is_err());
        done.failed_execs += 1;
        done.exits += 1;
    }
    Ok(done)
}

/// What all lines say together.
#[derive(Default)]
struct Sums {
    /// By measurement, or measurement and signal, and by field.
    fields: BTreeMap<(String, String), u64>,
    /// Runs that the kernel skipped, by tool.
    missed: BTreeMap<String, u64>,
    /// Events without room, by tool and map.
    full: BTreeMap<String, u64>,
}

impl Sums {
    fn of(&self, table: &str, field: &str) -> u64 {
        self.fields.get(&(table.to_owned(), field.to_owned())).copied().unwrap_or(0)
    }
}

fn sums(text: &str) -> Result<Sums> {
    let mut sums = Sums::default();
    for line in read(text.as_bytes())? {
        let tag = |key: &str| line.tags.get(key).cloned().unwrap_or_default();
        for (field, value) in &line.fields {
            let n = match value {
                Value::I64(n) => u64::try_from(*n).unwrap_or(0),
                Value::U64(n) => *n,
                _ => continue,
            };
            let add = |sums: &mut BTreeMap<String, u64>, key: String| {
                if n > 0 {
                    *sums.entry(key).or_default() += n;
                }
            };
            match (line.table.as_str(), field.as_str()) {
                ("collector_program", "missed") => add(&mut sums.missed, tag("plugin")),
                ("collector_map", "full" | "busy") => {
                    add(&mut sums.full, format!("{} of {}", tag("map"), tag("plugin")));
                }
                (table, field) => {
                    let sig = tag("sig");
                    let table = if sig.is_empty() {
                        table.to_owned()
                    } else {
                        format!("{table},sig={sig}")
                    };
                    *sums.fields.entry((table, field.to_owned())).or_default() += n;
                }
            }
        }
    }
    Ok(sums)
}
