//! What travels from a plugin's thread to the outputs.

use plugin_api::Tick;
use std::sync::Arc;

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
