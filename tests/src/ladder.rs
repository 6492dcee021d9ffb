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
    }
}

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
}

/// Its plugin.
pub type Plugin = Running<Ladder>;

impl Tool for Ladder {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        setup.consts.tester = std::process::id();
        Ok(Self { asked: options.asked })
    }

    fn hooks(&self) -> Hooks {
        let working = || [Hook::of("rename"), Hook::of("fork"), Hook::of("dirty")];
        let guess = || Hook::of("guess");
        match self.asked {
            Asked::Working => Hooks::all(working()).without(&["guess_btf", "narrow_tp"]),
            Asked::Optional => Hooks::all(working().into_iter().chain([guess().optional()]))
                .without(&["narrow_tp"]),
            Asked::Needed => {
                Hooks::all(working().into_iter().chain([guess()])).without(&["narrow_tp"])
            }
            Asked::Or => {
                Hooks::all([guess(), Hook::of("rename")]).or(working()).without(&["narrow_tp"])
            }
            Asked::Record => Hooks::all([Hook::of("fork"), Hook::of("rename")]).without_others(),
            Asked::Narrow => Hooks::all([Hook::of("narrow")]).without_others(),
            Asked::Forgotten => Hooks::all(working()).without(&["guess_btf"]),
            Asked::Unknown => Hooks::all([Hook::of("nothing")]),
        }
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let seen = maps.seen.take();
        let names = maps.names.take().len() as u64;
        lines.push(ladder::Row { renames: seen.renames, forks: seen.forks, names })
    }
}
