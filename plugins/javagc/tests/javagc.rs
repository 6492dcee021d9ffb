//! JVMs, and processes with a JVM's probes, beside what the lines say.

#![cfg(target_arch = "x86_64")]

#[path = "javagc/fake.rs"]
mod fake;

use fake::{Fake, library};
use javagc::Javagc;
use plugin_bpf::{Running, kernel_at_least, only_kind, possible_cpus};
use plugin_testing::cpu::is_left_to_others;
use plugin_testing::unharmed::{self, Collecting, Program};
use plugin_testing::{Folder, Harness, Line, alone, map_bytes, missed, ways};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

type Tool = Harness<Running<Javagc>>;

fn one<'a>(lines: &'a [Line], table: &str) -> &'a Line {
    lines.iter().find(|l| l.table == table).unwrap_or_else(|| panic!("a line of {table}"))
}

fn pause<'a>(lines: &'a [Line], kind: &str, full: &str) -> &'a Line {
    let of = |l: &&Line| l.table == "javagc" && l.tag("kind") == kind && l.tag("full") == full;
    lines.iter().find(of).expect("a line of each kind")
}

/// Collections, full ones, pools in each.
fn counts(lines: &[Line]) -> [u64; 4] {
    [("gc", "0"), ("gc", "1"), ("pool", "0"), ("pool", "1")]
        .map(|(kind, full)| pause(lines, kind, full).u64("count"))
}

/// JVMs with probes, without, of which nothing is seen; libraries.
fn jvms(lines: &[Line]) -> [u64; 4] {
    ["probed", "perfdata", "unseen", "libraries"].map(|field| one(lines, "javagc_jvms").u64(field))
}

fn rows(lines: &[Line], table: &str, tag: &str) -> BTreeMap<String, u64> {
    let rows = lines.iter().filter(|l| l.table == table);
    rows.map(|l| (l.tag(tag).to_owned(), l.u64("collections"))).filter(|(_, n)| *n > 0).collect()
}

/// A library in a folder of its own, as each JVM has it.
fn put(folder: &Folder, name: &str, content: &[u8]) -> PathBuf {
    folder.write(&format!("{name}/libjvm.so"), content)
}

/// The known tool keeps one begin for each process: a pool's within a collection takes its place.
#[test]
fn collections_and_the_pools_within_them_are_counted_each_once_in_every_jvm() {
    let _alone = alone();
    let folder = Folder::new("javagc");
    let path = put(&folder, "a", &library("dil"));
    for (kind, mut tool) in ways::<Running<Javagc>>(only_kind, &["raw", "tp"], r#"{"by":"jvm"}"#) {
        let before = jvms(&tool.call().expect("a tick"));
        let mut first = Fake::start(&path);
        let since = Instant::now();
        let lines = tool.call().expect("a tick");
        println!("{kind}: attached in a tick of {:?}", since.elapsed());
        assert_eq!(jvms(&lines)[3], before[3] + 1, "{kind}: {lines:?}");
        first.orders(b'g', 20);
        first.orders(b'f', 5);
        // No tick between its start and its collections: its library is known.
        let mut second = Fake::start(&path);
        second.orders(b'f', 25);
        let lines = tool.call().expect("a tick");
        println!("{kind}: {:?}, {} missed", counts(&lines), missed(&lines));
        assert_eq!(counts(&lines), [20, 30, 40, 60], "{kind}: {} missed", missed(&lines));
        assert_eq!(jvms(&lines)[0], before[0] + 2);
        let rows = rows(&lines, "javagc_jvm", "jvm");
        assert_eq!(rows.values().sum::<u64>(), 50, "{rows:?}");
        let lost = one(&lines, "javagc_lost");
        let fields = ["unmatched", "unended", "dropped_begins", "unread"].map(|f| lost.u64(f));
        assert_eq!(fields, [0; 4], "{kind}: {lost:?}");
        for full in ["0", "1"] {
            let [gc, pool] = ["gc", "pool"].map(|kind| pause(&lines, kind, full).u64("max_us"));
            assert!(gc >= pool, "{kind}: a pool took {pool} us of a collection's {gc}");
        }
        let rest = tool.call().expect("a tick");
        assert_eq!(counts(&rest), [0; 4]);
    }
}

