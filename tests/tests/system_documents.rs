//! What the README and docs/ tell people to type works as it stands there, and what they say of messages is what
//! the program says.

use plugin_testing::netns;
use std::fs;
use std::os::unix::fs::symlink;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use system_tests::documents::{Block, Run, blocks, pages, root};

/// Servers at the ports that the pages name, in a network of the page's own, and the collector in PATH. Each block
/// follows as a function.
const BEGIN: &str = r#"
set -euo pipefail
pids=()
finish() { for pid in "${pids[@]}"; do kill "$pid" 2>>"$SERVERS_LOG" || true; done; wait; }
trap finish EXIT
serve() {
	"${@:2}" >>"$SERVERS_LOG" 2>&1 &
	pids+=($!)
	for _ in {1..300}; do
		curl -sf -o /dev/null "$1" && return
		sleep 0.1
	done
	echo "no answer of $1"
	exit 1
}
"#;

const INFLUXDB: &str = r#"
reporting-disabled = true
bind-address = "127.0.0.1:8088"
[meta]
dir = "influxdb/meta"
[data]
dir = "influxdb/data"
wal-dir = "influxdb/wal"
[http]
bind-address = "127.0.0.1:8086"
log-enabled = false
[monitor]
store-enabled = false
"#;

/// What a page needs, by what it has in it.
const SERVERS: [(&str, &str); 2] = [
    (":8086", "serve http://127.0.0.1:8086/ping \"$SERVERS/influxd\" -config influxdb.conf\n"),
    (
        ":8428",
        "serve http://127.0.0.1:8428/health \"$SERVERS/victoria-metrics\" -storageDataPath=victoria \
         -httpListenAddr=127.0.0.1:8428 -memory.allowedBytes=256MB\n",
    ),
];

fn environment(name: &str) -> PathBuf {
    std::env::var_os(name)
        .unwrap_or_else(|| panic!("{name}: run this by `cargo xtask test`"))
        .into()
}

#[test]
fn every_command_and_query_says_who_runs_it() {
    let blocks: Vec<Block> = pages().iter().flat_map(|page| blocks(page)).collect();
    let wrong: Vec<String> = blocks.iter().filter_map(Block::wrong).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let (mut here, mut by, mut nowhere) = (0, 0, Vec::new());
    for block in blocks.iter().filter(|block| block.is_to_be_run()) {
        match block.run().expect("it says so") {
            Run::Here { .. } => here += 1,
            Run::By(_) => by += 1,
            Run::Nowhere { why } => nowhere.push(format!("{}: {why}", block.place())),
        }
    }
    println!("{}", nowhere.join("\n"));
    let not = nowhere.len();
    println!(
        "TABLE: blocks of commands and queries: {here} run here, {by} by other tests, {not} not"
    );
    assert!(here > 0 && by > 0);
}

/// All pages at once, each in a network of its own: most commands wait for ticks.
#[test]
fn commands_run_as_they_are() {
    let pages: Vec<(PathBuf, Vec<Block>)> =
        pages().into_iter().map(|page| (page.clone(), blocks(&page))).collect();
    let ran = thread::scope(|scope| {
        let running: Vec<_> = pages
            .iter()
            .map(|(page, blocks)| {
                let to_be_run = blocks.iter().filter(|block| block.is_to_be_run());
                let blocks: Vec<(&Block, Option<&str>)> = to_be_run
                    .filter_map(|block| match block.run() {
                        Ok(Run::Here { prints }) => Some((block, prints)),
                        _ => None,
                    })
                    .collect();
                scope.spawn(move || {
                    if !blocks.is_empty() {
                        netns::within(|| run(page, &blocks)).expect("a network namespace");
                    }
                    blocks.len()
                })
            })
            .collect();
        let ran =
            running.into_iter().map(|page| page.join().unwrap_or_else(|why| resume_unwind(why)));
        ran.sum::<usize>()
    });
    assert!(ran > 0);
}

/// Runs the blocks of a page one after another.
fn run(page: &Path, blocks: &[(&Block, Option<&str>)]) {
    let (dist, servers) = (environment("COLLECTOR_DIST"), environment("COLLECTOR_SERVERS"));
    let work = tempfile::tempdir().expect("a folder");
    for folder in ["target", "docs"] {
        fs::create_dir(work.path().join(folder)).expect("a folder");
    }
    symlink(&dist, work.path().join("target/dist")).expect("a link");
    symlink(root().join("etc"), work.path().join("etc")).expect("a link");
    fs::write(work.path().join("influxdb.conf"), INFLUXDB).expect("a file");

    let mut script = BEGIN.to_owned();
    let has = |what: &str| blocks.iter().any(|(block, _)| block.text.contains(what));
    SERVERS.iter().filter(|(port, _)| has(port)).for_each(|(_, serve)| script += serve);
    for (number, (block, _)) in blocks.iter().enumerate() {
        let text = block.text.replace("\n$ ", "\n");
        let text = text.strip_prefix("$ ").unwrap_or(&text);
        script += &format!(
            "exec >out.{number} 2>&1\nset -x\n{text}\n{{ set +x; }} 2>>\"$SERVERS_LOG\"\n"
        );
    }
    let path = work.path().join("page.sh");
    fs::write(&path, &script).expect("a script");
    let mut bash = Command::new("bash");
    bash.arg(&path).current_dir(work.path()).stdin(Stdio::null());
    let paths = std::env::var("PATH").unwrap_or_default();
    bash.env("PATH", format!("{}:{paths}", dist.display())).env("SERVERS", servers);
    bash.env("no_proxy", "*"); // the servers are on the loopback
    bash.env("SERVERS_LOG", work.path().join("servers.log"));
    let output = bash.output().expect("bash");

    let mut said = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut missing = Vec::new();
    for (number, (block, prints)) in blocks.iter().enumerate() {
        let printed = fs::read(work.path().join(format!("out.{number}"))).unwrap_or_default();
        let printed = String::from_utf8_lossy(&printed);
        said += &format!("\n{}\n{printed}", block.place());
        if prints.is_some_and(|words| !without_commands(&printed).contains(words)) {
            missing.push(format!("{}: does not print `{}`", block.place(), prints.expect("words")));
        }
    }
    println!("{said}");
    let status = output.status;
    assert!(
        status.success() && missing.is_empty(),
        "{}: {status}\n{missing:?}\n{said}",
        page.display()
    );
}

/// What `set -x` shows is not what they print.
fn without_commands(printed: &str) -> String {
    printed.lines().filter(|line| !line.starts_with('+')).collect::<Vec<_>>().join("\n")
}

/// The messages that troubleshooting.md has in its headings are in the sources.
#[test]
fn messages_to_look_for_are_what_the_program_says() {
    let text = fs::read_to_string(root().join("docs/troubleshooting.md")).expect("the page");
    let sources = sources();
    let mut checked = 0;
    for heading in text.lines().filter(|line| line.starts_with("### `")) {
        let message = heading.trim_start_matches("### `").trim_end_matches('`');
        for part in message.split("..").map(str::trim).filter(|part| !part.is_empty()) {
            assert!(sources.contains(part), "`{part}` is no message: {heading}");
            checked += 1;
        }
    }
    assert!(checked > 5, "{checked}");
}

/// All text of the collector and the kit, with what Rust's line continuation leaves out.
fn sources() -> String {
    let mut folders: Vec<PathBuf> =
        ["collector/src", "plugin-api/src", "plugin-bpf/src"].map(|f| root().join(f)).into();
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("a file").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text += &fs::read_to_string(path).expect("a file");
            }
        }
    }
    let mut lines = text.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |text, line| text + line.trim_start())
}
