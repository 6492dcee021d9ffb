//! Every message of the command line, in one file to be read as a whole: tests/messages.txt.
//!
//! `COLLECTOR_MESSAGES=write cargo test -p collector --test host messages` writes it anew.

use crate::c_plugins::{build, build_text};
use crate::process::{Ended, Running, as_a_service, collector, example, without_privileges};
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// All that was run, with what it said.
struct Script {
    dir: TempDir,
    /// Nobody listens there.
    port: String,
    text: String,
}

/// A collector to run: `collector` and words, in the script's folder.
struct Step<'a> {
    script: &'a mut Script,
    words: Vec<String>,
    plugins: &'static str,
    config: Option<&'static str>,
    until: Option<&'static str>,
    measured: bool,
    privileges: bool,
}

impl Script {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let all = dir.path().join("plugins");
        fs::create_dir(&all).unwrap();
        for name in ["good", "fails", "foreign_abi", "unity"] {
            fs::copy(example(name), all.join(format!("lib{name}.so"))).unwrap();
        }
        fs::write(all.join("libtext.so"), "hello").unwrap();
        let c = dir.path().join("c");
        fs::create_dir(&c).unwrap();
        for fault in ["hole_in_values", "init_positive", "call_negative"] {
            build(&c, fault, "faults.c", &[&format!("FAULT={fault}")]);
        }
        for (name, code) in [
            ("half", "int init(void *a) { return !a; }"),
            (
                "undefined",
                "int gone(void); int init(void *a) { return a ? gone() : 0; }\n\
                 int call(int t, void *l) { return l ? t : 0; } void deinit(void) {}",
            ),
        ] {
            build_text(&c, name, code);
        }
        fs::write(all.join("libcut.so"), &fs::read(example("good")).unwrap()[..10_000]).unwrap();
        for (folder, plugins) in
            [("good", &["good"][..]), ("fails", &["fails"]), ("late", &["sleeps"]), ("none", &[])]
        {
            let to = dir.path().join(folder);
            fs::create_dir(&to).unwrap();
            for name in plugins {
                fs::copy(example(name), to.join(format!("lib{name}.so"))).unwrap();
            }
        }
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { dir, port: nobody.port().to_string(), text: String::new() }
    }

    fn title(&mut self, title: &str) {
        let _ = writeln!(self.text, "\n== {title} ==");
    }

    /// Runs it with all example plugins.
    fn step(&mut self, words: &[&str]) -> Step<'_> {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        Step {
            script: self,
            words,
            plugins: "plugins",
            config: None,
            until: None,
            measured: false,
            privileges: true,
        }
    }
}

impl Step<'_> {
    fn plugins(mut self, folder: &'static str) -> Self {
        self.plugins = folder;
        self
    }

    /// With a configuration.
    fn config(mut self, text: &'static str) -> Self {
        self.config = Some(text);
        self
    }

    /// Ends it with SIGTERM as soon as it has said something.
    fn until(mut self, words: &'static str) -> Self {
        self.until = Some(words);
        self.measured = true;
        self
    }

    /// It shows figures that are not the same each time.
    fn measured(mut self) -> Self {
        self.measured = true;
        self
    }

    fn without_privileges(mut self) -> Self {
        self.privileges = false;
        self
    }

    fn run(self) {
        let Self { script, words, plugins, config, until, measured, privileges } = self;
        let dir = script.dir.path();
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        if let Some(text) = config {
            fs::write(dir.join("c.toml"), text).unwrap();
            words.extend(["--config", "c.toml"]);
            let _ = write!(script.text, "\n(c.toml: {})", text.trim_end().replace('\n', " | "));
        }
        let folder = if plugins == "plugins" { "" } else { &format!(" ({plugins}/)") };
        let line = words.join(" ").replace(&script.port, "PORT");
        let _ = writeln!(script.text, "\n$ collector {line}{folder}");
        let mut command = collector(Path::new(plugins), &words);
        command.current_dir(dir);
        let command = if privileges { command } else { without_privileges(command) };
        let running = Running::start(as_a_service(command));
        if let Some(until) = until {
            running.wait_for(until);
            running.signal("TERM");
        }
        let Ended { code, stdout, stderr, .. } = running.end_of_command();
        for text in [stdout, stderr] {
            let text = text.replace(&*dir.to_string_lossy(), "DIR").replace(&script.port, "PORT");
            let lines = text.lines().filter(|line| !privileges || !is_of_the_machine(line));
            for line in lines {
                let line = if measured { masked(line) } else { line.to_owned() };
                let _ = writeln!(script.text, "  {}", line.trim_end());
            }
        }
        if code != Some(0) {
            let _ = writeln!(script.text, "  [exit code {}]", code.unwrap());
        }
    }
}

