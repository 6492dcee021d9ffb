//! VictoriaMetrics' own forwarder.

use super::Server;
use crate::{fleet, http};
use std::path::Path;

/// A running vmagent. It takes line protocol at `/write` and at a TCP port, and forwards it by Prometheus'
/// remote write. What it cannot forward yet waits in its memory, then on its disk.
#[derive(Debug)]
pub struct Vmagent {
    pub server: Server,
}

impl Vmagent {
    /// Forwards to a VictoriaMetrics at a URL.
    #[must_use]
    pub fn start(victoria: &str) -> Self {
        let mut server = Server::new("vmagent", "/health", |folder, address| {
            let data = folder.join("data");
            vec![
                format!("-remoteWrite.url={victoria}/api/v1/write"),
                format!("-remoteWrite.tmpDataPath={}", data.display()),
                format!("-httpListenAddr={address}"),
                "-loggerLevel=WARN".to_owned(),
                // Half of the machine's memory is not ours to take.
                "-memory.allowedBytes=256MB".to_owned(),
            ]
        });
        server.start();
        Self { server }
    }

    /// As etc/fleet has it: it forwards to one database, or divides hosts among two.
    #[must_use]
    pub fn of_a_fleet(databases: &[String]) -> Self {
        Self::of_a_fleet_with(databases, &[])
    }

    /// The same with further flags.
    #[must_use]
    pub fn of_a_fleet_with(databases: &[String], more: &[&str]) -> Self {
        let mut server = Server::new("vmagent", "/health", |folder, address| {
            let mut flags = fleet::vmagent(folder, address, databases);
            flags.push("-memory.allowedBytes=512MB".to_owned());
            flags.extend(more.iter().map(|flag| (*flag).to_owned()));
            flags
        });
        server.start();
        Self { server }
    }

    /// Where its data is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.server.folder.path()
    }

    /// Bytes that wait for databases, in memory and on disk.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn pending(&self) -> u64 {
        let metrics = http::get(&(self.server.url() + "/metrics"), &[]).expect("an answer").body;
        super::sum(&metrics, "vmagent_remotewrite_pending_data_bytes") as u64
    }
}
