//! The range of an option: `rate: u64 [1..=1000] = 49`.

use super::bytes::Bytes;
use super::value::OptionValue;
use serde_json::Value;
use std::fmt;
use std::ops::{RangeFrom, RangeInclusive, RangeToInclusive};
use std::time::Duration;

/// A type that can have a range.
#[diagnostic::on_unimplemented(
    message = "a `{Self}` option cannot have a range",
    label = "only u64, f64, Duration and Bytes have one, and `Vec` and `Option` of these"
)]
pub trait Ranged: OptionValue + PartialOrd {}

impl Ranged for u64 {}
impl Ranged for f64 {}
impl Ranged for Duration {}
impl Ranged for Bytes {}

/// A range as it is written in [`options!`](crate::options!).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no range of a `{T}` option",
    label = "write `low..=high`, `low..` or `..=high`, with bounds of the option's type"
)]
pub trait Bounds<T> {
    /// The smallest and the largest allowed value.
    fn bounds(self) -> (Option<T>, Option<T>);
}

impl<T> Bounds<T> for RangeInclusive<T> {
    fn bounds(self) -> (Option<T>, Option<T>) {
        let (low, high) = self.into_inner();
        (Some(low), Some(high))
    }
}

impl<T> Bounds<T> for RangeFrom<T> {
    fn bounds(self) -> (Option<T>, Option<T>) {
        (Some(self.start), None)
    }
}

impl<T> Bounds<T> for RangeToInclusive<T> {
    fn bounds(self) -> (Option<T>, Option<T>) {
        (None, Some(self.end))
    }
}

/// The values that an option allows. Shown as `1 to 1000`, `at least 1` or `at most 1000`.
#[derive(Debug)]
pub struct Range<T> {
    low: Option<T>,
    high: Option<T>,
    /// Known where `T` is known to have an order.
    contains: fn(&Self, &T) -> bool,
}

impl<T: Ranged> Range<T> {
    pub(super) fn new(bounds: impl Bounds<T>) -> Self {
        let (low, high) = bounds.bounds();
        let contains = |range: &Self, value: &T| {
            range.low.as_ref().is_none_or(|low| low <= value)
                && range.high.as_ref().is_none_or(|high| value <= high)
        };
        Self { low, high, contains }
    }
}

impl<T> Range<T> {
    /// Whether the value is allowed.
    pub fn contains(&self, value: &T) -> bool {
        (self.contains)(self, value)
    }
}

impl<T: OptionValue> fmt::Display for Range<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bound: &T| match bound.show() {
            Value::String(text) => text,
            other => other.to_string(),
        };
        match (&self.low, &self.high) {
            (Some(low), Some(high)) => write!(f, "{} to {}", text(low), text(high)),
            (Some(low), None) => write!(f, "at least {}", text(low)),
            (None, Some(high)) => write!(f, "at most {}", text(high)),
            (None, None) => Ok(()),
        }
    }
}
