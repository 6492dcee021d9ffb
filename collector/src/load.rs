//! Opening plugins. Never closed: types, tables and texts of a plugin stay reachable from the host, and
//! a library with thread-local state would stay mapped anyway.

use crate::capabilities::{self, CapabilitySet};
use crate::config::HOST_KEYS;
use crate::{elf, trust};
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
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsRawFd, IntoRawFd};
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
    /// What it asks for beside what every plugin gets.
    pub capabilities: CapabilitySet,
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
/// The folder cannot be read, or others may change what lies in it or where its path leads. A file that is
/// no plugin is no error but a [`Refusal`].
pub fn folder(dir: &Path) -> Result<Folder> {
    let context = || format!("plugins folder {}", dir.display());
    let mut names = trust::Folder::open(dir).and_then(|it| it.names()).with_context(context)?;
    names.retain(|name| {
        let name = name.as_bytes();
        name.ends_with(b".so") && !name.starts_with(b".")
    });
    names.sort();
    let mut folder = Folder::default();
    for path in names.into_iter().map(|name| dir.join(name)) {
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

/// Opens one plugin. What is checked and what is loaded is one open file, whatever happens to its path
/// meanwhile.
///
/// # Errors
/// A sentence that says what is wrong with the file and, where one can, what to do.
pub fn load(path: &Path) -> Result<Plugin, String> {
    let (mut file, path) = trust::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("cannot be found: {error}"),
        // Said in whole sentences by `trust`.
        _ if error.raw_os_error().is_none() => error.to_string(),
        _ => format!("cannot be read: {error}"),
    })?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    elf::check(&bytes)?;
    drop(bytes);

    let module = module(open(file, &path)?)?;
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
    let capabilities = capabilities::named(&description.capabilities)
        .map_err(|name| format!("its description asks for `{name}`, which is no capability"))?;
    Ok(Plugin { path, description, json, module, capabilities })
}

/// A name that can be a section, a tag, a thread's name and a word on the command line.
fn check_name(name: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !name.is_empty() && name.chars().all(good) {
        return Ok(());
    }
    Err(format!("its description calls it {name:?}: letters, digits, `_`, `-` and `.` are allowed"))
}

/// Opens the library and finds the header that `export_plugin!` put there.
fn open(file: File, path: &Path) -> Result<&'static LibHeader, String> {
    // The linker takes a library for one that it has when the name is the same. This one is no other
    // file's as long as the descriptor is open, and leads to this file only.
    let place = format!("/proc/self/fd/{}", file.as_raw_fd());
    let said = |error| {
        format!("{:#}", anyhow::Error::from(error)).replace(&place, &path.display().to_string())
    };
    // SAFETY: opening runs the library's constructors. That is what loading a plugin means: the file
    // is whole, exports a plugin, and belongs to who may decide what runs here (all checked before).
    // RTLD_NOW: a missing symbol is an error here instead of the process's end at the first call.
    let library = unsafe { Library::open(Some(&place), RTLD_NOW | RTLD_LOCAL) }.map_err(said)?;
    let library = ManuallyDrop::new(library);
    // SAFETY: the symbol is a static of abi_stable's `LibHeader`, whose address is an `AbiHeaderRef`;
    // `upgrade` below reads its magic string before anything else.
    let symbol =
        unsafe { library.get::<AbiHeaderRef>(ROOT_MODULE_LOADER_NAME_WITH_NUL) }.map_err(said)?;
    let header: AbiHeaderRef = *symbol;
    let from = defined_in(symbol.into_raw().cast_const()).unwrap_or_default();
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let own = |from: &Path| Some(id(fs::metadata(from).ok()?) == id(file.metadata().ok()?));
    if own(&from) != Some(true) {
        // dlsym searches a library's dependencies too.
        return Err(format!("no plugin of its own: what it exports comes from {}", from.display()));
    }
    if from == Path::new(&place) {
        let _for_ever = file.into_raw_fd();
    } // else the linker had this very file already, under the name that it was first opened by
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
