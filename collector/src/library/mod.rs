//! A plugin's file in this process. It is never closed: types, tables and texts of a plugin stay reachable, and a library
//! with thread-local state would stay mapped anyway.

pub mod copy;
pub mod name;
mod pages;
pub mod pool;

use crate::c_plugin::{CInstance, CLibrary};
use crate::elf::{self, Abi};
use crate::instance::{Instance, RustInstance};
use crate::sink::Sink;
use copy::Mapped;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use name::check_name;
use plugin_api::abi::PluginRef;
use plugin_api::abi_stable::StableAbi;
use plugin_api::abi_stable::abi_stability::abi_checking::check_layout_compatibility;
use plugin_api::abi_stable::library::{
    AbiHeaderRef, LibHeader, ROOT_MODULE_LOADER_NAME_WITH_NUL, RootModule,
};
use plugin_api::abi_stable::sabi_types::VersionNumber;
use plugin_api::describe::{Description, Table};
use std::ffi::{CStr, OsStr, c_void};
use std::fs::{self, File};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A plugin that is loaded.
#[derive(Clone, Copy)]
pub struct Opened(Verbs);

/// The verbs of a library, by the ABI that it speaks.
#[derive(Clone, Copy)]
enum Verbs {
    Rust(PluginRef),
    C(CLibrary),
}

impl Opened {
    /// Loads the private copy of a plugin's file; `path`, where the file lies, is for messages.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the file and, where one can, what to do.
    pub fn open(copy: File, path: &Path) -> Result<Self, String> {
        let library = elf::check(&Mapped::of(&copy)?)?;
        Self::looked_at(copy, path, &library)
    }

    /// The same of a file that was looked at already.
    ///
    /// # Errors
    /// As [`Opened::open`].
    pub fn looked_at(file: File, path: &Path, library: &elf::Library) -> Result<Self, String> {
        let linked = Linked::open(file, path, library)?;
        Ok(Self(match library.abi {
            Abi::Rust => Verbs::Rust(module(header(linked)?)?),
            Abi::C => Verbs::C(c_verbs(linked, library.extent)?),
        }))
    }

    /// What it says of itself, as JSON; a C plugin says nothing.
    #[must_use]
    pub fn json(&self) -> Option<&'static str> {
        match self.0 {
            Verbs::Rust(module) => Some(module.describe().as_str()),
            Verbs::C(_) => None,
        }
    }

    /// Nobody uses it for now: its pages are given back.
    fn rests(self) {
        if let Verbs::Rust(module) = self.0 {
            pages::give_back(module.init() as usize);
        }
    }

    /// The tables that it fills; a C plugin does not say.
    ///
    /// # Errors
    /// Its description cannot be read.
    pub fn tables(&self) -> Result<Option<Vec<Table>>, String> {
        self.json().map(|json| Ok(description(json)?.tables)).transpose()
    }

    /// What can be started. Its lines go to `sink`; `options` are JSON that was checked against its description.
    #[must_use]
    pub fn instance(self, name: &str, sink: &'static Sink, options: String) -> Box<dyn Instance> {
        match self.0 {
            Verbs::Rust(module) => Box::new(RustInstance::new(module, sink, options)),
            Verbs::C(library) => Box::new(CInstance::new(name, library, sink)),
        }
    }
}

/// Reads a plugin's description.
///
/// # Errors
/// It is none, or its name can be none.
pub fn description(json: &str) -> Result<Description, String> {
    let description = Description::from_json(json)
        .map_err(|error| format!("its description cannot be read: {error:#}"))?;
    check_name(&description.name).map_err(|why| format!("its description calls it {why}"))?;
    Ok(description)
}

/// A library that the dynamic linker has, for good.
struct Linked<'a> {
    library: ManuallyDrop<Library>,
    /// Stays open: whoever follows the library's name, to look up symbols for one, finds no other file there.
    file: ManuallyDrop<File>,
    path: &'a Path,
}

