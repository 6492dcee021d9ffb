//! Run-queue latency: how long runnable threads wait for a CPU, and the model of a histogram.
//!
//! Hooks: sched_wakeup, sched_wakeup_new, sched_switch and sched_process_free, by tp_btf, else raw_tp, else
//! tp (which needs no BTF of the kernel).

use plugin_bpf::prelude::*;
use plugin_bpf::tracepoint::Format;

plugin_bpf::skeleton!(runqlat: comm, waits);

table! {
    /// How long threads waited for a CPU: from the wakeup or the preemption until they ran.
    runqlat {
        /// The waits that ended since the last tick.
        latency: histogram(us),
        /// Threads that began to run, but nobody saw them begin to wait: they waited already when the
        /// collector started.
        unmatched: counter,
        /// Waits that found no room in the kernel's map of threads.
        dropped: counter,
    }
}

table! {
    /// The threads that waited longest in sum, by name; with `by = "comm"`.
    runqlat_comm {
        tags {
            /// The thread's name; `other` is the sum of those beyond the first 20.
            comm,
        }
        /// Waits.
        count: counter,
        /// Their sum.
        sum_us: counter(us),
    }
}

options! {
    /// What `[plugin.runqlat]` takes.
    pub struct Options {
        /// `comm` adds the table runqlat_comm.
        by: String = String::new(),
    }
}

/// Names that get a line of their own.
const TOP: usize = 20;

/// The tool.
pub struct Runqlat {
    halves: Halves,
    latency: Histogram,
    counts: Counters,
    comms: Option<Table<skel::types::comm, skel::types::waits>>,
    _skel: Loaded,
}

impl Plugin for Runqlat {
    type Options = Options;

    fn init(options: Options) -> Result<Self> {
        Self::start(&options, &ladder())
    }

    fn call(&mut self, _: &Tick, lines: &mut Lines) -> Result<()> {
        let idle = self.halves.flip()?;
        lines.push(runqlat::Row {
            latency: self.latency.take(&idle, 0),
            unmatched: self.counts.take(0),
            dropped: self.counts.take(1),
        })?;
        let Some(comms) = &mut self.comms else { return Ok(()) };
        let mut rows = Vec::new();
        let drained = comms.drain(&idle, |comm, waits| rows.push((comm, waits)));
        let (top, rest) = top(rows, TOP, |(_, waits)| waits.sum_ns);
        for (comm, waits) in top {
            lines.push(row(text(&comm.name), &[waits]))?;
        }
        let rest: Vec<_> = rest.into_iter().map(|(_, waits)| waits).collect();
        lines.push(row("other".into(), &rest))?;
        drained // what was drained before an error is gone from the map, and pushed
    }
}

/// Best first.
fn ladder() -> [Rung; 3] {
    [
        Rung::all(&["wakeup_btf", "wakeup_new_btf", "switch_btf", "free_btf"]),
        Rung::all(&["wakeup_raw", "wakeup_new_raw", "switch_raw", "free_raw"]),
        Rung::all(&["wakeup_tp", "wakeup_new_tp", "switch_tp", "free_tp"]),
    ]
}

impl Runqlat {
    fn start(options: &Options, rungs: &[Rung]) -> Result<Self> {
        let by_comm = match options.by.as_str() {
            "" => false,
            "comm" => true,
            other => bail!("by = {other:?}: threads are grouped by \"comm\" or (\"\") not at all"),
        };
        let threads = plugin_bpf::max_threads();
        let skel = Skeleton::open()
            .configure(move |open| {
                open.maps.waiting.set_max_entries(threads)?;
                if let Some(rodata) = &mut open.maps.rodata_data {
                    rodata.by_comm = by_comm;
                    if let Some(offsets) = offsets()? {
                        rodata.offsets = offsets;
                    }
                }
                Ok(())
            })
            .attach(rungs)?;
        Ok(Self {
            halves: Halves::of(&skel)?,
            latency: Histogram::of(&skel.maps.latency)?,
            counts: Counters::of(&skel.maps.counts)?,
            comms: by_comm.then(|| Table::of(&skel, &skel.maps.comms)).transpose()?,
            _skel: skel,
        })
    }
}

