//! One option as [`options!`](crate::options!) declares it.

use super::range::{Bounds, Range, Ranged};
use super::shape::{OptionType, with_allowed};
use crate::describe::PluginOption;
use crate::{Result, bail};
use serde_json::{Map, Value};

/// An option's name, default and range.
#[doc(hidden)]
#[derive(Debug)]
pub struct Declared<T: OptionType> {
    name: &'static str,
    default: T,
    range: Option<Range<T::Item>>,
}

/// An option without a range. A function, so that the compiler points at a type that no option can have.
#[doc(hidden)]
pub fn declare<T: OptionType>(name: &'static str, default: T) -> Declared<T> {
    Declared { name, default, range: None }
}

impl<T: OptionType> Declared<T> {
    /// With a range.
    #[must_use]
    pub fn within(self, bounds: impl Bounds<T::Item>) -> Self
    where
        T::Item: Ranged,
    {
        Self { range: Some(Range::new(bounds)), ..self }
    }

    /// The option out of the object, or its default.
    ///
    /// # Errors
    /// The value is not allowed. Or the default is not in the range: that is an error of the plugin, found
    /// whatever the configuration says, and no panic, since a panic while a plugin is loaded ends the host.
    pub fn take(self, object: &Map<String, Value>) -> Result<T> {
        let Self { name, default, range } = self;
        if let Some(range) = &range
            && let Some(item) = default.items().iter().find(|item| !range.contains(item))
        {
            let item = super::OptionValue::show(item);
            bail!(
                "option `{name}` has a default of {item}, which its range ({range}) does not allow"
            );
        }
        match object.get(name) {
            Some(value) => T::read(&format!("option `{name}`"), value, range.as_ref()),
            None => Ok(default),
        }
    }

    /// For `collector describe`; `text` is the documentation.
    #[must_use]
    pub fn describe(self, text: &str) -> PluginOption {
        PluginOption {
            name: self.name.to_owned(),
            text: text.trim().to_owned(),
            kind: with_allowed(T::kind(), self.range.as_ref()),
            default: self.default.show(),
            also: T::also(),
            capabilities: Vec::new(),
        }
    }
}
