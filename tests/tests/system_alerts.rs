//! The rules and queries of docs/alerts.md: promtool takes them, each rule fires when it should and only then, and
//! what they ask for is there when a real collector has written to real databases.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};
use system_tests::documents::{Block, blocks};
use system_tests::running::Home;
use system_tests::servers::{DATABASE, Influx, Victoria};

/// Series of a host that is well for an hour and then not, in the same state of each kind, and the alerts that fire.
/// The other host is well all the time.
const CASES: &str = r#"
rule_files: [collector.yaml]
evaluation_interval: 1m
tests:
- interval: 1m
  input_series:
  - {series: 'collector_plugin_up{host="well",plugin="runqlat"}', values: '1x240'}
  - {series: 'collector_plugin_up{host="silent",plugin="runqlat"}', values: '1x60 _x180'}
  - {series: 'collector_plugin_up{host="bad",plugin="runqlat"}', values: '1x60 0x180'}
  - {series: 'collector_plugin_up{host="bad",plugin="tcprtt"}', values: '1x240'}
  - {series: 'collector_plugin_state_code{host="bad",plugin="runqlat"}', values: '0x60 4x180'}
  - {series: 'collector_plugin_up{host="well",plugin="removed"}', values: '1x60 0x180'}
  - {series: 'collector_plugin_state_code{host="well",plugin="removed"}', values: '0x60 5x180'}
  - {series: 'collector_plugin_lines_dropped{host="well",plugin="runqlat"}', values: '7x240'}
  - {series: 'collector_plugin_lines_dropped{host="bad",plugin="runqlat"}', values: '0x60 1+1x180'}
  - {series: 'collector_plugin_lines_dropped_total{host="bad2",plugin="runqlat"}', values: '0x60 1+1x180'}
  - {series: 'collector_output_lines_waiting{host="well",output="o"}', values: '100x240'}
  - {series: 'collector_output_lines_waiting{host="bad",output="o"}', values: '0x60 20000x180'}
  - {series: 'collector_map_full{host="well",plugin="runqlat",map="starts"}', values: '3x240'}
  - {series: 'collector_map_full{host="bad",plugin="runqlat",map="starts"}', values: '0x60 1+1x180'}
  - {series: 'runqlat_p99_us{host="well"}', values: '50x240'}
  - {series: 'runqlat_p99_us{host="bad"}', values: '50x60 20000x180'}
  promql_expr_test:
  - {expr: 'count(ALERTS{host="well"}) or vector(0)', eval_time: 90m, exp_samples: [{labels: '{}', value: 0}]}
  - {expr: 'count(ALERTS) or vector(0)', eval_time: 55m, exp_samples: [{labels: '{}', value: 0}]}
  - expr: 'sort(count by (alertname, host) (ALERTS{alertstate="firing"}))'
    eval_time: 90m
    exp_samples:
EXPECTED
"#;

const EXPECTED: [(&str, &str); 7] = [
    ("CollectorSilent", "silent"),
    ("CollectorPluginDown", "bad"),
    ("CollectorLinesDropped", "bad"),
    ("CollectorLinesDropped", "bad2"),
    ("CollectorBacklog", "bad"),
    ("CollectorMapFull", "bad"),
    ("RunQueueLatency", "bad"),
];

/// The only block of a language in docs/alerts.md.
fn block(language: &str) -> Block {
    let mut found = blocks(Path::new("docs/alerts.md"));
    found.retain(|block| block.language == language);
    assert_eq!(found.len(), 1, "{language}");
    found.remove(0)
}

