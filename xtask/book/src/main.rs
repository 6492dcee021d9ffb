//! `book FOLDER`: makes the book that FOLDER/book.toml describes, as `mdbook build FOLDER` does. `cargo xtask docs` runs
//! it. The library is compiled without search and the rest of mdBook's program, which take most of the time.

use anyhow::{Context as _, Result};
use mdbook_driver::MDBook;
use std::path::PathBuf;

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).context("usage: book FOLDER")?;
    MDBook::load(PathBuf::from(folder))?.build()
}