/// What is older than the tool is found by its library, whatever its name is.
#[test]
fn a_jvm_is_found_whatever_program_it_is_in_and_half_collections_are_lost() {
    let _alone = alone();
    let folder = Folder::new("javagc");
    let path = put(&folder, "a", &library("dil"));
    let mut old = Fake::named(c"tomcat", &path);
    old.orders(b'b', 1);
    let before = map_bytes();
    let Some(mut tool) = Tool::init_or_skip("{}") else { return };
    let (bytes, cpus) = (map_bytes() - before, u64::from(possible_cpus()));
    println!("{bytes} bytes of maps on {cpus} CPUs");
    assert!(bytes * 2 <= cpus * 512 * 1024, "0.5 MiB on two CPUs");
    let lines = tool.call().expect("a tick");
    let tables = ["javagc", "javagc_perfdata", "javagc_jvms", "javagc_lost"];
    assert!(tables.iter().all(|table| !one(&lines, table).fields.is_empty()));
    assert!(lines.iter().all(|l| l.table != "javagc_jvm"));
    old.orders(b'e', 1);
    old.orders(b'b', 2); // one within the other: the later begin counts
    old.orders(b'e', 1);
    old.orders(b'b', 1);
    let lines = tool.call().expect("a tick");
    let lost =
        |lines: &[Line]| ["unmatched", "unended"].map(|field| one(lines, "javagc_lost").u64(field));
    assert_eq!((counts(&lines), lost(&lines)), ([1, 0, 0, 0], [1, 1]));
    // Its counter of who listens, while somebody does.
    assert_eq!(old.orders(b's', 1), 1);
    let before = jvms(&lines)[3];
    let mut new = Fake::named(c"VM Thread", &put(&folder, "b", &library("dil")));
    assert_eq!(jvms(&tool.call().expect("a tick"))[3], before + 1);
    new.orders(b'f', 3);
    assert_eq!(counts(&tool.call().expect("a tick"))[1], 3);
    // It is killed within a collection.
    drop(old);
    let unended = (0..70).map(|_| lost(&tool.call().expect("a tick"))[1]);
    assert_eq!(unended.sum::<u64>(), 1);
}

#[test]
fn libraries_come_and_go_and_hostile_ones_cost_no_other() {
    let _alone = alone();
    let folder = Folder::new("javagc");
    let Some(mut tool) = Tool::init_or_skip("{}") else { return };
    libraries_come_and_go(&folder, &mut tool);
    hostile_libraries_cost_no_other(&folder, &mut tool);
}

fn libraries_come_and_go(folder: &Folder, tool: &mut Tool) {
    let before = jvms(&tool.call().expect("a tick"));
    let path = put(folder, "a", &library("dil"));
    let mut old = Fake::start(&path);
    assert_eq!(jvms(&tool.call().expect("a tick"))[3], before[3] + 1);
    // An upgrade, with the argument elsewhere: at the same place of a page.
    put(folder, "a", &library("sil"));
    let mut new = Fake::start(&path);
    let lines = tool.call().expect("a tick");
    let both = kernel_at_least(5, 15);
    println!("{:?}", lines.iter().find(|l| l.get("reason").is_some()));
    assert_eq!(jvms(&lines)[3], before[3] + 1 + u64::from(both));
    old.orders(b'f', 3);
    if both {
        new.orders(b'f', 4);
    }
    let lines = tool.call().expect("a tick");
    assert_eq!(counts(&lines)[1], if both { 7 } else { 3 });
    drop(old);
    // The refused one, too: it is tried again.
    tool.until("the old one is let go", |lines| jvms(lines)[3] == before[3] + 1);
    std::thread::sleep(Duration::from_millis(10));
    tool.until("the new one is probed", |lines| jvms(lines)[0] == before[0] + 1);
    fs::remove_file(&path).expect("removed");
    drop(new);
    tool.until("all are let go", |lines| jvms(lines) == before);
}

