//! CPU time by sampling: who runs, and in which functions.
//!
//! Hooks: a perf event on each CPU, by the cycle counter, else the kernel's clock; and sched_process_exec, by
//! tp_btf, else raw_tp, else tp. Four tables and the names of stacks make it longer than other tools.

use plugin_bpf::group::Cgroups;
use plugin_bpf::prelude::*;
use plugin_bpf::symbols::{Folded, Limits, Owner, Stack, Symbols};
use skel::types::{sampled, sum};
use std::cmp::Reverse;
use std::collections::HashMap;

skeleton!(profile);
by!(By: Comm, Cgroup);

/// Stacks that are named, of those with most samples: more than are shown, since several may get the same names.
const NAMED_FOR_EACH: usize = 5;
const NAMED: std::ops::RangeInclusive<usize> = 1_000..=5_000;
/// Room for this many seconds of samples in the kernel: where maps take memory as they fill, and elsewhere.
const SECONDS: [u64; 2] = [40, 10];
const MOST: [u64; 2] = [65_536, 8_192];

table! {
    /// Samples of all CPUs.
    profile {
        samples: counter "All of them: those of the next three, and `dropped` of profile_lost.",
        user: counter "In a process's own code.",
        kernel: counter "In the kernel.",
        idle: counter "While the CPU was idle. The cycle counter stands still then and takes none.",
    }
}
table! {
    /// The programs with most samples, by the threads' names; with `by = "comm"`.
    profile_comm {
        tags { comm "The thread's name; `other` is the sum of those beyond the first 20." }
        samples: counter "Its samples.",
        kernel: counter "Of these: in the kernel.",
        share_percent: float "Of all samples that are not idle.",
    }
}
table! {
    /// The cgroups with most samples; with `by = "cgroup"`.
    profile_cgroup {
        tags { cgroup "Its path in cgroup2; `other` is the sum of those beyond the first 20." }
        samples: counter "Its samples.",
        kernel: counter "Of these: in the kernel.",
        share_percent: float "Of all samples that are not idle.",
    }
}
table! {
    /// The stacks with most samples.
    profile_stack {
        tags { stack_hash "A hash of `folded`, the same on each host and after each start; `other` is the sum of those beyond the first `stacks`." }
        samples: counter "Samples with this stack.",
        folded: text "The thread's name and the functions, the outermost first, joined by `;`.",
    }
}
table! {
    /// What is in no line of the tables above, or not as it should be.
    profile_lost {
        dropped: counter "Samples in no other line: no room in the kernel's map.",
        lost_stacks: counter "Stacks that found no room in the kernel's map; the thread's name has `[lost]` behind it.",
        cut_stacks: counter "Stacks of 127 functions or more: those beyond are cut off.",
        unresolved_stacks: counter "Stacks whose names did not come in time; their functions are `[unresolved]`.",
        truncated_stacks: counter "Stacks of more than 4 KiB.",
        frames: counter "Functions of the named stacks.",
        unnamed_frames: counter "Of these: by file and address alone, because the file has no symbol there.",
        unknown_frames: counter "Of these: `[unknown]`, because the process is gone or may not be looked into, or no file has the code.",
    }
}
plugin_api::choice! {
    /// What interrupts a CPU.
    pub enum Clock {
        /// The cycle counter where every CPU has one, else the clock.
        Best = "",
        /// The cycle counter.
        Cycles = "cycles",
        /// The kernel's clock.
        CpuClock = "cpu-clock",
    }
}
options! {
    /// What `[plugin.profile]` takes.
    pub struct Options {
        /// Samples per second and CPU. Odd numbers do not run in step with other timers.
        frequency: u64 [1..=10_000] = 49,
        /// `cycles` or `cpu-clock`; empty: the cycle counter where every CPU has one, else the kernel's clock.
        clock: Clock = Clock::Best,
        /// `comm` fills the table profile_comm, `cgroup` profile_cgroup.
        by: By = By::Comm,
        /// Lines of profile_stack at a tick, beside `other`; 0: no stacks.
        stacks: u64 [..=5_000] = 20,
        /// Whether a stack has the process's functions.
        user: bool = true,
        /// Whether a stack has the kernel's functions.
        kernel: bool = true,
        /// Whether stacks of idle CPUs are shown too.
        idle: bool = false,
        /// Different stacks between two ticks, in the kernel's map; 0: as many as there may be samples in 40 s,
        /// from 1024 to 65536, and before Linux 6.1 in 10 s, up to 8192.
        max_stacks: u64 [..=1_048_576] = 0,
        /// Only these processes, at most 16, by their ids in the initial namespace; empty: all.
        pid: Vec<u64> [1..=4_194_304] = Vec::new(),
        /// Only threads with these names, at most 8; empty: all.
        comm: Vec<String> = Vec::new(),
        /// Only this cgroup and those below it, such as `/system.slice`; empty: all.
        cgroup: String = String::new(),
    }
}

