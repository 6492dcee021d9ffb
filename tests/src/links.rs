//! A tool whose programs attach where a test says.

use plugin_bpf::prelude::*;
use std::sync::{Mutex, MutexGuard, PoisonError};

skeleton!(links);

table! {
    /// What its programs counted.
    links {
        /// Runs of the uprobe.
        calls: counter,
        /// Runs of the uretprobe.
        returns: counter,
        /// Sum of the returned numbers.
        returned: counter,
        /// Runs of the static probe's program.
        probes: counter,
        /// Sum of the numbers that the static probe passed.
        passed: counter,
        /// Connections in the cgroup.
        connects: counter,
        /// Keys that are wanted and not attached.
        missing: counter,
    }
}

table! {
    /// Samples of a CPU that had some.
    links_cpu {
        tags {
            /// The CPU.
            cpu,
        }
        /// How many.
        samples: counter,
    }
}
plugin_api::exported!(links, links_cpu);

options! {
    /// What a test observes.
    pub struct Options {
        /// `user`: functions and static probes; `perf`: every CPU; `nowhere`: the same without a target;
        /// `cgroup`: connections.
        what: String = String::new(),
        /// Folder of the cgroup.
        cgroup: String = String::new(),
    }
}

/// A key's programs and where they attach.
pub type Wanted = Vec<(u32, Vec<(&'static str, Target)>)>;

static WANTED: Mutex<Wanted> = Mutex::new(Vec::new());

/// What the tool of this process attaches at its next tick.
pub fn want(wanted: Wanted) {
    *now() = wanted;
}

fn now() -> MutexGuard<'static, Wanted> {
    WANTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tool.
pub struct LinksTool {
    options: Options,
    links: Links<u32>,
    missing: u64,
}

const LATE: [&str; 3] = ["called_uprobe", "called_uretprobe", "passed_usdt"];

impl Tool for LinksTool {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, _: &mut Setup<skel::Object>) -> Result<Self> {
        Ok(Self { options, links: Links::default(), missing: 0 })
    }

    fn hooks(&self) -> Hooks {
        let event = PerfEvent::cycles(Rate::Hertz(99)).or_cpu_clock();
        let sampled = Hook::of("sampled");
        match self.options.what.as_str() {
            "perf" => Hooks::all([sampled.target(Target::Perf(event))])
                .without(&LATE)
                .without(&["connected_cgroup"]),
            "nowhere" => Hooks::all([sampled]).without(&LATE).without(&["connected_cgroup"]),
            "cgroup" => {
                let cgroup = Target::Cgroup(self.options.cgroup.clone().into());
                Hooks::all([Hook::of("connected").target(cgroup)])
                    .without(&LATE)
                    .without(&["sampled_perf"])
            }
            _ => Hooks::all([]).later(&LATE).without(&["sampled_perf", "connected_cgroup"]),
        }
    }

    fn tend(&mut self, attached: &mut Attached) -> Result<()> {
        let changes = self.links.follow(attached, now().clone())?;
        self.missing = changes.missing as u64;
        Ok(())
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let counts = maps.counts.take();
        lines.push(links::Row {
            calls: counts.calls,
            returns: counts.returns,
            returned: counts.returned,
            probes: counts.probes,
            passed: counts.passed,
            connects: counts.connects,
            missing: self.missing,
        })?;
        for cpu in 0..1024 {
            let samples = maps.samples.take(cpu);
            if samples > 0 {
                lines.push(links_cpu::Row { cpu: cpu.to_string().into(), samples })?;
            }
        }
        Ok(())
    }
}
