//! What is lost when a part of the way ends, by SIGTERM and by kill -9, with one way for lines and with two.

use super::count::{Counted, count};
use super::lines::Lines;
use super::player::{Plan, Stage};
use super::record::INTERVAL;
use super::steady::{begin_ms, by_either, metrics, settle, sleep_until};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::thread;
use std::time::Duration;
use system_tests::fleet;
use system_tests::servers::{Victoria, Vmagent, sum};

/// Shorter than a fleet's, with as many hosts fewer: as many lines a second, and more moments to be hit.
const INTERVAL_MS: i64 = 1_000;
const TICKS: u64 = 34;
/// When something is hit: so far apart that a database has written to its disk in between.
const HITS: [u64; 2] = [10, 24];
/// How long it is down.
const DOWN: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Hosts have the URLs of two vmagents, which write to one database.
    Either,
    /// Hosts write all lines to both of them.
    Both,
    /// And each of those has a database of its own.
    Apart,
    /// Hosts write to the database themselves.
    Direct,
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Agent,
    /// With a flag that has it forward ten times as often.
    HastyAgent,
    /// While the database is down.
    AgentWithBacklog,
    Database,
    Hosts,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Term,
    Kill,
}

type Scene = (&'static str, Way, Part, End);

const SCENES: [Scene; 12] = [
    ("to either vmagent: a vmagent, SIGTERM", Way::Either, Part::Agent, End::Term),
    ("to either vmagent: the database, SIGTERM", Way::Either, Part::Database, End::Term),
    ("to either vmagent: all hosts, SIGTERM", Way::Either, Part::Hosts, End::Term),
    ("to either vmagent: all hosts, kill -9", Way::Either, Part::Hosts, End::Kill),
    ("to either vmagent: a vmagent, kill -9", Way::Either, Part::Agent, End::Kill),
    ("the same with -remoteWrite.flushInterval=100ms", Way::Either, Part::HastyAgent, End::Kill),
    (
        "to either vmagent: a vmagent, kill -9, while the database is down",
        Way::Either,
        Part::AgentWithBacklog,
        End::Kill,
    ),
    ("to either vmagent: the database, kill -9", Way::Either, Part::Database, End::Kill),
    ("to both vmagents: a vmagent, kill -9", Way::Both, Part::Agent, End::Kill),
    (
        "to both vmagents, each with its database: a database, kill -9",
        Way::Apart,
        Part::Database,
        End::Kill,
    ),
    ("without vmagent: the database, SIGTERM", Way::Direct, Part::Database, End::Term),
    ("without vmagent: the database, kill -9", Way::Direct, Part::Database, End::Kill),
];

pub fn run(
    folder: &Path,
    recorded: &Path,
    lines: &Lines,
    hosts: u64,
    is_wanted: impl Fn(usize) -> bool,
) -> Result<()> {
    let hosts = (hosts * INTERVAL_MS as u64 / INTERVAL.as_millis() as u64).max(10);
    println!(
        "{hosts} hosts at {INTERVAL_MS} ms; what is named ends {} times, for {} s",
        HITS.len(),
        DOWN.as_secs()
    );
    println!("| what ends | samples | lost | ticks of hosts | touched | last ticks touched |");
    println!("|---|---|---|---|---|---|");
    let mut broken = Vec::new();
    for (number, scene) in SCENES.into_iter().enumerate().filter(|(number, _)| is_wanted(*number)) {
        let folder = folder.join(format!("scene{number}"));
        let counted = act(&folder, recorded, lines, hosts, scene).context(scene.0)?;
        let Counted { ticks, samples, lost, touched, ends, by_tick } = counted;
        println!("| {} | {samples} | {lost} | {ticks} | {touched} | {ends} |", scene.0);
        if lost > 0 {
            eprintln!("hosts of which something is lost, by tick: {by_tick:?}");
        }
        let (_, way, part, end) = scene;
        let is_safe =
            end == End::Term || way == Way::Apart || part == Part::Agent && way == Way::Both;
        if is_safe && lost > 0 {
            broken.push(scene.0);
        }
    }
    ensure!(broken.is_empty(), "samples are lost: {}", broken.join("; "));
    Ok(())
}

fn act(
    folder: &Path,
    recorded: &Path,
    lines: &Lines,
    hosts: u64,
    (_, way, part, end): Scene,
) -> Result<Counted> {
    let mut victoria = Victoria::of_a_fleet();
    let second = (way == Way::Apart).then(Victoria::of_a_fleet);
    let url = victoria.server.url();
    let other = second.as_ref().map_or(url.clone(), |second| second.server.url());
    let flags = (part == Part::HastyAgent).then_some("-remoteWrite.flushInterval=100ms");
    let agent = |url| Vmagent::of_a_fleet_with(&[url], flags.as_slice());
    let mut agents = [url.clone(), other].map(agent);
    let configs = match way {
        Way::Either => by_either(&agents),
        Way::Both | Way::Apart => {
            let urls = agents.each_ref().map(|agent| agent.server.url());
            let places = [
                ("http://vmagent-1.example.com:8429", &*urls[0]),
                ("http://vmagent-2.example.com:8429", &*urls[1]),
            ];
            let text = fleet::text("collector-vmagent-both.toml", &places);
            [text.clone(), text]
        }
        Way::Direct => {
            let both =
                "\"http://vmagent-1.example.com:8429\", \"http://vmagent-2.example.com:8429\"";
            let text = fleet::text("collector-vmagent.toml", &[(both, &format!("\"{url}\""))]);
            [text.clone(), text]
        }
    };
    let begin_ms = begin_ms(INTERVAL_MS, 1_000 + hosts as i64 * 10);
    let plan = Plan { hosts, interval_ms: INTERVAL_MS, begin_ms, ticks: TICKS, together: false };
    let grid_ns = INTERVAL.as_nanos() as i64;
    let [even, odd] = &configs;
    let stage = Stage::new(folder.to_owned(), plan, (recorded, grid_ns), [even, odd])?;
    let mut player = stage.start()?;
    for (number, tick) in HITS.into_iter().enumerate() {
        // Not always at the same part of a second.
        sleep_until(plan.time_ms(tick) + 300 * number as i64);
        match (part, end) {
            (Part::Agent | Part::HastyAgent, End::Term) => agents[0].server.stop(),
            (Part::Agent | Part::HastyAgent, End::Kill) => agents[0].server.kill9(),
            (Part::Database, End::Term) => victoria.server.stop(),
            (Part::Database, End::Kill) => victoria.server.kill9(),
            (Part::AgentWithBacklog, _) => {
                victoria.server.stop();
                thread::sleep(DOWN);
                agents[0].server.kill9();
            }
            (Part::Hosts, End::Term) => {
                let ended = player.stop()?;
                ensure!(ended.dropped == 0, "{ended}");
                player = stage.start()?;
                continue;
            }
            (Part::Hosts, End::Kill) => {
                player.kill9();
                player = stage.start()?;
                continue;
            }
        }
        thread::sleep(DOWN);
        if part != Part::Database {
            agents[0].server.start();
        }
        if matches!(part, Part::Database | Part::AgentWithBacklog) {
            victoria.server.start();
        }
    }
    player.wait()?;
    let ended = player.finish()?;
    ensure!(ended.dropped == 0 && ended.waiting == 0, "{ended}");
    let mut databases = vec![&victoria];
    databases.extend(&second);
    for agent in &agents {
        let metrics = metrics(&agent.server.url())?;
        for key in
            ["vmagent_remotewrite_packets_dropped_total", "vm_persistentqueue_bytes_dropped_total"]
        {
            let dropped = sum(&metrics, key);
            if dropped > 0.0 {
                eprintln!("{key} of a vmagent: {dropped}");
            }
        }
    }
    settle(&mut agents, &databases)?;
    count(&stage, lines, &databases, way != Way::Direct)
}
