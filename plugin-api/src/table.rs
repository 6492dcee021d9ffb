//! Tables: a measurement's tags and fields, declared once.

use crate::abi::Val;
use crate::{Snapshot, histogram};
use abi_stable::std_types::RStr;
use smallvec::SmallVec;
use std::borrow::Cow;

/// A tag's or text field's value.
pub type Text = Cow<'static, str>;

/// A table: one measurement of line protocol.
#[derive(Debug)]
pub struct TableDef {
    /// The measurement.
    pub name: &'static str,
    /// What a line says.
    pub text: &'static str,
    /// Its tags: few, and with a bounded number of values.
    pub tags: &'static [TagDef],
    /// Its fields.
    pub fields: &'static [FieldDef],
}

/// A tag. An empty value leaves the tag out of the line.
#[derive(Debug)]
pub struct TagDef {
    /// Its key.
    pub name: &'static str,
    /// What it tells apart.
    pub text: &'static str,
}

/// A field.
#[derive(Debug)]
pub struct FieldDef {
    /// Its key; a histogram's fields have keys of their own ([`histogram::wire_names`]).
    pub name: &'static str,
    /// What it says.
    pub text: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
}

/// How a field behaves, and with it its type, which never changes from line to line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `u64`: how often or how much since the last tick.
    Counter,
    /// `i64`: how it is now.
    Gauge,
    /// `f64`: a ratio or a mean.
    Float,
    /// `bool`.
    Flag,
    /// [`Text`].
    Text,
    /// [`Snapshot`]: a distribution; at most one a table.
    Histogram,
}

/// A field's unit; its name ends in the suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A plain number.
    None,
    /// Nanoseconds.
    Ns,
    /// Microseconds.
    Us,
    /// Milliseconds.
    Ms,
    /// Seconds.
    S,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// How names of this unit end.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Ns => "_ns",
            Self::Us => "_us",
            Self::Ms => "_ms",
            Self::S => "_s",
            Self::Bytes => "_bytes",
        }
    }
}

impl FieldDef {
    /// Checked when [`crate::table!`] is compiled: a unit shows in the name.
    #[doc(hidden)]
    #[must_use]
    pub const fn name_shows_unit(&self) -> bool {
        let (name, suffix) = (self.name.as_bytes(), self.unit.suffix().as_bytes());
        if matches!(self.kind, Kind::Histogram) {
            return true; // its own keys get the suffix
        }
        if name.len() < suffix.len() {
            return false;
        }
        let mut i = 0;
        while i < suffix.len() {
            if name[name.len() - suffix.len() + i] != suffix[i] {
                return false;
            }
            i += 1;
        }
        true
    }
}

impl TableDef {
    /// Keys of the fields as they stand on the wire, in the order of a row's values.
    #[must_use]
    pub fn wire_fields(&self) -> Vec<Cow<'static, str>> {
        let mut names = Vec::new();
        for field in self.fields {
            match field.kind {
                Kind::Histogram => {
                    let slots = histogram::wire_names(field.unit.suffix());
                    names.extend(slots.into_iter().map(Cow::Owned));
                }
                _ => names.push(Cow::Borrowed(field.name)),
            }
        }
        names
    }
}

/// A line to be: implemented by the `Row` of every [`crate::table!`].
pub trait Row {
    /// The table that it belongs to.
    const TABLE: &'static TableDef;
    /// Its values, in the table's order.
    fn values<'a>(
        &'a self,
        tags: &mut SmallVec<[RStr<'a>; 8]>,
        fields: &mut SmallVec<[Val<'a>; 16]>,
    );
}

/// A row of a table that the plugin exports, and so may push: `export_tool!` and
/// [`export_plugin!`](crate::export_plugin) implement it for the tables that they name.
///
/// The collector takes no line of another table: it is in nobody's description.
#[diagnostic::on_unimplemented(
    message = "a line of a table that is not exported",
    label = "the collector would refuse this line",
    note = "name the table in the last line of the plugin: `export_tool!(TOOL: table, another_table);`"
)]
pub trait Exported: Row {}

