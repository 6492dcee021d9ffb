//! Shared by the tests of the whole and the benchmarks.
//!
//! For delivery: [`running`] is the collector with a [`load`] of which every line is known, also when it has
//! [`arrived`], [`servers`] the databases that people run, [`contract`] those that cannot be had as a package,
//! [`database`] any of them, [`readers`] what listens on sockets, and [`faults`] what goes wrong in between.
//!
//! For what authors do: [`tree`] is a copy of the repository.

pub mod arrived;
pub mod calls;
pub mod contract;
pub mod database;
pub mod exact;
pub mod faults;
pub mod http;
pub mod ladder;
pub mod links;
pub mod load;
pub mod pair;
pub mod port;
pub mod readers;
pub mod running;
pub mod servers;
pub mod tree;
pub mod user;
pub mod wait;

use collector::read::Line;

/// Something that stored lines, and can be asked what it has.
pub trait Stored {
    /// All points of a table. A point that was written twice is there once.
    fn lines(&self, table: &str) -> Vec<Line>;

    /// A field of whole numbers, of all those points, sorted. For a million points take this: it makes no
    /// [`Line`] of each.
    fn numbers(&self, table: &str, field: &str) -> Vec<i64>;
}
