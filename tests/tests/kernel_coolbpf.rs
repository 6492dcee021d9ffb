//! A program that is written with the names of coolbpf.h, read by the typed map readers.

use libbpf_rs::{
    Map, MapCore as _, MapType, Object, ObjectBuilder, PrintLevel, ProgramMut, set_print,
};
use plugin_bpf::Consts as _;
use plugin_bpf::from_bytes;
use plugin_bpf::maps::{
    Array, Hash, LpmTrie, PerCpuArray, PerCpuHash, PerfBuffer, Prefix, Queue, RawMap, Records,
    RingBuffer, Stack, StackTrace, Update,
};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::mpsc;
use std::thread;

plugin_bpf::skeleton!(coolbpf);

/// The object file, as the build script left it.
const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/coolbpf.plain.o"));

/// `struct key` and `struct leaf` of the program.
type Key = [u32; 2];
type Leaf = [u64; 2];

/// What the program writes to the maps of each form.
const N: u64 = 11;
const LEAF: Leaf = [13, 130];
const BYTE: u8 = 14;

/// What the logarithms are tried on: powers of two and of ten, and their neighbours.
fn values() -> [i64; 64] {
    let mut values = [0; 64];
    for (n, value) in (0..).zip(&mut values) {
        *value = match n {
            0..3 => [i64::MIN, -1, 0][n as usize],
            3..24 => (1 << (3 * (n - 3))) - i64::from(n % 2),
            24..60 => 10i64.pow((n - 24) / 2) - i64::from(n % 2),
            _ => [1_000_000_000_000_000_000, i64::MAX - 1, i64::MAX, 1][n as usize - 60],
        };
    }
    values
}

fn getppid() {
    // SAFETY: takes and touches nothing. By number, for libc may answer without a system call.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

fn of_all_cpus<V: Copy + PartialEq + Default + Debug>(values: Option<Vec<V>>, expected: V) {
    let values = values.expect("the key is there");
    assert_eq!(values.len(), libbpf_rs::num_possible_cpus().unwrap());
    let written: Vec<V> = values.into_iter().filter(|value| *value != V::default()).collect();
    assert_eq!(written, [expected], "the thread ran on one of the CPUs");
}

/// The only record: `struct event` with this number.
fn check_event(records: &Records, number: u32, process: u32, thread: u32, since: u64) {
    assert_eq!(records.len(), 1);
    let record = records.iter().next().unwrap();
    assert!(record.len() >= 40, "{} bytes", record.len());
    let [time, ids, _, _, last] = [0, 8, 16, 24, 32].map(|at| from_bytes::<u64>(&record[at..]));
    assert!(time >= since && time <= now(), "{since} {time}");
    assert_eq!((ids as u32, (ids >> 32) as u32), (process, thread));
    let cpu: u32 = from_bytes(&record[16..]);
    assert!((cpu as usize) < libbpf_rs::num_possible_cpus().unwrap());
    let comm = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
    assert!(record[20..36].starts_with(comm.trim_end().as_bytes()), "{comm}");
    assert_eq!((last >> 32) as u32, number);
}

/// CLOCK_MONOTONIC, which `ns()` is.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the struct that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The program, filtered by one thread of this process, and not attached yet.
fn load(thread: u32, flood: bool) -> Object {
    set_print(Some((PrintLevel::Warn, |_, said| print!("libbpf: {said}"))));
    let mut open = ObjectBuilder::default().name("coolbpf").unwrap().open_memory(OBJECT).unwrap();
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if name.starts_with("unity_") {
            map.set_autocreate(false).unwrap(); // of the exact pieces, which this program has not
        } else if name.ends_with(".rodata") {
            let memory = map.initial_value_mut().unwrap();
            let mut constants = skel::Constants::read(memory);
            (constants.process, constants.thread) = (std::process::id(), thread);
            constants.flood = u32::from(flood);
            constants.write(memory);
        }
    }
    open.load().unwrap()
}

fn maps(object: &Object) -> BTreeMap<String, Map<'_>> {
    object.maps().map(|map| (map.name().to_string_lossy().into_owned(), map)).collect()
}

fn program<'a>(object: &'a Object, name: &str) -> ProgramMut<'a> {
    object.progs_mut().find(|program| program.name() == name).unwrap()
}

