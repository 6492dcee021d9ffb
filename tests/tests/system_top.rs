//! `collector top` and `collector replay` on a real terminal: what is seen are the numbers of the lines.

use collector::read::Line;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use system_tests::pictures::keep;
use system_tests::port::Port;
use system_tests::running::{Home, Running, dist, tools};
use system_tests::tmux::Tmux;
use system_tests::wait;
use system_tests::waits::{lines, wait_for_lines};

/// Ticks are a second apart: the time of the day, which is what is seen, says which one it is.
fn config(home: &Home) -> String {
    let path = |name: &str| home.path(name).display().to_string();
    format!(
        "interval = \"1s\"\n[[output]]\nkind = \"file\"\npath = \"{}\"\n[plugin.waits]\npushed = \"{}\"\nfail = \"{}\"\n",
        path("lines"),
        path("pushed"),
        path("fail")
    )
}

fn socket(home: &Home) -> String {
    format!("unix:{}", home.path("http.sock").display())
}

/// A collector with the plugin `waits`, a file and a page.
fn collector(home: &Home) -> Running {
    let mut collector = home.start(&format!("http = \"{}\"\n{}", socket(home), config(home)));
    wait_for_lines(&mut collector, home, 3);
    collector
}

fn top(home: &Home, arguments: &[&str]) -> Tmux {
    let plugins = home.path("plugins").display().to_string();
    Tmux::start(&program(), &[arguments, &["--plugins", &plugins]].concat())
}

fn program() -> PathBuf {
    dist().join("collector")
}

/// The time of the tick that is seen.
fn tick(screen: &str) -> &str {
    let (_, after) = screen.split_once("tick ").unwrap_or_else(|| panic!("no tick:\n{screen}"));
    &after[..8]
}

fn clock(time_ns: i64) -> String {
    let seconds = time_ns / 1_000_000_000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The row of a series, by the titles of its columns.
fn row<'a>(screen: &'a str, series: &str) -> Option<Vec<(&'a str, &'a str)>> {
    let titles = screen.lines().find(|line| line.starts_with("SERIES"))?;
    let cells = screen.lines().find(|line| line.split_whitespace().next() == Some(series))?;
    let titles = titles.split_whitespace().map(|title| title.trim_end_matches(['v', '^']));
    Some(titles.zip(cells.split_whitespace()).collect())
}

/// Whether the row of `steady` is its line of that tick, to the last number; and the bars are its buckets.
fn assert_is_line(screen: &str, line: &Line) {
    let row = row(screen, "steady").unwrap_or_else(|| panic!("no row of steady:\n{screen}"));
    let mut compared = 0;
    for (title, cell) in row {
        let field = title.to_lowercase();
        if field == "seen" && line.get("seen").is_none() {
            assert_eq!(cell, "0", "{screen}");
        } else if let Some(value) = line.get(&field) {
            assert_eq!(value.to_string(), cell, "{field} of {line:?}:\n{screen}");
            compared += 1;
        }
    }
    assert!(compared >= 5, "count, sum, quantiles and call are compared:\n{screen}");
    let mut bars = 0;
    for bar in screen.lines().filter(|line| line.contains(" -> ")) {
        let (bounds, after) = bar.split_once(" : ").expect("a bar");
        let (low, high) = bounds.split_once(" -> ").expect("bounds");
        let below = high.trim().parse::<u64>().expect("a number") + 1;
        let count = after.split_whitespace().next().expect("a count");
        let value = line.get(&format!("bucket_{}_{below}", low.trim()));
        assert_eq!(value.map_or("0".to_owned(), ToString::to_string), count, "{bar}\n{line:?}");
        assert_eq!(count != "0", bar.contains('*'), "{bar}");
        bars += 1;
    }
    assert!(bars >= 1, "{screen}");
}

fn line_of(home: &Home, time: &str) -> Option<Line> {
    let lines = lines(home, "waits").into_iter().rev();
    lines.into_iter().find(|line| line.tag("series") == "steady" && clock(line.time_ns) == time)
}

/// Enters `waits`; `steady` stands first, so the bars are its own.
fn enter_waits(tmux: &Tmux) {
    tmux.keys(&["Enter"]);
    tmux.wait_for("SERIES");
    tmux.keys(&["s"]);
    tmux.wait_for("SERIESv");
    tmux.keys(&["r"]);
    tmux.wait_until("its first row", shows_steady);
}

