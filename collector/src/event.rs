//! What wakes the main thread before its time.

use crate::digest::Digest;
use crate::settle::What;
use std::ffi::OsString;

/// All come by one channel: to wait on several costs more than a tick's own lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// To end, and by what.
    End(&'static str),
    /// To open the outputs again, and to read the configuration again (SIGHUP).
    Reopen,
    /// The other end of an output has gone for good.
    OutputGone,
    /// Of an instance of a plugin, by its number.
    Plugin(u64, News),
    /// Something has happened in a folder that is watched.
    Seen(Vec<Seen>),
}

/// What an instance's thread tells the main thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It is loaded, and its first start is over, whatever came of it.
    Started(Loaded),
    /// It cannot be loaded, its options are wrong, or it cannot replace the one that runs: why. Its thread ends.
    Refused(String),
    /// It is the same as the one that runs. Its thread ends.
    Same,
    /// It has taken over.
    TookOver,
    /// Its thread has ended.
    Ended,
}

/// What is known of a plugin when it is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its file's content.
    pub digest: Digest,
    /// Its tables.
    pub tables: Vec<String>,
}

/// Something that was seen in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The watch that saw it.
    pub watch: i32,
    /// The file's name; empty for the folder itself.
    pub name: OsString,
    /// What it was.
    pub what: What,
}
