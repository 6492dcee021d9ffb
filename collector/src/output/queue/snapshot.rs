//! What is known of an output at one moment.

use super::Queue;
use crate::output::books::{Books, Sent};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All that is known at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// By plugin.
    pub plugins: BTreeMap<Arc<str>, Books>,
    /// Bytes that the other end took.
    pub bytes: u64,
    /// Attempts that failed.
    pub errors: u64,
    /// Bytes of the spool's files.
    pub spool_bytes: u64,
    /// What each of several URLs got.
    pub urls: BTreeMap<Arc<str>, Sent>,
    /// Why it does not deliver, or does not spool.
    pub trouble: Option<String>,
}

impl Snapshot {
    /// What one of several URLs got.
    #[must_use]
    pub fn sent_to(&self, url: &str) -> Sent {
        self.urls.get(url).copied().unwrap_or_default()
    }

    /// Adds what is known of another output of the same name.
    pub fn add(&mut self, other: &Self) {
        for (plugin, books) in &other.plugins {
            *self.plugins.entry(Arc::clone(plugin)).or_default() += *books;
        }
        for (url, sent) in &other.urls {
            *self.urls.entry(Arc::clone(url)).or_default() += *sent;
        }
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.spool_bytes = self.spool_bytes.max(other.spool_bytes);
        self.trouble = self.trouble.take().or_else(|| other.trouble.clone());
    }

    /// All plugins together.
    #[must_use]
    pub fn total(&self) -> Books {
        self.plugins.values().fold(Books::default(), |mut sum, books| {
            sum += *books;
            sum
        })
    }
}

impl Queue {
    /// What is known.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        let trouble = match (state.attempts.why(), &state.spooled.trouble) {
            (Some(output), Some(spool)) => Some(format!("{output}; {spool}")),
            (output, spool) => output.map(str::to_owned).or_else(|| spool.clone()),
        };
        Snapshot {
            plugins: state.accounts.plugins(),
            urls: state.accounts.urls.clone(),
            bytes: state.accounts.bytes,
            errors: state.accounts.errors,
            spool_bytes: state.spooled.bytes,
            trouble,
        }
    }
}