fn promtool(folder: &Path, arguments: &[&str]) -> String {
    let servers = std::env::var_os("COLLECTOR_SERVERS").expect("run this by `cargo xtask test`");
    let output = Command::new(PathBuf::from(servers).join("promtool"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("promtool runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

#[test]
fn each_rule_fires_when_it_should_and_only_then() {
    let folder = tempfile::tempdir().expect("a folder");
    let rules = block("yaml").text;
    fs::write(folder.path().join("collector.yaml"), &rules).expect("a file");
    let said = promtool(folder.path(), &["check", "rules", "collector.yaml"]);
    let alerts = rules.matches("- alert: ").count();
    assert!(said.contains(&format!("{alerts} rules found")), "{said}");
    let named: BTreeSet<&str> = EXPECTED.iter().map(|(alert, _)| *alert).collect();
    assert_eq!(named.len(), alerts, "each rule has a case");
    let expected = EXPECTED.map(|(alert, host)| {
        format!("    - {{labels: '{{alertname=\"{alert}\",host=\"{host}\"}}', value: 1}}\n")
    });
    let cases = CASES.replace("EXPECTED\n", &expected.concat());
    fs::write(folder.path().join("cases.yaml"), cases).expect("a file");
    println!("{}", promtool(folder.path(), &["test", "rules", "cases.yaml"]));
}

/// Names of metrics in the rules.
fn metrics(rules: &str) -> BTreeSet<&str> {
    let words = rules.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_metric = |word: &&str| {
        ["collector_plugin_", "collector_output_", "collector_map_", "runqlat_"]
            .iter()
            .any(|table| word.starts_with(table))
    };
    words.filter(is_metric).collect()
}

/// The expressions of the rules.
fn expressions(rules: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = rules.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(first) = line.trim().strip_prefix("expr:") else { continue };
        let mut expression = first.trim().trim_start_matches('|').to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with("      ")) {
            expression += &format!(" {}", more.trim());
        }
        found.push(expression.trim().to_owned());
    }
    found
}

#[test]
fn what_they_ask_for_is_there() {
    let (influx, victoria, home) = (Influx::start(), Victoria::start(), Home::with_tools());
    let file = home.path("lines");
    let toml = format!(
        "interval = \"500ms\"\nself = \"full\"\nplugin.runqlat.by = \"comm\"\n\
         [[output]]\nkind = \"file\"\npath = \"{}\"\n\
         [[output]]\nkind = \"influxdb1\"\nurl = \"{}\"\ndatabase = \"{DATABASE}\"\n\
         [[output]]\nkind = \"victoriametrics\"\nurl = \"{}\"\n",
        file.display(),
        influx.server.url(),
        victoria.server.url(),
    );
    let mut collector = home.start_with(&toml, |command| _ = command.args(["--only", "runqlat"]));
    let ticks = || fs::read_to_string(&file).unwrap_or_default().matches("\nrunqlat,").count();
    collector.wait_until("its ticks", |_| ticks() >= 6);
    collector.terminate();
    let ended = collector.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let now_ms = i64::try_from(now.as_millis()).expect("before the year 292,278,994");
    let rules = block("yaml").text;
    for metric in metrics(&rules).into_iter().filter(|metric| !metric.ends_with("_total")) {
        let found = victoria.query(&format!("count(last_over_time({metric}[10m]))"), now_ms);
        assert_eq!(found.len(), 1, "{metric}: no collector sends it");
    }
    let expressions = expressions(&rules);
    assert_eq!(expressions.len(), rules.matches("- alert: ").count());
    for expression in expressions {
        let fired = victoria.query(&expression, now_ms); // VictoriaMetrics takes it
        println!("{expression}\n  answers {fired:?}");
        // Whether a call is late, and how long threads wait, is the machine's own matter; that nothing is lost is not.
        assert!(fired.is_empty() || !expression.contains("increase("), "{expression}: {fired:?}");
    }

    let text = block("influxql").text;
    let queries: Vec<&str> = text.trim().split("\n\n").collect();
    assert_eq!(queries.len(), 4);
    for query in queries {
        let series = influx.series(query);
        println!("{query}\n  answers {series:?}");
        // A counter of 0 is there too when everything is sent.
        assert!(!series.is_empty(), "{query}");
    }
}