fn gettid() -> u32 {
    // SAFETY: takes and touches nothing.
    unsafe { libc::gettid() as u32 }
}

#[test]
fn every_macro_makes_the_map_that_its_reader_reads() {
    let (process, thread) = (std::process::id(), gettid());
    let skel = load(thread, false);
    let maps = maps(&skel);

    let inputs = Array::<i64>::of(&maps["values"]).unwrap();
    (0..).zip(values()).for_each(|(n, value)| inputs.update(n, &value).unwrap());
    let tail = program(&skel, "tail").as_fd().as_raw_fd();
    let programs = RawMap::of(&maps["programs"]).unwrap();
    assert!(programs.update(&1u32.to_ne_bytes(), &tail.to_ne_bytes(), Update::Any).unwrap());
    let outcomes = Hash::<i32, u64>::of(&maps["outcomes"]).unwrap();
    assert!(outcomes.update(&0, &1, Update::NoExist).unwrap());
    let (mut perf1, mut perf2) = (
        PerfBuffer::of(&maps["perf1"]).unwrap(),
        PerfBuffer::with_pages(&maps["perf2"], 1).unwrap(),
    );
    let (mut ring1, mut ring2) =
        (RingBuffer::of(&maps["ring1"]).unwrap(), RingBuffer::of(&maps["ring2"]).unwrap());
    assert!(ring1.drain().unwrap().is_empty() && perf1.drain().unwrap().records.is_empty());

    let before = now();
    let link = program(&skel, "sys_enter").attach_raw_tracepoint("sys_enter").unwrap();
    (0..128).for_each(|_| getppid());
    drop(link);

    // Hashes.
    assert_eq!(Hash::<u64, u64>::of(&maps["hash1"]).unwrap().lookup(&1).unwrap(), Some(N));
    assert_eq!(Hash::<u32, u64>::of(&maps["hash2"]).unwrap().lookup(&2).unwrap(), Some(N));
    assert_eq!(
        Hash::<Key, Leaf>::of(&maps["hash3"]).unwrap().lookup(&[3, 33]).unwrap(),
        Some(LEAF)
    );
    assert_eq!(Hash::<u16, u8>::of(&maps["hash4"]).unwrap().lookup(&4).unwrap(), Some(BYTE));
    assert_eq!(Hash::<u64, u64>::of(&maps["lru1"]).unwrap().lookup(&1).unwrap(), Some(N));
    assert_eq!(Hash::<u32, u64>::of(&maps["lru2"]).unwrap().lookup(&2).unwrap(), Some(N));
    assert_eq!(Hash::<Key, Leaf>::of(&maps["lru3"]).unwrap().lookup(&[3, 33]).unwrap(), Some(LEAF));
    assert_eq!(Hash::<u16, u8>::of(&maps["lru4"]).unwrap().lookup(&4).unwrap(), Some(BYTE));
    assert_eq!(Hash::<u32, u32>::of(&maps["map5"]).unwrap().lookup(&2).unwrap(), Some(14));
    of_all_cpus(PerCpuHash::<u64, u64>::of(&maps["percpu_hash1"]).unwrap().lookup(&1).unwrap(), N);
    of_all_cpus(PerCpuHash::<u32, u64>::of(&maps["percpu_hash2"]).unwrap().lookup(&2).unwrap(), N);
    let leaves = |map| PerCpuHash::<Key, Leaf>::of(map).unwrap().lookup(&[3, 33]).unwrap();
    of_all_cpus(leaves(&maps["percpu_hash3"]), LEAF);
    of_all_cpus(leaves(&maps["lru_percpu3"]), LEAF);
    of_all_cpus(PerCpuHash::<u16, u32>::of(&maps["percpu_hash4"]).unwrap().lookup(&4).unwrap(), 14);
    of_all_cpus(PerCpuHash::<u64, u64>::of(&maps["lru_percpu1"]).unwrap().lookup(&1).unwrap(), N);
    of_all_cpus(PerCpuHash::<u32, u64>::of(&maps["lru_percpu2"]).unwrap().lookup(&2).unwrap(), N);
    of_all_cpus(PerCpuHash::<u16, u32>::of(&maps["lru_percpu4"]).unwrap().lookup(&4).unwrap(), 14);

    // Arrays.
    assert_eq!(Array::<u64>::of(&maps["array1"]).unwrap().lookup(6).unwrap(), Some(N));
    assert_eq!(Array::<Leaf>::of(&maps["array2"]).unwrap().lookup(6).unwrap(), Some(LEAF));
    assert_eq!(Array::<u8>::of(&maps["array3"]).unwrap().lookup(6).unwrap(), Some(BYTE));
    of_all_cpus(PerCpuArray::<u64>::of(&maps["percpu_array1"]).unwrap().lookup(6).unwrap(), N);
    of_all_cpus(PerCpuArray::<Leaf>::of(&maps["percpu_array2"]).unwrap().lookup(6).unwrap(), LEAF);
    of_all_cpus(PerCpuArray::<u32>::of(&maps["percpu_array3"]).unwrap().lookup(6).unwrap(), 14);

    // Tries, queues and stacks.
    let v4 = Prefix::from(Ipv4Addr::new(10, 1, 2, 3));
    let v6 = Prefix::from(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
    assert_eq!(LpmTrie::<u64>::of(&maps["trie1"]).unwrap().lookup(&v4).unwrap(), Some(N));
    assert_eq!(LpmTrie::<u64>::of(&maps["trie2"]).unwrap().lookup(&v4).unwrap(), Some(N));
    assert_eq!(LpmTrie::<Leaf, 16>::of(&maps["trie3"]).unwrap().lookup(&v6).unwrap(), Some(LEAF));
    assert_eq!(LpmTrie::<u32>::of(&maps["trie4"]).unwrap().lookup(&v4).unwrap(), Some(14));
    assert_eq!(Queue::<u64>::of(&maps["queue3"]).unwrap().pop().unwrap(), Some(N));
    assert_eq!(Queue::<Leaf>::of(&maps["queue4"]).unwrap().pop().unwrap(), Some(LEAF));
    assert_eq!(Stack::<u64>::of(&maps["stack3"]).unwrap().pop().unwrap(), Some(N));
    assert_eq!(Stack::<Leaf>::of(&maps["stack4"]).unwrap().pop().unwrap(), Some(LEAF));

    // Sizes, those by default among them.
    let sizes = [
        (
            10240,
            vec![
                &maps["hash1"],
                &maps["hash2"],
                &maps["hash3"],
                &maps["lru1"],
                &maps["percpu_hash1"],
            ],
        ),
        (
            10240,
            vec![&maps["lru_percpu1"], &maps["array1"], &maps["array2"], &maps["percpu_array2"]],
        ),
        (10240, vec![&maps["trie1"], &maps["trie2"], &maps["trie3"]]),
        (
            7,
            vec![
                &maps["hash4"],
                &maps["percpu_hash4"],
                &maps["array3"],
                &maps["percpu_array3"],
                &maps["trie4"],
            ],
        ),
        (7, vec![&maps["queue3"], &maps["stack4"], &maps["map5"]]),
        (256 * 1024, vec![&maps["ring1"]]),
        (4096, vec![&maps["ring2"]]),
        (1024, vec![&maps["perf2"]]),
    ];
    for (entries, map) in sizes.iter().flat_map(|(n, maps)| maps.iter().map(move |map| (n, map))) {
        let raw = RawMap::of(*map).unwrap();
        assert_eq!(raw.max_entries(), *entries, "{}", raw.name());
    }
    assert_eq!(RawMap::of(&maps["lru_percpu4"]).unwrap().kind(), MapType::LruPercpuHash);

    // Events.
    for (drained, number) in [(perf1.drain().unwrap(), 1), (perf2.drain().unwrap(), 2)] {
        check_event(&drained.records, number, process, thread, before);
        assert_eq!((drained.cpus.len(), drained.lost.iter().sum::<u64>()), (1, 0));
    }
    check_event(&ring1.drain().unwrap(), 1, process, thread, before);
    check_event(&ring2.drain().unwrap(), 2, process, thread, before);
    assert!(ring2.drain().unwrap().is_empty() && perf2.drain().unwrap().records.is_empty());

    // Stacks.
    let ids = Array::<i64>::of(&maps["stack_ids"]).unwrap();
    for (n, map, depth) in [(0, &maps["stacks2"], 20), (1, &maps["stacks3"], 3)] {
        let id = u32::try_from(ids.lookup(n).unwrap().unwrap()).expect("an id, not an errno");
        let stacks = StackTrace::of(map).unwrap();
        let frames = stacks.frames(id).unwrap().expect("the stack is there");
        assert_eq!(stacks.depth(), depth);
        assert!((1..=depth).contains(&frames.len()) && !frames.contains(&0), "{frames:x?}");
        assert!(stacks.delete(id).unwrap() && stacks.frames(id).unwrap().is_none());
    }

    // Helpers.
    assert_eq!(Array::<u64>::of(&maps["tail_calls"]).unwrap().lookup(0).unwrap(), Some(1));
    let slots = |map, n| Array::<u64>::of(map).unwrap().lookup(n).unwrap();
    assert_eq!((slots(&maps["hist2"], 9), slots(&maps["hist2"], 10)), (Some(2), Some(0)));
    assert_eq!((slots(&maps["hist10"], 3), slots(&maps["hist10"], 0)), (Some(1), Some(1)));
    assert_eq!((outcomes.lookup(&0).unwrap(), outcomes.lookup(&1).unwrap()), (Some(6), None));
    let logs = Array::<[u32; 2]>::of(&maps["logs"]).unwrap();
    for (n, value) in (0..).zip(values()) {
        let log = if value < 1 { [0, 0] } else { [value.ilog2(), value.ilog10()] };
        assert_eq!(logs.lookup(n).unwrap(), Some(log), "{value}");
    }
}

/// Keeps the thread on the CPU where it is: a perf buffer tells what it lost with the next record there.
fn stay_on_this_cpu() {
    // SAFETY: a set of CPUs is plain bits, of which one is set; the kernel reads it.
    let stays = unsafe {
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut cpus);
        libc::sched_setaffinity(0, size_of_val(&cpus), &raw const cpus)
    };
    assert_eq!(stays, 0);
}

