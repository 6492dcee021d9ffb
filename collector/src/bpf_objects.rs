//! BPF objects of the whole machine, by their numbers. It takes CAP_SYS_ADMIN.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A program.
    Program,
    /// A map.
    Map,
    /// A link.
    Link,
}

/// `enum bpf_cmd` (include/uapi/linux/bpf.h).
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_MAP_GET_FD_BY_ID: libc::c_long = 14;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;
/// Where `struct bpf_prog_info` has the name, and how long it may be.
const NAME: usize = 64;
const NAME_LEN: usize = 16;

/// `union bpf_attr` of these commands.
#[repr(C)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

#[repr(C)]
struct Info {
    fd: u32,
    len: u32,
    info: u64,
}

fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the kernel reads and writes as many bytes of `attributes` as it is told.
    let answer = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    };
    i32::try_from(answer).ok().filter(|answer| *answer >= 0).ok_or_else(io::Error::last_os_error)
}

/// Opens the object of a number.
///
/// # Errors
/// There is none, or one may not see it.
pub fn open(kind: Kind, id: u32) -> io::Result<OwnedFd> {
    let command = match kind {
        Kind::Program => BPF_PROG_GET_FD_BY_ID,
        Kind::Map => BPF_MAP_GET_FD_BY_ID,
        Kind::Link => BPF_LINK_GET_FD_BY_ID,
    };
    let fd = bpf(command, &mut ById { id, next_id: 0, open_flags: 0 })?;
    // SAFETY: the kernel made this descriptor for us (with O_CLOEXEC), and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What a program is called.
///
/// # Errors
/// As [`open`].
pub fn program_name(id: u32) -> io::Result<String> {
    let program = open(Kind::Program, id)?;
    let mut info = [0_u8; NAME + NAME_LEN];
    let mut attributes = Info {
        fd: program.as_raw_fd().cast_unsigned(),
        len: info.len() as u32,
        info: info.as_mut_ptr().expose_provenance() as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes)?;
    let name = info[NAME..].split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}
