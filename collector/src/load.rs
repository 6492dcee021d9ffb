//! Opening plugins. Never closed: types, tables and texts of a plugin stay reachable from the host, and
//! a library with thread-local state would stay mapped anyway.

use crate::config::HOST_KEYS;
use crate::elf;
use anyhow::{Context, Result};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use plugin_api::abi::PluginRef;
use plugin_api::abi_stable::StableAbi;
use plugin_api::abi_stable::abi_stability::abi_checking::check_layout_compatibility;
use plugin_api::abi_stable::library::{
    AbiHeaderRef, LibHeader, ROOT_MODULE_LOADER_NAME_WITH_NUL, RootModule,
};
use plugin_api::abi_stable::sabi_types::VersionNumber;
use plugin_api::describe::Description;
use std::ffi::{CStr, OsStr, c_void};
use std::fs;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A plugin that can be started.
pub struct Plugin {
    /// Its file.
    pub path: PathBuf,
    /// What it says of itself.
    pub description: Description,
    /// The same, as it came.
    pub json: &'static str,
    /// Its three verbs.
    pub module: PluginRef,
}

/// A file in the plugins folder that did not become a plugin.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl Refusal {
    /// What the plugin would likely be called: `libNAME.so` without its ends.
    #[must_use]
    pub fn name(&self) -> String {
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        stem.strip_prefix("lib").unwrap_or(&stem).to_owned()
    }
}

/// What lies in a plugins folder.
#[derive(Default)]
pub struct Folder {
    /// Plugins, in the order of their files' names.
    pub plugins: Vec<Plugin>,
    /// The rest of the `.so` files.
    pub refused: Vec<Refusal>,
}

/// Opens every `*.so` of a folder. Hidden files and other names are nobody's business here.
///
/// # Errors
/// The folder cannot be read. A file that is no plugin is no error but a [`Refusal`].
pub fn folder(dir: &Path) -> Result<Folder> {
    let context = || format!("plugins folder {}", dir.display());
    let entries = fs::read_dir(dir).with_context(context)?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()
        .with_context(context)?;
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().as_bytes();
        name.ends_with(b".so") && !name.starts_with(b".")
    });
    paths.sort();
    let mut folder = Folder::default();
    for path in paths {
        let loaded = load(&path).and_then(|plugin| {
            let name = &plugin.description.name;
            match folder.plugins.iter().find(|other| other.description.name == *name) {
                Some(other) => Err(format!("plugin `{name}` is already {}", other.path.display())),
                None => Ok(plugin),
            }
        });
        match loaded {
            Ok(plugin) => folder.plugins.push(plugin),
            Err(reason) => folder.refused.push(Refusal { path, reason }),
        }
    }
    Ok(folder)
}

/// Opens one plugin.
///
/// # Errors
/// A sentence that says what is wrong with the file and, where one can, what to do.
pub fn load(path: &Path) -> Result<Plugin, String> {
    let path = &path.canonicalize().map_err(|error| format!("cannot be found: {error}"))?;
    let metadata = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a directory" } else { "a special file" };
        return Err(format!("{what}, not a shared library"));
    }
    if rustix::process::geteuid().is_root() {
        trusted(path, metadata.uid(), metadata.mode())?;
    }
    elf::check(&fs::read(path).map_err(|error| format!("cannot be read: {error}"))?)?;

    let module = module(open(path)?)?;
    let json = module.describe().as_str();
    let description = Description::from_json(json)
        .map_err(|error| format!("its description cannot be read: {error:#}"))?;
    check_name(&description.name)?;
    if let Some(option) = description.options.iter().find(|o| HOST_KEYS.contains(&o.name.as_str()))
    {
        let name = &option.name;
        return Err(format!(
            "its option `{name}` never reaches it: that key is the collector's own"
        ));
    }
    Ok(Plugin { path: path.clone(), description, json, module })
}

/// A name that can be a section, a tag, a thread's name and a word on the command line.
fn check_name(name: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !name.is_empty() && name.chars().all(good) {
        return Ok(());
    }
    Err(format!("its description calls it {name:?}: letters, digits, `_`, `-` and `.` are allowed"))
}

/// Code that root runs must be root's to write.
fn trusted(path: &Path, owner: u32, mode: u32) -> Result<(), String> {
    let path = path.display();
    if owner != 0 {
        Err(format!("owned by user {owner}, but would run as root: `chown root {path}`"))
    } else if mode & 0o022 != 0 {
        Err(format!("others than root may change it: `chmod go-w {path}`"))
    } else {
        Ok(())
    }
}

/// Opens the library and finds the header that `export_plugin!` put there.
fn open(path: &Path) -> Result<&'static LibHeader, String> {
    // SAFETY: opening runs the library's constructors. That is what loading a plugin means: the file
    // is whole, exports a plugin, and belongs to who may decide what runs here (all checked before).
    // RTLD_NOW: a missing symbol is an error here instead of the process's end at the first call.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
        .map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
    let library = ManuallyDrop::new(library);
    // SAFETY: the symbol is a static of abi_stable's `LibHeader`, whose address is an `AbiHeaderRef`;
    // `upgrade` below reads its magic string before anything else.
    let symbol = unsafe { library.get::<AbiHeaderRef>(ROOT_MODULE_LOADER_NAME_WITH_NUL) }
        .map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
    let header: AbiHeaderRef = *symbol;
    let from = defined_in(symbol.into_raw().cast_const());
    if from.as_deref().and_then(|from| from.canonicalize().ok()).as_deref() != Some(path) {
        // dlsym searches a library's dependencies too.
        let from = from.map_or("elsewhere".to_owned(), |from| from.display().to_string());
        return Err(format!("no plugin of its own: what it exports comes from {from}"));
    }
    header.upgrade().map_err(|error| {
        log::debug!("{}: {error}", path.display());
        "built with an incompatible abi_stable (--log debug): build it again".to_owned()
    })
}

/// The file that an address was loaded from.
fn defined_in(address: *const c_void) -> Option<PathBuf> {
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
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
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
    fn root_runs_only_what_root_alone_may_change() {
        let check = |owner, mode| trusted(Path::new("/p/x.so"), owner, mode);
        assert_eq!(check(0, 0o100_755), Ok(()));
        assert_eq!(check(0, 0o100_644), Ok(()));
        assert!(check(1000, 0o755).unwrap_err().contains("`chown root /p/x.so`"));
        assert!(check(0, 0o775).unwrap_err().contains("`chmod go-w /p/x.so`"));
        assert!(check(0, 0o757).unwrap_err().contains("chmod"));
    }

    #[test]
    fn a_plugins_name_can_stand_everywhere() {
        for (name, good) in [
            ("runqlat", true),
            ("tcp-rtt_2.1", true),
            ("", false),
            ("a b", false),
            ("a\0", false),
            ("a/b", false),
        ] {
            assert_eq!(check_name(name).is_ok(), good, "{name:?}");
        }
    }

    #[test]
    fn a_refused_file_is_called_by_the_name_that_it_would_have() {
        for (path, name) in [("/p/librunqlat.so", "runqlat"), ("/p/x.so", "x")] {
            assert_eq!(Refusal { path: path.into(), reason: String::new() }.name(), name);
        }
    }
}
