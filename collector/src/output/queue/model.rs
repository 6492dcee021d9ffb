//! The queue beside a model of it that is too simple to be wrong: several senders, failures, partial
//! deliveries, losses, with and without a spool, until one of its ends.

use super::tests::{balanced, batch_of, gaps};
use super::*;
use crate::output::portion::Portion;
use crate::output::spool::SpoolConfig;
use proptest::prelude::*;
use std::collections::VecDeque;

const BOUND: usize = 1000;
const SENDERS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// A batch of so many lines comes; each has so many bytes.
    Push(u64, usize),
    /// The spool's thread works once.
    Spool,
    /// The first sender with nothing to do takes so many lines at most.
    Take(u64),
    /// A sender's request settles so many lines; these are refused.
    Settle(usize, u64, bool),
    /// A sender's request fails.
    Fail(usize),
    /// The pause after a failure ends.
    Again,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..5_u64, 1..80_usize).prop_map(|(lines, bytes)| Step::Push(lines, bytes)),
        4 => Just(Step::Spool),
        4 => (1..12_u64).prop_map(Step::Take),
        6 => (0..SENDERS, 0..8_u64, prop::bool::weighted(0.2))
            .prop_map(|(sender, lines, refused)| Step::Settle(sender, lines, refused)),
        1 => (0..SENDERS).prop_map(Step::Fail),
        1 => Just(Step::Again),
    ]
}

/// A batch: its number, lines and bytes.
type Numbered = (i64, u64, usize);

/// A sender at work.
struct Flight {
    parcel: Parcel,
    /// None while it has to wait.
    attempt: Option<Attempt>,
    /// Bytes that were read from the spool.
    read: usize,
}

struct Model {
    queue: Queue,
    has_spool: bool,
    numbered: i64,
    memory: VecDeque<Numbered>,
    spooled: VecDeque<Numbered>,
    flights: [Option<Flight>; SENDERS],
    /// Who failed.
    outage: Option<usize>,
    dropped: u64,
    refused: u64,
    delivered: u64,
}

impl Model {
    fn new(queue: Queue) -> Self {
        Self {
            has_spool: queue.has_spool(),
            queue,
            numbered: 0,
            memory: VecDeque::new(),
            spooled: VecDeque::new(),
            flights: [None, None, None],
            outage: None,
            dropped: 0,
            refused: 0,
            delivered: 0,
        }
    }

    /// Bytes under way that lie in no spool: of lines, and of those about gaps.
    fn under_way(&mut self) -> (usize, usize) {
        let flights = self.flights.iter_mut().flatten();
        let items = flights.flat_map(|flight| flight.parcel.items().iter());
        let unspooled = items.filter(|item| item.place.is_none() && !item.is_done());
        unspooled.fold((0, 0), |(lines, gaps), item| match &*item.batch.plugin {
            "collector" => (lines, gaps + item.batch.bytes.len()),
            _ => (lines + item.batch.bytes.len(), gaps),
        })
    }

