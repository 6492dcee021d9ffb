//! Memory that a process or the kernel holds, by where it was allocated.
//!
//! Hooks of a process: the functions of its allocator, and mmap, mremap and munmap of its C library, by uprobe.session,
//! else by uprobe and uretprobe; sched_process_exec by raw_tp. Hooks of the kernel: kmalloc, kfree, kmem_cache_alloc,
//! kmem_cache_free, with `pages` mm_page_alloc and mm_page_free, by tp_btf, else raw_tp; kmem_cache_alloc also by tp.
//! Two subjects, and the search for a process's allocator (target.rs), make it longer than other tools.

mod target;

use plugin_bpf::symbols::{Folded, Limits, Owner, Stack, Symbols};
use plugin_bpf::{kernel_at_least, prelude::*};
use skel::types::{block, image, sums};
use std::cmp::Reverse;
use std::collections::HashMap;
use target::{Layout, Process};

skeleton!(memleak);

/// The oldest is looked for at each so many ticks: every block is looked at.
const LOOK: u64 = 6;
/// Stacks that are named, of those that hold most: for each line five, since several may get the same names.
const NAMED_FOR_EACH: usize = 5;
const NAMED: std::ops::RangeInclusive<usize> = 100..=5_000;
/// A call of an allocator that takes longer was left.
const LEFT_NS: u64 = 60_000_000_000;
/// Bytes of a page, where the kernel does not say it.
const PAGE: u64 = 4096;

table! {
    /// What is held, and what changed since the last tick. With `sample` all but `failed` is multiplied by it.
    memleak {
        tags { target "The process's name; `kernel`; or `none`, where the options name nothing to look at." }
        outstanding_bytes: gauge(bytes) "Bytes that were allocated since the tool started and are not freed.",
        outstanding: gauge "In so many blocks.",
        allocs: counter "Blocks that were allocated.",
        alloc_bytes: counter(bytes) "Bytes in these.",
        frees: counter "Of the blocks seen to be allocated: freed.",
        free_bytes: counter(bytes) "Bytes in these.",
        failed: counter "Calls that got no memory.",
        oldest_s: gauge(s) [optional] "Age of the oldest block that is held; at the first tick and each sixth behind it, since it takes a look at all.",
        running: flag "Whether the process runs; the tick after its end shows what it held then.",
    }
}
table! {
    /// The stacks that hold most.
    memleak_stack {
        tags { stack_hash "A hash of `folded`, the same on each host and after each start; `other` is the sum of those beyond the first `stacks`." }
        outstanding_bytes: gauge(bytes) "Bytes that it holds.",
        outstanding: gauge "In so many blocks.",
        oldest_s: gauge(s) [optional] "Age of the oldest of these, at the same ticks.",
        folded: text "The process's name and the functions, the outermost first, joined by `;`.",
    }
}
table! {
    /// What is in no line of the tables above, and what is in them under no stack. Not multiplied by `sample`.
    memleak_lost {
        dropped: counter "Blocks that are not tracked: no room for more than `allocations`.",
        dropped_calls: counter "Calls without room at their begin, whose blocks are not tracked.",
        unended: counter "Calls whose return was not seen, as after a longjmp; their blocks are not tracked.",
        untracked_frees: counter "Frees of blocks that are not tracked: allocated before the tool started, left out by `min_size` or `sample`, or dropped.",
        reused: counter "Blocks counted in `frees` when their address was allocated again, since nobody saw their free.",
        ended: counter "Blocks of a program that ended, or executed another one: held no more, and not in `frees`.",
        nested: counter "Calls within realloc, memalign and their kin, which are parts of those.",
        lost_stacks: counter "Blocks without a stack, since there was no room for another one or none could be taken; the name in `folded` has `[lost]` behind it.",
        cut_stacks: counter "Stacks of 127 functions or more: those beyond are cut off.",
        unresolved_stacks: counter "Stacks whose names did not come in time; their functions are `[unresolved]`.",
        truncated_stacks: counter "Stacks of more than 4 KiB.",
    }
}
options! {
    /// What `[plugin.memleak]` takes.
    pub struct Options {
        /// The process, by its id in the collector's namespace; 0: none.
        pid: u64 [0..=4_194_304] = 0,
        /// Looks at the kernel's own allocations in place of a process.
        kernel: bool = false,
        /// In front of the allocator's names: `je_` for je_malloc, `tc_` for tc_malloc.
        prefix: String = String::new(),
        /// The file that defines them, by its name or the beginning of it; empty: the program, else a library of its own, else the C library.
        library: String = String::new(),
        /// Also mappings that the process makes by itself: mmap, mremap, munmap.
        mappings: bool = true,
        /// Of the kernel also pages. Those of slabs are then counted twice.
        pages: bool = false,
        /// Tracks only blocks of at least so many bytes.
        min_size: Bytes = Bytes(0),
        /// Tracks one block in so many, chosen by chance where it is allocated.
        sample: u64 [1..=1_000_000] = 1,
        /// Tracks at most so many blocks at a time, each for about 100 bytes of kernel memory.
        allocations: u64 [1024..=16_777_216] = 65_536,
        /// Different stacks in the kernel's map, each for up to 1.2 KiB of kernel memory.
        max_stacks: u64 [16..=1_048_576] = 2048,
        /// Lines of memleak_stack at a tick, beside `other`.
        stacks: u64 [1..=5_000] = 20,
    }
}

