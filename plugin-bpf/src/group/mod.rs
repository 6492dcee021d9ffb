//! Drained rows become bounded lines: by name, the top K and `other`.
//!
//! A table of unbounded keys can have any number of rows a tick; a line protocol table may not. A tool
//! hands its rows to [`Groups`], which it keeps from tick to tick, and pushes what comes back:
//!
//! ```
//! use plugin_bpf::group::Groups;
//!
//! #[derive(Clone, Copy, Default)]
//! struct Waits { count: u64, sum: u64 } // as in the BPF program; `sum` in nanoseconds
//! plugin_bpf::sums!(Waits { count, sum });
//!
//! // Once: the 20 names that waited longest; the sum is shown in microseconds.
//! let mut names = Groups::<Waits>::default().divide(|w| &mut w.sum, 1000);
//! // At every tick:
//! let drained = [("bash", Waits { count: 2, sum: 2_500 }), ("cron", Waits { count: 1, sum: 400 })];
//! for (comm, waits) in names.rows(drained, |w| w.sum) {
//!     // lines.push(runqlat_comm::Row { comm, count: waits.count, sum_us: waits.sum })?;
//!     println!("{comm}: {} waits of {} us", waits.count, waits.sum);
//! }
//! ```
//!
//! | part | what for |
//! |---|---|
//! | [`Groups`] | at most K + 1 rows with different tag texts, whose sums are exact |
//! | [`Summable`], [`sums!`](crate::sums) | how values of rows that become one are added |
//! | [`by!`](crate::by) | the option `by` with a tool's dimensions |
//! | [`Cgroups`] | ids of cgroups to paths and containers |
//! | [`device`] | queues of one device, as interrupts name them, under one name |
//! | [`Filter`] | which tasks the BPF program looks at (`filter.bpf.h`) |

mod by;
mod carry;
mod cgroup;
mod container;
mod device;
mod filter;
mod groups;
mod hierarchy;
mod names;
mod sums;

pub use cgroup::Cgroups;
pub use device::device;
pub use filter::Filter;
pub use groups::Groups;
pub use sums::Summable;
