//! A fleet: many hosts with real lines, real vmagents and the real database on this machine. What they take, and what is
//! lost when a part of the way ends.

mod count;
mod day;
mod kills;
mod lines;
pub mod player;
mod record;
mod steady;

use anyhow::Result;
use lines::Lines;
use record::INTERVAL;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::PathBuf;

/// What may be named, beside the number of hosts and a file of lines that were recorded before.
const PARTS: [&str; 3] = ["steady", "day", "kills"];
/// All hosts tick at the same moments.
const TOGETHER: &str = "together";

pub fn run() -> Result<()> {
    let words: Vec<String> = std::env::args().skip_while(|word| word != "fleet").skip(1).collect();
    let hosts = words.iter().find_map(|word| word.parse().ok()).unwrap_or(1000);
    let is_wanted = |part: &str| {
        let named = |name: &&str| words.iter().any(|word| word == name);
        !PARTS.iter().any(&named) || named(&part)
    };
    // Connections and spools of all hosts, and the servers' own: children have the same.
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;

    let folder = tempfile::tempdir()?;
    let recorded = words.iter().map(PathBuf::from).find(|path| path.is_file());
    let recorded = match recorded {
        Some(recorded) => recorded,
        None => {
            let file = folder.path().join("recorded");
            record::record(folder.path(), &file)?;
            file
        }
    };
    let lines = Lines::read(&recorded, INTERVAL.as_nanos() as i64)?;
    tell(&lines);
    if is_wanted("steady") {
        let together = words.iter().any(|word| word == TOGETHER);
        steady::run(folder.path(), &recorded, &lines, hosts, together)?;
    }
    if is_wanted("day") {
        day::run(&lines)?;
    }
    if is_wanted("kills") {
        let scenes: Vec<usize> =
            words.iter().filter_map(|word| word.strip_prefix("scene")?.parse().ok()).collect();
        let is_wanted = |number| scenes.is_empty() || scenes.contains(&number);
        kills::run(folder.path(), &recorded, &lines, hosts, is_wanted)?;
    }
    Ok(())
}

/// What a host sends, by tool.
fn tell(lines: &Lines) {
    println!("| table | lines a tick | samples a tick | series | series by relabel.yml |");
    println!("|---|---|---|---|---|");
    for (tool, share) in lines.shares() {
        println!(
            "| {tool} | {:.1} | {:.1} | {} | {} |",
            share.lines, share.samples, share.series, share.series_kept
        );
    }
    println!(
        "| all | {:.0} | {:.0} | {} | {} |",
        lines.mean(|tick| tick.lines),
        lines.mean(|tick| tick.samples),
        lines.shares().values().map(|share| share.series).sum::<usize>(),
        lines.shares().values().map(|share| share.series_kept).sum::<usize>()
    );
    println!(
        "{:.0} bytes a tick; {} ticks were recorded; {} lines with times of their own are left out",
        lines.mean(|tick| tick.bytes),
        lines.ticks().len(),
        lines.left_out
    );
}
