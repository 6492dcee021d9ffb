//! A disk that is full, and one that cannot be read.

use super::{Server, load, pushed, records};
use collector::read::read;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use system_tests::faults::Mode;
use system_tests::running::Home;

/// A file system of our own. It is taken away with this value.
struct Mount {
    path: PathBuf,
}

impl Mount {
    /// What `mount` makes of these arguments, or why it does not.
    fn new(path: PathBuf, arguments: &[&str]) -> Result<Self, String> {
        fs::create_dir(&path).expect("a folder to mount on");
        run(Command::new("mount").args(arguments).arg(&path)).map(|()| Self { path })
    }

    fn tmpfs(path: PathBuf, size: &str) -> Result<Self, String> {
        Self::new(path, &["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "tmpfs"])
    }

    fn resize(&self, size: &str) {
        let option = format!("remount,size={size}");
        run(Command::new("mount").args(["-o", &option]).arg(&self.path)).expect("another size");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: should a test fail, its collector still writes there.
        if let Err(why) = run(Command::new("umount").arg("--lazy").arg(&self.path)) {
            eprintln!("{} stays mounted: {why}", self.path.display());
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(Output { stderr, .. }) => Err(String::from_utf8_lossy(&stderr).trim().to_owned()),
        Err(why) => Err(format!("{}: {why}", command.get_program().display())),
    }
}

/// What the collector says in its own lines about the output with the spool.
fn reasons(words: &Path) -> Vec<String> {
    let mut text = fs::read(words).unwrap_or_default();
    text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1));
    let lines = read(&text).expect("whole lines");
    let mut lines: Vec<_> = lines.iter().filter(|line| line.table == "collector_output").collect();
    lines
        .retain(|line| line.tag("output").starts_with("influxdb2") && line.get("reason").is_some());
    lines.iter().map(|line| line.text("reason").to_owned()).collect()
}

/// `make_room`: there is more room on the disk before the server is back. Else only what is delivered
/// makes room.
fn fill_the_disk(make_room: bool) {
    const TOTAL: u64 = 40_000;
    let home = Home::new();
    let disk = match Mount::tmpfs(home.path("disk"), "1m") {
        Ok(disk) => disk,
        Err(why) => return println!("SKIPPED: no tmpfs can be mounted: {why}"),
    };
    let server = Server::out_of_reach();
    let words = home.path("words");
    let mut collector = home.start(&format!(
        "interval = \"50ms\"\n{}{}[[output]]\nkind = \"file\"\npath = \"{}\"\n",
        load(&home, "a", &format!("lines = 500\ntotal = {TOTAL}")),
        server.output(&home, &disk.path, ""),
        words.display()
    ));
    collector.wait_for("its spool cannot be written: No space left on device");
    let before = pushed(&home, "a");
    collector.wait_until("collection to go on", |_| pushed(&home, "a") >= before + 2_500);
    let alarm = "the spool cannot be written: No space left on device";
    collector.wait_until("an alarm", |_| reasons(&words).iter().any(|why| why.contains(alarm)));
    let most = records::size(&disk.path);
    assert!(most <= 1 << 20 && most > 900 << 10, "{most} bytes in a spool on a disk of 1 MiB");
    if make_room {
        disk.resize("16m");
        collector.wait_for("its spool works again");
    }
    server.proxy.set(Mode::Pass);
    collector.wait_until("all to arrive", |_| server.count() == TOTAL);
    collector.wait_for("its spool works again");
    collector.terminate();
    let ended = collector.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(server.has("a"), (1..=TOTAL).collect::<Vec<_>>());
    for (output, books) in ended.books() {
        assert!(books.balance() && books.dropped.is_empty(), "{output}: {books:?}");
        assert_eq!((books.waiting, books.delivered), (0, books.produced), "{output}");
    }
    println!("TABLE: full disk, more room made: {make_room}: 0 of {TOTAL} lines lost");
}

#[test]
fn a_full_disk_means_memory_only_until_there_is_room() {
    fill_the_disk(true);
}

#[test]
fn a_full_disk_means_memory_only_until_what_it_holds_is_delivered() {
    fill_the_disk(false);
}

/// The disk is a loop device, the end of whose file is gone: the block layer answers EIO there.
#[test]
fn what_a_disk_cannot_read_is_counted_and_the_rest_arrives() {
    const TOTAL: u64 = 10_000;
    let home = Home::new();
    let image = home.path("image");
    File::create(&image).and_then(|file| file.set_len(8 << 20)).expect("a sparse file");
    let format = ["-q", "-F", "-b", "1024", "-O", "^has_journal"];
    let disk = run(Command::new("mkfs.ext4").args(format).arg(&image)).and_then(|()| {
        Mount::new(home.path("disk"), &["-o", "loop", image.to_str().expect("UTF-8")])
    });
    let disk = match disk {
        Ok(disk) => disk,
        Err(why) => return println!("SKIPPED: no disk image can be mounted: {why}"),
    };
    let server = Server::out_of_reach();
    // Nothing of the collector's own comes before the end.
    let mut collector = home.start(&format!(
        "interval = \"1h\"\n{}{}",
        load(&home, "a", &format!("interval = \"50ms\"\nlines = 500\ntotal = {TOTAL}")),
        server.output(&home, &disk.path, "batch_lines = 500\n")
    ));
    collector.wait_until("all to be spooled", |_| records::lines(&disk.path) == TOTAL);
    // While it is frozen all of it is on the disk, and nothing is written beyond the cut.
    run(Command::new("fsfreeze").arg("-f").arg(&disk.path)).expect("a frozen file system");
    let bytes = fs::read(&image).expect("the image");
    let offsets: Vec<_> = records::offsets(&bytes).collect();
    let cut = File::options().write(true).open(&image).expect("the image");
    cut.set_len(offsets[offsets.len() / 2] as u64).expect("half of the records are gone");
    let device = Command::new("findmnt").args(["-no", "SOURCE"]).arg(&disk.path).output();
    let device = String::from_utf8(device.expect("findmnt").stdout).expect("UTF-8");
    run(Command::new("losetup").args(["-c", device.trim()])).expect("a device that ends there");
    run(Command::new("fsfreeze").arg("-u").arg(&disk.path)).expect("a file system that goes on");
    for segment in records::segments(&disk.path) {
        // Off the kernel's memory.
        let from = format!("if={}", segment.display());
        run(Command::new("dd").args([&from, "iflag=nocache", "count=0"])).expect("dd");
    }
    server.proxy.set(Mode::Pass);
    collector.wait_for("cannot be read: Input/output error");
    collector.terminate();
    let ended = collector.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let (books, arrived) = (ended.only_books(), server.has("a"));
    let lost = books.dropped.get("spool_error").copied().unwrap_or_default();
    assert!(books.balance() && books.waiting == 0, "{books:?}");
    assert_eq!(arrived.len() as u64 + lost, TOTAL, "{books:?}\n{}", ended.stderr);
    assert!(lost > 0 && !arrived.is_empty(), "{books:?}");
    assert_eq!(books.delivered, server.contract.points() as u64, "and what came after it");
    assert!(books.delivered > arrived.len() as u64, "{books:?}");
    println!("TABLE: read error (EIO) in the spool: {lost} of {TOTAL} lines lost, all counted");
}
