//! One machine under qemu, from its first instruction to the command's exit code.

use super::kernel::Kernel;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// What the guest's /init writes before its words to us.
const MARK: u8 = 1;
/// One boot in about twenty dies early inside the emulator, before the guest's first process runs.
const ATTEMPTS: u32 = 5;
const HELLO: Duration = Duration::from_secs(60);
const STANDS: &str = "the machine stands still: ";
/// What the guest's /init prints on the console for each CPU, every 5 s.
const PULSES: [&str; 2] = ["alive 0", "alive 1"];
/// A CPU that does not do so for this long stands still. Two machines share two processors.
const NO_PULSE: Duration = Duration::from_secs(60);
/// How often the console is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Whether a failure of [`Machine::run`] is the emulator's, which does not survive now and then that the guest's
/// kernel patches its own code. Either the guest dies of an int3 that was taken out again: the emulator ran what
/// was no longer there. Or its CPUs stand still (5.10, when many tracepoints come and go).
pub fn is_emulators(failure: &anyhow::Error) -> bool {
    let text = failure.to_string();
    text.contains("int3: 0000 [#") || text.starts_with(STANDS)
}

/// What to boot; `folder` takes the console's log.
pub struct Machine<'a> {
    pub kernel: &'a Kernel,
    pub image: &'a Path,
    pub append: &'a str,
    pub folder: &'a Path,
    /// The longest that the command may run.
    pub limit: Duration,
    /// The longest that it may print nothing while its CPUs run.
    pub silence: Duration,
}

impl Machine<'_> {
    /// Boots, hands each piece of the command's output to `each`, returns the command's exit code.
    pub fn run(&self, each: &mut dyn FnMut(&[u8])) -> Result<i32> {
        for attempt in 1..=ATTEMPTS {
            let guest = self.start()?;
            if guest.says_hello() {
                return guest.follow(self.limit, self.silence, each);
            }
            eprintln!(
                "kernel {} did not come up, attempt {attempt} of {ATTEMPTS}",
                self.kernel.series
            );
        }
        bail!("kernel {} did not come up; its console:\n{}", self.kernel.series, tail(&self.log()))
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("console-{}.log", self.kernel.series))
    }

    fn start(&self) -> Result<Guest> {
        // Debian's list and bpf; a kernel skips what it does not have.
        let lsm = "landlock,lockdown,yama,integrity,apparmor,bpf";
        // khugepaged runs at the lowest priority: preempted inside an RCU reader, under a load that leaves
        // it no CPU, it holds up every grace period.
        let fixed = "console=ttyS0 panic=-1 oops=panic transparent_hugepage=never";
        let append = format!("{fixed} lsm={lsm} {}", self.append);
        // When we are killed, however hard, the machine dies too.
        let mut qemu = Command::new("setpriv");
        qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2G"]);
        qemu.args(["-nodefaults", "-no-reboot", "-display", "none"]);
        qemu.arg("-kernel").arg(&self.kernel.vmlinuz).arg("-initrd").arg(self.image);
        qemu.args(["-append", &append]);
        qemu.arg("-serial").arg(format!("file:{}", self.log().display()));
        qemu.args(["-serial", "stdio"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = qemu.spawn().context("starting qemu-system-x86_64: `cargo xtask deps`")?;

        let mut output = BufReader::new(child.stdout.take().context("qemu's output")?);
        let (sender, lines) = channel();
        // Ends with qemu, or when nobody listens.
        thread::spawn(move || {
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    break;
                }
            }
        });
        Ok(Guest { child, lines, log: self.log() })
    }
}

/// A running machine; dropping it ends it.
struct Guest {
    child: Child,
    lines: Receiver<Vec<u8>>,
    log: PathBuf,
}

impl Guest {
    fn says_hello(&self) -> bool {
        // Nothing else can come first: the guest's first process owns the line.
        self.lines.recv_timeout(HELLO).is_ok_and(|line| line.starts_with(&[MARK]))
    }

