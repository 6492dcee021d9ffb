//! A word that is no command: what was likely meant.

use crate::folder;
use crate::nearest::{did_you_mean, nearest};
use crate::settings::{Settings, Usage};
use std::path::Path;

const COMMANDS: [&str; 8] =
    ["check", "dashboard", "describe", "help", "list", "once", "replay", "top"];

/// What to say about it. Opens no plugin.
#[must_use]
pub fn unknown_command(settings: &Settings, word: &str) -> Usage {
    let plugins = folder::find(settings.config.plugins.as_deref());
    let plugins = plugins.map(|dir| names(&dir)).unwrap_or_default();
    if nearest(word, COMMANDS).is_none()
        && let Some(plugin) = nearest(word, plugins.iter().map(String::as_str))
    {
        return Usage(format!(
            "no command `{word}`: `{plugin}` is a plugin. `collector once {plugin}` shows what it counts, \
             `collector --only {plugin}` collects it"
        ));
    }
    let near = did_you_mean(nearest(word, COMMANDS));
    Usage(format!("no command `{word}`{near}: there are {}", COMMANDS.join(", ")))
}

/// What the files of a plugins folder are called: `libNAME.so`.
fn names(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = files.filter_map(|file| {
        let name = file.file_name().into_string().ok()?;
        Some(name.strip_suffix(".so")?.trim_start_matches("lib").to_owned())
    });
    names.collect()
}