impl<'a> Linked<'a> {
    fn open(file: File, path: &'a Path, library: &elf::Library) -> Result<Self, String> {
        let place = unique_path(file.as_raw_fd());
        // SAFETY: opening runs the library's constructors. That is what loading a plugin means: the file
        // is whole, exports a plugin, and belongs to who may decide what runs here (all checked before).
        // RTLD_NOW: a missing symbol is an error here instead of the process's end at the first call.
        let opened = unsafe { Library::open(Some(&place), RTLD_NOW | RTLD_LOCAL) };
        let opened = opened.map_err(|error| {
            let said = format!("{:#}", anyhow::Error::from(error));
            let said = said.replace(&place, &path.display().to_string());
            missing_library(&said).or_else(|| missing_symbol(&said, library.abi)).unwrap_or(said)
        })?;
        let (library, file) = (ManuallyDrop::new(opened), ManuallyDrop::new(file));
        Ok(Self { library, file, path })
    }

    /// The address of a symbol of this very file, and where the file was loaded.
    fn symbol(&self, name: &CStr) -> Result<(*mut c_void, usize), String> {
        // SAFETY: what is taken for the symbol's value is its address, whatever it is.
        let symbol = unsafe { self.library.get::<*mut c_void>(name) };
        let address =
            symbol.map_err(|error| format!("{:#}", anyhow::Error::from(error)))?.into_raw();
        let Origin { from, base } = Origin::of(address).unwrap_or_default();
        let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let own =
            |from: &Path| Some(id(fs::metadata(from).ok()?) == id(self.file.metadata().ok()?));
        if own(&from) == Some(true) {
            return Ok((address, base));
        }
        // dlsym searches a library's dependencies too.
        Err(format!("no plugin of its own: what it exports comes from {}", from.display()))
    }
}

/// A path that leads to an open file only, and that no file was opened by before. The linker takes a library for one that
/// it has when the name is the same, and remembers all names of a library, also when the descriptor is closed since.
fn unique_path(descriptor: RawFd) -> String {
    static OPENED: AtomicU32 = AtomicU32::new(1);
    let mut number = OPENED.fetch_add(1, Ordering::Relaxed);
    let mut path = "/proc/self".to_owned();
    while number > 0 {
        path.push_str(if number & 1 == 1 { "/." } else { "//" }); // the number's bits, which lead nowhere else
        number >>= 1;
    }
    format!("{path}/fd/{descriptor}")
}

/// The linker's words about a library that the plugin needs, in ours.
fn missing_library(said: &str) -> Option<String> {
    let (before, _) = said.split_once(": cannot open shared object file")?;
    let library = before.rsplit([' ', ':']).next().unwrap_or(before);
    let what = match library {
        "libcoolbpf.so" => {
            "build the plugin against the collector's own coolbpf.h, which needs no library"
                .to_owned()
        }
        library => format!(
            "install it, or link it into the plugin (`-l:{}.a`)",
            library.split(".so").next().unwrap_or(library)
        ),
    };
    Some(format!("needs the library `{library}`, which this machine does not have: {what}"))
}

/// The same about a function or variable.
fn missing_symbol(said: &str, abi: Abi) -> Option<String> {
    let (_, symbol) = said.split_once("undefined symbol: ")?;
    let symbol = symbol.split([',', ' ']).next().unwrap_or(symbol);
    let whose = match abi {
        Abi::Rust => "",
        Abi::C => ", nor is it one of the collector's functions for C plugins",
    };
    Some(format!(
        "uses `{symbol}`, which no library that it is linked with has{whose}: add the library or the object \
         file that defines it to the link"
    ))
}

