//! Any sequence of calls, beside a list of what became of every batch. Each batch has a plugin of its own,
//! so that the spool's sums say which one they are about.

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

#[derive(Clone, Debug)]
enum Call {
    Append { lines: u64, padding: usize },
    Take { end: Side, lines: u64, bytes: usize },
    Done(Index),
    Split,
    Reopen,
    Wait { seconds: i64 },
    Damage { file: Index, byte: Index, mask: u8 },
}

fn calls(damage: bool) -> impl Strategy<Value = Vec<Call>> {
    let end = prop_oneof![Just(Side::Oldest), Just(Side::Present)];
    let flip = (any::<Index>(), any::<Index>(), 1..=u8::MAX);
    let call = prop_oneof![
        12 => (1..20u64, 0..600usize).prop_map(|(lines, padding)| Call::Append { lines, padding }),
        8 => (end, 0..40u64, 0..2000usize)
            .prop_map(|(end, lines, bytes)| Call::Take { end, lines, bytes }),
        8 => any::<Index>().prop_map(Call::Done),
        2 => Just(Call::Split),
        2 => Just(Call::Reopen),
        2 => (0..1500i64).prop_map(|seconds| Call::Wait { seconds }),
        if damage { 2 } else { 0 } =>
            flip.prop_map(|(file, byte, mask)| Call::Damage { file, byte, mask }),
    ];
    prop::collection::vec(call, 1..120)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Waits,
    InFlight(Place),
    Over,
}

struct Model {
    case: Case,
    batches: Vec<Batch>,
    fates: Vec<Fate>,
    /// The first batch of the present.
    present: usize,
    now_s: i64,
    damaged: bool,
}

impl Model {
    fn new(bytes: u64) -> Self {
        let (batches, fates) = (Vec::new(), Vec::new());
        Self { case: Case::new(bytes), batches, fates, present: 0, now_s: 10_000, damaged: false }
    }

    fn id(plugin: &str) -> usize {
        plugin[1..].parse().unwrap()
    }

    fn waiting(&self, from: usize) -> Waiting {
        let waits = (from..self.fates.len()).filter(|id| self.fates[*id] == Fate::Waits);
        waits.map(|id| &self.batches[id]).fold(Waiting::default(), |sum, batch| Waiting {
            lines: sum.lines + batch.lines,
            bytes: sum.bytes + batch.bytes.len() as u64,
        })
    }

    fn is_old(&self, id: usize) -> bool {
        self.batches[id].tick.time_ns < (self.now_s - 3600) * S
    }

    /// What the spool says is lost was waiting, is lost once, and for a reason.
    fn lose(&mut self, causes: &[Cause]) -> Vec<usize> {
        let lost = std::mem::take(&mut self.case.lost);
        lost.iter()
            .map(|(stretch, cause)| {
                let id = Self::id(&stretch.plugin);
                let batch = &self.batches[id];
                assert_eq!(*stretch, Stretch::of(&batch.plugin, &batch.tick, batch.lines));
                assert_eq!(self.fates[id], Fate::Waits, "{id} {cause:?}");
                assert!(causes.contains(cause), "{id} {cause:?}");
                assert!(*cause != Cause::SpoolAge || self.is_old(id));
                assert!(*cause != Cause::SpoolError || self.damaged);
                self.fates[id] = Fate::Over;
                id
            })
            .collect()
    }

    fn call(&mut self, call: &Call) {
        match call {
            Call::Append { lines, padding } => self.append(*lines, *padding),
            Call::Take { end, lines, bytes } => {
                self.take(*end, &Portion { lines: *lines, bytes: *bytes, ..ALL });
            }
            Call::Done(index) => self.done(index),
            Call::Split => {
                self.case.spool().split();
                self.present = self.batches.len();
            }
            Call::Reopen => self.reopen(),
            Call::Wait { seconds } => self.now_s += seconds,
            Call::Damage { file, byte, mask } => self.damage(file, byte, *mask),
        }
        let disk = self.case.bytes_of_files();
        assert!(disk <= self.case.config.bytes);
        assert_eq!(self.case.spool().disk_bytes(), disk);
        assert_eq!(self.case.spool().waiting(), self.waiting(0));
        assert_eq!(self.case.spool().waiting_present(), self.waiting(self.present));
    }

    fn append(&mut self, lines: u64, padding: usize) {
        let id = self.batches.len();
        let mut batch = batch(&format!("p{id}"), self.now_s, lines);
        batch.bytes.splice(0..0, std::iter::repeat_n(b' ', padding));
        self.case.append(&batch);
        self.batches.push(batch);
        self.fates.push(Fate::Waits);
        let full: BTreeSet<_> =
            self.lose(&[Cause::SpoolFull, Cause::SpoolAge]).into_iter().collect();
        let in_flight = self.fates.iter().any(|fate| matches!(fate, Fate::InFlight(_)));
        let refused = full.contains(&id);
        assert!(!refused || full.iter().all(|lost| *lost == id || self.is_old(*lost)));
        if let (Some(newest), false) = (full.last(), in_flight || refused) {
            let older = &self.fates[..*newest];
            assert!(!older.contains(&Fate::Waits), "the oldest go first");
        }
    }

