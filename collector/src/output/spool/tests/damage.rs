//! Bits that flip, files that end too soon, are gone, or are something else.

use super::*;
use crate::output::spool::record::{self, RecordHeader};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

/// Three batches of two plugins, the segment's bytes, and where each record ends.
fn three() -> ([Batch; 3], Vec<u8>, [usize; 3]) {
    let batches = [batch("a", 1, 2), batch("b", 2, 1), batch("a", 3, 3)];
    let mut case = Case::new(1 << 20);
    let ends = [0, 1, 2].map(|at| {
        case.append(&batches[at]);
        case.bytes_of_files() as usize
    });
    let bytes = fs::read(&case.files()[0]).unwrap();
    (batches, bytes, ends)
}

/// A spool that finds one segment.
fn found(bytes: &[u8]) -> Case {
    let mut case = Case::new(1 << 20);
    case.spool = None;
    fs::write(case.folder().join("00000000.spool"), bytes).unwrap();
    case.reopen();
    case
}

/// The spool gives back exactly these, what it promised at the start is lost or given back, and it
/// works on.
fn assert_gives(mut case: Case, wanted: &[&Batch], what: &str) {
    let recovered: u64 = case.recovered.iter().map(|stretch| stretch.lines).sum();
    let taken = case.drain();
    assert_eq!(taken.len(), wanted.len(), "{what}");
    for (got, wanted) in taken.iter().zip(wanted) {
        assert_same(got, wanted);
    }
    let given: u64 = taken.iter().map(|batch| batch.lines).sum();
    assert_eq!(recovered, given + case.lines_lost(Cause::SpoolError), "{what}");
    assert_eq!(case.lost, [], "{what}");
    let next = batch("c", 4, 1);
    case.append(&next);
    assert_same(&case.drain()[0], &next);
    case.reopen();
    assert_eq!(case.recovered, [], "{what}");
}

#[test]
fn a_flip_in_any_byte_costs_only_its_batch() {
    let (batches, bytes, ends) = three();
    for at in 0..bytes.len() {
        let hit = ends.iter().position(|end| at < *end).unwrap();
        let start = hit.checked_sub(1).map_or(0, |before| ends[before]);
        // The state: what only might be done is given back.
        let harmless = at == start + record::STATE_AT as usize;
        for mask in [1 << (at % 8), 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= mask;
            let left: Vec<_> =
                (0..3).filter(|n| harmless || *n != hit).map(|n| &batches[n]).collect();
            assert_gives(found(&bytes), &left, &format!("{mask:#x} in byte {at}"));
        }
    }
}

#[test]
fn a_cut_at_any_byte_costs_only_what_is_behind_it() {
    let (batches, bytes, ends) = three();
    for length in 0..bytes.len() {
        let whole: Vec<_> = (0..3).filter(|n| ends[*n] <= length).map(|n| &batches[n]).collect();
        let case = found(&bytes[..length]);
        let kept = ends.iter().rfind(|end| **end <= length).copied().unwrap_or(0);
        assert_eq!(case.bytes_of_files(), kept as u64, "the torn tail is cut");
        assert_gives(case, &whole, &format!("cut at {length}"));
    }
}

#[test]
fn what_is_zeroed_or_in_between_costs_only_itself() {
    let (batches, bytes, ends) = three();
    let [a, b, c] = [&batches[0], &batches[1], &batches[2]];
    let mut zeroed = bytes.clone();
    zeroed[ends[0]..ends[1]].fill(0);
    assert_gives(found(&zeroed), &[a, c], "a record of zeros");
    let longer = [&bytes[..], &vec![0; 300_000]].concat();
    assert_gives(found(&longer), &[a, b, c], "zeros at the end");
    // What lies where it was not written is not trusted.
    let moved = [&bytes[..ends[1]], b"?", &bytes[ends[1]..]].concat();
    assert_gives(found(&moved), &[a, b], "moved by a byte");
    let twice = [&bytes[..], &bytes[..]].concat();
    assert_gives(found(&twice), &[a, b, c], "everything twice");
}

#[test]
fn the_next_record_is_found_behind_much_damage() {
    // Around the length that is read at once, so that the next header lies across its end.
    for distance in (65_300..65_700).step_by(7).chain(65_470..65_490) {
        let (first, second) = (long(1, distance), batch("p", 2, 1));
        let mut case = Case::new(1 << 20);
        case.append(&first);
        case.append(&second);
        flip(&case.files()[0], 0);
        case.reopen();
        assert_eq!(case.recovered, [stretch("p", 1, 1, 2)], "{distance}");
        assert_same(&case.drain()[0], &second);
    }
}

#[test]
fn a_record_among_the_lines_of_another_is_not_taken_for_one() {
    let evil = batch("evil", 1, 1);
    let header = RecordHeader::of(&evil).unwrap();
    let here = RecordHeader::of(&batch("p", 1, 1)).unwrap().length();
    for (segment, offset) in [(0, 0), (1, here)] {
        let bytes = [header.encode(Place { segment, offset }), evil.bytes.clone()].concat();
        let mut case = Case::new(1 << 20);
        case.append(&Batch { bytes, ..batch("p", 1, 1) });
        flip(&case.files()[0], 0);
        case.reopen();
        assert_eq!(case.recovered, []);
    }
}

