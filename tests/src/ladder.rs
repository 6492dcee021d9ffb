//! A tool whose hooks have ways that do not work.

use plugin_api::options;
use plugin_bpf::Running;
use plugin_bpf::prelude::*;

skeleton!(ladder);

table! {
    /// What the hooks saw.
    ladder {
        renames: counter "Threads renamed.",
        forks: counter "Threads made.",
        names: counter "Different keys for one name.",
        entered: counter "Calls of getppid, or of prctl.",
        returned: counter "Returns from it.",
        tasks: counter "Threads of the test, as the kernel's iterator has them.",
    }
}
plugin_api::exported!(ladder);

choice! {
    /// What is asked for.
    pub enum Asked {
        /// Hooks that each have a way that works.
        Working = "working",
        /// And an optional one that has none.
        Optional = "optional",
        /// And that one, needed.
        Needed = "needed",
        /// A set that cannot work, or one that can.
        Or = "or",
        /// Two hooks, of which one has a record without the field.
        Record = "record",
        /// A hook whose record's field is too short.
        Narrow = "narrow",
        /// A program that the verifier refuses.
        Wild = "wild",
        /// A function's entry and return.
        Call = "call",
        /// A system call's entry and return.
        Syscall = "syscall",
        /// A system call without the argument.
        Argument = "argument",
        /// The kernel's iterator of tasks.
        Tasks = "tasks",
        /// A hook of which the tool finds out that its best way never runs.
        Trial = "trial",
        /// The same of its last way.
        Idle = "idle",
        /// A program that no hook names.
        Forgotten = "forgotten",
        /// A hook that no program has.
        Unknown = "unknown",
    }
}

options! {
    /// Which hooks.
    pub struct Options {
        /// Which.
        asked: Asked = Asked::Working,
    }
}

/// The tool.
pub struct Ladder {
    asked: Asked,
    tasks: u64,
}

/// Its plugin.
pub type Plugin = Running<Ladder>;

impl Tool for Ladder {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        setup.consts.tester = std::process::id();
        Ok(Self { asked: options.asked, tasks: 0 })
    }

    fn hooks(&self) -> Hooks {
        let working = || [Hook::of("rename"), Hook::of("fork"), Hook::of("dirty")];
        let with = |hook| Hooks::all(working().into_iter().chain([hook])).without_others();
        match self.asked {
            Asked::Working => Hooks::all(working()).without_others(),
            Asked::Trial => Hooks::all([Hook::of("rename")]).without_others(),
            Asked::Idle => Hooks::all([Hook::of("rename").only("raw")]).without_others(),
            Asked::Optional => with(Hook::of("guess").optional()),
            Asked::Needed => with(Hook::of("guess")),
            Asked::Or => {
                Hooks::all([Hook::of("guess"), Hook::of("rename")]).or(working()).without_others()
            }
            Asked::Record => Hooks::all([Hook::of("fork"), Hook::of("rename")]).without_others(),
            Asked::Narrow => Hooks::all([Hook::of("narrow")]).without_others(),
            Asked::Wild => Hooks::all([Hook::of("wild")]).without_others(),
            Asked::Call => Hooks::all([Hook::of("call")]).without_others(),
            Asked::Syscall => {
                Hooks::all([Hook::of("prctl_exit"), Hook::of("prctl_enter")]).without_others()
            }
            Asked::Argument => Hooks::all([Hook::of("no_argument")]).without_others(),
            Asked::Tasks => Hooks::all([Hook::of("tasks")]).without_others(),
            Asked::Forgotten => Hooks::all(working())
                .without(&["guess_btf", "wild_raw", "call_kprobe_session", "call_kprobe"])
                .without(&["call_kretprobe", "tasks_iter"])
                .without(&["prctl_exit_tp", "prctl_enter_tp", "no_argument_tp"]),
            Asked::Unknown => Hooks::all([Hook::of("nothing")]),
        }
    }

    fn begin(&mut self, attached: &Attached, maps: &mut skel::Maps) -> Result<Trial> {
        let has = |name| attached.programs().iter().any(|program| program.name() == name);
        match self.asked {
            Asked::Trial if has("rename_btf") => Ok(Trial::Failed("rename_btf", "asleep".into())),
            Asked::Trial => {
                let named = std::thread::Builder::new().name("trial".into()).spawn(|| ());
                named?.join().map_err(|_| anyhow!("it panicked"))?;
                ensure!(maps.seen.take_now().renames == 1, "the trial was not seen");
                Ok(Trial::Passed)
            }
            Asked::Idle => Ok(Trial::Failed("rename_raw", "asleep".into())),
            _ => Ok(Trial::Passed),
        }
    }

    fn tend(&mut self, attached: &mut Attached) -> Result<()> {
        if self.asked == Asked::Tasks {
            self.tasks = attached.iterate("tasks_iter")?.len() as u64 / 4;
        }
        Ok(())
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let seen = maps.seen.take();
        let names = maps.names.take().len() as u64;
        lines.push(ladder::Row {
            renames: seen.renames,
            forks: seen.forks,
            names,
            entered: seen.entered,
            returned: seen.returned,
            tasks: self.tasks,
        })
    }
}
