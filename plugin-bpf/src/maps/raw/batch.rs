//! Many entries in one call.
//!
//! What the kernel promises (kernel/bpf/hashtab.c `__htab_map_lookup_and_delete_batch`,
//! kernel/bpf/syscall.c `generic_map_lookup_batch`), and what readers of it like to get wrong:
//! - A batch may be short and not be the last one: a hash gives whole buckets only. The end is `ENOENT`,
//!   and that last batch has entries too.
//! - `ENOSPC`: the next bucket does not fit into an empty buffer. A larger one, and from the same token.
//! - `EINTR`, `EBUSY`: what was read so far is valid, and of `drain` gone from the map.
//! - The token is a `u32` for hashes and a key for arrays.

use super::super::Update;
use super::super::error::{ENOTSUPP, Refusal};
use super::sys::{Batch, Handle};
use super::{RETRIES, RawMap, is_transient, persist};
use libbpf_rs::MapType;
use plugin_api::{Result, bail, ensure};
use std::collections::HashSet;

/// Bytes of a batch, unless the map is smaller.
const BATCH_BYTES: usize = 256 * 1024;

/// Room for a batch, kept from one tick to the next.
#[derive(Default)]
pub(super) struct Buffers {
    keys: Vec<u8>,
    values: Vec<u8>,
    from: Vec<u8>,
    to: Vec<u8>,
}

/// Entries of the first batch; 0: key by key.
///
/// Newer kernels read tries in batches too, and give keys twice when one is removed meanwhile (seen
/// on 6.18).
pub(super) fn first_count(handle: &Handle) -> u32 {
    if !handle.kind.is_hash_map() && !matches!(handle.kind, MapType::Array | MapType::PercpuArray) {
        return 0;
    }
    let entry = handle.key_size + handle.value_len;
    ((BATCH_BYTES / entry.max(1)).max(16) as u32).min(handle.max_entries).max(1)
}

/// What to do after a batch was read.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Go on from the new token.
    Read,
    /// The same again.
    Again,
    /// The same with a larger buffer.
    Grow,
    /// Key by key: the kernel has no batches for this map.
    Walk,
    End,
    Fail(i32),
}

fn next(read: usize, result: Result<(), i32>, first: bool) -> Next {
    match result {
        Err(libc::ENOENT) => Next::End,
        Err(libc::ENOSPC) => Next::Grow,
        Err(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP) if first => Next::Walk,
        Ok(()) if read > 0 => Next::Read,
        Ok(()) => Next::Again, // not seen, but it must not loop for ever either
        Err(errno) if is_transient(errno) && read > 0 => Next::Read,
        Err(errno) if is_transient(errno) => Next::Again,
        Err(errno) => Next::Fail(errno),
    }
}

/// How many of the entries read are valid: on an error that the kernel finds before it begins, it
/// leaves the number as it was given.
fn valid(read: usize, result: Result<(), i32>) -> usize {
    match result {
        Ok(()) | Err(libc::ENOENT) => read,
        Err(errno) if is_transient(errno) => read,
        Err(_) => 0,
    }
}

impl RawMap {
    /// Shows every entry to `each`. Entries that come or go meanwhile may be among them or not; all
    /// others are, once (but for tries, see [`crate::maps::LpmTrie::for_each`]).
    ///
    /// # Errors
    /// The map has no keys, or the kernel refuses.
    pub fn lookup_batch(&self, each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        self.read("lookup_batch", each)
    }

    /// Takes every entry out of a hash (any of the four kinds) and shows it to `each`.
    ///
    /// Exact only when no program writes to the map: one that holds the pointer to a value while it
    /// is taken out adds to memory that nobody reads any more (measured on 6.18: 266 to 305 of
    /// 6,000,000 additions; keys are never lost). [`crate::Table`] drains the one of two maps that
    /// is not written. A key that is inserted meanwhile is shown, or stays for the next time.
    ///
    /// # Errors
    /// The map is no hash, or the kernel refuses; what `each` has not seen then stays.
    pub fn drain_batch(&mut self, each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        if !self.kind().is_hash_map() {
            return Err(self.failed("drain", Refusal::Errno(libc::EOPNOTSUPP)));
        }
        self.read("drain", each)
    }

