//! Standard streams that nobody has, or nobody reads.

use crate::process::{Running, collector, example, folder, spawn};
use collector::read::read;
use rustix::pipe::fcntl_setpipe_size;
use std::fs;
use std::io::{BufRead, BufReader, Write, pipe};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A process that does not outlive its test.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(spawn(command))
    }

    fn terminate(&self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The collector, started by a shell with redirections.
fn by_shell(plugins: &Path, args: &[&str], redirections: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("exec \"$@\" {redirections}")).arg("sh");
    command.arg(env!("CARGO_BIN_EXE_collector")).arg("--plugins").arg(plugins).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn an_output_that_is_closed_is_wrong_usage() {
    let plugins = folder(&["good"]);
    for (args, redirections, words) in [
        (&["--interval", "1h"][..], ">&-", "output stdout: standard output is closed"),
        (&["--stop-on-stdin-close"], "<&-", "--stop-on-stdin-close: standard input is closed"),
        (&["list"], ">&-", "standard output is closed"),
    ] {
        let command = by_shell(plugins.path(), args, redirections);
        let ended = Running::start(command).end_of_command();
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(words), "{args:?}: {}", ended.stderr);
    }
    let command = by_shell(plugins.path(), &["--interval", "1h"], ">&- 2>&-");
    assert_eq!(Running::start(command).end_of_command().code, Some(2));
}

#[test]
fn streams_that_are_closed_and_not_used_are_no_matter_and_no_other_file_takes_their_place() {
    let plugins = folder(&["good"]);
    let file = plugins.path().join("lines");
    let url = format!("file:{}", file.display());
    let args = ["--interval", "50ms", "--output", &url];
    let mut process = Process::start(&mut by_shell(plugins.path(), &args, "<&- >&- 2>&-"));
    let began = Instant::now();
    while !fs::read_to_string(&file).is_ok_and(|text| text.contains("\ngood,")) {
        let ended = process.0.try_wait().unwrap();
        assert!(began.elapsed() < Duration::from_secs(120) && ended.is_none());
        thread::sleep(Duration::from_millis(5));
    }
    for descriptor in 0..=2 {
        let place = fs::read_link(format!("/proc/{}/fd/{descriptor}", process.0.id())).unwrap();
        assert_eq!(place, Path::new("/dev/null"), "{descriptor}");
    }
    process.terminate();
    assert_eq!(process.0.wait().unwrap().code(), Some(0));
    assert!(read(&fs::read(file).unwrap()).unwrap().iter().any(|line| line.table == "good"));
}

/// Two lines a tick, and so many messages that no pipe holds them.
#[test]
fn messages_that_nobody_reads_hold_up_neither_ticks_nor_the_end_and_are_counted() {
    let plugins = folder(&["good"]);
    let file = plugins.path().join("lines");
    let url = format!("file:{}", file.display());
    for read_at_the_end in [false, true] {
        // A full pipe from the first message on.
        let (reader, mut writer) = pipe().unwrap();
        let size = fcntl_setpipe_size(&writer, 4096).unwrap();
        writer.write_all(&vec![b'\n'; size]).unwrap();
        let args = ["--interval", "20ms", "--log", "trace", "--output", &url];
        let mut command = collector(plugins.path(), &args);
        let mut process = Process::start(command.stdout(Stdio::null()).stderr(writer));
        drop(command);
        let before = good(&file);
        let began = Instant::now();
        while good(&file) < before + 20 {
            assert!(began.elapsed() < Duration::from_secs(120), "{} ticks", good(&file) - before);
            thread::sleep(Duration::from_millis(5));
        }
        let lines = read_at_the_end.then(|| {
            let reader = BufReader::new(reader.try_clone().unwrap());
            thread::spawn(move || reader.lines().map(Result::unwrap).collect::<Vec<_>>())
        });
        let told = Instant::now();
        process.terminate();
        assert_eq!(process.0.wait().unwrap().code(), Some(0));
        let took = told.elapsed();
        assert!(took < Duration::from_secs(20), "{took:?}");
        if let Some(lines) = lines {
            drop(reader);
            let lines = lines.join().unwrap();
            let delivered = |line: &String| line.contains(" lines produced = ");
            assert!(lines.iter().any(delivered), "{lines:?}");
        }
    }
}

/// Lines of `good` in a file.
fn good(file: &Path) -> usize {
    fs::read_to_string(file).map_or(0, |text| text.matches("good,").count())
}

#[test]
fn its_memory_is_for_root_alone_and_it_works_as_anybody() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: not root, who can be somebody else");
    }
    // What nobody may read.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (program, plugins) = (dir.path().join("collector"), dir.path().join("plugins"));
    fs::copy(env!("CARGO_BIN_EXE_collector"), &program).unwrap();
    fs::create_dir(&plugins).unwrap();
    fs::copy(example("good"), plugins.join("libgood.so")).unwrap();
    let mut command = Command::new(&program);
    command.args(["--interval", "50ms"]).uid(65534).gid(65534);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::start(&mut command);
    let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let host = lines.find(|line| line.starts_with("collector_host")).unwrap();
    let host = &read(format!("{host}\n").as_bytes()).unwrap()[0];
    assert!(host.u64("rss_bytes") > 100_000 && host.u64("threads") > 1, "{host:?}");
    let owner = fs::metadata(format!("/proc/{}/maps", process.0.id())).unwrap().uid();
    assert_eq!(owner, 0, "a process whose memory its user may read owns its files in /proc");
}
