//! From a plugin's rows to InfluxDB line protocol, and back.
//!
//! A plugin pushes rows into a [`sink`], which is the host's side of the ABI. Each row is encoded at once, in
//! each [`form`] that an output asks for ([`encoder`], by tables prepared in [`encode`]). [`read`] reads lines back: for tables on a terminal and for tests;
//! [`typed`] those that are to become something else.
//!
//! The collector and the tests of plugins share this crate, so that a test sees the very bytes that an
//! output would send. [`check`] looks at lines that came from a process of less trust. Outputs, configuration and HTTP belong to the collector.

pub mod check;
pub mod encode;
pub mod encoder;
mod escape;
pub mod form;
pub mod read;
mod row;
mod series;
pub mod sink;
mod thin;
pub mod typed;
