//! The plugins folder: which files are plugins, and what each says of itself. A plugin that is to have a process of its own
//! is not loaded here, not even to ask it.

use crate::capabilities::{self, CapabilitySet};
use crate::config::options::GivenOption;
use crate::config::{HOST_KEYS, PluginConfig};
use crate::descriptions;
use crate::digest::Digest;
use crate::elf::{self, Abi};
use crate::instance::Instance;
use crate::isolated::{Isolation, ProcessInstance, Unloaded};
use crate::library::copy::{self, Mapped};
use crate::library::name::{check_name, is_plugin, name_of};
use crate::library::pool::{self, Lease};
use crate::library::{Opened, description};
use crate::sink::Terms;
use crate::trust;
use anyhow::{Context, Result};
use plugin_api::describe::{Description, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A plugin that can be started.
pub struct Plugin {
    /// Its file in the folder, which may be a link.
    pub entry: PathBuf,
    /// Where the file lies.
    pub path: PathBuf,
    /// What it says of itself.
    pub description: Description,
    /// The same as JSON.
    pub json: String,
    /// What it asks for beside what every plugin gets, whatever its options are.
    capabilities: CapabilitySet,
    /// The same, by the option that needs it.
    of_options: BTreeMap<String, CapabilitySet>,
    /// Which ABI it speaks.
    abi: Abi,
    /// Its file's content.
    pub digest: Digest,
    code: Code,
}

/// Where its code is.
#[derive(Clone)]
enum Code {
    /// In this process.
    Here(Arc<Lease>),
    /// In its file, for a process of its own.
    Unloaded(Unloaded),
}

impl Plugin {
    /// Which ABI it speaks.
    #[must_use]
    pub fn abi(&self) -> Abi {
        self.abi
    }

    /// Where it runs.
    #[must_use]
    pub fn isolation(&self) -> Isolation {
        match self.code {
            Code::Here(_) => Isolation::None,
            Code::Unloaded(_) => Isolation::Process,
        }
    }

    /// The tables that it fills; a C plugin does not say.
    #[must_use]
    pub fn tables(&self) -> Option<Vec<Table>> {
        (self.abi == Abi::Rust).then(|| self.description.tables.clone())
    }

    /// What can be started, to be called once per interval. Its lines are made by these terms; `options` are JSON that was
    /// checked against its description.
    #[must_use]
    pub fn instance(&self, terms: Terms, options: String, interval: Duration) -> Box<dyn Instance> {
        match &self.code {
            Code::Here(lease) => lease.instance(terms, options),
            Code::Unloaded(plugin) => {
                Box::new(ProcessInstance::new(plugin.clone(), terms, options, interval))
            }
        }
    }

    /// The same where it has a process of its own; the process can be told to load it and no more.
    #[must_use]
    pub fn process(
        &self,
        terms: Terms,
        options: String,
        interval: Duration,
    ) -> Option<ProcessInstance> {
        let Code::Unloaded(plugin) = &self.code else { return None };
        Some(ProcessInstance::new(plugin.clone(), terms, options, interval))
    }

    /// What it asks for beside what every plugin gets.
    #[must_use]
    pub fn asked(&self, given: &[GivenOption]) -> CapabilitySet {
        let default = |given: &GivenOption| {
            let known = self.description.options.iter().find(|known| known.name == given.name);
            known.is_none_or(|known| known.default == given.value)
        };
        let set = given.iter().filter(|given| !default(given));
        let needed = set.filter_map(|given| self.of_options.get(&given.name));
        needed.fold(self.capabilities, |all, needed| all | *needed)
    }
}

/// A file in the plugins folder that did not become a plugin.
#[derive(Clone, Debug)]
pub struct NoPlugin {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl NoPlugin {
    /// What the plugin would be called.
    #[must_use]
    pub fn name(&self) -> String {
        name_of(&self.path)
    }
}

/// What lies in a plugins folder.
#[derive(Default)]
pub struct Contents {
    /// Plugins, in the order of their files' names.
    pub plugins: Vec<Plugin>,
    /// Files that are no plugins.
    pub refused: Vec<NoPlugin>,
    /// Names of files that were not to be opened.
    pub unopened: Vec<String>,
}

/// Which files may be loaded, and how.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// The only ones, by content; `None` allows all.
    pub allowed: Option<&'a BTreeSet<Digest>>,
    /// How a plugin is configured, by its name; `None`: its file is not to be opened.
    pub configured: &'a dyn Fn(&str) -> Option<PluginConfig>,
}

/// Opens the `*.so` files of a folder, as far as the rules want them.
///
/// # Errors
/// The folder cannot be read, or others may change what lies in it or where its path leads. A file that is
/// no plugin is no error but a [`NoPlugin`].
pub fn folder(dir: &Path, rules: Rules<'_>) -> Result<Contents> {
    let mut folder = Contents::default();
    for path in files(dir)? {
        let name = name_of(&path);
        let known = folder.plugins.iter().find(|other| other.description.name == name);
        let loaded = match (known, (rules.configured)(&name)) {
            (Some(other), _) => Err(already(&name, &other.path)),
            (None, None) => {
                folder.unopened.push(name);
                continue;
            }
            (None, Some(config)) => load(&path, &config, rules.allowed, usize::MAX),
        };
        match loaded {
            Ok(plugin) => folder.plugins.push(plugin),
            Err(reason) => folder.refused.push(NoPlugin { path, reason }),
        }
    }
    Ok(folder)
}

/// Why a second file of the same name is refused.
#[must_use]
pub fn already(name: &str, path: &Path) -> String {
    format!("plugin `{name}` is already {}", path.display())
}

/// The files of a folder that are to be plugins, sorted.
///
/// # Errors
/// As [`folder`].
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("plugins folder {}", dir.display());
    let names = trust::Folder::open(dir).and_then(|it| it.names()).with_context(context)?;
    let mut names: Vec<_> = names.into_iter().filter(|name| is_plugin(name)).collect();
    names.sort();
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

/// Loads one plugin into this process, wherever it is to run by default.
///
/// # Errors
/// As [`load`].
pub fn load_here(path: &Path) -> Result<Plugin, String> {
    load(
        path,
        &PluginConfig { isolation: Some(Isolation::None), ..Default::default() },
        None,
        usize::MAX,
    )
}

/// Opens one plugin, in this process only while no more than `most_idle` libraries lie in it without use. What is checked and what is loaded is one private copy, whatever happens to the file meanwhile.
///
/// # Errors
/// A sentence that says what is wrong with the file and, where one can, what to do.
pub fn load(
    path: &Path,
    config: &PluginConfig,
    allowed: Option<&BTreeSet<Digest>>,
    most_idle: usize,
) -> Result<Plugin, String> {
    let (name, entry) = (name_of(path), path.to_owned());
    check_name(&name).map_err(|why| format!("the file's name calls it {why}"))?;
    let (mut file, path) = trust::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("cannot be found: {error}"),
        // Said in whole sentences by `trust`.
        _ if error.raw_os_error().is_none() => error.to_string(),
        _ => format!("cannot be read: {error}"),
    })?;
    let copy = copy::private(&mut file).map_err(|error| format!("cannot be copied: {error}"))?;
    drop(file);
    let bytes = Mapped::of(&copy)?;
    let digest = Digest::of(&bytes);
    if allowed.is_some_and(|allowed| !allowed.contains(&digest)) {
        return Err(format!(
            "its SHA-256 {digest} is not in `plugins_sha256`: add it there if the file may run here"
        ));
    }
    let library = elf::check(&bytes)?;
    drop(bytes);
    let isolation = config.isolation.unwrap_or_else(|| own_isolation(&library, most_idle));
    let abi = library.abi;
    let (code, json) = match isolation {
        Isolation::None => {
            let lease = match Lease::again(digest) {
                Some(lease) => lease,
                None if pool::idle() >= most_idle => return Err(TOO_MANY.to_owned()),
                None => Lease::new(digest, Opened::looked_at(copy, &path, &library)?),
            };
            let json = lease.opened().json().unwrap_or_default().to_owned();
            (Code::Here(Arc::new(lease)), json)
        }
        Isolation::Process => {
            let (file, path, name) = (Arc::new(copy), path.clone(), name.clone());
            let plugin = Unloaded { file, path, name, abi, bounds: config.bounds };
            let json = plugin.describe()?;
            (Code::Unloaded(plugin), json)
        }
    };
    let description = match abi {
        Abi::Rust => Description { name, ..description(&json)? },
        Abi::C => of_c(name),
    };
    let json = match abi {
        Abi::Rust => json,
        Abi::C => serde_json::to_string(&description).map_err(|error| error.to_string())?,
    };
    let options = || description.options.iter();
    if let Some(option) = options().find(|o| HOST_KEYS.contains(&o.name.as_str())) {
        let name = &option.name;
        return Err(format!(
            "its option `{name}` never reaches it: that key is the collector's own"
        ));
    }
    let named = |names: &[String]| {
        capabilities::named(names)
            .map_err(|name| format!("its description asks for `{name}`, which is no capability"))
    };
    let capabilities = named(&description.capabilities)?;
    let of_options = options().map(|o| Ok((o.name.clone(), named(&o.capabilities)?)));
    let of_options = of_options.collect::<Result<_, String>>()?;
    descriptions::learn(&description.tables);
    Ok(Plugin { entry, path, description, json, capabilities, of_options, abi, digest, code })
}

/// Where a plugin runs when the configuration does not say.
fn own_isolation(library: &elf::Library, most_idle: usize) -> Isolation {
    let isolated = library.abi == Abi::C || library.isolated || pool::idle() >= most_idle;
    if isolated { Isolation::Process } else { Isolation::None }
}

/// Why no further library is loaded into this process.
const TOO_MANY: &str = "it cannot be loaded into the collector's process, which keeps the memory of every replaced \
                        plugin, and was given too many: restart the collector, or leave out `isolation = \"none\"`";

/// What is known of a C plugin: its name, by its file.
fn of_c(name: String) -> Description {
    Description {
        name,
        version: "C".to_owned(),
        text: "C plugin (init, call, deinit): `describe` runs it to see its tables".to_owned(),
        tables: Vec::new(),
        options: Vec::new(),
        // They cannot ask: /dev/kmsg and addresses of /proc/kallsyms are what unity's host could read.
        capabilities: vec!["CAP_SYSLOG".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_file_is_called_by_the_name_that_it_would_have() {
        for (path, name) in [("/p/librunqlat.so", "runqlat"), ("/p/x.so", "x")] {
            assert_eq!(NoPlugin { path: path.into(), reason: String::new() }.name(), name);
        }
    }
}
