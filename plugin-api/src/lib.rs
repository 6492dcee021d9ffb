//! What the collector and its plugins share.
//!
//! A plugin is a shared library with one `impl` [`Plugin`] and one [`export_plugin!`]. Its tables are
//! declared with [`table!`], its options with [`options!`] and [`choice!`]; names, types, units, documentation, the
//! encoding and the answer to `collector describe` all come from those declarations.
//!
//! The types that cross the boundary live in [`abi`]; authors never see them.
#![deny(missing_docs)]

#[cfg(panic = "abort")]
compile_error!(
    "plugins and collector need `panic = \"unwind\"` in the profile: only an unwinding panic can be \
     caught inside the plugin; an aborting one ends the whole collector"
);

pub mod abi;
pub mod describe;
pub mod histogram;
mod lines;
pub mod options;
mod plugin;
#[doc(hidden)]
pub mod privileges;
pub mod rt;
mod table;
pub mod text;

pub use anyhow::{Context, Error, Result, anyhow, bail, ensure};
pub use histogram::Snapshot;
pub use lines::Lines;
pub use options::{Bytes, NoOptions, OptionType, OptionValue, Options};
pub use plugin::{Plugin, Tick};
pub use table::{Exported, FieldDef, FieldValue, Kind, Row, TableDef, TagDef, Text, Unit};

#[doc(hidden)]
pub use {abi_stable, log, serde_json, smallvec};

/// All that a plugin's source needs in scope.
pub mod prelude {
    pub use crate::{
        Bytes, Context as _, Lines, NoOptions, Plugin, Result, Snapshot, Text, Tick, anyhow, bail,
        choice, ensure, export_plugin, log, options, table,
    };
    pub use std::time::Duration;
}
