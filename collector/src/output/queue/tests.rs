use super::*;
use crate::encode::Tags;
use crate::form::Form;
use crate::output::books::Books;
use crate::output::portion::Portion;
use crate::output::spool::SpoolConfig;
use plugin_api::Tick;
use std::path::Path;
use std::thread;

pub(super) fn batch_of(plugin: &str, second: i64, lines: u64, bytes: usize) -> Arc<Batch> {
    let tick = Tick { seq: 0, time_ns: second * 1_000_000_000, elapsed_ns: 1_000_000_000 };
    let mut text = vec![b'x'; bytes];
    for line in 0..lines as usize {
        text[bytes - 1 - line] = b'\n';
    }
    Arc::new(Batch { plugin: plugin.into(), tick, lines, bytes: text })
}

fn batch(lines: u64, bytes: usize) -> Arc<Batch> {
    batch_of("p", 100, lines, bytes)
}

pub(super) fn gaps() -> Gaps {
    Gaps::new("out", Form::default(), &Tags::new(), false).unwrap()
}

fn queue(bound: usize) -> Queue {
    Queue::new(bound, gaps())
}

fn spooled(dir: &Path) -> Queue {
    let config = SpoolConfig { dir: dir.into(), bytes: 1 << 20, age: Duration::from_secs(1 << 40) };
    let queue = queue(1000);
    queue.set_spool(Spool::open(&config, "out").unwrap());
    queue
}

/// Takes one batch, and delivers all of it.
fn deliver_one(queue: &Queue) -> u64 {
    let one = Portion { lines: 1, ..Portion::AT_ONCE };
    let mut parcel = queue.take(0, &one).unwrap();
    let lines = parcel.lines();
    parcel.delivered(lines);
    queue.account(&mut parcel);
    lines
}

/// Of a sender that may make an attempt.
fn go(queue: &Queue, sender: usize) -> Attempt {
    match queue.turn(sender) {
        Turn::Go(attempt) => attempt,
        other => panic!("{other:?}"),
    }
}

/// Fails an attempt of the first sender that is due, and then its turn comes: how that is.
fn fail(queue: &Queue, asked: Duration) -> Turn {
    let attempt = go(queue, 0);
    queue.failed(0, attempt, "down", Pause::Own(Some(asked)));
    queue.turn(0)
}

/// There is no time left for the first sender.
fn over() -> Turn {
    Turn::Over(Some("down".to_owned()))
}

/// Makes sure that a folder can be made nowhere below.
fn block(dir: &Path) {
    std::fs::remove_dir_all(dir).unwrap();
    std::fs::write(dir, "").unwrap();
}

/// The opposite.
fn unblock(dir: &Path) {
    std::fs::remove_file(dir).unwrap();
}

pub(super) fn balanced(queue: &Queue) -> Books {
    let snapshot = queue.snapshot();
    for (plugin, books) in &snapshot.plugins {
        assert!(books.balance(), "{plugin}: {books}");
    }
    snapshot.total()
}

fn dropped(books: &Books) -> u64 {
    books.dropped[Cause::Full]
}

#[test]
fn what_comes_after_the_end_is_lost_and_counted() {
    let queue = queue(1000);
    queue.push(batch(2, 10));
    queue.close(Instant::now() + Duration::from_secs(60));
    queue.push(batch(3, 10));
    let books = queue.snapshot().total();
    assert_eq!((books.produced, books.waiting, books.dropped[Cause::Error]), (5, 2, 3));
    assert_eq!(deliver_one(&queue), 3, "two lines, and the one that tells of the loss");
}

#[test]
fn an_attempt_is_under_way_from_its_turn_until_its_result_is_in_the_books() {
    let queue = queue(1000);
    queue.push(batch(1, 10));
    let mut parcel = queue.take(0, &Portion::AT_ONCE).unwrap();
    assert_eq!(queue.trying_since(), None);
    let before = Instant::now();
    let attempt = go(&queue, 0);
    assert!(queue.trying_since().is_some_and(|since| since >= before));
    queue.account(&mut parcel);
    queue.failed(0, attempt, "down", Pause::Own(None));
    assert_eq!(queue.trying_since(), None, "a pause is no attempt");
}

