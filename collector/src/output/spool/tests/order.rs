//! What is handed out, in which order, and how often.

use super::*;

#[test]
fn what_was_appended_comes_back_oldest_first_and_once() {
    let mut case = Case::new(1 << 20);
    let batches: Vec<_> =
        (1..=20).map(|n| batch(if n % 3 == 0 { "b" } else { "a" }, n, n as u64)).collect();
    batches.iter().for_each(|batch| case.append(batch));
    let bytes: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
    assert_eq!(case.spool().waiting(), Waiting { lines: 210, bytes: bytes as u64 });
    let taken = case.spool.as_mut().unwrap().take(Side::Oldest, &ALL, 0, &mut Lost::new());
    assert_eq!(taken.len(), 20);
    for ((got, _), wanted) in taken.iter().zip(&batches) {
        assert_same(got, wanted);
    }
    assert_eq!(case.spool().waiting(), Waiting::default());
    assert_eq!(case.take_seconds(Side::Oldest, &ALL), [0; 0]);
}

#[test]
fn limits_are_kept_and_a_larger_batch_comes_alone() {
    let mut case = Case::new(1 << 20);
    for (second, lines) in [(1, 4), (2, 4), (3, 30), (4, 4), (5, 1)] {
        case.append(&batch("p", second, lines));
    }
    let lines = |lines| Portion { lines, ..ALL };
    assert_eq!(case.take_seconds(Side::Oldest, &lines(9)), [1, 2]);
    assert_eq!(case.take_seconds(Side::Oldest, &lines(9)), [3]);
    let bytes = batch("p", 4, 4).bytes.len();
    assert_eq!(case.take_seconds(Side::Oldest, &Portion { bytes, ..ALL }), [4]);
    assert_eq!(case.take_seconds(Side::Oldest, &lines(0)), [5]);
}

#[test]
fn after_a_split_each_end_is_taken_from_on_its_own() {
    let mut case = Case::new(1 << 20);
    (1..=3).for_each(|n| case.append(&batch("p", n, 1)));
    assert_eq!(case.spool().waiting_present().lines, 3);
    case.spool().split();
    (4..=6).for_each(|n| case.append(&batch("p", n, 1)));
    assert_eq!((case.spool().waiting().lines, case.spool().waiting_present().lines), (6, 3));
    assert_eq!(case.take_seconds(Side::Present, &ONE), [4]);
    assert_eq!(case.take_seconds(Side::Oldest, &ONE), [1]);
    assert_eq!(case.take_seconds(Side::Present, &ALL), [5, 6]);
    assert_eq!(case.take_seconds(Side::Present, &ALL), [0; 0]);
    case.append(&batch("p", 7, 1));
    assert_eq!(case.take_seconds(Side::Oldest, &ALL), [2, 3, 7]);
}

#[test]
fn the_present_starts_over_without_its_backlog() {
    let mut case = Case::new(1 << 20);
    case.append(&batch("p", 1, 1));
    case.spool().split();
    case.append(&batch("p", 2, 1));
    let [(2, place)] = case.take(Side::Present, &ALL, 0)[..] else { panic!() };
    case.spool().done(place);
    assert_eq!(case.bytes_of_files(), fs::metadata(&case.files()[0]).unwrap().len());
    case.append(&batch("p", 3, 1));
    assert_eq!(case.take_seconds(Side::Present, &ALL), [3]);
    assert_eq!(case.files().len(), 2);
}

#[test]
fn what_is_done_never_comes_back_and_what_was_only_taken_does() {
    let mut case = Case::new(1 << 20);
    (1..=6).for_each(|n| case.append(&batch("p", n, 1)));
    for (second, place) in case.take(Side::Oldest, &Portion { lines: 5, ..ALL }, 0) {
        if second != 4 {
            case.spool().done(place);
        }
    }
    case.reopen();
    assert_eq!(case.recovered, [Stretch { lines: 2, ..stretch("p", 2, 3, 6) }]);
    let seconds: Vec<_> = case.drain().iter().map(|batch| batch.tick.time_ns / S).collect();
    assert_eq!(seconds, [4, 6]);
    case.reopen();
    assert_eq!(case.recovered, []);
    assert_eq!(case.files(), [""; 0].map(PathBuf::from));
}

#[test]
fn what_is_recovered_is_backlog_and_told_by_plugin() {
    let mut case = Case::new(4000);
    (1..=9).for_each(|n| case.append(&batch(if n > 6 { "b" } else { "a" }, n, 2)));
    assert!(case.files().len() > 1);
    case.reopen();
    assert_eq!(case.recovered, [stretch("a", 12, 0, 6), stretch("b", 6, 6, 9)]);
    assert_eq!((case.spool().waiting().lines, case.spool().waiting_present().lines), (18, 0));
    case.append(&batch("a", 10, 1));
    assert_eq!(case.take_seconds(Side::Present, &ALL), [10]);
    assert_eq!(case.take_seconds(Side::Oldest, &ALL), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_place_that_is_done_already_or_was_never_taken_changes_nothing() {
    let mut case = Case::new(1 << 20);
    case.append(&batch("p", 1, 1));
    let second = Place { segment: 0, offset: case.bytes_of_files() };
    case.append(&batch("p", 2, 1));
    let first = case.take(Side::Oldest, &ONE, 0)[0].1;
    case.spool().done(first);
    case.spool().done(first);
    case.spool().done(second);
    case.spool().done(Place { segment: 7, ..first });
    assert_eq!(case.take_seconds(Side::Oldest, &ALL), [2]);
}

#[test]
fn an_empty_batch_leaves_nothing() {
    let mut case = Case::new(1 << 20);
    case.append(&batch("p", 1, 0));
    assert_eq!(case.spool().disk_bytes(), 0);
    assert_eq!(case.lost, []);
}
