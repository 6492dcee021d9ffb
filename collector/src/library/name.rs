//! What a plugin is called: it is known by its file before that is opened.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What a plugin is called: `NAME` of its file `libNAME.so` or `NAME.so`.
#[must_use]
pub fn name_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.strip_prefix("lib").unwrap_or(&stem).to_owned()
}

/// Whether a file in a plugins folder is to be a plugin. Hidden files and other names are nobody's business here.
#[must_use]
pub fn is_plugin(file: &OsStr) -> bool {
    file.as_bytes().ends_with(b".so") && !file.as_bytes().starts_with(b".")
}

/// Whether a name can be a section, a tag, a thread's name and a word on the command line.
///
/// # Errors
/// The name, and what is allowed.
pub fn check_name(name: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !name.is_empty() && name.chars().all(good) {
        return Ok(());
    }
    Err(format!("{name:?}: letters, digits, `_`, `-` and `.` are allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugins_name_can_stand_everywhere() {
        for (name, good) in [
            ("runqlat", true),
            ("tcp-rtt_2.1", true),
            ("", false),
            ("a b", false),
            ("a\0", false),
            ("a/b", false),
        ] {
            assert_eq!(check_name(name).is_ok(), good, "{name:?}");
        }
    }
}
