//! What a JVM counts by itself (hsperfdata, jdk/src/hotspot/share/runtime/perfMemory.hpp), for those without probes.

use plugin_api::{Context as _, Result, ensure};
use plugin_bpf::Process;
use std::collections::BTreeMap;
use std::path::Path;

/// As much as is read of one JVM; it has 32 KiB unless it is told otherwise.
const MOST: usize = 256 * 1024;
const ENTRIES: usize = 4096;
/// Kinds of collectors in one JVM.
const COLLECTORS: usize = 8;
/// Bytes of a collector's name.
const NAME: usize = 64;
/// Ticks of /proc/PID/stat a second (USER_HZ), which the kernel shows everywhere as 100.
const USER_HZ: f64 = 100.0;

/// A collector of a JVM, from the JVM's start on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collector {
    /// Such as `G1 young collection pauses`.
    pub name: String,
    /// How often it ran.
    pub invocations: u64,
    /// How long, in nanoseconds.
    pub ns: u64,
}

/// What collectors of JVMs counted, tick by tick.
#[derive(Debug)]
pub struct PerfData {
    /// When this began, as [`Process::start`]: all that younger JVMs counted is new.
    began: u64,
    before: BTreeMap<Process, BTreeMap<String, Collector>>,
}

impl PerfData {
    /// Begins now.
    pub fn begin() -> Result<Self> {
        let uptime = std::fs::read_to_string("/proc/uptime").context("/proc/uptime")?;
        let uptime: f64 = uptime.split(' ').next().unwrap_or_default().parse()?;
        Ok(Self { began: (uptime * USER_HZ) as u64, before: BTreeMap::new() })
    }

    /// What each JVM's collectors did since they were last asked, or why that cannot be told; of these JVMs, and
    /// forgets all others.
    pub fn take(&mut self, jvms: &[Process]) -> Vec<(Process, Result<Vec<Collector>>)> {
        self.before.retain(|jvm, _| jvms.contains(jvm));
        jvms.iter().map(|jvm| (*jvm, read(jvm).map(|now| self.since(*jvm, now)))).collect()
    }

    fn since(&mut self, jvm: Process, now: Vec<Collector>) -> Vec<Collector> {
        let is_first = !self.before.contains_key(&jvm);
        let before = self.before.entry(jvm).or_default();
        let mut changes = Vec::new();
        for now in now {
            let old = before.insert(now.name.clone(), now.clone());
            let old = match old {
                None if is_first && jvm.start <= self.began => continue,
                old => old.unwrap_or_default(),
            };
            changes.push(Collector {
                name: now.name,
                invocations: now.invocations.saturating_sub(old.invocations),
                ns: now.ns.saturating_sub(old.ns),
            });
        }
        changes
    }
}

fn read(jvm: &Process) -> Result<Vec<Collector>> {
    let is_perfdata = |path: &Path| {
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
        folder.as_encoded_bytes().starts_with(b"hsperfdata_")
    };
    let bytes = jvm.read_mapped(is_perfdata, MOST)?;
    collectors(
        &bytes.context("it has no hsperfdata (-XX:+PerfDisableSharedMem, -XX:-UsePerfData)")?,
    )
}

/// Reads the collectors out of a JVM's memory, which may hold anything.
fn collectors(bytes: &[u8]) -> Result<Vec<Collector>> {
    ensure!(bytes.starts_with(&[0xca, 0xfe, 0xc0, 0xc0]), "no perf data");
    let native = u8::from(cfg!(target_endian = "little"));
    ensure!(bytes.get(4..6) == Some(&[native, 2]), "perf data of another version or byte order");
    let mut at = number(bytes, 24).context("cut short")?;
    let entries = number(bytes, 28).context("cut short")?.min(ENTRIES);
    let (mut frequency, mut found) = (0, BTreeMap::<usize, Collector>::new());
    for _ in 0..entries {
        let Some(entry) = bytes.get(at..) else { break };
        let Some(length) = number(entry, 0).filter(|length| *length >= 20) else { break };
        let entry = &entry[..length.min(entry.len())];
        at = at.saturating_add(length);
        let Some(name) = number(entry, 4).and_then(|at| text(entry.get(at..)?, 128)) else {
            continue;
        };
        let Some(data) = number(entry, 16).and_then(|at| entry.get(at..)) else { continue };
        let value = || Some(u64::from_ne_bytes(data.get(..8)?.try_into().ok()?));
        if name == "sun.os.hrt.frequency" {
            frequency = value().unwrap_or(0);
        }
        let field = name.strip_prefix("sun.gc.collector.").and_then(|rest| rest.split_once('.'));
        let Some((index, field)) = field else { continue };
        let Some(index) = index.parse().ok().filter(|index| *index < COLLECTORS) else { continue };
        let collector = found.entry(index).or_default();
        match field {
            "name" => collector.name = text(data, NAME).unwrap_or_default(),
            "invocations" => collector.invocations = value().unwrap_or(0),
            "time" => collector.ns = value().unwrap_or(0),
            _ => {}
        }
    }
    ensure!(frequency > 0, "it does not say how long its ticks are");
    Ok(found
        .into_iter()
        .map(|(index, mut collector)| {
            let ns = u128::from(collector.ns) * 1_000_000_000 / u128::from(frequency);
            collector.ns = u64::try_from(ns).unwrap_or(u64::MAX);
            if collector.name.is_empty() {
                collector.name = format!("collector {index}");
            }
            collector
        })
        .collect())
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    usize::try_from(i32::from_ne_bytes(bytes)).ok()
}

