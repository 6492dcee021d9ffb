//! Names of this very process, beside another library's; and files that nobody should trust.

use super::elf::Image;
use super::file::Folder;
use super::module::{Answer, Module, Modules};
use super::resolver::{Asked, Resolver};
use super::*;
use crate::elf::read::Budget;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

fn budget() -> Budget {
    Budget { until: Instant::now() + Duration::from_secs(10), bytes: 96 << 20 }
}

/// A library with these functions: name, address, size, and a binding.
struct Elf {
    symbols: Vec<(&'static str, u64, u64, u8)>,
    /// Says of its names that they take so many bytes.
    names_len: Option<u64>,
    note: Vec<u8>,
}

const TEXT: u64 = 0x1000;

impl Elf {
    fn of(symbols: &[(&'static str, u64, u64, u8)]) -> Self {
        let note = [4u32, 20, 3].map(u32::to_ne_bytes).concat();
        let note = [&note[..], b"GNU\0", &[0xab; 20]].concat();
        Self { symbols: symbols.to_vec(), names_len: None, note }
    }

    /// Header, two segments, notes, names, symbols, three sections. The loaded part lies at 0x1000 in the file and
    /// at 0x401000 in memory.
    fn bytes(&self) -> Vec<u8> {
        let mut names = vec![0];
        let mut symbols = vec![0; 24];
        for (name, address, size, binding) in &self.symbols {
            symbols.extend((names.len() as u32).to_ne_bytes());
            symbols.extend([binding << 4 | 2, 0, 1, 0]);
            symbols.extend([*address, *size].map(u64::to_ne_bytes).concat());
            names.extend(name.bytes().chain([0]));
        }
        let notes_at = 64 + 2 * 56u64;
        let names_at = notes_at + self.note.len() as u64;
        let symbols_at = (names_at + names.len() as u64).next_multiple_of(8);
        let sections_at = symbols_at + symbols.len() as u64;
        let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        elf.extend([3u16, 62].map(u16::to_ne_bytes).concat());
        elf.extend(1u32.to_ne_bytes());
        elf.extend([0, 64, sections_at].map(u64::to_ne_bytes).concat());
        elf.extend(0u32.to_ne_bytes());
        elf.extend([64u16, 56, 2, 64, 3, 0].map(u16::to_ne_bytes).concat());
        for (kind, at, address, len) in
            [(1u32, TEXT, 0x40_1000, 0x1000), (4, notes_at, notes_at, self.note.len() as u64)]
        {
            elf.extend([kind, 5].map(u32::to_ne_bytes).concat());
            elf.extend([at, address, address, len, len, 4].map(u64::to_ne_bytes).concat());
        }
        elf.extend(&self.note);
        let names_len = self.names_len.unwrap_or(names.len() as u64);
        elf.extend(names);
        elf.resize(symbols_at as usize, 0);
        let symbols_len = symbols.len() as u64;
        elf.extend(symbols);
        for (kind, at, len, link, entry) in [
            (0u32, 0, 0, 0u32, 0u64),
            (2, symbols_at, symbols_len, 2, 24),
            (3, names_at, names_len, 0, 0),
        ] {
            elf.extend([0, kind].map(u32::to_ne_bytes).concat());
            elf.extend([0, 0, at, len].map(u64::to_ne_bytes).concat());
            elf.extend([link, 0].map(u32::to_ne_bytes).concat());
            elf.extend([1, entry].map(u64::to_ne_bytes).concat());
        }
        elf
    }
}

fn names(elf: &[u8], addresses: &[u64]) -> Option<Vec<(std::ops::Range<u64>, String)>> {
    let found = Image::read(elf)?.find(elf, addresses, &mut budget())?;
    let text = |name: Option<Vec<u8>>| {
        name.map_or_else(|| "-".to_owned(), |name| String::from_utf8_lossy(&name).into_owned())
    };
    Some(found.into_iter().map(|found| (found.within, text(found.name))).collect())
}

const FUNCTIONS: &[(&str, u64, u64, u8)] = &[
    ("outer", 0x40_1000, 0x100, 1),
    ("inner", 0x40_1040, 0x10, 0),
    ("weak", 0x40_1100, 0x20, 2),
    ("local", 0x40_1100, 0x20, 0),
    ("global", 0x40_1100, 0x20, 1),
    ("alias", 0x40_1100, 0x20, 1),
    ("label", 0x40_1200, 0, 0),
    ("last", 0x40_1300, 0x10, 1),
];

#[test]
fn an_address_has_the_innermost_symbol_and_the_best_of_equals() {
    let elf = Elf::of(FUNCTIONS).bytes();
    let asked =
        [0x40_0fff, 0x40_1000, 0x40_1045, 0x40_1050, 0x40_111f, 0x40_1120, 0x40_12ff, 0x40_1310];
    let expected = [
        (0..0x40_1000, "-"),
        (0x40_1000..0x40_1040, "outer"),
        (0x40_1040..0x40_1050, "inner"),
        (0x40_1050..0x40_1100, "outer"),
        (0x40_1100..0x40_1120, "global"),
        (0x40_1120..0x40_1200, "-"),
        (0x40_1200..0x40_1300, "label"),
        (0x40_1310..u64::MAX, "-"),
    ];
    let expected = expected.map(|(within, name)| (within, name.to_owned()));
    assert_eq!(names(&elf, &asked).expect("whole"), expected);
    // Each for itself it is the same.
    for (address, expected) in asked.iter().zip(expected) {
        assert_eq!(names(&elf, &[*address]).expect("whole"), [expected]);
    }
    let image = Image::read(&elf[..]).expect("whole");
    assert_eq!((image.address(0x1010), image.address(0x3000)), (Some(0x40_1010), None));
    assert_eq!(image.build_id.as_deref(), Some(&*"ab".repeat(20)));
}

#[test]
fn a_file_that_is_cut_anywhere_costs_its_names_alone() {
    let elf = Elf::of(FUNCTIONS).bytes();
    for len in 0..elf.len() {
        let answer = names(&elf[..len], &[0x40_1000, 0x40_1045]);
        assert!(answer.is_none_or(|names| names.iter().all(|(_, name)| name == "-")), "{len}");
    }
}

#[test]
fn a_file_that_lies_anywhere_costs_its_names_alone() {
    let elf = Elf::of(FUNCTIONS).bytes();
    let began = Instant::now();
    for at in 0..elf.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut elf = elf.clone();
            elf[at] = byte;
            let _ = names(&elf, &[0x40_1000, 0x40_1045, u64::MAX]);
        }
    }
    // Numbers of eight bytes.
    for at in 0..elf.len() - 8 {
        let mut elf = elf.clone();
        elf[at..at + 8].copy_from_slice(&[0xff; 8]);
        let _ = names(&elf, &[0, 0x40_1045, u64::MAX]);
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn a_note_that_lies_is_no_build_id() {
    let note = |name_len: u32, len: u32, kind: u32, rest: &[u8]| {
        [&[name_len, len, kind].map(u32::to_ne_bytes).concat()[..], rest].concat()
    };
    for lie in [
        note(4, u32::MAX, 3, b"GNU\0abcd"),
        note(u32::MAX, 20, 3, b"GNU\0abcd"),
        note(u32::MAX - 11, u32::MAX - 3, 3, b"GNU\0abcd"),
        note(4, 0, 3, b"GNU\0"),
        note(4, 65, 3, &[b"GNU\0".as_slice(), &[1; 65]].concat()),
        note(0, 0, 0, b"").repeat(10_000),
    ] {
        let elf = Elf { note: lie, ..Elf::of(FUNCTIONS) }.bytes();
        assert_eq!(Image::read(&elf[..]).expect("whole").build_id, None);
        assert_eq!(names(&elf, &[0x40_1000]).expect("whole")[0].1, "outer");
    }
}

/// Its folder goes with it.
fn file_of(elf: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("lib.so");
    fs::write(&path, elf).expect("written");
    (folder, path)
}

/// What a file's names cost: looks for one as the thread does.
fn look(path: &Path, address: u64) -> (Option<Answer>, Duration) {
    let began = Instant::now();
    let answer = Folder::open("/").expect("there").within(path).and_then(|seen| {
        let mut modules = Modules::default();
        let id = modules.identify(&seen, "lib.so".to_owned())?;
        let file = seen.open()?;
        let module = modules.get_mut(id)?;
        let budget = &mut budget();
        if module.find(&file, &[address], budget, || seen.is_unchanged()).is_none() {
            module.give_up(&[address]);
        }
        Some(module.look_up(address))
    });
    (answer, began.elapsed())
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("there");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn half_a_gigabyte_of_names_costs_nothing() {
    let mut elf = Elf::of(FUNCTIONS);
    elf.names_len = Some(500 << 20);
    let (_folder, path) = file_of(&elf.bytes());
    let file = File::options().write(true).open(&path).expect("ours");
    file.set_len(600 << 20).expect("sparse");
    let before = resident_kib();
    let (answer, took) = look(&path, 0x40_1000);
    assert_eq!(answer, Some(Answer::Named("outer".into())));
    assert!(resident_kib() < before + 4_096 && took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_table_of_symbols_without_end_is_given_up() {
    let elf = Elf::of(FUNCTIONS).bytes();
    let (_folder, path) = file_of(&elf);
    let mut file = File::options().write(true).open(&path).expect("ours");
    // The length of the second section, in the third header from behind.
    let len_at = elf.len() as u64 - 2 * 64 + 32;
    file.seek(SeekFrom::Start(len_at)).expect("there");
    file.write_all(&(24u64 << 40).to_ne_bytes()).expect("written");
    file.set_len(1 << 40).expect("sparse");
    let (answer, took) = look(&path, 0x40_1000);
    assert_eq!(answer, Some(Answer::Nameless));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn what_is_no_file_is_not_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let fifo = folder.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().is_ok_and(|status| status.success());
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("/dev/zero", &link).expect("a link");
    let mut paths =
        vec![folder.path().to_owned(), link, "/dev/zero".into(), "/proc/self/mem".into()];
    if made {
        paths.push(fifo);
    }
    for path in paths {
        let (answer, took) = look(&path, 0x1000);
        assert!(matches!(answer, None | Some(Answer::Nameless)), "{}: {answer:?}", path.display());
        assert!(took < Duration::from_secs(5));
    }
}

#[test]
fn a_link_does_not_lead_out_of_the_root() {
    let root = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink("/etc", root.path().join("lib")).expect("a link");
    let folder = Folder::open(root.path().to_str().expect("text")).expect("there");
    assert!(Path::new("/etc/passwd").exists() && folder.within(Path::new("/lib/passwd")).is_none());
    fs::create_dir(root.path().join("etc")).expect("a folder");
    fs::write(root.path().join("etc/passwd"), "theirs").expect("written");
    let seen = folder.within(Path::new("/lib/passwd")).expect("its own");
    assert_eq!(seen.identity.size, 6);
}

#[test]
fn a_file_that_is_replaced_cut_or_rewritten_meanwhile_gives_no_names() {
    let elf = Elf::of(FUNCTIONS).bytes();
    let other = Elf::of(&[("other", 0x40_1000, 0x100, 1)]).bytes();
    type Change = fn(&Path, &[u8]);
    let changes: [(Change, bool); 4] = [
        (|_, _| (), true),
        // In another's place: this one is still whole.
        (
            |path, other| {
                fs::write(path.with_extension("new"), other).expect("written");
                fs::rename(path.with_extension("new"), path).expect("replaced");
            },
            true,
        ),
        (|path, other| fs::write(path, other).expect("rewritten"), false),
        (
            |path, _| {
                File::options().write(true).open(path).and_then(|f| f.set_len(300)).expect("cut")
            },
            false,
        ),
    ];
    for (i, (change, named)) in changes.into_iter().enumerate() {
        let (_folder, path) = file_of(&elf);
        let seen = Folder::open("/").expect("there").within(&path).expect("a file");
        let mut modules = Modules::default();
        let id = modules.identify(&seen, "lib.so".to_owned()).expect("new");
        // Times of files are as fine as the kernel's tick.
        thread::sleep(Duration::from_millis(20));
        change(&path, &other);
        let module = modules.get_mut(id).expect("there");
        let file = seen.open().expect("opened");
        let found = module.find(&file, &[0x40_1010], &mut budget(), || seen.is_unchanged());
        let answer = module.look_up(0x40_1010);
        let expected = if named { Answer::Named("outer".into()) } else { Answer::Unasked };
        // A replaced file has one link less, and so it changed.
        let is_right = answer == expected || i == 1 && answer == Answer::Unasked;
        assert!(is_right && found.is_some() == (answer != Answer::Unasked), "{i}: {answer:?}");
    }
}

#[test]
fn names_are_forgotten_by_use_and_never_those_in_use() {
    let mut modules = Modules::default();
    let elf = Elf::of(FUNCTIONS).bytes();
    let (_folder, path) = file_of(&elf);
    let identity = Folder::open("/").expect("there").within(&path).expect("a file").identity;
    let mut module = || {
        let image = Image::read(&elf[..]);
        modules.insert(Module::new(identity, "lib.so".into(), image))
    };
    let ids = [module(), module(), module()];
    for id in ids {
        let module = modules.get_mut(id).expect("there");
        assert!(module.find(&elf[..], &[0x40_1000], &mut budget(), || true).is_some());
        modules.bound(usize::MAX);
    }
    modules.get_mut(ids[0]).expect("used");
    let third = modules.bytes() / 3;
    modules.bound(2 * third);
    let known = ids.map(|id| modules.get(id).expect("there").look_up(0x40_1000) != Answer::Unasked);
    assert_eq!(known, [true, false, true]);
}

fn named(stacks: &[(Option<Owner>, &[u64])]) -> (Vec<String>, Counts) {
    let asked = |(owner, user): &(Option<Owner>, &[u64])| Asked {
        owner: *owner,
        root: "root".to_owned(),
        user: user.to_vec(),
        kernel: Vec::new(),
    };
    let limits = Limits { time: Duration::from_secs(20), ..Limits::default() };
    let mut resolver = Resolver::new(limits);
    let until = Instant::now() + limits.time;
    let asked: Vec<_> = stacks.iter().map(asked).collect();
    let (folded, counts) = resolver.answer(&asked, until);
    (folded.into_iter().map(|folded| folded.text.to_string()).collect(), counts)
}

#[inline(never)]
fn of_this_crate() -> u64 {
    std::hint::black_box(7)
}

#[test]
fn functions_of_this_process_have_their_names() {
    let here = of_this_crate as *const () as u64;
    let libc = libc::getpid as *const () as u64;
    let own = Owner::now(std::process::id());
    let (texts, counts) =
        named(&[(Some(own), &[here]), (Some(own), &[libc, here + 1]), (Some(own), &[1, 2, 3])]);
    println!("{texts:?}");
    let name = "symbols::tests::of_this_crate";
    assert!(texts[0].starts_with("root;") && texts[0].ends_with(name), "{texts:?}");
    assert!(texts[1].contains(&format!("{name};")) && texts[1].contains("getpid"), "{texts:?}");
    assert_eq!(texts[2], "root;[unknown]");
    assert_eq!((counts.stacks, counts.frames, counts.unnamed, counts.unknown), (3, 6, 0, 3));
}

#[test]
fn a_process_that_began_after_the_stack_is_another_one() {
    let here = [of_this_crate as *const () as u64];
    let now = process::clock(libc::CLOCK_MONOTONIC);
    let pid = std::process::id();
    let earlier = Owner { began_before_ns: 1, ..Owner::now(pid) };
    let before_exec = Owner::at(pid, now - 1_000).executed(now);
    let after_exec = Owner::at(pid, now).executed(now - 1_000);
    let gone = Owner::now(u32::MAX >> 2);
    let owners = [earlier, before_exec, after_exec, gone].map(Some);
    let (texts, _) = named(&owners.map(|owner| (owner, &here[..])));
    let known = texts.iter().map(|text| !text.ends_with("[unknown]")).collect::<Vec<_>>();
    assert_eq!(known, [false, false, true, false], "{texts:?}");
}

/// As blazesym finds them: another reader of the same tables. Addresses are spread over all that this process
/// has mapped.
#[test]
fn another_reader_finds_the_same_functions() {
    use blazesym::symbolize::source::{Process, Source};
    use blazesym::symbolize::{Input, Symbolizer};
    let maps = fs::read_to_string("/proc/self/maps").expect("there");
    let mut addresses = BTreeSet::new();
    for line in maps.lines().filter(|line| line.contains(" r-xp ") && line.contains('/')) {
        let (start, end) =
            line.split_once(' ').expect("a line").0.split_once('-').expect("a range");
        let number = |text| u64::from_str_radix(text, 16).expect("a number");
        let (start, end) = (number(start), number(end));
        addresses.extend((0..400).map(|i| start + (end - start) / 400 * i));
    }
    let addresses: Vec<u64> = addresses.into_iter().collect();
    let mut source = Process::new(blazesym::Pid::Slf);
    source.debug_syms = false;
    source.map_files = false;
    let symbolizer = Symbolizer::builder().enable_demangling(false).build();
    let theirs = symbolizer.symbolize(&Source::Process(source), Input::AbsAddr(&addresses));
    let theirs = theirs.expect("its names");
    let owner = Some(Owner::now(std::process::id()));
    let stacks: Vec<_> =
        addresses.iter().map(|address| (owner, std::slice::from_ref(address))).collect();
    let (ours, _) = named(&stacks);
    let (mut same, mut differ, mut neither) = (0, Vec::new(), 0);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let ours = ours.strip_prefix("root;").expect("the root");
        match theirs.as_sym() {
            Some(sym) => {
                let name = name::readable(sym.name.as_bytes());
                // Of several names of one function either may be shown.
                if name == ours { same += 1 } else { differ.push((name, ours)) }
            }
            None if ours.contains("+0x") || ours == "[unknown]" => neither += 1,
            None => differ.push(("-".to_owned(), ours)),
        }
    }
    println!("{same} the same, {neither} without a name, {} differ: {differ:?}", differ.len());
    assert!(same > 200, "too few to compare");
    assert!(differ.len() * 20 < same, "{differ:?}");
}

#[test]
fn what_does_not_come_in_time_is_said_and_comes_later() {
    let mut symbols = Symbols::new(Limits::default()).expect("a thread");
    let here = [of_this_crate as *const () as u64];
    let owner = Some(Owner::now(std::process::id()));
    let stack = Stack { owner, root: "a;b\n", user: &here, kernel: &[] };
    let folded = symbols.resolve(&[stack], Duration::ZERO);
    assert!(!folded[0].resolved && &*folded[0].text == "a:b_;[unresolved]", "{folded:?}");
    assert_eq!(symbols.take_counts(), Counts { stacks: 1, unresolved: 1, ..Counts::default() });
    let folded = symbols.resolve(&[stack], Duration::from_secs(20));
    assert!(folded[0].resolved && folded[0].text.starts_with("a:b_;"), "{folded:?}");
    assert_eq!(symbols.take_counts().unresolved, 0);
    let again = symbols.resolve(&[stack], Duration::from_secs(20));
    assert_eq!(folded, again);
    assert!(symbols.resolve(&[], Duration::ZERO).is_empty());
}

#[test]
fn the_thread_has_no_more_capabilities_than_it_can_use() {
    let mut symbols = Symbols::new(Limits::default()).expect("a thread");
    let stack = Stack { owner: None, root: "a", user: &[], kernel: &[] };
    assert!(symbols.resolve(&[stack], Duration::from_secs(20))[0].resolved);
    let most = [2, 19, 34, 38, 39, 40].iter().fold(0, |most, capability| most | 1u64 << capability);
    // Another test's thread may just begin.
    let began = Instant::now();
    loop {
        let tasks = fs::read_dir("/proc/self/task").expect("there").flatten();
        let status = |task: fs::DirEntry| fs::read_to_string(task.path().join("status"));
        let status = tasks.flat_map(status).filter(|text| text.starts_with("Name:\tsymbols\n"));
        let held: Vec<u64> = status
            .flat_map(|text| {
                let sets = text.lines().filter_map(|line| {
                    line.strip_prefix("CapEff:").or_else(|| line.strip_prefix("CapPrm:"))
                });
                sets.flat_map(|set| u64::from_str_radix(set.trim(), 16)).collect::<Vec<_>>()
            })
            .collect();
        assert!(!held.is_empty());
        if held.iter().all(|held| held & !most == 0 || held >> 39 & 1 == 0) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{held:x?}");
    }
}

/// A process that was seen while it lived has names after its end.
#[test]
fn a_process_that_was_watched_is_known_after_its_end() {
    let mut symbols = Symbols::new(Limits::default()).expect("a thread");
    let mut child = Command::new("/bin/sleep").arg("60").spawn().expect("sleep");
    thread::sleep(Duration::from_millis(50));
    let maps = fs::read_to_string(format!("/proc/{}/maps", child.id())).expect("its maps");
    let text =
        maps.lines().find(|line| line.contains(" r-xp ") && line.contains('/')).expect("code");
    let start =
        u64::from_str_radix(text.split_once('-').expect("a range").0, 16).expect("a number");
    let (pid, addresses) = (child.id(), [start + 0x10]);
    let mut sighting = Some((pid, start));
    symbols.watch(move || sighting.take());
    thread::sleep(Duration::from_millis(300));
    let owner = Some(Owner::now(pid));
    child.kill().and_then(|()| child.wait()).expect("ended");
    let stack = Stack { owner, root: "", user: &addresses, kernel: &[] };
    let folded = symbols.resolve(&[stack], Duration::from_secs(20));
    println!("{folded:?}");
    assert!(&*folded[0].text != "[unknown]", "{folded:?}");
}