/// Names tables whose rows may be pushed though nothing exports them, as those of tools that only tests run.
#[doc(hidden)]
#[macro_export]
macro_rules! exported {
    ($($table:ident),+ $(,)?) => {
        $( impl $crate::Exported for $table::Row {} )+
    };
}

/// A type that a field of a row can have; an `Option` of `None` leaves the field out.
pub trait FieldValue {
    /// Appends the value.
    fn value<'a>(&'a self, out: &mut SmallVec<[Val<'a>; 16]>);
}

macro_rules! field_values {
    ($($type:ty => $value:expr),+ $(,)?) => {
        $(impl FieldValue for $type {
            fn value<'a>(&'a self, out: &mut SmallVec<[Val<'a>; 16]>) {
                let convert: fn(&'a $type) -> Val<'a> = $value;
                out.push(convert(self));
            }
        })+
    };
}
field_values! {
    u64 => |v| Val::U64(*v),
    i64 => |v| Val::I64(*v),
    f64 => |v| Val::F64(*v),
    bool => |v| Val::Bool(*v),
    Text => |v| Val::Str(RStr::from_str(v)),
}

impl<T: FieldValue> FieldValue for Option<T> {
    fn value<'a>(&'a self, out: &mut SmallVec<[Val<'a>; 16]>) {
        match self {
            Some(value) => value.value(out),
            None => out.push(Val::None),
        }
    }
}

impl FieldValue for Snapshot {
    fn value<'a>(&'a self, out: &mut SmallVec<[Val<'a>; 16]>) {
        self.values(out);
    }
}

/// Declares a table: a module of its name with `Row`, the struct to push, and `TABLE`.
///
/// ```
/// use plugin_api::table;
/// table! {
///     /// Requests served.
///     requests {
///         tags {
///             /// `ok` or `failed`.
///             result,
///         }
///         /// How many.
///         count: counter,
///         sent_bytes: counter(bytes) "Bytes sent.",
///         /// Age of the oldest one waiting; left out when there is none.
///         oldest_ms: gauge(ms) [optional],
///     }
/// }
/// let row = requests::Row { result: "ok".into(), count: 3, sent_bytes: 90, oldest_ms: None };
/// assert_eq!(requests::TABLE.wire_fields(), ["count", "sent_bytes", "oldest_ms"]);
/// # let _ = row;
/// ```
///
/// What a tag or field says stands before it as a doc comment, or behind it as a text.
///
/// An output may ask for counters that accumulate: the collector then sums up `counter` fields, and count, sum
/// and buckets of a `histogram`; everything else stays as it is.
///
/// Kinds: `counter` (u64), `gauge` (i64), `float` (f64), `flag` (bool), `text` ([`Text`]), `histogram`
/// ([`Snapshot`]). Units: `ns`, `us`, `ms`, `s`, `bytes`; a field's name ends in its unit.
#[macro_export]
macro_rules! table {
    ($(#[doc = $doc:literal])+ $name:ident { tags { $($tags:tt)* } $($fields:tt)* }) => {
        $crate::table!(@make [$($doc)+] $name [$($tags)*] [$($fields)*]);
    };
    ($(#[doc = $doc:literal])+ $name:ident { $($fields:tt)* }) => {
        $crate::table!(@make [$($doc)+] $name [] [$($fields)*]);
    };
    (@make [$($doc:literal)+] $name:ident
        [$( $(#[doc = $tag_doc:literal])* $tag:ident $($tag_text:literal)? ),* $(,)?]
        [$( $(#[doc = $field_doc:literal])* $field:ident : $kind:ident $(($unit:ident))? $([$opt:ident])? $($field_text:literal)? ),+ $(,)?]
    ) => {
        $(#[doc = $doc])+
        #[allow(missing_docs)]
        pub mod $name {
            /// One line of the table.
            #[derive(Clone, Debug)]
            pub struct Row {
                $( $(#[doc = $tag_doc])* $(#[doc = $tag_text])? pub $tag: $crate::Text, )*
                $( $(#[doc = $field_doc])* $(#[doc = $field_text])? pub $field: $crate::table!(@opt ($crate::table!(@type $kind)) $($opt)?), )+
            }

            /// The table's declaration.
            pub static TABLE: $crate::TableDef = $crate::TableDef {
                name: stringify!($name),
                text: concat!($($doc),+),
                tags: &[$( $crate::TagDef { name: stringify!($tag), text: concat!($($tag_doc,)* $($tag_text)?) } ),*],
                fields: FIELDS,
            };
            const FIELDS: &[$crate::FieldDef] = &[$( $crate::FieldDef {
                name: stringify!($field),
                text: concat!($($field_doc,)* $($field_text)?),
                kind: $crate::table!(@kind $kind),
                unit: $crate::table!(@unit $($unit)?),
            } ),+];
            const _: () = {
                $($( $crate::table!(@property $opt); )?)+
                let mut i = 0;
                while i < FIELDS.len() {
                    assert!(FIELDS[i].name_shows_unit(), "a field's name must end in its unit, as in `wait_us: counter(us)`");
                    assert!(!FIELDS[i].text.is_empty(), "a field needs a text, as in `execs: counter \"Programs started.\"`");
                    i += 1;
                }
            };

            impl $crate::Row for Row {
                const TABLE: &'static $crate::TableDef = &TABLE;
                fn values<'a>(
                    &'a self,
                    tags: &mut $crate::smallvec::SmallVec<[$crate::abi_stable::std_types::RStr<'a>; 8]>,
                    fields: &mut $crate::smallvec::SmallVec<[$crate::abi::Val<'a>; 16]>,
                ) {
                    let _ = &tags;
                    $( tags.push($crate::abi_stable::std_types::RStr::from_str(&self.$tag)); )*
                    $( $crate::FieldValue::value(&self.$field, fields); )+
                }
            }
        }
    };
    (@opt ($type:ty)) => { $type };
    (@opt ($type:ty) optional) => { Option<$type> };
    (@opt ($type:ty) $other:ident) => { Option<$type> }; // @property says what is wrong
    (@property optional) => {};
    (@property $other:ident) => {
        ::core::compile_error!(concat!(
            "`[", stringify!($other), "]` is nothing that a field can be: write `[optional]` when it may have no value"
        ));
    };
    (@type counter) => { u64 };
    (@type gauge) => { i64 };
    (@type float) => { f64 };
    (@type flag) => { bool };
    (@type text) => { $crate::Text };
    (@type histogram) => { $crate::Snapshot };
    (@type $other:ident) => { u64 }; // @kind says what is wrong
    (@kind counter) => { $crate::Kind::Counter };
    (@kind gauge) => { $crate::Kind::Gauge };
    (@kind float) => { $crate::Kind::Float };
    (@kind flag) => { $crate::Kind::Flag };
    (@kind text) => { $crate::Kind::Text };
    (@kind histogram) => { $crate::Kind::Histogram };
    (@kind $other:ident) => {{
        ::core::compile_error!(concat!(
            "`", stringify!($other), "` is no kind of a field: the kinds are counter, gauge, float, flag, text and histogram"
        ));
        $crate::Kind::Counter
    }};
    (@unit) => { $crate::Unit::None };
    (@unit ns) => { $crate::Unit::Ns };
    (@unit us) => { $crate::Unit::Us };
    (@unit ms) => { $crate::Unit::Ms };
    (@unit s) => { $crate::Unit::S };
    (@unit bytes) => { $crate::Unit::Bytes };
    (@unit $other:ident) => {{
        ::core::compile_error!(concat!(
            "`", stringify!($other), "` is no unit of a field: the units are ns, us, ms, s and bytes; a plain number has none"
        ));
        $crate::Unit::None
    }};
    ($($other:tt)*) => {
        ::core::compile_error!(
            "table! takes `/// What a line says.` and `NAME { ... }`: first `tags { name \"Text.\", }`, if any, then one \
             field or more, each written as `name: kind \"Text.\",` or `name: kind(unit) [optional] \"Text.\",`; the kinds \
             are counter, gauge, float, flag, text and histogram, the units ns, us, ms, s and bytes"
        );
    };
}