    /// Bytes in memory that lie in no spool.
    fn held(&mut self) -> usize {
        let (lines, gaps) = self.under_way();
        self.memory.iter().map(|(_, _, bytes)| bytes).sum::<usize>() + lines + gaps
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Push(lines, bytes) => self.push(lines, bytes * lines as usize),
            Step::Spool => self.spool(),
            Step::Take(lines) => drop(self.take(lines)),
            Step::Settle(sender, lines, refused) => self.settle(sender, lines, refused),
            Step::Fail(sender) => self.fail(sender),
            Step::Again => self.again(),
        }
        self.check();
    }

    fn check(&mut self) {
        let books = balanced(&self.queue);
        assert_eq!(books.dropped[Cause::Full], self.dropped);
        assert_eq!(books.dropped[Cause::Rejected], self.refused);
        assert_eq!(books.delivered, self.delivered);
        let (_, gaps) = self.under_way();
        assert!(self.held() <= BOUND + gaps, "lines about gaps alone may exceed it");
        let snapshot = self.queue.snapshot();
        assert_eq!(snapshot.trouble.is_some(), self.outage.is_some());
    }

    fn push(&mut self, lines: u64, bytes: usize) {
        self.numbered += 1;
        self.queue.push(batch_of("p", self.numbered, lines, bytes));
        while self.held() + bytes > BOUND {
            match self.memory.pop_front() {
                Some((_, lines, _)) => self.dropped += lines,
                None => return self.dropped += lines,
            }
        }
        self.memory.push_back((self.numbered, lines, bytes));
    }

    fn spool(&mut self) {
        if self.has_spool
            && let Some(batch) = self.memory.pop_front()
        {
            self.queue.spool_next().unwrap().unwrap();
            self.spooled.push_back(batch);
        }
    }

    /// Whether something was taken: the oldest lines, which no other sender has.
    fn take(&mut self, lines: u64) -> bool {
        let limits = Portion { lines, ..Portion::AT_ONCE };
        let Some(sender) = self.flights.iter().position(Option::is_none) else { return false };
        let held = self.held();
        let waiting = if self.has_spool { &mut self.spooled } else { &mut self.memory };
        let read: usize = self.flights.iter().flatten().map(|flight| flight.read).sum();
        let next: usize = waiting.iter().map(|(_, _, bytes)| bytes).sum();
        let fits = read == 0 || held + read + next <= BOUND;
        if self.outage.is_some() || waiting.is_empty() || !fits {
            return false; // it would have to wait
        }
        let (mut count, mut sum) = (0, 0);
        for (_, lines_of_batch, _) in &*waiting {
            sum += lines_of_batch;
            if count > 0 && sum > lines {
                break;
            }
            count += 1;
        }
        let expected: Vec<i64> = waiting.drain(..count).map(|(number, _, _)| number).collect();
        let mut parcel = self.queue.take(sender, &limits).unwrap();
        let ours = parcel.items().iter().filter(|item| &*item.batch.plugin == "p");
        let numbers: Vec<i64> = ours.map(|item| item.batch.tick.time_ns / 1_000_000_000).collect();
        assert_eq!(numbers, expected, "the oldest come first");
        let spooled = parcel.items().iter().filter(|item| item.place.is_some());
        let read = spooled.map(|item| item.batch.bytes.len()).sum();
        self.flights[sender] = Some(Flight { parcel, attempt: None, read });
        self.go(sender);
        true
    }

    /// A sender's turn has come.
    fn go(&mut self, sender: usize) {
        let Turn::Go(attempt) = self.queue.turn(sender) else { panic!("it may go") };
        if let Some(flight) = &mut self.flights[sender] {
            flight.attempt = Some(attempt);
        }
    }

    fn settle(&mut self, sender: usize, lines: u64, refused: bool) {
        let Some(flight) = &mut self.flights[sender] else { return };
        let Some(attempt) = flight.attempt else { return };
        let lines = lines.min(flight.parcel.lines());
        match refused {
            true => flight.parcel.give_up(lines, Cause::Rejected),
            false => flight.parcel.delivered(lines),
        }
        *(if refused { &mut self.refused } else { &mut self.delivered }) += lines;
        assert_eq!(self.queue.account(&mut flight.parcel), lines);
        flight.attempt = None;
        if flight.parcel.is_done() {
            self.flights[sender] = None;
        }
        if lines > 0 {
            let ended = self.queue.worked(attempt).is_some();
            assert_eq!(ended, self.outage == Some(sender), "whoever failed ends it");
        }
        if lines > 0 && self.outage == Some(sender) {
            self.outage = None;
        }
        let waiting =
            |flight: &Option<Flight>| flight.as_ref().is_some_and(|f| f.attempt.is_none());
        for sender in 0..SENDERS {
            if waiting(&self.flights[sender]) && self.outage.is_none() {
                self.go(sender);
            }
        }
    }

    fn fail(&mut self, sender: usize) {
        let Some(flight) = &mut self.flights[sender] else { return };
        let Some(attempt) = flight.attempt.take() else { return };
        self.queue.failed(sender, attempt, "down", Pause::Hold);
        self.outage.get_or_insert(sender);
    }

    fn again(&mut self) {
        self.queue.reopen();
        if let Some(sender) = self.outage {
            self.go(sender);
        }
    }

    /// The server works, and there is time for all.
    fn finish(mut self) {
        self.queue.close(Instant::now() + Duration::from_secs(3600));
        while self.has_spool && !self.memory.is_empty() {
            self.spool();
        }
        loop {
            self.again();
            for sender in self.outage.into_iter().chain(0..SENDERS) {
                self.settle(sender, u64::MAX, false);
            }
            if self.flights.iter().all(Option::is_none) && !self.take(5) {
                break;
            }
            self.check();
        }
        // What is left tells of gaps.
        while let Some(mut parcel) = self.queue.take(0, &Portion::AT_ONCE) {
            assert!(parcel.items().iter().all(|item| &*item.batch.plugin == "collector"));
            parcel.delivered(u64::MAX);
            self.delivered += self.queue.account(&mut parcel);
        }
        self.check();
        let books = balanced(&self.queue);
        assert_eq!((books.waiting, books.dropped[Cause::Error]), (0, 0));
    }

    /// There is no time left. Returns the lines that the spool has for the next start: what waits, and the
    /// whole of batches of which only a part was settled.
    fn abandon(mut self) -> u64 {
        self.queue.close(Instant::now());
        let mut again = 0;
        for flight in self.flights.iter_mut().flatten() {
            self.queue.give_back(&mut flight.parcel);
            let items = flight.parcel.items().iter();
            let torn = items.filter(|item| item.place.is_some() && !item.is_done());
            again += torn.map(|item| item.batch.lines - item.lines_left()).sum::<u64>();
        }
        self.queue.abandon();
        let books = balanced(&self.queue);
        assert!(self.has_spool || books.waiting == 0);
        books.waiting + again
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_several_senders_do_the_oldest_go_first_and_the_books_balance(
        steps in prop::collection::vec(step(), 1..120),
        spool: bool,
        abandon: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let age = Duration::from_secs(1 << 40);
        let config = SpoolConfig { dir: dir.path().into(), bytes: 1 << 20, age };
        let open = || {
            let queue = Queue::new(BOUND, gaps());
            if spool {
                queue.set_spool(Spool::open(&config, "out").unwrap());
            }
            queue
        };
        let mut model = Model::new(open());
        steps.iter().for_each(|step| model.step(step));
        if !abandon {
            model.finish();
        } else {
            let left = model.abandon();
            prop_assert_eq!(balanced(&open()).recovered, left);
        }
    }
}
