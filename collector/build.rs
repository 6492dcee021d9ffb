//! Lets the executables export what C plugins call in them. They are found by the dynamic linker, by name.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for symbol in [
        "beeQ_send",
        "beeQ_send_thread",
        "get_unity_proc",
        "get_unity_sys",
        "ksym_search",
        "ksym_setup",
        "plugin_init",
        "plugin_is_working",
        "plugin_stop",
        "plugin_thread_stop",
    ] {
        // No more than these: a plugin's own copy of a library would be taken over by the collector's.
        for kind in ["bins", "tests", "examples"] {
            println!("cargo::rustc-link-arg-{kind}=-Wl,--export-dynamic-symbol={symbol}");
        }
    }
}
