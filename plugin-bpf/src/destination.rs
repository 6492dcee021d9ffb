//! Destinations, as a list of a tool's options names them and `destination.bpf.h` looks them up.

use crate::maps::{LpmTrie, Prefix, RawMap, Update};
use plugin_api::options::Unfit;
use plugin_api::serde_json::Value;
use plugin_api::{Context as _, OptionValue, Result, anyhow, ensure};
use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address or a network, or one port of it: `198.51.100.0/24`, `203.0.113.7:443`, `[2001:db8::]/32`.
///
/// An option may be a list of them: `deny: Vec<Destination> = Vec::new()`. IPv4 stands for the addresses that
/// sockets of IPv6 map too, and a network of IPv6 for none of these.
///
/// ```
/// use plugin_bpf::Destination;
/// let web: Destination = "198.51.100.0/24:443".parse().unwrap();
/// assert_eq!(web.to_string(), "198.51.100.0/24:443");
/// let error = "198.51.100.7/24".parse::<Destination>().unwrap_err();
/// assert_eq!(error, r#"the network is "198.51.100.0/24""#);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    address: IpAddr,
    bits: u32,
    port: Option<u16>,
}

/// As `struct destination_prefix` has it in front of the address: family and port.
const HEAD: u32 = 32;
const LEN: usize = 20;

impl Destination {
    /// Whether a list can be written into a map of so many entries.
    ///
    /// # Errors
    /// It is too long, or two entries are the same.
    pub fn check(list: &[Self], most: usize) -> Result<()> {
        ensure!(list.len() <= most, "{} destinations, at most {most} fit", list.len());
        let mut known = HashSet::new();
        let twice = list.iter().find(|entry| !known.insert(**entry));
        twice.map_or(Ok(()), |entry| Err(anyhow!("\"{entry}\" stands there twice")))
    }

    /// Writes a list into the map that `DESTINATIONS` declares: each with its number in the list, from 1.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn fill(list: &[Self], map: RawMap) -> Result<()> {
        let trie = LpmTrie::<u32, LEN>::from_raw(map)?;
        for (entry, number) in list.iter().zip(1..) {
            let written = trie.update(&entry.key(), &number, Update::Any);
            written.with_context(|| format!("\"{entry}\""))?;
        }
        Ok(())
    }

    fn key(&self) -> Prefix<LEN> {
        let mut data = [0; LEN];
        let (family, address, bits) = match self.address {
            IpAddr::V4(v4) => (0u16, v4.to_ipv6_mapped(), 96 + self.bits),
            IpAddr::V6(v6) => (1, v6, self.bits),
        };
        data[..2].copy_from_slice(&family.to_ne_bytes());
        data[2..4].copy_from_slice(&self.port.unwrap_or(0).to_be_bytes());
        data[4..].copy_from_slice(&address.octets());
        Prefix { bits: HEAD + bits, data }
    }
}

impl FromStr for Destination {
    /// What is wrong, and what is right instead.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, rest) = match text.strip_prefix('[') {
            Some(inner) => {
                let (address, rest) = inner.split_once(']').ok_or("its `]` is missing")?;
                (IpAddr::V6(v6(address)?), rest)
            }
            None => {
                let end = text.find(['/', ':']).unwrap_or(text.len());
                (IpAddr::V4(v4(text, &text[..end])?), &text[end..])
            }
        };
        let (bits, port) = match rest.split_once(':') {
            Some((bits, port)) => (bits, Some(number(port, 1, 65_535, "ports")? as u16)),
            None => (rest, None),
        };
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits.strip_prefix('/') {
            Some(bits) => number(bits, 0, whole, "lengths of prefixes")?,
            None if bits.is_empty() => whole,
            None => return Err(format!("{bits:?} follows the address")),
        };
        let read = Self { address, bits, port };
        let network = Self { address: masked(address, bits), ..read };
        if network != read {
            return Err(format!("the network is \"{network}\""));
        }
        read.never_met().map_or(Ok(read), Err)
    }
}

