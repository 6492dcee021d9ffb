//! `pages FOLDER`: writes `man1`, the manual pages, and `completions`, for three shells, into a folder. All of it comes
//! from the definition of the collector's command line. `cargo xtask dist` runs it: the collector itself needs neither.

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;
use collector::cli::Cli;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).context("usage: pages FOLDER")?;
    write(&PathBuf::from(folder))
}

fn write(folder: &Path) -> Result<()> {
    let (pages, completions) = (folder.join("man1"), folder.join("completions"));
    for folder in [&pages, &completions] {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    clap_mangen::generate_to(Cli::command(), &pages)
        .with_context(|| format!("writing into {}", pages.display()))?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut Cli::command(), "collector", &completions)
            .with_context(|| format!("writing into {}", completions.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_and_each_shell_knows_them() {
        let folder = std::env::temp_dir().join(format!("pages-{}", std::process::id()));
        write(&folder).unwrap();
        let commands = ["list", "check", "once", "top", "replay", "describe", "dashboard"];
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let page = read("man1/collector.1");
        for command in commands {
            assert!(page.contains(&format!("collector\\-{command}(1)")), "{command}: {page}");
            assert!(read(&format!("man1/collector-{command}.1")).contains(".SH SYNOPSIS"));
        }
        for shell in ["collector.bash", "collector.fish", "_collector"] {
            let text = read(&format!("completions/{shell}"));
            assert!(commands.iter().all(|command| text.contains(command)), "{shell}");
            assert!(text.contains("interval"), "{shell}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