#[test]
fn lengths_that_lie_are_refused_even_with_a_right_checksum() {
    let honest = RecordHeader::of(&batch("p", 1, 2)).unwrap();
    let place = Place { segment: 0, offset: 0 };
    for lines in [0, 1 << 20, u64::MAX] {
        let header = RecordHeader { lines, ..honest.clone() };
        assert_eq!(RecordHeader::parse(&header.encode(place), place, 1 << 19), None);
    }
    for bytes in [0, 1 << 30, u64::MAX - 55, u64::MAX] {
        let header = RecordHeader { bytes, lines: 1, ..honest.clone() };
        assert_eq!(RecordHeader::parse(&header.encode(place), place, 1 << 19), None);
    }
    assert_eq!(
        RecordHeader::parse(&honest.encode(place), place, honest.record_length()),
        Some(honest)
    );
}

#[test]
fn a_header_that_is_damaged_below_us_is_lost_to_the_line() {
    let mut case = Case::new(1 << 20);
    let batches = [batch("a", 1, 2), batch("b", 2, 30), batch("a", 3, 4), batch("b", 4, 5)];
    let mut starts = Vec::new();
    for batch in &batches {
        starts.push(case.bytes_of_files());
        case.append(batch);
    }
    flip(&case.files()[0], starts[1] + 30);
    assert_eq!(case.take_seconds(Side::Oldest, &ALL), [1, 3, 4]);
    assert_eq!(case.lost, [(stretch("b", 30, 1, 4), Cause::SpoolError)]);
    assert_eq!(case.spool().waiting(), Waiting::default());
}

#[test]
fn what_was_not_counted_in_is_not_handed_out() {
    let mut case = Case::new(1 << 20);
    case.append(&batch("a", 1, 1));
    case.append(&batch("b", 2, 1));
    let done = case.take(Side::Oldest, &ONE, 0)[0].1;
    case.spool().done(done);
    case.reopen();
    assert_eq!(case.recovered, [stretch("b", 1, 1, 2)]);
    // It no longer says that it is done.
    flip(&case.files()[0], record::STATE_AT);
    assert_eq!(case.take_seconds(Side::Oldest, &ALL), [2]);
    assert_eq!(case.lost, []);
}

#[test]
fn lines_that_are_damaged_below_us_are_lost_to_the_line() {
    let mut case = Case::new(1 << 20);
    (1..=3).for_each(|n| case.append(&batch("p", n, n as u64)));
    let middle = fs::read(&case.files()[0]).unwrap();
    let at = memchr::memmem::find(&middle, b"n=2,line=1").unwrap();
    flip(&case.files()[0], at as u64);
    assert_eq!(case.take_seconds(Side::Oldest, &ALL), [1, 3]);
    assert_eq!(case.lost, [(stretch("p", 2, 1, 2), Cause::SpoolError)]);
}

#[test]
fn a_file_that_is_cut_below_us_costs_what_it_held_and_is_appended_to() {
    let mut case = Case::new(1 << 20);
    (1..=3).for_each(|n| case.append(&batch("p", n, 1)));
    OpenOptions::new().write(true).open(&case.files()[0]).unwrap().set_len(100).unwrap();
    assert_eq!(case.take_seconds(Side::Oldest, &ONE), [1]);
    case.append(&batch("p", 4, 1));
    assert_eq!(case.take_seconds(Side::Oldest, &ALL), [4]);
    assert_eq!(case.lines_lost(Cause::SpoolError), 2);
    // Cut and not filled up again, it has an end that comes too soon.
    case.append(&batch("p", 5, 1));
    OpenOptions::new().write(true).open(&case.files()[0]).unwrap().set_len(0).unwrap();
    assert_eq!(case.take_seconds(Side::Oldest, &ALL), [0; 0]);
    assert_eq!(case.lines_lost(Cause::SpoolError), 1);
}

#[test]
fn a_file_that_is_gone_or_cannot_be_read_costs_what_it_held() {
    for replace in [|_: &Path| (), |path: &Path| fs::create_dir(path).unwrap()] {
        let mut case = Case::new(1 << 20);
        (1..=2).for_each(|n| case.append(&batch("p", n, n as u64)));
        case.spool().split();
        case.append(&batch("p", 3, 1));
        let path = case.files()[0].clone();
        fs::remove_file(&path).unwrap();
        replace(&path);
        assert_eq!(case.take_seconds(Side::Oldest, &ALL), [3]);
        assert_eq!(case.lost, [(stretch("p", 3, 0, 2), Cause::SpoolError)]);
    }
}

#[test]
fn what_is_no_segment_is_left_alone_and_its_number_not_used() {
    let mut case = Case::new(1 << 20);
    case.append(&batch("p", 1, 1));
    fs::create_dir(case.folder().join("00000007.spool")).unwrap();
    fs::write(case.folder().join("notes.txt"), "mine").unwrap();
    case.reopen();
    assert_eq!(case.recovered, [stretch("p", 1, 0, 1)]);
    case.append(&batch("p", 2, 1));
    assert!(case.folder().join("00000008.spool").is_file());
    assert_eq!(case.drain().len(), 2);
    assert!(case.folder().join("00000007.spool").is_dir());
    assert!(case.folder().join("notes.txt").is_file());
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x55], offset).unwrap();
}
