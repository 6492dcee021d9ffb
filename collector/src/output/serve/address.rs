//! Where it listens, and who may ask there.

use crate::output::host::HostPort;
use anyhow::{Context as _, Result};
use rustix::fs::{Mode, chmod};
use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

/// Where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `ADDRESS:PORT`
    Tcp(SocketAddr),
    /// `unix:PATH`
    Unix(PathBuf),
}

impl Listen {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            if !path.is_absolute() {
                return Err("the path of a socket begins with `/`: unix:/run/collector/http.sock"
                    .to_owned());
            }
            crate::output::socket::check_path(&path).map_err(|error| error.to_string())?;
            return Ok(Self::Unix(path));
        }
        let form = |why: &str| {
            format!("{why}; it is written ADDRESS:PORT, such as 127.0.0.1:9435, or unix:PATH")
        };
        if text.contains("://") {
            return Err(form("it is no URL"));
        }
        let text = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        if let Ok(address) = text.parse::<SocketAddr>() {
            return match address.port() {
                0 => Err(form("a port is from 1 to 65535")),
                _ => Ok(Self::Tcp(address)),
            };
        }
        match HostPort::parse(&text) {
            Err(why) => Err(form(&why)),
            Ok(host) if host.port.is_none() => Err(form("it has no port")),
            Ok(_) => Err(form("it needs an address of this machine, not a name")),
        }
    }

    /// Whether nobody but this machine's users can ask there.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Whether a `Host` names this machine's loopback: a page of another site that has its name lead here does not.
pub fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    /// What is removed with it.
    path: Option<PathBuf>,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Those of this process. When the configuration changes, the next server begins before the last one has ended.
static OPEN: LazyLock<Mutex<HashMap<String, Weak<Listener>>>> = LazyLock::new(Mutex::default);

impl Listener {
    /// Listens; there, where another server of this process still does, with the same socket.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn open(listen: &Listen) -> Result<Arc<Self>> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, listener| listener.strong_count() > 0);
        if let Some(listener) = open.get(&listen.to_string()).and_then(Weak::upgrade) {
            return Ok(listener);
        }
        let listener = match listen {
            Listen::Tcp(address) => TcpListener::bind(address).and_then(|it| {
                it.set_nonblocking(true)?;
                Ok(Self { kind: Kind::Tcp(it), path: None })
            }),
            Listen::Unix(path) => bind_unix(path).and_then(|it| {
                it.set_nonblocking(true)?;
                Ok(Self { kind: Kind::Unix(it), path: Some(path.clone()) })
            }),
        };
        let listener = Arc::new(listener.with_context(|| format!("it cannot listen at {listen}"))?);
        open.insert(listen.to_string(), Arc::downgrade(&listener));
        Ok(listener)
    }

    /// The next one who asks; none for now.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn accept(&self) -> io::Result<Option<Stream>> {
        let accepted = match &self.kind {
            Kind::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::Tcp(stream)),
            Kind::Unix(listener) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
        };
        match accepted {
            Ok(stream) => {
                match &stream {
                    Stream::Tcp(tcp) => {
                        tcp.set_nonblocking(true)?;
                        let _ = tcp.set_nodelay(true);
                    }
                    Stream::Unix(unix) => unix.set_nonblocking(true)?,
                }
                Ok(Some(stream))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// A socket that a collector which was killed has left is removed first.
fn bind_unix(path: &Path) -> Result<UnixListener, io::Error> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    chmod(path, Mode::from_raw_mode(0o660))?;
    Ok(listener)
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Tcp(listener) => listener.as_fd(),
            Kind::Unix(listener) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

/// A connection.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl io::Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            Self::Unix(stream) => stream.read(bytes),
        }
    }
}

impl io::Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CertFiles, ServeConfig};
    use super::*;
    use crate::output::secret::Secret;

    #[test]
    fn an_address_is_one_of_this_machine_or_a_path() {
        for (text, written, local) in [
            ("127.0.0.1:9435", "127.0.0.1:9435", true),
            ("localhost:9435", "127.0.0.1:9435", true),
            ("[::1]:9435", "[::1]:9435", true),
            ("127.8.8.8:1", "127.8.8.8:1", true),
            ("0.0.0.0:9435", "0.0.0.0:9435", false),
            ("[::]:9435", "[::]:9435", false),
            ("192.0.2.1:80", "192.0.2.1:80", false),
            ("unix:/run/c.sock", "unix:/run/c.sock", true),
        ] {
            let listen = Listen::parse(text).unwrap();
            assert_eq!((&*listen.to_string(), listen.is_local()), (written, local));
            let mut config = ServeConfig { listen, token: None, tls: None };
            assert_eq!(config.check_access().is_ok(), local);
            config.token = Some(Secret::Env("X".to_owned()));
            config.check_access().unwrap();
            config.token = None;
            config.tls = Some(CertFiles { cert: "c".into(), key: "k".into() });
            let tcp = matches!(config.listen, Listen::Tcp(_));
            assert_eq!(config.check_access().is_ok(), tcp, "a socket needs no TLS");
        }
        for (text, why) in [
            ("9435", "no IPv4"),
            (":9435", "no host"),
            ("127.0.0.1", "no port"),
            ("127.0.0.1:0", "from 1 to 65535"),
            ("box:9435", "not a name"),
            ("http://127.0.0.1:9435", "no URL"),
            ("unix:c.sock", "begins with `/`"),
        ] {
            let error = Listen::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn only_names_of_the_loopback_are_taken_there() {
        for host in [
            "localhost",
            "LOCALHOST:9435",
            "127.0.0.1",
            "127.1.2.3:80",
            "[::1]",
            "[::1]:9435",
            "localhost.",
        ] {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example:9435",
            "192.0.2.1",
            "[::2]:1",
            "localhost.evil",
            "[",
        ] {
            assert!(!is_loopback_name(host), "{host}");
        }
    }

    #[test]
    fn a_socket_that_was_left_is_replaced_and_one_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let listen = Listen::Unix(path.clone());
        let first = Listener::open(&listen).unwrap();
        let second = Listener::open(&listen).unwrap();
        assert!(Arc::ptr_eq(&first, &second), "the same socket");
        assert!(bind_unix(&path).is_err(), "it is in use");
        drop((first, second));
        assert!(!path.exists());
        fs::write(&path, "").unwrap();
        assert!(Listener::open(&listen).is_err(), "it is a file");
        assert!(path.exists());
    }
}
