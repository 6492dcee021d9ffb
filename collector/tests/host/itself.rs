//! What the collector says about itself and the plugins.

use crate::process::{Ended, folder, run};

/// `good` for 12 ticks, and 20 more that a machine may stand still for.
fn good(how: &str) -> Ended {
    let plugins = folder(&["good"]);
    let args = ["--interval", "100ms", "--ticks", "32", "--self", how];
    let ended = run(plugins.path(), &args);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended
}

/// Bytes of reports, and of all other lines.
fn bytes(ended: &Ended) -> (usize, usize) {
    let (own, others): (Vec<&str>, Vec<&str>) =
        ended.stdout.lines().partition(|line| line.starts_with("collector_"));
    (own.concat().len(), others.concat().len())
}

#[test]
fn how_a_plugin_is_stands_in_numbers_too() {
    let plugins = folder(&["good", "panics"]);
    let ended = run(plugins.path(), &["--interval", "100ms", "--ticks", "4"]);
    let numbers = |plugin: &str| {
        let last = *ended.about(plugin).last().expect("a line");
        (last.u64("up"), last.u64("state_code"), last.u64("series"))
    };
    assert_eq!(numbers("good"), (1, 0, 2), "{}", ended.stdout);
    let (up, code, _) = numbers("panics");
    assert_eq!((up, code), (0, 4), "{}", ended.stdout);
}

#[test]
fn brief_says_what_is_news_and_sums_up_to_the_same() {
    let (brief, full) = (good("brief"), good("full"));
    let ((brief_own, others), (full_own, _)) = (bytes(&brief), bytes(&full));
    let about = brief.about("good");
    let (reports, full_reports) = (about.len(), full.about("good").len());
    assert!(
        brief_own * full_reports * 2 < full_own * reports,
        "{brief_own} and {full_own} bytes in {reports} and {full_reports} reports, beside {others} of lines"
    );
    assert!(about.iter().all(|line| line.get("up").is_some() && line.get("state").is_some()));
    let versions = about.iter().filter(|line| line.get("version").is_some()).count();
    assert!((1..=4).contains(&versions), "the first, and each tenth after it: {}", brief.stdout);
    let counted = |field: &str| -> u64 {
        let there = about.iter().filter(|line| line.get(field).is_some());
        there.map(|line| line.u64(field)).sum()
    };
    let lines = brief.table("good").count() + brief.table("good_wait").count();
    assert_eq!(counted("lines"), lines as u64, "{}", brief.stdout);
    assert_eq!(counted("errors"), 0);
    let cpu_ns = counted("cpu_ns");
    assert!((10_000..5_000_000_000).contains(&cpu_ns), "{cpu_ns} ns");
    let hosts: Vec<_> = brief.table("collector_host").collect();
    assert!((1..=4).contains(&hosts.len()), "{}", brief.stdout);
    assert!(brief.table("collector_output").count() >= about.len() - 1);
}

#[test]
fn off_says_nothing() {
    let ended = good("off");
    assert_eq!(bytes(&ended).0, 0, "{}", ended.stdout);
    assert!(ended.table("good").count() > 0);
}