    fn take(&mut self, end: Side, limits: &Portion) {
        let from = if end == Side::Present { self.present } else { 0 };
        let now_ns = self.now_s * S;
        let taken =
            self.case.spool.as_mut().unwrap().take(end, limits, now_ns, &mut self.case.lost);
        self.lose(&[Cause::SpoolAge, Cause::SpoolError]);
        let mut sum = Waiting::default();
        let mut last = None;
        for (batch, place) in &taken {
            let id = Self::id(&batch.plugin);
            assert_same(batch, &self.batches[id]);
            assert_eq!(self.fates[id], Fate::Waits);
            assert!(id >= from && last < Some(id) && !self.is_old(id));
            self.fates[id] = Fate::InFlight(*place);
            sum.lines += batch.lines;
            sum.bytes += batch.bytes.len() as u64;
            last = Some(id);
        }
        let fits = |sum: Waiting| sum.lines <= limits.lines && sum.bytes <= limits.bytes as u64;
        assert!(taken.len() <= 1 || fits(sum));
        let next = (from..self.fates.len()).find(|id| self.fates[*id] == Fate::Waits);
        assert!(!taken.is_empty() || next.is_none(), "nothing taken: nothing waits");
        if let (Some(next), false) = (next, self.damaged) {
            assert!(last < Some(next), "none is passed over");
            let next = &self.batches[next];
            let bytes = sum.bytes + next.bytes.len() as u64;
            assert!(!fits(Waiting { lines: sum.lines + next.lines, bytes }), "one more fits");
        }
    }

    fn done(&mut self, index: &Index) {
        let in_flight: Vec<_> = (0..self.fates.len())
            .filter(|id| matches!(self.fates[*id], Fate::InFlight(_)))
            .collect();
        if in_flight.is_empty() {
            return;
        }
        let id = *index.get(&in_flight);
        if let Fate::InFlight(place) = self.fates[id] {
            self.case.spool().done(place);
        }
        self.fates[id] = Fate::Over;
    }

    fn reopen(&mut self) {
        self.case.reopen();
        let mut found = BTreeSet::new();
        for stretch in &self.case.recovered {
            let id = Self::id(&stretch.plugin);
            let batch = &self.batches[id];
            assert_eq!(*stretch, Stretch::of(&batch.plugin, &batch.tick, batch.lines));
            assert!(found.insert(id));
        }
        for (id, fate) in self.fates.iter_mut().enumerate() {
            // Damage may hide a batch, or that it is done.
            assert!(self.damaged || found.contains(&id) == (*fate != Fate::Over));
            *fate = if found.contains(&id) { Fate::Waits } else { Fate::Over };
        }
        self.present = self.batches.len();
    }

    fn damage(&mut self, file: &Index, byte: &Index, mask: u8) {
        let files = self.case.files();
        if files.is_empty() {
            return;
        }
        let file = OpenOptions::new().read(true).write(true).open(file.get(&files)).unwrap();
        let length = file.metadata().unwrap().len() as usize;
        if length == 0 {
            return;
        }
        let (mut old, at) = ([0], byte.index(length) as u64);
        file.read_exact_at(&mut old, at).unwrap();
        file.write_all_at(&[old[0] ^ mask], at).unwrap();
        self.damaged = true;
    }

    /// Everything is taken in the end, and then nothing is left.
    fn finish(mut self) {
        self.take(Side::Oldest, &ALL);
        assert_eq!(self.case.spool().waiting(), Waiting::default());
        for fate in &self.fates {
            if let Fate::InFlight(place) = fate {
                self.case.spool().done(*place);
            }
        }
        assert!(self.fates.iter().all(|fate| *fate != Fate::Waits));
        assert_eq!(self.case.bytes_of_files(), 0);
        self.case.reopen();
        assert_eq!(self.case.recovered, []);
    }
}

proptest! {
    #[test]
    fn whatever_is_called_every_batch_is_accounted_for(
        bytes in 1500..12_000u64,
        calls in calls(false),
    ) {
        let mut model = Model::new(bytes);
        calls.iter().for_each(|call| model.call(call));
        model.finish();
    }

    #[test]
    fn whatever_is_damaged_meanwhile_every_batch_is_accounted_for(
        bytes in 1500..12_000u64,
        calls in calls(true),
    ) {
        let mut model = Model::new(bytes);
        calls.iter().for_each(|call| model.call(call));
        model.finish();
    }
}