/// The tool.
pub struct Profile {
    options: Options,
    symbols: Symbols,
    names: Groups<sum>,
    cgroups: Option<Cgroups>,
}

impl Tool for Profile {
    type Options = Options;
    type Object = skel::Object;

    /// To look into maps and files of all processes, and for the addresses of the kernel's functions.
    const CAPABILITIES: &'static [&'static str] = &["CAP_SYS_PTRACE", "CAP_SYSLOG"];

    /// It reads the files of whatever runs.
    const ISOLATED: bool = true;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        setup.filter(&Filter::of(&options.pid, &options.comm, &options.cgroup)?);
        let by_cgroup = options.by == By::Cgroup;
        setup.consts.by_cgroup = by_cgroup;
        setup.consts.user_stacks = options.user && options.stacks > 0;
        setup.consts.kernel_stacks = options.kernel && options.stacks > 0;
        setup.consts.idle_stacks = options.idle;
        let rate = options.frequency.saturating_mul(possible_cpus() as u64);
        let [growing, fixed] = [0, 1].map(|i| match options.max_stacks {
            0 => rate.saturating_mul(SECONDS[i]).clamp(1_024, MOST[i]) as u32,
            most => most.max(64) as u32,
        });
        for map in [skel::Map::samples, skel::Map::stacks] {
            setup.entries(map, fixed);
            setup.grow(map, growing);
        }
        setup.grow(skel::Map::execs, 1_024);
        let has_stacks = setup.consts.user_stacks || setup.consts.kernel_stacks;
        setup.only_if(has_stacks, skel::Map::stacks);
        setup.only_if(setup.consts.user_stacks, skel::Map::sightings);
        let limits = Limits { time: patience(&options) * 3 / 5, ..Limits::default() };
        let mut symbols = Symbols::new(limits)?;
        if setup.consts.kernel_stacks {
            symbols.prepare_kernel();
        }
        let cgroups = by_cgroup.then(Cgroups::find).transpose()?;
        Ok(Self { options, symbols, names: Groups::default(), cgroups })
    }

    fn hooks(&self) -> Hooks {
        let rate = Rate::Hertz(self.options.frequency);
        let event = match self.options.clock {
            Clock::Best => PerfEvent::cycles(rate).or_cpu_clock(),
            Clock::Cycles => PerfEvent::cycles(rate),
            Clock::CpuClock => PerfEvent::cpu_clock(rate),
        };
        Hooks::all([Hook::of("sample").target(Target::Perf(event)), Hook::of("exec").optional()])
    }

    fn begin(&mut self, _: &Attached, maps: &mut skel::Maps) -> Result<Trial> {
        if let Some(sightings) = maps.sightings.take() {
            self.symbols.watch(move || {
                let seen = sightings.pop().ok()??;
                Some((seen.tgid, seen.address))
            });
        }
        Ok(Trial::Passed)
    }

    fn rows(&mut self, tick: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let dropped = maps.samples.lost().events();
        let (idle, mut rows): (Vec<_>, Vec<_>) =
            maps.samples.take().into_iter().partition(|(who, _)| who.tgid == 0);
        let total = |rows: &[(sampled, sum)]| -> (u64, u64) {
            let each = rows.iter().map(|(_, sum)| (sum.samples, sum.kernel));
            each.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
        };
        let ((all, kernel), (idles, _)) = (total(&rows), total(&idle));
        let (samples, user) = (all + idles + dropped, all - kernel);
        lines.push(profile::Row { samples, user, kernel, idle: idles })?;
        self.push_names(&rows, all, lines)?;
        if self.options.idle {
            rows.extend(idle);
        }
        if self.options.stacks > 0 {
            self.push_stacks(tick, rows, maps, lines)?;
        }
        let (lost, counts) = (maps.stacks.lost(), self.symbols.take_counts());
        lines.push(profile_lost::Row {
            dropped,
            lost_stacks: lost.full + lost.busy,
            cut_stacks: lost.truncated,
            unresolved_stacks: counts.unresolved,
            truncated_stacks: counts.truncated,
            frames: counts.frames,
            unnamed_frames: counts.unnamed,
            unknown_frames: counts.unknown,
        })
    }
}

