//! A tool: what it observes and how a cut becomes rows. All else is done here.

use crate::attach::{Attached, Hooks, Trial, attach};
use crate::exact::banks::Banks;
use crate::exact::cut::{Cut, Flip};
use crate::exact::losses::Losses;
use crate::exact::{CutKind, Idle, Piece};
use crate::map_report::MapReport;
use crate::object::{
    Code, Lent, Loaded, Maps, Object, PieceDef, ProgramDef, Settings, Setup, rodata,
};
use plugin_api::{Context as _, Lines, Options, Plugin, Result, Tick, anyhow, bail};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// A tool. [`crate::export_tool!`] makes a plugin of it.
pub trait Tool: Sized + Send + 'static {
    /// Its section `[plugin.NAME]`, declared with `options!`; `NoOptions` when there is none.
    type Options: Options;
    /// Its program: `skel::Object`, or a pair of two skeletons' objects, which share one cut.
    type Object: ObjectSet;

    /// What it needs beside `CAP_BPF` and `CAP_PERFMON`: see [`Plugin::CAPABILITIES`].
    const CAPABILITIES: &'static [&'static str] = &[];

    /// What an option needs: see [`Plugin::OPTION_CAPABILITIES`].
    const OPTION_CAPABILITIES: &'static [(&'static str, &'static str)] = &[];

    /// Whether it runs in a process of its own where the configuration does not say: see [`Plugin::ISOLATED`].
    const ISOLATED: bool = false;

    /// Makes the tool's own state, and sets constants and sizes of the program before it is loaded.
    ///
    /// # Errors
    /// The options do not go together; says which, and what to do.
    fn new(options: Self::Options, setup: &mut <Self::Object as ObjectSet>::Setup) -> Result<Self>;

    /// What it observes. Without it, each name in front of a known kind is a hook (see [`crate::Hook`]).
    fn hooks(&self) -> Hooks {
        Hooks::by_name(&<Self::Object as ObjectSet>::programs())
    }

    /// Fills maps, and tries out what is attached, once before the first tick. Where a program turns out not to
    /// work, its hook falls to its next way, and this is called again.
    ///
    /// # Errors
    /// The tool cannot start; says why.
    fn begin(
        &mut self,
        _attached: &Attached,
        _maps: &mut <Self::Object as ObjectSet>::Maps,
    ) -> Result<Trial> {
        Ok(Trial::Passed)
    }

    /// Looks after links that come and go ([`crate::Links`]), at every tick before the cut.
    ///
    /// # Errors
    /// Becomes the error of the tick, whose rows are made all the same.
    fn tend(&mut self, _attached: &mut Attached) -> Result<()> {
        Ok(())
    }

    /// Makes rows of what happened since the tick before. All of `maps` is of one cut.
    ///
    /// # Errors
    /// What was pushed before it is kept and sent.
    fn rows(
        &mut self,
        tick: &Tick,
        maps: &mut <Self::Object as ObjectSet>::Maps,
        lines: &mut Lines,
    ) -> Result<()>;
}

/// One object, or a pair.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no BPF program",
    label = "write `type Object = skel::Object;`, which `skeleton!(NAME)` brings in"
)]
pub trait ObjectSet: 'static {
    /// Its maps.
    type Maps: Send + 'static;
    /// Its settings.
    type Setup;
    #[doc(hidden)]
    fn codes() -> Vec<&'static Code>;
    #[doc(hidden)]
    fn setup(rodata: Vec<Vec<u8>>) -> Self::Setup;
    #[doc(hidden)]
    fn settings(setup: Self::Setup) -> Vec<Settings>;
    #[doc(hidden)]
    fn maps(loaded: &[Loaded]) -> Result<Self::Maps>;
    #[doc(hidden)]
    fn pieces(maps: &mut Self::Maps) -> Vec<Vec<(&'static PieceDef, &mut dyn Piece)>>;

    /// All programs.
    #[doc(hidden)]
    fn programs() -> Vec<&'static ProgramDef> {
        Self::codes().into_iter().flat_map(|code| code.programs.iter()).collect()
    }
}

