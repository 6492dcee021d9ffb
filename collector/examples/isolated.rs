//! A plugin that asks for a process of its own, and breaks it if it is told to. For the collector's tests.
use plugin_api::prelude::*;
use std::time::Duration;

choice! {
    /// What it does.
    pub enum Fault {
        /// Nothing.
        None = "",
        /// It writes where it may not.
        Segv = "segv",
        /// It calls itself without end.
        Stack = "stack",
        /// It panics.
        Panic = "panic",
        /// It ends the process.
        Exit = "exit",
        /// It pushes lines until it is told to stop.
        Lines = "lines",
        /// It pushes lines without end.
        Flood = "flood",
        /// It starts another program.
        Program = "program",
        /// It never returns.
        Hang = "hang",
        /// It takes 1.5 s.
        Slow = "slow",
        /// It starts a thread that does not end.
        Thread = "thread",
        /// It opens files and leaves them open.
        Descriptors = "descriptors",
        /// It takes memory, 16 MiB at once, and keeps it.
        Memory = "memory",
        /// It installs a handler for SIGTERM.
        Handler = "handler",
    }
}

choice! {
    /// Where it does that.
    pub enum Place {
        /// When it starts.
        Init = "init",
        /// In each call from the second on.
        Call = "call",
        /// When it ends.
        Deinit = "deinit",
    }
}

options! {
    /// What `[plugin.isolated]` takes.
    pub struct Options {
        /// The fault.
        fault: Fault = Fault::None,
        /// Where.
        at: Place = Place::Call,
        /// In the first call too.
        at_once: bool = false,
    }
}

table! {
    /// Calls.
    isolated {
        tags {
            /// Number of the line.
            line,
        }
        /// How many calls so far.
        calls: counter,
        /// The process.
        process: gauge,
    }
}

struct Isolated {
    options: Options,
    calls: u64,
}

impl Isolated {
    fn row(&self, line: u64) -> isolated::Row {
        let process = std::process::id().into();
        isolated::Row { line: line.to_string().into(), calls: self.calls, process }
    }
}

impl Plugin for Isolated {
    type Options = Options;

    const ISOLATED: bool = true;

    fn init(options: Options) -> Result<Self> {
        log::info!("in process {}", std::process::id());
        if options.at == Place::Init {
            fault(options.fault)?;
        }
        Ok(Self { options, calls: 0 })
    }

    fn call(&mut self, _: &Tick, lines: &mut Lines) -> Result<()> {
        self.calls += 1;
        lines.push(self.row(0))?;
        if self.options.at != Place::Call || (self.calls < 2 && !self.options.at_once) {
            return Ok(());
        }
        match self.options.fault {
            Fault::Lines => (1..20_000).try_for_each(|line| lines.push(self.row(line))),
            Fault::Flood => loop {
                lines.push(self.row(1))?;
            },
            other => fault(other),
        }
    }

    fn deinit(self) -> Result<()> {
        if self.options.at == Place::Deinit {
            fault(self.options.fault)?;
        }
        Ok(())
    }
}

fn sleep_for_ever() {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

extern "C" fn handler(_: i32) {}

fn fault(fault: Fault) -> Result<()> {
    match fault {
        Fault::None | Fault::Lines | Fault::Flood => {}
        // SAFETY: none; this is what it is for.
        Fault::Segv => unsafe { std::ptr::write_volatile(16 as *mut u64, 1) },
        Fault::Stack => drop(deeper(0)),
        Fault::Panic => panic!("as it was told to"),
        Fault::Exit => std::process::exit(7),
        Fault::Program => {
            std::process::Command::new("true").status().context("starting a program")?;
        }
        Fault::Hang => sleep_for_ever(),
        Fault::Slow => std::thread::sleep(Duration::from_millis(1500)),
        Fault::Thread => drop(std::thread::spawn(sleep_for_ever)),
        Fault::Descriptors => {
            for _ in 0..16 {
                std::mem::forget(std::fs::File::open("/dev/null")?);
            }
        }
        // Without that, a compiler that optimizes takes no memory for what nobody uses.
        Fault::Memory => drop(std::hint::black_box(vec![1_u8; 16 << 20].leak())),
        // SAFETY: the handler does nothing.
        Fault::Handler => unsafe {
            let action = handler as extern "C" fn(i32) as libc::sighandler_t;
            libc::signal(libc::SIGTERM, action);
        },
    }
    Ok(())
}

#[expect(unconditional_recursion, reason = "it is the fault")]
fn deeper(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 512]);
    deeper(depth + 1) + room[7]
}

export_plugin!(Isolated: isolated);