#[test]
fn the_oldest_lines_make_room_and_the_books_balance_at_any_moment() {
    let queue = queue(100);
    for i in 1..=10 {
        queue.push(batch(i, 30));
        balanced(&queue);
    }
    let books = balanced(&queue);
    assert_eq!((books.waiting, dropped(&books)), (8 + 9 + 10, 28));
    // What is on its way is never dropped for what is newer.
    let one = Portion { lines: 1, ..Portion::AT_ONCE };
    let mut parcel = queue.take(0, &one).unwrap();
    assert_eq!(parcel.lines(), 8 + 1); // and one that tells of the gap
    let gap_bytes = parcel.first().len();
    queue.push(batch(11, 90));
    let books = balanced(&queue);
    assert_eq!((books.waiting, dropped(&books)), (9, 28 + 9 + 10 + 11));
    parcel.delivered(9);
    queue.account(&mut parcel);
    queue.push(batch(12, 101)); // fits nowhere
    queue.push(batch(13, 100));
    assert_eq!(deliver_one(&queue), 13);
    let books = balanced(&queue);
    assert_eq!((books.waiting, books.delivered), (0, 22));
    assert_eq!(queue.snapshot().bytes, 130 + gap_bytes as u64);
}

#[test]
fn a_gap_is_told_once_with_its_interval_its_plugin_and_its_cause() {
    let queue = queue(100);
    for second in 1..=5 {
        queue.push(batch_of("p", second, 2, 50));
    }
    queue.push(batch_of("q", 5, 1, 40));
    let mut parcel = queue.take(0, &Portion::AT_ONCE).unwrap();
    let text = String::from_utf8(parcel.first().to_vec()).unwrap();
    assert_eq!(
        text,
        "collector_gap,cause=full,output=out,plugin=p lines=8i,interval_ns=4000000000i 4000000000\n"
    );
    let all = parcel.lines();
    parcel.delivered(all);
    queue.account(&mut parcel);
    let books = balanced(&queue);
    assert_eq!((books.produced, books.delivered, dropped(&books)), (11 + 1, 3 + 1, 8));
    assert_eq!(queue.snapshot().plugins["collector"].delivered, 1);
    queue.push(batch_of("p", 6, 2, 50));
    assert_eq!(deliver_one(&queue), 2, "it is told once");
}

#[test]
fn a_gap_that_nothing_follows_is_told_at_the_end() {
    let queue = queue(10);
    queue.push(batch(1, 11));
    queue.close(Instant::now() + Duration::from_secs(5));
    assert_eq!(deliver_one(&queue), 1);
    assert!(queue.take(0, &Portion::AT_ONCE).is_none());
}

#[test]
fn batches_wait_for_others_until_there_are_enough() {
    let queue = queue(1000);
    let limits = Portion { lines: 5, bytes: 1000, wait: Duration::from_secs(3600) };
    queue.push(batch(2, 10));
    queue.push(batch(3, 10));
    let mut parcel = queue.take(0, &limits).unwrap();
    assert_eq!(parcel.lines(), 5);
    parcel.delivered(5);
    queue.account(&mut parcel);

    queue.push(batch(1, 10));
    let began = Instant::now();
    let short = Portion { wait: Duration::from_millis(20), ..limits };
    assert_eq!(queue.take(0, &short).unwrap().lines(), 1);
    assert!(began.elapsed() >= short.wait);

    queue.push(batch(1, 10));
    queue.close(Instant::now() + Duration::from_secs(5));
    assert_eq!(queue.take(0, &limits).unwrap().lines(), 1, "the end is not waited for");
}

#[test]
fn what_waits_at_the_end_is_handed_out_and_then_it_is_over() {
    let queue = queue(100);
    queue.push(batch(1, 1));
    queue.close(Instant::now() + Duration::from_secs(5));
    let mut parcel = queue.take(0, &Portion::AT_ONCE).unwrap();
    assert!(matches!(fail(&queue, Duration::ZERO), Turn::Go(_)));
    parcel.delivered(1);
    queue.account(&mut parcel);
    assert!(queue.take(0, &Portion::AT_ONCE).is_none());
    assert_eq!(queue.snapshot().errors, 1);
}

#[test]
fn attempts_end_at_the_deadline_and_what_is_left_is_lost_to_the_line() {
    let queue = queue(100);
    queue.push(batch(3, 10));
    queue.push(batch(4, 10));
    let mut parcel = queue.take(0, &Portion { lines: 1, ..Portion::AT_ONCE }).unwrap();
    parcel.delivered(2);
    queue.close(Instant::now());
    assert_eq!(fail(&queue, Duration::from_secs(60)), over());
    queue.give_back(&mut parcel);
    assert!(queue.take(1, &Portion::AT_ONCE).is_none(), "nobody takes what is left");
    queue.abandon();
    let books = balanced(&queue);
    assert_eq!((books.delivered, books.dropped[Cause::Error], books.waiting), (2, 5, 0));
}

#[test]
fn lines_for_an_end_that_is_gone_are_counted_as_lost() {
    let queue = queue(100);
    queue.push(batch(2, 2));
    let parcel = queue.take(0, &Portion::AT_ONCE).unwrap();
    queue.push(batch(3, 3));
    queue.abandon();
    drop(parcel);
    queue.push(batch(4, 4));
    assert_eq!(balanced(&queue).dropped[Cause::Error], 9);
    assert!(queue.take(0, &Portion::AT_ONCE).is_none());
}

