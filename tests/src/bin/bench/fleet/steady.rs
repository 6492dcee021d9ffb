//! The fleet at work, through two vmagents to one database: what it takes, and what ends and starts again on the way.

use super::count::{compare, count, flush};
use super::lines::Lines;
use super::player::{Plan, Player, Stage, now_ms};
use super::record::INTERVAL;
use crate::cpu;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use system_tests::servers::{Victoria, Vmagent, sum};
use system_tests::{fleet, http, wait};

/// Ticks until all series are known, and those that are measured.
const WARM: u64 = 4;
const MEASURED: u64 = 6;
/// Behind the measured ones: a vmagent, the database and the hosts end and start again.
const AGENT: u64 = WARM + MEASURED + 1;
const DATABASE: u64 = AGENT + 2;
const PLAYER: u64 = DATABASE + 3;
const TICKS: u64 = PLAYER + 3;

/// Bytes that came to a server.
const READ: &str = "vm_tcplistener_read_bytes_total";

/// The metrics that a server shows of itself.
pub fn metrics(url: &str) -> Result<String> {
    Ok(http::get(&format!("{url}/metrics"), &[])?.body)
}

/// Begins a plan when its player has had the time to start.
pub fn begin_ms(interval_ms: i64, start_ms: i64) -> i64 {
    (now_ms() + start_ms) / interval_ms * interval_ms + interval_ms
}

/// Waits for a moment of the wall clock.
pub fn sleep_until(time_ms: i64) {
    let left = u64::try_from(time_ms - now_ms()).unwrap_or(0);
    thread::sleep(Duration::from_millis(left));
}

/// The configurations of hosts with even and odd numbers, by two vmagents.
pub fn by_either(agents: &[Vmagent; 2]) -> [String; 2] {
    let urls = agents.each_ref().map(|agent| agent.server.url());
    let text = |one: &str, other: &str| {
        let places = [
            ("http://vmagent-1.example.com:8429", one),
            ("http://vmagent-2.example.com:8429", other),
        ];
        fleet::text("collector-vmagent.toml", &places)
    };
    [text(&urls[0], &urls[1]), text(&urls[1], &urls[0])]
}

