//! `HOST:PORT` as people write it: checked when it is read, looked up when it is needed.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// A host and perhaps a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    host: Host,
    /// From 1 to 65535, if one is written.
    pub port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// A name, or an IPv4 address.
    Name(String),
    /// An IPv6 address, and the interface that a link-local one belongs to.
    V6(Ipv6Addr, Option<String>),
}

impl HostPort {
    /// Reads `HOST`, `HOST:PORT`, `[IPV6]:PORT` and `[IPV6%25INTERFACE]:PORT`; the `25`, which is the
    /// rule in URLs, may be left out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (inside, port) = rest.split_once(']').ok_or("a `]` is missing")?;
            let port = match port.strip_prefix(':') {
                None if port.is_empty() => None,
                None => return Err("a port follows the `]`, as in [::1]:8086".into()),
                port => port,
            };
            (v6(inside)?, port)
        } else {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            if port.is_some_and(|port| port.contains(':')) {
                return Err("an IPv6 address stands in brackets: [::1]:8086".into());
            }
            (Host::Name(name(host)?), port)
        };
        Ok(Self { host, port: port.map(parse_port).transpose()? })
    }

    /// The interface that a link-local address belongs to.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        match &self.host {
            Host::V6(_, zone) => zone.as_deref(),
            Host::Name(_) => None,
        }
    }

    /// As another machine understands it: without the interface.
    #[must_use]
    pub fn without_zone(&self) -> Self {
        match self.host {
            Host::V6(address, _) => Self { host: Host::V6(address, None), port: self.port },
            Host::Name(_) => self.clone(),
        }
    }

    /// The host alone.
    #[must_use]
    pub fn without_port(&self) -> Self {
        Self { host: self.host.clone(), port: None }
    }

    /// All its addresses, as they are now.
    ///
    /// # Errors
    /// There is no such name or interface now, or nobody could be asked.
    pub fn look_up(&self, port: u16) -> io::Result<Vec<SocketAddr>> {
        let host = match &self.host {
            Host::Name(name) => name.clone(),
            Host::V6(address, None) => address.to_string(),
            Host::V6(address, Some(zone)) => format!("{address}%{zone}"),
        };
        Ok((&*host, port).to_socket_addrs()?.collect())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => f.write_str(name),
            Host::V6(address, None) => write!(f, "[{address}]"),
            Host::V6(address, Some(zone)) => write!(f, "[{address}%25{zone}]"),
        }?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    if text.is_empty() {
        return Err("no port follows the `:`".into());
    }
    let port = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    match port {
        Some(1..) => Ok(port.unwrap_or_default()),
        _ => Err("a port is a number from 1 to 65535".into()),
    }
}

fn v6(text: &str) -> Result<Host, String> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone.strip_prefix("25").unwrap_or(zone))),
        None => (text, None),
    };
    let address: Ipv6Addr =
        address.parse().map_err(|_| "what stands in brackets is no IPv6 address")?;
    match (zone, address.is_unicast_link_local()) {
        (None, false) => Ok(Host::V6(address, None)),
        (None, true) => Err("a link-local address needs its interface: [fe80::1%25eth0]".into()),
        (Some(_), false) => {
            Err("an interface belongs to a link-local address only (fe80::..)".into())
        }
        (Some(zone), true) => {
            let known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if zone.is_empty() || zone.len() > 15 || !zone.chars().all(known) {
                return Err("what follows the `%25` is no interface, such as eth0".into());
            }
            Ok(Host::V6(address, Some(zone.to_owned())))
        }
    }
}

