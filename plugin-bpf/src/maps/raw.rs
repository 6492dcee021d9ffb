//! A map as bytes.

mod batch;
mod made;
mod sys;

use super::error::{MapError, Refusal};
use super::{Update, check};
use batch::Buffers;
use libbpf_rs::{MapCore, MapType};
pub(crate) use made::made_here;
use plugin_api::{Context as _, Result};
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};
use sys::Handle;
pub(super) use sys::{PerfRings, PerfSink, record};

/// How often an operation is tried again that the kernel put off.
const RETRIES: u32 = 1000;

/// A map of any kind by its own descriptor, read and written as bytes.
///
/// For kinds of maps and ways to use them that the typed readers leave out; each of them is made of
/// one. Keys and values are as long as the map's, which is checked before the kernel sees them. A
/// value of a per-CPU map is [`RawMap::value_len`] bytes: one for every possible CPU,
/// [`RawMap::stride`] bytes apart.
pub struct RawMap {
    handle: Handle,
    name: String,
    /// Entries in a batch; 0: read key by key.
    batch: Cell<u32>,
    buffers: Cell<Buffers>,
}

impl RawMap {
    /// A map of a loaded skeleton (or a [`libbpf_rs::MapHandle`]), by a duplicate of its
    /// descriptor.
    ///
    /// # Errors
    /// The process has no descriptor left, or the map is of a kind that this version does not know.
    pub fn of(map: &dyn MapCore) -> Result<Self> {
        let name = map.name().to_string_lossy().into_owned();
        let fd = map.as_fd().try_clone_to_owned();
        let fd = fd.with_context(|| format!("map `{name}`: no descriptor"))?;
        let handle = Handle::new(fd).with_context(|| format!("map `{name}`"))?;
        Ok(Self::new(handle, name))
    }

    /// Makes a map. `flags` are those of `BPF_MAP_CREATE`; the kernel keeps 15 bytes of the name.
    ///
    /// # Errors
    /// The kernel refuses: a size that the kind does not have, a kind that it does not know, too
    /// little memory or privilege.
    pub fn create(
        kind: MapType,
        name: &str,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        flags: u32,
    ) -> Result<Self> {
        let handle = Handle::create(kind, name, key_size, value_size, max_entries, flags, None)?;
        Ok(Self::new(handle, name.to_owned()))
    }

    /// Makes an array or hash of maps that look like `inner`.
    ///
    /// # Errors
    /// As for [`RawMap::create`].
    pub fn create_outer(
        kind: MapType,
        name: &str,
        key_size: u32,
        max_entries: u32,
        inner: &Self,
    ) -> Result<Self> {
        let inner = Some(&inner.handle);
        let handle = Handle::create(kind, name, key_size, 4, max_entries, 0, inner)?;
        Ok(Self::new(handle, name.to_owned()))
    }