fn hostile_libraries_cost_no_other(folder: &Folder, tool: &mut Tool) {
    let before = jvms(&tool.call().expect("a tick"));
    let real = library("dil");
    let mut text = real.clone();
    text[..64].fill(b'x');
    // Notes: too many bytes, a probe where nothing is loaded, an argument that no register has.
    let at_headers = u64::from_ne_bytes(real[40..48].try_into().expect("eight")) as usize;
    let mut huge = real.clone();
    huge[at_headers + 64 + 32..][..8].copy_from_slice(&u64::MAX.to_ne_bytes());
    let notes =
        u64::from_ne_bytes(real[at_headers + 64 + 24..][..8].try_into().expect("eight")) as usize;
    let mut nowhere = real.clone();
    nowhere[notes + 20..][..8].copy_from_slice(&u64::MAX.to_ne_bytes());
    let cut = [&real[..at_headers - 10], &[]].concat();
    let contents = [text, huge, nowhere, cut, library("xyz")];
    let fakes: Vec<_> = contents
        .iter()
        .enumerate()
        .map(|(i, content)| Fake::start(&put(folder, &format!("hostile{i}"), content)))
        .collect();
    assert!(fakes.iter().all(|fake| fake.maps().contains("libjvm.so")));
    let good = put(folder, "good", &real);
    let mut jvm = Fake::start(&good);
    let lines = tool.call().expect("a tick");
    let program =
        |l: &&Line| l.table == "collector_program" && l.tag("program") == "gc_begin_uprobe";
    println!("{:?}", lines.iter().find(program).and_then(|l| l.get("reason")));
    let expected = [before[0] + 1, before[1], before[2] + 5, before[3] + 1];
    assert_eq!(jvms(&lines), expected, "none of them has perf data");
    jvm.orders(b'f', 4);
    assert_eq!(counts(&tool.call().expect("a tick"))[1], 4);
    drop(fakes);
    tool.until("they are forgotten", |lines| jvms(lines)[2] == before[2]);
}

