//! A plugin of another ABI: a root module that is not plugin-api's. For the collector's tests.
#![allow(missing_docs, reason = "abi_stable's derives generate undocumented items")]
use abi_stable::StableAbi;
use abi_stable::library::{
    __call_root_module_loader, CheckTypeLayout, LibHeader, RootModule, RootModuleResult,
};
use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::{declare_root_module_statics, std_types::RStr};

#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginRef, prefix_fields = PluginPrefix)))]
pub struct PluginModule {
    #[sabi(last_prefix_field)]
    pub describe: RStr<'static>,
    pub init: extern "C" fn(u64) -> u64,
}

impl RootModule for PluginRef {
    declare_root_module_statics! {PluginRef}
    const BASE_NAME: &'static str = "collector_plugin";
    const NAME: &'static str = "collector_plugin";
    // The major version of plugin-api, so that only the types tell. A test writes another one over it.
    const VERSION_STRINGS: VersionStrings = VersionStrings::new("1.77.777");
}

extern "C" fn init(x: u64) -> u64 {
    x
}

fn module() -> PluginRef {
    PluginModule { describe: RStr::from_str("{}"), init }.leak_into_prefix()
}

extern "C" fn constructor() -> RootModuleResult {
    __call_root_module_loader(module)
}

// SAFETY: this library's only item of the name; it has the type that abi_stable looks for under it.
#[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
static HEADER: LibHeader =
    // SAFETY: `constructor` makes the root module of the very type that is named here.
    unsafe { LibHeader::from_constructor::<PluginRef>(constructor, CheckTypeLayout::Yes) };
