//! `NO_PROXY`: the hosts that are reached directly, by the rules of Go's own HTTP client, which docker
//! and most registries' tools follow.

use std::net::IpAddr;

use reqwest::Url;

/// Hosts that no proxy is used for.
///
/// ```text
/// list  = entry { "," entry }
/// entry = "*" | CIDR | host [ ":" port ]
/// host  = an address | example.com, which covers its subdomains | .example.com or *.example.com,
///         which cover those alone
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Exceptions(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Everything,
    Network(IpAddr, u8),
    Address(IpAddr, Option<u16>),
    /// A name that begins with a dot, and whether it stands for the host without the dot, too.
    Name {
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Exceptions {
    /// Reads a list. What is no entry covers nothing.
    pub(super) fn parse(list: &str) -> Self {
        let entries = list.split(',').map(|text| text.trim().to_ascii_lowercase());
        Self(entries.filter(|text| !text.is_empty()).filter_map(|text| entry(&text)).collect())
    }

    /// Whether an address is reached directly.
    pub(super) fn cover(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let (address, port) = (bare.parse::<IpAddr>().ok(), url.port_or_known_default());
        let fits = |wanted: &Option<u16>| wanted.is_none() || *wanted == port;
        self.0.iter().any(|entry| match entry {
            Entry::Everything => true,
            Entry::Network(network, bits) => {
                address.is_some_and(|address| prefix(address, *bits) == prefix(*network, *bits))
            }
            Entry::Address(wanted, port) => address == Some(*wanted) && fits(port),
            Entry::Name { suffix, itself, port } => {
                let is_it = *itself && suffix.strip_prefix('.') == Some(&host);
                (host.ends_with(suffix.as_str()) || is_it) && fits(port)
            }
        })
    }
}

fn entry(text: &str) -> Option<Entry> {
    if text == "*" {
        return Some(Entry::Everything);
    }
    if let Some((network, bits)) = text.split_once('/') {
        let (network, bits) = (network.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?);
        let longest = if network.is_ipv4() { 32 } else { 128 };
        return (bits <= longest).then_some(Entry::Network(network, bits));
    }
    if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse() {
        return Some(Entry::Address(address, None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (text, None),
    };
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
        return Some(Entry::Address(address, port));
    }
    let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
    let itself = !host.starts_with('.');
    let suffix = if itself { format!(".{host}") } else { host.to_owned() };
    (suffix.len() > 1).then_some(Entry::Name { suffix, itself, port })
}

/// The first bits of an address. Addresses of two kinds have none in common.
fn prefix(address: IpAddr, bits: u8) -> (bool, u128) {
    let (value, length) = match address {
        IpAddr::V4(four) => (u128::from(four.to_bits()), 32),
        IpAddr::V6(six) => (six.to_bits(), 128),
    };
    (address.is_ipv4(), value.checked_shr(length - u32::from(bits)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_excepted_as_by_go() {
        for (list, host, expect) in [
            ("*", "ghcr.io", true),
            ("corp.example", "corp.example", true),
            ("corp.example", "a.b.corp.example", true),
            ("corp.example", "notcorp.example", false),
            (".corp.example", "a.corp.example", true),
            (".corp.example", "corp.example", false),
            ("*.corp.example", "registry.corp.example", true),
            ("*.corp.example", "corp.example", false),
            ("*.corp.example", "ghcr.io", false),
            ("*corp.example", "xcorp.example", false),
            ("a, CORP.example ,b", "Registry.Corp.Example", true),
            ("corp.example:5000", "corp.example:5000", true),
            ("corp.example:5000", "corp.example:5001", false),
            ("corp.example:443", "corp.example", true),
            ("10.0.0.0/8", "10.200.3.4:5000", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "11.0.0.1", true),
            ("0.0.0.0/0", "[fd00::1]", false),
            ("fd00::/16", "[fd00::1]:5000", true),
            ("10.1.2.3", "10.1.2.3:5000", true),
            ("10.1.2.3:5000", "10.1.2.3", false),
            ("[fd00::1]:5000", "[fd00::1]:5000", true),
            ("fd00::1", "[fd00::1]", true),
            ("", "ghcr.io", false),
            (",., :80,10.0.0.0/99", "ghcr.io", false),
        ] {
            let url = Url::parse(&format!("https://{host}/v2/")).unwrap();
            assert_eq!(Exceptions::parse(list).cover(&url), expect, "{list} {host}");
        }
    }
}
