//! An option that is one of a few texts.

use super::near::nearest;
use super::value::Unfit;
use serde_json::Value;

/// The variants of an enum with their texts.
#[doc(hidden)]
#[derive(Debug)]
pub struct Choices<T: 'static>(pub &'static [(T, &'static str)]);

impl<T: Copy> Choices<T> {
    /// `"a", "b" or "c"`
    #[must_use]
    pub fn allowed(&self) -> String {
        let quoted: Vec<String> = self.0.iter().map(|(_, text)| format!("{text:?}")).collect();
        match &*quoted {
            [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
            quoted => quoted.concat(),
        }
    }

    /// Reads one of the texts.
    ///
    /// # Errors
    /// It is another one, or no text.
    pub fn read(&self, value: &Value) -> Result<T, Unfit> {
        let given = value.as_str().ok_or(Unfit::Type)?;
        if let Some((variant, _)) = self.0.iter().find(|(_, text)| *text == given) {
            return Ok(*variant);
        }
        Err(match nearest(given, self.0.iter().map(|(_, text)| *text)) {
            Some(near) => Unfit::Because(format!("did you mean {near:?}?")),
            None => Unfit::Type,
        })
    }
}

/// Whether no text stands there twice.
#[doc(hidden)]
#[must_use]
pub const fn all_differ(texts: &[&str]) -> bool {
    let mut i = 0;
    while i < texts.len() {
        let mut j = i + 1;
        while j < texts.len() {
            if same(texts[i].as_bytes(), texts[j].as_bytes()) {
                return false;
            }
            j += 1;
        }
        i += 1;
    }
    true
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// Declares an option's type that is one of a few texts: an enum that is `Copy`, `Eq` and `Hash`.
///
/// The text in the configuration must match exactly. `text` gives it back, for a tag's value; `ALL` has all
/// variants in the order of their declaration.
///
/// ```
/// plugin_api::choice! {
///     /// What the lines are split by.
///     pub enum By {
///         /// Not at all.
///         None = "",
///         /// The name of the thread.
///         Comm = "comm",
///     }
/// }
/// assert_eq!(By::Comm.text(), "comm");
/// assert_eq!(By::ALL, [By::None, By::Comm]);
/// ```
///
/// Two variants with one text do not compile:
///
/// ```compile_fail
/// plugin_api::choice! {
///     /// What the lines are split by.
///     pub enum By {
///         /// The name of the thread.
///         Comm = "comm",
///         /// "two variants of `By` have the same text".
///         Name = "comm",
///     }
/// }
/// ```
///
/// Nor does a variant without its text or its documentation:
///
/// ```compile_fail
/// plugin_api::choice! {
///     /// What the lines are split by.
///     pub enum By { Comm = "comm" }
/// }
/// ```
#[macro_export]
macro_rules! choice {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $( $(#[doc = $doc:literal])+ $variant:ident = $text:literal ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis enum $name {
            $( $(#[doc = $doc])+ $variant, )+
        }
        #[allow(dead_code, reason = "a plugin may need neither")]
        impl $name {
            /// All variants, in the order of their declaration.
            pub const ALL: &[Self] = &[$( Self::$variant ),+];

            /// Its text in the configuration.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $( Self::$variant => $text, )+
                }
            }
        }
        const _: () = ::core::assert!(
            $crate::options::all_differ(&[$($text),+]),
            concat!("two variants of `", stringify!($name), "` have the same text"),
        );
        impl $crate::OptionValue for $name {
            const KIND: &'static str = "text";
            const KINDS: &'static str = "texts";
            fn allowed() -> ::std::string::String {
                $crate::options::Choices(&[$( (Self::$variant, $text) ),+]).allowed()
            }
            fn read(
                value: &$crate::serde_json::Value,
            ) -> ::core::result::Result<Self, $crate::options::Unfit> {
                $crate::options::Choices(&[$( (Self::$variant, $text) ),+]).read(value)
            }
            fn show(&self) -> $crate::serde_json::Value {
                self.text().into()
            }
        }
    };
    ($($other:tt)*) => {
        ::core::compile_error!(
            "choice! takes `pub enum NAME { ... }` with one variant or more, each written as \
             `/// What it does.` and then `Variant = \"text\",`"
        );
    };
}
