//! One bad plugin costs one plugin.

use crate::process::{Ended, folder, run};
use collector::read::Line;

/// Runs `good` beside a bad one for 12 ticks, and makes sure that it does not notice.
fn beside_good(bad: &str, args: &[&str]) -> Ended {
    beside_good_for(12, bad, args)
}

/// For so many ticks: 20 more than are needed, where a machine that stands still for 2 s may cost none of those.
fn beside_good_for(ticks: u64, bad: &str, args: &[&str]) -> Ended {
    let plugins = folder(&["good", bad]);
    let ticks_text = ticks.to_string();
    let args = [&["--interval", "100ms", "--ticks", &ticks_text], args].concat();
    let ended = run(plugins.path(), &args);
    // 3: rows of the bad one were lost.
    assert!(matches!(ended.code, Some(0 | 3)), "{:?}: {}", ended.code, ended.stderr);
    let good: Vec<u64> = ended.table("good").map(|line| line.u64("calls")).collect();
    assert_eq!(ended.ticks("good"), ticks, "{}", ended.stderr);
    assert!(good.windows(2).all(|two| two[1] == two[0] + 1), "{good:?}");
    // A machine under load may make it late, but never more than that.
    assert_states(&ended, "good", &["loading", "late"], "running");
    assert_eq!(ended.sum("good", "errors"), 0);
    ended
}

/// Makes sure of the state that a plugin is in at the end, and that it was in no others before. When it is looked at
/// first nobody knows.
fn assert_states(ended: &Ended, plugin: &str, before: &[&str], last: &str) {
    let states = ended.states(plugin);
    let known = |state: &String| state == last || before.contains(&&**state);
    assert!(states.iter().all(known), "{plugin}: {states:?}");
    assert_eq!(states.last().unwrap(), last, "{plugin}: {states:?}");
}

#[test]
fn a_plugin_that_panics_is_quarantined_and_started_again_by_itself() {
    let ended = beside_good_for(12 + 20, "panics", &[]);
    assert_states(&ended, "panics", &["loading", "running", "failed"], "quarantined");
    assert!(ended.reasons("panics").contains("panic at "), "{}", ended.reasons("panics"));
    assert!(ended.reasons("panics").contains("as it was told to"));
    // Called at ticks 1, 3, 6, 11, 20 and 31: after 1, 2, 4, 8 and 10 intervals it is started, at the next one called.
    let calls = ended.sum("panics", "calls");
    assert!((2..=6).contains(&calls), "{calls} calls");
    assert_eq!(ended.sum("panics", "errors"), calls);
    assert_eq!(ended.table("panics").count() as u64, calls, "what it pushed before is sent");
}

#[test]
fn a_plugin_whose_calls_fail_is_quarantined_after_three() {
    let ended = beside_good_for(12 + 20, "fails", &[]);
    assert_states(&ended, "fails", &["loading", "running", "failed"], "quarantined");
    assert!(ended.reasons("fails").contains("map `start` cannot be read"));
    assert_eq!(ended.table("fails").count() as u64, ended.sum("fails", "calls"));
    let about = ended.about("fails");
    let first = about.iter().position(|line| line.text("state") == "quarantined").unwrap();
    let calls = |lines: &[&Line]| lines.iter().map(|line| line.u64("calls")).sum::<u64>();
    assert!(calls(&about[..first]) <= 3 && calls(&about[..=first]) >= 3, "{about:?}");
}

#[test]
fn a_plugin_that_cannot_start_says_why_and_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.toml");
    std::fs::write(&config, "[plugin.fails]\nat = \"init\"\n").unwrap();
    let ended = beside_good_for(12 + 20, "fails", &["--config", config.to_str().unwrap()]);
    assert_states(&ended, "fails", &["loading", "failed"], "quarantined");
    assert!(ended.reasons("fails").contains("no such function: tcp_v4_rcv"));
    assert_eq!(ended.sum("fails", "calls"), 0);
    let starts = ended.sum("fails", "errors");
    assert!((2..=7).contains(&starts), "{starts} starts in 32 intervals");
}

#[test]
fn a_value_that_the_plugin_refuses_is_the_reason_that_it_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.toml");
    std::fs::write(&config, "[plugin.fails]\nat = \"cal\"\n").unwrap();
    let ended = beside_good("fails", &["--config", config.to_str().unwrap()]);
    let reasons = ended.reasons("fails");
    let allowed = r#"option `at` must be a text ("", "init", "call" or "deinit"), not "cal""#;
    assert!(reasons.contains(&format!("{allowed}: did you mean \"call\"?")), "{reasons}");
}