/// The tool.
pub struct Memleak {
    options: Options,
    process: Option<Process>,
    owner: Option<Owner>,
    symbols: Option<Symbols>,
    /// By stack: what a program held when it ended.
    ended: HashMap<u64, (u64, u64)>,
    /// Sums of all stacks at the last tick, and allocations without a stack.
    before: (sums, u64),
    /// When the process last executed another program.
    executed: u64,
    /// The program knows all of the process's layout.
    is_told: bool,
    /// The name of the process, also when it has ended.
    target: String,
    /// There is something to look at.
    running: bool,
    ticks: u64,
}

impl Tool for Memleak {
    type Options = Options;
    type Object = skel::Object;

    /// For uprobes (ba677dbe77af "perf: Revert to requiring CAP_SYS_ADMIN for uprobes"), for the process's maps and
    /// files, and for the addresses in /proc/kallsyms.
    const OPTION_CAPABILITIES: &'static [(&'static str, &'static str)] =
        &[("pid", "CAP_SYS_ADMIN"), ("pid", "CAP_SYS_PTRACE"), ("kernel", "CAP_SYSLOG")];

    /// It reads the files of what the process runs.
    const ISOLATED: bool = true;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        let Options { ref prefix, ref library, mappings, .. } = options;
        ensure!(
            options.pid == 0 || !options.kernel,
            "`pid` and `kernel = true` exclude each other"
        );
        let process = match options.pid as u32 {
            0 => None,
            pid => Some(Process::find(pid, prefix, library, mappings)?),
        };
        if process.is_none() && !options.kernel {
            log::warn!("looks at nothing: set `pid` to a process, or `kernel = true`");
        }
        let consts = &mut setup.consts;
        (consts.kernel, consts.min_size) = (options.kernel, options.min_size.0);
        consts.chance = if options.sample > 1 { ((1u64 << 32) / options.sample) as u32 } else { 0 };
        consts.process = options.pid as u32;
        consts.layout = match () {
            () if kernel_at_least(6, 1) => 2,
            () if kernel_at_least(5, 19) => 1,
            () => 0,
        };
        // SAFETY: takes a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        consts.page_size = u64::try_from(page).unwrap_or(PAGE);
        setup.entries(skel::Map::blocks, options.allocations as u32);
        setup.entries(skel::Map::stacks, options.max_stacks as u32);
        setup.entries(skel::Map::sums, options.max_stacks as u32 + 1);
        if options.kernel {
            // Interrupts allocate too.
            setup.preallocate(skel::Map::blocks);
            setup.preallocate(skel::Map::stacks);
        }
        let running = process.is_some() || options.kernel;
        let target = match (&process, options.kernel) {
            (Some(process), _) => process.name.clone(),
            (None, true) => "kernel".to_owned(),
            (None, false) => "none".to_owned(),
        };
        Ok(Self {
            owner: process.as_ref().map(|process| Owner::now(process.pid)),
            symbols: running.then(|| symbols(&options, process.as_ref())).transpose()?,
            process,
            ended: HashMap::new(),
            before: Default::default(),
            executed: 0,
            is_told: false,
            target,
            running,
            ticks: 0,
            options,
        })
    }

    fn hooks(&self) -> Hooks {
        let Some(process) = &self.process else {
            let old = !kernel_at_least(6, 1);
            let wanted = self.options.kernel;
            let hook = |name| Hook::of(name).only_if(wanted);
            let page = |name| Hook::of(name).only_if(self.options.pages && wanted);
            let node = |name| Hook::of(name).only_if(old && wanted);
            let frees = [hook("kfree"), hook("slab_free"), page("page_free")];
            let allocs =
                [hook("kmalloc"), hook("slab"), node("knode"), node("slab_node"), page("page")];
            return Hooks::all(frees.into_iter().chain(allocs)).without_others();
        };
        let by = |kind| {
            let calls = process.functions.iter().map(move |(hook, targets)| {
                Hook::of(hook).only(kind).target(Target::Several(targets.clone()))
            });
            [Hook::of("executed")].into_iter().chain(calls)
        };
        Hooks::all(by("session")).or(by("uprobe")).without_others()
    }

    fn begin(&mut self, _: &Attached, maps: &mut skel::Maps) -> Result<Trial> {
        if let Some(sums) = &maps.sums {
            sums.update(&0, &sums::default(), plugin_bpf::maps::Update::Any)?;
        }
        self.tell_layout(maps)?;
        Ok(Trial::Passed)
    }

    fn rows(&mut self, tick: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let ends = self.process.as_ref().is_some_and(Process::has_ended);
        self.running &= !ends;
        self.follow_exec(maps)?;
        let counts = maps.counts.take();
        let mut ages = None;
        if self.ticks.is_multiple_of(LOOK) || ends {
            ages = Some(ages_of(maps)?);
        }
        self.ticks += 1;
        let mut stacks: Vec<(u64, sums)> = Vec::new();
        if let Some(sums) = &maps.sums {
            sums.for_each(|stack, sums| stacks.push((stack, sums)))?;
        }
        let lost = self.base(&stacks, ages.as_ref(), counts.failed, lines)?;
        if self.symbols.is_some() {
            self.top(tick, &stacks, ages.as_ref(), maps, lines)?;
        }
        if ends {
            self.process = None;
            let Self { target, options, .. } = self;
            log::info!("process {} ({target}) has ended: nothing is looked at", options.pid);
            self.forget(maps, u64::MAX)?;
        }
        let (blocks, calls, stacks) = (maps.blocks.lost(), maps.calls.lost(), maps.stacks.lost());
        let names = self.symbols.as_mut().map(Symbols::take_counts).unwrap_or_default();
        lines.push(memleak_lost::Row {
            dropped: blocks.events(),
            dropped_calls: calls.events(),
            unended: calls.twice + calls.died,
            untracked_frees: blocks.unmatched,
            reused: counts.reused,
            ended: blocks.died,
            nested: counts.nested,
            lost_stacks: lost,
            cut_stacks: stacks.truncated,
            unresolved_stacks: names.unresolved,
            truncated_stacks: names.truncated,
        })
    }
}

