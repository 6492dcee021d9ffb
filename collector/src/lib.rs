//! The host: loads plugins, calls each once per tick, and sends what they say as InfluxDB line protocol.
//!
//! The way of the data, one direction: a plugin's thread ([`runner`]) calls it ([`instance`]), here or in a process of
//! its own ([`isolated`]); each row is encoded at once
//! ([`sink`], [`encoder`]); the lines of a call are a [`batch`] for each [`form`]; it is handed to every
//! [`output`] of that form, each with a queue and a thread of its own. The main thread ([`run`]) watches, keeps time and reports
//! ([`metrics`]).

pub mod batch;
pub mod bpf_objects;
pub mod bpf_stats;
pub mod c_plugin;
pub mod capabilities;
pub mod cli;
pub mod config;
pub mod control;
pub mod dashboard;
pub mod descriptions;
pub mod digest;
pub mod duration;
pub mod elf;
pub mod event;
pub mod folder;
pub mod health;
pub mod instance;
pub mod isolated;
pub mod ledger;
pub mod library;
pub mod living;
pub mod load;
pub mod messages;
pub mod metrics;
pub mod nearest;
pub mod outlets;
pub mod output;
pub mod process;
pub mod roster;
pub mod run;
pub mod runner;
pub mod schedule;
pub mod service;
pub mod settings;
pub mod settle;
pub mod show;
pub mod signals;
pub mod start;
pub mod stdout;
pub mod terminal;
pub mod tick;
pub mod top;
pub mod trust;
pub mod unknown_command;
pub mod watch;

pub use line_encoder::{check, encode, encoder, form, read, sink, typed};
