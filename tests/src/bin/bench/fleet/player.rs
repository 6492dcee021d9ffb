//! Many hosts in one process: each has the collector's own outputs, with threads, queues, connections and spools as on a
//! machine of its own, and lines that were recorded in place of plugins.

use super::lines::{Host, Lines};
use crate::cpu;
use anyhow::{Context, Result, bail, ensure};
use collector::batch::Batch;
use collector::config::Config;
use collector::encode::Tags;
use collector::output::{Books, Outlet};
use plugin_api::Tick;
use serde_json::{Value as Json, json};
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines as TextLines, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The word by which this program becomes a player.
pub const WORD: &str = "fleet-player";

/// As long as a collector takes to end.
const STOP: Duration = Duration::from_secs(5);
/// Long enough for everything that waits to arrive.
const FINISH: Duration = Duration::from_secs(120);

/// Who plays what when.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub hosts: u64,
    pub interval_ms: i64,
    /// The time of the tick number 0.
    pub begin_ms: i64,
    pub ticks: u64,
    /// All hosts at the same moments, as clocks that are set right have them tick; otherwise one after the other,
    /// spread over the interval.
    pub together: bool,
}

impl Plan {
    /// The time of a tick.
    pub fn time_ms(&self, tick: u64) -> i64 {
        self.begin_ms + tick as i64 * self.interval_ms
    }

    /// When a host is to play a tick.
    fn due_ms(&self, host: u64, tick: u64) -> i64 {
        let spread = if self.together { 0 } else { host as i64 * self.interval_ms };
        self.time_ms(tick) + spread / self.hosts as i64
    }

    fn write(&self, folder: &Path) -> Result<()> {
        let Self { hosts, interval_ms, begin_ms, ticks, together } = self;
        let json = json!({"hosts": hosts, "interval_ms": interval_ms, "begin_ms": begin_ms, "ticks": ticks,
            "together": together});
        fs::write(folder.join("plan"), json.to_string()).context("writing the plan")
    }

    fn read(folder: &Path) -> Result<Self> {
        let json: Json = serde_json::from_str(&fs::read_to_string(folder.join("plan"))?)?;
        let number = |key: &str| json[key].as_i64().context("a number");
        Ok(Self {
            hosts: number("hosts")? as u64,
            interval_ms: number("interval_ms")?,
            begin_ms: number("begin_ms")?,
            ticks: number("ticks")? as u64,
            together: json["together"].as_bool().context("a flag")?,
        })
    }
}

pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64)
}

/// What the parent asks for: 5 s, or as long as it takes.
enum Ask {
    Stop,
    Finish,
}

/// A host and its outputs.
struct Played {
    host: Host,
    outlets: Vec<Outlet>,
}

