//! `collector --check-config`: what is wrong in the configuration, nothing else.

use crate::config::options;
use crate::folder;
use crate::settings::{Settings, Usage};
use crate::stdout::print;
use anyhow::{Result, bail};

/// The settings were read, so the file's own keys are right. Those of plugins' sections are compared with what the plugins
/// take, as far as there are plugins.
///
/// # Errors
/// What is wrong in a section.
pub fn check_config(settings: &Settings) -> Result<u8> {
    let configured =
        |name: &str| settings.config.sections.contains_key(name) && settings.chosen(name);
    match folder::open(settings, &configured) {
        Ok(folder) => {
            folder::warn_of_sections_without_plugin(settings, &folder);
            let wrong = folder.plugins.iter().filter_map(|plugin| {
                let options = settings.plugin(&plugin.description.name).options;
                options::to_json(&options, &plugin.description).err()
            });
            let wrong: Vec<String> = wrong.collect();
            if !wrong.is_empty() {
                bail!(Usage(wrong.join("\n")));
            }
        }
        Err(error) if error.is::<Usage>() => return Err(error),
        Err(error) => log::warn!("options of plugins are not checked: {error:#}"),
    }
    let file = settings.file.iter().map(|file| file.display().to_string()).collect::<String>();
    print(&format!("{file}: nothing is wrong with it\n"));
    Ok(0)
}
