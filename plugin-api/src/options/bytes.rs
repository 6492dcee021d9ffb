//! Sizes: `"64KiB"`.

use super::value::{OptionValue, Unfit, too_large};
use serde_json::Value;
use std::fmt;

/// A size in bytes, written `"64KiB"`, `"1MiB"`, `"10GiB"`, `"2TiB"`, `"512"` or as a plain number.
///
/// It is shown in the largest unit that divides it.
///
/// ```
/// use plugin_api::Bytes;
/// assert_eq!("64KiB".parse(), Ok(Bytes::kib(64)));
/// assert_eq!(Bytes(1 << 20).to_string(), "1MiB");
/// assert_eq!(Bytes(1500).to_string(), "1500");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// The units with their bytes, the largest first.
const UNITS: [(&str, u64); 4] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl Bytes {
    /// So many KiB, of 1024 bytes.
    ///
    /// # Panics
    /// The size does not fit into a `u64`.
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self::of(n, 1 << 10)
    }

    /// So many MiB, of 1024 KiB.
    ///
    /// # Panics
    /// As [`Bytes::kib`].
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self::of(n, 1 << 20)
    }

    /// So many GiB, of 1024 MiB.
    ///
    /// # Panics
    /// As [`Bytes::kib`].
    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self::of(n, 1 << 30)
    }

    const fn of(n: u64, unit: u64) -> Self {
        Self(n.checked_mul(unit).expect("the size fits into a u64"))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes)) {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{}", self.0),
        }
    }
}

impl std::str::FromStr for Bytes {
    /// The end of a sentence that says why the text is no size.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = match text[digits.len()..].trim_start() {
            "" => 1,
            name => UNITS
                .iter()
                .find_map(|(unit, bytes)| (*unit == name).then_some(*bytes))
                .ok_or("the units are KiB, MiB, GiB and TiB, and bytes have none")?,
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("a size begins with a whole number".to_owned());
        }
        let size = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
        size.map(Self).ok_or_else(too_large)
    }
}

impl OptionValue for Bytes {
    const KIND: &'static str = "size such as \"64KiB\"";
    const KINDS: &'static str = "sizes such as \"64KiB\"";
    fn also() -> Option<Value> {
        Some(0.into())
    }
    fn read(value: &Value) -> Result<Self, Unfit> {
        match value {
            Value::String(text) => text.parse().map_err(Unfit::Because),
            value => u64::read(value).map(Self),
        }
    }
    fn show(&self) -> Value {
        self.to_string().into()
    }
}
