//! `collector dashboard`: a Grafana dashboard, made of nothing but the plugins' descriptions.
//!
//! A table gives panels (`panel.rs`) that know nothing of a database; a panel's question is put into words for one
//! (`language/`), and all of it is written as Grafana's JSON (`grafana.rs`).

mod grafana;
mod language;
mod panel;
mod reports;

pub use language::Language;

use crate::capabilities::{self, CapabilitySet};
use crate::folder;
use crate::ledger::collector_plugin;
use crate::metrics;
use crate::settings::Settings;
use crate::stdout::print;
use anyhow::Result;
use log::Level;
use panel::{Group, Panel};
use plugin_api::describe::{Description, Table};

/// A tool's panels in the overview.
const HEADLINES: usize = 3;

/// Prints a dashboard: of these plugins all that their tables say, or, without names, the overview of the collector and
/// of all plugins that are enabled.
///
/// # Errors
/// There is no such plugin.
pub fn dashboard(settings: &Settings, language: Language) -> Result<u8> {
    let folder = folder::open(settings, &|name| settings.chosen(name))?;
    folder::check_names(&folder, settings.only.iter().map(String::as_str))?;
    capabilities::keep(CapabilitySet::empty(), Level::Debug); // nothing is run
    let own = metrics::TABLES.map(Table::new);
    let [programs, maps] = reports::tables();
    let reports = [programs, maps, reports::memory(), Table::new(&collector_plugin::TABLE)];
    let [_, _, memory, _] = &reports;
    let plugins = folder.plugins.iter().map(|plugin| &plugin.description);
    let overview = settings.only.is_empty();
    let mut groups = Vec::new();
    if overview {
        groups.push(Group {
            name: "The collector".to_owned(),
            text: "Whether plugins and outputs are well, and what the collector costs.".to_owned(),
            panels: own.iter().chain([memory]).flat_map(Panel::of_table).collect(),
        });
    }
    for described in plugins.clone() {
        let panels = if overview { headlines(described) } else { all(described, &reports) };
        if panels.is_empty() {
            log::warn!(
                "{}: it describes no table with numbers, so it has no panel",
                described.name
            );
            continue;
        }
        groups.push(Group { name: described.name.clone(), text: described.text.clone(), panels });
    }
    let names: Vec<&str> = match overview {
        true => Vec::new(),
        false => plugins.map(|described| &*described.name).collect(),
    };
    print(&format!("{:#}\n", grafana::dashboard(&groups, &names, language)));
    Ok(0)
}

/// The first panels of its first table.
fn headlines(described: &Description) -> Vec<Panel<'_>> {
    let panels = described.tables.iter().map(Panel::of_table).find(|panels| !panels.is_empty());
    panels.into_iter().flatten().take(HEADLINES).collect()
}

/// Of all its tables; then what its programs and maps missed, and what it costs.
fn all<'a>(described: &'a Description, reports: &'a [Table]) -> Vec<Panel<'a>> {
    let mut panels: Vec<Panel<'_>> = described.tables.iter().flat_map(Panel::of_table).collect();
    if !panels.is_empty() {
        let of_it = reports.iter().flat_map(Panel::of_table);
        panels.extend(of_it.map(|panel| panel.of_plugin(&described.name)));
    }
    panels
}
