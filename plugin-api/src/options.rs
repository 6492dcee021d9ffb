//! A plugin's options: the section `[plugin.NAME]`, declared once.

use crate::describe::PluginOption;
use crate::{Result, bail};
use serde_json::Value;
use std::time::Duration;

/// The options of a plugin; made by [`crate::options!`].
pub trait Options: Sized {
    /// Reads the JSON object that the host made of the configuration.
    ///
    /// # Errors
    /// Names the option that is unknown or has the wrong type.
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

/// A type that an option can have.
pub trait OptionValue: Sized {
    /// Its type in words of the configuration file.
    const KIND: &'static str;
    /// Reads it; `None` when the type is wrong.
    fn read(value: &Value) -> Option<Self>;
    /// Shows it as JSON.
    fn show(&self) -> Value;
}

impl OptionValue for bool {
    const KIND: &'static str = "true or false";
    fn read(value: &Value) -> Option<Self> {
        value.as_bool()
    }
    fn show(&self) -> Value {
        (*self).into()
    }
}

impl OptionValue for u64 {
    const KIND: &'static str = "whole number";
    fn read(value: &Value) -> Option<Self> {
        value.as_u64()
    }
    fn show(&self) -> Value {
        (*self).into()
    }
}

impl OptionValue for f64 {
    const KIND: &'static str = "number";
    fn read(value: &Value) -> Option<Self> {
        value.as_f64()
    }
    fn show(&self) -> Value {
        (*self).into()
    }
}

impl OptionValue for String {
    const KIND: &'static str = "text";
    fn read(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
    fn show(&self) -> Value {
        self.clone().into()
    }
}

impl OptionValue for Vec<String> {
    const KIND: &'static str = "list of texts";
    fn read(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(String::read).collect()
    }
    fn show(&self) -> Value {
        self.clone().into()
    }
}

impl OptionValue for Duration {
    const KIND: &'static str = "duration such as \"10ms\"";
    fn read(value: &Value) -> Option<Self> {
        humantime::parse_duration(value.as_str()?).ok()
    }
    fn show(&self) -> Value {
        humantime::format_duration(*self).to_string().into()
    }
}

/// Parses the object and refuses keys that are not among the known names.
#[doc(hidden)]
pub fn object(json: &str, known: &[&str]) -> Result<serde_json::Map<String, Value>> {
    let object: serde_json::Map<String, Value> =
        if json.is_empty() { Default::default() } else { serde_json::from_str(json)? };
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) if known.is_empty() => bail!("unknown option `{key}`: this plugin has none"),
        Some(key) => bail!("unknown option `{key}`: known are {}", known.join(", ")),
        None => Ok(object),
    }
}

/// One option out of the object, or its default.
#[doc(hidden)]
pub fn take<T: OptionValue>(
    object: &serde_json::Map<String, Value>,
    name: &str,
    default: impl FnOnce() -> T,
) -> Result<T> {
    match object.get(name) {
        None => Ok(default()),
        Some(value) => match T::read(value) {
            Some(value) => Ok(value),
            None => bail!("option `{name}` must be a {}, not {value}", T::KIND),
        },
    }
}

/// Declares the options of a plugin with their types, defaults and documentation.
///
/// ```
/// use std::time::Duration;
/// plugin_api::options! {
///     /// What `[plugin.bootstrap]` takes.
///     pub struct Bootstrap {
///         /// One line per start and end.
///         events: bool = false,
///         /// Ends of processes that lived shorter are not counted apart.
///         min_duration: Duration = Duration::ZERO,
///     }
/// }
/// let given = <Bootstrap as plugin_api::Options>::from_json(r#"{"events":true}"#).unwrap();
/// assert!(given.events && given.min_duration.is_zero());
/// ```
///
/// Types: `bool`, `u64`, `f64`, `String`, `Vec<String>`, `Duration` (written `"10ms"`, `"2s"`).
#[macro_export]
macro_rules! options {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[doc = $doc:literal])+ $field:ident : $type:ty = $default:expr ),+ $(,)?
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
                Ok(Self {
                    $( $field: $crate::options::take(&object, stringify!($field), || $default)?, )+
                })
            }
            fn describe() -> Vec<$crate::describe::PluginOption> {
                vec![$( $crate::describe::PluginOption {
                    name: stringify!($field).to_owned(),
                    text: concat!($($doc),+).trim().to_owned(),
                    kind: <$type as $crate::OptionValue>::KIND.to_owned(),
                    default: $crate::OptionValue::show(&{ let default: $type = $default; default }),
                } ),+]
            }
        }
    };
}