fn row(comm: String, waits: &[skel::types::waits]) -> runqlat_comm::Row {
    runqlat_comm::Row {
        comm: comm.into(),
        count: waits.iter().map(|w| w.count).sum(),
        sum_us: waits.iter().map(|w| w.sum_ns).sum::<u64>() / 1000,
    }
}

/// What the tp rung reads; `None` where there is no tracefs, and so no tp either.
fn offsets() -> Result<Option<skel::types::offsets>> {
    let sched = |name| Format::read("sched", name);
    let (Some(wakeup), Some(switch), Some(free)) =
        (sched("sched_wakeup"), sched("sched_switch"), sched("sched_process_free"))
    else {
        return Ok(None);
    };
    Ok(Some(skel::types::offsets {
        wakeup_pid: wakeup.offset("pid")?,
        prev_pid: switch.offset("prev_pid")?,
        prev_state: switch.offset("prev_state")?,
        next_pid: switch.offset("next_pid")?,
        next_comm: switch.offset("next_comm")?,
        free_pid: free.offset("pid")?,
    }))
}

export_plugin!(Runqlat: runqlat, runqlat_comm);

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_testing::Harness;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    /// Two threads that wake each other: `n` rounds are at least `n` waits.
    fn ping_pong(n: usize) {
        let (ping, pinged) = channel();
        let (pong, ponged) = channel();
        let other = std::thread::Builder::new().name("rq-pong".into()).spawn(move || {
            pinged.iter().for_each(|()| {
                let _ = pong.send(());
            });
        });
        for _ in 0..n {
            ping.send(()).expect("the other listens");
            ponged.recv().expect("the other answers");
        }
        drop(ping);
        other.expect("a thread").join().expect("no panic");
    }

    #[test]
    fn waits_are_counted_and_grouped_by_name() {
        let mut tool = Harness::<Runqlat>::init(r#"{"by":"comm"}"#).expect("it attaches");
        tool.call().expect("a tick");
        ping_pong(2_000);
        let lines = tool.call().expect("a tick");
        let line = lines.iter().find(|l| l.table == "runqlat").expect("a line");
        let (count, sum) = (line.u64("count"), line.u64("sum_us"));
        assert!(count >= 2_000, "{line:?}");
        assert!(line.u64("max_us") <= sum + 1 && line.get("p99_us").is_some());
        assert_eq!(line.u64("dropped"), 0);
        // Names and histogram are one cut: they add up.
        let comms: Vec<_> = lines.iter().filter(|l| l.table == "runqlat_comm").collect();
        assert_eq!(comms.iter().map(|l| l.u64("count")).sum::<u64>(), count);
        let pong = comms.iter().find(|l| l.tag("comm") == "rq-pong").expect("the busiest thread");
        assert!(pong.u64("count") >= 1_000);
    }

    #[test]
    fn every_rung_sees_the_waits() {
        let mut worked = 0;
        for rung in ladder() {
            let options = Options { by: "comm".into() };
            let mut tool = match Runqlat::start(&options, std::slice::from_ref(&rung)) {
                Ok(tool) => tool,
                Err(error) => {
                    println!("refused: {error:#}");
                    continue;
                }
            };
            worked += 1;
            ping_pong(1_000);
            std::thread::sleep(Duration::from_millis(20));
            let idle = tool.halves.flip().expect("a grace period");
            let count = tool.latency.take(&idle, 0).count();
            assert!(count >= 1_000, "{rung:?}: {count} waits");
            let mut pongs = 0;
            let comms = tool.comms.as_mut().expect("by comm");
            comms
                .drain(&idle, |comm, waits| {
                    if text(&comm.name) == "rq-pong" {
                        pongs += waits.count;
                    }
                })
                .expect("a drain");
            assert!(pongs >= 500, "{rung:?}: {pongs} waits of the other thread");
        }
        assert!(worked >= 2, "tp needs tracefs, raw_tp needs BTF: one is always there, mostly all");
    }

    #[test]
    fn a_wrong_option_says_what_is_right() {
        let error = Harness::<Runqlat>::init(r#"{"by":"pid"}"#).err().expect("refused");
        assert!(format!("{error:#}").contains("\"comm\""), "{error:#}");
    }
}
