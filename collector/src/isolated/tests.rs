//! Messages there and back, and what is no message.

use super::Bounds;
use super::protocol::{MessageHeader, NoMessage, Opening, ProcessAnswer, Request, Starting};
use crate::encode::Tags;
use crate::encoder::Page;
use crate::form::Form;
use crate::instance::{Outcome, PluginError};
use crate::sink::{Closed, Dropped, Limits, Reports, Tally};
use log::{Level, LevelFilter};
use plugin_api::Tick;

const MOST: usize = 1000;
const FORMS: [Form; 2] = [
    Form::VICTORIAMETRICS,
    Form { histogram: crate::form::Buckets::Le, counters: crate::form::Counters::Delta },
];

fn split(message: &[u8]) -> (MessageHeader, &[u8]) {
    let (header, bytes) = message.split_first_chunk().unwrap();
    let header = MessageHeader::read(header, MOST).unwrap();
    assert_eq!((header.number, header.length), (7, bytes.len()));
    (header, bytes)
}

fn requests() -> [Request; 5] {
    let opening = Opening {
        name: "a b".to_owned(),
        path: "/p/\u{fffd}".into(),
        level: LevelFilter::Debug,
        parent: 42,
        capabilities: 1 << 39,
        bounds: Bounds { memory: 1 << 33, processes: Some(true) },
    };
    let starting = Starting {
        plugin: "x".to_owned(),
        forms: FORMS.to_vec(),
        reports: Reports::Full,
        tags: Tags::from([("dc".to_owned(), "fra 1".to_owned()), ("e".to_owned(), String::new())]),
        uint: true,
        limits: Limits { lines: u64::MAX, bytes: usize::MAX, series: 7 },
        options: r#"{"by":"ü"}"#.to_owned(),
    };
    let tick = Tick { seq: 3, time_ns: i64::MIN, elapsed_ns: u64::MAX };
    let (call, skip) = (Request::Call(tick), Request::Skip(tick));
    [Request::Open(opening), Request::Start(starting), call, skip, Request::End]
}

fn answers() -> [ProcessAnswer; 6] {
    let page = |form: Form| Page { form, lines: 1, bytes: b"t n=1i 1\n".to_vec() };
    let dropped = Dropped { full: 1, invalid: 2, closed: 3, duplicate: 4, series: 5 };
    let done = |pages: Vec<Page>, result| {
        let closed = Closed { rows: 9, pages };
        ProcessAnswer::Done(Outcome { closed, tally: Tally { dropped, series: 8 }, result })
    };
    [
        ProcessAnswer::Hello,
        ProcessAnswer::Log(Level::Warn, "a text".to_owned()),
        ProcessAnswer::Opened(Ok("{}".to_owned())),
        ProcessAnswer::Opened(Err("it is no plugin".to_owned())),
        done(FORMS.map(page).into(), Ok(())),
        done(Vec::new(), Err(PluginError::Panicked("panic at x.rs:1: no".to_owned()))),
    ]
}

#[test]
fn what_is_said_is_what_is_heard() {
    for request in requests() {
        let message = request.encode(7);
        let (header, bytes) = split(&message);
        assert_eq!(Request::decode(header, bytes), Ok(request));
        assert!(ProcessAnswer::decode(header, bytes, &FORMS).is_err(), "it is no answer");
    }
    for answer in answers() {
        let message = answer.encode(7);
        let (header, bytes) = split(&message);
        let heard = ProcessAnswer::decode(header, bytes, &FORMS).unwrap();
        assert_eq!(format!("{heard:?}"), format!("{answer:?}"));
        assert!(Request::decode(header, bytes).is_err(), "it is no request");
    }
}

#[test]
fn a_message_that_is_cut_or_too_long_is_none() {
    for message in answers().map(|answer| answer.encode(7)) {
        let (header, bytes) = split(&message);
        for end in 0..bytes.len() {
            assert!(
                ProcessAnswer::decode(header, &bytes[..end], &FORMS).is_err(),
                "{header:?} {end}"
            );
        }
        let more = [bytes, b"x"].concat();
        assert!(ProcessAnswer::decode(header, &more, &FORMS).is_err(), "{header:?}");
    }
    let message = answers()[4].encode(7);
    let (header, bytes) = split(&message);
    let one = ProcessAnswer::decode(header, bytes, &FORMS[..1]);
    assert_eq!(one.unwrap_err(), NoMessage::Content("lines of other forms"));
}

#[test]
fn no_memory_is_taken_for_a_length_that_cannot_be() {
    for (kind, most) in [(0x81, 6), (0x82, (1 << 20) + 16), (0x84, MOST + (64 << 10) + 1024)] {
        let mut header = [kind, 0, 0, 0, 0, 0, 0, 0, 0];
        for (length, allowed) in [(most, true), (most + 1, false), (u32::MAX as usize, false)] {
            header[5..].copy_from_slice(&(length as u32).to_le_bytes());
            let read = MessageHeader::read(&header, MOST);
            let expected = if allowed { None } else { Some(NoMessage::Length(length as u32)) };
            assert_eq!(read.err(), expected, "{kind:x} {length}");
        }
    }
    for kind in [0, 6, 0x80, 0x85, 0xff] {
        assert!(MessageHeader::read(&[kind, 0, 0, 0, 0, 0, 0, 0, 0], MOST).is_err(), "{kind:x}");
    }
    // A list of more items than there are bytes.
    let message = answers()[4].encode(7);
    let (header, bytes) = split(&message);
    let mut bytes = bytes.to_vec();
    let count = 7 * 8 + 1 + 8;
    bytes[count..count + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(ProcessAnswer::decode(header, &bytes, &FORMS).is_err());
}

#[test]
fn texts_are_cut_where_a_character_ends() {
    let long = "ü".repeat(1 << 20);
    let message = ProcessAnswer::Log(Level::Info, long.clone()).encode(7);
    let (header, bytes) = split(&message);
    let ProcessAnswer::Log(_, heard) = ProcessAnswer::decode(header, bytes, &[]).unwrap() else {
        panic!()
    };
    assert_eq!(heard, long[..1 << 20]);
}
