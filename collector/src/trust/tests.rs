use super::*;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};

/// Not root, and not us.
const SOMEBODY: u32 = 12345;

#[test]
fn only_root_and_we_may_change_what_we_rely_on() {
    use Flaw::{Owner, Writable};
    use Subject::{Link, Own, Way, Written};
    for (subject, owner, mode, expected) in [
        (Own, 0, 0o100_755, None),
        (Own, 7, 0o100_600, None),
        (Own, 8, 0o100_600, Some(Owner(8))),
        (Own, 0, 0o100_775, Some(Writable)),
        (Own, 7, 0o100_646, Some(Writable)),
        (Own, 0, 0o041_777, Some(Writable)),
        (Way, 0, 0o041_777, None),
        (Way, 0, 0o040_777, Some(Writable)),
        (Way, 0, 0o040_775, Some(Writable)),
        (Way, 8, 0o041_777, Some(Owner(8))),
        (Link, 7, 0o120_777, None),
        (Link, 8, 0o120_777, Some(Owner(8))),
        (Written, 7, 0o100_666, None),
        (Written, 8, 0o100_600, Some(Owner(8))),
    ] {
        assert_eq!(fault(subject, owner, mode, 7), expected, "{subject:?} {owner} {mode:o}");
    }
}

fn reason<T>(result: io::Result<T>) -> String {
    result.err().expect("an error").to_string()
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A folder with a file, reached by way of other folders and links.
#[test]
fn every_folder_and_link_on_the_way_is_checked() {
    if !geteuid().is_root() {
        return println!("SKIPPED: only root can give files away");
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("real/deep")).unwrap();
    fs::write(at("real/deep/file"), "text").unwrap();
    symlink("real", at("short")).unwrap();
    symlink(at("short/deep"), at("long")).unwrap();
    symlink("../long/../deep/./file", at("real/link")).unwrap();
    let places = ["real/deep/file", "short/deep/file", "long/file", "real/link", "short/link"];
    let real = at("real/deep/file").canonicalize().unwrap();
    for place in places {
        let (file, path) = open(&at(place)).unwrap_or_else(|e| panic!("{place}: {e}"));
        assert_eq!((io::read_to_string(file).unwrap(), path), ("text".into(), real.clone()));
        assert_eq!(
            Folder::open(at(place).parent().unwrap()).unwrap().names().unwrap().len(),
            1 + usize::from(place.ends_with("link"))
        );
    }
    // Each fault is found by every path that leads past it.
    let faulty = |path: &Path, past: &[&str]| {
        for place in places {
            let result = open(&at(place));
            assert_eq!(result.is_err(), past.contains(&place), "{} by {place}", path.display());
            if let Err(error) = result {
                let path = path.display().to_string();
                assert!(error.to_string().contains(&path), "{error}");
            }
        }
    };
    for name in ["real/deep/file", "real/deep", "real"] {
        for mode in [0o775, 0o757] {
            let before = fs::metadata(at(name)).unwrap().permissions().mode();
            set(&at(name), mode);
            faulty(&at(name), &places);
            set(&at(name), before);
        }
        chown(at(name), Some(SOMEBODY), None).unwrap();
        faulty(&at(name), &places);
        chown(at(name), Some(0), None).unwrap();
    }
    set(&at("real"), 0o1777);
    faulty(&at("real"), &[]);
    assert!(reason(Folder::open(&at("real"))).contains("others than its owner may change"));
    set(&at("real"), 0o755);
    let give = |name: &str, owner| std::os::unix::fs::lchown(at(name), Some(owner), None).unwrap();
    give("long", SOMEBODY);
    faulty(&at("long"), &["long/file", "real/link", "short/link"]);
    give("long", 0);
    give("short", SOMEBODY);
    faulty(&at("short"), &places[1..]);
}

#[test]
fn links_that_lead_nowhere_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("loop");
    symlink("loop", &path).unwrap();
    assert!(reason(open(&path)).contains("loop"));
    symlink("nowhere", dir.path().join("lost")).unwrap();
    assert!(reason(open(&dir.path().join("lost"))).contains("/nowhere does not exist"));
    fs::write(dir.path().join("file"), "").unwrap();
    assert!(reason(open(&dir.path().join("file/below"))).contains("/file: Not a directory"));
    assert!(reason(Folder::open(&dir.path().join("none/below"))).contains("/none does not exist"));
}

#[test]
fn folders_are_made_for_their_owner_only_and_come_back_when_they_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let folder = Folder::make(&path).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&path), mode(&dir.path().join("a"))), (0o700, 0o700));
    assert!(!folder.is_gone());
    fs::remove_dir(&path).unwrap();
    assert!(folder.is_gone());
    assert!(folder.write("x".as_ref(), Write::New).is_err(), "no file in a folder that is gone");
}

#[test]
fn nothing_but_a_file_of_ours_is_opened_for_writing() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    let (target, name) = (dir.path().join("target"), "name".as_ref());
    fs::write(&target, "kept").unwrap();
    let refused = |words: &str| {
        for write in [Write::Append { mode: 0o600 }, Write::Update, Write::Found, Write::New] {
            let reason = reason(folder.write(name, write));
            assert!(reason.contains(words), "{write:?}: {reason}");
        }
        fs::remove_file(dir.path().join(name)).unwrap();
    };
    symlink(&target, dir.path().join(name)).unwrap();
    refused("a symbolic link, not a regular file");
    symlink("nowhere", dir.path().join(name)).unwrap();
    refused("a symbolic link");
    rustix::fs::mkfifoat(&folder, name, rustix::fs::Mode::RWXU).unwrap();
    refused("a named pipe, not a regular file");
    fs::hard_link(&target, dir.path().join(name)).unwrap();
    let reason = reason(folder.write(name, Write::Update));
    assert!(reason.contains("it has another name"), "{reason}");
    assert_eq!(fs::read(&target).unwrap(), b"kept");
}