/// What this machine has, and who runs the tests.
fn is_of_the_machine(line: &str) -> bool {
    line.starts_with("kernel ")
        || line.starts_with("privileges ")
        || line.starts_with("memory ")
        || line.starts_with("collector: warn: needs root")
        || line.starts_with("collector: warn: runs in a user namespace")
}

/// Numbers as N, columns two spaces apart.
fn masked(line: &str) -> String {
    let mut masked = String::new();
    for c in line.chars() {
        let in_a_word = masked.ends_with(|c: char| c.is_ascii_lowercase() || c == '_');
        match c {
            '0'..='9' if masked.ends_with('N') => {}
            '0'..='9' if !in_a_word => masked.push('N'),
            ' ' if masked.ends_with("  ") && !masked.trim().is_empty() => {}
            c => masked.push(c),
        }
    }
    masked.replace("N.N", "N")
}

fn all() -> String {
    let mut script = Script::new();
    let s = &mut script;

    s.title("Help");
    for words in [
        &["--help"][..],
        &["list", "--help"],
        &["check", "--help"],
        &["once", "--help"],
        &["top", "--help"],
        &["replay", "--help"],
        &["describe", "--help"],
        &["dashboard", "--help"],
    ] {
        s.step(words).run();
    }

    s.title("Wrong usage");
    for words in [
        &["--nonsense"][..],
        &["lits"],
        &["good"],
        &["xyzzy"],
        &["once"],
        &["once", "xyzzy"],
        &["once", "goood"],
        &["once", "text"],
        &["once", "good", "soon"],
        &["once", "good", "1ms"],
        &["once", "good", "1", "0"],
        &["once", "good", "--ticks", "3"],
        &["--ticks", "3", "once", "good"],
        &["--only", "good", "list"],
        &["list", "--tag", "a=b"],
        &["check", "goood"],
        &["--only", "goood"],
        &["--interval", "soon"],
        &["--interval", "1ms"],
        &["--ticks", "0"],
        &["--tag", "novalue"],
        &["--tag", "time=x"],
        &["--log", "loud"],
        &["--output", "influx://h:1/d"],
        &["--output", "udp://h"],
        &["--output", "influxdb1://h:1"],
        &["--output", "stdout", "--output", "stdout"],
        &["--output", "file:/nowhere/lines"],
        &["--config", "/nowhere.toml"],
    ] {
        s.step(words).run();
    }
    s.step(&["list"]).plugins("nowhere").run();
    s.step(&["list"]).plugins("c.toml").config("").run();
    s.step(&["list"]).plugins("none").run();
    s.step(&["once", "good"]).plugins("none").run();

    s.title("Wrong configuration");
    for text in [
        "intervall = \"1s\"\n",
        "interval = \"soon\"\n",
        "interval = 1\n",
        "[tags\n",
        "[[output]]\nkind = \"influx\"\n",
        "[[output]]\nkind = \"influxdb1\"\n",
        "http = \"0.0.0.0:9435\"\n",
        "http = \"unix:/run/c.sock\"\nhttp_cert_file = \"c.pem\"\nhttp_key_file = \"k.pem\"\n",
        "http = \"127.0.0.1:9435\"\nhttp_cert_file = \"c.pem\"\n",
        "http = \"127.0.0.1:9435\"\nhttp_cert_file = \"c.toml\"\nhttp_key_file = \"k.pem\"\n",
    ] {
        s.step(&["--ticks", "1"]).plugins("good").config(text).run();
    }
    for text in ["[plugin.good]\nlines = 1\n", "[plugin.good]\nlinse = 1\n"] {
        s.step(&["--check-config"]).plugins("good").config(text).run();
    }
    s.step(&["--check-config"]).plugins("good").run();
    s.step(&["once", "good"]).config("[plugin.good]\nlinse = 1\n").run();
    s.step(&["once", "good"]).config("[plugin.good]\nlines = \"1\"\n").run();
    s.step(&["once", "fails"]).config("[plugin.fails]\nat = \"cal\"\n").run();

    s.title("Tables");
    s.step(&["list"]).run();
    s.step(&["list", "--only", "good"]).config("[plugin.good]\nenabled = false\n").run();
    s.step(&["describe", "good"]).run();
    s.step(&["describe", "fails"]).run();
    s.step(&["dashboard"]).run();
    s.step(&["dashboard", "--for", "cypher"]).run();
    s.step(&["dashboard", "goods", "--for", "metricsql"]).run();
    s.step(&["once", "good", "50ms"]).measured().run();
    s.step(&["once", "fails", "50ms"]).measured().run();
    s.step(&["once", "fails", "50ms"]).config("[plugin.fails]\nat = \"init\"\n").run();
    s.step(&["once", "good", "1h"]).until("to go").run();

    s.title("C plugins");
    s.step(&["list"]).plugins("c").run();
    s.step(&["describe", "hole_in_values"]).plugins("c").run();
    s.step(&["describe", "init_positive"]).plugins("c").run();
    s.step(&["describe", "half"]).plugins("c").run();
    s.step(&["once", "hole_in_values", "50ms"]).plugins("c").measured().run();
    s.step(&["once", "call_negative", "50ms"]).plugins("c").measured().run();
    s.step(&["once", "hole_in_values", "50ms"])
        .plugins("c")
        .config("[plugin.hole_in_values]\nby = \"comm\"\n")
        .run();
    s.step(&["check"]).plugins("c").measured().run();
    let to_a_file = ["--output", "file:lines", "--interval", "50ms", "--ticks", "4"];
    let only = [&to_a_file[..], &["--only", "hole_in_values"]].concat();
    s.step(&only).plugins("c").measured().run();
    // It has failed three times, and is not yet started again.
    let to_a_file = ["--output", "file:lines", "--interval", "1s"];
    let only = [&to_a_file[..], &["--only", "call_negative"]].concat();
    s.step(&only).plugins("c").until("next start").run();

    s.title("Check");
    let url = format!("influxdb1://127.0.0.1:{}/db", s.port);
    let outputs = ["check", "--output", "stdout", "--output", &url, "--output", "unix:nowhere"];
    s.step(&outputs).config("[plugin.goood]\nby = \"x\"\n").measured().run();
    s.step(&["check", "good"]).measured().run();
    s.step(&["check", "fails"]).config("[plugin.fails]\nat = \"init\"\n").measured().run();
    s.step(&["check", "good/libgood.so"]).measured().run();
    s.step(&["check", "fails/libfails.so"]).measured().run();
    s.step(&["check", "c/libhole_in_values.so"]).measured().run();
    s.step(&["check", "plugins/libtext.so"]).run();
    s.step(&["check", "good/libgood.so", "fails"]).run();

    s.title("Collecting");
    let to_a_file = ["--output", "file:lines", "--interval", "50ms"];
    let ticks = [&to_a_file[..], &["--ticks", "1"]].concat();
    s.step(&ticks).plugins("good").measured().run();
    s.step(&ticks).plugins("none").run();
    let only = [&ticks[..], &["--only", "good"]].concat();
    s.step(&only).config("[plugin.goood]\nby = \"x\"\n").measured().run();
    s.step(&ticks).plugins("good").config("[plugin.good]\nlinse = 1\n").run();
    s.step(&to_a_file).plugins("fails").until("next start").run();
    s.step(&to_a_file).plugins("late").until("a call is running for").run();
    let capped = "[plugin.good]\nlines = 3\nmax_lines = 2\n";
    s.step(&ticks).plugins("good").config(capped).measured().run();
    s.step(&ticks).plugins("good").without_privileges().measured().run();

    script.text.trim_start().to_owned() + "\n"
}

#[test]
fn every_message_is_the_one_that_was_read() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/messages.txt");
    let said = all();
    if std::env::var_os("COLLECTOR_MESSAGES").is_some() {
        fs::write(&file, said).unwrap();
        return;
    }
    let read = fs::read_to_string(&file).unwrap_or_default();
    for (number, (said, read)) in said.lines().zip(read.lines()).enumerate() {
        assert_eq!(said, read, "{}:{}: see messages.rs", file.display(), number + 1);
    }
    assert_eq!(said.lines().count(), read.lines().count(), "{}", file.display());
}
