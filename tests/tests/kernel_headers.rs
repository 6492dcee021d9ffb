//! The kernel types of `plugin-bpf/bpf/kernel` against the running kernel's BTF, and `filter.bpf.h` on its
//! tasks.

#[path = "kernel_headers/filter.rs"]
mod filter;
#[path = "kernel_headers/types.rs"]
mod types;

plugin_bpf::skeleton!(headers);

/// The object file, as the build script left it.
const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/headers.plain.o"));
