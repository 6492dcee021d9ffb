//! Functions and static probes of programs and libraries.

use super::Function;
use crate::elf::Elf;
use crate::object::print::listening;
use crate::object::reason_of;
use libbpf_rs::{Error, ErrorKind, Link, ProgramMut, UprobeMultiOpts, UprobeOpts};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::OnceLock;

/// libbpf's word for every process.
const EVERY_PROCESS: i32 = -1;

pub(super) fn uprobe(
    program: &ProgramMut<'_>,
    path: &Path,
    function: &Function,
    pid: Option<i32>,
) -> Result<Link, String> {
    let section = program.section().to_string_lossy();
    let (retprobe, session) =
        (section.starts_with("uretprobe"), section.starts_with("uprobe.session"));
    let (name, offset, what) = match function {
        Function::Named(name) => (Some(name.clone()), 0, format!("function `{name}`")),
        Function::At(offset) => (None, *offset, format!("offset {offset:#x}")),
        Function::Site(site) => (None, site.offset, format!("static probe at {:#x}", site.offset)),
    };
    let number = |offset: u64| usize::try_from(offset).map_err(|_| format!("{what} is too large"));
    let offset = number(offset)?;
    if (retprobe || session) && is_go(path) {
        return Err(format!(
            "{}: {what}: a program of Go moves its stacks, and a uretprobe would crash it",
            path.display()
        ));
    }
    let pid = pid.unwrap_or(EVERY_PROCESS);
    let (link, said) = if session {
        let offsets = if name.is_some() { Vec::new() } else { vec![offset] };
        let syms = name.into_iter().collect();
        let opts = UprobeMultiOpts { syms, offsets, session, ..UprobeMultiOpts::default() };
        listening(|| program.attach_uprobe_multi_with_opts(pid, path, "", opts))
    } else {
        let mut opts = UprobeOpts { retprobe, func_name: name, ..UprobeOpts::default() };
        if let Function::Site(site) = function {
            opts.ref_ctr_offset = number(site.semaphore)?;
            opts.cookie = site.argument.filter(|_| has_cookies()).map_or(0, |argument| argument.0);
        }
        listening(|| program.attach_uprobe_with_opts(pid, path, offset, opts))
    };
    let list = "`nm FILE` and `nm -D FILE` list what it has";
    link.map_err(|error| refusal(path, &what, &said, &error, list))
}

fn is_go(path: &Path) -> bool {
    // Not to wait for the other end of a FIFO.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    file.is_ok_and(|file| Elf::read(&file).is_ok_and(|elf| elf.is_go()))
}

/// Whether a program can ask which of its links it runs for: since Linux 5.15 (7adfc6c9b315 "bpf: Add
/// bpf_get_attach_cookie() BPF helper to access bpf_cookie value").
pub(in crate::attach) fn has_cookies() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let (kind, helper) =
            (libbpf_sys::BPF_PROG_TYPE_KPROBE, libbpf_sys::BPF_FUNC_get_attach_cookie);
        // SAFETY: two numbers, and no options.
        unsafe { libbpf_sys::libbpf_probe_bpf_helper(kind, helper, std::ptr::null()) == 1 }
    })
}

pub(super) fn usdt(
    program: &ProgramMut<'_>,
    path: &Path,
    provider: &str,
    name: &str,
    pid: Option<i32>,
) -> Result<Link, String> {
    let pid = pid.unwrap_or(EVERY_PROCESS);
    let (link, said) = listening(|| program.attach_usdt(pid, path, provider, name));
    let what = format!("static probe `{provider}:{name}`");
    let list = "`readelf -n FILE` lists what it has; some builds have none";
    link.map_err(|error| refusal(path, &what, &said, &error, list))
}

fn refusal(path: &Path, what: &str, said: &[String], error: &Error, list: &str) -> String {
    // libbpf is silent about a static probe that it does not find, and its words about a function ("'f' is 0 in
    // symtab") mislead. A kernel without uprobes makes it say more.
    let not_found =
        error.kind() == ErrorKind::NotFound && said.iter().all(|line| line.starts_with("elf: "));
    let file = path.display();
    if !path.exists() {
        format!("{file}: {what}: there is no such file")
    } else if not_found {
        format!("{file} has no {what}: {list}")
    } else {
        format!("{file}: {what}: {}", reason_of(said, error))
    }
}