impl<O: Object> ObjectSet for O {
    type Maps = O::Maps;
    type Setup = Setup<O>;
    fn codes() -> Vec<&'static Code> {
        vec![O::CODE]
    }
    fn setup(mut rodata: Vec<Vec<u8>>) -> Setup<O> {
        Setup::new(rodata.remove(0))
    }
    fn settings(setup: Setup<O>) -> Vec<Settings> {
        vec![setup.finish()]
    }
    fn maps(loaded: &[Loaded]) -> Result<O::Maps> {
        O::Maps::of(&Lent(&loaded[0]))
    }
    fn pieces(maps: &mut O::Maps) -> Vec<Vec<(&'static PieceDef, &mut dyn Piece)>> {
        vec![maps.pieces()]
    }
}

impl<A: Object, B: Object> ObjectSet for (A, B) {
    type Maps = (A::Maps, B::Maps);
    type Setup = (Setup<A>, Setup<B>);
    fn codes() -> Vec<&'static Code> {
        vec![A::CODE, B::CODE]
    }
    fn setup(mut rodata: Vec<Vec<u8>>) -> Self::Setup {
        let second = rodata.remove(1);
        (Setup::new(rodata.remove(0)), Setup::new(second))
    }
    fn settings((a, b): Self::Setup) -> Vec<Settings> {
        vec![a.finish(), b.finish()]
    }
    fn maps(loaded: &[Loaded]) -> Result<Self::Maps> {
        Ok((A::Maps::of(&Lent(&loaded[0]))?, B::Maps::of(&Lent(&loaded[1]))?))
    }
    fn pieces((a, b): &mut Self::Maps) -> Vec<Vec<(&'static PieceDef, &mut dyn Piece)>> {
        vec![a.pieces(), b.pieces()]
    }
}

/// A running tool: what [`crate::export_tool!`] exports.
pub struct Running<T: Tool> {
    tool: T,
    maps: <T::Object as ObjectSet>::Maps,
    cut: Option<Cut>,
    losses: Vec<Option<Losses>>,
    report: MapReport,
    attached: Attached,
}

impl<T: Tool> Plugin for Running<T> {
    type Options = T::Options;

    const CAPABILITIES: &'static [&'static str] = T::CAPABILITIES;
    const OPTION_CAPABILITIES: &'static [(&'static str, &'static str)] = T::OPTION_CAPABILITIES;
    const ISOLATED: bool = T::ISOLATED;

    fn init(options: T::Options) -> Result<Self> {
        Self::start(options)
    }

    fn call(&mut self, tick: &Tick, lines: &mut Lines) -> Result<()> {
        self.attached.refresh();
        let tended = self.tool.tend(&mut self.attached);
        let read = match self.flip() {
            Ok(idle) => self.read(idle, tick, lines),
            // Nothing was read, not even what was lost: the next tick covers this one too.
            Err(error) => Err(error),
        };
        let programs = self.attached.report(lines);
        read.and(tended).and(programs)
    }
}