/// Whether the first row is that of `steady`, and bars are shown: the new order comes a moment after its mark.
fn shows_steady(screen: &str) -> bool {
    let mut rows = screen.lines().skip_while(|line| !line.starts_with("SERIES^")).skip(1);
    rows.next().is_some_and(|row| row.starts_with("steady ")) && screen.contains(" -> ")
}

/// Enters `waits`, and compares some ticks with the file.
fn assert_ticks(home: &Home, tmux: &Tmux) {
    enter_waits(tmux);
    let mut last = String::new();
    for _ in 0..3 {
        let seen = tmux.wait_until("bars of another tick", |screen| {
            shows_steady(screen) && screen.contains("tick ") && tick(screen) != last
        });
        last = tick(&seen).to_owned();
        let mut line = None;
        wait::until("the line of the tick in the file", || {
            line = line_of(home, &last);
            line.is_some()
        });
        assert_is_line(&seen, &line.expect("waited for"));
    }
}

#[test]
fn a_collector_that_runs_is_shown_with_the_numbers_of_its_lines() {
    let home = Home::of("waits");
    let running = collector(&home);
    let tmux = top(&home, &["top", "--http", &socket(&home)]);
    let list = tmux.wait_until("both tools", |it| it.contains("waits") && it.contains("rss_bytes"));
    let tool = list.lines().find(|line| line.starts_with("waits")).expect("a row");
    assert!(tool.contains("running") && tool.contains("count "), "{list}");
    keep("top-list.txt", list.as_bytes());
    tmux.keys(&["End"]);
    tmux.wait_for("waits: nothing lost since the start");
    assert_ticks(&home, &tmux);
    keep("top-waits.txt", tmux.screen().as_bytes());
    tmux.keys(&["Tab"]);
    tmux.wait_for("[collector_plugin]");
    tmux.wait_until("its own row alone", |it| it.contains("CPU_NS") || it.contains("STATE_CODE"));
    tmux.keys(&["Escape"]);
    tmux.wait_for("NS/RUN");
    drop(running); // by SIGKILL
    tmux.wait_for("no answer: unix:");
    tmux.keys(&["q"]);
    assert_eq!(tmux.end(), 0);
}

#[test]
fn keys_sort_stop_explain_and_end_and_the_size_may_change() {
    let home = Home::of("waits");
    fs::write(home.path("c.toml"), config(&home)).expect("a file");
    let config = home.path("c.toml").display().to_string();
    let tmux = top(&home, &["top", "--config", &config]);
    tmux.wait_until("the tool with its programs", |it| {
        it.contains("waits  ") && it.contains("count ")
    });
    assert!(!home.path("lines").exists(), "what is shown goes nowhere else");
    tmux.keys(&["?"]);
    let help = tmux.wait_for("enter the marked tool");
    assert!(help.contains("q Ctrl-C") && help.contains("since the start"), "{help}");
    tmux.keys(&["?"]);
    tmux.wait_for("NS/RUN");
    tmux.keys(&["End", "Enter"]);
    tmux.wait_until("two series", |it| row(it, "steady").is_some() && row(it, "rare").is_some());
    tmux.keys(&["Space"]);
    let paused = tmux.wait_for("PAUSED");
    let time = tick(&paused).to_owned();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(tick(&tmux.screen()), time);
    let order = |screen: &str| -> Vec<String> {
        let first = screen.lines().filter_map(|line| line.split_whitespace().next());
        first.filter(|it| ["steady", "rare"].contains(it)).map(str::to_owned).collect()
    };
    tmux.keys(&["Space"]);
    tmux.keys(&["s"]);
    tmux.wait_until("the names in order", |it| {
        it.contains("SERIESv") && order(it) == ["rare", "steady"]
    });
    tmux.keys(&["r"]);
    tmux.wait_until("the other order", |it| {
        it.contains("SERIES^") && order(it) == ["steady", "rare"]
    });
    tmux.keys(&["t"]);
    tmux.wait_for("us, since the start");
    for (columns, rows) in [(60, 15), (200, 50), (20, 4), (80, 24)] {
        tmux.resize(columns, rows);
        let words = if columns == 20 { "waits  running" } else { "SERIES" };
        let screen = tmux.wait_until("the new size", |it| {
            it.contains(words)
                && it.lines().count() == rows as usize
                && it.lines().last().is_some_and(|last| {
                    last.contains('?') && (columns < 80 || last.contains("q end"))
                })
        });
        let longest = screen.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(columns as usize), "{screen}");
    }
    tmux.keys(&["q"]);
    assert_eq!(tmux.end(), 0);
    let after = tmux.screen();
    assert!(!after.contains("SERIES"), "the terminal is as it was:\n{after}");
}

