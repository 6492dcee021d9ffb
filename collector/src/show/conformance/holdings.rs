//! What a process holds, seen from outside of it: nothing in it can lie about that.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// What a process holds at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::show) struct Holdings {
    /// BPF programs by number.
    pub programs: BTreeMap<u32, Program>,
    /// Bytes of BPF maps by number, as the kernel accounts them.
    pub maps: BTreeMap<u32, u64>,
    /// Numbers of BPF links with their kinds.
    pub links: BTreeMap<u32, String>,
    /// What its other descriptors lead to.
    pub descriptors: BTreeMap<u32, String>,
    /// Names of its threads by number.
    pub threads: BTreeMap<u32, String>,
    /// Signals that have a handler or are ignored.
    pub signals: Signals,
    /// Resident memory in bytes.
    pub resident: u64,
}

/// A program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::show) struct Program {
    pub runs: u64,
    pub run_ns: u64,
}

/// Bit `n - 1` stands for signal `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::show) struct Signals {
    caught: u64,
    ignored: u64,
}

impl Signals {
    /// What is done at a signal: 0 the default, 1 nothing, 2 a handler runs.
    pub fn action(self, signal: i32) -> u8 {
        let bit = |set: u64| u8::from(set >> (signal - 1) & 1 == 1);
        2 * bit(self.caught) + bit(self.ignored)
    }
}

impl Holdings {
    /// Looks.
    ///
    /// # Errors
    /// The process is gone, or who asks may not see its descriptors: that takes CAP_SYS_PTRACE, or to be its user where it
    /// keeps nothing secret.
    pub fn of(process: u32) -> io::Result<Self> {
        let place = Path::new("/proc").join(process.to_string());
        let mut seen = Self::default();
        for entry in fs::read_dir(place.join("fd"))? {
            let name = entry?.file_name();
            let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            // One that was closed meanwhile is not held.
            let Ok(target) = fs::read_link(place.join("fd").join(&name)) else { continue };
            let Ok(info) = fs::read_to_string(place.join("fdinfo").join(&name)) else { continue };
            seen.add(number, target.to_string_lossy().into_owned(), &info);
        }
        for entry in fs::read_dir(place.join("task"))? {
            let entry = entry?;
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if let Ok(name) = fs::read_to_string(entry.path().join("comm")) {
                seen.threads.insert(number, name.trim_end().to_owned());
            }
        }
        let status = fs::read_to_string(place.join("status"))?;
        let value =
            |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let set = |key: &str| value(key).and_then(|set| u64::from_str_radix(set, 16).ok());
        seen.signals = Signals {
            caught: set("SigCgt:").unwrap_or_default(),
            ignored: set("SigIgn:").unwrap_or_default(),
        };
        let kib = value("VmRSS:").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        seen.resident = kib.unwrap_or_default() << 10;
        Ok(seen)
    }

    fn add(&mut self, number: u32, target: String, info: &str) {
        let text = |key: &str| {
            info.lines()
                .find_map(|line| Some(line.strip_prefix(key)?.trim()).filter(|it| !it.is_empty()))
        };
        let number_of = |key: &str| text(key).and_then(|text| text.parse::<u64>().ok());
        let id = |key: &str| number_of(key).and_then(|id| u32::try_from(id).ok());
        // A link's descriptor names its program too.
        if let Some(link) = id("link_id:") {
            self.links.insert(link, text("link_type:").unwrap_or("?").to_owned());
        } else if let Some(program) = id("prog_id:").filter(|_| target.ends_with("bpf-prog")) {
            let (runs, run_ns) = (number_of("run_cnt:"), number_of("run_time_ns:"));
            let (runs, run_ns) = (runs.unwrap_or_default(), run_ns.unwrap_or_default());
            self.programs.insert(program, Program { runs, run_ns });
        } else if let Some(map) = id("map_id:").filter(|_| target.ends_with("bpf-map")) {
            self.maps.insert(map, number_of("memlock:").unwrap_or_default());
        } else {
            self.descriptors.insert(number, target);
        }
    }

    /// What is held now and was not before, in words. None of it is one of the other side's.
    pub fn more_than(&self, before: &Self) -> Vec<String> {
        fn new<K: Ord, V>(now: &BTreeMap<K, V>, before: &BTreeMap<K, V>) -> usize {
            now.keys().filter(|key| !before.contains_key(key)).count()
        }
        let mut more = Vec::new();
        let mut say = |count: usize, what: &str, names: String| {
            if count > 0 {
                let plural = if count == 1 { "" } else { "s" };
                more.push(format!("{count} {what}{plural}{names}"));
            }
        };
        say(new(&self.programs, &before.programs), "BPF program", String::new());
        say(new(&self.maps, &before.maps), "BPF map", String::new());
        say(new(&self.links, &before.links), "BPF link", String::new());
        // By number alone, one that was closed and whose number another one got would not be seen.
        let (count, names) = beyond(&self.descriptors, &before.descriptors);
        say(count, "descriptor", names);
        let threads = self.threads.iter().filter(|(id, _)| !before.threads.contains_key(id));
        let names: Vec<&str> = threads.map(|(_, name)| name.as_str()).collect();
        say(names.len(), "thread", some(&names));
        more
    }
}