/// The player's process: plays what is due, says `playing`, then `made` after the last tick, and ends when it is asked to
/// or when nobody can ask any more. Its last words are its books.
pub fn play(folder: &Path) -> Result<()> {
    let plan = Plan::read(folder)?;
    let lines = Lines::read(&folder.join("lines"), recorded_ns(folder)?)?;
    let tools: Vec<Arc<str>> = lines.tools.iter().map(|tool| Arc::from(&**tool)).collect();
    let (events, _heard) = crossbeam_channel::unbounded();
    let mut hosts = Vec::new();
    for number in 0..plan.hosts {
        let host = lines.host(number);
        let outlets = configs(folder, number)?
            .outputs
            .iter()
            .map(|output| Outlet::start(output, &Tags::new(), false, &events))
            .collect::<Result<_>>()?;
        hosts.push(Played { host, outlets });
    }
    let before = fs::read(folder.join("made"))?;
    let made = File::options().write(true).open(folder.join("made"))?;
    let asked = asked();
    say("playing");
    let mut ask = None;
    'playing: for tick in 0..plan.ticks {
        for (number, played) in hosts.iter_mut().enumerate() {
            let number = number as u64;
            let due_ms = plan.due_ms(number, tick);
            let at = lines.play(&mut played.host, tick);
            let place = number * plan.ticks + tick;
            let late_ms = now_ms() - due_ms;
            // Made by an earlier run, or nobody collected anything then.
            if before[place as usize] != 0 || late_ms >= plan.interval_ms {
                continue;
            }
            if late_ms < 0 {
                match asked.recv_timeout(Duration::from_millis(late_ms.unsigned_abs())) {
                    Ok(word) => {
                        ask = Some(word);
                        break 'playing;
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => bail!("nobody is there"),
                }
            }
            send(&lines, &tools, played, at, tick, &plan);
            made.write_all_at(&[1], place)?;
        }
    }
    let ask = match ask {
        Some(ask) => ask,
        None => {
            say("made");
            asked.recv().unwrap_or(Ask::Stop)
        }
    };
    let deadline = Instant::now() + if matches!(ask, Ask::Stop) { STOP } else { FINISH };
    let outlets = || hosts.iter().flat_map(|played| &played.outlets);
    outlets().for_each(|outlet| outlet.close(deadline));
    while outlets().any(|outlet| !outlet.finished()) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let (mut books, mut bytes, mut errors, mut trouble) = (Books::default(), 0, 0, None);
    for outlet in outlets() {
        let snapshot = outlet.snapshot();
        books += snapshot.total();
        bytes += snapshot.bytes;
        errors += snapshot.errors;
        trouble = trouble.or(snapshot.trouble);
    }
    let json = json!({"produced": books.produced, "recovered": books.recovered, "delivered": books.delivered,
        "waiting": books.waiting, "dropped": books.dropped.sum(), "bytes": bytes, "errors": errors,
        "trouble": trouble});
    say(&json.to_string());
    std::process::exit(0) // with what still hangs
}

/// Hands the lines of a tick to the outputs of a host, a batch a tool, as the threads of plugins do.
fn send(lines: &Lines, tools: &[Arc<str>], played: &Played, at: usize, tick: u64, plan: &Plan) {
    let time_ns = plan.time_ms(tick) * 1_000_000;
    let elapsed_ns = plan.interval_ms as u64 * 1_000_000;
    for text in lines.texts(&played.host, at, time_ns) {
        let batch = Arc::new(Batch {
            plugin: Arc::clone(&tools[text.tool]),
            tick: Tick { seq: tick, time_ns, elapsed_ns },
            lines: text.lines,
            bytes: text.bytes,
        });
        played.outlets.iter().for_each(|outlet| outlet.queue().push(Arc::clone(&batch)));
    }
    played.outlets.iter().for_each(|outlet| outlet.queue().wake());
}

/// The interval at which lines were recorded.
fn recorded_ns(folder: &Path) -> Result<i64> {
    Ok(fs::read_to_string(folder.join("recorded_ns"))?.parse()?)
}

/// The configuration of a host: every second one has another.
fn configs(folder: &Path, number: u64) -> Result<Config> {
    let name = if number.is_multiple_of(2) { "even.toml" } else { "odd.toml" };
    let text = fs::read_to_string(folder.join(name))?;
    let spool = folder.join(format!("spools/h{number:04}"));
    let text = text.replace("/var/lib/collector/spool", &spool.display().to_string());
    Config::parse(name, &text).map_err(anyhow::Error::msg)
}

fn say(words: &str) {
    println!("{words}");
    let _ = std::io::stdout().flush(); // the parent may be gone
}

/// What comes by standard input.
fn asked() -> Receiver<Ask> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let ask = match std::io::stdin().lines().next() {
            Some(Ok(word)) if word == "finish" => Ask::Finish,
            _ => Ask::Stop,
        };
        let _ = sender.send(ask); // it ends anyway
        thread::park();
    });
    receiver
}

/// A folder from which hosts are played: the plan, the lines, the configurations, the spools, and which ticks were made.
pub struct Stage {
    pub folder: PathBuf,
    pub plan: Plan,
}

