//! What the subcommands print for people.

mod check;
mod check_config;
mod conformance;
mod describe;
mod folded;
mod grid;
mod histogram;
mod lines;
mod list;
mod memory;
mod once;
mod trial;
mod whole_file;

pub use check::check;
pub use check_config::check_config;
pub use conformance::{check_file, file_of};
pub use describe::describe;
pub use list::list;
pub use once::{StackFiles, once};

use crate::process::thread_name;
use crate::stdout;
use clap::{ArgAction, Args};
use std::thread;

/// How wide a table may be.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Width {
    /// Show long texts whole; by default they are cut at the terminal's edge
    #[arg(long, action = ArgAction::SetTrue)]
    pub wide: bool,
}

impl Width {
    /// Where tables are cut.
    fn columns(self) -> Option<usize> {
        if self.wide { None } else { stdout::width() }
    }
}

/// Runs something on a thread of its own, which may give up what the others keep.
fn on_a_thread<T: Send>(
    name: &str,
    run: impl FnOnce() -> Result<T, String> + Send,
) -> Result<T, String> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(thread_name(name)).spawn_scoped(scope, run);
        let thread = thread.map_err(|why| format!("starting its thread: {why}"))?;
        thread.join().unwrap_or_else(|_| Err("the collector's own check panicked".to_owned()))
    })
}