/// A name as DNS and /etc/hosts have it, or an IPv4 address.
fn name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("it has no host".into());
    }
    if !text.is_ascii() {
        return Err("a host outside of ASCII is written in its xn-- form".into());
    }
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if let Some(wrong) = text.chars().find(|&c| !known(c)) {
        return Err(format!("a host has no {wrong:?}"));
    }
    let labels = || text.strip_suffix('.').unwrap_or(text).split('.');
    if text.len() > 253 || labels().any(|label| label.is_empty() || label.len() > 63) {
        return Err("a host is names of 1 to 63 letters with dots between, 253 in all".into());
    }
    // Where the last is a number the resolver reads all as an address, of old forms too (127.1).
    let last = labels().next_back().unwrap_or_default();
    let number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    if number && text.parse::<Ipv4Addr>().is_err() {
        return Err("this is no IPv4 address, such as 127.0.0.1".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_right_is_kept_as_it_is_written() {
        for text in [
            "localhost",
            "localhost:1",
            "Influx.example.org.:65535",
            "my_host-1:80",
            "127.0.0.1:8086",
            "[::1]",
            "[::1]:8086",
            "[2001:db8::1]:8086",
            "[fe80::1%25eth0]:8086",
            "[fe80::1%25eth0.5]",
            "xn--bcher-kva.example:80",
            "1password.example",
        ] {
            assert_eq!(HostPort::parse(text).unwrap().to_string(), text);
        }
        for (text, canonical) in [
            ("[fe80::1%eth0]:80", "[fe80::1%25eth0]:80"),
            ("[0:0::1]:080", "[::1]:80"),
            ("h:00080", "h:80"),
        ] {
            assert_eq!(HostPort::parse(text).unwrap().to_string(), canonical);
        }
        let host = HostPort::parse("[fe80::1%25eth0]:80").unwrap();
        assert_eq!(
            (host.zone(), &*host.without_zone().to_string()),
            (Some("eth0"), "[fe80::1]:80")
        );
    }

    #[test]
    fn what_is_wrong_is_refused_with_the_reason() {
        let long = format!("{}.example", "x".repeat(64));
        for (text, why) in [
            ("", "it has no host"),
            (":80", "it has no host"),
            ("h:", "no port follows"),
            ("[::1]:", "no port follows"),
            ("h:0", "from 1 to 65535"),
            ("h:-1", "from 1 to 65535"),
            ("h:+1", "from 1 to 65535"),
            ("h:99999", "from 1 to 65535"),
            ("h:65536", "from 1 to 65535"),
            ("h:8086x", "from 1 to 65535"),
            ("h: 80", "from 1 to 65535"),
            ("[::1]:99999", "from 1 to 65535"),
            ("::1", "in brackets"),
            ("::1:80", "in brackets"),
            ("fe80::1%eth0", "in brackets"),
            ("h:80:80", "in brackets"),
            ("[::1", "a `]` is missing"),
            ("[::1]80", "a port follows the `]`"),
            ("[::g]:80", "no IPv6 address"),
            ("[]:80", "no IPv6 address"),
            ("[127.0.0.1]:80", "no IPv6 address"),
            ("[fe80::1]:80", "needs its interface"),
            ("[::1%25lo]:80", "link-local address only"),
            ("[fe80::1%25]:80", "no interface"),
            ("[fe80::1%]:80", "no interface"),
            ("[fe80::1%25a/b]:80", "no interface"),
            ("[fe80::1%25a-name-that-is-long]:80", "no interface"),
            ("my host:80", "a host has no ' '"),
            ("h%20h:80", "a host has no '%'"),
            ("h\\h:80", "a host has no '\\\\'"),
            ("h\n:80", "a host has no '\\n'"),
            ("bücher.example:80", "xn-- form"),
            ("a..b:80", "with dots between"),
            (".b:80", "with dots between"),
            (&long, "1 to 63 letters"),
            ("127.1:80", "no IPv4 address"),
            ("300.1.1.1:80", "no IPv4 address"),
            ("0x7f000001:80", "no IPv4 address"),
            ("u@h:80", "a host has no '@'"),
        ] {
            let error = HostPort::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn an_interface_is_part_of_the_address() {
        let host = HostPort::parse("[fe80::1%25lo]").unwrap();
        let Ok(found) = host.look_up(80) else { return eprintln!("SKIPPED: no IPv6 here") };
        let SocketAddr::V6(address) = found[0] else { panic!("{found:?}") };
        assert_eq!((address.port(), address.scope_id() > 0), (80, true));
        assert!(HostPort::parse("[fe80::1%25nosuch0]").unwrap().look_up(80).is_err());
    }
}
