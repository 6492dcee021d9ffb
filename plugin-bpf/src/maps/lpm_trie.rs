//! Longest prefix match.

use super::raw::record;
use super::{RawMap, Update};
use crate::Record;
use crate::object::record::{bytes, from_bytes};
use libbpf_rs::{MapCore, MapType};
use plugin_api::{Result, ensure};
use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest key that the kernel takes: a length of 4 bytes, and 256 bytes (`LPM_DATA_SIZE_MAX`).
const LONGEST: usize = 4 + 256;

/// The first bits of `N` bytes: a network.
///
/// In BPF `struct { __u32 bits; __u8 data[N]; }`, the data in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix<const N: usize> {
    /// How many bits count, at most 8 `N`.
    pub bits: u32,
    /// The bytes; bits past the prefix are kept but never compared.
    pub data: [u8; N],
}

impl Prefix<4> {
    /// A network of IPv4: `Prefix::v4(Ipv4Addr::new(10, 0, 0, 0), 8)`.
    #[must_use]
    pub fn v4(address: Ipv4Addr, bits: u32) -> Self {
        Self { bits, data: address.octets() }
    }
}

impl Prefix<16> {
    /// A network of IPv6.
    #[must_use]
    pub fn v6(address: Ipv6Addr, bits: u32) -> Self {
        Self { bits, data: address.octets() }
    }
}

/// A single address, to look up.
impl From<Ipv4Addr> for Prefix<4> {
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(address, 32)
    }
}

/// A single address, to look up.
impl From<Ipv6Addr> for Prefix<16> {
    fn from(address: Ipv6Addr) -> Self {
        Self::v6(address, 128)
    }
}

/// A trie of prefixes: which network an address belongs to.
///
/// `LpmTrie<V>` is for IPv4 (keys of 8 bytes), `LpmTrie<V, 16>` for IPv6 (of 20). The tool writes
/// the networks, programs look addresses up. The map must be declared with `BPF_F_NO_PREALLOC`.
///
/// There is no reset: programs seldom write here, and one that holds a value while it is replaced
/// adds to the old one. Count what the lookup finds in [`crate::Counters`], with the value as the
/// index.
pub struct LpmTrie<V, const N: usize = 4> {
    raw: RawMap,
    _type: PhantomData<fn() -> V>,
}

impl<V: Record, const N: usize> LpmTrie<V, N> {
    /// Reads a map of a loaded skeleton.
    ///
    /// # Errors
    /// It is of another kind, or its keys or values are of another size.
    pub fn of(map: &dyn MapCore) -> Result<Self> {
        Self::from_raw(RawMap::of(map)?)
    }

    /// Reads a map that is known by its descriptor.
    ///
    /// # Errors
    /// As for [`LpmTrie::of`].
    pub fn from_raw(raw: RawMap) -> Result<Self> {
        let raw = raw.read_as::<Self>(&[MapType::LpmTrie], 4 + N, size_of::<V>())?;
        Ok(Self { raw, _type: PhantomData })
    }

    /// The value of the longest prefix in the trie that this one (mostly a whole address) begins
    /// with.
    ///
    /// # Errors
    /// The prefix has more bits than bytes for them, or the kernel refuses.
    pub fn lookup(&self, prefix: &Prefix<N>) -> Result<Option<V>> {
        with_key(prefix, |key| record(|value| self.raw.lookup(key, value)))
    }

    /// Writes the value of exactly this prefix; false when `update` rules it out.
    ///
    /// # Errors
    /// The prefix has more bits than bytes for them, the trie is full ([`super::MapError::errno`]
    /// is `ENOSPC`), or the kernel refuses for another reason.
    pub fn update(&self, prefix: &Prefix<N>, value: &V, update: Update) -> Result<bool> {
        with_key(prefix, |key| self.raw.update(key, bytes(value), update))
    }

    /// Removes exactly this prefix; false when it was not there.
    ///
    /// # Errors
    /// The prefix has more bits than bytes for them, or the kernel refuses.
    pub fn delete(&self, prefix: &Prefix<N>) -> Result<bool> {
        with_key(prefix, |key| self.raw.delete(key))
    }

    /// Shows every prefix to `each`, longer ones before shorter ones that hold them.
    ///
    /// For a trie that nobody changes meanwhile. Else the kernel may leave out even one that stays
    /// (4 of 20,000 readings beside a thread that inserted and removed without pause, on 6.18), and
    /// one that goes may come with the value of a shorter one, for there is no other lookup.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn for_each(&self, mut each: impl FnMut(Prefix<N>, V)) -> Result<()> {
        self.raw.lookup_batch(|key, value| {
            let prefix = Prefix { bits: from_bytes(key), data: from_bytes(&key[4..]) };
            each(prefix, from_bytes(value));
        })
    }

    /// The bytes beneath, for what is not offered here.
    #[must_use]
    pub fn raw(&self) -> &RawMap {
        &self.raw
    }
}

fn with_key<const N: usize, T>(
    prefix: &Prefix<N>,
    work: impl FnOnce(&[u8]) -> Result<T>,
) -> Result<T> {
    let bits = prefix.bits;
    ensure!(bits as usize <= 8 * N, "a prefix of {bits} bits of {N} bytes");
    let mut key = [0; LONGEST];
    key[..4].copy_from_slice(&bits.to_ne_bytes());
    key[4..4 + N].copy_from_slice(&prefix.data);
    work(&key[..4 + N])
}
