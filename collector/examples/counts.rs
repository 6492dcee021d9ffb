//! A plugin that reads a counter which others increase, as the plugins of the kernel's events do: what was counted before
//! its start is not its own. For the collector's tests, which give it other numbers in place of [`BUILD`].
use plugin_api::prelude::*;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Its digits are replaced in the library's file.
#[used]
static BUILD: [u8; 16] = *b"BUILD-0000000000";

options! {
    /// What `[plugin.counts]` takes.
    pub struct Options {
        /// A file that holds the counter, as 8 bytes.
        file: String = String::new(),
        /// The build that does not start.
        broken: u64 = 0,
    }
}

table! {
    /// What was counted.
    counts {
        tags {
            /// Its number.
            build,
        }
        /// How much since the call before, or the start.
        events: counter,
        /// The counter.
        at: gauge,
    }
}

struct Counts {
    file: File,
    build: u64,
    before: u64,
}

impl Plugin for Counts {
    type Options = Options;

    fn init(options: Options) -> Result<Self> {
        // SAFETY: a static of this library. Read as it lies in memory, not as the compiler knows it.
        let text = unsafe { std::ptr::read_volatile(&raw const BUILD) };
        let build: u64 = std::str::from_utf8(&text[6..])?.parse()?;
        ensure!(build == 0 || build != options.broken, "build {build} is broken");
        let file = File::open(&options.file)?;
        let before = read(&file)?;
        Ok(Self { file, build, before })
    }

    fn call(&mut self, _: &Tick, lines: &mut Lines) -> Result<()> {
        let now = read(&self.file)?;
        let events = now - std::mem::replace(&mut self.before, now);
        lines.push(counts::Row { build: self.build.to_string().into(), events, at: now as i64 })
    }
}

fn read(file: &File) -> Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(u64::from_le_bytes(bytes))
}

export_plugin!(Counts: counts);
