//! What the subcommands print for people.

mod check;
mod describe;
mod grid;
mod histogram;
mod lines;
mod list;
mod once;

pub use check::check;
pub use describe::describe;
pub use list::list;
pub use once::once;

use crate::cli::Width;
use crate::stdout;

impl Width {
    /// Where tables are cut.
    fn columns(self) -> Option<usize> {
        if self.wide { None } else { stdout::width() }
    }
}
