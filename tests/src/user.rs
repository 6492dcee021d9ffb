//! Another user with capabilities, as systemd's `User` and `AmbientCapabilities` make one.

use rustix::process::{Gid, Uid};
use rustix::thread::{self as own, CapabilitySet, CapabilitySets};
use std::io;

/// Makes the calling thread that user. Only system calls, so it may stand between fork and exec.
///
/// # Errors
/// It is not root's to do.
pub fn become_user(user: u32, ambient: CapabilitySet) -> io::Result<()> {
    own::set_keep_capabilities(true)?;
    own::set_thread_groups(&[])?;
    own::set_thread_gid(Gid::from_raw(user))?;
    own::set_thread_uid(Uid::from_raw(user))?;
    let sets = CapabilitySets { effective: ambient, permitted: ambient, inheritable: ambient };
    own::set_capabilities(None, sets)?;
    for capability in ambient.iter() {
        own::configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}
