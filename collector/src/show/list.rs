//! `collector list`: what lies in the plugins folder.

use super::{Width, grid};
use crate::folder;
use crate::load::Plugin;
use crate::settings::Settings;
use crate::stdout::print;
use anyhow::Result;
use plugin_api::describe::Description;

/// Lists plugins, and files that are none. Whether a plugin can attach is for `check`: listing runs none.
///
/// # Errors
/// There is no plugins folder, or a plugin that is named is not in it.
pub fn list(settings: &Settings, width: Width) -> Result<u8> {
    let listed = |name: &str| settings.only.is_empty() || settings.only.iter().any(|n| n == name);
    let enabled = |name: &str| settings.plugin(name).enabled;
    let folder = folder::open(settings, &|name| listed(name) && enabled(name))?;
    let is_refused = |name: &str| folder.refused.iter().any(|refused| refused.name() == name);
    let named = settings.only.iter().map(String::as_str);
    folder::check_names(&folder, named.filter(|name| !is_refused(name)))?;
    let mut rows = Vec::new();
    for Plugin { description, .. } in &folder.plugins {
        let Description { name, version, text, .. } = description;
        rows.push([name.clone(), version.clone(), "loads".to_owned(), text.clone()]);
    }
    for name in folder.unopened.iter().filter(|name| listed(name)) {
        let text = format!("[plugin.{name}] says enabled = false: its file is not opened");
        rows.push([name.clone(), "-".to_owned(), "disabled".to_owned(), text]);
    }
    rows.sort();
    for refused in folder.refused.iter().filter(|refused| listed(&refused.name())) {
        let file = refused.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        rows.push([file, "-".to_owned(), "refused".to_owned(), refused.reason.clone()]);
    }
    rows.insert(0, ["NAME", "VERSION", "STATE", "TEXT"].map(str::to_owned));
    if rows.len() == 1 {
        log::warn!("the plugins folder holds no *.so file");
    }
    print(&grid::aligned(&rows, |_| false, width.columns()));
    Ok(0)
}