impl Profile {
    /// The rows of `by`.
    fn push_names(&mut self, rows: &[(sampled, sum)], all: u64, lines: &mut Lines) -> Result<()> {
        let Self { options, names, cgroups, .. } = self;
        if options.by == By::Nothing {
            return Ok(());
        }
        cgroups.iter_mut().for_each(Cgroups::refresh);
        let named = rows.iter().map(|(who, sum)| match cgroups {
            Some(cgroups) => (cgroups.text(who.cgroup), *sum),
            None => (text(&who.comm.name), *sum),
        });
        for (name, sum { samples, kernel, .. }) in names.rows(named, |sum| sum.samples) {
            let share_percent = 100.0 * samples as f64 / all.max(1) as f64;
            if options.by == By::Cgroup {
                lines.push(profile_cgroup::Row { cgroup: name, samples, kernel, share_percent })?;
            } else {
                lines.push(profile_comm::Row { comm: name, samples, kernel, share_percent })?;
            }
        }
        Ok(())
    }

    /// The stacks with most samples. Those whose names are the same are one.
    fn push_stacks(
        &mut self,
        tick: &Tick,
        mut rows: Vec<(sampled, sum)>,
        maps: &mut skel::Maps,
        lines: &mut Lines,
    ) -> Result<()> {
        let all: u64 = rows.iter().map(|(_, sum)| sum.samples).sum();
        let top = self.options.stacks as usize;
        rows.sort_unstable_by_key(|(who, sum)| {
            (Reverse(sum.samples), who.comm.name, who.tgid, who.user, who.kernel)
        });
        rows.truncate((top * NAMED_FOR_EACH).clamp(*NAMED.start(), *NAMED.end()));
        let execs: HashMap<u32, u64> = maps.execs.take().into_iter().collect();
        let roots: Vec<_> = rows.iter().map(|(who, sum)| self.root(who, sum)).collect();
        let stacks = rows.iter().zip(&roots).map(|((who, sum), root)| {
            let owner = Owner::at(who.tgid, sum.since);
            let exec = execs.get(&who.tgid);
            let owner = exec.map_or(owner, |exec| owner.executed(*exec));
            let frames = |id| maps.stacks.frames(id).unwrap_or_default();
            let (user, kernel) = (frames(who.user), frames(who.kernel));
            Stack { owner: (!user.is_empty()).then_some(owner), root, user, kernel }
        });
        let patience = Duration::from_nanos(tick.elapsed_ns / 5).min(patience(&self.options));
        let named = self.symbols.resolve(&stacks.collect::<Vec<_>>(), patience);
        let mut sums: HashMap<u64, (Folded, u64)> = HashMap::new();
        for (folded, (_, sum)) in named.into_iter().zip(&rows) {
            sums.entry(folded.hash).or_insert((folded, 0)).1 += sum.samples;
        }
        let mut sums: Vec<_> = sums.into_values().collect();
        sums.sort_unstable_by(|a, b| (Reverse(a.1), &a.0.text).cmp(&(Reverse(b.1), &b.0.text)));
        sums.truncate(top);
        let other = all - sums.iter().map(|(_, samples)| samples).sum::<u64>();
        for (Folded { text, hash, .. }, samples) in sums {
            let (stack_hash, folded) = (format!("{hash:016x}").into(), text.to_string().into());
            lines.push(profile_stack::Row { stack_hash, samples, folded })?;
        }
        let (stack_hash, folded) = ("other".into(), "other".into());
        lines.push(profile_stack::Row { stack_hash, samples: other, folded })
    }

    /// The outermost frame: the thread's name, and `[lost]` where a part of its stack was lost.
    fn root(&self, who: &sampled, sum: &sum) -> String {
        let name = text(&who.comm.name);
        let user = self.options.user && sum.kernel < sum.samples && who.user == 0;
        let kernel = self.options.kernel && sum.kernel > 0 && who.kernel == 0;
        let is_idle = who.tgid == 0;
        if kernel || user && !is_idle { format!("{name} [lost]") } else { name }
    }
}

/// How long a tick waits for names, and no more than a fifth of the interval: the thread is this tool's own.
fn patience(options: &Options) -> Duration {
    Duration::from_millis(if options.stacks > 100 { 2_000 } else { 500 })
}

export_tool!(Profile: profile, profile_comm, profile_cgroup, profile_stack, profile_lost);