#[test]
fn a_plugin_that_floods_is_cut_at_its_cap_and_the_rest_counted() {
    // Intervals of its own: a million refused rows take a while in a debug build.
    let plugins = folder(&["good", "floods"]);
    let ended = run(plugins.path(), &["--interval", "2s", "--ticks", "1"]);
    assert_eq!(ended.table("good").count(), 1);
    assert_eq!(ended.table("floods").count(), 10_000);
    assert_eq!(ended.sum("floods", "lines"), 10_000);
    assert_eq!(ended.sum("floods", "dropped_full"), 990_000);
    let reasons = ended.reasons("floods");
    assert!(reasons.contains("over the cap of 10000 lines and 4194304 bytes a tick"), "{reasons}");
    let host = ended.table("collector_host").last().unwrap();
    assert!(host.u64("rss_bytes") < 60 << 20, "{host:?}");
}

#[test]
fn caps_are_configured_per_plugin() {
    let dir = folder(&["good", "floods"]);
    let config = dir.path().join("c.toml");
    let text = "[plugin.floods]\nmax_bytes = 1000\n[plugin.good]\nlines = 50\nmax_lines = 20\n";
    std::fs::write(&config, text).unwrap();
    let args = ["--interval", "2s", "--ticks", "1", "--config", config.to_str().unwrap()];
    let ended = run(dir.path(), &args);
    assert_eq!(ended.table("good").count(), 20);
    assert_eq!(ended.sum("good", "dropped_full"), 31, "the histogram is over the cap too");
    let bytes = ended.sum("floods", "bytes");
    assert!((900..=1000).contains(&bytes), "{bytes}");
    let floods = ended.table("floods").count() as u64;
    assert_eq!(floods + ended.sum("floods", "dropped_full"), 1_000_000);
}

#[test]
fn a_plugin_that_never_returns_is_late_and_left_behind_at_the_end() {
    let ended = beside_good_for(12 + 20, "sleeps", &[]);
    assert_eq!(ended.table("sleeps").count(), 1);
    assert_eq!(ended.ticks("sleeps"), 12 + 20 - 1, "all but that of the call that never returned");
    assert_states(&ended, "sleeps", &["loading", "running"], "late");
    assert_eq!(ended.sum("sleeps", "overruns"), 1);
    let reasons = ended.reasons("sleeps");
    assert!(reasons.contains("a call is running for "), "{reasons}");
    assert!(reasons.contains(" ms, its deadline is 100 ms"), "{reasons}");
    assert!(ended.stderr.contains("sleeps: has not ended in time"), "{}", ended.stderr);
    assert!(ended.took.as_secs_f64() < 3.2 + 1.0 + 5.0 + 10.0, "{:?}", ended.took);
}

#[test]
fn a_plugin_that_takes_longer_than_its_interval_skips_ticks_and_counts_them() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.toml");
    std::fs::write(&config, "[plugin.sleeps]\ntime = \"250ms\"\n").unwrap();
    let ended = beside_good("sleeps", &["--config", config.to_str().unwrap()]);
    let calls = ended.sum("sleeps", "calls");
    assert!((1..=4).contains(&calls), "{calls} calls");
    assert_eq!(calls + ended.sum("sleeps", "ticks_missed"), 12);
    assert_eq!(ended.sum("sleeps", "overruns"), calls);
    for line in ended.table("sleeps") {
        assert_eq!(line.time_ns % 100_000_000, 0, "still on the grid");
    }
}

#[test]
fn a_plugin_that_never_starts_holds_up_the_others_for_five_seconds_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.toml");
    std::fs::write(&config, "[plugin.sleeps]\nstart = \"1h\"\n").unwrap();
    let ended = beside_good("sleeps", &["--config", config.to_str().unwrap()]);
    assert_states(&ended, "sleeps", &[], "loading");
    assert!(ended.reasons("sleeps").contains("init has been running for 5 s"));
    assert!(ended.took.as_secs_f64() < 5.0 + 1.3 + 5.0 + 10.0, "{:?}", ended.took);
}

#[test]
fn a_row_outside_of_a_call_is_dropped_and_counted() {
    let ended = beside_good_for(12 + 20, "outside", &[]);
    assert!(ended.sum("outside", "dropped_closed") > 50);
    assert!(ended.reasons("outside").contains("pushed lines outside of a call"));
    // Its thread may hit a call; then the line counts like any other.
    assert_eq!(ended.table("outside").count() as u64, ended.sum("outside", "lines"));
    assert!(ended.table("outside").count() >= 10);
}

#[test]
fn all_bad_ones_together_still_cost_good_nothing() {
    let plugins = folder(&["good", "panics", "fails", "outside", "sleeps"]);
    std::fs::write(plugins.path().join("text.so"), "no library").unwrap();
    let ended = run(plugins.path(), &["--interval", "100ms", "--ticks", "30"]);
    assert_eq!(ended.code, Some(3), "rows of `outside` were lost: {}", ended.stderr);
    assert_eq!(ended.ticks("good"), 30);
    for (plugin, state) in [
        ("panics", "quarantined"),
        ("fails", "quarantined"),
        ("sleeps", "late"),
        ("text", "refused"),
    ] {
        let last = ended.states(plugin).pop().unwrap();
        assert_eq!(last, state, "{plugin}: {:?}", ended.states(plugin));
    }
    assert!(ended.reasons("text").contains("a text file"));
}
