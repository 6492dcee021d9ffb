//! Shells on terminals, typed at, beside what the lines say.

use bashreadline::Bashreadline;
use plugin_bpf::{Running, only_kind, possible_cpus};
use plugin_testing::cpu::is_left_to_others;
use plugin_testing::process::{Child, rename};
use plugin_testing::terminal::{self, INTERACTIVE, Terminal};
use plugin_testing::unharmed::{self, Program};
use plugin_testing::{Folder, Harness, Line, alone, map_bytes, missed, ways};
use std::ffi::{CStr, CString};
use std::fs;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Tool = Harness<Running<Bashreadline>>;

const BASH: &str = "/bin/bash";
const LIBRARY: &str = "/lib/x86_64-linux-gnu/libreadline.so.8";

fn one<'a>(lines: &'a [Line], table: &str) -> &'a Line {
    lines.iter().find(|l| l.table == table).unwrap_or_else(|| panic!("a line of {table}"))
}

/// Commands, empty lines, ends of input, shells.
fn counts(lines: &[Line]) -> [u64; 4] {
    ["commands", "empty", "eofs", "shells"].map(|field| one(lines, "bashreadline").u64(field))
}

fn files(lines: &[Line]) -> [u64; 2] {
    ["probed", "unprobed"].map(|field| one(lines, "bashreadline_files").u64(field))
}

fn shell(path: &Path) -> Terminal {
    Terminal::shell(path)
}

/// A tool after its first tick, at which it attaches; none on a kernel without uprobes.
fn started(options: &str) -> Option<Tool> {
    let mut tool = Tool::init_or_skip(options)?;
    let lines = tool.call().expect("a tick");
    assert!(files(&lines)[0] >= 1, "{lines:?}");
    Some(tool)
}

#[test]
fn five_hundred_commands_are_counted_each_once_and_scripts_are_not() {
    let _alone = alone();
    for (kind, mut tool) in ways::<Running<Bashreadline>>(only_kind, &["raw", "tp"], "{}") {
        assert!(files(&tool.call().expect("a tick"))[0] >= 1);
        let mut shells = [shell(BASH.as_ref()), shell(BASH.as_ref())];
        // How the tool is told of shells makes no difference to their lines.
        let each = if kind == "raw" { 250 } else { 10 };
        for shell in &mut shells {
            shell.lines(&vec!["true"; each]);
            shell.lines(&[""; 10]);
        }
        let folder = Folder::new("bashreadline");
        fs::write(folder.at("script"), "true\ntrue\n").expect("a script");
        let run = |arguments: &[&str], input: &str| {
            let mut child =
                Command::new(BASH).args(arguments).stdin(Stdio::piped()).spawn().expect("bash");
            child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("written");
            assert!(child.wait().expect("its end").success());
        };
        run(&["-c", "true; true"], "");
        run(&[folder.at("script").to_str().expect("a path")], "");
        run(&["--norc"], "true\ntrue\n");
        for shell in shells {
            assert!(shell.end().success());
        }
        let lines = tool.call().expect("a tick");
        println!("{kind}: {:?}, {} missed", counts(&lines), missed(&lines));
        assert_eq!(
            counts(&lines),
            [2 * each as u64, 20, 2, 2],
            "{kind}: {} missed",
            missed(&lines)
        );
        assert_eq!(counts(&tool.call().expect("a tick")), [0; 4], "{kind}");
    }
}

/// The known tool probes readline() alone, whose entry such a shell has passed.
#[test]
fn a_shell_that_waits_for_a_line_already_is_seen_and_given_up_lines_are_none() {
    let _alone = alone();
    let mut shell = shell(BASH.as_ref());
    let Some(mut tool) = started("{}") else { return };
    shell.lines(&["true", "true", "", "true"]);
    assert_eq!(counts(&tool.call().expect("a tick")), [3, 1, 0, 1]);
    // ^C leaves readline() by a long jump, past what its probe waits for.
    (0..30).for_each(|_| shell.give_up(b"abc"));
    shell.lines(&["true", "(true; true) | true"]);
    shell.keys(b"read -e x\n");
    shell.lines(&[b"answer"]);
    assert_eq!(counts(&tool.call().expect("a tick")), [4, 0, 0, 1]);
    assert!(shell.end().success());
    assert_eq!(counts(&tool.call().expect("a tick")), [0, 0, 1, 1]);
}