#[test]
fn a_drain_is_bounded_and_what_found_no_room_is_known() {
    const RECORD: usize = 8 + 40; // the ring's header and `struct event`
    let (tell, told) = mpsc::channel();
    let (go, gone) = mpsc::channel::<u32>();
    let flooding = thread::spawn(move || {
        stay_on_this_cpu();
        tell.send(gettid()).unwrap();
        for calls in gone {
            (0..calls).for_each(|_| getppid());
            tell.send(0).unwrap();
        }
    });
    let skel = load(told.recv().unwrap(), true);
    let maps = maps(&skel);
    let mut ring = RingBuffer::of(&maps["ring2"]).unwrap();
    let mut perf = PerfBuffer::with_pages(&maps["perf2"], 1).unwrap();
    let _link = program(&skel, "sys_enter").attach_raw_tracepoint("sys_enter").unwrap();

    let (mut in_ring, mut in_perf, mut lost) = (0, 0, 0);
    let mut drain = || {
        let records = ring.drain().unwrap().len();
        assert!(records <= 4096 / RECORD + 1, "{records} records in one drain");
        in_ring += records as u64;
        let drained = perf.drain().unwrap();
        assert!(drained.records.len() <= 4096 / RECORD, "{} records", drained.records.len());
        in_perf += drained.records.len() as u64;
        lost += drained.lost.iter().sum::<u64>();
    };
    go.send(100_000).unwrap();
    while told.try_recv().is_err() {
        drain();
    }
    go.send(1000).unwrap(); // unread, so that some find no room
    told.recv().unwrap();
    drain();
    go.send(1).unwrap(); // tells what was lost before
    told.recv().unwrap();
    drop(go);
    flooding.join().unwrap();
    drain();

    let count = |map| Array::<u64>::of(map).unwrap().lookup(0).unwrap().unwrap();
    let (attempts, refused) = (count(&maps["attempts"]), count(&maps["refused"]));
    assert!(attempts >= 101_001 && refused > 0 && lost > 0, "{attempts} {refused} {lost}");
    assert_eq!(in_ring + refused, attempts, "ring buffer");
    assert_eq!(in_perf + lost, attempts, "perf buffer");
}
