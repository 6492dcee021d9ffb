//! A skeleton's life: opened, configured, loaded, attached, kept, detached.

use crate::attach::{Failure, Ladder, Rung, Verdict, reason_of};
use crate::load;
use crate::print::listening;
use crate::programs::{Program, report};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{Link, Object, OpenObject};
use plugin_api::{Result, anyhow, bail};
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::NonNull;

/// Brings in the skeleton of `src/NAME.bpf.c`: the module `skel` with what libbpf-cargo generated, and the
/// types `Skeleton`, to be attached, and `Loaded`, what becomes of it.
///
/// Types of the program that Rust reads as keys, values or events are named behind the program's name:
/// `skeleton!(bootstrap: event, key);`. They must be structs of the program without implicit padding, the
/// generated ones of which any bytes are a value (no Rust enum, no reference).
#[macro_export]
macro_rules! skeleton {
    ($name:ident $(: $($record:ident),+ $(,)?)?) => {
        #[allow(clippy::all, clippy::pedantic, clippy::undocumented_unsafe_blocks, missing_docs, unused_qualifications, dead_code, non_camel_case_types)]
        mod skel {
            use $crate::libbpf_rs;
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".skel.rs"));
            $($(
                const _: () = {
                    // SAFETY: libbpf-cargo generates integers, arrays and structs of them, with padding
                    // written out as fields.
                    unsafe impl $crate::Record for types::$record {}
                };
            )+)?
        }
        /// The program, not yet loaded.
        type Skeleton = $crate::Skeleton<skel::Builder>;
        /// The program, loaded and attached, until it is dropped.
        #[allow(dead_code)]
        type Loaded = $crate::Attached<skel::Loaded>;
    };
}

type Configure<O> = Box<dyn FnMut(&mut O) -> Result<()>>;
type Loaded<B> = <<B as SkelBuilder<'static>>::Output as OpenSkel<'static>>::Output;

/// A BPF program before it is loaded. Made by [`crate::skeleton!`].
pub struct Skeleton<B: SkelBuilder<'static>> {
    configure: Configure<B::Output>,
    perf: bool,
}

impl<B: SkelBuilder<'static> + Default> Skeleton<B> {
    /// A program as it was compiled.
    #[must_use]
    pub fn open() -> Self {
        Self { configure: Box::new(|_| Ok(())), perf: false }
    }

    /// Sets constants (`open.maps.rodata_data`) and map sizes before loading. Runs once for every rung
    /// that is tried.
    #[must_use]
    pub fn configure(
        mut self,
        configure: impl FnMut(&mut B::Output) -> Result<()> + 'static,
    ) -> Self {
        self.configure = Box::new(configure);
        self
    }

    /// Uses perf buffers for `EVENTS`, as on kernels before 5.8.
    #[must_use]
    pub fn perf_buffers(mut self) -> Self {
        self.perf = true;
        self
    }

    /// Tries the rungs, best first, by loading and attaching, and keeps the first one that works whole.
    ///
    /// # Errors
    /// No rung works; names each with its reason in the kernel's words.
    ///
    /// # Panics
    /// A rung names a program that the object does not have: the author's slip, seen at the first start.
    pub fn attach(mut self, rungs: &[Rung]) -> Result<Attached<Loaded<B>>> {
        let mut ladder = Ladder::default();
        for rung in rungs {
            if let Some(attached) = ladder.climb(rung, |left_out| {
                self.try_rung(rung, left_out, false).or_else(|failure| match failure.program {
                    // The object as a whole: perhaps for want of the kernel's BTF, which programs
                    // without relocations do not need.
                    None => self.try_rung(rung, left_out, true),
                    Some(_) => Err(failure),
                })
            }) {
                return Ok(attached.reporting(ladder.verdicts));
            }
        }
        bail!("{}", ladder.refusal());
    }

    /// Loads the named programs and attaches none: for those that a tool attaches by itself
    /// ([`Attached::add_link`]) or runs.
    ///
    /// # Errors
    /// The kernel refused one; says which and why.
    pub fn load(mut self, programs: &[&'static str]) -> Result<Attached<Loaded<B>>> {
        let rung = Rung::all(programs);
        let (attached, _) = self.open_and_load(&rung, &[], false).map_err(|f| anyhow!("{f}"))?;
        Ok(attached)
    }

    /// One try: a fresh object with this rung's programs, less those left out.
    fn try_rung(
        &mut self,
        rung: &Rung,
        left_out: &mut Vec<Failure>,
        without_btf: bool,
    ) -> Result<Attached<Loaded<B>>, Failure> {
        let (mut attached, section) = self.open_and_load(rung, left_out, without_btf)?;
        for name in rung.programs() {
            if left_out.iter().any(|f| f.program.as_deref() == Some(name)) {
                continue;
            }
            let program = attached.object().progs_mut().find(|p| p.name() == name);
            let Some(program) = program else { continue };
            let (link, warnings) = listening(|| program.attach());
            match link {
                Ok(link) => {
                    let program = Program::of(&program, &section).map_err(Failure::of_object)?;
                    attached.links.push(link);
                    attached.programs.push(program);
                }
                Err(error) => {
                    let failure = Failure::of_program(name, reason_of(&warnings, &error));
                    if rung.needs(name) {
                        return Err(failure); // what was attached so far detaches with `attached`
                    }
                    left_out.push(failure);
                }
            }
        }
        Ok(attached)
    }

    fn open_and_load(
        &mut self,
        rung: &Rung,
        left_out: &[Failure],
        without_btf: bool,
    ) -> Result<(Attached<Loaded<B>>, String), Failure> {
        let mut builder = B::default();
        let btf = without_btf.then(empty_btf).transpose().map_err(Failure::of_object)?;
        if let Some(btf) = &btf {
            use std::os::fd::AsRawFd as _;
            let path = format!("/proc/self/fd/{}", btf.as_raw_fd());
            let builder = builder.object_builder_mut();
            builder.btf_custom_path(path).map_err(Failure::of_object)?;
        }
        let storage = Storage::new();
        let (open, warnings) = listening(|| builder.open(storage.lend()));
        let mut open = open.map_err(|e| Failure::of_load(&warnings, &e))?;
        (self.configure)(&mut open).map_err(Failure::of_object)?;

        let mut section = String::new();
        let mut unknown: Vec<&str> = rung.programs().collect();
        let mut known = Vec::new();
        for mut program in open.open_object_mut().progs_mut() {
            let name = program.name().to_string_lossy().into_owned();
            let wanted = rung.programs().any(|p| p == name)
                && !left_out.iter().any(|f| f.program.as_deref() == Some(&name));
            if wanted && section.is_empty() {
                let full = program.section().to_string_lossy();
                section = full.split('/').next().unwrap_or_default().to_owned();
            }
            program.set_autoload(wanted);
            unknown.retain(|p| *p != name);
            known.push(name);
        }
        assert!(unknown.is_empty(), "no program {unknown:?}; the object has {known:?}");
        let prepared =
            load::prepare(open.open_object_mut(), self.perf).map_err(Failure::of_object)?;

        let (skel, warnings) = listening(|| open.load());
        let skel = skel.map_err(|e| Failure::of_load(&warnings, &e))?;
        prepared.finish(skel.object()).map_err(Failure::of_object)?;
        let attached =
            Attached { links: Vec::new(), programs: Vec::new(), skel, _storage: storage };
        Ok((attached, section))
    }
}

