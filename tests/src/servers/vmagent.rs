//! VictoriaMetrics' own forwarder.

use super::Server;

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
}
