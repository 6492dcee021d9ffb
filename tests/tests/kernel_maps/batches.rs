//! Many entries in one call.

use super::{NO_PREALLOC, errno, fill, hash, key, value};
use libbpf_rs::MapType;
use plugin_bpf::maps::{RawMap, Update};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

const HASHES: [MapType; 4] =
    [MapType::Hash, MapType::LruHash, MapType::PercpuHash, MapType::LruPercpuHash];
/// Room in the first batch; 0 reads key by key.
const BATCHES: [u32; 6] = [0, 1, 16, 64, 1000, 5000];

type Entries = HashMap<Vec<u8>, Vec<u8>>;

/// Keeps an entry, and that it came once and has its own value.
fn keep(raw: &RawMap, stride: usize, found: &mut Entries, k: &[u8], v: &[u8]) {
    let mut number = [0; 8];
    let size = k.len().min(8);
    number[..size].copy_from_slice(&k[..size]);
    let mut v = v.to_vec();
    // What lies between CPUs' values is the kernel's business.
    v.chunks_exact_mut(stride).for_each(|place| place[raw.value_size()..].fill(0));
    assert_eq!(v, value(raw, usize::from_ne_bytes(number)), "{k:?}");
    assert!(found.insert(k.to_vec(), v).is_none(), "{k:?} came twice");
}

#[test]
fn every_entry_is_read_once_whatever_the_batch() {
    for kind in HASHES {
        for (key, size, entries) in
            [(8, 8, 5000), (2, 12, 5000), (4, 4, 500), (1, 8, 256), (12, 4, 500)]
        {
            let raw = hash(kind, key, size, 10_000); // an LRU hash forgets some before it is full
            fill(&raw, entries);
            for batch in BATCHES {
                let raw = raw.try_clone().unwrap().with_batch(batch);
                let mut found = Entries::new();
                raw.lookup_batch(|k, v| keep(&raw, raw.stride(), &mut found, k, v)).unwrap();
                assert_eq!(found.len(), entries, "{kind:?}, keys of {key}, batch {batch}");
            }
        }
    }
}

#[test]
fn a_drain_takes_every_entry_once_and_leaves_none() {
    for kind in HASHES {
        for (key, size, entries) in [(8, 8, 5000), (2, 12, 500), (1, 4, 256)] {
            let raw = hash(kind, key, size, 10_000);
            for batch in BATCHES {
                fill(&raw, entries);
                let mut drained = raw.try_clone().unwrap().with_batch(batch);
                let mut found = Entries::new();
                drained.drain_batch(|k, v| keep(&raw, raw.stride(), &mut found, k, v)).unwrap();
                assert_eq!(found.len(), entries, "{kind:?}, keys of {key}, batch {batch}");
                raw.lookup_batch(|k, _| panic!("{k:?} is left")).unwrap();
                drained.drain_batch(|k, _| panic!("{k:?} came twice")).unwrap();
            }
        }
    }
    let error = RawMap::create(MapType::Array, "array", 4, 8, 1, 0)
        .unwrap()
        .drain_batch(|_, _| ())
        .unwrap_err();
    assert!(error.to_string().contains("`array` (array): drain"), "{error}");
}

/// One thread inserts, another one drains: what was inserted is drained, each key once.
#[test]
fn a_drain_beside_an_inserter_ends_and_loses_nothing() {
    const KEYS: u64 = 50_000;
    for (kind, batch) in
        [(MapType::Hash, 1), (MapType::Hash, 1000), (MapType::PercpuHash, 64), (MapType::Hash, 0)]
    {
        let mut drained = hash(kind, 8, 8, 1000).with_batch(batch);
        let inserted = drained.try_clone().unwrap();
        let given_up = &AtomicBool::new(false);
        let mut found: HashMap<u64, u32> = HashMap::new();
        let mut drains = 0;
        let read = thread::scope(|scope| {
            let inserter = scope.spawn(move || {
                let value = value(&inserted, 0);
                for key in 0..KEYS {
                    while let Err(error) =
                        inserted.update(&key.to_ne_bytes(), &value, Update::NoExist)
                    {
                        assert_eq!(errno(&error), Some(libc::E2BIG), "{error}");
                        assert!(!given_up.load(Relaxed));
                        thread::yield_now(); // until it is drained
                    }
                }
            });
            loop {
                let last = inserter.is_finished();
                let count = |k: &[u8], _: &[u8]| {
                    *found.entry(u64::from_ne_bytes(k.try_into().unwrap())).or_default() += 1
                };
                let read = drained.drain_batch(count);
                given_up.store(read.is_err(), Relaxed);
                drains += 1;
                if last || read.is_err() {
                    return read;
                }
            }
        });
        read.unwrap();
        assert_eq!(found.len() as u64, KEYS, "{kind:?}, batch {batch}");
        assert!(found.values().all(|times| *times == 1), "{kind:?}, batch {batch}");
        assert!(drains > 10, "{drains} drains");
    }
}

