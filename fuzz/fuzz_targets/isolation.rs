//! Any bytes as what a plugin's process says: they are a message or a reason, and the lines that pass the check are lines
//! for a reader that shares nothing with it, of tables that the plugin may fill.
#![no_main]

use collector::check::Checker;
use collector::form::Form;
use collector::instance::Outcome;
use collector::isolated::protocol::{MessageHeader, ProcessAnswer, Request};
use collector::read::read;
use collector::sink::{Closed, Limits, Reports, Terms};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use plugin_api::describe::Table;

#[derive(Arbitrary, Debug)]
enum Input {
    Message(Vec<u8>),
    Lines(Vec<Piece>),
}

#[derive(Arbitrary, Debug)]
enum Piece {
    Byte(u8),
    Char(char),
    Known(u8),
}

/// What lines are made of.
const KNOWN: [&str; 20] = [
    "mine", ",a=b", ",c=d", " ", "n=1i", ",m=2.5e-3", " 1", "\n", "\\", "\"", "=", ",", "\\,", "\\\"",
    "collector_program,plugin=tool", "9223372036854775807", "-", "e", "#!~#", "mine,a=b n=1i,s=\"x\" 5\n",
];

impl Piece {
    fn add(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Byte(byte) => bytes.push(*byte),
            Self::Char(c) => bytes.extend(c.to_string().as_bytes()),
            Self::Known(at) => bytes.extend(KNOWN[usize::from(*at) % KNOWN.len()].as_bytes()),
        }
    }
}

const MOST: usize = 1 << 20;

fuzz_target!(|input: Input| {
    let (name, text) = ("mine".to_owned(), String::new());
    let table = Table { name, text, tags: Vec::new(), fields: Vec::new() };
    let checker = Checker::new(&Terms {
        plugin: "tool".to_owned(),
        tables: Some(vec![table]),
        forms: vec![Form::default()],
        reports: Reports::Full,
        tags: Default::default(),
        uint: true,
        limits: Limits::DEFAULT,
        log: |_, _, _| {},
    });
    match input {
        Input::Message(bytes) => {
            let Some((header, rest)) = bytes.split_first_chunk() else { return };
            let Ok(header) = MessageHeader::read(header, MOST) else { return };
            let _ = Request::decode(header, rest);
            if let Ok(answer) = ProcessAnswer::decode(header, rest, &[Form::default()]) {
                // What was understood is said the same way again.
                let again = answer.encode(header.number);
                assert_eq!(&again[MessageHeader::SIZE..], rest);
                if let ProcessAnswer::Done(Outcome { closed: Closed { pages, .. }, .. }) = answer {
                    pages.iter().for_each(|page| check(&checker, &page.bytes, page.lines));
                }
            }
        }
        Input::Lines(pieces) => {
            let mut bytes = Vec::new();
            pieces.iter().for_each(|piece| piece.add(&mut bytes));
            let lines = bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
            check(&checker, &bytes, lines);
        }
    }
});

fn check(checker: &Checker, bytes: &[u8], lines: u64) {
    if checker.check(bytes, lines).is_err() {
        return;
    }
    match read(bytes) {
        Ok(read) => {
            assert_eq!(read.len() as u64, lines);
            for line in read {
                let report = line.table.starts_with("collector_") && line.tag("plugin") == "tool";
                assert!(line.table == "mine" || report, "{}", line.table);
            }
        }
        // A field of a line is there twice: the last one counts, for every database.
        Err(why) => assert!(format!("{why:#}").contains("a key is there twice"), "{why:#}"),
    }
}