/// What became of lines, by the books of all hosts.
#[derive(Clone, Copy)]
pub struct Ended {
    pub produced: u64,
    pub recovered: u64,
    pub delivered: u64,
    pub waiting: u64,
    pub dropped: u64,
    /// Requests that failed.
    pub errors: u64,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { produced, recovered, delivered, waiting, dropped, errors } = self;
        write!(
            f,
            "{produced} lines produced + {recovered} recovered from spools = {delivered} delivered + {waiting} \
             waiting + {dropped} dropped; {errors} requests failed"
        )
    }
}

impl Stage {
    /// Hosts with even and with odd numbers have configurations of their own.
    pub fn new(
        folder: PathBuf,
        plan: Plan,
        (recorded, recorded_ns): (&Path, i64),
        [even, odd]: [&str; 2],
    ) -> Result<Self> {
        fs::create_dir_all(folder.join("spools"))?;
        plan.write(&folder)?;
        fs::copy(recorded, folder.join("lines")).context("a copy of the lines")?;
        fs::write(folder.join("recorded_ns"), recorded_ns.to_string())?;
        fs::write(folder.join("even.toml"), even)?;
        fs::write(folder.join("odd.toml"), odd)?;
        fs::write(folder.join("made"), vec![0; (plan.hosts * plan.ticks) as usize])?;
        Ok(Self { folder, plan })
    }

    /// Which ticks were made, a byte for each: those of the first host, then those of the second.
    pub fn made(&self) -> Result<Vec<u8>> {
        fs::read(self.folder.join("made")).context("which ticks were made")
    }

    /// Starts the player: it goes on where the clock is, and with what its spools have.
    pub fn start(&self) -> Result<Player> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(WORD).arg(&self.folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("the player")?;
        let stdin = child.stdin.take().context("its input")?;
        let said = BufReader::new(child.stdout.take().context("its output")?).lines();
        let mut player = Player { child, stdin, said };
        player.hear("playing")?;
        Ok(player)
    }
}

/// The player that runs. It ends with this value.
pub struct Player {
    child: Child,
    stdin: ChildStdin,
    said: TextLines<BufReader<ChildStdout>>,
}

impl Player {
    fn next(&mut self) -> Result<String> {
        self.said.next().context("the player has ended")?.context("what the player says")
    }

    fn hear(&mut self, word: &str) -> Result<()> {
        let said = self.next()?;
        ensure!(said == word, "the player says {said} and not {word}");
        Ok(())
    }

    /// Processor time so far.
    pub fn cpu(&self) -> Result<f64> {
        cpu::seconds_of_all(self.child.id())
    }

    /// Waits until the last tick was made.
    pub fn wait(&mut self) -> Result<()> {
        self.hear("made")
    }

    /// Ends it as SIGTERM ends collectors: within 5 s, and what was not delivered by then waits in spools.
    pub fn stop(self) -> Result<Ended> {
        self.end("stop\n")
    }

    /// Ends it when all is delivered.
    pub fn finish(self) -> Result<Ended> {
        self.end("finish\n")
    }

    fn end(mut self, word: &str) -> Result<Ended> {
        self.stdin.write_all(word.as_bytes())?;
        let mut said = self.next()?;
        if said == "made" {
            said = self.next()?;
        }
        let json: Json = serde_json::from_str(&said).with_context(|| said.clone())?;
        if let Some(trouble) = json["trouble"].as_str() {
            println!("the player's last trouble: {trouble}");
        }
        let number = |key: &str| json[key].as_u64().unwrap_or_default();
        Ok(Ended {
            produced: number("produced"),
            recovered: number("recovered"),
            delivered: number("delivered"),
            waiting: number("waiting"),
            dropped: number("dropped"),
            errors: number("errors"),
        })
    }

    /// Ends it at once.
    pub fn kill9(mut self) {
        let _ = self.child.kill(); // Drop waits
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
