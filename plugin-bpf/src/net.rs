//! Families, addresses and prefixes of sockets, as `socket.bpf.h` has them.

use std::net::{IpAddr, Ipv6Addr};

/// The families by their numbers in the program (`FAMILY_IPV4`, `FAMILY_IPV6`), as the tag of a row.
pub const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];

/// The address of a `struct ip`, whose words are in network byte order: one of IPv4 where it is mapped.
#[must_use]
pub fn address(words: [u32; 4]) -> IpAddr {
    let mut bytes = [0; 16];
    for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    Ipv6Addr::from(bytes).to_canonical()
}

/// What `ip_prefix()` left of an address, with its length: `192.0.2.0/24`, `2001:db8::/48`; the address alone where
/// it is whole.
#[must_use]
pub fn prefix(words: [u32; 4], v4_bits: u32, v6_bits: u32) -> String {
    let address = address(words);
    let (bits, all) = if address.is_ipv4() { (v4_bits, 32) } else { (v6_bits, 128) };
    if bits >= all { address.to_string() } else { format!("{address}/{bits}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> [u32; 4] {
        let bytes = match text.parse().expect("an address") {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        std::array::from_fn(|i| {
            u32::from_ne_bytes(bytes[4 * i..][..4].try_into().expect("four bytes"))
        })
    }

    #[test]
    fn a_mapped_address_is_one_of_ipv4() {
        for (text, shown) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("::", "::"),
            ("::1", "::1"),
            ("0.0.0.0", "0.0.0.0"),
        ] {
            assert_eq!(address(words(text)).to_string(), shown);
        }
    }

    #[test]
    fn a_prefix_has_its_length_unless_it_is_the_address() {
        let prefix = |text, v4, v6| prefix(words(text), v4, v6);
        assert_eq!(prefix("192.0.2.0", 24, 48), "192.0.2.0/24");
        assert_eq!(prefix("2001:db8:7::", 24, 48), "2001:db8:7::/48");
        assert_eq!(prefix("192.0.2.9", 32, 48), "192.0.2.9");
        assert_eq!(prefix("2001:db8::9", 24, 128), "2001:db8::9");
    }
}
