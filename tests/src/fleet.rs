//! The ready files of `etc/fleet`, with this machine's addresses and folders in place of theirs.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What stands in a file, and what takes its place.
pub type Places<'a> = &'a [(&'a str, &'a str)];

/// Where a ready file is.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/fleet").join(name)
}

/// A ready file with some places changed.
///
/// # Panics
/// There is no such file, or a place is not in it.
#[must_use]
pub fn text(name: &str, places: Places<'_>) -> String {
    let text = fs::read_to_string(path(name)).expect(name);
    places.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{name} has no {from}");
        text.replace(from, to)
    })
}

/// The flags with which a unit for systemd, or a drop-in of it, starts its program.
///
/// # Panics
/// As [`text`]; or it starts none.
#[must_use]
pub fn flags(unit: &str, places: Places<'_>) -> Vec<String> {
    let text = text(unit, places).replace("\\\n", " ");
    let start = text.lines().filter_map(|line| line.strip_prefix("ExecStart=/")).next_back();
    let start = start.unwrap_or_else(|| panic!("{unit} starts nothing"));
    start.split_whitespace().skip(1).map(str::to_owned).collect()
}

/// The flags of `vmagent/vmagent.service`, or of its drop-in for two databases, when there are two.
///
/// # Panics
/// As [`flags`].
#[must_use]
pub fn vmagent(folder: &Path, address: SocketAddr, databases: &[String]) -> Vec<String> {
    let files = path("vmagent");
    let (address, data) = (address.to_string(), folder.join("data").display().to_string());
    let files = files.display().to_string();
    let mut places = vec![
        (":8429", &*address),
        ("/var/lib/vmagent", &*data),
        ("/etc/vmagent", &*files),
        ("http://victoria-1.example.com:8428", &*databases[0]),
    ];
    match databases {
        [_] => flags("vmagent/vmagent.service", &places),
        [_, second] => {
            places.push(("http://victoria-2.example.com:8428", second));
            flags("vmagent/two-databases.conf", &places)
        }
        _ => panic!("one database or two"),
    }
}

/// The flags of `victoria-metrics/victoria-metrics.service`.
///
/// # Panics
/// As [`flags`].
#[must_use]
pub fn victoria(folder: &Path, address: SocketAddr) -> Vec<String> {
    let (address, data) = (address.to_string(), folder.join("data").display().to_string());
    let places = [(":8428", &*address), ("/var/lib/victoria-metrics", &*data)];
    flags("victoria-metrics/victoria-metrics.service", &places)
}
