//! Published ports: what `-p` says, and the sockets that are opened for it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Cannot as _, Error, ErrorKind, Result};

/// A port of the host that leads to a port of the container, over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Published {
    /// Where connections are taken; port 0 means a free one.
    pub host: SocketAddr,
    /// Where they lead to.
    pub container: u16,
}

/// What one `-p` asks for: as many ports as its range has.
///
/// ```text
/// publish = [ [ ip ":" ] [ host ] ":" ] container [ "/tcp" ]
/// ip      = 127.0.0.1, [::1], …; without one, every address of the host
/// host, container = a port, or a range of as many: 8000-8010
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish(Vec<Published>);

impl Publish {
    /// The single ports.
    pub fn ports(&self) -> &[Published] {
        &self.0
    }

    /// A free port of the host for a port that an image exposes; `None` where it is not TCP.
    pub(super) fn exposed(text: &str) -> Option<Vec<Published>> {
        text.parse::<Self>().ok().map(|publish| publish.0)
    }
}

impl FromStr for Publish {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::new(ErrorKind::Usage, format!("publish \"{}\"", text.escape_debug()))
                .because(why)
                .hint("write [[IP:]HOST:]CONTAINER, such as 8080:80 or 127.0.0.1:8080:80")
        };
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        if !protocol.eq_ignore_ascii_case("tcp") {
            return Err(wrong("only TCP is carried to a private network")
                .hint("with --network host the program's own ports are the host's, UDP too"));
        }
        let (host, container) = ports.rsplit_once(':').unwrap_or(("", ports));
        let (ip, host) = match host.rsplit_once(':') {
            Some((ip, host)) => (parse_ip(ip).ok_or_else(|| wrong("that is no address"))?, host),
            None => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), host),
        };
        let container = parse_range(container).filter(|range| *range.start() > 0);
        let container = container.ok_or_else(|| wrong("a port is a number from 1 to 65535"))?;
        if host.is_empty() {
            let free = SocketAddr::new(ip, 0);
            return Ok(Self(container.map(|c| Published { host: free, container: c }).collect()));
        }
        let host = parse_range(host).ok_or_else(|| wrong("a port is a number up to 65535"))?;
        if host.len() != container.len() {
            return Err(wrong("both ranges must have the same length"));
        }
        let pairs = host.zip(container);
        let published =
            pairs.map(|(host, c)| Published { host: SocketAddr::new(ip, host), container: c });
        Ok(Self(published.collect()))
    }
}

fn parse_ip(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    bare.unwrap_or(text).parse().ok()
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse().ok()?..=last.parse().ok()?;
    (!range.is_empty()).then_some(range)
}

impl fmt::Display for Published {
    /// As docker's tables have it: `0.0.0.0:8080->80/tcp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{}/tcp", self.host, self.container)
    }
}

/// Takes every port, or none: the error about a port in use comes before anything starts.
///
/// Ports that were left free to choose are answered with the ones that were taken.
pub(super) fn listen(ports: &[Published]) -> Result<Vec<(Published, TcpListener)>> {
    let mut seen = BTreeSet::new();
    let mut listening = Vec::new();
    for port in ports {
        let action = || format!("publish port {}", port.host);
        if port.host.port() != 0 && !seen.insert(port.host) {
            return Err(Error::new(ErrorKind::Usage, action()).because("it was asked for twice"));
        }
        let listener = TcpListener::bind(port.host).map_err(|error| refused(port, error))?;
        listener.set_nonblocking(true).cannot(action)?;
        let host = listener.local_addr().cannot(action)?;
        listening.push((Published { host, ..*port }, listener));
    }
    Ok(listening)
}

fn refused(port: &Published, error: std::io::Error) -> Error {
    let wrong = Error::new(ErrorKind::Denied, format!("publish port {}", port.host));
    match error.kind() {
        std::io::ErrorKind::AddrInUse => wrong
            .because("the port is in use")
            .hint(format!("choose another one, such as -p 0:{}", port.container)),
        std::io::ErrorKind::PermissionDenied => wrong
            .because("ports below 1024 are for root here")
            .hint(format!("choose another one, such as -p 8080:{}", port.container)),
        _ => wrong.caused_by(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn display(text: &str) -> Vec<String> {
        let publish: Publish = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        publish.ports().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ports_are_read_as_docker_reads_them() {
        for (text, expect) in [
            ("8080:80", &["0.0.0.0:8080->80/tcp"][..]),
            ("8080:80/tcp", &["0.0.0.0:8080->80/tcp"]),
            ("127.0.0.1:8080:80", &["127.0.0.1:8080->80/tcp"]),
            ("127.0.0.1::80", &["127.0.0.1:0->80/tcp"]),
            ("[::1]:8080:80", &["[::1]:8080->80/tcp"]),
            ("::1:8080:80", &["[::1]:8080->80/tcp"]),
            ("80", &["0.0.0.0:0->80/tcp"]),
            ("81-82:91-92", &["0.0.0.0:81->91/tcp", "0.0.0.0:82->92/tcp"]),
        ] {
            assert_eq!(display(text), expect, "{text}");
        }
        for bad in
            ["", "x", "0", "8080:", "65536", "1:2:3", "80:81-82", "82-81:1", "53:53/udp", "a:1:2"]
        {
            assert!(bad.parse::<Publish>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_in_use_or_asked_for_twice_is_refused_and_a_free_one_is_told() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let taken = listen(&[Published { host: any, container: 80 }]).unwrap();
        let (port, _listener) = &taken[0];
        assert_ne!(port.host.port(), 0);
        let error = listen(&[*port]).unwrap_err().to_string();
        assert!(error.contains("the port is in use; hint"), "{error}");
        let free = { listen(&[Published { host: any, container: 80 }]).unwrap()[0].0 };
        let error = listen(&[free, free]).unwrap_err().to_string();
        assert!(error.contains("asked for twice"), "{error}");
    }
}