    fn follow(
        self,
        limit: Duration,
        silence: Duration,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<i32> {
        let began = Instant::now();
        let mut heard = began;
        let mut pulses = PULSES.map(|_| (0, began));
        loop {
            let line = match self.lines.recv_timeout(LOOK) {
                Ok(line) if began.elapsed() <= limit => line,
                Ok(_) => bail!("not done after {limit:?}; the console:\n{}", tail(&self.log)),
                Err(RecvTimeoutError::Timeout) => {
                    let now = Instant::now();
                    feel(&console(&self.log), &mut pulses, now);
                    let oldest = pulses.iter().map(|(_, at)| *at).min().unwrap_or(now);
                    let why = match (now - heard, now - oldest) {
                        _ if now - began > limit => format!("not done after {limit:?}"),
                        (silent, _) if silent > silence => {
                            format!("{STANDS}it printed nothing for {silent:.0?}")
                        }
                        (silent, still) if silent.min(still) > NO_PULSE => {
                            format!("{STANDS}a CPU does nothing for {still:.0?}")
                        }
                        _ => continue,
                    };
                    bail!("{why}; the console:\n{}", tail(&self.log))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the machine died; the console:\n{}", tail(&self.log))
                }
            };
            heard = Instant::now();
            let (text, code) = exit_code(&line);
            if !text.is_empty() {
                each(text);
            }
            if let Some(code) = code {
                return Ok(code);
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command's text in a line, and its exit code when the line ends with `\x01exit N`.
fn exit_code(line: &[u8]) -> (&[u8], Option<i32>) {
    let word = [MARK, b'e', b'x', b'i', b't', b' '];
    let Some(at) = line.windows(word.len()).position(|window| window == word) else {
        return (line, None);
    };
    let code = String::from_utf8_lossy(&line[at + word.len()..]).trim().parse();
    (&line[..at], code.ok())
}

fn console(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

/// Notes when each CPU last told that it runs: how often it has, and since when it is that often.
fn feel(console: &str, pulses: &mut [(usize, Instant); PULSES.len()], now: Instant) {
    for (text, pulse) in PULSES.iter().zip(pulses) {
        let count = console.matches(text).count();
        if count > pulse.0 {
            *pulse = (count, now);
        }
    }
}

/// The end of the kernel's log; with a fault in it, from there on.
fn tail(log: &Path) -> String {
    let text = console(log);
    let lines = text.lines().map(str::trim_end).filter(|line| !PULSES.contains(line));
    let lines: Vec<_> = lines.collect();
    let fault = lines.iter().position(|line| line.contains(" [#1]") || line.contains("BUG:"));
    let end = lines.len().saturating_sub(40);
    lines[fault.map_or(end, |at| end.min(at.saturating_sub(3)))..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_begins_before_its_first_fault() {
        let log = std::env::temp_dir().join(format!("xtask-tail-{}", std::process::id()));
        let lines: Vec<String> = (0..200).map(|n| format!("line {n}")).collect();
        fs::write(&log, format!("{}\nalive 0\r\nalive 1\r\n", lines.join("\n"))).unwrap();
        assert!(tail(&log).starts_with("line 160\n"));
        let oops =
            [&lines[..100], &["Oops: int3: 0000 [#1] SMP".to_owned()], &lines[100..]].concat();
        fs::write(&log, oops.join("\n")).unwrap();
        assert!(tail(&log).starts_with("line 97\nline 98\nline 99\nOops"));
        fs::remove_file(&log).unwrap();
    }

    #[test]
    fn a_cpu_that_tells_nothing_more_has_an_old_pulse() {
        let began = Instant::now();
        let at = |s| began + Duration::from_secs(s);
        let mut pulses = PULSES.map(|_| (0, began));
        feel("alive 0\r\nalive 1\r\n", &mut pulses, at(5));
        feel("alive 0\r\nalive 1\r\nalive 0\r\n", &mut pulses, at(10));
        assert_eq!(pulses, [(2, at(10)), (1, at(5))]);
    }

    #[test]
    fn a_failure_of_the_emulator_is_known_by_an_int3_or_by_silence() {
        let table = [
            ("the machine died; the console:\n[ 1.0] Oops: int3: 0000 [#1] PREEMPT SMP", true),
            ("the machine stands still: it printed nothing for 300s; the console:\n", true),
            ("the machine stands still: a CPU does nothing for 60s; the console:\n", true),
            ("the machine died; the console:\n[ 1.0] BUG: unable to handle page fault [#1]", false),
            ("not done after 900 s; the console:\n", false),
        ];
        for (text, emulators) in table {
            assert_eq!(is_emulators(&anyhow::anyhow!("{text}")), emulators, "{text}");
        }
    }

    #[test]
    fn the_exit_code_may_follow_unfinished_text() {
        let table: [(&[u8], &[u8], Option<i32>); 4] = [
            (b"hello\n", b"hello\n", None),
            (b"\x01exit 0\n", b"", Some(0)),
            (b"no newline\x01exit 139\n", b"no newline", Some(139)),
            (b"\x01exi", b"\x01exi", None),
        ];
        for (line, text, code) in table {
            assert_eq!(exit_code(line), (text, code));
        }
    }
}
