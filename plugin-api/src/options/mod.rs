//! A plugin's options: the section `[plugin.NAME]`, declared once.
//!
//! [`options!`](crate::options!) declares them, [`choice!`](crate::choice!) a text of which a few are
//! allowed. A wrong value becomes an error of `init` that says the key, the value and what is allowed.

mod bytes;
mod choice;
mod declared;
mod near;
mod range;
mod shape;
mod value;

pub use bytes::Bytes;
pub use range::{Bounds, Range, Ranged};
pub use shape::OptionType;
pub use value::{OptionValue, Unfit};

#[doc(hidden)]
pub use {
    choice::{Choices, all_differ},
    declared::{Declared, declare},
};

use crate::describe::PluginOption;
use crate::{Result, bail};
use serde_json::{Map, Value};

/// The options of a plugin; made by [`crate::options!`].
pub trait Options: Sized {
    /// Reads the JSON object that the host made of the configuration.
    ///
    /// # Errors
    /// Names the option that is unknown, or whose value is not allowed, and what is allowed.
    fn from_json(json: &str) -> Result<Self>;
    /// For `collector describe`, and for the host's own check.
    fn describe() -> Vec<PluginOption>;
}

/// For a plugin that has nothing to set.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoOptions;

impl Options for NoOptions {
    fn from_json(json: &str) -> Result<Self> {
        object(json, &[]).map(|_| Self)
    }
    fn describe() -> Vec<PluginOption> {
        Vec::new()
    }
}

/// Parses the object and refuses keys that are not among the known names.
#[doc(hidden)]
pub fn object(json: &str, known: &[&str]) -> Result<Map<String, Value>> {
    let object: Map<String, Value> =
        if json.is_empty() { Map::new() } else { serde_json::from_str(json)? };
    let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) else {
        return Ok(object);
    };
    if known.is_empty() {
        bail!("unknown option `{key}`: this plugin has none");
    }
    let near = near::nearest(key, known.iter().copied());
    let near = near.map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
    bail!("unknown option `{key}`{near}: known are {}", known.join(", "))
}

/// Declares the options of a plugin with their types, defaults, ranges and documentation.
///
/// ```
/// use plugin_api::prelude::*;
/// use std::time::Duration;
///
/// choice! {
///     /// What events are counted by.
///     pub enum By {
///         /// Nothing: one line for all.
///         None = "",
///         /// The name of the thread.
///         Comm = "comm",
///     }
/// }
///
/// options! {
///     /// What `[plugin.profile]` takes.
///     pub struct Profile {
///         /// Adds a line per value.
///         by: By = By::None,
///         /// Samples per second and CPU.
///         rate: u64 [1..=1000] = 49,
///         /// Shorter ones have no line of their own.
///         min: Duration [..=Duration::from_secs(60)] = Duration::ZERO,
///         /// Memory for stacks.
///         stacks: Bytes [Bytes::kib(64)..] = Bytes::mib(1),
///         /// Only this process; all processes when it is not given.
///         pid: Option<u64> [1..=4_194_304] = None,
///         /// Only these ports; all ports when it is empty.
///         ports: Vec<u64> [1..=65_535] = Vec::new(),
///     }
/// }
///
/// let given = Profile::from_json(r#"{"by":"comm","min":"10ms","stacks":"4MiB","ports":[80]}"#)?;
/// assert_eq!((given.by, given.rate, given.stacks.0), (By::Comm, 49, 4 << 20));
/// assert_eq!((given.pid, given.ports), (None, vec![80]));
///
/// let refused = |json| Profile::from_json(json).unwrap_err().to_string();
/// assert_eq!(
///     refused(r#"{"rate":0}"#),
///     "option `rate` must be a whole number (1 to 1000), not 0"
/// );
/// assert_eq!(
///     refused(r#"{"by":"com"}"#),
///     r#"option `by` must be a text ("" or "comm"), not "com": did you mean "comm"?"#
/// );
/// # use plugin_api::Options;
/// # Ok::<(), plugin_api::Error>(())
/// ```
///
/// | Type | In the configuration | Range |
/// |---|---|---|
/// | `bool` | `true` or `false` | no |
/// | `u64` | a whole number of 0 and more | yes |
/// | `f64` | a number | yes |
/// | `String` | a text | no |
/// | [`Duration`](std::time::Duration) | `"10ms"`, `"2s"`, `"1m 30s"` | yes |
/// | [`Bytes`] | `"64KiB"`, `"1MiB"`, `"512"`, or a whole number of bytes | yes |
/// | an enum of [`choice!`](crate::choice!) | one of its texts | no |
/// | `Vec<T>` of the above | a list | of each item |
/// | `Option<T>` of the above, no list | as `T`; the default when it is not given | of the value |
///
/// A range is written behind the type: `[1..=10]`, `[1..]` or `[..=10]`. The default must lie in it:
/// otherwise no plugin starts, and neither does its first test.
///
/// A range that makes no sense does not compile:
///
/// ```compile_fail
/// plugin_api::options! {
///     /// What `[plugin.wrong]` takes.
///     pub struct Wrong {
///         /// A text has no range: "a `String` option cannot have a range".
///         by: String [1..=2] = String::new(),
///     }
/// }
/// ```
///
/// Neither does an excluded upper bound:
///
/// ```compile_fail
/// plugin_api::options! {
///     /// What `[plugin.wrong]` takes.
///     pub struct Wrong {
///         /// "`1..10` is no range of an option: write `low..=high`, `low..` or `..=high`".
///         rate: u64 [1..10] = 2,
///     }
/// }
/// ```
///
/// Nor an option without documentation, or of a type that is not in the table:
///
/// ```compile_fail
/// plugin_api::options! {
///     /// What `[plugin.wrong]` takes.
///     pub struct Wrong { rate: u64 = 2 }
/// }
/// ```
///
/// ```compile_fail
/// plugin_api::options! {
///     /// What `[plugin.wrong]` takes.
///     pub struct Wrong {
///         /// "an option cannot have the type `u32`".
///         rate: u32 = 2,
///     }
/// }
/// ```
#[macro_export]
macro_rules! options {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident : $type:ty $([ $range:expr ])? = $default:expr
            ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        $vis struct $name {
            $( $(#[doc = $doc])+ pub $field: $type, )+
        }
        impl $crate::Options for $name {
            fn from_json(json: &str) -> $crate::Result<Self> {
                let object = $crate::options::object(json, &[$(stringify!($field)),+])?;
                ::core::result::Result::Ok(Self {
                    $( $field: $crate::options::declare::<$type>(stringify!($field), $default)
                        $(.within($range))?
                        .take(&object)?, )+
                })
            }
            fn describe() -> ::std::vec::Vec<$crate::describe::PluginOption> {
                ::std::vec![
                    $( $crate::options::declare::<$type>(stringify!($field), $default)
                        $(.within($range))?
                        .describe(concat!($($doc),+)), )+
                ]
            }
        }
    };
    ($($other:tt)*) => {
        ::core::compile_error!(
            "options! takes `pub struct NAME { ... }` with one option or more, each written as \
             `/// What it does.` and then `name: type = default,` or \
             `name: type [low..=high] = default,`; a plugin without options uses `NoOptions`"
        );
    };
}

#[cfg(test)]
mod tests;
