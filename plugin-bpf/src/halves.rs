//! The switch between the two halves of `HISTOGRAM` and `TABLE` maps.

use crate::banks::Word;
use crate::maps::{RawMap, Update};
use crate::skeleton::SkelObject;
use libbpf_rs::{MapCore as _, MapType};
use plugin_api::{Context as _, Result, anyhow, ensure};
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, AsRawFd as _};

/// The section that `unity_half` lies in.
const SECTION: &str = ".data.unity";

/// Which half a plugin's programs write.
///
/// Once per tick, [`Halves::flip`] lets them write the other one and waits until the last program that
/// may have seen the old value has left. All histograms and tables of the plugin are then read from one
/// consistent cut, with one wait (some 10 ms, in which the plugin's thread sleeps).
pub struct Halves {
    word: Word,
    grace: GracePeriod,
    active: u32,
}

/// The half that nobody writes, until the next flip.
pub struct Idle<'a> {
    half: u32,
    _until_the_next_flip: PhantomData<&'a mut Halves>,
}

impl Idle<'_> {
    pub(crate) fn half(&self) -> usize {
        self.half as usize
    }
}

impl Halves {
    /// The switch of a loaded skeleton that declares a `HISTOGRAM` or a `TABLE`. One for a plugin.
    ///
    /// # Errors
    /// It declares neither, or the kernel offers no way to wait for a grace period.
    pub fn of(skel: &impl SkelObject) -> Result<Self> {
        let object = skel.skel_object();
        let map = object
            .maps()
            .find(|map| map.name() == SECTION)
            .ok_or_else(|| anyhow!("the program declares no HISTOGRAM and no TABLE"))?;
        Ok(Self { word: Word::of(&map)?, grace: GracePeriod::new()?, active: 0 })
    }

    /// Waits as on kernels whose membarrier refuses (nohz_full), for tests.
    #[doc(hidden)]
    pub fn without_membarrier(mut self) -> Result<Self> {
        self.grace = GracePeriod::map_in_map()?;
        Ok(self)
    }

    /// Switches halves and waits for a grace period.
    ///
    /// # Errors
    /// The kernel refused to wait. The idle half may still be written then, so it must not be read; what
    /// it holds comes with the next flip but one.
    pub fn flip(&mut self) -> Result<Idle<'_>> {
        let idle = self.active;
        self.active ^= 1;
        self.word.store(self.active);
        self.grace.wait()?;
        Ok(Idle { half: idle, _until_the_next_flip: PhantomData })
    }
}

/// Waits until every BPF program that runs now has ended (`synchronize_rcu` from user space).
enum GracePeriod {
    /// `MEMBARRIER_CMD_GLOBAL` (Linux 4.3) is `synchronize_rcu`; kernels with nohz_full refuse it.
    Membarrier,
    /// An update of a map-in-map waits for running programs before it returns (Linux 4.20, 1ae80cf31938
    /// "bpf: wait for running BPF programs when updating map-in-map").
    MapInMap(Box<(RawMap, RawMap)>),
}

impl GracePeriod {
    fn new() -> Result<Self> {
        if membarrier().is_ok() { Ok(Self::Membarrier) } else { Self::map_in_map() }
    }

    fn map_in_map() -> Result<Self> {
        let inner = RawMap::create(MapType::Array, "unity_grace", 4, 4, 1, 0)?;
        let outer = RawMap::create_outer(MapType::ArrayOfMaps, "unity_grace", 4, 1, &inner)?;
        let grace = Self::MapInMap(Box::new((outer, inner)));
        grace.wait()?;
        Ok(grace)
    }

    fn wait(&self) -> Result<()> {
        match self {
            Self::Membarrier => {
                membarrier().context("membarrier, which waited before, refuses now")
            }
            Self::MapInMap(maps) => {
                let (outer, inner) = maps.as_ref();
                let fd = inner.as_fd().as_raw_fd().to_ne_bytes();
                outer.update(&0u32.to_ne_bytes(), &fd, Update::Any).map(|_| ())
            }
        }
    }
}

fn membarrier() -> Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: membarrier takes three numbers and touches no memory of ours.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    ensure!(done == 0, std::io::Error::last_os_error());
    Ok(())
}
