//! Bytes and age.

use super::*;

#[test]
fn the_byte_bound_is_never_exceeded_and_the_oldest_go_counted() {
    let mut case = Case::new(20_000);
    let mut lines = 0;
    for second in 1..=500 {
        case.append(&batch("p", second, second as u64 % 40 + 1));
        lines += second as u64 % 40 + 1;
        assert!(case.bytes_of_files() <= 20_000);
        assert_eq!(case.spool().disk_bytes(), case.bytes_of_files());
        let lost: u64 = case.lost.iter().map(|(stretch, _)| stretch.lines).sum();
        assert_eq!(lines, lost + case.spool().waiting().lines);
    }
    assert!(case.bytes_of_files() > 15_000, "the bound is used: {}", case.bytes_of_files());
    // What is lost is one interval, and what is left the rest of it.
    for (at, (lost, cause)) in case.lost.iter().enumerate() {
        assert_eq!(*cause, Cause::SpoolFull);
        let before = at.checked_sub(1).map_or(0, |before| case.lost[before].0.to_ns);
        assert_eq!(lost.from_ns, before);
    }
    let left = case.take_seconds(Side::Oldest, &ALL);
    assert_eq!(left[0] - 1, case.lost.last().unwrap().0.to_ns / S);
    assert!(left.iter().copied().eq(left[0]..=500));
}

#[test]
fn what_is_on_its_way_stays_and_the_next_oldest_go() {
    let mut case = Case::new(8000);
    (1..=8).for_each(|n| case.append(&long(n, 900)));
    let [(1, first)] = case.take(Side::Oldest, &ONE, 0)[..] else { panic!() };
    (9..=10).for_each(|n| case.append(&long(n, 900)));
    let lost = [stretch("p", 1, 1, 2), stretch("p", 1, 2, 3)];
    assert_eq!(case.lost, lost.map(|lost| (lost, Cause::SpoolFull)));
    case.spool().done(first);
    assert_eq!(case.take_seconds(Side::Oldest, &ALL), [4, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn a_batch_that_finds_no_room_is_lost_alone() {
    let mut case = Case::new(8000);
    (1..=8).for_each(|n| case.append(&long(n, 900)));
    assert_eq!(case.take_seconds(Side::Oldest, &ALL).len(), 8);
    case.append(&long(9, 900));
    assert_eq!(case.lost, [(stretch("p", 1, 8, 9), Cause::SpoolFull)]);
    // A larger one than all of the spool does not even cost what waits.
    let mut case = Case::new(8000);
    case.append(&long(1, 900));
    case.append(&long(2, 8000));
    assert_eq!(case.lost, [(stretch("p", 1, 1, 2), Cause::SpoolFull)]);
    assert_eq!(case.take_seconds(Side::Oldest, &ALL), [1]);
}

#[test]
fn a_batch_that_no_record_can_hold_is_lost_and_counted() {
    let mut case = Case::new(1 << 20);
    case.append(&batch(&"x".repeat(256), 1, 3));
    case.append(&Batch { lines: 100, ..batch("p", 2, 1) });
    let causes: Vec<_> = case.lost.iter().map(|(lost, cause)| (lost.lines, *cause)).collect();
    assert_eq!(causes, [(3, Cause::SpoolError), (100, Cause::SpoolError)]);
    assert_eq!(case.spool().disk_bytes(), 0);
    case.append(&batch(&"x".repeat(255), 3, 3));
    assert_eq!(case.drain().len(), 1);
}

#[test]
fn what_is_too_old_is_given_up_to_the_line() {
    let mut case = Case::new(1 << 20);
    (1..=5).for_each(|n| case.append(&batch("p", n, n as u64)));
    let seconds = |taken: Vec<(i64, Place)>| taken.into_iter().map(|(s, _)| s).collect::<Vec<_>>();
    // An hour old is not too old, a second more is.
    assert_eq!(seconds(case.take(Side::Oldest, &ONE, 3601)), [1]);
    assert_eq!(case.lost, []);
    assert_eq!(seconds(case.take(Side::Oldest, &ALL, 3604)), [4, 5]);
    let lost = [stretch("p", 2, 1, 2), stretch("p", 3, 2, 3)];
    assert_eq!(case.lost, lost.map(|lost| (lost, Cause::SpoolAge)));
    case.reopen();
    assert_eq!(case.recovered, [Stretch { lines: 10, ..stretch("p", 0, 0, 5) }]);
}

#[test]
fn appending_removes_whole_segments_that_are_too_old() {
    let mut case = Case::new(8000);
    (1..=4).for_each(|n| case.append(&long(n, 900)));
    let [(1, _)] = case.take(Side::Oldest, &ONE, 0)[..] else { panic!() };
    case.append(&long(3604, 900));
    let lost = [stretch("p", 1, 1, 2), stretch("p", 1, 2, 3)];
    assert_eq!(case.lost, lost.map(|lost| (lost, Cause::SpoolAge)));
    assert_eq!(case.files().len(), 3);
    assert_eq!(case.take_seconds(Side::Oldest, &ALL), [4, 3604]);
}

#[test]
fn a_spool_that_is_found_larger_than_its_bound_shrinks_and_counts_it() {
    let mut case = Case::new(80_000);
    (1..=80).for_each(|n| case.append(&long(n, 900)));
    case.config.bytes = 8000;
    case.reopen();
    assert_eq!(case.recovered, [stretch("p", 80, 0, 80)]);
    case.append(&long(81, 900));
    assert!(case.bytes_of_files() <= 8000);
    let lost = case.lines_lost(Cause::SpoolFull);
    assert_eq!(lost + case.spool().waiting().lines, 81);
}

#[test]
fn what_is_left_of_a_segment_begins_where_the_last_one_taken_ended() {
    let mut case = Case::new(1 << 20);
    (1..=5).for_each(|n| case.append(&batch("p", n, 1)));
    let taken = case.take(Side::Oldest, &Portion { lines: 2, ..ALL }, 0);
    taken.iter().for_each(|(_, place)| case.spool().done(*place));
    case.config.bytes = 400;
    case.spool.as_mut().unwrap().config.bytes = 400;
    case.append(&long(6, 300));
    assert_eq!(case.lost, [(stretch("p", 3, 2, 5), Cause::SpoolFull)]);
}

#[test]
fn what_is_done_soon_leaves_nothing_on_disk() {
    let mut case = Case::new(1 << 20);
    for second in 1..=1000 {
        case.append(&long(second, 5000));
        assert_eq!(case.drain().len(), 1);
        assert_eq!((case.bytes_of_files(), case.files().len()), (0, 1));
    }
    case.reopen();
    assert!(case.files().is_empty());
}

#[test]
fn however_often_it_is_split_there_are_not_too_many_segments() {
    let mut case = Case::new(1 << 30);
    for second in 1..=super::super::SEGMENTS as i64 + 100 {
        case.append(&batch("p", second, 1));
        case.spool().split();
    }
    assert_eq!(case.files().len(), super::super::SEGMENTS);
    case.append(&batch("p", 0, 1));
    assert!(case.spool().waiting_present().lines > 0);
    assert_eq!(case.drain().len(), super::super::SEGMENTS + 101);
}