impl Destination {
    /// Addresses that no program sees as a destination, and what they are seen as.
    fn never_met(&self) -> Option<String> {
        let instead = match self.address {
            IpAddr::V4(v4) if v4.is_unspecified() && self.bits == 32 => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(v6) if v6.is_unspecified() && self.bits == 128 => Ipv6Addr::LOCALHOST.into(),
            IpAddr::V6(v6) if self.bits >= 96 => {
                let mapped =
                    Self { address: v6.to_ipv4_mapped()?.into(), bits: self.bits - 96, ..*self };
                return Some(format!("sockets of both families are meant by \"{mapped}\""));
            }
            _ => return None,
        };
        Some(format!("it stands for this host: write \"{}\"", Self { address: instead, ..*self }))
    }
}

fn v4(text: &str, address: &str) -> Result<Ipv4Addr, String> {
    address.parse().map_err(|_| {
        let (v6, bits) = text.split_once('/').unwrap_or((text, ""));
        match v6.parse::<Ipv6Addr>() {
            Ok(_) if bits.is_empty() => format!("addresses of IPv6 stand in brackets: \"[{v6}]\""),
            Ok(_) => format!("addresses of IPv6 stand in brackets: \"[{v6}]/{bits}\""),
            Err(_) if address.is_empty() => "it begins with no address".to_owned(),
            Err(_) => format!("{address:?} is no address of IPv4: names are not looked up"),
        }
    })
}

fn v6(address: &str) -> Result<Ipv6Addr, String> {
    address.parse().map_err(|_| format!("{address:?} is no address of IPv6"))
}

/// Digits alone, which stand for one number only.
fn number(text: &str, from: u32, to: u32, what: &str) -> Result<u32, String> {
    let plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let number = text.parse().ok().filter(|number| plain && (from..=to).contains(number));
    number.ok_or_else(|| format!("{what} go from {from} to {to}, not {text:?}"))
}