/// Whether a process is there.
fn lives(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

#[test]
fn it_ends_with_its_terminal() {
    let home = Home::of("waits");
    let running = collector(&home);
    fs::write(home.path("c.toml"), config(&home)).expect("a file");
    let path = |name: &str| home.path(name).display().to_string();
    let ways: [&[&str]; 3] = [
        &["top", "--http", &socket(&home)],
        &["top", "--config", &path("c.toml")],
        &["replay", &path("lines")],
    ];
    for (arguments, nohup) in ways.iter().flat_map(|way| [(way, false), (way, true)]) {
        // With SIGHUP ignored, nothing but the terminal itself tells of its end.
        let tmux = match nohup {
            true => {
                let words = format!(
                    "trap '' HUP; exec {} {} --plugins {}",
                    program().display(),
                    arguments.join(" "),
                    path("plugins")
                );
                Tmux::start("/bin/sh".as_ref(), &["-c", &words])
            }
            false => top(&home, arguments),
        };
        tmux.wait_until("the tool", |it| {
            it.lines().any(|line| line.starts_with("waits  ") && line.contains("count "))
        });
        assert!(lives(tmux.pid));
        tmux.close();
        let took = wait::until_within(Duration::from_secs(2), "its end", || !lives(tmux.pid));
        println!("{arguments:?}, SIGHUP ignored: {nohup}: it ended after {took:?}");
    }
    drop(running);
}

#[test]
fn it_needs_no_colour_and_says_what_it_needs() {
    let home = Home::of("waits");
    fs::write(home.path("c.toml"), config(&home)).expect("a file");
    let (program, plugins) =
        (program().display().to_string(), home.path("plugins").display().to_string());
    let config = home.path("c.toml").display().to_string();
    let arguments = [&*program, "top", "--plugins", &plugins, "--config", &config];
    let env = |variable: &str| {
        Tmux::start("/usr/bin/env".as_ref(), &[&[variable], &arguments[..]].concat())
    };
    let tmux = env("NO_COLOR=1");
    tmux.wait_for("count ");
    let styled = tmux.styled();
    let codes = styled.split("\x1b[").skip(1).filter_map(|it| Some(it.split_once('m')?.0));
    for code in codes.flat_map(|code| code.split(';')) {
        assert!(["", "0", "1", "7", "22", "27", "39", "49"].contains(&code), "{code}: {styled:?}");
    }
    let tmux = env("TERM=dumb");
    assert_eq!(tmux.end(), 2);
    let said = tmux.whole().replace('\n', "");
    assert!(said.contains("TERM=\"dumb\"") && said.contains("collector once NAME"), "{said}");
}

/// All rows of the list, by the tools' names; the screen has them and nothing else.
fn list(screen: &str) -> Option<BTreeMap<&str, Vec<&str>>> {
    let rows: Vec<&str> = screen.lines().collect();
    let [title, heads, tools @ .., _, _] = &rows[..] else { return None };
    let is_empty = |row: &&str| row.trim().is_empty();
    let empty = tools.iter().position(is_empty).unwrap_or(tools.len());
    let (tools, below) = tools.split_at(empty);
    let is_whole = title.starts_with("collector  ")
        && heads.starts_with("TOOL")
        && below.iter().all(is_empty)
        && tools.is_sorted();
    let named = tools.iter().filter_map(|row| {
        let cells: Vec<&str> = row.split_whitespace().collect();
        Some((*cells.first()?, cells))
    });
    let named: BTreeMap<_, _> = named.collect();
    (is_whole && named.len() == tools.len()).then_some(named)
}

#[test]
fn with_all_tools_the_screen_stays_whole_whatever_plugins_print() {
    let tools = tools();
    let copies: Vec<(&str, &str)> = tools.iter().map(|name| (&**name, &**name)).collect();
    let home = Home::with_copies(&copies);
    for name in ["inside", "isolated"] {
        let file = home.path("plugins").join(format!("lib{name}.so"));
        fs::write(file, c_plugins::PRINTS).expect("a file");
    }
    let config = "[plugin.inside]\nisolation = \"none\"\n";
    fs::write(home.path("c.toml"), config).expect("a file");
    let config = home.path("c.toml").display().to_string();
    let tmux = top(&home, &["top", "--interval", "500ms", "--config", &config]);
    tmux.resize(120, 40);
    let all = |screen: &str| {
        let Some(rows) = list(screen) else { return false };
        let is_known = |name: &str| {
            rows.get(name).is_some_and(|row| row.len() > 6 && !["-", "loading"].contains(&row[1]))
        };
        // The table that both of the others fill is the first one's.
        tools.iter().chain([&"isolated".to_owned()]).all(|name| is_known(name))
            && rows.get("inside").is_some_and(|row| row.contains(&"calls"))
    };
    let screen = tmux.wait_until("all of them, with numbers", |screen| all(screen));
    keep("top-all.txt", screen.as_bytes());
    let rows = list(&screen).expect("waited for");
    let mut running = 0;
    for name in &tools {
        let row = &rows[&**name];
        assert_eq!(row[1] == "running", row[4] != "-", "memory of its maps: {row:?}\n{screen}");
        running += usize::from(row[1] == "running");
    }
    println!("{running} of {} tools run here", tools.len());
    assert!(running >= 15, "{screen}");
    assert_eq!((rows["inside"][4], rows["isolated"][4]), ("-", "-"), "nobody knows\n{screen}");
    // Each call of the two prints over the screen.
    let (mut last, mut said) = (String::new(), 0);
    for _ in 0..12 {
        let next = |screen: &str| screen.contains("tick ") && tick(screen) != last;
        let screen = tmux.wait_until("the next tick", next);
        let rows = list(&screen).unwrap_or_else(|| panic!("it is broken:\n{screen}"));
        assert_eq!(rows.len(), tools.len() + 3, "{screen}");
        let above: Vec<&str> = screen.lines().rev().skip(1).collect();
        assert!(!above.iter().any(|row| row.contains("of a plugin")), "{screen}");
        let below = screen.lines().last().unwrap_or_default();
        said += usize::from(below.contains("of a plugin"));
        last = tick(&screen).to_owned();
    }
    assert!(said > 0, "the last message is shown below");
    for (columns, rows) in [(80, 24), (120, 40)] {
        tmux.resize(columns, rows);
        let so = |screen: &str| screen.lines().count() == rows as usize && list(screen).is_some();
        tmux.wait_until("another size", so);
    }
    tmux.keys(&["End", "Enter"]);
    tmux.wait_for("collector_bpf");
    tmux.keys(&["Escape"]);
    tmux.wait_until("the list", |screen| list(screen).is_some());
    tmux.keys(&["q"]);
    assert_eq!(tmux.end(), 0);
    let after = tmux.whole();
    for words in ["stdout of a plugin", "stderr of a plugin", "descriptor 1 of a plugin"] {
        assert!(after.contains(words), "{words} is said at the end:\n{after}");
    }
    assert!(after.contains("isolated: "), "by the plugin's name:\n{after}");
}

#[test]
fn over_tls_the_certificate_is_checked_and_the_token_shown() {
    let (home, port) = (Home::of("waits"), Port::reserve());
    let path = |name: &str| home.path(name).display().to_string();
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    fs::write(home.path("cert.pem"), own.cert.pem()).expect("a file");
    for (name, text) in
        [("key.pem", own.signing_key.serialize_pem()), ("token", "s3cret\n".to_owned())]
    {
        fs::write(home.path(name), text).expect("a file");
        fs::set_permissions(home.path(name), Permissions::from_mode(0o600)).expect("it is ours");
    }
    let token = format!("http_token_file = \"{}\"\n", path("token"));
    let toml = format!(
        "http = \"{}\"\nhttp_cert_file = \"{}\"\nhttp_key_file = \"{}\"\n{token}{}",
        port.address(),
        path("cert.pem"),
        path("key.pem"),
        config(&home)
    );
    let mut running = home.start(&toml);
    wait_for_lines(&mut running, &home, 3);
    fs::write(home.path("top.toml"), token).expect("a file");
    let (url, ca, config) =
        (format!("https://{}", port.address()), path("cert.pem"), path("top.toml"));
    for (arguments, words) in [
        (vec!["top", "--http", &url, "--config", &config], "invalid peer certificate"),
        (vec!["top", "--http", &url, "--ca", &ca], "401"),
        (vec!["top", "--http", &url, "--ca", &config], "no certificate in PEM"),
    ] {
        let tmux = top(&home, &arguments);
        assert_eq!(tmux.end(), 1, "{arguments:?}");
        let said = tmux.whole().replace('\n', "");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    let tmux = top(&home, &["top", "--http", &url, "--ca", &ca, "--config", &config]);
    let list = tmux.wait_until("the tool", |it| it.contains("waits  ") && it.contains("count "));
    assert!(list.contains(&url), "{list}");
    tmux.keys(&["End"]);
    tmux.wait_for("waits: nothing lost since the start");
    assert_ticks(&home, &tmux);
    tmux.keys(&["q"]);
    assert_eq!(tmux.end(), 0);
}

#[test]
fn a_file_is_replayed_at_a_time_and_while_it_is_written() {
    let home = Home::of("waits");
    let mut running = collector(&home);
    let path = home.path("lines").display().to_string();
    let tmux = top(&home, &["replay", &path]);
    let list = tmux.wait_until("the tool", |it| {
        it.lines().any(|line| {
            line.starts_with("waits  ") && line.contains("running  ") && line.contains("count ")
        })
    });
    assert!(list.contains("lines, its end"), "{list}");
    tmux.keys(&["End"]);
    tmux.wait_for("waits: nothing lost");
    assert_ticks(&home, &tmux);
    tmux.keys(&["q"]);
    assert_eq!(tmux.end(), 0);

    // What nobody writes any more, with bad lines in it, at a time.
    wait_for_lines(&mut running, &home, 5);
    running.terminate();
    assert_eq!(running.end().code, Some(0));
    let mut file = fs::File::options().append(true).open(home.path("lines")).expect("the file");
    file.write_all(b"a line without\x1b[2J a time\nhalf a li").expect("written");
    let steady: Vec<Line> =
        lines_before(&home).into_iter().filter(|it| it.tag("series") == "steady").collect();
    let chosen = &steady[2];
    let at = clock(chosen.time_ns);
    let tmux = top(&home, &["replay", &path, "--at", &at]);
    tmux.wait_for("lines, at ");
    tmux.keys(&["End"]);
    tmux.wait_for("waits: nothing lost");
    enter_waits(&tmux);
    let seen = tmux.wait_until("that tick", |it| shows_steady(it) && it.contains(&at));
    assert_is_line(&seen, chosen);
    tmux.keys(&["]"]);
    let next = clock(steady[3].time_ns);
    let seen = tmux
        .wait_until("the next one", |it| shows_steady(it) && it.contains(&format!("tick {next}")));
    assert_is_line(&seen, &steady[3]);
    tmux.keys(&["g"]);
    tmux.keys(&["-l", &at]);
    tmux.wait_for(&format!("go to: {at}_"));
    tmux.keys(&["Enter"]);
    let seen = tmux
        .wait_until("that tick again", |it| it.contains(&format!("tick {at}")) && shows_steady(it));
    assert_is_line(&seen, chosen);
    tmux.keys(&["G"]);
    let seen = tmux.wait_for("1 bad lines");
    assert!(seen.contains("lines:"), "{seen}");
    tmux.keys(&["C-c"]);
    assert_eq!(tmux.end(), 0);
    assert!(!Path::new("/proc").join(tmux.pid.to_string()).join("fd").exists());
}

fn lines_before(home: &Home) -> Vec<Line> {
    let text = fs::read_to_string(home.path("lines")).expect("the file");
    let good = text.split_inclusive('\n').take_while(|line| !line.contains("a line without"));
    let lines = collector::read::read(good.collect::<String>().as_bytes()).expect("lines");
    lines.into_iter().filter(|line| line.table == "waits").collect()
}

#[test]
fn a_file_is_shown_on_the_page() {
    let home = Home::of("waits");
    let mut running = collector(&home);
    wait_for_lines(&mut running, &home, 3);
    running.terminate();
    assert_eq!(running.end().code, Some(0));
    let count: u64 = lines(&home, "waits")
        .iter()
        .filter(|it| it.tag("series") == "steady")
        .map(|it| it.u64("count"))
        .sum();
    let port = Port::reserve();
    let mut replay = std::process::Command::new(program());
    replay.arg("replay").arg(home.path("lines")).arg("--plugins").arg(home.path("plugins"));
    replay.args(["--http", &port.address().to_string()]);
    let mut replay = replay.spawn().expect("the collector starts");
    let url = format!("http://{}/api/series", port.address());
    let query = [("table", "waits"), ("tag", "series=steady")];
    let mut found = String::new();
    wait::until("all values of the file", || {
        found = system_tests::http::get(&url, &query).map(|it| it.body).unwrap_or_default();
        found.contains(&format!("\"total_count\":{count},"))
    });
    let all = system_tests::http::get(&format!("http://{}/api/tables", port.address()), &[])
        .expect("an answer");
    assert!(
        all.body.contains("\"state\":\"running\"") || all.body.contains("\"state\":\"stopped\""),
        "{}",
        all.body
    );
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&replay),
        rustix::process::Signal::INT,
    )
    .expect("it runs");
    assert!(replay.wait().expect("its end").success());
}