    /// The map with this id, `None` when there is none (any more). Needs `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn by_id(id: u32) -> Result<Option<Self>> {
        Ok(Handle::by_id(id)?.map(|handle| {
            let name = handle.name.clone();
            Self::new(handle, name)
        }))
    }

    /// The same map by another descriptor, for another thread.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = self.as_fd().try_clone_to_owned();
        let fd = fd.with_context(|| format!("map `{}`: no descriptor", self.name))?;
        Ok(Self::new(Handle::new(fd)?, self.name.clone()))
    }

    fn new(handle: Handle, name: String) -> Self {
        let batch = Cell::new(batch::first_count(&handle));
        Self { handle, name, batch, buffers: Cell::default() }
    }

    /// Lets a batch begin with room for `count` entries, and 0 read key by key; for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn with_batch(self, count: u32) -> Self {
        self.batch.set(count);
        self
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> MapType {
        self.handle.kind
    }

    /// Its name; of a map that is known by id only, the 15 bytes that the kernel keeps.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kernel's number for it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.handle.id
    }

    /// Bytes of a key; 0 for a map without keys.
    #[must_use]
    pub fn key_size(&self) -> usize {
        self.handle.key_size
    }

    /// Bytes of a value, as it was declared.
    #[must_use]
    pub fn value_size(&self) -> usize {
        self.handle.value_size
    }

    /// Bytes of all that the kernel reads and writes for one key.
    #[must_use]
    pub fn value_len(&self) -> usize {
        self.handle.value_len
    }

    /// Bytes from one CPU's value to the next one's: the value's size, rounded up to a multiple of
    /// 8.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.handle.value_len / self.handle.cpus
    }

    /// Values for one key: the possible CPUs of a per-CPU map, 1 for others.
    #[must_use]
    pub fn cpus(&self) -> usize {
        self.handle.cpus
    }

    /// Entries that it has room for; bytes of a ring buffer.
    #[must_use]
    pub fn max_entries(&self) -> u32 {
        self.handle.max_entries
    }

    /// The flags that it was made with (`BPF_F_NO_PREALLOC`...).
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.handle.flags
    }

    /// Reads the value of a key; false when there is none.
    ///
    /// # Errors
    /// A length is wrong, or the kernel refuses.
    pub fn lookup(&self, key: &[u8], value: &mut [u8]) -> Result<bool> {
        self.lookup_with(key, value, 0)
    }

    /// The same with flags: `BPF_F_LOCK` (Linux 5.1) takes the value's `bpf_spin_lock`.
    ///
    /// # Errors
    /// As for [`RawMap::lookup`].
    pub fn lookup_with(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<bool> {
        self.found("lookup", persist(|| self.handle.lookup(key, value, flags)))
    }

    /// Writes a value; false when `update` rules it out.
    ///
    /// # Errors
    /// A length is wrong, the map is full, or the kernel refuses for another reason.
    pub fn update(&self, key: &[u8], value: &[u8], update: Update) -> Result<bool> {
        match self.try_update(key, value, update.bits()) {
            Ok(()) => Ok(true),
            Err(Refusal::Errno(errno)) if update.ruled_out() == Some(errno) => Ok(false),
            Err(refusal) => Err(self.failed("update", refusal)),
        }
    }

    pub(super) fn try_update(&self, key: &[u8], value: &[u8], bits: u64) -> Result<(), Refusal> {
        persist(|| self.handle.update(key, value, bits))
    }

    /// Removes a key; false when it was not there.
    ///
    /// # Errors
    /// A length is wrong, or the kernel refuses, as it does for arrays.
    pub fn delete(&self, key: &[u8]) -> Result<bool> {
        self.found("delete", persist(|| self.handle.delete(key)))
    }

    /// Reads the value of a key and removes it; false when there is none. Queues and stacks (Linux
    /// 4.20; without a key) and the four kinds of hashes (5.14).
    ///
    /// # Errors
    /// A length is wrong, or the kernel refuses.
    pub fn lookup_and_delete(&self, key: &[u8], value: &mut [u8]) -> Result<bool> {
        self.found("lookup_and_delete", persist(|| self.handle.lookup_and_delete(key, value)))
    }

    /// Writes the key that follows `after` (of none: the first one) in the kernel's order into
    /// `next`; false at the end. When `after` was removed meanwhile a hash begins anew with the
    /// first one, so collect keys before you delete.
    ///
    /// # Errors
    /// A length is wrong, or the kernel refuses.
    pub fn next_key(&self, after: Option<&[u8]>, next: &mut [u8]) -> Result<bool> {
        self.found("get_next_key", persist(|| self.handle.next_key(after, next)))
    }

    /// "Not there" is no failure.
    fn found(&self, operation: &'static str, result: Result<(), Refusal>) -> Result<bool> {
        match result {
            Ok(()) => Ok(true),
            Err(Refusal::Errno(libc::ENOENT)) => Ok(false),
            Err(refusal) => Err(self.failed(operation, refusal)),
        }
    }

    pub(super) fn failed(&self, operation: &'static str, refusal: Refusal) -> plugin_api::Error {
        MapError::new(operation, &self.name, self.kind(), self.max_entries(), refusal).into()
    }

    /// Passes the map on if it is one that `Reader` reads.
    pub(super) fn read_as<Reader>(
        self,
        kinds: &[MapType],
        key: usize,
        value: usize,
    ) -> Result<Self> {
        check::<Reader>(&self, kinds, key, value)?;
        Ok(self)
    }
}

impl AsFd for RawMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.fd()
    }
}

/// Whether the kernel asks to try again: another one holds the bucket's lock (`EBUSY` from 5.11,
/// 20b6cc34ea74 "bpf: Avoid hashtab deadlock with map_locked"; since 6.15 `EDEADLK` and `ETIMEDOUT`
/// of the lock that came in its place), or the entry went away while it was read (`EINTR`,
/// `EAGAIN`).
fn is_transient(errno: i32) -> bool {
    matches!(errno, libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::EDEADLK | libc::ETIMEDOUT)
}

/// Tries again, for a while, what the kernel put off.
fn persist(mut operation: impl FnMut() -> Result<(), Refusal>) -> Result<(), Refusal> {
    let mut retries = 0;
    loop {
        match operation() {
            Err(Refusal::Errno(errno)) if is_transient(errno) && retries < RETRIES => {
                retries += 1;
                std::thread::yield_now();
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_puts_off_is_tried_again_but_not_for_ever() {
        let mut left = 3;
        let done = persist(|| {
            left -= 1;
            if left > 0 { Err(Refusal::Errno(libc::EBUSY)) } else { Ok(()) }
        });
        assert_eq!((done, left), (Ok(()), 0));

        let mut tries = 0;
        let given_up = persist(|| {
            tries += 1;
            Err(Refusal::Errno(libc::EAGAIN))
        });
        assert_eq!((given_up, tries), (Err(Refusal::Errno(libc::EAGAIN)), RETRIES + 1));

        let refused = persist(|| Err(Refusal::Errno(libc::E2BIG)));
        assert_eq!(refused, Err(Refusal::Errno(libc::E2BIG)));
    }

    #[test]
    fn a_raw_map_moves_to_another_thread() {
        fn is_send<T: Send + 'static>() {}
        is_send::<RawMap>();
    }
}