impl Memleak {
    /// Blocks and bytes that a stack holds, with those that were not chosen.
    fn held(&self, stack: u64, sums: &sums) -> (i64, i64) {
        let (ended, ended_bytes) = self.ended.get(&stack).copied().unwrap_or_default();
        let held = |allocs: u64, frees: u64| {
            // A program adds to one after the other: a free may be read whose allocation was not.
            i64::try_from(allocs.saturating_sub(frees).saturating_mul(self.options.sample))
                .unwrap_or(i64::MAX)
        };
        let bytes = held(sums.alloc_bytes, sums.free_bytes + ended_bytes);
        (held(sums.allocs, sums.frees + ended), bytes)
    }

    /// The line of all stacks together; gives how many blocks were allocated without a stack.
    fn base(
        &mut self,
        stacks: &[(u64, sums)],
        ages: Option<&Ages>,
        failed: u64,
        lines: &mut Lines,
    ) -> Result<u64> {
        let (mut now, mut unknown) = (sums::default(), 0);
        let (mut outstanding, mut outstanding_bytes) = (0, 0);
        for (stack, sums) in stacks {
            now.allocs += sums.allocs;
            now.frees += sums.frees;
            now.alloc_bytes += sums.alloc_bytes;
            now.free_bytes += sums.free_bytes;
            let (count, bytes) = self.held(*stack, sums);
            (outstanding, outstanding_bytes) =
                (outstanding + count, i64::saturating_add(outstanding_bytes, bytes));
            if *stack == 0 {
                unknown = sums.allocs;
            }
        }
        let (before, unknown_before) = std::mem::replace(&mut self.before, (now, unknown));
        let since = |now: u64, before: u64| now.saturating_sub(before) * self.options.sample;
        lines.push(memleak::Row {
            target: self.target.clone().into(),
            outstanding_bytes,
            outstanding,
            allocs: since(now.allocs, before.allocs),
            alloc_bytes: since(now.alloc_bytes, before.alloc_bytes),
            frees: since(now.frees, before.frees),
            free_bytes: since(now.free_bytes, before.free_bytes),
            failed,
            oldest_s: ages.and_then(|ages| ages.values().max().copied()),
            running: self.running,
        })?;
        Ok(unknown - unknown_before)
    }

