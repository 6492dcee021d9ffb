//! Files that are no plugins are refused with the reason, and the dynamic linker never sees a broken one.

use crate::process::{command, example, folder, run};
use collector::elf::{self, Abi};
use collector::load;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn reason(path: &Path) -> String {
    match load::load_here(path) {
        Ok(plugin) => panic!("{} is {}", path.display(), plugin.description.name),
        Err(reason) => reason,
    }
}

/// A shared library of the system that is no plugin: the one that this test itself uses.
fn libc() -> std::path::PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut path = maps.lines().filter_map(|line| line.split_whitespace().last());
    path.find(|path| path.contains("libc.so") || path.contains("libc-")).unwrap().into()
}

#[test]
fn a_plugin_says_what_it_is() {
    let plugin = load::load_here(&example("good")).unwrap_or_else(|reason| panic!("{reason}"));
    assert_eq!(plugin.description.name, "good");
    let tables: Vec<&str> = plugin.description.tables.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(tables, ["good", "good_wait"]);
}

#[test]
fn a_library_cut_short_at_any_place_never_reaches_the_linker() {
    let bytes = fs::read(example("good")).unwrap();
    elf::check(&bytes).unwrap();
    let number = |at: usize, n: usize| {
        bytes[at..at + n].iter().rev().fold(0u64, |sum, b| sum << 8 | u64::from(*b)) as usize
    };
    // Every boundary that the headers name, and its neighbours.
    let mut cuts = vec![0, 1, 4, 63, 64, bytes.len() - 1];
    let (segments, sections) = (number(0x20, 8), number(0x28, 8));
    for i in 0..number(0x38, 2) {
        let header = segments + i * 56;
        cuts.extend([
            header,
            number(header + 8, 8),
            number(header + 8, 8) + number(header + 32, 8),
        ]);
    }
    for i in 0..number(0x3c, 2) {
        let header = sections + i * 64;
        cuts.extend([
            header,
            number(header + 24, 8),
            number(header + 24, 8) + number(header + 32, 8),
        ]);
    }
    let named = cuts.len();
    cuts.extend(cuts.clone().iter().flat_map(|cut| [cut.saturating_sub(1), cut + 1]));
    let mut seed = 0x5eed_u64;
    cuts.extend((0..200).map(|_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % bytes.len()
    }));
    assert!(named > 100, "{named} boundaries");
    for cut in cuts {
        if cut < bytes.len() {
            assert!(elf::check(&bytes[..cut]).is_err(), "cut at {cut} of {}", bytes.len());
        }
    }
}

#[test]
fn a_cut_file_is_refused_by_name_and_length() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.so");
    let bytes = fs::read(example("good")).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let reason = reason(&path);
    assert!(
        reason.starts_with(&format!("cut short: its {} bytes end", bytes.len() / 2)),
        "{reason}"
    );
}

#[test]
fn what_is_no_plugin_is_called_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    assert!(reason(&file("text.so", b"hello\n")).starts_with("a text file"));
    assert_eq!(reason(&file("empty.so", b"")), "the file is empty");
    let directory = dir.path().join("directory.so");
    fs::create_dir(&directory).unwrap();
    assert_eq!(reason(&directory), "a directory, not a regular file");
    let foreign = file("foreign.so", &fs::read(libc()).unwrap());
    assert!(
        reason(&foreign).starts_with("a shared library, but no plugin"),
        "{}",
        reason(&foreign)
    );
    let gone = dir.path().join("gone.so");
    std::os::unix::fs::symlink("/nowhere", &gone).unwrap();
    assert!(reason(&gone).starts_with("cannot be found"));
}

#[test]
fn a_c_plugin_is_told_from_a_rust_one_by_its_symbols() {
    for (name, abi) in [("good", Abi::Rust), ("unity", Abi::C)] {
        let plugin = load::load_here(&example(name)).unwrap_or_else(|reason| panic!("{reason}"));
        assert_eq!((plugin.abi(), &*plugin.description.name), (abi, name));
        assert_eq!(elf::check(&fs::read(example(name)).unwrap()).unwrap().abi, abi);
    }
}

#[test]
fn a_plugin_of_another_abi_is_told_both_versions() {
    let own = "this collector has 1.";
    let types = reason(&example("foreign_abi"));
    assert!(types.contains("built for plugin-api 1.77.777") && types.contains(own), "{types}");
    assert!(types.contains("different types"), "{types}");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("major.so");
    let mut bytes = fs::read(example("foreign_abi")).unwrap();
    let version = b"1.77.777";
    let places: Vec<usize> =
        (0..bytes.len() - 8).filter(|i| bytes[*i..*i + 8] == version[..]).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|at| bytes[*at] = b'9');
    fs::write(&path, bytes).unwrap();
    let major = reason(&path);
    assert!(major.contains("built for plugin-api 9.77.777") && major.contains(own), "{major}");
}

#[test]
fn a_file_that_others_may_change_is_not_run_by_root() {
    if fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m)).unwrap() != 0 {
        return; // others run what they may
    }
    let dir = folder(&["good"]);
    let path = dir.path().join("libgood.so");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let reason = reason(&path);
    assert!(reason.contains("chmod go-w "), "{reason}");
    assert!(reason.contains("libgood.so`"), "{reason}");
}

#[test]
fn refused_files_show_up_and_the_rest_runs() {
    let dir = folder(&["good", "foreign_abi"]);
    let bytes = fs::read(example("good")).unwrap();
    fs::write(dir.path().join("libcut.so"), &bytes[..bytes.len() - 1000]).unwrap();
    fs::write(dir.path().join("text.so"), "hello").unwrap();
    fs::write(dir.path().join(".hidden.so"), "hello").unwrap();
    fs::write(dir.path().join("README.md"), "hello").unwrap();
    fs::copy(dir.path().join("libgood.so"), dir.path().join("good.so")).unwrap();
    let ended = run(dir.path(), &["--interval", "100ms", "--ticks", "2"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.ticks("good"), 2);
    for (plugin, reason) in [
        ("cut", "cut short"),
        ("text", "a text file"),
        ("foreign_abi", "built for plugin-api 1.77.777"),
        ("libgood.so", "plugin `good` is already "),
    ] {
        assert_eq!(ended.states(plugin), ["refused"], "{plugin}");
        assert!(ended.reasons(plugin).contains(reason), "{}", ended.reasons(plugin));
    }
    let mut names: Vec<&str> =
        ended.table("collector_plugin").map(|line| line.tag("plugin")).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, ["cut", "foreign_abi", "good", "libgood.so", "text"]);

    let list = command(dir.path(), &["list"]);
    assert_eq!(list.code, Some(0));
    let row = |name: &str| list.stdout.lines().find(|row| row.starts_with(name)).unwrap();
    assert!(row("good ").split_whitespace().nth(2) == Some("loads"), "{}", list.stdout);
    assert!(row("text.so ").contains("-        refused  a text file"), "{}", list.stdout);
}

#[test]
fn a_folder_without_a_plugin_is_nothing_to_run() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("text.so"), "hello").unwrap();
    let ended = run(dir.path(), &["--ticks", "1"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("text.so refused: a text file"), "{}", ended.stderr);
    assert!(ended.stderr.contains("nothing can run"), "{}", ended.stderr);
}
