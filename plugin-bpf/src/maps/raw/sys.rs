//! The calls into the kernel and libbpf: all of this folder's unsafe code.
//!
//! Each checks that the buffers are as long as the kernel will take them to be, and only then lets
//! it see them.

use super::made::remember;
use crate::Record;
use crate::maps::error::Refusal;
use libbpf_rs::{ErrorExt as _, MapInfo, MapType, num_possible_cpus};
use libbpf_sys::bpf_map_batch_opts;
use plugin_api::{Result, anyhow, ensure};
use std::ffi::{CString, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};

/// A map's descriptor, and the sizes that the kernel gave for it.
pub(super) struct Handle {
    fd: Arc<OwnedFd>,
    pub(super) kind: MapType,
    pub(super) key_size: usize,
    /// As declared.
    pub(super) value_size: usize,
    /// What the kernel reads and writes: of a per-CPU map every possible CPU's value.
    pub(super) value_len: usize,
    /// Values in `value_len`: 1, or the number of possible CPUs.
    pub(super) cpus: usize,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
    pub(super) id: u32,
    pub(super) name: String,
}

/// What came of a batch: the entries done, and the error that ended it.
pub(super) type Batch = (usize, Result<(), i32>);

impl Handle {
    /// A descriptor that is a map's.
    pub(super) fn new(fd: OwnedFd) -> Result<Self> {
        let info = MapInfo::new(fd.as_fd()).context("cannot ask the kernel about a map")?;
        let kind = info.map_type();
        let value_size = info.info.value_size as usize;
        // Of an unknown kind it is not known either how much the kernel writes.
        ensure!(kind != MapType::Unknown, "unknown kind of map {}", info.info.type_);
        let (cpus, value_len) = if kind.is_percpu() {
            let cpus = num_possible_cpus().context("cannot count the possible CPUs")?;
            (cpus, cpus * value_size.next_multiple_of(8))
        } else {
            (1, value_size)
        };
        Ok(Self {
            kind,
            key_size: info.info.key_size as usize,
            value_size,
            value_len,
            cpus,
            max_entries: info.info.max_entries,
            flags: info.info.map_flags,
            id: info.info.id,
            name: info.name().unwrap_or_default().to_owned(),
            fd: Arc::new(fd),
        })
    }

