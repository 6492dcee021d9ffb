//! Whether an output can be reached. Sends nothing.

use super::http::{self as over_http, HttpConfig, Url};
use super::socket::{SocketConfig, connect};
use super::{OutputConfig, Target};
use anyhow::{Context, Error, Result, bail};
use rustix::fs::{Access, access};
use rustix::net::SocketType;
use std::fs::OpenOptions;
use std::path::Path;

/// Opens what can be opened, and connects.
///
/// # Errors
/// What cannot be opened or does not answer, and why.
pub fn reach(config: &OutputConfig) -> Result<()> {
    if let Some(spool) = &config.spool {
        folder(&spool.dir).context("its spool")?;
    }
    match &config.target {
        Target::Stdout => Ok(()),
        Target::File(config) => file(&config.path),
        Target::Socket(SocketConfig::Unix(path)) => {
            connect::unix(path, SocketType::STREAM).map(drop)
        }
        Target::Socket(SocketConfig::Unixgram { path, .. }) => {
            connect::unix(path, SocketType::DGRAM).map(drop)
        }
        Target::Socket(SocketConfig::Tcp(address)) => connect::tcp(address, None).map(drop),
        Target::Socket(SocketConfig::Udp { address, .. }) => connect::udp(address, 0).map(drop),
        Target::Http(config) => {
            // The file of refused lines may lie in a spool yet to be made.
            let config = HttpConfig { dead_letters: None, ..(**config).clone() };
            over_http::ready(&config)?;
            let first = config.proxy.as_ref().map(|proxy| &proxy.url);
            for url in first.map_or(&*config.urls, std::slice::from_ref) {
                connect::tcp(&address(url)?, None).with_context(|| url.clone())?;
            }
            Ok(())
        }
        Target::Serve(config) => config.check(),
        Target::Screen(_) => Ok(()),
    }
}

/// Whether a folder is there or could be made.
fn folder(path: &Path) -> Result<()> {
    let there = path.ancestors().find(|folder| folder.exists());
    let there = there.unwrap_or(Path::new("."));
    if !there.is_dir() {
        bail!("{} is no folder", there.display());
    }
    access(there, Access::WRITE_OK).with_context(|| format!("folder {}", there.display()))
}

/// Whether lines could be appended; makes no file.
fn file(path: &Path) -> Result<()> {
    if path.exists() {
        OpenOptions::new().append(true).open(path)?;
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if !folder.is_dir() {
        bail!("its folder {} does not exist: make it first", folder.display());
    }
    access(folder, Access::WRITE_OK).with_context(|| format!("folder {}", folder.display()))
}

/// `HOST:PORT` of a URL.
fn address(url: &str) -> Result<String> {
    let url = Url::parse(url).map_err(Error::msg)?;
    Ok(format!("{}:{}", url.host.without_port(), url.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::SpoolConfig;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    #[test]
    fn what_is_there_is_reached_and_what_is_not_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap().to_string();
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        let output = |url: String| crate::config::parse_output(&url).unwrap();
        for (url, error) in [
            ("stdout".to_owned(), None),
            (format!("tcp://{here}"), None),
            (format!("udp://{here}"), None),
            (format!("influxdb1://{here}/db"), None),
            (format!("victoriametrics://{here}"), None),
            (format!("unix:{}", path("socket").display()), None),
            (format!("file:{}", path("lines").display()), None),
            (format!("tcp://{nobody}"), Some("refused")),
            (format!("influxdb1://{nobody}/db"), Some("refused")),
            (format!("unix:{}", path("none").display()), Some("nobody has made the socket yet")),
            (format!("unixgram:{}", path("socket").display()), Some("another type")),
            (format!("file:{}", path("none/lines").display()), Some("does not exist")),
        ] {
            let reached = reach(&output(url.clone())).map_err(|error| format!("{error:#}"));
            match (&reached, error) {
                (Ok(()), None) => {}
                (Err(why), Some(words)) => assert!(why.contains(words), "{url}: {why}"),
                _ => panic!("{url}: {reached:?}"),
            }
        }
        assert!(!path("lines").exists(), "a check makes no file");
    }

    #[test]
    fn a_spool_is_there_or_can_be_made() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        for (place, error) in [("spool/of/lines", None), ("file/spool", Some("is no folder"))] {
            let spool = SpoolConfig {
                dir: dir.path().join(place),
                bytes: 1 << 20,
                age: std::time::Duration::from_secs(1),
            };
            let config = OutputConfig { spool: Some(spool), ..OutputConfig::new(Target::Stdout) };
            let reached = reach(&config).map_err(|error| format!("{error:#}"));
            match error {
                None => assert_eq!(reached, Ok(())),
                Some(words) => assert!(reached.unwrap_err().contains(words)),
            }
            assert!(!dir.path().join("spool").exists(), "a check makes no folder");
        }
    }

    #[test]
    fn an_address_has_host_and_port() {
        assert_eq!(address("https://[::1]").unwrap(), "[::1]:443");
        assert_eq!(address("http://host:8086/path").unwrap(), "host:8086");
    }
}