#[test]
fn the_text_is_an_event_s_field_only_when_it_is_wanted() {
    let _alone = alone();
    let Some(mut tool) = started(r#"{"text":true}"#) else { return };
    let mut shell = shell(BASH.as_ref());
    let long = [b": ".as_slice(), &[b'x'; 4094]].concat();
    // The longest that has room, and one byte more.
    let (fits, over) =
        ([b": ".as_slice(), &[b'y'; 1021]].concat(), [b": ".as_slice(), &[b'z'; 1022]].concat());
    for line in [
        b": plain, a=b \"c\"".as_slice(),
        b": \x16\x01\x16\x1b[1m",
        b": \x16\xff\x16\xc3",
        &long,
        &fits,
        &over,
        b"",
    ] {
        shell.lines(&[line]);
    }
    let lines = tool.call().expect("a tick");
    assert_eq!(counts(&lines)[..2], [6, 1]);
    let events: Vec<_> = lines.iter().filter(|l| l.table == "bashreadline_event").collect();
    let texts: Vec<_> = events.iter().map(|l| l.text("text").to_owned()).collect();
    let truncated: Vec<_> = events
        .iter()
        .map(|l| l.get("truncated") == Some(&plugin_testing::Value::Bool(true)))
        .collect();
    println!("{:?}", &texts[..3]);
    assert_eq!(texts[0], ": plain, a=b \"c\"");
    assert!(texts[1].starts_with(": ") && texts[1].ends_with("[1m"));
    assert!(texts[2].starts_with(": ") && texts[2].contains('\u{fffd}'), "{:?}", texts[2]);
    assert_eq!([texts[3].len(), texts[4].len(), texts[5].len()], [1023; 3]);
    assert_eq!(truncated, [false, false, false, true, false, true]);
    for event in &events {
        assert_eq!(event.u64("pid"), shell.pid as u64);
        assert!(event.tags.values().all(|tag| !tag.contains("plain")), "{event:?}");
    }
    drop(tool);
    let Some(mut tool) = started("{}") else { return };
    shell.lines(&[b": secret"]);
    let lines = tool.call().expect("a tick");
    assert_eq!(counts(&lines)[0], 1);
    assert!(!format!("{lines:?}").contains("secret"));
}

#[test]
fn lines_are_counted_by_user_and_only_of_those_who_are_wanted() {
    let _alone = alone();
    let Some(mut tool) = started(r#"{"by":"uid"}"#) else { return };
    let become_user = |user: u32| {
        // SAFETY: calls with numbers.
        move || unsafe { assert_eq!((libc::setgid(user), libc::setuid(user)), (0, 0)) }
    };
    let mut user = Terminal::start(BASH.as_ref(), &INTERACTIVE, become_user(12345));
    let mut other = Terminal::start(BASH.as_ref(), &INTERACTIVE, become_user(12346));
    user.lines(&["true", "true", ""]);
    other.lines(&[b"true"]);
    let lines = tool.call().expect("a tick");
    let row = |uid: &str| {
        let of = |l: &&Line| l.table == "bashreadline_uid" && l.tag("uid") == uid;
        let row = lines.iter().find(of).expect("a row");
        ["commands", "empty"].map(|field| row.u64(field))
    };
    assert_eq!([row("12345"), row("12346"), row("other")], [[2, 1], [1, 0], [0, 0]]);
    drop(tool);
    let Some(mut tool) = started(&format!(r#"{{"pid":[{}]}}"#, user.pid)) else { return };
    user.lines(&[b"true"]);
    other.lines(&["true", "true"]);
    assert_eq!(counts(&tool.call().expect("a tick")), [1, 0, 0, 1]);
}

/// Each copy is a file of its own.
#[test]
fn files_are_found_and_let_go_as_they_come_and_go() {
    let _alone = alone();
    let Some(mut tool) = started("{}") else { return };
    let before = files(&tool.call().expect("a tick"))[0];
    let folder = Folder::new("bashreadline");
    let path = folder.copy(BASH.as_ref(), "bash");
    let mut old = shell(&path);
    let since = Instant::now();
    let lines = tool.call().expect("a tick");
    println!("a new file attached in a tick of {:?}", since.elapsed());
    assert_eq!(files(&lines), [before + 1, 0]);
    old.lines(&[b"true"; 3]);
    assert_eq!(counts(&tool.call().expect("a tick"))[..2], [3, 0]);

    // An upgrade: both run for a while.
    folder.copy(BASH.as_ref(), "bash");
    let mut new = shell(&path);
    assert_eq!(files(&tool.call().expect("a tick")), [before + 2, 0]);
    old.lines(&[b"true"; 2]);
    new.lines(&[b"true"; 5]);
    assert_eq!(counts(&tool.call().expect("a tick")), [7, 0, 0, 2]);
    assert!(old.end().success());
    let lines = tool.until("the old file is let go", |lines| files(lines)[0] == before + 1);
    assert_eq!(files(&lines)[1], 0);
    new.lines(&[b"true"]);
    assert_eq!(counts(&tool.call().expect("a tick"))[0], 1);

    // Kept while it is where the host has it, for whoever comes next.
    assert!(new.end().success());
    tool.call().expect("a tick");
    let mut next = shell(&path);
    next.lines(&[b"true"]);
    let lines = tool.call().expect("a tick");
    assert_eq!((counts(&lines)[0], files(&lines)[0]), (1, before + 1));
    drop(next);
    fs::remove_file(&path).expect("removed");
    tool.until("the removed file is let go", |lines| files(lines)[0] == before);

    // More tellings than the kernel keeps: a thread that takes the name again and again.
    std::thread::scope(|scope| _ = scope.spawn(|| (0..1100).for_each(|_| rename(c"sh"))));
    let mut shell = shell(&folder.copy(BASH.as_ref(), "bash"));
    let since = Instant::now();
    let lines = tool.call().expect("a tick");
    println!("all processes looked at in a tick of {:?}", since.elapsed());
    assert_eq!(files(&lines)[0], before + 1);
    shell.lines(&[b"true"]);
    assert_eq!(counts(&tool.call().expect("a tick"))[0], 1);
}

/// As a container: mounts of its own, and a root of its own.
fn contain(folder: &Path) -> impl FnOnce() + use<> {
    let (folder, mut files) = (folder.to_owned(), libraries());
    files.push(BASH.into());
    move || {
        let c = |path: &Path| CString::new(path.to_str().expect("a path")).expect("no NUL");
        let root = c(&folder);
        // SAFETY: C strings; this process is a child of one thread, and ends when anything fails.
        unsafe {
            assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
            let (none, private) = (c"none".as_ptr(), libc::MS_REC | libc::MS_PRIVATE);
            assert_eq!(
                libc::mount(none, c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()),
                0
            );
            let tmpfs = c"tmpfs".as_ptr();
            assert_eq!(libc::mount(none, root.as_ptr(), tmpfs, 0, std::ptr::null()), 0);
        }
        for file in &files {
            let place = folder.join(file.strip_prefix("/").expect("from the root"));
            fs::create_dir_all(place.parent().expect("a folder")).expect("a folder");
            fs::copy(file, place).expect("a copy");
        }
        // SAFETY: C strings.
        unsafe { assert_eq!((libc::chroot(root.as_ptr()), libc::chdir(c"/".as_ptr())), (0, 0)) };
    }
}

/// What the dynamic linker maps for bash.
fn libraries() -> Vec<PathBuf> {
    let shell = shell(BASH.as_ref());
    let maps = fs::read_to_string(format!("/proc/{}/maps", shell.pid)).expect("a process");
    let files =
        maps.lines().filter_map(|line| line.split_once('/').map(|(_, path)| format!("/{path}")));
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.contains(".so")).map(Into::into).collect();
    // They are loaded by the names of links to them.
    let is_link = |link: &PathBuf, files: &[PathBuf]| {
        fs::canonicalize(link).is_ok_and(|file| &file != link && files.contains(&file))
    };
    let folders: Vec<_> =
        files.iter().filter_map(|file| file.parent().map(Path::to_owned)).collect();
    let entries =
        folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let links: Vec<_> =
        entries.map(|entry| entry.path()).filter(|link| is_link(link, &files)).collect();
    files.extend(links);
    let linkers = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    files.extend(linkers.map(PathBuf::from).into_iter().filter(|linker| linker.exists()));
    files.sort();
    files.dedup();
    files
}

#[test]
fn a_container_s_shell_is_found_by_its_process_and_let_go_with_it() {
    let _alone = alone();
    let Some(mut tool) = started("{}") else { return };
    let before = files(&tool.call().expect("a tick"))[0];
    let folder = Folder::new("bashreadline");
    let mut inside = Terminal::start(BASH.as_ref(), &INTERACTIVE, contain(folder.path()));
    let lines = tool.call().expect("a tick");
    assert_eq!(files(&lines), [before + 1, 0], "{lines:?}");
    let mut outside = shell(BASH.as_ref());
    inside.lines(&[b"true"; 4]);
    outside.lines(&[b"true"; 2]);
    assert_eq!(counts(&tool.call().expect("a tick")), [6, 0, 0, 2]);
    assert!(inside.end().success());
    tool.until("a container's file is let go", |lines| files(lines)[0] == before);
}

/// Two containers of one image: their overlays show the same file, each with a device of its own, and the kernel
/// probes the file below. A probe for each would count every line twice.
#[test]
fn a_file_below_two_overlays_is_one_file() {
    let _alone = alone();
    if !fs::read_to_string("/proc/filesystems").expect("a list").contains("overlay") {
        return println!("SKIPPED: this kernel has no overlays");
    }
    let Some(mut tool) = started("{}") else { return };
    let before = files(&tool.call().expect("a tick"))[0];
    let folder = Folder::new("bashreadline");
    ["image", "none"].iter().for_each(|name| fs::create_dir(folder.at(name)).expect("a folder"));
    fs::copy(BASH, folder.at("image/bash")).expect("a copy");
    let container = |name: &str| {
        fs::create_dir(folder.at(name)).expect("a folder");
        let c = |text: String| CString::new(text).expect("no NUL");
        let merged = c(folder.at(name).display().to_string());
        let layers = c(format!("lowerdir={0}/image:{0}/none", folder.path().display()));
        Terminal::start(&folder.at(name).join("bash"), &INTERACTIVE, move || {
            // SAFETY: C strings; a child of one thread.
            unsafe {
                let (private, null) = (libc::MS_REC | libc::MS_PRIVATE, std::ptr::null());
                assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
                assert_eq!(
                    libc::mount(c"none".as_ptr(), c"/".as_ptr(), null, private, null.cast()),
                    0
                );
                let overlay = c"overlay".as_ptr();
                assert_eq!(
                    libc::mount(overlay, merged.as_ptr(), overlay, 0, layers.as_ptr().cast()),
                    0
                );
            }
        })
    };
    let (mut first, mut second) = (container("first"), container("second"));
    assert_eq!(files(&tool.call().expect("a tick")), [before + 1, 0]);
    first.lines(&["true"; 3]);
    second.lines(&["true"; 4]);
    assert_eq!(counts(&tool.call().expect("a tick")), [7, 0, 0, 2]);
    // The one by whose overlay it is probed, perhaps.
    assert!(first.end().success());
    tool.call().expect("a tick");
    tool.call().expect("a tick");
    second.lines(&["true"; 5]);
    let lines = tool.call().expect("a tick");
    assert_eq!((counts(&lines)[0], files(&lines)[0]), (5, before + 1));
    assert!(second.end().success());
    tool.until("the image's file is let go", |lines| files(lines)[0] == before);
}

/// This very program, under another name, as one that reads lines by the library.
#[test]
fn reads_lines_when_it_is_told_to() {
    if std::env::var_os("READS_LINES").is_none() {
        return;
    }
    // SAFETY: the function has this type in every version of the library; what it returns is freed as it says.
    unsafe {
        let library = libc::dlopen(c"libreadline.so.8".as_ptr(), libc::RTLD_NOW);
        assert!(!library.is_null(), "no library");
        let readline = libc::dlsym(library, c"readline".as_ptr());
        let readline: extern "C" fn(*const libc::c_char) -> *mut libc::c_char =
            std::mem::transmute(readline);
        let prompt = CString::new(terminal::prompt()).expect("no NUL");
        loop {
            let line = readline(prompt.as_ptr());
            if line.is_null() {
                libc::_exit(0);
            }
            libc::free(line.cast());
        }
    }
}

fn reader(path: &Path) -> Terminal {
    Terminal::start(path, &["--exact", "reads_lines_when_it_is_told_to", "--nocapture"], || {})
}

#[test]
fn the_library_s_lines_are_bash_s_only_where_bash_reads_them() {
    let _alone = alone();
    if !Path::new(LIBRARY).exists() {
        return println!("SKIPPED: no {LIBRARY}");
    }
    let Some(mut tool) = started("{}") else { return };
    let before = files(&tool.call().expect("a tick"))[0];
    let folder = Folder::new("bashreadline");
    let own = std::env::current_exe().expect("this program");
    let mut bash = reader(&folder.copy(&own, "bash"));
    let mut other = reader(&folder.copy(&own, "gdb"));
    tool.until("the library", |lines| files(lines)[0] == before + 1);
    bash.lines(&["one", "two", ""]);
    other.lines(&[b"one"; 5]);
    let lines = tool.call().expect("a tick");
    let by_file = Path::new("/sys/kernel/btf/vmlinux").exists();
    println!("{:?}, told by {}", counts(&lines), if by_file { "file" } else { "name" });
    // A thread of the test harness reads the lines there, with a name of its own.
    let expected = if by_file { [2, 1, 0, 1] } else { [0, 0, 0, 0] };
    assert_eq!(counts(&lines), expected);
    assert!(bash.end().success() && other.end().success());
    let eofs = u64::from(by_file);
    assert_eq!(counts(&tool.call().expect("a tick")), [0, 0, eofs, eofs]);
    tool.until("the host's library is kept", |lines| files(lines)[0] == before + 1);
}

/// A program named bash that maps the files of a folder and sleeps.
fn maps(folder: &Folder, libraries: &[(&str, &[u8])]) -> Child {
    libraries
        .iter()
        .for_each(|(name, content)| fs::write(folder.at(name), content).expect("a file"));
    let bash = folder.path().with_extension("d").join("bash");
    fs::create_dir_all(bash.parent().expect("a folder")).expect("a folder");
    fs::copy(std::env::current_exe().expect("this program"), &bash).expect("a copy");
    let c = |path: &Path| CString::new(path.to_str().expect("a path")).expect("no NUL");
    let (bash, set) = (c(&bash), c(format!("MAPS={}", folder.path().display()).as_ref()));
    let child = Child::fork(c"hostile", || {
        let arguments: [&CStr; 4] =
            [&bash, c"--exact", c"maps_files_when_it_is_told_to", c"--nocapture"];
        let mut list: Vec<_> = arguments.iter().map(|a| a.as_ptr()).collect();
        list.push(std::ptr::null());
        let environment = [set.as_ptr(), std::ptr::null()];
        // SAFETY: a C string; lists of them that end with NULL.
        unsafe {
            // What its test harness says is no part of this one's output.
            libc::dup2(libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY), 1);
            libc::execve(bash.as_ptr(), list.as_ptr(), environment.as_ptr());
        }
        102
    });
    let since = Instant::now();
    let text = || fs::read_to_string(format!("/proc/{}/maps", child.pid)).unwrap_or_default();
    while text().lines().filter(|line| line.contains("libreadline.so.")).count() < libraries.len() {
        assert!(since.elapsed() < Duration::from_secs(30), "it maps {}", text());
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn maps_files_when_it_is_told_to() {
    let Some(folder) = std::env::var_os("MAPS") else { return };
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let file = fs::File::open(entry.path()).expect("a file");
        let (modes, fd) = (libc::PROT_READ | libc::PROT_EXEC, file.as_raw_fd());
        // SAFETY: a new mapping that nothing is done with.
        unsafe { libc::mmap(std::ptr::null_mut(), 4096, modes, libc::MAP_PRIVATE, fd, 0) };
    }
    loop {
        // SAFETY: waits for a signal.
        unsafe { libc::pause() };
    }
}

#[test]
fn a_hostile_file_costs_itself_and_no_other() {
    let _alone = alone();
    let Some(mut tool) = started("{}") else { return };
    let before = files(&tool.call().expect("a tick"));
    let folder = Folder::new("bashreadline");
    let real = fs::read(BASH).expect("bash");
    let mut lies = real.clone();
    lies[40..48].copy_from_slice(&u64::MAX.to_ne_bytes());
    let child = maps(
        &folder,
        &[
            ("libreadline.so.text", &[b'x'; 4096]),
            ("libreadline.so.cut", &real[..real.len() / 2]),
            ("libreadline.so.lies", &lies),
            ("libreadline.so.fifo", &[0; 4096]),
            ("libreadline.so.gone", &[0; 4096]),
            ("libreadline.so.a b,c=d\n", &[0; 4096]),
        ],
    );
    // Whoever opens it to read waits for somebody who writes.
    let fifo = folder.at("libreadline.so.fifo");
    fs::remove_file(&fifo).expect("removed");
    let fifo = CString::new(fifo.to_str().expect("a path")).expect("no NUL");
    // SAFETY: a C string.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o644) }, 0);
    fs::remove_file(folder.at("libreadline.so.gone")).expect("removed");
    let since = Instant::now();
    let lines = tool.call().expect("a tick");
    let took = since.elapsed();
    let program =
        |l: &&Line| l.table == "collector_program" && l.tag("program") == "line_uretprobe";
    let reason = lines.iter().find(program).expect("its line");
    println!("{took:?}: {:?}", reason.get("reason"));
    assert!(reason.get("reason").is_some() && took < Duration::from_secs(20));
    assert_eq!(files(&lines), [before[0], before[1] + 6]);
    let mut shell = shell(BASH.as_ref());
    shell.lines(&[b"true"; 3]);
    assert_eq!(counts(&tool.call().expect("a tick"))[0], 3);
    child.kill(libc::SIGKILL);
    let _ = child.wait();
    let _ = fs::remove_dir_all(folder.path().with_extension("d"));
    tool.until("hostile files are forgotten", |lines| files(lines) == before);
}

/// What may go wrong with whoever is probed: signals, long jumps, threads, forks.
#[test]
fn no_target_is_harmed() {
    let _alone = alone();
    if is_left_to_others() {
        return;
    }
    let Some(mut tool) = started("{}") else { return };
    let mut shell = shell(BASH.as_ref());
    unharmed::bash(&mut shell);
    let lines = tool.call().expect("a tick");
    assert_eq!(counts(&lines), [unharmed::BASH_LINES, 0, 0, 1]);
    assert!(shell.end().success());
    // One in C++ that reads lines under its own roof, and jumps out of them.
    if let Some(mut cpp) = Program::cpp("bash") {
        tool.call().expect("a tick");
        cpp.work();
        let lines = tool.call().expect("a tick");
        println!("of a C++ program: {:?}", counts(&lines));
        assert_eq!(counts(&lines)[0], unharmed::CPP_LINES);
        cpp.end();
    }
    for mut other in Program::node().into_iter().chain(Program::jvm()) {
        other.work();
        other.end();
    }
}

#[test]
fn at_default_options_the_maps_are_small_and_there_are_zeros() {
    let _alone = alone();
    let before = map_bytes();
    let Some(mut tool) = Tool::init_or_skip("{}") else { return };
    let (bytes, cpus) = (map_bytes() - before, u64::from(possible_cpus()));
    println!("{bytes} bytes of maps on {cpus} CPUs");
    assert!(bytes * 2 <= cpus * 512 * 1024, "0.5 MiB on two CPUs");
    tool.call().expect("a tick");
    let lines = tool.call().expect("a tick");
    let tables = ["bashreadline", "bashreadline_files", "bashreadline_lost"];
    assert!(tables.iter().all(|table| !one(&lines, table).fields.is_empty()));
    assert!(lines.iter().all(|l| l.table != "bashreadline_uid" && l.table != "bashreadline_event"));
}
