//! What a plugin's process and the collector say to each other.
//!
//! A message is its kind, the number of the request that it belongs to, a length, and so many bytes; numbers are
//! little-endian. Each side begins with [`MAGIC`] and [`VERSION`]. The plugin may have overwritten whatever its process
//! says, so every length is checked against a bound before memory is taken for it, and every value before it is used.

use super::Bounds;
pub use super::bytes::NoMessage;
use super::bytes::{HEADER, In, Out};
use crate::encode::Tags;
use crate::encoder::Page;
use crate::form::{Buckets, Counters, Form};
use crate::instance::{Outcome, PluginError};
use crate::sink::{Closed, Dropped, Limits, Reports, Tally};
use log::{Level, LevelFilter};
use plugin_api::Tick;
use std::path::PathBuf;

/// The word by which the collector starts itself as a plugin's process.
pub const WORD: &str = "plugin-process";
/// What it finds in the socket that is its standard input: the plugin's file, the pipe of requests, that of answers.
pub const HANDED_OVER: usize = 3;
/// The first bytes of either side.
const MAGIC: [u8; 4] = *b"iplg";
/// Changes with every message.
const VERSION: u16 = 2;

/// The longest text that a plugin logs: a verifier's log; what is longer is cut.
pub const MOST_LOG: usize = 1 << 20;
/// The longest description.
const MOST_OPENED: usize = 4 << 20;
/// The longest reason; what is longer is cut.
const MOST_REASON: usize = 64 << 10;
/// Beside the lines in an outcome.
const OUTCOME_ROOM: usize = MOST_REASON + 1024;

/// What the collector asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// To load the plugin.
    Open(Opening),
    /// To start it.
    Start(Starting),
    /// To call it.
    Call(Tick),
    /// To call it and to throw its lines away.
    Skip(Tick),
    /// To end it.
    End,
}

/// What a process needs before it loads a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The plugin's name by its file.
    pub name: String,
    /// Where its file lies, for messages; the file itself is open.
    pub path: PathBuf,
    /// How much is logged.
    pub level: LevelFilter,
    /// The collector's process.
    pub parent: u32,
    /// The capabilities to hold.
    pub capabilities: u64,
    /// What the process may take.
    pub bounds: Bounds,
}

/// What a plugin is started with: the same as [`crate::sink::Terms`], without what its own description says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Starting {
    /// Its name by its description.
    pub plugin: String,
    /// What outputs ask for.
    pub forms: Vec<Form>,
    /// How much it may say about itself.
    pub reports: Reports,
    /// Tags of all its lines.
    pub tags: Tags,
    /// `u64` stays unsigned on the wire.
    pub uint: bool,
    /// Its caps.
    pub limits: Limits,
    /// Its options as JSON.
    pub options: String,
}

/// What the plugin's process says.
#[derive(Debug)]
pub enum ProcessAnswer {
    /// It is there, and speaks this version.
    Hello,
    /// A text for the log.
    Log(Level, String),
    /// The plugin is loaded: its description as JSON, empty for one that has none. Or why it is not.
    Opened(Result<String, String>),
    /// What came of a start, call or end.
    Done(Outcome),
}

/// The kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Open = 1,
    Start,
    Call,
    End,
    Skip,
    Hello = 0x81,
    Log,
    Opened,
    Done,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Open,
        Self::Start,
        Self::Call,
        Self::End,
        Self::Skip,
        Self::Hello,
        Self::Log,
        Self::Opened,
        Self::Done,
    ];

    fn message(self, number: u32) -> Out {
        Out::new(self as u8, number)
    }
}

fn begin(out: &mut Out) {
    out.raw(&MAGIC);
    out.raw(&VERSION.to_le_bytes());
}

fn begun(rest: &mut In<'_>) -> Result<(), NoMessage> {
    if rest.take(MAGIC.len())? != MAGIC {
        return Err(NoMessage::Content("another beginning"));
    }
    if rest.take(size_of_val(&VERSION))? != VERSION.to_le_bytes() {
        return Err(NoMessage::Content("another version"));
    }
    Ok(())
}

/// What stands before the bytes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHeader {
    kind: Kind,
    /// The request's number; an answer has it too, unless nobody asked.
    pub number: u32,
    /// How many bytes follow.
    pub length: usize,
}

impl MessageHeader {
    /// How many bytes it takes.
    pub const SIZE: usize = HEADER;

