//! Hostile tables and rows ([`Case`]), what a reader must find of them ([`Model`]), and the property that
//! joins both ([`check`]): each row is one line that reads back equal, or is refused and leaves no trace.
//!
//! The property test, the fuzz target and the test with real servers all take their cases from here.
//! Bytes decide everything about a case, and zeros or no bytes at all mean the simplest one: so a fuzzer
//! may mutate them and a property test shrink them.
//!
//! [`proto`] reads what is made of lines for receivers of metrics.

mod case;
mod check;
mod model;
pub mod proto;
mod text;

pub use case::{Case, Cell, Row};
pub use check::{Checked, check};
pub use model::Model;
