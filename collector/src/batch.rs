//! What travels from a plugin's thread to the outputs.

use crate::form::Form;
use crossbeam_channel::Sender;
use plugin_api::Tick;
use std::sync::Arc;
use std::time::Instant;

/// The lines of one call in one form, encoded once and shared by all outputs that ask for it.
#[derive(Debug)]
pub struct Batch {
    /// Who made them.
    pub plugin: Arc<str>,
    /// When.
    pub tick: Tick,
    /// How many.
    pub lines: u64,
    /// Line protocol: whole lines, each with its newline.
    pub bytes: Vec<u8>,
}

/// What the router receives.
#[derive(Debug)]
pub enum Message {
    /// Lines, for the outputs that ask for this form.
    Batch(Form, Arc<Batch>),
    /// Nothing comes any more that is worth waiting for; outputs may write what they have until then. A
    /// plugin that hangs may still hold a sender.
    End(Instant),
}

/// Where plugins send to. Bounded, but the router never waits: see [`crate::output`].
pub type Batches = Sender<Message>;

/// The channel's length.
pub const CHANNEL: usize = 256;
