//! One try: a fresh object, some of its programs, this machine's sizes.

use super::Code;
use super::failure::Failure;
use super::prepare::prepare;
use super::print::listening;
use super::terms::Terms;
use crate::exact::CutKind;
use libbpf_rs::{Map, MapCore as _, Object, ObjectBuilder, OpenObject};
use plugin_api::Result;
use std::fs::File;
use std::os::fd::AsRawFd as _;

/// A loaded object.
pub struct Loaded {
    pub(crate) code: &'static Code,
    /// The histograms that are read by CPU.
    pub(crate) by_cpu: Vec<&'static str>,
    object: Object,
}

impl Loaded {
    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    /// The maps that were created. libbpf has a descriptor of no map for the others.
    pub(crate) fn maps(&self) -> impl Iterator<Item = Map<'_>> {
        self.object.maps().filter(|map| map.autocreate())
    }

    pub(crate) fn map(&self, name: &str) -> Option<Map<'_>> {
        self.maps().find(|map| map.name() == name)
    }
}

/// Opens an object and gives what lies in its `.rodata`.
pub(crate) fn rodata(code: &'static Code) -> Result<Vec<u8>, Failure> {
    let open = open(code, code.plain, None)?;
    let map = open.maps().find(|map| map.name().to_string_lossy().ends_with(".rodata"));
    Ok(map.and_then(|map| map.initial_value().map(<[u8]>::to_vec)).unwrap_or_default())
}

/// An object whose programs are chosen and whose maps have this machine's sizes.
pub(super) struct Ready {
    pub(super) open: OpenObject,
    /// libbpf opens it by its descriptor when the object is loaded.
    _btf: Option<File>,
}

/// Opens an object for the programs that are wanted.
pub(super) fn ready(code: &'static Code, terms: &Terms<'_>) -> Result<Ready, Failure> {
    let btf = terms.without_btf.then(empty_btf).transpose().map_err(Failure::of_object)?;
    let bytes = if terms.cut == CutKind::Fetch { code.fetch } else { code.plain };
    let mut open = open(code, bytes, btf.as_ref())?;
    for mut program in open.progs_mut() {
        let wanted = program.name().to_str().is_some_and(|name| terms.programs.contains(name));
        program.set_autoload(wanted);
    }
    prepare(&mut open, code, terms)?;
    Ok(Ready { open, _btf: btf })
}

impl Ready {
    pub(super) fn load(self) -> Result<Object, Failure> {
        let (object, warnings) = listening(|| self.open.load());
        object.map_err(|error| Failure::of_libbpf(&warnings, &error))
    }
}

/// Loads the programs that are wanted.
pub(crate) fn load(code: &'static Code, terms: &Terms<'_>) -> Result<Loaded, Failure> {
    let by_cpu = terms.settings.by_cpu.clone();
    Ok(Loaded { code, by_cpu, object: ready(code, terms)?.load()? })
}

fn open(code: &Code, bytes: &[u8], btf: Option<&File>) -> Result<OpenObject, Failure> {
    let mut builder = ObjectBuilder::default();
    builder.name(code.name).map_err(Failure::of_object)?;
    if let Some(btf) = btf {
        let path = format!("/proc/self/fd/{}", btf.as_raw_fd());
        builder.btf_custom_path(path).map_err(Failure::of_object)?;
    }
    let (open, warnings) = listening(|| builder.open_memory(bytes));
    open.map_err(|error| Failure::of_libbpf(&warnings, &error))
}

/// An empty BTF file (Documentation/bpf/btf.rst: a header and no types). As libbpf's "custom BTF" it
/// stands in for the kernel's, which libbpf would demand for the sake of programs that are not loaded.
fn empty_btf() -> Result<File> {
    use std::io::Write as _;
    use std::os::fd::FromRawFd as _;
    // SAFETY: the name is a C string; the result is checked below.
    let fd = unsafe { libc::memfd_create(c"empty.btf".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: the descriptor is new and ours alone.
    let mut file = unsafe { File::from_raw_fd(fd) };
    let mut btf = Vec::new();
    btf.extend(0xeb9fu16.to_ne_bytes()); // magic
    btf.extend([1, 0]); // version, flags
    for number in [24u32, 0, 0, 0, 1] {
        btf.extend(number.to_ne_bytes()); // header, types at and of, strings at and of
    }
    btf.push(0); // the empty string
    file.write_all(&btf)?;
    Ok(file)
}