    /// Reads it. A message from a plugin has at most `most_lines` bytes of lines.
    ///
    /// # Errors
    /// It is none.
    pub fn read(bytes: &[u8; Self::SIZE], most_lines: usize) -> Result<Self, NoMessage> {
        let [kind, number @ .., a, b, c, d] = *bytes;
        let kind = Kind::ALL.into_iter().find(|known| *known as u8 == kind);
        let kind = kind.ok_or(NoMessage::Content("an unknown kind"))?;
        let length = u32::from_le_bytes([a, b, c, d]);
        let most = match kind {
            // What the collector says is believed.
            Kind::Open | Kind::Start | Kind::Call | Kind::End | Kind::Skip => usize::MAX,
            Kind::Hello => MAGIC.len() + size_of_val(&VERSION),
            Kind::Log => MOST_LOG + 16,
            Kind::Opened => MOST_OPENED + 16,
            Kind::Done => most_lines.saturating_add(OUTCOME_ROOM),
        };
        let whole = usize::try_from(length).unwrap_or(usize::MAX);
        if whole > most {
            return Err(NoMessage::Length(length));
        }
        Ok(Self { kind, number: u32::from_le_bytes(number), length: whole })
    }
}

impl Request {
    /// The whole message.
    #[must_use]
    pub fn encode(&self, number: u32) -> Vec<u8> {
        match self {
            Self::Open(opening) => {
                let mut out = Kind::Open.message(number);
                begin(&mut out);
                out.text(&opening.name);
                out.bytes(opening.path.as_os_str().as_encoded_bytes());
                out.u8(opening.level as u8);
                out.u64(opening.parent.into());
                out.u64(opening.capabilities);
                out.u64(opening.bounds.memory);
                out.u8(opening.bounds.processes.map_or(2, u8::from));
                out.done()
            }
            Self::Start(starting) => {
                let mut out = Kind::Start.message(number);
                out.text(&starting.plugin);
                out.list(&starting.forms, |out, form| {
                    out.u8(index(&Buckets::ALL, form.histogram));
                    out.u8(index(&Counters::NAMED, form.counters));
                });
                out.u8(index(&Reports::NAMED, starting.reports));
                let tags: Vec<_> = starting.tags.iter().collect();
                out.list(&tags, |out, (key, value)| {
                    out.text(key);
                    out.text(value);
                });
                out.u8(starting.uint.into());
                let Limits { lines, bytes, series } = starting.limits;
                out.numbers(&[lines, bytes as u64, series as u64]);
                out.text(&starting.options);
                out.done()
            }
            Self::Call(tick) => ticked(Kind::Call, number, tick),
            Self::Skip(tick) => ticked(Kind::Skip, number, tick),
            Self::End => Kind::End.message(number).done(),
        }
    }

    /// Reads what follows a header.
    ///
    /// # Errors
    /// It is no request.
    pub fn decode(header: MessageHeader, bytes: &[u8]) -> Result<Self, NoMessage> {
        let mut rest = In(bytes);
        let request = match header.kind {
            Kind::Open => {
                begun(&mut rest)?;
                Self::Open(Opening {
                    name: rest.text()?,
                    path: rest.path()?,
                    level: rest.one_of(LevelFilter::iter())?,
                    parent: rest
                        .u64()?
                        .try_into()
                        .map_err(|_| NoMessage::Content("a bad process"))?,
                    capabilities: rest.u64()?,
                    bounds: Bounds {
                        memory: rest.u64()?,
                        processes: rest.one_of([Some(false), Some(true), None].into_iter())?,
                    },
                })
            }
            Kind::Start => Self::Start(Starting {
                plugin: rest.text()?,
                forms: rest.list(|rest| {
                    Ok(Form {
                        histogram: rest.named(&Buckets::ALL)?,
                        counters: rest.named(&Counters::NAMED)?,
                    })
                })?,
                reports: rest.named(&Reports::NAMED)?,
                tags: rest.list(|rest| Ok((rest.text()?, rest.text()?)))?.into_iter().collect(),
                uint: rest.flag()?,
                limits: Limits { lines: rest.u64()?, bytes: rest.size()?, series: rest.size()? },
                options: rest.text()?,
            }),
            Kind::Call => Self::Call(rest.tick()?),
            Kind::Skip => Self::Skip(rest.tick()?),
            Kind::End => Self::End,
            _ => return Err(NoMessage::Content("no request")),
        };
        rest.end()?;
        Ok(request)
    }
}