/// How many there are more of each kind than before, and of which.
fn beyond(now: &BTreeMap<u32, String>, before: &BTreeMap<u32, String>) -> (usize, String) {
    // `socket:[123]`: the number is another one each time.
    let kind = |target: &String| {
        target.split_once(":[").map_or(target.clone(), |(kind, _)| kind.to_owned())
    };
    let mut left: Vec<String> = before.values().map(kind).collect();
    let mut more: Vec<String> = Vec::new();
    for target in now.values().map(kind) {
        match left.iter().position(|other| *other == target) {
            Some(at) => drop(left.swap_remove(at)),
            None => more.push(target),
        }
    }
    let names: Vec<&str> = more.iter().map(String::as_str).collect();
    (more.len(), some(&names))
}

/// ` (a, b, c ..)`
fn some(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let mut different: Vec<&str> = Vec::new();
    names.iter().for_each(|name| {
        if !different.contains(name) {
            different.push(name);
        }
    });
    let more = if different.len() > SHOWN { " .." } else { "" };
    different.truncate(SHOWN);
    format!(" ({}{more})", different.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::thread;
    use std::time::{Duration, Instant};

    fn own() -> Holdings {
        Holdings::of(std::process::id()).unwrap()
    }

    #[test]
    fn a_descriptor_and_a_thread_are_seen_while_they_are_there() {
        let before = own();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a file of this test");
        let file = File::create(&path).unwrap();
        let (sender, receiver) = crossbeam_channel::bounded::<()>(0);
        let (named, is_named) = crossbeam_channel::bounded::<()>(1);
        let wait = move || {
            named.send(()).unwrap();
            _ = receiver.recv();
        };
        let thread = thread::Builder::new().name("of this test".to_owned()).spawn(wait).unwrap();
        // Other tests of this process have descriptors and threads too.
        let seen = || {
            let now = own();
            let file =
                now.descriptors.values().any(|target| target.contains("a file of this test"));
            (file, now.threads.values().any(|name| name == "of this test"), now.more_than(&before))
        };
        is_named.recv().unwrap();
        let (has_file, has_thread, more) = seen();
        assert!(has_file && has_thread, "{more:?}");
        assert!(more.iter().any(|text| text.contains("descriptor")), "{more:?}");
        assert!(more.iter().any(|text| text.contains("thread")), "{more:?}");
        drop((file, sender));
        thread.join().unwrap();
        // The kernel lists a thread for a moment after its end.
        let until = Instant::now() + Duration::from_secs(10);
        while seen().1 && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        let (has_file, has_thread, more) = seen();
        assert!(!has_file && !has_thread, "{more:?}");
    }

    #[test]
    fn objects_of_bpf_are_known_by_what_the_kernel_says_of_a_descriptor() {
        let mut seen = Holdings::default();
        let program =
            "pos:\t0\nprog_type:\t5\nmemlock:\t4096\nprog_id:\t7\nrun_time_ns:\t300\nrun_cnt:\t3\n";
        seen.add(4, "anon_inode:bpf-prog".to_owned(), program);
        seen.add(5, "anon_inode:bpf-map".to_owned(), "map_type:\t1\nmemlock:\t8192\nmap_id:\t9\n");
        let link = "link_type:\traw_tracepoint\nlink_id:\t2\nprog_tag:\t00\nprog_id:\t7\n";
        seen.add(6, "anon_inode:bpf_link".to_owned(), link);
        // A perf event to which a program is attached is a link before 5.15, by another name.
        seen.add(7, "anon_inode:[perf_event]".to_owned(), "pos:\t0\n");
        assert_eq!(seen.programs, [(7, Program { runs: 3, run_ns: 300 })].into());
        assert_eq!(seen.maps, [(9, 8192)].into());
        assert_eq!(seen.links, [(2, "raw_tracepoint".to_owned())].into());
        assert_eq!(seen.descriptors.len(), 1);
        let more = seen.more_than(&Holdings::default());
        let expected = ["1 BPF program", "1 BPF map", "1 BPF link", "1 descriptor (anon_inode)"];
        assert_eq!(more, expected);
        assert_eq!(seen.more_than(&seen), Vec::<String>::new());
    }

    #[test]
    fn what_is_done_at_a_signal_is_known() {
        let signals = Signals { caught: 1 << 10, ignored: 1 << 14 };
        assert_eq!([11, 15, 1].map(|signal| signals.action(signal)), [2, 1, 0]);
    }
}
