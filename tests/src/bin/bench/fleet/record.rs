//! The lines of a collector with all tools, in the form that VictoriaMetrics gets, on this machine with some work to do.

use super::lines::RECORDED;
use crate::dist;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// As a fleet has it.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Tools begin within two of them, and the last one is left out.
const TICKS: u32 = 12;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes them to a file.
pub fn record(folder: &Path, file: &Path) -> Result<()> {
    let config = folder.join("record.toml");
    let text = format!(
        "interval = \"{}s\"\nlog = \"error\"\n[tags]\nhost = \"{RECORDED}\"\n[[output]]\nkind = \"file\"\n\
         path = \"{}\"\nhistogram = \"vmrange\"\ncounters = \"cumulative\"\n",
        INTERVAL.as_secs(),
        file.display()
    );
    fs::write(&config, text)?;
    let mut command = Command::new(dist()?.join("collector"));
    command.arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null());
    let mut collector = Running(command.spawn().context("the collector")?);
    println!("recording {} s of a collector with all tools", (INTERVAL * TICKS).as_secs());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let work = scope.spawn(|| work(folder, &over));
        let until = Instant::now() + INTERVAL * TICKS;
        let mut ended = None;
        while Instant::now() < until && ended.is_none() {
            thread::sleep(Duration::from_millis(200));
            ended = collector.0.try_wait().ok().flatten();
        }
        over.store(true, Relaxed);
        work.join().ok().context("the work panicked")??;
        ensure!(ended.is_none(), "the collector ended: {ended:?}");
        Ok(())
    })
}

/// What a server does a little of all the time: programs, files, connections.
fn work(folder: &Path, over: &AtomicBool) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let file = folder.join("work");
    while !over.load(Relaxed) {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ls /usr/bin | sort | tail -1"]).stdout(Stdio::null()).status()?;
        fs::write(&file, [0; 4096])?;
        fs::remove_file(&file)?;
        let connection = TcpStream::connect(address)?;
        drop((listener.accept()?, connection));
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
