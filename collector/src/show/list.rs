//! `collector list`: what lies in the plugins folder.

use super::grid;
use crate::cli::{Settings, Width};
use crate::folder;
use crate::load::Plugin;
use crate::stdout::print;
use anyhow::Result;
use plugin_api::describe::Description;

/// Lists plugins, and files that are none. Whether a plugin can attach is for `check`: listing runs none.
///
/// # Errors
/// There is no plugins folder, or a plugin that is named is not in it.
pub fn list(settings: &Settings, width: Width) -> Result<u8> {
    let folder = folder::open(settings)?;
    let listed = |name: &str| settings.only.is_empty() || settings.only.iter().any(|n| n == name);
    let refused: Vec<_> = folder.refused.iter().filter(|r| listed(&r.name())).collect();
    let named = settings.only.iter().map(String::as_str);
    folder::check_names(&folder, named.filter(|name| refused.iter().all(|r| r.name() != *name)))?;
    let mut rows = vec![["NAME", "VERSION", "STATE", "TEXT"].map(str::to_owned)];
    for Plugin { description, .. } in &folder.plugins {
        let Description { name, version, text, .. } = description;
        if listed(name) {
            let state = if settings.plugin(name).enabled { "loads" } else { "disabled" };
            rows.push([name.clone(), version.clone(), state.to_owned(), text.clone()]);
        }
    }
    for refused in refused {
        let file = refused.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        rows.push([file, "-".to_owned(), "refused".to_owned(), refused.reason.clone()]);
    }
    if rows.len() == 1 {
        log::warn!("the plugins folder holds no *.so file");
    }
    print(&grid::aligned(&rows, |_| false, width.columns()));
    Ok(0)
}
