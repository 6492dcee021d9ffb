//! Queues and stacks.

use super::RawMap;
use super::error::Refusal;
use super::raw::record;
use crate::Record;
use crate::object::record::bytes;
use libbpf_rs::{MapCore, MapType};
use plugin_api::Result;
use std::marker::PhantomData;

/// What queues and stacks have in common: values without keys, each taken once.
struct Values<V> {
    raw: RawMap,
    _type: PhantomData<fn() -> V>,
}

impl<V: Record> Values<V> {
    fn of<Reader>(raw: RawMap, kind: MapType) -> Result<Self> {
        let raw = raw.read_as::<Reader>(&[kind], 0, size_of::<V>())?;
        Ok(Self { raw, _type: PhantomData })
    }

    fn push(&self, value: &V) -> Result<bool> {
        match self.raw.try_update(&[], bytes(value), u64::from(libbpf_sys::BPF_ANY)) {
            Ok(()) => Ok(true),
            Err(Refusal::Errno(libc::E2BIG)) => Ok(false),
            Err(refusal) => Err(self.raw.failed("push", refusal)),
        }
    }

    fn push_over(&self, value: &V) -> Result<()> {
        let pushed = self.raw.try_update(&[], bytes(value), u64::from(libbpf_sys::BPF_EXIST));
        pushed.map_err(|refusal| self.raw.failed("push", refusal))
    }

    fn pop(&self) -> Result<Option<V>> {
        record(|value| self.raw.lookup_and_delete(&[], value))
    }

    fn peek(&self) -> Result<Option<V>> {
        record(|value| self.raw.lookup(&[], value))
    }

    fn drain(&self, mut each: impl FnMut(V)) -> Result<()> {
        for _ in 0..self.raw.max_entries() {
            let Some(value) = self.pop()? else { break };
            each(value);
        }
        Ok(())
    }
}

/// A queue: values that programs push and the tool takes, the oldest first.
///
/// For a moderate number of small records where a ring buffer's memory is too much, or for handing
/// tokens to programs. One spinlock for all CPUs, a system call for every value.
///
/// Reading is exact: every value is popped once, by whoever pops it. A program that finds the queue
/// full is told so and must count it ([`crate::Events`] does that by itself). Linux 4.20.
pub struct Queue<V>(Values<V>);

/// A stack: as [`Queue`], the youngest value first.
///
/// For free lists, and for the last few of many where the old ones do not matter.
///
/// Reading is exact: every value is popped once. Linux 4.20.
pub struct Stack<V>(Values<V>);

macro_rules! values {
    ($name:ident, $next:literal) => {
        impl<V: Record> $name<V> {
            /// Reads a map of a loaded skeleton.
            ///
            /// # Errors
            /// It is of another kind, or its values are of another size.
            pub fn of(map: &dyn MapCore) -> Result<Self> {
                Self::from_raw(RawMap::of(map)?)
            }

            /// Reads a map that is known by its descriptor.
            ///
            /// # Errors
            /// It is of another kind, or its values are of another size.
            pub fn from_raw(raw: RawMap) -> Result<Self> {
                Values::of::<Self>(raw, MapType::$name).map(Self)
            }

            /// Adds a value; false when there is no room.
            ///
            /// # Errors
            /// The kernel refuses.
            pub fn push(&self, value: &V) -> Result<bool> {
                self.0.push(value)
            }

            /// Adds a value, in place of the oldest one when there is no room.
            ///
            /// # Errors
            /// The kernel refuses.
            pub fn push_over(&self, value: &V) -> Result<()> {
                self.0.push_over(value)
            }

            #[doc = concat!("Takes the ", $next, " value.")]
            ///
            /// # Errors
            /// The kernel refuses.
            pub fn pop(&self) -> Result<Option<V>> {
                self.0.pop()
            }

            #[doc = concat!("The ", $next, " value, which stays.")]
            ///
            /// # Errors
            /// The kernel refuses.
            pub fn peek(&self) -> Result<Option<V>> {
                self.0.peek()
            }

            #[doc = concat!("Takes the values, the ", $next, " first, and shows each to `each`. At most as many")]
            /// as there is room for, so that a tick ends however fast others push.
            ///
            /// # Errors
            /// The kernel refuses; what `each` has not seen stays.
            pub fn drain(&self, each: impl FnMut(V)) -> Result<()> {
                self.0.drain(each)
            }

            /// The bytes beneath, for what is not offered here.
            #[must_use]
            pub fn raw(&self) -> &RawMap {
                &self.0.raw
            }
        }
    };
}

values!(Queue, "oldest");
values!(Stack, "youngest");
