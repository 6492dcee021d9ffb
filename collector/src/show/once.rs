//! `collector once NAME`: a plugin's lines for people.

use super::lines;
use crate::capabilities::{self, Held};
use crate::cli::{Settings, Usage, Width};
use crate::config::options;
use crate::encode::Tags;
use crate::folder;
use crate::form::Form;
use crate::messages;
use crate::read::read;
use crate::runner::{init, text};
use crate::signals::{self, HangUp};
use crate::sink::{Reports, Sink, Terms, is_report, tells_of_loss};
use crate::stdout::print;
use crate::tick::Now;
use anyhow::{Context, Result, anyhow};
use log::Level;
use plugin_api::{Tick, privileges};
use std::time::{Duration, Instant};

/// Starts a plugin, calls it after each of `count` intervals, shows its lines, ends it.
///
/// # Errors
/// There is no such plugin, or it fails.
pub fn once(
    settings: &Settings,
    name: &str,
    interval: Duration,
    count: u64,
    width: Width,
) -> Result<u8> {
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
    if let Some(missing) = privileges::missing() {
        log::warn!("{missing}");
    }
    capabilities::keep(plugin.capabilities, Level::Debug);
    let told = signals::listen(HangUp::of_a_command(), false)?;
    let failed = |what: &str, reason: String| anyhow!("{name}: {what} failed: {reason}");
    let mut held = Held::take(name, plugin.capabilities);
    init(&mut held, name, module, sink, &options).map_err(|e| failed("init", e))?;

    let mut since = Instant::now();
    let left = humantime::format_duration(interval);
    messages::say(format!("{name}: {left} to go, or Ctrl-C\n").as_bytes());
    for seq in 0..count {
        // A signal ends the wait, as with bcc's tools.
        let told = told.end.recv_timeout(interval).is_ok();
        let now = Instant::now();
        let elapsed_ns = u64::try_from((now - since).as_nanos()).unwrap_or(u64::MAX);
        let tick = Tick { seq, time_ns: Now::read().wall_ns, elapsed_ns };
        sink.open(tick);
        let called = text(module.call()(&tick, sink.host()));
        let bytes = sink.close().into_only();
        let mut read = read(&bytes).context("reading the plugin's lines back")?;
        if settings.config.reports == Reports::Brief {
            read.retain(|line| !is_report(&line.table) || tells_of_loss(line));
        }
        print(&lines::shown(&read, &tick, &plugin.description, width.columns()));
        if let Err(reason) = called {
            let _ = text(module.deinit()()); // the first reason is the one to tell
            return Err(failed("call", reason));
        }
        since = now;
        if told {
            break;
        }
    }
    text(module.deinit()()).map_err(|e| failed("deinit", e))?;
    Ok(0)
}
