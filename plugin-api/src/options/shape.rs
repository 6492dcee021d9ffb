//! What the type of an option can be: one value, a list of values, a value that may be missing.

use super::range::Range;
use super::value::{OptionValue, Unfit};
use crate::describe::with_article;
use crate::{Result, bail};
use serde_json::Value;

/// The type of an option: an [`OptionValue`], a `Vec` or an `Option` of one.
#[diagnostic::on_unimplemented(
    message = "an option cannot have the type `{Self}`",
    label = "no type of an option",
    note = "types are bool, u64, f64, String, Duration, Bytes and enums of `choice!`, and `Vec` and `Option` of these"
)]
pub trait OptionType: Sized {
    /// The type of its values.
    type Item: OptionValue;

    /// Its type in words of the configuration file, without an article: `list of texts`.
    fn kind() -> String;

    /// Another form that the configuration may have, as a JSON value: a size is a text or a number.
    fn also() -> Option<Value>;

    /// Reads it. `option` begins the sentence of an error: ``option `rate` ``.
    ///
    /// # Errors
    /// A value has the wrong type, is not allowed, or not in the range; the text says what is allowed.
    fn read(option: &str, value: &Value, range: Option<&Range<Self::Item>>) -> Result<Self>;

    /// Shows it as JSON; null when there is no value.
    fn show(&self) -> Value;

    /// Its values.
    fn items(&self) -> &[Self::Item];
}

impl<T: OptionValue> OptionType for T {
    type Item = T;
    fn kind() -> String {
        T::KIND.to_owned()
    }
    fn also() -> Option<Value> {
        <T as OptionValue>::also()
    }
    fn read(option: &str, value: &Value, range: Option<&Range<T>>) -> Result<T> {
        let why = match <T as OptionValue>::read(value) {
            Ok(read) if range.is_none_or(|range| range.contains(&read)) => return Ok(read),
            Ok(_) | Err(Unfit::Type) => String::new(),
            Err(Unfit::Because(why)) => format!(": {why}"),
        };
        let expected = with_article(&with_allowed(T::KIND.to_owned(), range));
        bail!("{option} must be {expected}, not {value}{why}")
    }
    fn show(&self) -> Value {
        OptionValue::show(self)
    }
    fn items(&self) -> &[T] {
        std::slice::from_ref(self)
    }
}

impl<T: OptionValue> OptionType for Vec<T> {
    type Item = T;
    fn kind() -> String {
        format!("list of {}", T::KINDS)
    }
    fn also() -> Option<Value> {
        // A list may mix both forms: the host compares the items with those of this list, none.
        <T as OptionValue>::also().map(|_| Value::Array(Vec::new()))
    }
    fn read(option: &str, value: &Value, range: Option<&Range<T>>) -> Result<Self> {
        let Value::Array(values) = value else {
            let expected = with_article(&with_allowed(Self::kind(), range));
            bail!("{option} must be {expected}, not {value}");
        };
        let option = format!("each item of {option}");
        values.iter().map(|value| <T as OptionType>::read(&option, value, range)).collect()
    }
    fn show(&self) -> Value {
        self.iter().map(OptionValue::show).collect()
    }
    fn items(&self) -> &[T] {
        self
    }
}

impl<T: OptionValue> OptionType for Option<T> {
    type Item = T;
    fn kind() -> String {
        format!("optional {}", T::KIND)
    }
    fn also() -> Option<Value> {
        <T as OptionValue>::also()
    }
    fn read(option: &str, value: &Value, range: Option<&Range<T>>) -> Result<Self> {
        <T as OptionType>::read(option, value, range).map(Some)
    }
    fn show(&self) -> Value {
        self.as_ref().map_or(Value::Null, OptionValue::show)
    }
    fn items(&self) -> &[T] {
        self.as_slice()
    }
}

/// A type with the allowed values in parentheses: `whole number (1 to 10)`.
pub(super) fn with_allowed<T: OptionValue>(kind: String, range: Option<&Range<T>>) -> String {
    match range.map_or_else(T::allowed, ToString::to_string) {
        allowed if allowed.is_empty() => kind,
        allowed => format!("{kind} ({allowed})"),
    }
}