/// An empty BTF file (Documentation/bpf/btf.rst: a header and no types). As libbpf's "custom BTF" it
/// stands in for the kernel's, which libbpf would demand for the sake of programs that are not loaded.
fn empty_btf() -> Result<std::fs::File> {
    use std::io::Write as _;
    use std::os::fd::FromRawFd as _;
    // SAFETY: the name is a C string; the result is checked below.
    let fd = unsafe { libc::memfd_create(c"empty.btf".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: the descriptor is new and ours alone.
    let mut file = unsafe { std::fs::File::from_raw_fd(fd) };
    let mut btf = Vec::new();
    btf.extend(0xeb9fu16.to_ne_bytes()); // magic
    btf.extend([1, 0]); // version, flags
    for number in [24u32, 0, 0, 0, 1] {
        btf.extend(number.to_ne_bytes()); // header, types at and of, strings at and of
    }
    btf.push(0); // the empty string
    file.write_all(&btf)?;
    Ok(file)
}

/// The memory that libbpf-rs wants an object to live in, freed after the skeleton.
struct Storage(NonNull<MaybeUninit<OpenObject>>);

// SAFETY: plain memory, which only the skeleton beside it refers to.
unsafe impl Send for Storage {}
// SAFETY: as above; nothing is reached through a shared reference.
unsafe impl Sync for Storage {}

impl Storage {
    fn new() -> Self {
        Self(NonNull::from(Box::leak(Box::new(MaybeUninit::uninit()))))
    }

    /// For the one skeleton that is dropped before `self`: `Attached` declares them in that order, and an
    /// error on the way drops the skeleton first.
    fn lend(&self) -> &'static mut MaybeUninit<OpenObject> {
        // SAFETY: allocated by `new`, lent once, freed by `drop` only.
        unsafe { &mut *self.0.as_ptr() }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // SAFETY: `new` leaked this very box; the skeleton in it is gone.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// A loaded skeleton with its links; dropping it detaches and unloads. Dereferences to the skeleton, for
/// its maps.
pub struct Attached<S> {
    // The order of fields is the order of drop: links go before the object that they point into.
    links: Vec<Link>,
    programs: Vec<Program>,
    skel: S,
    _storage: Storage,
}

impl<S> Deref for Attached<S> {
    type Target = S;
    fn deref(&self) -> &S {
        &self.skel
    }
}

/// A skeleton's object.
pub trait SkelObject {
    /// The loaded object.
    fn skel_object(&self) -> &Object;
}

impl<S: Skel<'static>> SkelObject for Attached<S> {
    fn skel_object(&self) -> &Object {
        self.skel.object()
    }
}

impl<S: Skel<'static>> Attached<S> {
    fn object(&self) -> &Object {
        self.skel.object()
    }

    /// Keeps a link that the tool made by itself, to be detached with the rest.
    pub fn add_link(&mut self, link: Link) {
        self.links.push(link);
    }

    /// How often the kernel skipped one of the attached programs since it was loaded, because the program
    /// was running on that CPU already; `None` where the kernel does not say, for one of them.
    ///
    /// # Errors
    /// The kernel does not answer about a program of ours.
    pub fn missed(&self) -> Result<Option<u64>> {
        self.programs.iter().map(|p| Ok(p.info()?.missed)).sum()
    }

    /// The attached programs.
    #[must_use]
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    fn reporting(self, verdicts: Vec<Verdict>) -> Self {
        report(&self.programs, verdicts);
        self
    }
}