/// Waits until vmagents have nothing more for the databases, and those have it where it can be asked for. The vmagents
/// start again for it: what one of them has failed to send it tries again after a pause of up to a minute, and does not
/// count among what waits.
pub fn settle(agents: &mut [Vmagent], databases: &[&Victoria]) -> Result<()> {
    for agent in &mut *agents {
        agent.server.stop();
        agent.server.start();
    }
    let inserted = || -> Result<Vec<u64>> {
        let of = |database: &&Victoria| {
            Ok(sum(&metrics(&database.server.url())?, "vm_rows_inserted_total") as u64)
        };
        databases.iter().map(of).collect()
    };
    let (mut last, mut since) = (inserted()?, Instant::now());
    wait::until("nothing more to come", || {
        let Ok(now) = inserted() else { return false };
        if now != last || agents.iter().any(|agent| agent.pending() > 0) {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_secs(5)
    });
    databases.iter().try_for_each(|database| flush(database))
}

/// What is known at a moment.
struct Look {
    at: Instant,
    player: f64,
    agents: f64,
    database: f64,
    /// Bytes that came to vmagents, and to the database.
    wire: [f64; 2],
    rows: f64,
    made: u64,
}

fn look(
    stage: &Stage,
    player: &Player,
    agents: &[Vmagent; 2],
    victoria: &Victoria,
) -> Result<Look> {
    let of_agents = |of: fn(&Vmagent) -> Result<f64>| {
        agents.iter().map(of).try_fold(0.0, |sum, n| Ok::<_, anyhow::Error>(sum + n?))
    };
    let database = metrics(&victoria.server.url())?;
    Ok(Look {
        at: Instant::now(),
        player: player.cpu()?,
        agents: of_agents(|agent| cpu::seconds_of_all(agent.server.pid()))?,
        database: cpu::seconds_of_all(victoria.server.pid())?,
        wire: [
            of_agents(|agent| Ok(sum(&metrics(&agent.server.url())?, READ)))?,
            sum(&database, READ),
        ],
        rows: sum(&database, "vm_rows_inserted_total"),
        made: stage.made()?.iter().map(|made| u64::from(*made)).sum(),
    })
}

fn resident_mib(pid: impl std::fmt::Display) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

pub fn run(
    folder: &Path,
    recorded: &Path,
    lines: &Lines,
    hosts: u64,
    together: bool,
) -> Result<()> {
    let mut victoria = Victoria::of_a_fleet();
    let urls = [victoria.server.url()];
    let mut agents = [Vmagent::of_a_fleet(&urls), Vmagent::of_a_fleet(&urls)];
    let interval_ms = INTERVAL.as_millis() as i64;
    // A host takes some milliseconds to open its spool.
    let begin_ms = begin_ms(interval_ms, 5_000 + hosts as i64 * 5);
    let plan = Plan { hosts, interval_ms, begin_ms, ticks: TICKS, together };
    let [even, odd] = by_either(&agents);
    let grid_ns = INTERVAL.as_nanos() as i64;
    let stage = Stage::new(folder.join("steady"), plan, (recorded, grid_ns), [&even, &odd])?;
    let mut player = stage.start()?;
    ensure!(now_ms() < begin_ms, "the hosts took too long to start");

    sleep_until(plan.time_ms(WARM));
    let before = look(&stage, &player, &agents, &victoria)?;
    sleep_until(plan.time_ms(WARM + MEASURED));
    let after = look(&stage, &player, &agents, &victoria)?;
    let seconds = (after.at - before.at).as_secs_f64();
    let made = (after.made - before.made) as f64;
    let per_day = |of: f64| of / made * 86_400.0 / INTERVAL.as_secs_f64() / 1e6;
    let share = |before: f64, after: f64| (after - before) / seconds * 100.0;
    let mean = made / seconds;
    println!(
        "| {hosts} hosts at {} s, through two vmagents to one database | |",
        INTERVAL.as_secs()
    );
    println!("|---|---|");
    println!("| lines/s | {:.0} |", mean * lines.mean(|tick| tick.lines));
    println!("| samples/s, made | {:.0} |", mean * lines.mean(|tick| tick.samples));
    println!("| samples/s without interval_ns | {:.0} |", mean * lines.mean(|tick| tick.kept));
    println!("| samples/s, into the database | {:.0} |", (after.rows - before.rows) / seconds);
    println!(
        "| CPU of the hosts' outputs, all together | {:.1} % |",
        share(before.player, after.player)
    );
    println!("| CPU of both vmagents | {:.1} % |", share(before.agents, after.agents));
    println!("| CPU of the database | {:.1} % |", share(before.database, after.database));
    let [one, other] = [0, 1].map(|n| resident_mib(agents[n].server.pid()));
    println!("| memory of the vmagents | {:.0} and {:.0} MiB |", one?, other?);
    let memory = resident_mib(victoria.server.pid())?;
    println!("| memory of the database | {memory:.0} MiB |");
    println!("| to vmagent, a host and day | {:.1} MB |", per_day(after.wire[0] - before.wire[0]));
    // What is under way is not what was made in that time.
    let bytes = (after.wire[1] - before.wire[1]) / (after.rows - before.rows);
    let kept = lines.mean(|tick| tick.kept);
    let forwarded = bytes * kept * made;
    println!("| from vmagent to the database, a host and day | {:.1} MB |", per_day(forwarded));
    let metrics = metrics(&victoria.server.url())?;
    let created = sum(&metrics, "vm_new_timeseries_created_total");
    println!("| series in the database, a host | {:.0} |", created / hosts as f64);

    sleep_until(plan.time_ms(AGENT) + 3_000);
    agents[0].server.stop();
    thread::sleep(Duration::from_secs(5));
    agents[0].server.start();
    sleep_until(plan.time_ms(DATABASE) + 3_000);
    victoria.server.stop();
    thread::sleep(Duration::from_secs(10));
    victoria.server.start();
    sleep_until(plan.time_ms(PLAYER) + 3_000);
    let ended = player.stop()?;
    ensure!(ended.dropped == 0, "{ended}");
    player = stage.start()?;
    player.wait()?;
    let last = player.finish()?;
    ensure!(last.dropped == 0 && last.waiting == 0, "{last}");
    settle(&mut agents, &[&victoria])?;
    let counted = count(&stage, lines, &[&victoria], true)?;
    println!(
        "| a vmagent, the database and all hosts end (SIGTERM) and start again: lost | {} of {} samples |",
        counted.lost, counted.samples
    );
    println!(
        "{} ticks of hosts were made of {}; hosts: first {ended}; then {last}",
        counted.ticks,
        hosts * TICKS
    );
    ensure!(counted.lost == 0, "lost: {counted:?}");
    for host in [0, hosts / 2, hosts - 1] {
        compare(&stage, lines, &victoria, host, true).with_context(|| format!("host {host}"))?;
    }
    Ok(())
}