/// Up to its NUL, or all of it.
fn text(bytes: &[u8], most: usize) -> Option<String> {
    let bytes = &bytes[..bytes.len().min(most)];
    let bytes = bytes.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, kind: u8, data: &[u8]) -> Vec<u8> {
        let name_len = (name.len() + 1).next_multiple_of(8);
        let (data_at, length) = (24 + name_len, 24 + name_len + data.len().next_multiple_of(8));
        let mut entry = vec![];
        let vector = if kind == b'B' { data.len() } else { 0 };
        [length, 24, vector].iter().for_each(|n| entry.extend((*n as i32).to_ne_bytes()));
        entry.extend([kind, 0, 1, 1]);
        entry.extend((data_at as i32).to_ne_bytes());
        entry.resize(24, 0);
        entry.extend(name.bytes());
        entry.resize(data_at, 0);
        entry.extend(data);
        entry.resize(length, 0);
        entry
    }

    fn sample(invocations: u64) -> Vec<u8> {
        let long = |name: &str, n: u64| entry(name, b'J', &n.to_ne_bytes());
        let entries = [
            long("sun.os.hrt.frequency", 1_000_000),
            entry("sun.gc.collector.0.name", b'B', b"Copy\0"),
            long("sun.gc.collector.0.invocations", invocations),
            long("sun.gc.collector.0.time", 2_000 * invocations),
            long("sun.gc.collector.1.invocations", 1),
            long("sun.gc.collector.x.invocations", 9),
            long("sun.gc.cause", 9),
        ];
        let mut bytes =
            vec![0xca, 0xfe, 0xc0, 0xc0, u8::from(cfg!(target_endian = "little")), 2, 0, 1];
        bytes.resize(24, 0);
        [32, entries.len() as i32].iter().for_each(|n| bytes.extend(n.to_ne_bytes()));
        bytes.extend(entries.concat());
        bytes
    }

    fn copy(invocations: u64) -> Collector {
        Collector { name: "Copy".into(), invocations, ns: 2_000_000 * invocations }
    }

    fn second(invocations: u64) -> Collector {
        Collector { name: "collector 1".into(), invocations, ns: 0 }
    }

    #[test]
    fn collectors_are_read_with_their_names_and_times() {
        assert_eq!(collectors(&sample(5)).unwrap(), [copy(5), second(1)]);
    }

    #[test]
    fn each_collection_is_told_once_also_of_a_jvm_that_starts_again() {
        let mut data = PerfData { began: 1000, before: BTreeMap::new() };
        let now = |n| collectors(&sample(n)).unwrap();
        let jvm = |start| Process { pid: 7, start };
        // Older than the tool: what it did before is nobody's.
        assert_eq!(data.since(jvm(999), now(5)), []);
        assert_eq!(data.since(jvm(999), now(8)), [copy(3), second(0)]);
        // The same id, a younger process.
        assert_eq!(data.since(jvm(2000), now(2)), [copy(2), second(1)]);
        assert_eq!(data.since(jvm(2000), now(2)), [copy(0), second(0)]);
        // A JVM that goes backwards is none.
        assert_eq!(data.since(jvm(2000), now(1)), [copy(0), second(0)]);
        data.take(&[]);
        assert!(data.before.is_empty());
    }

    #[test]
    fn memory_that_holds_anything_is_an_error_or_less() {
        let refused = |bytes: &[u8]| format!("{:#}", collectors(bytes).unwrap_err());
        assert_eq!(refused(b""), "no perf data");
        assert_eq!(refused(&[0; 64]), "no perf data");
        assert_eq!(refused(&sample(1)[..6]), "cut short");
        assert_eq!(refused(&sample(1)[..32]), "it does not say how long its ticks are");
        let mut old = sample(1);
        old[5] = 1;
        assert_eq!(refused(&old), "perf data of another version or byte order");
        let sample = sample(3);
        let mut seed = 1u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % below
        };
        for _ in 0..20_000 {
            let mut bytes = sample.clone();
            for _ in 0..1 + random(6) {
                let at = random(bytes.len());
                bytes[at] = [0, 1, 0x7f, 0xff, random(256) as u8][random(5)];
            }
            bytes.truncate(bytes.len() - random(2) * random(bytes.len()));
            let found = collectors(&bytes).unwrap_or_default();
            assert!(found.len() <= COLLECTORS && found.iter().all(|c| c.name.len() <= 3 * NAME));
        }
    }
}
