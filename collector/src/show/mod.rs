//! What the subcommands print for people.

mod grid;
mod histogram;
mod lines;

use crate::cli::{Settings, Usage};
use crate::config::options;
use crate::encode::Tags;
use crate::folder;
use crate::form::Form;
use crate::load::Plugin;
use crate::read::read;
use crate::runner::text;
use crate::signals;
use crate::sink::{Reports, Sink, Terms, is_report, tells_of_loss};
use crate::tick::Now;
use anyhow::{Context, Result, anyhow};
use plugin_api::Tick;
use plugin_api::abi_stable::std_types::RStr;
use plugin_api::describe::Description;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// `collector list`
///
/// # Errors
/// There is no plugins folder.
pub fn list(settings: &Settings) -> Result<u8> {
    let folder = folder::open(settings)?;
    let mut rows = vec![["NAME", "VERSION", "STATE", "TEXT"].map(str::to_owned)];
    for Plugin { description, .. } in &folder.plugins {
        let state = if settings.plugin(&description.name).enabled { "ready" } else { "disabled" };
        let Description { name, version, text, .. } = description;
        rows.push([name.clone(), version.clone(), state.to_owned(), text.clone()]);
    }
    for refused in &folder.refused {
        let file = refused.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        rows.push([file, "-".to_owned(), "refused".to_owned(), refused.reason.clone()]);
    }
    print(&grid::aligned(&rows, |_| false));
    Ok(0)
}

/// `collector describe NAME`
///
/// # Errors
/// There is no such plugin.
pub fn describe(settings: &Settings, name: &str, json: bool) -> Result<u8> {
    let plugin = folder::one(folder::open(settings)?, name)?;
    print(&if json { format!("{}\n", plugin.json) } else { described(&plugin.description) });
    Ok(0)
}

fn described(plugin: &Description) -> String {
    let Description { name, version, text, tables, options } = plugin;
    let mut out = format!("{name} {version}: {text}\n");
    if options.is_empty() {
        let _ = writeln!(out, "\nno options of its own\n");
    } else {
        let _ = writeln!(out, "\noptions, in [plugin.{name}] with their defaults:");
        let rows: Vec<_> = options
            .iter()
            .map(|o| [format!("  {} = {}", o.name, o.default), o.kind.clone(), o.text.clone()])
            .collect();
        let _ = writeln!(out, "{}", grid::aligned(&rows, |_| false));
    }
    for table in tables {
        let _ = writeln!(out, "table {}: {}", table.name, table.text);
        let tags = table.tags.iter().map(|tag| {
            [format!("  {}", tag.name), "tag".to_owned(), String::new(), tag.text.clone()]
        });
        let fields = table.fields.iter().map(|field| {
            let kind = format!("{:?}", field.kind).to_lowercase();
            let unit = field.unit.suffix().trim_start_matches('_').to_owned();
            [format!("  {}", field.name), kind, unit, field.text.clone()]
        });
        let rows: Vec<_> = tags.chain(fields).collect();
        let _ = writeln!(out, "{}", grid::aligned(&rows, |_| false));
    }
    out.truncate(out.trim_end().len());
    out + "\n"
}

/// `collector once NAME`
///
/// # Errors
/// There is no such plugin, or it fails.
pub fn once(settings: &Settings, name: &str, interval: Duration) -> Result<u8> {
    let plugin = folder::one(folder::open(settings)?, name)?;
    let config = settings.plugin(name);
    let options = options::to_json(&config.options, &plugin.description).map_err(Usage)?;
    let sink = Sink::leak(Terms {
        plugin: name.to_owned(),
        tables: Some(plugin.description.tables.clone()),
        forms: vec![Form::default()],
        reports: if settings.config.reports == Reports::Off { Reports::Off } else { Reports::Full },
        tags: Tags::new(), // the same on every line: no news here
        uint: true,
        limits: config.limits,
        log: |plugin, level, text| log::log!(target: plugin, level, "{text}"),
    });
    let module = plugin.module;
    let told = signals::listen(false)?;
    let failed = |what: &str, reason: String| anyhow!("{name}: {what} failed: {reason}");
    text(module.init()(sink.host(), RStr::from_str(&options))).map_err(|e| failed("init", e))?;

    let began = Instant::now();
    eprintln!("{name}: {} to go, or Ctrl-C", humantime::format_duration(interval));
    let _ = told.end.recv_timeout(interval); // a signal ends the wait, as with bcc's tools
    let elapsed_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let tick = Tick { seq: 0, time_ns: Now::read().wall_ns, elapsed_ns };
    sink.open(tick);
    let called = text(module.call()(&tick, sink.host()));
    let bytes = sink.close().into_only();
    let ended = text(module.deinit()());

    let mut read = read(&bytes).context("reading the plugin's lines back")?;
    if settings.config.reports == Reports::Brief {
        read.retain(|line| !is_report(&line.table) || tells_of_loss(line));
    }
    print(&lines::shown(&read, &tick, &plugin.description));
    called.map_err(|e| failed("call", e))?;
    ended.map_err(|e| failed("deinit", e))?;
    Ok(0)
}

/// To standard output; a reader that has seen enough is no error.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
