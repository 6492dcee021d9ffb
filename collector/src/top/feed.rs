//! Where the numbers come from: one source, asked by a thread of its own, so that keys never wait for it.

use crate::capabilities::drop_all;
use crate::output::serve::Shared;
use crate::process::thread_name;
use anyhow::{Context as _, Result};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use form_urlencoded::Serializer;
use serde_json::Value as Json;
use std::thread;
use std::time::Duration;

/// Answers as `docs/http.md` has them.
pub trait Source: Send {
    /// Takes in what came since it was last asked.
    fn refresh(&mut self) {}

    /// The answer to `/api/tables`.
    ///
    /// # Errors
    /// Why there is none.
    fn tables(&mut self) -> Result<Json, String>;

    /// The answer to `/api/series?QUERY`.
    ///
    /// # Errors
    /// Why there is none.
    fn series(&mut self, query: &str) -> Result<Json, String>;

    /// Shows another time, where there is a choice.
    fn go(&mut self, _to: &Go) {}

    /// What is to be said about it all the time.
    fn note(&self) -> String {
        String::new()
    }
}

/// A store of this process.
impl Source for Shared {
    fn tables(&mut self) -> Result<Json, String> {
        Ok(Self::tables(self))
    }

    fn series(&mut self, query: &str) -> Result<Json, String> {
        Self::series(self, query)
    }
}

/// Which time to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Go {
    /// As somebody has written it.
    To(String),
    /// So many intervals further on, or back.
    Ticks(i64),
    /// So many seconds.
    Seconds(i64),
    /// The end, and what comes then.
    End,
}

/// Whose series are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The table.
    pub table: String,
    /// Of this plugin alone, in a table about plugins.
    pub about: Option<String>,
    /// The field or tag by which they are sorted.
    pub sort: Option<String>,
    /// The smallest first.
    pub least: bool,
}

impl Wish {
    fn query(&self) -> String {
        let mut query = Serializer::new(String::new());
        query.append_pair("table", &self.table);
        query.append_pair("limit", "100");
        query.append_pair("order", if self.least { "least" } else { "most" });
        // The past is not shown.
        query.append_pair("since", &i64::MAX.to_string());
        if let Some(sort) = &self.sort {
            query.append_pair("sort", sort);
        }
        if let Some(plugin) = &self.about {
            query.append_pair("tag", &format!("plugin={plugin}"));
        }
        query.finish()
    }
}

/// What is asked of the thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// These series from now on.
    Wish(Option<Wish>),
    /// Another time.
    Go(Go),
}

/// What there is at a moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// As of `/api/tables`.
    pub tables: Json,
    /// What was wished for, and the answer.
    pub wish: Option<Wish>,
    pub series: Option<Json>,
    /// What the source says about itself.
    pub note: String,
    /// Why something is missing.
    pub failed: Option<String>,
}

/// Starts the thread. It ends when nobody has the way to it any more.
///
/// # Errors
/// The kernel gives no thread.
pub fn start(
    mut source: Box<dyn Source>,
    every: Duration,
) -> Result<(Sender<Order>, Receiver<Snapshot>)> {
    let (orders, ordered) = unbounded();
    let (sender, snapshots) = unbounded();
    let run = move || {
        drop_all();
        let mut wish = None;
        loop {
            if sender.send(take(&mut *source, wish.as_ref())).is_err() {
                return;
            }
            let mut next = ordered.recv_timeout(every);
            while let Ok(order) = next {
                match order {
                    Order::Wish(new) => wish = new,
                    Order::Go(to) => source.go(&to),
                }
                next = ordered.try_recv().map_err(|_| RecvTimeoutError::Timeout);
            }
            if next == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    };
    thread::Builder::new().name(thread_name("feed")).spawn(run).context("a thread for numbers")?;
    Ok((orders, snapshots))
}

fn take(source: &mut dyn Source, wish: Option<&Wish>) -> Snapshot {
    source.refresh();
    let mut snapshot = Snapshot { wish: wish.cloned(), note: source.note(), ..Snapshot::default() };
    match source.tables() {
        Ok(tables) => snapshot.tables = tables,
        Err(why) => snapshot.failed = Some(why),
    }
    if let Some(wish) = wish.filter(|_| snapshot.failed.is_none()) {
        match source.series(&wish.query()) {
            Ok(series) => snapshot.series = Some(series),
            Err(why) => snapshot.failed = Some(why),
        }
    }
    snapshot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_a_query() {
        let wish = Wish {
            table: "a b".to_owned(),
            about: Some("x&y".to_owned()),
            sort: Some("n".to_owned()),
            least: true,
        };
        let expected =
            "table=a+b&limit=100&order=least&since=9223372036854775807&sort=n&tag=plugin%3Dx%26y";
        assert_eq!(wish.query(), expected);
    }

    #[test]
    fn the_thread_answers_each_wish_and_ends_with_whoever_asks() {
        let store = Shared::new();
        let (orders, snapshots) = start(Box::new(store), Duration::from_secs(60)).unwrap();
        let first = snapshots.recv().unwrap();
        assert!(first.failed.is_none() && first.tables["tables"].is_array());
        let wish = Wish { table: "t".to_owned(), about: None, sort: None, least: false };
        orders.send(Order::Wish(Some(wish.clone()))).unwrap();
        let second = snapshots.recv().unwrap();
        assert_eq!(second.wish, Some(wish));
        assert!(second.failed.unwrap().contains("there is no table \"t\""));
        drop(orders);
        assert!(snapshots.recv().is_err());
    }
}
