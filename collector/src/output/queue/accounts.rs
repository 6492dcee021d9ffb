//! What became of every line: the books, and the gaps that are still to be told.

use super::gaps::Gaps;
use crate::batch::Batch;
use crate::output::books::{Books, Cause, Sent};
use crate::output::parcel::Fate;
use crate::output::spool::{Lost, Stretch};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The books of one output by plugin, and sums beside them.
#[derive(Debug)]
pub struct Accounts {
    plugins: BTreeMap<Arc<str>, Books>,
    /// Bytes that the other end took.
    pub bytes: u64,
    /// Attempts that failed.
    pub errors: u64,
    /// What each of several URLs got.
    pub urls: BTreeMap<Arc<str>, Sent>,
    /// What is missing.
    pub gaps: Gaps,
}

impl Accounts {
    /// Nothing has happened.
    pub fn new(gaps: Gaps) -> Self {
        Self { plugins: BTreeMap::new(), bytes: 0, errors: 0, urls: BTreeMap::new(), gaps }
    }

    /// An earlier run left these lines in the spool.
    pub fn recover(&mut self, Stretch { plugin, lines, .. }: &Stretch) {
        let books = self.books(plugin);
        books.recovered += lines;
        books.waiting += lines;
    }

    /// A batch has come to wait.
    pub fn produce(&mut self, batch: &Batch) {
        self.books(&batch.plugin).produce(batch.lines);
    }

    /// What went to a URL.
    pub fn sent(&mut self, url: Arc<str>, sent: Sent) {
        *self.urls.entry(url).or_default() += sent;
    }

    /// What became of a plugin's lines on their way.
    pub fn settle(&mut self, plugin: &Arc<str>, fate: &Fate) {
        self.bytes += fate.bytes;
        let books = self.books(plugin);
        books.deliver(fate.delivered);
        for cause in Cause::ALL {
            books.give_up(fate.dropped[cause], cause);
        }
    }

    /// Lines failed until there was no time left. No gap tells of them: nothing is sent any more.
    pub fn fail(&mut self, plugin: &Arc<str>, lines: u64) {
        self.books(plugin).give_up(lines, Cause::Error);
    }

    /// Lines that waited are lost.
    pub fn lose(&mut self, lost: Lost) {
        for (stretch, cause) in lost {
            self.books(&stretch.plugin).give_up(stretch.lines, cause);
            self.gaps.add(&stretch, cause);
        }
    }

    /// A batch that waited is lost.
    pub fn lose_batch(&mut self, batch: &Batch, cause: Cause) {
        self.lose(vec![(Stretch::of(&batch.plugin, &batch.tick, batch.lines), cause)]);
    }

    /// The books by plugin.
    pub fn plugins(&self) -> BTreeMap<Arc<str>, Books> {
        self.plugins.clone()
    }

    fn books(&mut self, plugin: &Arc<str>) -> &mut Books {
        self.plugins.entry(Arc::clone(plugin)).or_default()
    }
}
