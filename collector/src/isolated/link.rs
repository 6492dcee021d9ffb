//! The collector's end of a plugin's process: it is started, asked, and ended; what it says is bounded.

use super::meter::{CpuTime, Meter};
use super::protocol::{HANDED_OVER, MessageHeader, NoMessage, ProcessAnswer, Request, WORD};
use super::words::Words;
use crate::duration::short;
use crate::form::Form;
use crate::instance::PluginError;
use crate::process::block_sigpipe;
use crate::sink::LogTo;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use signal_hook::low_level::signal_name;
use std::fs::File;
use std::io::{self, IoSlice, PipeReader, PipeWriter, pipe};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that are read at once.
const AT_ONCE: usize = 16 << 10;
/// Texts that a process may log while it is asked for one thing: the sink in it lets fewer pass.
const MOST_LOGS: u32 = 1000;
/// How long a process that has closed its pipe may take to end.
const LAST: Duration = Duration::from_millis(200);
/// Whoever wakes this much late was stopped, likely with the plugin's process: it gets as much time again.
const STOPPED: Duration = Duration::from_millis(500);

/// A plugin's process. Dropping it kills the process.
pub struct Link {
    child: Child,
    meter: Meter,
    /// Pipes, one for each way: there and back takes 1.6 times as long by a socket (`bench isolation`). None when there is
    /// no more to ask.
    requests: Option<PipeWriter>,
    answers: PipeReader,
    words: Words,
    /// What has come and was not used.
    inbox: Vec<u8>,
    /// Of the last request.
    number: u32,
    logs: u32,
    log: LogTo,
    name: String,
}

/// How an answer is awaited.
#[derive(Clone, Copy, Debug)]
pub struct Wait<'a> {
    /// How long.
    pub within: Duration,
    /// The forms of its lines.
    pub forms: &'a [Form],
    /// How many bytes its lines may have.
    pub most_lines: usize,
}

/// Why there is no answer.
enum Silence {
    /// The process has closed its pipe, most likely by its end.
    Closed,
    Late(Duration),
    Broken(String),
}

impl From<NoMessage> for Silence {
    fn from(why: NoMessage) -> Self {
        Self::Broken(why.to_string())
    }
}

impl Link {
    /// Starts a process for a plugin's open file. It holds the capabilities that this thread has in effect, if it is the
    /// plugin's own thread: the process ends with the thread. The processor time that it uses is added to `cpu`.
    ///
    /// # Errors
    /// The kernel gives no process or no descriptor.
    pub fn start(name: &str, file: &File, log: LogTo, cpu: &CpuTime) -> io::Result<Self> {
        block_sigpipe(true);
        let ((asked, requests), (answers, answered)) = (pipe()?, pipe()?);
        let (said, printed) = pipe()?;
        let stdin = handed_over(&[file.as_fd(), asked.as_fd(), answered.as_fd()])?;
        // The program that runs, also when another one has taken its place meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg0(format!("collector/{name}")).arg(WORD);
        command.stdin(stdin).stdout(printed.try_clone()?).stderr(printed);
        let child = command.spawn()?;
        drop(command); // with their ends
        let name = name.to_owned();
        let mut link = Self {
            meter: Meter::of(child.id(), cpu),
            child,
            requests: Some(requests),
            answers,
            words: Words::new(&name, said),
            inbox: Vec::new(),
            number: 0,
            logs: 0,
            log,
            name,
        };
        // What fails here ends the process, by dropping it.
        link.words.never_wait()?;
        ioctl_fionbio(&link.answers, true)?;
        link.requests.iter().try_for_each(|requests| ioctl_fionbio(requests, true))?;
        Ok(link)
    }

    /// Adds up what the process has used by now.
    pub fn measure(&mut self) {
        self.meter.read();
    }

