//! The databases that people run, as processes on the loopback, each with data of its own.

mod influx;
mod prometheus;
mod promql;
mod tls;
mod victoria;
mod vmagent;

pub use influx::{DATABASE, Influx, Login};
pub use prometheus::Prometheus;
pub use tls::Tls;
pub use victoria::{Sample, Victoria};
pub use vmagent::Vmagent;

use crate::http;
use crate::port::Port;
use crate::wait;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Where `cargo xtask` put the executables.
///
/// # Panics
/// It did not.
#[must_use]
pub fn executable(name: &str) -> PathBuf {
    let folder = std::env::var_os("COLLECTOR_SERVERS");
    let folder = folder.expect("COLLECTOR_SERVERS: run this by `cargo xtask test` or `bench`");
    let path = Path::new(&folder).join(name);
    assert!(path.exists(), "{} is missing: see `cargo xtask --help`, test", path.display());
    path
}

/// The sum of a metric over all its labels, in the text that a server shows of itself.
#[must_use]
pub fn sum(metrics: &str, name: &str) -> f64 {
    let of = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let value =
            rest.strip_prefix(' ').or_else(|| Some(rest.strip_prefix('{')?.rsplit_once(' ')?.1))?;
        value.trim().parse::<f64>().ok()
    };
    metrics.lines().filter_map(of).sum()
}

/// A server's process. Its port and data outlive it, and end with this value.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    arguments: Vec<String>,
    /// Answers 2xx once it is ready.
    ready: &'static str,
    port: Port,
    folder: TempDir,
    child: Option<Child>,
}

impl Server {
    /// Nothing runs until [`Server::start`]; arguments come from what the data folder and the port are.
    fn new(
        name: &'static str,
        ready: &'static str,
        arguments: impl FnOnce(&Path, SocketAddr) -> Vec<String>,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder for a server's data");
        let port = Port::reserve();
        let arguments = arguments(folder.path(), port.address());
        Self { name, arguments, ready, port, folder, child: None }
    }

    /// Starts it on the port and data that it had, and waits until it is ready.
    ///
    /// # Panics
    /// It runs already, or does not become ready.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(self.log()).expect("a log file");
        let mut command = Command::new(executable(self.name));
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("the server starts"));
        let url = self.url() + self.ready;
        wait::until(format!("{} to be ready", self.name), || {
            let child = self.child.as_mut().expect("it was started");
            if let Ok(Some(status)) = child.try_wait() {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                panic!("{} ended with {status}\n{log}", self.name);
            }
            http::get(&url, &[]).is_ok_and(|answer| answer.status / 100 == 2)
        });
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its process.
    ///
    /// # Panics
    /// It does not run.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("the server runs"))
    }

    /// Ends it at once, as if the machine had lost it.
    pub fn kill9(&mut self) {
        self.end(Signal::KILL);
    }

    /// Ends it as an administrator does: what it took is on disk.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// It hangs: the kernel still accepts connections for it, and nothing is ever answered.
    pub fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).expect("it can be stopped");
    }

    /// It goes on where it hung.
    pub fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).expect("it can be continued");
    }

    fn end(&mut self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it can be signalled");
        let mut child = self.child.take().expect("the server runs");
        child.wait().expect("it is ours to wait for");
    }

    /// What it prints.
    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
