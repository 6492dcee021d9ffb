//! What a person would have seen, kept for those who want to look: `cargo xtask test` puts it into target/pictures.

use std::fs;
use std::path::Path;

/// Keeps a file of that name, if a folder is named by `COLLECTOR_PICTURES`.
///
/// # Panics
/// It cannot be written.
pub fn keep(name: &str, content: &[u8]) {
    if let Some(folder) = std::env::var_os("COLLECTOR_PICTURES") {
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(Path::new(&folder).join(name), content).expect("a picture");
    }
}