#[test]
fn with_a_spool_memory_is_free_again_and_order_stays() {
    let dir = tempfile::tempdir().unwrap();
    let queue = spooled(dir.path());
    for lines in 1..=20 {
        queue.push(batch(lines, 900));
        queue.spool_next().unwrap().unwrap();
    }
    assert_eq!(balanced(&queue).waiting, 210);
    for lines in 1..=20 {
        assert_eq!(deliver_one(&queue), lines);
        balanced(&queue);
    }
    assert_eq!(balanced(&queue).delivered, 210);
}

#[test]
fn a_spool_that_cannot_be_written_is_told_beside_an_output_that_does_not_deliver() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("spool");
    let queue = spooled(&dir);
    block(&dir);
    queue.push(batch(1, 30));
    assert!(queue.spool_next().unwrap().is_err());
    let spool = queue.snapshot().trouble.unwrap();
    assert!(spool.starts_with("the spool cannot be written: "), "{spool}");
    assert!(matches!(fail(&queue, Duration::ZERO), Turn::Go(_)));
    assert_eq!(queue.snapshot().trouble, Some(format!("down; {spool}")));
    assert!(queue.worked(go(&queue, 0)).is_some());
    assert_eq!(queue.snapshot().trouble, Some(spool), "lines still wait in memory only");
}

#[test]
fn what_an_earlier_run_left_in_the_spool_is_recovered_and_delivered_once() {
    let dir = tempfile::tempdir().unwrap();
    let queue = spooled(dir.path());
    for lines in 1..=3 {
        queue.push(batch(lines, 100));
        queue.spool_next().unwrap().unwrap();
    }
    assert_eq!(deliver_one(&queue), 1);
    queue.close(Instant::now());
    let mut parcel = queue.take(0, &Portion { lines: 1, ..Portion::AT_ONCE }).unwrap();
    assert_eq!(fail(&queue, Duration::ZERO), over(), "it is safe on disk: no reason to wait");
    queue.give_back(&mut parcel);
    queue.abandon();
    assert_eq!(balanced(&queue).waiting, 5);
    drop(queue);

    let queue = spooled(dir.path());
    assert_eq!(balanced(&queue).recovered, 5);
    assert_eq!([deliver_one(&queue), deliver_one(&queue)], [2, 3]);
    let books = balanced(&queue);
    assert_eq!((books.recovered, books.delivered, books.waiting), (5, 5, 0));
}

#[test]
fn after_an_outage_backlog_and_present_take_turns_unless_the_order_matters() {
    for (in_order, expected) in
        [(false, [1, 11, 2, 12, 3, 13, 4, 5]), (true, [1, 2, 3, 4, 5, 11, 12, 13])]
    {
        let dir = tempfile::tempdir().unwrap();
        let queue = spooled(dir.path());
        let queue = if in_order { queue.in_order() } else { queue };
        let push = |lines| {
            queue.push(batch(lines, 100));
            queue.spool_next().unwrap().unwrap();
        };
        (1..=5).for_each(push);
        queue.split();
        (11..=13).for_each(push);
        let order: Vec<u64> = (0..8).map(|_| deliver_one(&queue)).collect();
        assert_eq!(order, expected);
        assert_eq!(balanced(&queue).waiting, 0);
    }
}

/// A queue whose spool cannot be written, and a parcel of 3 lines from its memory.
fn past_its_spool(dir: &Path) -> (Queue, Parcel) {
    let queue = spooled(dir);
    block(dir);
    queue.push(batch(3, 30));
    assert!(queue.spool_next().unwrap().is_err());
    let parcel = queue.take(0, &Portion::AT_ONCE).unwrap();
    (queue, parcel)
}

#[test]
fn lines_on_their_way_are_not_given_up_early_for_a_spool_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, mut parcel) = past_its_spool(&dir.path().join("spool"));
    queue.close(Instant::now() + Duration::from_secs(60));
    assert!(matches!(fail(&queue, Duration::ZERO), Turn::Go(_)), "there is time for another");
    queue.close(Instant::now());
    assert_eq!(queue.turn(0), over());
    queue.give_back(&mut parcel);
    assert_eq!(balanced(&queue).dropped[Cause::Error], 3);
}

#[test]
fn only_what_is_left_of_a_batch_is_spooled_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("spool");
    let (queue, mut parcel) = past_its_spool(&dir);
    unblock(&dir);
    parcel.delivered(1);
    queue.give_back(&mut parcel);
    let books = balanced(&queue);
    assert_eq!((books.delivered, books.waiting), (1, 2));
    drop(queue);
    let queue = spooled(&dir);
    assert_eq!(balanced(&queue).recovered, 2);
    assert_eq!(deliver_one(&queue), 2);
}