    /// Makes a map; `inner` is what the maps in a map-in-map look like.
    pub(super) fn create(
        kind: MapType,
        name: &str,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        flags: u32,
        inner: Option<&Self>,
    ) -> Result<Self> {
        let c_name = CString::new(name)?;
        let opts = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            map_flags: flags,
            inner_map_fd: inner.map_or(0, Self::raw_fd) as u32,
            ..Default::default()
        };
        // SAFETY: the name is a C string and the options a struct of the size that it says; libbpf
        // copies both.
        let fd = unsafe {
            libbpf_sys::bpf_map_create(
                kind.into(),
                c_name.as_ptr(),
                key_size,
                value_size,
                max_entries,
                &raw const opts,
            )
        };
        let fd = owned(fd).map_err(|error| anyhow!("map `{name}` cannot be made: {error}"))?;
        let handle = Self::new(fd)?;
        remember(&handle.fd);
        Ok(handle)
    }

    /// Another descriptor of the map with this id; `None` when it is gone.
    pub(super) fn by_id(id: u32) -> Result<Option<Self>> {
        // SAFETY: takes a number and touches no memory of ours.
        match owned(unsafe { libbpf_sys::bpf_map_get_fd_by_id(id) }) {
            Ok(fd) => Self::new(fd).map(Some),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(anyhow!("the map with id {id} cannot be opened: {error}")),
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn check_key(&self, key: &[u8]) -> Result<(), Refusal> {
        let (given, wanted) = (key.len(), self.key_size);
        if given == wanted { Ok(()) } else { Err(Refusal::Key { given, wanted }) }
    }

    fn check_value(&self, value: &[u8]) -> Result<(), Refusal> {
        let (given, wanted) = (value.len(), self.value_len);
        if given == wanted { Ok(()) } else { Err(Refusal::Value { given, wanted }) }
    }

    pub(super) fn lookup(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), Refusal> {
        self.check_key(key)?;
        self.check_value(value)?;
        // SAFETY: the kernel reads a key and writes a value, whose sizes were checked.
        done(unsafe {
            libbpf_sys::bpf_map_lookup_elem_flags(
                self.raw_fd(),
                key_ptr(key),
                value.as_mut_ptr().cast(),
                flags,
            )
        })
    }

    pub(super) fn lookup_and_delete(&self, key: &[u8], value: &mut [u8]) -> Result<(), Refusal> {
        self.check_key(key)?;
        self.check_value(value)?;
        // SAFETY: as for `lookup`.
        done(unsafe {
            libbpf_sys::bpf_map_lookup_and_delete_elem(
                self.raw_fd(),
                key_ptr(key),
                value.as_mut_ptr().cast(),
            )
        })
    }

    pub(super) fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Refusal> {
        self.check_key(key)?;
        self.check_value(value)?;
        // SAFETY: the kernel reads a key and a value, whose sizes were checked.
        done(unsafe {
            libbpf_sys::bpf_map_update_elem(
                self.raw_fd(),
                key_ptr(key),
                value.as_ptr().cast(),
                flags,
            )
        })
    }

    pub(super) fn delete(&self, key: &[u8]) -> Result<(), Refusal> {
        self.check_key(key)?;
        // SAFETY: the kernel reads a key, whose size was checked.
        done(unsafe { libbpf_sys::bpf_map_delete_elem(self.raw_fd(), key_ptr(key)) })
    }

    pub(super) fn next_key(&self, after: Option<&[u8]>, next: &mut [u8]) -> Result<(), Refusal> {
        self.check_key(next)?;
        after.map_or(Ok(()), |key| self.check_key(key))?;
        // SAFETY: the kernel reads a key unless it is null, and writes one; both sizes were
        // checked.
        done(unsafe {
            libbpf_sys::bpf_map_get_next_key(
                self.raw_fd(),
                after.map_or(ptr::null(), key_ptr),
                next.as_mut_ptr().cast(),
            )
        })
    }

    /// How long the kernel's note on where a batch ended may be: a `u32` for hashes, a key for
    /// others.
    pub(super) fn token_len(&self) -> usize {
        self.key_size.max(4)
    }

    /// Reads, and takes out if `take`, as many entries as fit into the buffers, from where the
    /// token `from` says.
    pub(super) fn read_batch(
        &self,
        take: bool,
        from: Option<&[u8]>,
        to: &mut [u8],
        keys: &mut [u8],
        values: &mut [u8],
    ) -> Batch {
        let room = keys.len() / self.key_size;
        assert_eq!(values.len(), room * self.value_len, "a value for every key");
        assert!(from.is_none_or(|token| token.len() == self.token_len()), "the token's length");
        assert_eq!(to.len(), self.token_len(), "the token's length");
        let mut count = room as u32;
        let opts = batch_opts();
        let call = if take {
            libbpf_sys::bpf_map_lookup_and_delete_batch
        } else {
            libbpf_sys::bpf_map_lookup_batch
        };
        // SAFETY: the kernel reads one token and writes the other, and at most `count` keys and
        // values, whose room was checked. libbpf declares `in_batch` mutable but only passes it on
        // to be read.
        let result = errno(unsafe {
            call(
                self.raw_fd(),
                from.map_or(ptr::null_mut(), |token| token.as_ptr().cast_mut().cast()),
                to.as_mut_ptr().cast(),
                keys.as_mut_ptr().cast(),
                values.as_mut_ptr().cast(),
                &raw mut count,
                &raw const opts,
            )
        });
        ((count as usize).min(room), result)
    }

    /// Writes, or removes when there are no values, as many of the entries as the kernel takes.
    pub(super) fn write_batch(&self, keys: &[u8], values: Option<&[u8]>) -> Batch {
        let given = keys.len() / self.key_size;
        let mut count = given as u32;
        let opts = batch_opts();
        let result = if let Some(values) = values {
            assert_eq!(values.len(), given * self.value_len, "a value for every key");
            // SAFETY: the kernel reads `count` keys and values, whose lengths were checked.
            errno(unsafe {
                libbpf_sys::bpf_map_update_batch(
                    self.raw_fd(),
                    keys.as_ptr().cast(),
                    values.as_ptr().cast(),
                    &raw mut count,
                    &raw const opts,
                )
            })
        } else {
            // SAFETY: the kernel reads `count` keys, which are there.
            errno(unsafe {
                libbpf_sys::bpf_map_delete_batch(
                    self.raw_fd(),
                    keys.as_ptr().cast(),
                    &raw mut count,
                    &raw const opts,
                )
            })
        };
        match result {
            Ok(()) => (given, Ok(())),
            // Refused before the first one, the kernel leaves the number as it was.
            Err(_) if count as usize >= given => (0, result),
            Err(_) => (count as usize, result),
        }
    }
}

/// The kernel wants no key at all for a map without keys.
fn key_ptr(key: &[u8]) -> *const c_void {
    if key.is_empty() { ptr::null() } else { key.as_ptr().cast() }
}

fn batch_opts() -> bpf_map_batch_opts {
    let sz = size_of::<bpf_map_batch_opts>() as libbpf_sys::size_t;
    bpf_map_batch_opts { sz, ..Default::default() }
}

/// libbpf returns a negative error number.
fn errno(returned: c_int) -> Result<(), i32> {
    if returned < 0 { Err(-returned) } else { Ok(()) }
}

fn done(returned: c_int) -> Result<(), Refusal> {
    errno(returned).map_err(Refusal::Errno)
}

fn owned(fd: RawFd) -> std::io::Result<OwnedFd> {
    if fd < 0 {
        return Err(std::io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: libbpf returned a descriptor that it just opened for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A record that `fill` writes the bytes of, unless it says that there is none.
pub(in crate::maps) fn record<T: Record>(
    fill: impl FnOnce(&mut [u8]) -> Result<bool>,
) -> Result<Option<T>> {
    let mut record = MaybeUninit::<T>::zeroed();
    // SAFETY: these are the record's bytes, all initialised, borrowed until `fill` returns.
    let bytes =
        unsafe { std::slice::from_raw_parts_mut(record.as_mut_ptr().cast::<u8>(), size_of::<T>()) };
    // SAFETY: every byte is initialised, and every pattern of bytes is a record.
    Ok(fill(bytes)?.then(|| unsafe { record.assume_init() }))
}

/// Gets what libbpf reads out of a perf buffer, in C's frames: must not panic.
pub(in crate::maps) trait PerfSink: Send + 'static {
    /// A record of a CPU, with up to 7 bytes of padding behind it.
    fn record(&mut self, cpu: u32, bytes: &[u8]);
    /// A CPU's buffer was full this many times.
    fn lost(&mut self, cpu: u32, records: u64);
}

/// A perf buffer of libbpf: a ring for every online CPU. (libbpf-rs makes one of its own maps
/// only.)
pub(in crate::maps) struct PerfRings<S> {
    ptr: NonNull<libbpf_sys::perf_buffer>,
    sink: Arc<Mutex<S>>,
    // libbpf takes its rings out of the map when it frees them.
    _map: OwnedFd,
}

// SAFETY: libbpf's perf buffer has no thread affinity, and `&mut self` keeps threads apart; the
// sink is `Send`.
unsafe impl<S: PerfSink> Send for PerfRings<S> {}

impl<S: PerfSink> PerfRings<S> {
    /// Opens rings of `pages` memory pages, a power of two, and puts them into the map.
    pub(in crate::maps) fn new(map: OwnedFd, pages: usize, sink: S) -> std::io::Result<Self> {
        let sink = Arc::new(Mutex::new(sink));
        // SAFETY: libbpf calls back in `consume` only, while `self` keeps the sink alive.
        let ptr = unsafe {
            libbpf_sys::perf_buffer__new(
                map.as_raw_fd(),
                pages as libbpf_sys::size_t,
                Some(perf_record::<S>),
                Some(perf_lost::<S>),
                Arc::as_ptr(&sink).cast_mut().cast(),
                ptr::null(),
            )
        };
        let ptr = NonNull::new(ptr).ok_or_else(std::io::Error::last_os_error)?;
        Ok(Self { ptr, sink, _map: map })
    }

    /// Rings, numbered from 0.
    pub(in crate::maps) fn len(&self) -> usize {
        // SAFETY: the buffer lives as long as `self`.
        unsafe { libbpf_sys::perf_buffer__buffer_cnt(self.ptr.as_ptr()) as usize }
    }

    /// Gives the sink what a ring holds now; what comes meanwhile waits for the next time.
    pub(in crate::maps) fn consume(&mut self, ring: usize) -> Result<(), i32> {
        // SAFETY: the buffer lives as long as `self`; libbpf checks the number.
        errno(unsafe {
            libbpf_sys::perf_buffer__consume_buffer(self.ptr.as_ptr(), ring as libbpf_sys::size_t)
        })
    }

    /// Works on the sink.
    pub(in crate::maps) fn sink<T>(&mut self, work: impl FnOnce(&mut S) -> T) -> T {
        work(&mut self.sink.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S> Drop for PerfRings<S> {
    fn drop(&mut self) {
        // SAFETY: `new` made it, and nobody uses it any more.
        unsafe { libbpf_sys::perf_buffer__free(self.ptr.as_ptr()) };
    }
}

unsafe extern "C" fn perf_record<S: PerfSink>(
    sink: *mut c_void,
    cpu: c_int,
    data: *mut c_void,
    size: u32,
) {
    // SAFETY: the pointer that `PerfRings::new` gave, whose sink is alive while it consumes.
    let sink = unsafe { &*sink.cast::<Mutex<S>>() };
    // SAFETY: libbpf lends a record of this size for the time of the call.
    let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size as usize) };
    sink.lock().unwrap_or_else(PoisonError::into_inner).record(cpu as u32, bytes);
}

unsafe extern "C" fn perf_lost<S: PerfSink>(sink: *mut c_void, cpu: c_int, records: u64) {
    // SAFETY: as for `perf_record`.
    let sink = unsafe { &*sink.cast::<Mutex<S>>() };
    sink.lock().unwrap_or_else(PoisonError::into_inner).lost(cpu as u32, records);
}