    fn read(&self, operation: &'static str, each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        ensure!(self.key_size() > 0, "map `{}` has no keys: {operation}", self.name());
        let mut buffers = self.buffers.take();
        let result = self.read_into(&mut buffers, operation, each);
        self.buffers.set(buffers);
        result
    }

    fn read_into(
        &self,
        buffers: &mut Buffers,
        operation: &'static str,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<()> {
        let (key_size, value_len) = (self.key_size(), self.value_len());
        let take = operation == "drain";
        buffers.from.resize(self.handle.token_len(), 0);
        buffers.to.resize(self.handle.token_len(), 0);
        let (mut first, mut retries) = (true, 0);
        while self.batch.get() > 0 {
            let count = self.batch.get() as usize;
            buffers.keys.resize(count * key_size, 0);
            buffers.values.resize(count * value_len, 0);
            let Buffers { keys, values, from, to } = buffers;
            let from = (!first).then_some(from.as_slice());
            let (read, result) = self.handle.read_batch(take, from, to, keys, values);
            let read = valid(read, result);
            for (key, value) in
                keys.chunks_exact(key_size).zip(values.chunks_exact(value_len)).take(read)
            {
                each(key, value);
            }
            match next(read, result, first) {
                Next::Read => {
                    std::mem::swap(&mut buffers.from, &mut buffers.to);
                    (first, retries) = (false, 0);
                }
                Next::Again if retries < RETRIES => {
                    retries += 1;
                    std::thread::yield_now();
                }
                Next::Again => {
                    let refusal = Refusal::Errno(result.err().unwrap_or(libc::EAGAIN));
                    return Err(self.failed(operation, refusal));
                }
                Next::Grow => self.grow(operation)?,
                Next::Walk => self.batch.set(0),
                Next::End => return Ok(()),
                Next::Fail(errno) => return Err(self.failed(operation, Refusal::Errno(errno))),
            }
        }
        self.walk(buffers, operation, take, each)
    }

    /// Makes room for the bucket that did not fit. No bucket has more entries than the map.
    fn grow(&self, operation: &'static str) -> Result<()> {
        let count = self.batch.get();
        if count / 2 > self.max_entries().saturating_add(4096) {
            return Err(self.failed(operation, Refusal::Errno(libc::ENOSPC)));
        }
        self.batch.set(count.saturating_mul(2));
        Ok(())
    }

