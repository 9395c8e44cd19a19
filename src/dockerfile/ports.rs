//! The ports of `EXPOSE`.

use std::net::IpAddr;

use super::diagnostic::Diagnostic;
use super::source::Span;

/// A port or a range of ports as `EXPOSE` takes them: `[[ip:]host:]first[-last][/protocol]`.
///
/// An address and host ports mean nothing to `EXPOSE`: they are checked, and ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// The first port of the container.
    pub first: u16,
    /// The last one.
    pub last: u16,
    /// The protocol as written; `tcp` if none is.
    pub protocol: String,
    /// An address or a host port was given.
    pub mapped: bool,
}

/// Why something is no port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongPort {
    message: String,
    label: &'static str,
}

impl WrongPort {
    fn new(message: String, label: &'static str) -> Self {
        Self { message, label }
    }

    /// Points at the port.
    pub fn at(self, span: Span) -> Diagnostic {
        Diagnostic::error(span, self.message).label(self.label)
    }
}

impl PortSpec {
    /// Every port of the range, as the image's config names them.
    pub fn exposed(&self) -> impl Iterator<Item = String> {
        let protocol = self.protocol.to_ascii_lowercase();
        (self.first..=self.last).map(move |port| format!("{port}/{protocol}"))
    }
}

/// Parses one port.
pub fn parse(text: &str) -> Result<PortSpec, WrongPort> {
    let (address, host, container) = split(text);
    let (ports, protocol) = match container.split_once('/') {
        Some((ports, protocol)) if !protocol.is_empty() => (ports, protocol),
        Some((ports, _)) => (ports, "tcp"),
        None => (container, "tcp"),
    };
    if !["tcp", "udp", "sctp"].iter().any(|known| known.eq_ignore_ascii_case(protocol)) {
        let message = format!("\"{protocol}\" is no protocol of a port");
        return Err(WrongPort::new(message, "expected tcp, udp or sctp"));
    }
    let (first, last) = range(ports)?;
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        let message = format!("\"{bare}\" is no IP address");
        return Err(WrongPort::new(message, "EXPOSE takes container ports only"));
    }
    if !host.is_empty() {
        let (host_first, host_last) = range(host)?;
        if host_last - host_first != last - first && first != last {
            let message = format!("the ranges {host} and {ports} are not of one length");
            return Err(WrongPort::new(message, "EXPOSE takes container ports only"));
        }
    }
    let mapped = !address.is_empty() || !host.is_empty();
    Ok(PortSpec { first, last, protocol: protocol.to_owned(), mapped })
}

/// Address, host ports and container ports. An IPv6 address has colons of its own.
fn split(text: &str) -> (&str, &str, &str) {
    let Some((rest, container)) = text.rsplit_once(':') else { return ("", "", text) };
    match rest.rsplit_once(':') {
        Some((address, host)) => (address, host, container),
        None => ("", rest, container),
    }
}

fn range(text: &str) -> Result<(u16, u16), WrongPort> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first, text)?, number(last, text)?);
    if last < first {
        let message = format!("the range of ports {text} ends before it begins");
        return Err(WrongPort::new(message, "expected first-last"));
    }
    Ok((first, last))
}

fn number(text: &str, whole: &str) -> Result<u16, WrongPort> {
    text.strip_prefix('+').unwrap_or(text).parse().map_err(|_| {
        let message = format!("\"{whole}\" is no port");
        WrongPort::new(message, "expected a number from 0 to 65535, or a range of them")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_and_ranges_with_a_protocol() {
        let cases: [(&str, &[&str], bool); 9] = [
            ("80", &["80/tcp"], false),
            ("53/UDP", &["53/udp"], false),
            ("7-9/sctp", &["7/sctp", "8/sctp", "9/sctp"], false),
            ("80/", &["80/tcp"], false),
            ("0", &["0/tcp"], false),
            ("8080:80", &["80/tcp"], true),
            ("127.0.0.1:8080:80/tcp", &["80/tcp"], true),
            ("[fe80::1]:1-2:3-4", &["3/tcp", "4/tcp"], true),
            ("::1::443", &["443/tcp"], true),
        ];
        for (text, expected, mapped) in cases {
            let port = parse(text).unwrap();
            assert_eq!(port.exposed().collect::<Vec<_>>(), expected, "{text}");
            assert_eq!(port.mapped, mapped, "{text}");
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in
            ["", "x", "80/http", "65536", "9-8", "1-", "-1", ":", "name:1:2", "1-3:1-2", "1-2:1-3"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
