//! A plugin whose own thread goes on pushing between calls, which the safe API does not offer: it keeps
//! the host's vtable. For the collector's tests.
use plugin_api::abi::{HostCtx, PluginModule, PluginRef, Status, TICK_TIME, Val};
use plugin_api::abi_stable::library::{
    __call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult,
};
use plugin_api::abi_stable::prefix_type::PrefixTypeTrait;
use plugin_api::abi_stable::std_types::{RResult, RSlice, RStr};
use plugin_api::{Tick, abi::Answer};
use std::sync::Once;
use std::thread;
use std::time::Duration;

const DESCRIBE: &str = r#"{"name":"outside","version":"1.0.0","text":"Pushes outside of calls","options":[],
    "tables":[{"name":"outside","text":"","tags":[],"fields":[]}]}"#;

fn push(host: HostCtx) -> Status {
    let (name, fields) = (RStr::from_str("outside"), [RStr::from_str("count")]);
    let id = host.host.schema()(host.ctx, name, RSlice::EMPTY, RSlice::from_slice(&fields));
    let values = [Val::U64(1)];
    host.host.row()(host.ctx, id, RSlice::EMPTY, RSlice::from_slice(&values), TICK_TIME)
}

extern "C" fn init(_: HostCtx, _: RStr<'_>) -> Answer {
    RResult::ROk(())
}

extern "C" fn call(_: &Tick, host: HostCtx) -> Answer {
    static THREAD: Once = Once::new();
    THREAD.call_once(|| {
        thread::spawn(move || {
            loop {
                push(host);
                thread::sleep(Duration::from_millis(1));
            }
        });
    });
    push(host);
    RResult::ROk(())
}

extern "C" fn deinit() -> Answer {
    RResult::ROk(())
}

fn module() -> PluginRef {
    PluginModule { describe: RStr::from_str(DESCRIBE), init, call, deinit }.leak_into_prefix()
}

extern "C" fn constructor() -> RootModuleResult {
    __call_root_module_loader(module)
}

// SAFETY: this library's only item of the name; it has the type that abi_stable looks for under it.
#[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
static HEADER: LibHeader =
    // SAFETY: `constructor` makes the root module of the very type that is named here.
    unsafe { LibHeader::from_constructor::<PluginRef>(constructor, CheckTypeLayout::Yes) };
