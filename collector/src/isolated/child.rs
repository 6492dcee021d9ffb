//! The plugin's side: a process that loads one plugin and does what it is asked to.
//!
//! It is the collector's own program, so what loads a plugin and what encodes its lines is the same here and there. Its
//! main thread is the plugin's thread.

use super::limits;
use super::protocol::{HANDED_OVER, MessageHeader, Opening, ProcessAnswer, Request, Starting};
use crate::instance::{Instance, Outcome};
use crate::library::Opened;
use crate::process::{block_sigpipe, exit_at_once, keep_memory_private, thread_name, trim_memory};
use crate::sink::{Closed, Sink, Tally, Terms};
use anyhow::{Context, Result, bail, ensure};
use log::{Log, Metadata, Record};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Signal, getppid, set_parent_process_death_signal, setpgid};
use rustix::stdio::dup2_stdin;
use std::ffi::CString;
use std::fs::File;
use std::io::{BufReader, ErrorKind, IoSliceMut, PipeReader, PipeWriter, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The way to the collector.
static COLLECTOR: ToCollector = ToCollector(OnceLock::new());

/// Messages go out whole, whichever thread they come from.
struct ToCollector(OnceLock<Mutex<PipeWriter>>);

impl ToCollector {
    fn send(&self, number: u32, answer: &ProcessAnswer) {
        let Some(answers) = self.0.get() else { return };
        let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = answers.write_all(&answer.encode(number)) {
            // The collector is gone, or the plugin has closed what is not its own.
            let _ = writeln!(std::io::stderr(), "no way to the collector: {error}");
            exit_at_once(2);
        }
    }
}

impl Log for ToCollector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.send(0, &ProcessAnswer::Log(record.level(), record.args().to_string()));
    }

    fn flush(&self) {}
}

/// What [`super::protocol::WORD`] on the command line does.
#[must_use]
pub fn main() -> ExitCode {
    match serve() {
        // The plugin's code does not run any more, not even what it has left for the end of the process.
        Ok(()) => exit_at_once(0),
        Err(error) => {
            eprintln!("collector: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Serves the collector that has started this process, until it wants no more.
///
/// # Errors
/// Somebody else has started it.
fn serve() -> Result<()> {
    let (file, requests, answers) =
        take_over().context("a plugin's process is started by the collector only")?;
    let mut requests = Requests { pipe: BufReader::new(requests), number: 0 };
    let _ = COLLECTOR.0.set(Mutex::new(answers));
    COLLECTOR.send(0, &ProcessAnswer::Hello);

    let Some(Request::Open(opening)) = requests.next()? else { bail!("nothing to open") };
    confine(&opening)?;
    let opened = Opened::open(file, &opening.path);
    let said = opened.as_ref().map(|opened| opened.json().unwrap_or_default().to_owned());
    requests.answer(&ProcessAnswer::Opened(said.map_err(Clone::clone)));
    let Ok(opened) = opened else { return Ok(()) };

    let Some(Request::Start(starting)) = requests.next()? else { return Ok(()) };
    let mut instance = instance(opened, starting)?;
    requests.done(start(&mut *instance));
    let mut runs = true;
    while let Some(request) = requests.next()? {
        match request {
            Request::Call(tick) if runs => requests.done(instance.call(&tick)),
            Request::Skip(tick) if runs => requests.done(instance.skip(&tick)),
            Request::End if runs => {
                runs = false;
                requests.done(instance.end());
            }
            Request::Start(_) if !runs => {
                runs = true;
                requests.done(start(&mut *instance));
            }
            _ => bail!("what it is asked for is out of turn"),
        }
    }
    Ok(())
}

fn start(instance: &mut dyn Instance) -> Outcome {
    let result = instance.start();
    trim_memory(); // libbpf reads the kernel's types to load a program
    Outcome { closed: Closed::default(), tally: Tally::default(), result }
}

/// Takes what the collector hands over; closes whatever else may be open.
fn take_over() -> Result<(File, PipeReader, PipeWriter)> {
    // SAFETY: no thread is there, and nothing of this program has opened a descriptor. Those that the collector has are
    // closed by execve(2); in it a C plugin may have opened others.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDED_OVER))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    // It was sent before this process was started.
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    recvmsg(std::io::stdin(), &mut [IoSliceMut::new(&mut [0])], &mut message, flags)?;
    let descriptors = message.drain().filter_map(|part| match part {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors: Vec<OwnedFd> = descriptors.flatten().collect();
    let descriptors: Result<[OwnedFd; HANDED_OVER], _> = descriptors.try_into();
    let Ok([file, requests, answers]) = descriptors else { bail!("nothing was handed over") };
    let _ = File::open("/dev/null").map(dup2_stdin)?;
    Ok((file.into(), requests.into(), answers.into()))
}

/// Before anything of the plugin is there.
fn confine(opening: &Opening) -> Result<()> {
    // Signals to the collector's terminal and service are the collector's to hear: it ends this process in its own time.
    // Not a session: it would be a group of its own for the scheduler too (sched(7), autogroup), with as large a share
    // of the machine as all of the collector has.
    let _ = setpgid(None, None);
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGTTIN, libc::SIGTTOU] {
        // SAFETY: no handler is installed, and none was.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    block_sigpipe(false);
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    ensure!(parent == Some(opening.parent), "the collector is gone");
    let name = CString::new(thread_name(&opening.name)).unwrap_or_default();
    let _ = rustix::thread::set_name(&name);
    keep_memory_private()?;
    let _ = log::set_logger(&COLLECTOR);
    log::set_max_level(opening.level);
    limits::apply(opening).context("the limits of its process")
}

fn instance(opened: Opened, starting: Starting) -> Result<Box<dyn Instance>> {
    let Starting { plugin, forms, reports, tags, uint, limits, options } = starting;
    let tables = opened.tables().map_err(anyhow::Error::msg)?;
    let log = |plugin: &str, level, text: &str| log::log!(target: plugin, level, "{text}");
    let terms = Terms { plugin, tables, forms, reports, tags, uint, limits, log };
    let name = terms.plugin.clone();
    Ok(opened.instance(&name, Sink::leak(terms), options))
}

/// What the collector asks for.
struct Requests {
    pipe: BufReader<PipeReader>,
    /// Of the one that is not answered.
    number: u32,
}

impl Requests {
    /// The next one; none when the collector is gone.
    fn next(&mut self) -> Result<Option<Request>> {
        let mut header = [0; MessageHeader::SIZE];
        match self.pipe.read_exact(&mut header) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let header = MessageHeader::read(&header, 0).map_err(|why| anyhow::anyhow!("{why}"))?;
        let mut bytes = vec![0; header.length];
        self.pipe.read_exact(&mut bytes)?;
        self.number = header.number;
        let request = Request::decode(header, &bytes).map_err(|why| anyhow::anyhow!("{why}"))?;
        Ok(Some(request))
    }

    fn answer(&self, answer: &ProcessAnswer) {
        COLLECTOR.send(self.number, answer);
    }

    fn done(&self, outcome: Outcome) {
        self.answer(&ProcessAnswer::Done(outcome));
    }
}