/// Finds the header that `export_plugin!` put there.
fn header(linked: Linked<'_>) -> Result<&'static LibHeader, String> {
    let path = linked.path;
    let (address, _) = linked.symbol(HEADER)?;
    // SAFETY: the symbol is a static of abi_stable's `LibHeader`, whose address is an `AbiHeaderRef`;
    // `upgrade` below reads its magic string before anything else.
    let header = unsafe { std::mem::transmute::<*mut c_void, AbiHeaderRef>(address) };
    header.upgrade().map_err(|error| {
        log::debug!("{}: {error}", path.display());
        "built with an incompatible abi_stable (--log debug): build it again".to_owned()
    })
}

const HEADER: &CStr = match CStr::from_bytes_with_nul(ROOT_MODULE_LOADER_NAME_WITH_NUL.as_bytes()) {
    Ok(name) => name,
    Err(_) => panic!("abi_stable's name ends with a NUL"),
};

/// Finds the three functions of a C plugin.
fn c_verbs(linked: Linked<'_>, extent: usize) -> Result<CLibrary, String> {
    let [(init, base), (call, _), (deinit, _)] =
        [linked.symbol(c"init")?, linked.symbol(c"call")?, linked.symbol(c"deinit")?];
    // SAFETY: the three are functions (`elf::check`); that they have the types of unity's functions of these names is
    // the promise of whoever puts a C plugin into the folder.
    Ok(unsafe { CLibrary::new(init, call, deinit, base..base.saturating_add(extent)) })
}

/// Where an address was loaded from.
#[derive(Default)]
struct Origin {
    from: PathBuf,
    /// Where the file begins in memory.
    base: usize,
}

impl Origin {
    fn of(address: *const c_void) -> Option<Self> {
        let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: dladdr takes any address, and fills the struct when it answers non-zero.
        let found = unsafe { libc::dladdr(address, info.as_mut_ptr()) };
        // SAFETY: zeroed above, which is a valid value of a struct of pointers.
        let info = unsafe { info.assume_init() };
        if found == 0 || info.dli_fname.is_null() {
            return None;
        }
        // SAFETY: the dynamic linker's own name of a library that is never closed.
        let name = unsafe { CStr::from_ptr(info.dli_fname) };
        let from = PathBuf::from(OsStr::from_bytes(name.to_bytes()));
        Some(Self { from, base: info.dli_fbase.addr() })
    }
}

/// The root module, once its types are known to be ours.
fn module(header: &'static LibHeader) -> Result<PluginRef, String> {
    let (theirs, ours) = (header.version_strings(), PluginRef::VERSION_STRINGS);
    let built = format!("built for plugin-api {theirs}, this collector has {ours}");
    let major = |v| VersionNumber::new(v).map(|v| v.major);
    if major(theirs).ok() != major(ours).ok() {
        return Err(format!("{built}: build it again"));
    }
    let mine = <PluginRef as StableAbi>::LAYOUT;
    let layout = header.layout().ok_or_else(|| format!("{built}: it carries no layout"))?;
    // The shipped check takes the plugin to be as new as the host or newer. The other way round it
    // accepts an older one, whose missing entries the accessors report as `None`.
    if let Err(errors) = check_layout_compatibility(mine, layout)
        && check_layout_compatibility(layout, mine).is_err()
    {
        log::debug!("{built}: {errors}");
        let count = errors.errors.len();
        return Err(format!("{built}, with {count} different types (--log debug): build it again"));
    }
    // SAFETY: the layouts were compared just now.
    unsafe { header.init_root_module_with_unchecked_layout::<PluginRef>() }
        .map_err(|error| format!("{built}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_never_used_again_and_leads_to_the_same_file() {
        let file = File::open("/proc/self/exe").unwrap();
        let paths: Vec<String> = (0..100).map(|_| unique_path(file.as_raw_fd())).collect();
        let different: std::collections::HashSet<&String> = paths.iter().collect();
        assert_eq!(different.len(), paths.len());
        let inode = file.metadata().unwrap().ino();
        assert!(paths.iter().all(|path| fs::metadata(path).unwrap().ino() == inode));
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let no_file = "cannot open shared object file: No such file or directory";
        let said = |library: &str| missing_library(&format!("dlopen failed: {library}: {no_file}"));
        let coolbpf = said("libcoolbpf.so").unwrap();
        assert!(coolbpf.starts_with("needs the library `libcoolbpf.so`"), "{coolbpf}");
        assert!(coolbpf.contains("coolbpf.h"), "{coolbpf}");
        let other = said("libfoo.so.1").unwrap();
        assert!(other.contains("`libfoo.so.1`") && other.contains("-l:libfoo.a"), "{other}");
        assert_eq!(missing_library("dlopen failed: x.so: undefined symbol: y"), None);
        let symbol = missing_symbol("dlopen failed: x.so: undefined symbol: y, version Z", Abi::C);
        assert!(symbol.unwrap().starts_with("uses `y`, which no library"));
        assert_eq!(missing_symbol("dlopen failed: x.so: not enough memory", Abi::C), None);
    }
}