    /// The lines of the stacks that hold most. Those whose names are the same are one.
    fn top(
        &mut self,
        tick: &Tick,
        stacks: &[(u64, sums)],
        ages: Option<&Ages>,
        maps: &skel::Maps,
        lines: &mut Lines,
    ) -> Result<()> {
        let age = |stack| ages.and_then(|ages| ages.get(&stack).copied());
        let mut held: Vec<(u64, Held)> = Vec::new();
        let mut other = Held::default();
        for (stack, sums) in stacks {
            let (count, bytes) = self.held(*stack, sums);
            let row = Held { bytes, count, oldest_s: age(*stack).filter(|_| count > 0) };
            other.add(row);
            held.push((*stack, row));
        }
        held.retain(|(_, held)| held.count > 0);
        held.sort_unstable_by_key(|(stack, held)| (Reverse((held.bytes, held.count)), *stack));
        let top = self.options.stacks as usize;
        held.truncate((top * NAMED_FOR_EACH).clamp(*NAMED.start(), *NAMED.end()));
        let frames =
            held.iter().map(|(stack, _)| Ok(maps.stacks.frames(*stack)?.unwrap_or_default()));
        let frames: Vec<Box<[u64]>> = frames.collect::<Result<_>>()?;
        let name = if self.owner.is_some() { &self.target } else { "" };
        let lost = format!("{name} [lost]");
        let asked: Vec<Stack<'_>> = held
            .iter()
            .zip(&frames)
            .map(|((stack, _), frames)| {
                let root = if *stack == 0 { lost.trim_start() } else { name };
                match self.owner {
                    Some(_) => Stack { owner: self.owner, root, user: frames, kernel: &[] },
                    None => Stack { owner: None, root, user: &[], kernel: frames },
                }
            })
            .collect();
        let Some(symbols) = &mut self.symbols else { return Ok(()) };
        let patience = Duration::from_nanos(tick.elapsed_ns / 10).min(patience(&self.options));
        let mut rows: HashMap<u64, (Folded, Held)> = HashMap::new();
        for (folded, (_, held)) in symbols.resolve(&asked, patience).into_iter().zip(&held) {
            rows.entry(folded.hash).or_insert((folded, Held::default())).1.add(*held);
        }
        let mut rows: Vec<_> = rows.into_values().collect();
        rows.sort_unstable_by(|(a, held_a), (b, held_b)| {
            let by_size = (held_b.bytes, held_b.count).cmp(&(held_a.bytes, held_a.count));
            by_size.then_with(|| a.text.cmp(&b.text))
        });
        rows.truncate(top);
        for (Folded { text, hash, .. }, held) in rows {
            (other.bytes, other.count) = (other.bytes - held.bytes, other.count - held.count);
            let (stack_hash, folded) = (format!("{hash:016x}").into(), text.to_string().into());
            lines.push(held.row(stack_hash, folded))?;
        }
        lines.push(Held { oldest_s: None, ..other }.row("other".into(), "other".into()))
    }