thread_local! {
    static WAITED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// How long the last tick of this thread turned the half over and waited, for benchmarks.
#[doc(hidden)]
pub fn last_wait() -> Duration {
    WAITED.get()
}

/// Makes a tool, and the settings of its objects.
pub(crate) fn open<T: Tool>(options: T::Options) -> Result<(T, Vec<Settings>)> {
    let constants = T::Object::codes().into_iter().map(rodata);
    let constants: Result<Vec<_>, _> = constants.collect();
    let mut setup = T::Object::setup(constants.map_err(|failure| anyhow!("{failure}"))?);
    let tool = T::new(options, &mut setup)?;
    Ok((tool, T::Object::settings(setup)))
}

impl<T: Tool> Running<T> {
    /// Loads and attaches a tool.
    ///
    /// # Errors
    /// Its options are wrong, or no way to attach works; says each and why.
    fn start(options: T::Options) -> Result<Self> {
        let codes = T::Object::codes();
        let (mut tool, settings) = open::<T>(options)?;
        let kind = settings.iter().find_map(|settings| settings.cut);
        let kind = kind.unwrap_or_else(CutKind::of_this_kernel);
        let (hooks, mut maps) = (tool.hooks(), None);
        let attached = attach(&codes, &settings, &hooks, kind, &mut |attached| {
            let maps = maps.insert(T::Object::maps(attached.objects())?);
            tool.begin(attached, maps)
        })?;
        let objects = attached.objects();
        let cells = objects.iter().find_map(|object| object.map("unity_cut"));
        let cut = cells.map(|map| Banks::of(&map)).transpose()?;
        let losses = objects.iter().map(|object| {
            object.map("unity_lost").map(|map| Ok(Losses::new(Banks::of(&map)?))).transpose()
        });
        Ok(Self {
            maps: maps.context("a tool begins once it is attached")?,
            cut: cut.map(|cells| Cut::new(cells, kind, attached.is_sleepable())),
            losses: losses.collect::<Result<_>>()?,
            report: MapReport::default(),
            attached,
            tool,
        })
    }

    /// One cut through all pieces of all objects: the half that is quiet.
    fn flip(&mut self) -> Result<Idle> {
        let begin = Instant::now();
        let flip = self.cut.as_mut().map(Cut::flip).transpose();
        WAITED.set(begin.elapsed());
        match flip? {
            Some(Flip::Quiet(half)) => Ok(Idle::new(half)),
            Some(Flip::Busy) => {
                bail!("a sleepable program did not end in time: the next tick covers this one too")
            }
            None => Ok(Idle::new(0)), // no program enters it
        }
    }

    /// Reads the quiet half and makes rows of it.
    fn read(&mut self, idle: Idle, tick: &Tick, lines: &mut Lines) -> Result<()> {
        let mut drained = Ok(());
        for (pieces, losses) in T::Object::pieces(&mut self.maps).into_iter().zip(&mut self.losses)
        {
            for (def, piece) in pieces {
                let lost = losses.as_mut().map(|losses| losses.take(def.number));
                drained = drained.and(piece.cut(idle, lost.unwrap_or_default()));
            }
        }
        // Also of what was read before an error: it is gone from the maps.
        let rows = self.tool.rows(tick, &mut self.maps, lines);
        let mut pieces = T::Object::pieces(&mut self.maps);
        let reported = self.report.push(tick, &self.attached, &pieces, lines);
        if rows.is_ok() {
            pieces.iter_mut().flatten().for_each(|(_, piece)| piece.forget());
        }
        drained.and(rows).and(reported)
    }

    /// The same from options as JSON, for tests that look at what is attached.
    #[doc(hidden)]
    pub fn loaded(options: &str) -> Result<Self> {
        Self::start(T::Options::from_json(options)?)
    }

    /// What is attached, for tests.
    #[doc(hidden)]
    pub fn attached(&self) -> &Attached {
        &self.attached
    }
}

/// Exports a tool as a plugin: `export_tool!(Runqlat: runqlat, runqlat_comm);`, the type that implements
/// [`Tool`] and, behind the colon, the tables that it fills. In the plugin's tests it adds one that prints
/// what the verifier says of each program, for `cargo xtask verify`.
#[macro_export]
macro_rules! export_tool {
    ($tool:ty: $($table:ident),+ $(,)?) => {
        $crate::plugin_api::export_plugin!($crate::Running<$tool>: $($table),+);

        #[test]
        fn the_verifier_counts_each_program() {
            $crate::verify::print::<$tool>(env!("CARGO_PKG_NAME"));
        }
    };
}
