//! What [`export_plugin!`](crate::export_plugin) expands to: the glue between a [`Plugin`] and the ABI.
//!
//! Every entry runs under `catch_unwind` here, inside the plugin: a panic that leaves a shared library
//! aborts the process, whatever the host tries to catch.

use crate::abi::{Answer, HostCtx, PANICKED};
use crate::describe::Description;
use crate::{Lines, Options, Plugin, Result, TableDef, Tick, anyhow};
use abi_stable::std_types::{RBoxError, RResult, RStr};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once, OnceLock, PoisonError};

/// A running plugin.
struct Running<P> {
    plugin: P,
    lines: Lines,
}

/// Where an exported plugin lives between calls.
pub struct Slot<P>(Mutex<Option<Running<P>>>);

impl<P: Plugin> Slot<P> {
    /// An empty slot.
    #[allow(clippy::new_without_default, reason = "a static needs a const fn")]
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// The `init` entry.
    pub fn init(&self, host: HostCtx, config: RStr<'_>) -> Answer {
        guard(|| {
            install_logger(host);
            let mut slot = self.0.lock().map_err(|_| panicked())?;
            if slot.is_some() {
                return Err(anyhow!("init was called twice without deinit"));
            }
            let options = P::Options::from_json(config.as_str())?;
            let plugin = P::init(options)?;
            *slot = Some(Running { plugin, lines: Lines::new(host) });
            Ok(())
        })
    }

    /// The `call` entry.
    pub fn call(&self, tick: &Tick, host: HostCtx) -> Answer {
        guard(|| {
            let mut slot = self.0.lock().map_err(|_| panicked())?;
            let Running { plugin, lines } =
                slot.as_mut().ok_or_else(|| anyhow!("call without init"))?;
            lines.bind(host);
            plugin.call(tick, lines)
        })
    }

    /// The `deinit` entry; also the way back after a panic.
    pub fn deinit(&self) -> Answer {
        guard(|| {
            let running = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            let poisoned = self.0.is_poisoned();
            self.0.clear_poison();
            match running {
                // What a panic left behind is only dropped: its own deinit could rely on anything.
                Some(running) if !poisoned => running.plugin.deinit(),
                _ => Ok(()),
            }
        })
    }
}

fn panicked() -> crate::Error {
    anyhow!("an earlier call panicked; the plugin needs deinit and init")
}

thread_local! {
    static PANIC_AT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs an entry and turns an error or a panic into the answer.
fn guard(entry: impl FnOnce() -> Result<()>) -> Answer {
    static HOOK: Once = Once::new();
    // The hook of this library's own std: it keeps the place, and spares stderr.
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().map(|l| format!("{}:{}", l.file(), l.line()));
            PANIC_AT.set(place.unwrap_or_default());
        }));
    });
    match catch_unwind(AssertUnwindSafe(entry)) {
        Ok(Ok(())) => RResult::ROk(()),
        Ok(Err(error)) => RResult::RErr(RBoxError::from_fmt(&format_args!("{error:#}"))),
        Err(payload) => {
            let text = payload
                .downcast_ref::<&str>()
                .map(|s| (*s).to_owned())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "no message".to_owned());
            std::mem::forget(payload); // its drop could panic again
            let place = PANIC_AT.take();
            RResult::RErr(RBoxError::from_fmt(&format_args!("{PANICKED}{place}: {text}")))
        }
    }
}

/// Sends this library's `log` records to the host.
struct HostLogger(OnceLock<HostCtx>);

static LOGGER: HostLogger = HostLogger(OnceLock::new());

impl log::Log for HostLogger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        if let Some(host) = self.0.get() {
            let text = record.args().to_string();
            host.host.log()(host.ctx, record.level() as u8, RStr::from_str(&text));
        }
    }
    fn flush(&self) {}
}

fn install_logger(host: HostCtx) {
    // Fails only when it is there already (a second init, or a test binary's own logger).
    if LOGGER.0.set(host).is_ok() && log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
}

/// The description as the JSON that the root module carries; leaked, once per loaded library.
pub fn describe<P: Plugin>(
    name: &str,
    version: &str,
    text: &str,
    tables: &[&TableDef],
) -> RStr<'static> {
    let mut options = P::Options::describe();
    for (name, capability) in P::OPTION_CAPABILITIES {
        let named = options.iter_mut().filter(|option| option.name == *name);
        named.for_each(|option| option.capabilities.push((*capability).to_owned()));
    }
    let description = Description::new(name, version, text, tables, options, P::CAPABILITIES);
    RStr::from_str(Box::leak(description.to_json().into_boxed_str()))
}

/// Exports a tool as a plugin: `export_plugin!(Runqlat: runqlat);`, the type that implements
/// [`Plugin`](crate::Plugin) and, behind the colon, the tables that it fills.
///
/// Its name is the library's (`NAME` of `libNAME.so`), version and text are those of the package. One per
/// shared library.
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty: $($table:ident),+ $(,)?) => {
        $crate::exported!($($table),+);

        const _: () = {
            use $crate::abi::{Answer, HostCtx, PluginModule, PluginRef, Tick};
            use $crate::abi_stable::{library, prefix_type::PrefixTypeTrait, std_types::RStr};

            static SLOT: $crate::rt::Slot<$plugin> = $crate::rt::Slot::new();
            extern "C" fn init(host: HostCtx, config: RStr<'_>) -> Answer {
                SLOT.init(host, config)
            }
            extern "C" fn call(tick: &Tick, lines: HostCtx) -> Answer {
                SLOT.call(tick, lines)
            }
            extern "C" fn deinit() -> Answer {
                SLOT.deinit()
            }
            fn module() -> PluginRef {
                let describe = $crate::rt::describe::<$plugin>(
                    env!("CARGO_CRATE_NAME"),
                    env!("CARGO_PKG_VERSION"),
                    env!("CARGO_PKG_DESCRIPTION"),
                    &[$(&$table::TABLE),+],
                );
                PluginModule { describe, init, call, deinit }.leak_into_prefix()
            }
            extern "C" fn constructor() -> library::RootModuleResult {
                library::__call_root_module_loader(module)
            }
            // What #[export_root_module] expands to, less its demand that every tool names abi_stable
            // among its dependencies. The name is `abi_stable::library::ROOT_MODULE_LOADER_NAME`.
            // SAFETY: a shared library holds one plugin, so the name is taken once; the type is the
            // one that abi_stable looks for under it.
            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            static HEADER: library::LibHeader =
                // SAFETY: `constructor` makes the root module of the very type that is named here.
                unsafe {
                    library::LibHeader::from_constructor::<PluginRef>(
                        constructor,
                        library::CheckTypeLayout::Yes,
                    )
                };
            // The collector reads it from the file, before anything of the library runs.
            // SAFETY: as above; `plugin_api::abi::ISOLATED_SYMBOL` is no other item's name.
            #[unsafe(export_name = "collector_plugin_isolated")]
            static ISOLATED: u8 = <$plugin as $crate::Plugin>::ISOLATED as u8;
        };
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_exported_name_is_the_one_that_abi_stable_looks_for() {
        let name = abi_stable::library::ROOT_MODULE_LOADER_NAME;
        assert_eq!(name, "_1as_0lib_1header_0root_bmodule_bloader");
    }
}
