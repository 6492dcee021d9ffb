//! The host: loads plugins, calls each once per tick, and sends what they say as InfluxDB line protocol.
//!
//! The way of the data, one direction: a plugin's thread ([`runner`]) calls it; each row is encoded at once
//! ([`sink`], [`encoder`]); the lines of a call are a [`batch`] for each [`form`]; it is handed to every
//! [`output`] of that form, each with a queue and a thread of its own. The main thread ([`run`]) watches, keeps time and reports
//! ([`metrics`]).

pub mod batch;
pub mod capabilities;
pub mod cli;
pub mod config;
pub mod duration;
pub mod elf;
pub mod folder;
pub mod health;
pub mod ledger;
pub mod load;
pub mod messages;
pub mod metrics;
pub mod nearest;
pub mod output;
pub mod process;
pub mod run;
pub mod runner;
pub mod schedule;
pub mod show;
pub mod signals;
pub mod start;
pub mod stdout;
pub mod stop;
pub mod tick;
pub mod trust;
pub mod unknown_command;

pub use line_encoder::{encode, encoder, form, read, sink};