#[test]
fn reading_beside_a_thread_that_inserts_and_deletes_ends_with_all_that_stayed() {
    let hash = || hash(MapType::Hash, 8, 8, 2000);
    let trie = RawMap::create(MapType::LpmTrie, "trie", 8, 8, 2000, NO_PREALLOC).unwrap();
    for reader in [hash().with_batch(0), hash().with_batch(16), trie] {
        let (raw, kind) = (reader.try_clone().unwrap(), reader.kind());
        // As a prefix: 32 bits, then an address.
        let key = |n: u32| [32u32.to_ne_bytes(), n.to_be_bytes()].concat();
        for n in 0..500 {
            assert!(raw.update(&key(n << 16), &[1; 8], Update::NoExist).unwrap());
        }
        let finished = &AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(move || {
                for n in (1..500u32).cycle() {
                    raw.update(&key(n << 16 | n), &[2; 8], Update::Any).unwrap();
                    raw.delete(&key(n << 16 | n)).unwrap();
                    if finished.load(Relaxed) {
                        break;
                    }
                }
            });
            let end = Instant::now() + Duration::from_millis(500);
            let mut readings = Vec::new();
            while Instant::now() < end {
                let mut stayed = 0;
                let read = reader.lookup_batch(|_, v| stayed += usize::from(v == [1; 8]));
                readings.push(read.map(|()| stayed));
            }
            finished.store(true, Relaxed); // before any assertion, or the other thread never ends
            // The kernel may leave a prefix out of a trie that is changed meanwhile.
            let left_out = if kind == MapType::LpmTrie { 5 } else { 0 };
            for reading in readings {
                let read = reading.unwrap();
                assert!((500 - left_out..=500).contains(&read), "{kind:?}: {read}");
            }
        });
    }
}

#[test]
fn batches_are_written_and_removed_but_for_what_is_ruled_out() {
    for batch in [0, 1000] {
        for kind in HASHES {
            let raw = hash(kind, 8, 12, 10_000).with_batch(batch);
            let keys = |range: std::ops::Range<usize>| -> Vec<u8> {
                range.flat_map(|n| key(n, 8)).collect()
            };
            let values: Vec<u8> = (0..5000).flat_map(|n| value(&raw, n)).collect();
            let write = |range, update| raw.update_batch(&keys(range), &values, update).unwrap();
            assert_eq!(write(0..5000, Update::NoExist), 5000);
            assert_eq!(write(2500..7500, Update::NoExist), 2500);
            assert_eq!(write(5000..10_000, Update::Exist), 2500);
            assert_eq!(raw.delete_batch(&keys(7000..8000)).unwrap(), 500);
            assert_eq!(raw.delete_batch(&[]).unwrap(), 0);
            let mut left = 0;
            raw.lookup_batch(|_, _| left += 1).unwrap();
            assert_eq!(left, 7000);
        }
    }
}

#[test]
fn a_full_map_says_so() {
    for (batch, kind) in [(0, MapType::Hash), (16, MapType::Hash), (16, MapType::PercpuHash)] {
        let raw = hash(kind, 8, 8, 100).with_batch(batch);
        fill(&raw, 100);
        let error = raw.update(&key(100, 8), &value(&raw, 0), Update::Any).unwrap_err();
        assert_eq!(errno(&error), Some(libc::E2BIG));
        assert!(
            error
                .to_string()
                .contains("update: Argument list too long (os error 7): all 100 are taken"),
            "{error}"
        );
        let (keys, values) =
            ([key(99, 8), key(100, 8)].concat(), [value(&raw, 0), value(&raw, 1)].concat());
        let error = raw.update_batch(&keys, &values, Update::Any).unwrap_err();
        assert!(error.to_string().contains("all 100 are taken"), "{error}");
    }
}

/// The system's allocator, which counts what each thread asks it for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: the system's allocator does the work; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise; all of it came from `System`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_second_tick_allocates_nothing() {
    for kind in HASHES {
        let mut raw = hash(kind, 8, 8, 10_000).with_batch(16);
        let (mut read, mut drained) = (0, 0);
        for tick in 0..3 {
            fill(&raw, 5000);
            let before = ALLOCATIONS.get();
            raw.lookup_batch(|_, _| read += 1).unwrap();
            raw.drain_batch(|_, _| drained += 1).unwrap();
            let allocations = ALLOCATIONS.get() - before;
            assert_eq!(allocations == 0, tick > 0, "{kind:?}, tick {tick}: {allocations}");
        }
        assert_eq!((read, drained), (15_000, 15_000));
    }
}