/// The first bits of an address.
fn masked(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            Ipv4Addr::from_bits(v4.to_bits() & !u32::MAX.checked_shr(bits).unwrap_or(0)).into()
        }
        IpAddr::V6(v6) => {
            Ipv6Addr::from_bits(v6.to_bits() & !u128::MAX.checked_shr(bits).unwrap_or(0)).into()
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = match self.address {
            IpAddr::V4(v4) => write!(f, "{v4}").map(|()| 32),
            IpAddr::V6(v6) => write!(f, "[{v6}]").map(|()| 128),
        }?;
        if self.bits < whole {
            write!(f, "/{}", self.bits)?;
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl OptionValue for Destination {
    const KIND: &'static str =
        "destination such as \"192.0.2.0/24\", \"[2001:db8::]/32\" or \"192.0.2.7:443\"";
    const KINDS: &'static str =
        "destinations such as \"192.0.2.0/24\", \"[2001:db8::]/32\" or \"192.0.2.7:443\"";
    fn read(value: &Value) -> Result<Self, Unfit> {
        value.as_str().ok_or(Unfit::Type)?.parse().map_err(Unfit::Because)
    }
    fn show(&self) -> Value {
        self.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_as_it_is_shown() {
        for text in [
            "198.51.100.7",
            "198.51.100.0/24",
            "203.0.113.7:443",
            "198.51.100.0/24:1",
            "0.0.0.0/0",
            "0.0.0.0/0:65535",
            "[2001:db8::]/32",
            "[2001:db8::1]",
            "[2001:db8::1]:443",
            "[2001:db8::]/32:22",
            "[::]/0",
            "[::1]",
        ] {
            assert_eq!(text.parse::<Destination>().expect(text).to_string(), text);
        }
        for (text, shown) in
            [("192.0.2.1/32", "192.0.2.1"), ("[2001:DB8:0::1]/128:5", "[2001:db8::1]:5")]
        {
            assert_eq!(text.parse::<Destination>().expect(text).to_string(), shown);
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_right() {
        for (text, words) in [
            ("198.51.100.7/24", r#"the network is "198.51.100.0/24""#),
            ("198.51.100.7/24:9", r#"the network is "198.51.100.0/24:9""#),
            ("[2001:db8::1]/32", r#"the network is "[2001:db8::]/32""#),
            ("2001:db8::/32", r#"in brackets: "[2001:db8::]/32""#),
            ("2001:db8::1", r#"in brackets: "[2001:db8::1]""#),
            ("2001:db8::1:443", r#"in brackets: "[2001:db8::1:443]""#),
            ("[2001:db8::1", "its `]` is missing"),
            ("[192.0.2.1]", r#""192.0.2.1" is no address of IPv6"#),
            ("[fe80::1%eth0]", "is no address of IPv6"),
            ("[::1]443", r#""443" follows the address"#),
            ("[::ffff:192.0.2.1]", r#"meant by "192.0.2.1""#),
            ("[::ffff:192.0.2.0]/120:80", r#"meant by "192.0.2.0/24:80""#),
            ("[::ffff:0:0]/96", r#"meant by "0.0.0.0/0""#),
            ("0.0.0.0", r#"write "127.0.0.1""#),
            ("0.0.0.0:80", r#"write "127.0.0.1:80""#),
            ("[::]:80", r#"write "[::1]:80""#),
            ("192.0.2.1/33", "from 0 to 32, not \"33\""),
            ("192.0.2.1/", "from 0 to 32, not \"\""),
            ("192.0.2.1/+8", "not \"+8\""),
            ("192.0.2.1/08", "not \"08\""),
            ("192.0.2.1:0", "ports go from 1 to 65535, not \"0\""),
            ("192.0.2.1:65536", "ports go from 1"),
            ("192.0.2.1:http", "ports go from 1"),
            ("192.0.2.1:1:2", "ports go from 1"),
            ("192.0.2.01", r#""192.0.2.01" is no address of IPv4"#),
            ("192.0.2", "is no address of IPv4"),
            ("example.org:443", r#""example.org" is no address of IPv4: names are not looked up"#),
            (":443", "it begins with no address"),
            ("", "it begins with no address"),
            (" 192.0.2.1", "is no address"),
        ] {
            let error = text.parse::<Destination>().expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    plugin_api::options! {
        /// A list.
        struct Options {
            /// Which.
            deny: Vec<Destination> = Vec::new(),
        }
    }

    #[test]
    fn an_option_s_error_names_the_entry() {
        use plugin_api::Options as _;
        let error = Options::from_json(r#"{"deny":["192.0.2.1","192.0.2.1/24"]}"#).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("each item of option `deny` must be a destination such as"),
            "{error}"
        );
        assert!(error.contains(r#"not "192.0.2.1/24": the network is "192.0.2.0/24""#), "{error}");
        assert!(Options::from_json(r#"{"deny":[7]}"#).unwrap_err().to_string().contains("not 7"));
        assert_eq!(Options::from_json(r#"{"deny":["[::1]"]}"#).unwrap().deny.len(), 1);
    }

    #[test]
    fn a_list_has_its_length_and_no_entry_twice() {
        let list = |texts: &[&str]| -> Vec<Destination> {
            texts.iter().map(|text| text.parse().expect(text)).collect()
        };
        let error = |texts, most| Destination::check(&list(texts), most).unwrap_err().to_string();
        let twice = ["[::1]", "192.0.2.1", "192.0.2.1:1", "[::1]/128"];
        assert_eq!(error(&twice, 9), "\"[::1]\" stands there twice");
        assert_eq!(error(&twice, 3), "4 destinations, at most 3 fit");
        assert!(Destination::check(&list(&twice[..3]), 3).is_ok());
    }

    #[test]
    fn the_key_is_that_of_the_header() {
        let key = |text: &str| text.parse::<Destination>().expect(text).key();
        let v4 = key("192.0.2.0/24:258");
        assert_eq!(v4.bits, 32 + 96 + 24);
        assert_eq!(v4.data[..4], [0, 0, 1, 2]);
        assert_eq!(v4.data[4..], Ipv4Addr::new(192, 0, 2, 0).to_ipv6_mapped().octets());
        let v6 = key("[2001:db8::]/32");
        assert_eq!((v6.bits, &v6.data[..4]), (64, &[1u16.to_ne_bytes(), [0; 2]].concat()[..]));
        assert_eq!(v6.data[4..8], [0x20, 0x01, 0x0d, 0xb8]);
    }
}