    /// Forgets what a program held in whose place the process executes another one since.
    fn follow_exec(&mut self, maps: &mut skel::Maps) -> Result<()> {
        let image = maps.images.as_ref().map_or(Ok(None), |images| images.lookup(0))?;
        let executed = image.map_or(0, |image| image.executed);
        if executed == self.executed {
            return if self.is_told { Ok(()) } else { self.tell_layout(maps) };
        }
        self.executed = executed;
        self.owner = self.owner.map(|_| Owner::now(self.options.pid as u32).executed(executed));
        self.forget(maps, executed)?;
        self.tell_layout(maps)?;
        log::info!("process {} executes another program", self.options.pid);
        Ok(())
    }

    /// Removes blocks from before a time: nobody will free them.
    fn forget(&mut self, maps: &mut skel::Maps, before: u64) -> Result<()> {
        let ended = &mut self.ended;
        let removed = |block: block| {
            let sums = ended.entry(block.stack).or_default();
            *sums = (sums.0 + 1, sums.1 + block.size);
        };
        maps.blocks.remove(|_, block| block.since >= before, removed)
    }

    /// Tells the program what it has to know of the process's memory.
    fn tell_layout(&mut self, maps: &skel::Maps) -> Result<()> {
        let (Some(images), Some(process)) = (&maps.images, &self.process) else { return Ok(()) };
        let Layout { allocator, libc, trampoline } = process.layout();
        self.is_told = trampoline > 0;
        let image = image {
            executed: self.executed,
            allocator: allocator.start,
            allocator_len: allocator.end - allocator.start,
            libc: libc.start,
            libc_len: libc.end - libc.start,
            trampoline,
        };
        images.update(0, &image)
    }
}

/// What a stack holds.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    bytes: i64,
    count: i64,
    oldest_s: Option<i64>,
}

impl Held {
    fn add(&mut self, of: Self) {
        self.bytes += of.bytes;
        self.count += of.count;
        self.oldest_s = self.oldest_s.max(of.oldest_s);
    }

    fn row(self, stack_hash: Text, folded: Text) -> memleak_stack::Row {
        let Self { bytes: outstanding_bytes, count: outstanding, oldest_s } = self;
        memleak_stack::Row { stack_hash, outstanding_bytes, outstanding, oldest_s, folded }
    }
}

/// The thread that looks up names knows the process's maps from the begin, also when it ends before a tick.
fn symbols(options: &Options, process: Option<&Process>) -> Result<Symbols> {
    let limits = Limits { time: patience(options) * 3 / 5, ..Limits::default() };
    let mut symbols = Symbols::new(limits)?;
    match process {
        Some(process) => {
            let mut one = Some((process.pid, process.address()));
            symbols.watch(move || one.take());
        }
        None => symbols.prepare_kernel(),
    }
    Ok(symbols)
}

/// How long a tick waits for names; what comes later is there at the next one.
fn patience(options: &Options) -> Duration {
    Duration::from_millis(if options.stacks > 100 { 2_000 } else { 500 })
}

/// Seconds since the oldest block, by stack.
type Ages = HashMap<u64, i64>;

/// Looks at all blocks, and at calls that will not return.
fn ages_of(maps: &mut skel::Maps) -> Result<Ages> {
    let now = now_ns();
    let mut ages = Ages::new();
    maps.blocks.retain(|_, block| {
        let age = (now.saturating_sub(block.since) / 1_000_000_000).cast_signed();
        let oldest = ages.entry(block.stack).or_insert(age);
        *oldest = age.max(*oldest);
        true
    })?;
    maps.calls.retain(|_, call| now.saturating_sub(call.since) < LEFT_NS)?;
    Ok(ages)
}

/// The time of bpf_ktime_get_ns().
fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a struct of ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

export_tool!(Memleak: memleak, memleak_stack, memleak_lost);