impl ProcessAnswer {
    /// The whole message.
    #[must_use]
    pub fn encode(&self, number: u32) -> Vec<u8> {
        match self {
            Self::Hello => {
                let mut out = Kind::Hello.message(number);
                begin(&mut out);
                out.done()
            }
            Self::Log(level, text) => {
                let mut out = Kind::Log.message(number);
                out.u8(*level as u8);
                out.text(cut(text, MOST_LOG));
                out.done()
            }
            Self::Opened(result) => {
                let mut out = Kind::Opened.message(number);
                out.u8(result.is_ok().into());
                out.text(cut(result.as_ref().unwrap_or_else(|why| why), MOST_OPENED));
                out.done()
            }
            Self::Done(Outcome { closed, tally, result }) => {
                let mut out = Kind::Done.message(number);
                let Dropped { full, invalid, closed: outside, duplicate, series } = tally.dropped;
                out.numbers(&[closed.rows, tally.series]);
                out.numbers(&[full, invalid, outside, duplicate, series]);
                let (code, text) = match result {
                    Ok(()) => (0, ""),
                    Err(PluginError::Panicked(text)) => (2, &**text),
                    Err(
                        PluginError::Answered(text)
                        | PluginError::Died(text)
                        | PluginError::Late(text)
                        | PluginError::Broken(text),
                    ) => (1, &**text),
                };
                out.u8(code);
                out.text(cut(text, MOST_REASON));
                out.list(&closed.pages, |out, page| {
                    out.u64(page.lines);
                    out.bytes(&page.bytes);
                });
                out.done()
            }
        }
    }

    /// Reads what follows a header. Its lines are of these forms, or there are none; they are not checked.
    ///
    /// # Errors
    /// It is no answer.
    pub fn decode(header: MessageHeader, bytes: &[u8], forms: &[Form]) -> Result<Self, NoMessage> {
        let mut rest = In(bytes);
        let answer = match header.kind {
            Kind::Hello => {
                begun(&mut rest)?;
                Self::Hello
            }
            Kind::Log => Self::Log(rest.level()?, rest.text()?),
            Kind::Opened => {
                let ok = rest.flag()?;
                let text = rest.text()?;
                Self::Opened(if ok { Ok(text) } else { Err(text) })
            }
            Kind::Done => {
                let rows = rest.u64()?;
                let series = rest.u64()?;
                let dropped = Dropped {
                    full: rest.u64()?,
                    invalid: rest.u64()?,
                    closed: rest.u64()?,
                    duplicate: rest.u64()?,
                    series: rest.u64()?,
                };
                let (code, text) = (rest.u8()?, rest.text()?);
                let result = match code {
                    0 => Ok(()),
                    1 => Err(PluginError::Answered(text)),
                    2 => Err(PluginError::Panicked(text)),
                    _ => return Err(NoMessage::Content("an unknown result")),
                };
                let pages = rest.list(|rest| Ok((rest.u64()?, rest.bytes()?.to_vec())))?;
                if !pages.is_empty() && pages.len() != forms.len() {
                    return Err(NoMessage::Content("lines of other forms"));
                }
                let pages = forms.iter().zip(pages);
                let pages = pages.map(|(form, (lines, bytes))| Page { form: *form, lines, bytes });
                let closed = Closed { rows, pages: pages.collect() };
                Self::Done(Outcome { closed, tally: Tally { dropped, series }, result })
            }
            _ => return Err(NoMessage::Content("no answer")),
        };
        rest.end()?;
        Ok(answer)
    }
}

fn ticked(kind: Kind, number: u32, tick: &Tick) -> Vec<u8> {
    let mut out = kind.message(number);
    out.numbers(&[tick.seq, tick.time_ns.cast_unsigned(), tick.elapsed_ns]);
    out.done()
}

impl In<'_> {
    fn tick(&mut self) -> Result<Tick, NoMessage> {
        let (seq, time_ns, elapsed_ns) = (self.u64()?, self.u64()?, self.u64()?);
        Ok(Tick { seq, time_ns: time_ns.cast_signed(), elapsed_ns })
    }
}

/// A text's begin, of at most so many bytes.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// The place of a value among all that there are.
fn index<T: PartialEq>(named: &[(&str, T)], value: T) -> u8 {
    named.iter().position(|(_, known)| *known == value).unwrap_or_default() as u8
}
