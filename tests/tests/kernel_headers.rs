//! The kernel types of `plugin-bpf/bpf/kernel` against the running kernel's BTF, and `filter.bpf.h` on its
//! tasks.

#[path = "kernel_headers/filter.rs"]
mod filter;
#[path = "kernel_headers/types.rs"]
mod types;

#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    missing_docs,
    non_camel_case_types,
    unused_qualifications
)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/headers.skel.rs"));
}
