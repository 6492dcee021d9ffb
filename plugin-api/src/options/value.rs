//! Types of one value: a number, a text, a duration.

use serde_json::Value;
use std::time::Duration;

/// Why a value of the configuration does not fit an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The JSON type is wrong.
    Type,
    /// The end of a sentence: `it is negative`.
    Because(String),
}

/// One value of the configuration: a number, a text, a duration.
///
/// [`choice!`](crate::choice!) implements it. A list or an optional value is an
/// [`OptionType`](super::OptionType), made of this.
#[diagnostic::on_unimplemented(
    message = "an option cannot have the type `{Self}`",
    label = "no type of an option",
    note = "types are bool, u64, f64, String, Duration, Bytes and enums of `choice!`, and `Vec` and `Option` of these"
)]
pub trait OptionValue: Sized {
    /// Its type in words of the configuration file, without an article: `whole number`.
    const KIND: &'static str;
    /// The plural: `whole numbers`.
    const KINDS: &'static str;

    /// The allowed values in words, when they are few: `"a" or "b"`. Empty: the type says it all.
    fn allowed() -> String {
        String::new()
    }

    /// Another form that the configuration may have, as a JSON value: a size is a text or a number.
    fn also() -> Option<Value> {
        None
    }

    /// Reads it.
    ///
    /// # Errors
    /// Why the value does not fit.
    fn read(value: &Value) -> Result<Self, Unfit>;

    /// Shows it as JSON that [`OptionValue::read`] reads.
    fn show(&self) -> Value;
}

impl OptionValue for bool {
    const KIND: &'static str = "true or false";
    const KINDS: &'static str = "true or false";
    fn read(value: &Value) -> Result<Self, Unfit> {
        value.as_bool().ok_or(Unfit::Type)
    }
    fn show(&self) -> Value {
        (*self).into()
    }
}

impl OptionValue for u64 {
    const KIND: &'static str = "whole number";
    const KINDS: &'static str = "whole numbers";
    fn read(value: &Value) -> Result<Self, Unfit> {
        if let Some(number) = value.as_u64() {
            return Ok(number);
        }
        let number = value.as_f64().ok_or(Unfit::Type)?;
        Err(Unfit::Because(if number < 0.0 {
            "it is negative".to_owned()
        } else if number.fract() != 0.0 {
            "it has a fraction".to_owned()
        } else if number >= 2f64.powi(64) {
            too_large()
        } else {
            format!("write {number:.0}, without a decimal point")
        }))
    }
    fn show(&self) -> Value {
        (*self).into()
    }
}

pub(super) fn too_large() -> String {
    format!("it is larger than {}", u64::MAX)
}

impl OptionValue for f64 {
    const KIND: &'static str = "number";
    const KINDS: &'static str = "numbers";
    fn read(value: &Value) -> Result<Self, Unfit> {
        value.as_f64().ok_or(Unfit::Type)
    }
    fn show(&self) -> Value {
        (*self).into()
    }
}

impl OptionValue for String {
    const KIND: &'static str = "text";
    const KINDS: &'static str = "texts";
    fn read(value: &Value) -> Result<Self, Unfit> {
        value.as_str().map(str::to_owned).ok_or(Unfit::Type)
    }
    fn show(&self) -> Value {
        self.clone().into()
    }
}

impl OptionValue for Duration {
    const KIND: &'static str = "duration such as \"10ms\"";
    const KINDS: &'static str = "durations such as \"10ms\"";
    fn read(value: &Value) -> Result<Self, Unfit> {
        let text = value.as_str().ok_or(Unfit::Type)?;
        humantime::parse_duration(text).map_err(|error| Unfit::Because(error.to_string()))
    }
    fn show(&self) -> Value {
        humantime::format_duration(*self).to_string().into()
    }
}
