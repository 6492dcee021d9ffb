//! A plugin that takes long, or never returns from its second call. For the collector's tests.
use plugin_api::prelude::*;
use std::time::Duration;

options! {
    /// What `[plugin.sleeps]` takes.
    pub struct Options {
        /// How long each call takes; without it the second one never returns.
        time: Duration = Duration::ZERO,
        /// How long the start takes.
        start: Duration = Duration::ZERO,
    }
}

table! {
    /// Calls that returned.
    sleeps {
        /// Always 1.
        count: counter,
    }
}

struct Sleeps(Duration);

impl Plugin for Sleeps {
    type Options = Options;

    const CAPABILITIES: &'static [&'static str] = &["CAP_SYS_PTRACE"];
    const OPTION_CAPABILITIES: &'static [(&'static str, &'static str)] =
        &[("start", "CAP_NET_ADMIN")];

    fn init(options: Options) -> Result<Self> {
        std::thread::sleep(options.start);
        Ok(Self(options.time))
    }

    fn call(&mut self, tick: &Tick, lines: &mut Lines) -> Result<()> {
        while self.0.is_zero() && tick.seq > 0 {
            std::thread::sleep(Duration::from_secs(3600));
        }
        std::thread::sleep(self.0);
        lines.push(sleeps::Row { count: 1 })
    }
}

export_plugin!(Sleeps: sleeps);
