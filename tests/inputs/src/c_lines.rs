//! Lines of a C plugin, as its `call` hands them over.

use crate::{below, byte, some};
use arbitrary::Unstructured;
use collector::c_plugin::{CInstance, CLibrary};
use collector::form::Form;
use collector::instance::{Instance as _, Outcome};
use collector::read::{Line, read};
use collector::sink::{Dropped, Limits, Reports, Sink, Terms};
use plugin_api::Tick;
use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void};

/// `struct unity_line` and what is in it (`plugin-api/include/unity.h`).
const LINE: usize = 952;
const TABLE: usize = 32;
const NAME: usize = 16;
const INDEX: usize = 32;
const INDEXES: usize = 4;
const VALUES_AT: usize = 160;
const VALUE: usize = 24;
const VALUES: usize = 32;
const LOG_AT: usize = 928;

/// A plugin keeps a number of sets of names for good: then another one takes its place. What it kept is lost memory.
const CALLS: u32 = 1000;

const WORDS: [&str; 14] = [
    "breaks",
    "value",
    "n",
    "time",
    "host",
    "",
    "interval_ns",
    "collector_x",
    "a b",
    "a,b=c",
    "0123456789abcdef",
    "\\",
    "#",
    "é",
];

/// What the next call gives: lines in memory of malloc, and how many it says there are.
struct Given {
    num: c_int,
    lines: Vec<[u8; LINE]>,
    logs: Vec<Option<Vec<u8>>>,
    answer: c_int,
}

thread_local! {
    static NEXT: RefCell<Option<Given>> = const { RefCell::new(None) };
    static PLUGIN: RefCell<Option<(CInstance, u32)>> = const { RefCell::new(None) };
}

/// `struct unity_lines`
#[repr(C)]
struct Lines {
    num: c_int,
    line: *mut c_void,
}

unsafe extern "C" fn init(_: *mut c_void) -> c_int {
    0
}

unsafe extern "C" fn call(_: c_int, lines: *mut Lines) -> c_int {
    let Some(given) = NEXT.take() else { return 0 };
    // SAFETY: memory of malloc for all lines, each of them whole, and of the caller's struct.
    unsafe {
        let memory = libc::malloc(given.lines.len() * LINE).cast::<u8>();
        for (at, (mut line, log)) in given.lines.into_iter().zip(given.logs).enumerate() {
            let text = log.map_or(std::ptr::null_mut(), |log| {
                let text = libc::malloc(log.len() + 1).cast::<u8>();
                text.copy_from_nonoverlapping(log.as_ptr(), log.len());
                text.add(log.len()).write(0);
                text.cast::<c_char>()
            });
            let pointer = text.expose_provenance().to_ne_bytes();
            line[LOG_AT + NAME..].copy_from_slice(&pointer);
            memory.add(at * LINE).copy_from_nonoverlapping(line.as_ptr(), LINE);
        }
        lines.write(Lines { num: given.num, line: memory.cast() });
    }
    given.answer
}

unsafe extern "C" fn deinit(_: *mut c_void) {}

fn plugin() -> CInstance {
    let sink = Sink::leak(Terms {
        plugin: "fuzzed".to_owned(),
        tables: None,
        forms: vec![Form::default()],
        reports: Reports::Full,
        tags: [("host".to_owned(), "x".to_owned())].into(),
        uint: false,
        limits: Limits::DEFAULT,
        log: |_, _, _| {},
    });
    // SAFETY: functions of these types, in this program; nothing that it hands over lies in an image of 0 bytes.
    let library = unsafe {
        CLibrary::new(init as *mut c_void, call as *mut c_void, deinit as *mut c_void, 0..0)
    };
    let mut plugin = CInstance::new("fuzzed", library, sink);
    plugin.start().expect("init answers 0");
    plugin
}

fn put(line: &mut [u8], at: usize, most: usize, bytes: &mut Unstructured<'_>) {
    let text = match byte(bytes) {
        ..200 => WORDS[below(bytes, WORDS.len())].as_bytes().to_vec(),
        _ => some(bytes, most),
    };
    let len = text.len().min(most);
    line[at..at + len].copy_from_slice(&text[..len]);
}

fn line(bytes: &mut Unstructured<'_>) -> ([u8; LINE], Option<Vec<u8>>) {
    let mut line = [0; LINE];
    put(&mut line, 0, TABLE, bytes);
    for index in 0..below(bytes, INDEXES + 1) {
        let at = TABLE + index * INDEX;
        put(&mut line, at, NAME, bytes);
        put(&mut line, at + NAME, NAME, bytes);
    }
    for value in 0..below(bytes, 8).max(below(bytes, 256).saturating_sub(256 - VALUES)) {
        let at = VALUES_AT + value * VALUE;
        put(&mut line, at, NAME, bytes);
        let number: u64 = bytes.arbitrary().unwrap_or(0);
        line[at + NAME..at + VALUE].copy_from_slice(&number.to_ne_bytes());
    }
    if byte(bytes) < 160 {
        return (line, None);
    }
    put(&mut line, LOG_AT, NAME, bytes);
    let log = (byte(bytes) < 240).then(|| {
        let text = some(bytes, 200);
        let times = if byte(bytes) == 255 { 1000 } else { 1 };
        let text: Vec<u8> = text.into_iter().filter(|byte| *byte != 0).collect();
        text.repeat(times)
    });
    (line, log)
}

/// Every line that is handed over becomes a line that can be read, or is counted by its cause. Whether one became a line.
///
/// # Panics
/// It does not.
pub fn c_lines(bytes: &[u8]) -> bool {
    let mut bytes = Unstructured::new(bytes);
    let mut given = Given { num: 0, lines: Vec::new(), logs: Vec::new(), answer: 0 };
    while !bytes.is_empty() && given.lines.len() < 64 {
        let (line, log) = line(&mut bytes);
        given.lines.push(line);
        given.logs.push(log);
    }
    given.num = given.lines.len() as c_int;
    match given.lines.first().map_or(0, |line| line[VALUES_AT + NAME]) {
        1 => given.num = i32::from_ne_bytes([given.lines[0][VALUES_AT + NAME + 1]; 4]),
        2 => given.answer = -libc::EIO,
        _ => {}
    }
    let (mut plugin, calls) = PLUGIN.take().unwrap_or_else(|| (plugin(), 0));
    NEXT.set(Some(given));
    let tick =
        Tick { seq: calls.into(), time_ns: 1_700_000_000_000_000_000, elapsed_ns: 1_000_000_000 };
    let Outcome { closed, tally, result: _ } = plugin.call(&tick);
    let rows = closed.rows;
    let text = closed.into_only();
    let lines =
        read(&text).unwrap_or_else(|why| panic!("{why:#}\n{}", String::from_utf8_lossy(&text)));
    assert_eq!(lines.len() as u64, rows);
    let report: Vec<&Line> =
        lines.iter().filter(|line| line.table == "collector_c_plugin").collect();
    assert_eq!(report.len(), 1);
    let Dropped { full, invalid, closed, duplicate, series } = tally.dropped;
    let known = rows - 1 + full + invalid + closed + duplicate + series;
    assert_eq!(report[0].u64("lines_called"), known, "{tally:?}");
    if calls < CALLS {
        PLUGIN.set(Some((plugin, calls + 1)));
    }
    rows > 1
}
