//! Functions and static probes of programs and libraries.

use super::Function;
use crate::object::print::listening;
use crate::object::reason_of;
use libbpf_rs::{Error, ErrorKind, Link, ProgramMut, UprobeOpts};
use std::path::Path;

/// libbpf's word for every process.
const EVERY_PROCESS: i32 = -1;

pub(super) fn uprobe(
    program: &ProgramMut<'_>,
    path: &Path,
    function: &Function,
    pid: Option<i32>,
) -> Result<Link, String> {
    let retprobe = program.section().to_string_lossy().starts_with("uretprobe");
    let (name, offset, what) = match function {
        Function::Named(name) => (Some(name.clone()), 0, format!("function `{name}`")),
        Function::At(offset) => (None, *offset, format!("offset {offset:#x}")),
    };
    let offset = usize::try_from(offset).map_err(|_| format!("{what} is too large"))?;
    let opts = UprobeOpts { retprobe, func_name: name, ..UprobeOpts::default() };
    let pid = pid.unwrap_or(EVERY_PROCESS);
    let (link, said) = listening(|| program.attach_uprobe_with_opts(pid, path, offset, opts));
    let list = "`nm FILE` and `nm -D FILE` list what it has";
    link.map_err(|error| refusal(path, &what, &said, &error, list))
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