#[test]
fn what_was_abandoned_at_the_deadline_is_not_given_up_once_more() {
    let lose = |queue: &Queue, parcel: &mut Parcel| {
        queue.abandon();
        queue.give_back(parcel);
        let books = balanced(queue);
        assert_eq!((books.dropped[Cause::Error], books.waiting), (3, 0));
    };
    let queue = queue(100);
    queue.push(batch(3, 10));
    lose(&queue, &mut queue.take(0, &Portion::AT_ONCE).unwrap());

    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("spool");
    let (queue, mut parcel) = past_its_spool(&dir);
    unblock(&dir);
    lose(&queue, &mut parcel);
    drop(queue);
    assert_eq!(balanced(&spooled(&dir)).recovered, 0);
}

#[test]
fn a_further_sender_begins_when_those_before_it_are_busy_and_not_before() {
    let queue = queue(1000);
    let one = Portion { lines: 1, ..Portion::AT_ONCE };
    thread::scope(|scope| {
        let further = scope.spawn(|| queue.take(1, &one).unwrap().lines());
        queue.push(batch(1, 10));
        thread::sleep(Duration::from_millis(50));
        assert!(!further.is_finished(), "the first sender has nothing to do");
        let first = queue.take(0, &one).unwrap();
        queue.push(batch(2, 10));
        queue.wake(); // a few lines wake nobody
        assert_eq!((first.lines(), further.join().unwrap()), (1, 2));
    });
}

#[test]
fn during_an_outage_nobody_takes_more_and_afterwards_all_go_on() {
    let queue = queue(1000);
    let one = Portion { lines: 1, ..Portion::AT_ONCE };
    (1..=3).for_each(|lines| queue.push(batch(lines, 10)));
    let mut parcels = [queue.take(0, &one).unwrap(), queue.take(1, &one).unwrap()];
    let attempt = go(&queue, 0);
    let earlier = go(&queue, 1);
    queue.failed(0, attempt, "down", Pause::Own(Some(Duration::ZERO)));
    assert_eq!(queue.snapshot().trouble.unwrap(), "down");
    // What was under way arrives, and that ends nothing.
    parcels[1].delivered(2);
    assert_eq!(queue.account(&mut parcels[1]), 2);
    assert_eq!(queue.worked(earlier), None);
    thread::scope(|scope| {
        let other = scope.spawn(|| queue.take(1, &one).unwrap().lines());
        thread::sleep(Duration::from_millis(50));
        assert!(!other.is_finished(), "a parcel is taken for a server that is away");
        let attempt = go(&queue, 0);
        parcels[0].delivered(1);
        queue.account(&mut parcels[0]);
        assert!(queue.worked(attempt).is_some());
        assert_eq!(other.join().unwrap(), 3);
    });
    assert_eq!(queue.snapshot().trouble, None);
}

#[test]
fn a_sender_that_waits_for_a_person_goes_at_once_when_it_is_told_to() {
    let queue = queue(1000);
    queue.push(batch(1, 10));
    let _parcel = queue.take(0, &Portion::AT_ONCE).unwrap();
    let attempt = go(&queue, 0);
    queue.failed(0, attempt, "no such token", Pause::Hold);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            loop {
                match queue.turn(0) {
                    Turn::Look => queue.looked(false),
                    turn => return turn,
                }
            }
        });
        thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished());
        queue.reopen();
        assert!(matches!(waiting.join().unwrap(), Turn::Go(again) if again != attempt));
    });
}

#[test]
fn parcels_read_back_from_the_spool_keep_within_the_bound_together() {
    let dir = tempfile::tempdir().unwrap();
    let queue = spooled(dir.path());
    for _ in 0..3 {
        queue.push(batch(1, 400));
        queue.spool_next().unwrap().unwrap();
    }
    let one = Portion { bytes: 400, ..Portion::AT_ONCE };
    let mut first = queue.take(0, &one).unwrap();
    let _second = queue.take(1, &one).unwrap();
    thread::scope(|scope| {
        let take = |sender| queue.take(sender, &one).map(|parcel| parcel.lines());
        let third = scope.spawn(move || take(2));
        thread::sleep(Duration::from_millis(50));
        assert!(!third.is_finished(), "1200 bytes in memory of 1000");
        first.delivered(1);
        queue.account(&mut first);
        let again = scope.spawn(move || take(0));
        while !(third.is_finished() || again.is_finished()) {
            thread::sleep(Duration::from_millis(1));
        }
        queue.close(Instant::now());
        let mut took = [third.join().unwrap(), again.join().unwrap()];
        took.sort_unstable();
        assert_eq!(took, [None, Some(1)], "when one has landed, one takes the next");
    });
}
