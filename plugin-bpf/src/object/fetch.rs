//! Whether this kernel takes fetching atomics, found by loading a program that has one.

use libbpf_sys::{BPF_PROG_TYPE_SOCKET_FILTER, bpf_insn, bpf_prog_load};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::ptr;
use std::sync::OnceLock;

/// BPF_FETCH came with Linux 5.12 on x86-64 (5ffa25502b5a "bpf: Add instructions for atomic_[cmp]xchg"), and
/// with 5.18 on arm64, whose JIT refused it before.
pub(crate) fn has_fetching_atomics() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(loads)
}

fn instruction(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> bpf_insn {
    let mut insn = bpf_insn { code, off, imm, ..bpf_insn::default() };
    insn.set_dst_reg(dst);
    insn.set_src_reg(src);
    insn
}

fn loads() -> bool {
    const ADD_FETCH: i32 = 0x01;
    let program = [
        instruction(0x7a, 10, 0, -8, 0),         // *(u64 *)(r10 - 8) = 0
        instruction(0xb7, 0, 0, 0, 1),           // r0 = 1
        instruction(0xdb, 10, 0, -8, ADD_FETCH), // r0 = atomic_fetch_add((u64 *)(r10 - 8), r0)
        instruction(0x95, 0, 0, 0, 0),           // exit
    ];
    // SAFETY: the instructions outlive the call, which is told how many they are; names are C strings, and
    // no options are given.
    let fd = unsafe {
        bpf_prog_load(
            BPF_PROG_TYPE_SOCKET_FILTER,
            c"unity_fetch".as_ptr(),
            c"GPL".as_ptr(),
            program.as_ptr(),
            program.len() as libbpf_sys::size_t,
            ptr::null_mut(),
        )
    };
    if fd < 0 {
        return false;
    }
    // SAFETY: the descriptor is new and ours alone; it is closed here.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    true
}
