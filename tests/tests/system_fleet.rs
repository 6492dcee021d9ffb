//! etc/fleet with real vmagents, real databases and real collectors: its files are what they take, hosts are divided
//! among databases, and a vmagent that ends and starts again costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::time::Duration;
use system_tests::fleet;
use system_tests::load::{Load, pushed};
use system_tests::running::{Home, Running};
use system_tests::servers::{Victoria, Vmagent, executable};
use system_tests::wait;

const HOSTS: [&str; 4] = ["box-1", "box-2", "box-3", "box-4"];
const LOAD: Load =
    Load { interval: Duration::from_millis(100), lines: 50, total: 0, series: 5, odd: 0 };

/// It checks its files, among them one that it would not need.
const DRY: [&str; 2] = ["-dryRun", "-promscrape.config=/dev/null"];

/// The ready configuration of a host, with the load in place of the tools.
fn config(home: &Home, host: &str, agents: [&Vmagent; 2]) -> String {
    let [first, second] = agents.map(|agent| agent.server.url());
    let spool = home.path("spool").display().to_string();
    let ready = fleet::text(
        "collector-vmagent.toml",
        &[
            ("http://vmagent-1.example.com:8429", &*first),
            ("http://vmagent-2.example.com:8429", &*second),
            ("/var/lib/collector/spool", &*spool),
            ("interval = \"10s\"\n", ""),
            ("[tags]", &format!("[tags]\nhost = \"{host}\"")),
        ],
    );
    // The load begins with the keys before any section.
    LOAD.config(home, &[]) + &ready
}

/// Numbers of the load by host.
fn numbers(victoria: &Victoria) -> BTreeMap<String, BTreeSet<u64>> {
    let mut numbers = BTreeMap::<_, BTreeSet<u64>>::new();
    for sample in victoria.samples("{__name__=\"stream_value\"}").into_values().flatten() {
        let new =
            numbers.entry(sample.tags["host"].clone()).or_default().insert(sample.value as u64);
        assert!(new, "{} of {} is there twice", sample.value, sample.tags["host"]);
    }
    numbers
}

#[test]
fn hosts_are_divided_among_databases_and_a_vmagent_that_starts_again_costs_nothing() {
    let victorias = [Victoria::of_a_fleet(), Victoria::of_a_fleet()];
    let urls = victorias.each_ref().map(|victoria| victoria.server.url());
    let mut agents = [Vmagent::of_a_fleet(&urls), Vmagent::of_a_fleet(&urls)];
    let homes = HOSTS.map(|_| Home::new());
    let mut collectors: Vec<Running> = Vec::new();
    for (number, (home, host)) in homes.iter().zip(HOSTS).enumerate() {
        // Every second host has them the other way round.
        let [first, second] = &agents;
        let agents = if number % 2 == 0 { [first, second] } else { [second, first] };
        collectors.push(home.start(&config(home, host, agents)));
    }
    let mut wait_for_more = |lines: u64| {
        for (home, collector) in homes.iter().zip(&mut collectors) {
            let before = pushed(home);
            collector.wait_until("lines", |_| pushed(home) >= before + lines);
        }
    };
    wait_for_more(500);
    agents[0].server.stop();
    wait_for_more(250);
    agents[0].server.start();
    wait_for_more(250);
    agents[1].server.stop();
    agents[1].server.start();
    wait_for_more(250);
    for collector in collectors {
        collector.terminate();
        let ended = collector.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let books = ended.only_books();
        assert!(books.balance() && books.dropped.is_empty(), "{}", ended.stderr);
        assert_eq!(books.waiting, 0, "{}", ended.stderr);
    }
    let wanted: Vec<u64> = homes.iter().map(pushed).collect();
    let mut found = [BTreeMap::new(), BTreeMap::new()];
    wait::until_within(Duration::from_secs(20), "all lines to arrive", || {
        found = victorias.each_ref().map(numbers);
        let count: usize = found.iter().flat_map(BTreeMap::values).map(BTreeSet::len).sum();
        count as u64 >= wanted.iter().sum()
    });
    for (host, wanted) in HOSTS.iter().zip(&wanted) {
        let of = found.each_ref().map(|found| found.get(*host));
        let ([Some(numbers), None] | [None, Some(numbers)]) = of else {
            panic!("{host} is in both databases, or in none");
        };
        assert!(numbers.iter().copied().eq(1..=*wanted), "{} of {wanted} lines", numbers.len());
    }
    assert!(found.iter().all(|found| !found.is_empty()), "all hosts are in one database");
    for victoria in &victorias {
        let dropped = victoria.samples("{__name__=~\".+_interval_ns\"}");
        assert!(dropped.is_empty(), "{:?}", dropped.keys());
        let names = victoria.samples("{host!=\"\"}");
        assert!(
            names.contains_key("stream_half")
                && names.contains_key("collector_output_lines_delivered")
        );
        let shard = victoria.samples("{shard!=\"\"}");
        assert!(shard.is_empty(), "{:?}", shard.keys());
    }
    let hosts = found.each_ref().map(BTreeMap::len);
    println!(
        "TABLE: fleet: {} lines of {hosts:?} hosts in two databases",
        wanted.iter().sum::<u64>()
    );
}

#[test]
fn vmagent_takes_its_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let databases = ["http://127.0.0.1:1".to_owned(), "http://127.0.0.1:2".to_owned()];
    let address = "127.0.0.1:0".parse().expect("an address");
    for count in 1..=2 {
        let flags = fleet::vmagent(folder.path(), address, &databases[..count]);
        let mut vmagent = Command::new(executable("vmagent"));
        let output = vmagent.args(flags).args(DRY).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // What it would not take.
    let wrong = folder.path().join("relabel.yml");
    fs::write(&wrong, "- action: no-such\n").expect("a file");
    let mut flags = fleet::vmagent(folder.path(), address, &databases[..1]);
    flags.retain(|flag| !flag.contains("relabelConfig"));
    flags.push(format!("-remoteWrite.relabelConfig={}", wrong.display()));
    let mut vmagent = Command::new(executable("vmagent"));
    let output = vmagent.args(flags).args(DRY).output().expect("it runs");
    assert!(!output.status.success(), "a wrong file passes");
}
