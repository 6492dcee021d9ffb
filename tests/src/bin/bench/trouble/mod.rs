//! Ten minutes of everything that goes wrong with delivery, in a random order: servers and the collector are
//! killed, servers hang, and the collector is started with wrong addresses that are corrected later. Both real
//! servers must have every line once.
//!
//! What is lost without a fault of the collector is kept out: VictoriaMetrics answers before a line is on its
//! disk, so it gets nothing for some seconds before it is killed. And it takes what is meant for an InfluxDB 1
//! as such, so that mistake is not made.

mod arrivals;
mod deck;
mod mistakes;
mod scene;

use crate::figure;
use anyhow::{Context, Result, ensure};
use arrivals::Arrivals;
use deck::{Deck, Event};
use fastrand::Rng;
use scene::Scene;
use std::time::{Duration, Instant};
use system_tests::load::Load;

const SECONDS: u64 = 600;
/// 1,000 lines a second.
const LOAD: Load =
    Load { interval: Duration::from_millis(100), lines: 100, total: 0, series: 5, odd: 0 };
/// The tick that is under way when the collector is killed. On a busy machine the one before it is still in
/// memory, rarely.
const LOST_PER_KILL: f64 = LOAD.lines as f64;

/// For 10 minutes, or the seconds behind the word `trouble`; SEED=N in the environment repeats an order.
pub fn run() -> Result<()> {
    let argument = std::env::args().skip_while(|word| word != "trouble").nth(1);
    let seconds = match argument {
        Some(text) => {
            text.parse().with_context(|| format!("`trouble {text}`: how many seconds?"))?
        }
        None => SECONDS,
    };
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("{seconds} s, SEED={seed}");
    let began = Instant::now();
    let mut scene = Scene::start(Rng::with_seed(seed));
    let mut deck = Deck::new(scene.mistakes());
    while began.elapsed() < Duration::from_secs(seconds) {
        let event = deck.draw(scene.rng());
        println!("{:6.1} s: {}", began.elapsed().as_secs_f64(), scene.name(event));
        scene.meet(event)?;
    }
    scene.drain()?;
    println!("{:6.1} s: all is delivered", began.elapsed().as_secs_f64());
    report(&scene, &deck)
}

fn report(scene: &Scene, deck: &Deck) -> Result<()> {
    let count = |so: fn(&Event) -> bool| deck.drawn().iter().filter(|event| so(event)).count();
    let lives = scene.lives();
    let pushed: u64 = lives.iter().map(|life| life.pushed).sum();
    let kills = lives.iter().filter(|life| life.killed).count();
    println!(
        "{pushed} lines made by {} lives of the collector, {kills} ended by kill -9",
        lives.len()
    );
    println!(
        "servers: {} times killed, {} times stopped for a while; {} wrong addresses, each corrected",
        count(|event| matches!(event, Event::Kill(_))),
        count(|event| matches!(event, Event::Freeze(_))),
        count(|event| matches!(event, Event::Mistake(_))),
    );
    let mut missing = 0;
    for (name, Arrivals { arrived, lost, missing: of_this, resent, torn }) in scene.arrivals() {
        println!(
            "{name}: {arrived} lines once, {lost} lost by kill -9 of the collector; \
             {resent} points stored twice, {torn} torn lines"
        );
        if kills > 0 {
            figure(
                &format!("{name}: lines lost per kill -9 of the collector"),
                lost as f64 / kills as f64,
                "",
                LOST_PER_KILL,
            );
        }
        figure(&format!("{name}: lines missing otherwise"), of_this as f64, "", 0.0);
        missing += of_this;
    }
    let rejected = scene.rejected();
    figure("lines rejected", rejected as f64, "", 0.0);
    ensure!(missing == 0, "{missing} lines are missing");
    ensure!(rejected == 0, "{rejected} lines were rejected");
    Ok(())
}
