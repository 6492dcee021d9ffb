//! The folder, its lock, and a disk or a process that has nothing left to give.

use super::*;
use rustix::fs::{IFlags, Mode, ioctl_getflags, ioctl_setflags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[test]
fn files_are_for_the_owner_only() {
    let mut case = Case::new(1 << 20);
    case.append(&batch("p", 1, 1));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&case.folder()), 0o700);
    assert_eq!(mode(&case.files()[0]), 0o600);
    assert_eq!(mode(&case.folder().join("lock")), 0o600);
}

#[test]
fn a_second_collector_is_refused_and_told_who_has_the_spool() {
    let case = Case::new(1 << 20);
    let error = format!("{:#}", Spool::open(&case.config, "out").unwrap_err());
    let folder = case.folder().display().to_string();
    assert!(error.contains(&folder), "{error}");
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    assert!(Spool::open(&case.config, "another output").is_ok());
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let config = config(&dir.path().join("file/spool"), 1 << 20);
    let error = format!("{:#}", Spool::open(&config, "out").unwrap_err());
    assert!(error.contains("/file: Not a directory"), "{error}");
}

#[test]
fn a_folder_that_was_removed_is_made_again_and_what_was_open_is_not_lost() {
    let mut case = Case::new(1 << 20);
    let all = case.dir.path().to_owned();
    (1..=2).for_each(|n| case.append(&batch("p", n, 1)));
    let (taken, place) = case.take(Side::Oldest, &ONE, 0)[0];
    fs::remove_dir_all(&all).unwrap();
    case.append(&batch("p", 3, 1));
    assert_eq!(case.files().len(), 1);
    // Only its files; and moved away, where a new one stands in its place.
    fs::remove_file(&case.files()[0]).unwrap();
    case.append(&batch("p", 4, 1));
    fs::rename(case.folder(), all.join("moved")).unwrap();
    fs::create_dir(case.folder()).unwrap();
    case.append(&batch("p", 5, 1));
    assert!(Spool::open(&case.config, "out").is_err(), "it is locked as before");
    assert_eq!((taken, case.spool().waiting().lines), (1, 4));
    case.spool().done(place);
    assert_eq!(case.take_seconds(Side::Oldest, &ONE), [2]);
    case.reopen();
    assert_eq!(case.recovered, [stretch("p", 1, 4, 5)], "what the folder has survives");
    assert_eq!(case.lost, []);
}

#[test]
fn what_was_removed_and_not_open_is_told_as_lost() {
    let mut case = Case::new(1 << 20);
    case.append(&batch("p", 1, 1));
    case.reopen();
    fs::remove_dir_all(case.folder()).unwrap();
    case.append(&batch("p", 2, 3));
    assert_eq!(case.take_seconds(Side::Oldest, &ALL), [2]);
    assert_eq!(case.lost, [(stretch("p", 1, 0, 1), Cause::SpoolError)]);
}

/// Unmounts, also when the test fails.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_costs_nothing_and_appending_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let size = c"size=256k,mode=700";
    if let Err(why) = mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), size) {
        println!("SKIPPED: no tmpfs can be mounted: {why}");
        return;
    }
    let _mounted = Mounted(dir.path().to_owned());
    let (mut spool, _) = Spool::open(&config(dir.path(), 1 << 20), "out").unwrap();
    let mut lost = Lost::new();
    let mut written = 0;
    let error = loop {
        match spool.append(&long(written + 1, 10_000), &mut lost) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "the disk is not full");
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(written > 10);
    for _ in 0..10 {
        let before = spool.disk_bytes();
        assert!(spool.append(&long(0, 10_000), &mut lost).is_err());
        assert_eq!(spool.disk_bytes(), before);
        assert_eq!(bytes_of_files(&dir.path().join("out")), before, "nothing of it is left");
    }
    // A smaller one may still fit; what is done makes room.
    let first = spool.take(Side::Oldest, &Portion { lines: 15, ..ALL }, 0, &mut lost);
    first.iter().for_each(|(_, place)| spool.done(*place));
    spool.append(&long(written + 1, 10_000), &mut lost).unwrap();
    drop(spool);
    let (mut spool, recovered) = Spool::open(&config(dir.path(), 1 << 20), "out").unwrap();
    assert_eq!(recovered, [stretch("p", written as u64 + 1 - 15, 15, written + 1)]);
    let seconds = |taken: Vec<(Arc<Batch>, Place)>| {
        taken.into_iter().map(|(batch, _)| batch.tick.time_ns / S).collect::<Vec<_>>()
    };
    assert_eq!(
        seconds(spool.take(Side::Oldest, &ALL, 0, &mut lost)),
        (16..=written + 1).collect::<Vec<_>>()
    );
    assert_eq!(lost, []);
}

/// Makes a file immutable, which not even root may write or remove, until the end of the test.
struct Immutable(File);

impl Immutable {
    fn new(path: &Path) -> Result<Self, rustix::io::Errno> {
        let file = File::open(path).unwrap();
        ioctl_setflags(&file, ioctl_getflags(&file)? | IFlags::IMMUTABLE)?;
        Ok(Self(file))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = ioctl_getflags(&self.0)
            .and_then(|flags| ioctl_setflags(&self.0, flags - IFlags::IMMUTABLE));
    }
}