    /// The plugin's process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Asks for something. After an error the process is gone.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn ask(&mut self, request: &Request, wait: Wait<'_>) -> Result<ProcessAnswer, PluginError> {
        self.number += 1;
        self.logs = 0;
        self.words.begin();
        let answer = self.exchange(&request.encode(self.number), wait);
        answer.map_err(|silence| self.bury(silence))
    }

    /// Kills the process, because what it said cannot be used.
    pub fn broken(&mut self, why: String) -> PluginError {
        self.bury(Silence::Broken(why))
    }

    /// The end of what it has printed.
    pub fn last_words(&mut self) -> Option<String> {
        self.words.take();
        self.words.last()
    }

    /// Waits a moment for the end of a process that has no more to do.
    pub fn leave(mut self) {
        self.requests = None;
        self.ends_within(LAST);
        self.words.finish();
    }

    fn exchange(&mut self, request: &[u8], wait: Wait<'_>) -> Result<ProcessAnswer, Silence> {
        let mut rest = request;
        let mut until = Instant::now() + wait.within;
        let mut extended = false;
        loop {
            if let (false, Some(requests)) = (rest.is_empty(), &self.requests) {
                match rustix::io::write(requests, rest) {
                    Ok(sent) => rest = &rest[sent..],
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    // It is gone; what it has said before is still there to be read.
                    Err(_) => rest = &[],
                }
            }
            let now = Instant::now();
            if now >= until {
                if extended || now - until < STOPPED {
                    return Err(Silence::Late(wait.within));
                }
                (until, extended) = (now + STOPPED, true);
            }
            let (answers, words) = self.wait_for(!rest.is_empty(), until - now)?;
            if words {
                self.words.take();
            }
            if answers {
                let received = self.receive(wait.most_lines);
                while let Some(answer) = self.next(&wait)? {
                    if let Some(answer) = self.hear(answer) {
                        return Ok(answer);
                    }
                }
                received?;
            }
        }
    }

    /// Whether there is something to read among the answers, and among what the plugin prints; returns also when there is
    /// room for what is to be written.
    fn wait_for(&self, writing: bool, within: Duration) -> Result<(bool, bool), Silence> {
        let mut pipes = vec![PollFd::new(&self.answers, PollFlags::IN)];
        if self.words.is_open() {
            pipes.push(PollFd::from_borrowed_fd(self.words.as_fd(), PollFlags::IN));
        }
        let read = pipes.len();
        let requests = self.requests.iter().filter(|_| writing);
        pipes.extend(requests.map(|requests| PollFd::new(requests, PollFlags::OUT)));
        let within = Timespec::try_from(within).ok();
        match poll(&mut pipes, within.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return Err(Silence::Closed),
        }
        let mut ready = pipes[..read].iter().map(|pipe| !pipe.revents().is_empty());
        Ok((ready.next() == Some(true), ready.next() == Some(true)))
    }

    fn receive(&mut self, most_lines: usize) -> Result<(), Silence> {
        let whole =
            self.header(most_lines)?.map_or(0, |header| MessageHeader::SIZE + header.length);
        self.inbox.reserve(whole.saturating_sub(self.inbox.len()).max(AT_ONCE));
        match rustix::io::read(&self.answers, spare_capacity(&mut self.inbox)) {
            Ok(1..) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Ok(0) | Err(_) => Err(Silence::Closed),
        }
    }

    /// The header of the message that comes first.
    fn header(&self, most_lines: usize) -> Result<Option<MessageHeader>, NoMessage> {
        let header = self.inbox.first_chunk();
        header.map(|header| MessageHeader::read(header, most_lines)).transpose()
    }

    /// The first message, when it is whole.
    fn next(&mut self, wait: &Wait<'_>) -> Result<Option<ProcessAnswer>, Silence> {
        let Some(header) = self.header(wait.most_lines)? else { return Ok(None) };
        let end = MessageHeader::SIZE + header.length;
        let Some(bytes) = self.inbox.get(MessageHeader::SIZE..end) else { return Ok(None) };
        let answer = ProcessAnswer::decode(header, bytes, wait.forms)?;
        let asked = matches!(answer, ProcessAnswer::Opened(_) | ProcessAnswer::Done(_));
        if header.number != if asked { self.number } else { 0 } {
            return Err(NoMessage::Number.into());
        }
        self.inbox.drain(..end);
        if self.inbox.is_empty() {
            self.inbox.shrink_to(4 * AT_ONCE);
        }
        Ok(Some(answer))
    }

    /// Takes what nobody asked for.
    fn hear(&mut self, answer: ProcessAnswer) -> Option<ProcessAnswer> {
        match answer {
            ProcessAnswer::Hello => None,
            ProcessAnswer::Log(level, text) => {
                self.logs += 1;
                if self.logs <= MOST_LOGS {
                    // The collector's own texts carry the plugin's name.
                    let own =
                        text.strip_prefix(&self.name).and_then(|text| text.strip_prefix(": "));
                    (self.log)(&self.name, level, own.unwrap_or(&text));
                }
                None
            }
            answer => Some(answer),
        }
    }

    /// Makes sure that the process is gone, and says how it came to its end.
    fn bury(&mut self, silence: Silence) -> PluginError {
        let by_itself = matches!(silence, Silence::Closed) && self.ends_within(LAST);
        let status = self.kill();
        self.words.finish();
        let words = self.words.last().map(|words| format!("; its last words: {words}"));
        let words = words.unwrap_or_default();
        let killed = |why: String| format!("its process was killed: {why}{words}");
        match silence {
            Silence::Late(within) => {
                PluginError::Late(killed(format!("no answer within {}", short(within))))
            }
            Silence::Broken(why) => PluginError::Broken(killed(format!("it sent {why}"))),
            Silence::Closed => match status.map(|status| (status.signal(), status.code())) {
                // A process that is about to end dies of nothing else any more.
                Some((Some(libc::SIGKILL), _)) if !by_itself => {
                    PluginError::Broken(killed("it closed its connection".to_owned()))
                }
                Some((Some(signal), _)) => {
                    PluginError::Died(format!("its process was killed by {}{words}", named(signal)))
                }
                Some((_, Some(code))) => {
                    PluginError::Died(format!("its process ended with exit code {code}{words}"))
                }
                _ => PluginError::Died(format!("its process is gone{words}")),
            },
        }
    }

    /// Whether it has ended; it is not reaped, so its number stays its own.
    fn ends_within(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        loop {
            let ended = waitid(WaitId::Pid(Pid::from_child(&self.child)), options);
            if ended.is_ok_and(|ended| ended.is_some()) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills it, and what it has started. It may be dead.
    fn kill(&mut self) -> Option<ExitStatus> {
        let _ = self.child.kill();
        // Its group is its own, once it has begun.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        if self.meter.runs() {
            // Dead and not reaped, it still has its clock.
            let child = WaitId::Pid(Pid::from_child(&self.child));
            let _ = waitid(child, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            self.meter.end();
        }
        self.child.wait().ok()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A socket from which whoever has it can take these descriptors: `SCM_RIGHTS` of unix(7).
fn handed_over(descriptors: &[BorrowedFd<'_>; HANDED_OVER]) -> io::Result<OwnedFd> {
    let (here, there) = UnixStream::pair()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDED_OVER))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    message.push(SendAncillaryMessage::ScmRights(descriptors));
    sendmsg(&here, &[IoSlice::new(&[0])], &mut message, SendFlags::empty())?;
    Ok(there.into())
}

/// `SIGSEGV`
fn named(signal: i32) -> String {
    match signal {
        libc::SIGKILL => "SIGKILL, as the kernel does for want of memory".to_owned(),
        signal => signal_name(signal).map_or(format!("signal {signal}"), str::to_owned),
    }
}