    /// Key by key, all keys first: one that is removed would send the kernel back to the first
    /// bucket.
    fn walk(
        &self,
        buffers: &mut Buffers,
        operation: &'static str,
        take: bool,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<()> {
        let Buffers { keys, values: value, .. } = buffers;
        self.collect_keys(keys, operation)?;
        value.resize(self.value_len(), 0);
        let mut seen = HashSet::new();
        for key in keys.chunks_exact(self.key_size()) {
            let found = seen.insert(key) && self.lookup(key, value)?;
            if found && (!take || self.delete(key)?) {
                each(key, value);
            }
        }
        Ok(())
    }

    /// All keys, some perhaps twice when others are removed meanwhile.
    fn collect_keys(&self, keys: &mut Vec<u8>, operation: &'static str) -> Result<()> {
        let size = self.key_size();
        let most = (self.max_entries() as usize).saturating_mul(4).saturating_add(64);
        keys.clear();
        for collected in 0..most {
            keys.resize((collected + 1) * size, 0);
            let (before, next) = keys.split_at_mut(collected * size);
            let after = before.len().checked_sub(size).map(|start| &before[start..]);
            if !self.next_key(after, next)? {
                keys.truncate(collected * size);
                return Ok(());
            }
        }
        bail!("map `{}`: {operation}: its keys change faster than they are read", self.name())
    }

    /// Writes entries, given one after the other; returns how many, less those that `update` rules
    /// out. One call for all with [`Update::Any`] only: the kernel takes no other flag there.
    ///
    /// # Errors
    /// A length is wrong, the map is full, or the kernel refuses for another reason; what was
    /// written until then stays.
    pub fn update_batch(&self, keys: &[u8], values: &[u8], update: Update) -> Result<usize> {
        let given = self.count_keys("update_batch", keys)?;
        let wanted = given * self.value_len();
        if values.len() != wanted {
            let refusal = Refusal::Value { given: values.len(), wanted };
            return Err(self.failed("update_batch", refusal));
        }
        let (size, len) = (self.key_size(), self.value_len());
        self.write(
            "update_batch",
            given,
            update == Update::Any,
            update.ruled_out(),
            |from| self.handle.write_batch(&keys[from * size..], Some(&values[from * len..])),
            |i| {
                let (key, value) = (&keys[i * size..][..size], &values[i * len..][..len]);
                self.handle.update(key, value, update.bits())
            },
        )
    }

    /// Removes keys, given one after the other; returns how many were there.
    ///
    /// # Errors
    /// A length is wrong, or the kernel refuses, as it does for arrays; what was removed until then
    /// is gone.
    pub fn delete_batch(&self, keys: &[u8]) -> Result<usize> {
        let given = self.count_keys("delete_batch", keys)?;
        let size = self.key_size();
        self.write(
            "delete_batch",
            given,
            true,
            Some(libc::ENOENT),
            |from| self.handle.write_batch(&keys[from * size..], None),
            |i| self.handle.delete(&keys[i * size..][..size]),
        )
    }

    fn count_keys(&self, operation: &'static str, keys: &[u8]) -> Result<usize> {
        let (given, wanted) = (keys.len(), self.key_size());
        if wanted == 0 || !given.is_multiple_of(wanted) {
            return Err(self.failed(operation, Refusal::Key { given, wanted }));
        }
        Ok(given / wanted)
    }

    /// Does `batch` from the first entry that is not done, or `single` for each, until all `given`
    /// ones are done or skipped.
    fn write(
        &self,
        operation: &'static str,
        given: usize,
        mut batches: bool,
        skipped: Option<i32>,
        batch: impl Fn(usize) -> Batch,
        single: impl Fn(usize) -> Result<(), Refusal>,
    ) -> Result<usize> {
        let (mut at, mut written, mut retries) = (0, 0, 0);
        batches &= self.batch.get() > 0;
        while at < given {
            let (done, result) = if batches {
                batch(at)
            } else {
                match persist(|| single(at)) {
                    Ok(()) => (1, Ok(())),
                    Err(Refusal::Errno(errno)) => (0, Err(errno)),
                    Err(refusal) => return Err(self.failed(operation, refusal)),
                }
            };
            at += done;
            written += done;
            match result {
                Ok(()) => retries = 0,
                Err(errno) if skipped == Some(errno) => at += 1,
                Err(errno) if is_transient(errno) && retries < RETRIES => {
                    retries = if done > 0 { 0 } else { retries + 1 };
                    std::thread::yield_now();
                }
                Err(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP) if at == 0 && batches => {
                    batches = false
                }
                Err(errno) => return Err(self.failed(operation, Refusal::Errno(errno))),
            }
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_batch() {
        let cases = [
            ((5, Ok(()), true), Next::Read),
            ((0, Ok(()), false), Next::Again),
            ((5, Err(libc::ENOENT), false), Next::End),
            ((0, Err(libc::ENOSPC), true), Next::Grow),
            ((5, Err(libc::EBUSY), false), Next::Read),
            ((0, Err(libc::EINTR), false), Next::Again),
            ((0, Err(ENOTSUPP), true), Next::Walk),
            ((0, Err(libc::EINVAL), true), Next::Walk),
            ((0, Err(libc::EINVAL), false), Next::Fail(libc::EINVAL)),
            ((0, Err(libc::EFAULT), true), Next::Fail(libc::EFAULT)),
        ];
        for ((read, result, first), then) in cases {
            assert_eq!(next(read, result, first), then, "{read} {result:?} {first}");
        }
    }

    #[test]
    fn entries_count_only_where_the_kernel_wrote_the_number() {
        assert_eq!(valid(7, Ok(())), 7);
        assert_eq!(valid(7, Err(libc::ENOENT)), 7);
        assert_eq!(valid(7, Err(libc::EINTR)), 7);
        assert_eq!(valid(7, Err(libc::EINVAL)), 0);
        assert_eq!(valid(7, Err(libc::ENOSPC)), 0);
    }
}