#[test]
fn what_can_no_longer_be_written_can_still_be_read() {
    let mut case = Case::new(1 << 20);
    (1..=2).for_each(|n| case.append(&batch("p", n, 1)));
    case.spool().split();
    let _immutable = match Immutable::new(&case.files()[0]) {
        Ok(immutable) => immutable,
        Err(why) => return println!("SKIPPED: no file can be made immutable: {why}"),
    };
    assert_eq!(case.drain().len(), 2);
    assert_eq!((case.spool().disk_bytes(), case.lost.len()), (0, 0));
    // It could not be removed either: sent twice is better than not at all.
    case.reopen();
    assert_eq!(case.recovered, [stretch("p", 2, 0, 2)]);
}

/// In a process of its own, since all of it is left without files.
#[test]
fn a_process_without_files_left_loses_nothing() {
    const INSIDE: &str = "SPOOL_TEST_WITHOUT_FILES";
    if std::env::var_os(INSIDE).is_none() {
        let name = std::thread::current().name().unwrap().to_owned();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--exact", &name]).env(INSIDE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let mut case = Case::new(1 << 20);
    (1..=3).for_each(|n| case.append(&batch("p", n, 1)));
    case.reopen();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..limit }).unwrap();
    let taken = case.take_seconds(Side::Oldest, &ALL);
    let error = case.spool.as_mut().unwrap().append(&batch("p", 4, 1), &mut case.lost);
    let waiting = case.spool().waiting().lines;
    setrlimit(Resource::Nofile, limit).unwrap();
    assert_eq!((taken, error.is_err(), waiting), (vec![], true, 3));
    assert_eq!(case.lost, []);
    assert_eq!(case.take_seconds(Side::Oldest, &ALL), [1, 2, 3]);
}

/// A place for a spool that is not there yet.
fn nothing() -> (tempfile::TempDir, SpoolConfig, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("spool"), 1 << 20);
    let folder = config.dir.join("out");
    (dir, config, folder)
}

#[test]
fn a_prepared_link_does_not_make_root_write_to_what_it_points_to() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "kept").unwrap();
    let symbolic = |place: &Path| std::os::unix::fs::symlink(&victim, place).unwrap();
    let hard = |place: &Path| fs::hard_link(&victim, place).unwrap();
    let ways: [&dyn Fn(&Path); 2] = [&symbolic, &hard];
    for name in ["lock", "output", "00000000.spool", "00000001.spool", "7.spool"] {
        let (_dir, config, folder) = nothing();
        fs::create_dir_all(&folder).unwrap();
        let place = folder.join(name);
        for prepare in ways {
            prepare(&place);
            if let Ok((mut spool, recovered)) = Spool::open(&config, "out") {
                assert_eq!(recovered, []);
                let mut lost = Lost::new();
                for i in 0..5 {
                    spool.append(&long(i, 1000), &mut lost).unwrap();
                }
                assert_eq!((lost, spool.waiting().lines), (Lost::new(), 5));
            }
            assert_eq!(fs::read_to_string(&victim).unwrap(), "kept", "{name}");
            fs::remove_dir_all(&folder).unwrap();
            fs::create_dir(&folder).unwrap();
        }
        let fifo = Mode::RUSR | Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &place, fifo).unwrap();
        let _ends = Spool::open(&config, "out");
    }
}

#[test]
fn a_folder_that_others_may_change_is_refused() {
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let (_dir, config, folder) = nothing();
    drop(Spool::open(&config, "out").unwrap());
    for path in [&folder, &config.dir] {
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        for open in [0o770, 0o1777] {
            mode(path, open);
            let error = format!("{:#}", Spool::open(&config, "out").unwrap_err());
            assert!(error.contains("others than its owner may change "), "{error}");
            assert!(error.contains(&format!("`chmod go-w {}`", path.display())), "{error}");
        }
        mode(path, 0o700);
    }
    std::os::unix::fs::chown(&folder, Some(12345), None).unwrap();
    let error = format!("{:#}", Spool::open(&config, "out").unwrap_err());
    assert!(error.contains("is owned by user 12345"), "{error}");
}

#[test]
fn a_folder_of_another_output_is_refused_whatever_it_is_called() {
    let (_dir, config, folder) = nothing();
    let open = |output| Spool::open(&config, output);
    drop(open("one").unwrap());
    drop(open("one").unwrap());
    fs::rename(config.dir.join("one"), &folder).unwrap();
    let error = format!("{:#}", open("out").unwrap_err());
    assert!(error.contains("holds lines for one, not for out: move it away"), "{error}");
    for torn in ["", "on"] {
        fs::write(folder.join("output"), torn).unwrap();
        drop(open("out").unwrap());
    }
    assert!(open("out").is_ok());
}

#[test]
fn a_folder_that_was_removed_is_made_again() {
    let (_dir, config, folder) = nothing();
    let (mut spool, _) = Spool::open(&config, "out").unwrap();
    let mut lost = Lost::new();
    spool.append(&long(1, 1000), &mut lost).unwrap();
    fs::remove_dir_all(&config.dir).unwrap();
    spool.append(&long(2, 1000), &mut lost).unwrap();
    assert!(folder.join("00000001.spool").exists());
    let taken = spool.take(Side::Oldest, &ALL, 0, &mut lost);
    assert_eq!((taken.len(), lost), (2, Lost::new()), "what is open can still be read");
    taken.iter().for_each(|(_, place)| spool.done(*place));
    assert_eq!(spool.waiting().lines, 0);
    drop(spool);
    assert_eq!(Spool::open(&config, "out").unwrap().1, []);
}
