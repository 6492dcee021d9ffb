//! Any bytes, read as a table with rows: see [`line_cases::check`].
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use line_cases::{Case, Checked, check};

fuzz_target!(|case: Case| -> Corpus {
    // What is all refused teaches little; the property test has enough of it.
    match check(&case) {
        Checked { lines: 0, .. } => Corpus::Reject,
        _ => Corpus::Keep,
    }
});
