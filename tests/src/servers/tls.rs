//! InfluxDB 1.6 of Debian with TLS.

use super::executable;
use crate::port::Port;
use crate::wait;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// An InfluxDB that speaks TLS alone: what it says to plain HTTP is what most servers in Go say.
#[derive(Debug)]
pub struct Tls {
    child: Child,
    port: Port,
    _folder: TempDir,
}

impl Tls {
    /// With a certificate of its own.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder"), Port::reserve());
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("cert"), key.cert.pem()).expect("a certificate");
        fs::write(path("key"), key.signing_key.serialize_pem()).expect("a key");
        let (address, folder_path) = (port.address(), folder.path().display());
        let config = format!(
            r#"reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
dir = "{folder_path}/meta"
[data]
dir = "{folder_path}/data"
wal-dir = "{folder_path}/wal"
[http]
bind-address = "{address}"
https-enabled = true
https-certificate = "{folder_path}/cert"
https-private-key = "{folder_path}/key"
[monitor]
store-enabled = false
"#
        );
        fs::write(path("influxdb.conf"), config).expect("a config file");
        let child = Command::new(executable("influxd"))
            .arg("-config")
            .arg(path("influxdb.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let tls = Self { child, port, _folder: folder };
        wait::until("the server to listen", || TcpStream::connect(tls.port.address()).is_ok());
        tls
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
