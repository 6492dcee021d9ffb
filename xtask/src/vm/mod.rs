//! `vm`: a command in a virtual machine with another kernel.

mod boot;
mod cpio;
mod image;
mod kernel;

pub use boot::{Machine, is_emulators};
pub use cpio::Archive;
pub use image::Image;
pub use kernel::{Kernel, SERIES, Series, newest};

use crate::deps::{self, Need};
use crate::{build, workspace};
use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The longest that a machine may run.
const LIMIT: Duration = Duration::from_secs(15 * 60);

#[derive(clap::Args)]
pub struct Args {
    /// Which kernel
    #[arg(long, default_value = "6.12", value_parser = series())]
    kernel: String,
    /// A file to take along, and its place in the guest (else /root)
    #[arg(long = "file", value_name = "HOST[:GUEST]")]
    files: Vec<String>,
    /// More words for the kernel's command line
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    append: String,
    /// What to run [default: collector --interval 1s --ticks 3]
    #[arg(last = true)]
    command: Vec<String>,
}

pub fn verb(args: &Args) -> Result<ExitCode> {
    deps::ensure(Need::Test)?;
    build::everything()?;
    let kernels = kernels(&args.kernel)?;
    let default = ["collector", "--interval", "1s", "--ticks", "3"].map(str::to_owned);
    let command = if args.command.is_empty() { &default[..] } else { &args.command };
    let mut image = Image::new(&quoted(command))?;
    image.install_tree()?;
    for file in &args.files {
        let (source, place) = file_place(file);
        image.file(Path::new(source), &place)?;
    }
    let folder = Folder::new()?;
    let path = folder.0.join("initramfs");
    image.write(&path)?;

    let mut worst = 0;
    for kernel in &kernels {
        let name = workspace::file_name(&kernel.vmlinuz);
        if kernels.len() > 1 {
            eprintln!("== {name}");
        }
        let (image, append, folder) = (&path, &args.append, &folder.0);
        let mut stdout = std::io::stdout();
        let (limit, silence) = (LIMIT, LIMIT); // a command may be long and say nothing
        let machine = Machine { kernel, image, append, folder, limit, silence };
        let code = machine.run(&mut |text| {
            // A reader that has gone does not stop the command.
            let _ = stdout.write_all(text).and_then(|()| stdout.flush());
        });
        match code {
            Ok(0) => {}
            Ok(code) => eprintln!("{name}: exit code {code}"),
            Err(ref why) => eprintln!("{name}: {why:#}"),
        }
        worst = worst.max(code.unwrap_or(1));
    }
    Ok(ExitCode::from(u8::try_from(worst).unwrap_or(u8::MAX)))
}

/// The words that `--kernel` takes.
pub fn series() -> PossibleValuesParser {
    PossibleValuesParser::new(SERIES.iter().map(|series| series.name).chain(["all"]))
}

/// The kernels of a series, or of all.
pub fn kernels(series: &str) -> Result<Vec<Kernel>> {
    let wanted = SERIES.iter().filter(|known| series == "all" || series == known.name);
    kernel::get(&wanted.collect::<Vec<_>>())
}

/// A folder below target/vm for one run.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Result<Folder> {
        let path = workspace::root().join(format!("target/vm/{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind is in nobody's way.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `HOST` or `HOST:GUEST`.
fn file_place(file: &str) -> (&str, String) {
    match file.split_once(':') {
        Some((source, place)) => (source, place.to_owned()),
        None => (file, format!("/root/{}", workspace::file_name(Path::new(file)))),
    }
}

/// Words for a shell that shall take them as they are.
fn quoted(words: &[String]) -> String {
    let quote = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_gets_the_words_unchanged() {
        let words = ["sh", "-c", "echo 'a  b' $HOME"].map(str::to_owned);
        assert_eq!(quoted(&words), r"'sh' '-c' 'echo '\''a  b'\'' $HOME'");
    }

    #[test]
    fn a_file_lands_in_root_or_where_it_is_told() {
        assert_eq!(file_place("a/prog"), ("a/prog", "/root/prog".to_owned()));
        assert_eq!(file_place("a/prog:/bin/p"), ("a/prog", "/bin/p".to_owned()));
    }
}
