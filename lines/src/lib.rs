//! From a plugin's rows to InfluxDB line protocol, and back.
//!
//! A plugin pushes rows into a [`sink`], which is the host's side of the ABI. Each row is encoded at once
//! ([`encode`]). [`read`] reads lines back: for tables on a terminal and for tests.
//!
//! The collector and the tests of plugins share this crate, so that a test sees the very bytes that an
//! output would send. Outputs, configuration and HTTP belong to the collector.

pub mod encode;
mod escape;
pub mod read;
pub mod sink;