/// One with Debian's probes, named so that a place of the host has it.
#[test]
fn fifty_forced_collections_are_counted_while_a_second_jvm_starts_and_nobody_is_harmed() {
    let _alone = alone();
    if is_left_to_others() {
        return;
    }
    let Some(mut tool) = Tool::init_or_skip(r#"{"by":"jvm"}"#) else { return };
    tool.call().expect("a tick");
    let java = unharmed::java();
    let Some(mut first) = Collecting::start(&java, &[]) else {
        return println!("SKIPPED: no `java` here");
    };
    first.collect(25);
    let lines = tool.call().expect("a tick");
    if jvms(&lines)[0] == 0 {
        return println!("SKIPPED: this JVM has no static probes");
    }
    println!("{:?}", pause(&lines, "gc", "1"));
    assert_eq!(counts(&lines)[1], 25);
    let mut second = Collecting::start(&java, &["-XX:+UseSerialGC"]).expect("java");
    first.collect(13);
    second.collect(12);
    let lines = tool.call().expect("a tick");
    println!("{:?}: {:?}", pause(&lines, "gc", "1"), rows(&lines, "javagc_jvm", "jvm"));
    assert_eq!(counts(&lines)[1], 25);
    assert_eq!(jvms(&lines)[0], 2);
    let rows = rows(&lines, "javagc_jvm", "jvm");
    assert!(rows["Collect"] >= 25 && rows.len() == 1, "{rows:?}");
    // Pools, with those of other collections that may have been.
    let [other, full, pools, pools_full] = counts(&lines);
    assert!(pools >= other && pools_full >= full, "{:?}", counts(&lines));
    drop((first, second));
    tool.until("they are gone", |lines| jvms(lines)[0] == 0);
    no_target_is_harmed(&mut tool);
}

fn no_target_is_harmed(tool: &mut Tool) {
    if let Some(mut jvm) = Program::jvm() {
        tool.call().expect("a tick");
        jvm.work();
        let lines = tool.call().expect("a tick");
        println!("{:?}", counts(&lines));
        assert!(jvms(&lines)[0] == 0 || counts(&lines)[1] >= 5);
        jvm.end();
    }
    for mut other in Program::cpp("java").into_iter().chain(Program::node()) {
        tool.call().expect("a tick");
        other.work();
        other.end();
    }
}

/// Debian's JVM with its probes' provider renamed.
fn without_probes(folder: &Folder) -> Option<PathBuf> {
    let java = fs::canonicalize(unharmed::java()).ok()?;
    let home = java.parent()?.parent()?;
    let copy = folder.at("jdk");
    let places = ["bin", "lib", "lib/server"].map(|place| copy.join(place));
    places.iter().for_each(|place| fs::create_dir_all(place).expect("a folder"));
    for entry in fs::read_dir(home.join("lib")).ok()?.flatten() {
        let name = entry.file_name();
        if name != "server" {
            symlink(entry.path(), copy.join("lib").join(name)).expect("a link");
        }
    }
    if home.join("conf").exists() {
        symlink(home.join("conf"), copy.join("conf")).expect("a link");
    }
    let mut library = fs::read(home.join("lib/server/libjvm.so")).ok()?;
    // The notes lie near the end, together.
    let from = library.len() / 4 * 3;
    let mut found = 0;
    for at in from..library.len() - 8 {
        if library[at..at + 8] == *b"hotspot\0" {
            library[at] = b'H';
            found += 1;
        }
    }
    if found == 0 {
        return None;
    }
    fs::write(copy.join("lib/server/libjvm.so"), library).expect("a library");
    fs::copy(&java, copy.join("bin/java")).expect("a copy");
    Some(copy.join("bin/java"))
}

#[test]
fn jvms_without_probes_are_told_by_their_own_counts_exactly_also_when_they_start_again() {
    let _alone = alone();
    if is_left_to_others() {
        return;
    }
    let folder = Folder::new("javagc");
    let Some(java) = without_probes(&folder) else {
        return println!("SKIPPED: no `java` here whose probes can be taken away");
    };
    // Older than the tool: what it did before is in no line.
    let serial = ["-XX:+UseSerialGC"];
    let mut old = Collecting::start(&java, &serial).expect("java");
    old.collect(7);
    let Some(mut tool) = Tool::init_or_skip(r#"{"by":"jvm"}"#) else { return };
    let lines = tool.call().expect("a tick");
    println!("{:?}", lines.iter().find_map(|l| l.get("reason")));
    assert_eq!(jvms(&lines)[..3], [0, 1, 0], "{lines:?}");
    assert!(rows(&lines, "javagc_perfdata", "gc").is_empty());
    old.collect(10);
    let mut new = Collecting::start(&java, &serial).expect("java");
    new.collect(5);
    let lines = tool.call().expect("a tick");
    let perfdata = rows(&lines, "javagc_perfdata", "gc");
    println!("{perfdata:?}");
    let full = |rows: &BTreeMap<String, u64>| {
        rows.iter().filter(|(name, _)| name.contains("full")).map(|(_, n)| n).sum::<u64>()
    };
    assert_eq!(full(&perfdata), 15, "{perfdata:?}");
    assert_eq!(counts(&lines), [0; 4]);
    assert!(rows(&lines, "javagc_jvm", "jvm")["Collect"] >= 15);
    drop(new);
    let mut again = Collecting::start(&java, &serial).expect("java");
    again.collect(3);
    let lines = tool.call().expect("a tick");
    assert_eq!(full(&rows(&lines, "javagc_perfdata", "gc")), 3);
    assert_eq!(jvms(&lines)[1], 2);
    // One whose counts are switched off.
    let silent = Collecting::start(&java, &["-XX:-UsePerfData"]).expect("java");
    let lines = tool.until("it is found", |lines| jvms(lines)[2] == 1);
    assert_eq!(jvms(&lines)[..3], [0, 2, 1]);
    drop(silent);
}
