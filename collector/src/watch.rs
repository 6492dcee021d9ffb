//! Hears of what happens in folders: the plugins' and the configuration's.

use crate::capabilities::give_up_all;
use crate::event::{Event, Seen};
use crate::library::name::is_plugin;
use crate::process::thread_name;
use crate::settle::What;
use anyhow::{Context, Result};
use crossbeam_channel::Sender;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What matters in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Files that are to be plugins.
    Plugins,
    /// The file of this name.
    File(OsString),
}

impl Wanted {
    fn is(&self, name: &OsStr) -> bool {
        match self {
            Self::Plugins => is_plugin(name),
            Self::File(file) => file == name,
        }
    }

    fn flags(&self) -> WatchFlags {
        let common = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::ATTRIB
            | WatchFlags::ONLYDIR
            | WatchFlags::MASK_ADD;
        match self {
            Self::Plugins => common | WatchFlags::CREATE | WatchFlags::MODIFY,
            // In its folder others may write all the time.
            Self::File(_) => common,
        }
    }
}

/// What is watched, by the numbers of the watches.
type All = Arc<Mutex<Vec<(i32, Wanted)>>>;

/// Watches folders as long as the process lives.
#[derive(Debug)]
pub struct Watch(Option<Arc<OwnedFd>>, All);

impl Watch {
    /// Tells of folders that are to be named. Without inotify it tells of nothing.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn start(events: &Sender<Event>) -> Result<Self> {
        let all = All::default();
        let fd = match inotify::init(CreateFlags::CLOEXEC) {
            Ok(fd) => Arc::new(fd),
            Err(errno) => {
                log::info!("no inotify ({errno}): folders are looked at every 10 s");
                return Ok(Self(None, all));
            }
        };
        let (theirs, events, wanted) = (Arc::clone(&fd), events.clone(), Arc::clone(&all));
        thread::Builder::new()
            .name(thread_name("watch"))
            .stack_size(64 << 10)
            .spawn(move || {
                give_up_all();
                tell(&theirs, &events, &wanted);
            })
            .context("starting the thread that watches folders")?;
        Ok(Self(Some(fd), all))
    }

    /// Watches a folder too: the number of the watch, the same for the same folder. None where that is not possible.
    pub fn folder(&self, dir: &Path, wanted: &Wanted) -> Option<i32> {
        match inotify::add_watch(self.0.as_ref()?, dir, wanted.flags()) {
            Ok(watch) => {
                let mut all = self.1.lock().unwrap_or_else(PoisonError::into_inner);
                if !all.iter().any(|known| *known == (watch, wanted.clone())) {
                    all.push((watch, wanted.clone()));
                }
                Some(watch)
            }
            Err(errno) => {
                log::debug!("{} is not watched: {errno}", dir.display());
                None
            }
        }
    }
}

fn tell(fd: &OwnedFd, events: &Sender<Event>, wanted: &All) {
    let mut buffer: Vec<u8> = Vec::with_capacity(4096);
    let mut reader = inotify::Reader::new(fd, buffer.spare_capacity_mut());
    loop {
        let mut all = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => all.push(Seen {
                    watch: event.wd(),
                    name: OsString::from_vec(
                        event.file_name().map(|name| name.to_bytes().to_vec()).unwrap_or_default(),
                    ),
                    what: what(event.events()),
                }),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            if reader.is_buffer_empty() {
                break;
            }
        }
        {
            let wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner);
            let is =
                |seen: &Seen| wanted.iter().any(|(at, it)| *at == seen.watch && it.is(&seen.name));
            all.retain(|seen| seen.what == What::Overflow || is(seen));
        }
        if !all.is_empty() && events.send(Event::Seen(all)).is_err() {
            return;
        }
    }
}

fn what(flags: ReadFlags) -> What {
    if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
        What::Overflow
    } else if flags.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO) {
        What::Complete
    } else if flags.contains(ReadFlags::MODIFY) {
        What::Written
    } else if flags.contains(ReadFlags::CREATE) {
        What::Created
    } else {
        What::Changed
    }
}
