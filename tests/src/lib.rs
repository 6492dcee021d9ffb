//! Shared by the tests of the whole and the benchmarks.
//!
//! For delivery: [`running`] is the collector with a [`load`] of which every line is known, also when it has
//! [`arrived`], [`servers`] the databases that people run, [`contract`] and [`receiver`] those that cannot be had as a package,
//! [`database`] any of them, [`readers`] what listens on sockets, and [`faults`] what goes wrong in between. [`replace`]: a plugin that is
//! replaced all the time.
//!
//! [`engines`] stand for servers that cannot be had: they check what is asked of them. [`dashboards`] asks each query of
//! each panel.
//!
//! [`browser`] shows the page, [`tmux`] a terminal, [`pictures`] keeps what was seen, [`written`] counts the lines of a file that grows, [`waits`] are numbers that are known, and [`same`] compares what all receivers have counted.
//!
//! For fleets: [`fleet`] has the ready files.
//!
//! For what authors do: [`tree`] is a copy of the repository. For what the manuals say: [`documents`].

pub mod arrived;
pub mod browser;
pub mod calls;
pub mod contract;
pub mod dashboards;
pub mod database;
pub mod documents;
pub mod engines;
pub mod exact;
pub mod family;
pub mod faults;
pub mod fleet;
pub mod http;
pub mod ladder;
pub mod links;
pub mod load;
pub mod pair;
pub mod pictures;
pub mod port;
pub mod readers;
pub mod receiver;
pub mod replace;
pub mod running;
pub mod same;
pub mod servers;
pub mod tmux;
pub mod trap;
pub mod tree;
pub mod user;
pub mod wait;
pub mod waits;
pub mod written;

use collector::read::Line;

/// Something that stored lines, and can be asked what it has.
pub trait Stored {
    /// All points of a table. A point that was written twice is there once.
    fn lines(&self, table: &str) -> Vec<Line>;

    /// A field of whole numbers, of all those points, sorted. For a million points take this: it makes no
    /// [`Line`] of each.
    fn numbers(&self, table: &str, field: &str) -> Vec<i64>;
}
