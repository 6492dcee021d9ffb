//! The types that cross from the collector into a plugin and back.
//!
//! [`PluginModule`] and [`Host`] are prefix types: fields may be appended in a minor version, and an
//! older side then sees `None`. Everything else here is frozen within a major version, down to the
//! names of fields; abi_stable compares the layouts when a plugin is loaded.
#![allow(missing_docs, reason = "abi_stable's derives generate undocumented items")]

use abi_stable::{
    StableAbi, declare_root_module_statics,
    library::RootModule,
    package_version_strings,
    sabi_types::VersionStrings,
    std_types::{RBoxError, RResult, RSlice, RStr},
};

/// When a call happens and how much time it covers.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Number of the tick since this plugin started, from 0.
    pub seq: u64,
    /// Wall clock of the tick in nanoseconds since 1970 UTC: a multiple of the plugin's interval, and
    /// the timestamp of every line without its own.
    pub time_ns: i64,
    /// Measured nanoseconds, by the monotonic clock, since the last call that succeeded (or since
    /// `init`). Never the nominal interval: rates must survive a stall and a clock step.
    pub elapsed_ns: u64,
}

/// One field's value.
#[repr(u8)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq)]
pub enum Val<'a> {
    F64(f64),
    I64(i64),
    U64(u64),
    Bool(bool),
    Str(RStr<'a>),
    /// The field is left out of this line.
    None,
}

/// What became of a row. Not an enum: a value that is unknown to this version is no undefined behaviour.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub i32);

impl Status {
    /// The line is in the batch.
    pub const OK: Self = Self(0);
    /// The plugin's cap of lines or bytes for one tick, or of series, is reached, or the tick has a line with the
    /// same table and tags; the host counted the row as dropped.
    pub const FULL: Self = Self(1);
    /// The schema is unknown, the numbers of values do not match it, or no field was left.
    pub const INVALID: Self = Self(2);
    /// Not inside a call.
    pub const CLOSED: Self = Self(3);
}

/// An opaque host object; valid until the process ends.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Ctx(pub usize);

/// The id of a refused schema; rows pushed to it are [`Status::INVALID`] and counted as such.
pub const NO_SCHEMA: u32 = u32::MAX;

/// A row's timestamp when it has none of its own: the tick's.
pub const TICK_TIME: i64 = i64::MIN;

/// What the host offers a plugin. Append only.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HostRef, prefix_fields = HostPrefix)))]
pub struct Host {
    /// Registers `(table, tag names, field names)` and returns its id, or [`NO_SCHEMA`] after logging why.
    pub schema: extern "C" fn(Ctx, RStr<'_>, RSlice<'_, RStr<'_>>, RSlice<'_, RStr<'_>>) -> u32,
    /// Encodes one line: tag values (empty ones are left out) and field values in the schema's order,
    /// and a timestamp in nanoseconds since 1970 UTC or [`TICK_TIME`].
    pub row: extern "C" fn(Ctx, u32, RSlice<'_, RStr<'_>>, RSlice<'_, Val<'_>>, i64) -> Status,
    /// Logs a text; the level is `log::Level as u8` (1 error .. 5 trace). Callable from any thread.
    #[sabi(last_prefix_field)]
    pub log: extern "C" fn(Ctx, u8, RStr<'_>),
}

/// A plugin's way to its host, for as long as the process lives.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct HostCtx {
    pub ctx: Ctx,
    pub host: HostRef,
}

/// What init, call and deinit answer: nothing, or a text that says why.
pub type Answer = RResult<(), RBoxError>;

/// How the text of an answer begins when the plugin has panicked: the answer itself has no kind of its own.
pub const PANICKED: &str = "panic at ";

/// A plugin's root module: three verbs and a description. Append only.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginRef, prefix_fields = PluginPrefix)))]
pub struct PluginModule {
    /// [`crate::describe::Description`] as JSON.
    pub describe: RStr<'static>,
    /// Takes the plugin's own configuration as a JSON object; loads and attaches.
    pub init: extern "C" fn(HostCtx, RStr<'_>) -> Answer,
    /// Once per tick.
    pub call: extern "C" fn(&Tick, HostCtx) -> Answer,
    /// Detaches and frees; `init` may follow.
    #[sabi(last_prefix_field)]
    pub deinit: extern "C" fn() -> Answer,
}

/// A byte in the file's symbol table: 1 where the plugin is to run in a process of its own ([`crate::Plugin::ISOLATED`]).
/// A file without it does not ask for one.
pub const ISOLATED_SYMBOL: &str = "collector_plugin_isolated";

impl RootModule for PluginRef {
    declare_root_module_statics! {PluginRef}
    const BASE_NAME: &'static str = "collector_plugin";
    const NAME: &'static str = "collector_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}
