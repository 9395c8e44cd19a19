//! `--add-host`: a line of `/etc/hosts`.

use std::net::{IpAddr, Ipv4Addr};

use super::refuse;
use crate::error::Result;

/// How the flag is called in messages, which do not show its values.
const FLAG: &str = "--add-host";

/// Reads `NAME:IP` or `NAME=IP`. `host-gateway` is the host, as it is seen on its own network.
pub fn parse(text: &str) -> Result<(String, IpAddr)> {
    let wrong = || refuse(FLAG, "expected NAME:IP");
    // An address of IPv6 has colons of its own.
    let parts = text.split_once('=').or_else(|| text.split_once(':'));
    let (name, address) = parts.ok_or_else(wrong)?;
    if name.is_empty() || name.contains(':') {
        return Err(wrong());
    }
    check_name(FLAG, name)?;
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bare.unwrap_or(address) {
        "host-gateway" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        address => address.parse().map_err(|_| wrong())?,
    };
    Ok((name.to_owned(), address))
}

/// Refuses what would make another line, or another name, of a host's name in a file.
pub fn check_name(flag: &str, name: &str) -> Result<()> {
    let is_odd = |letter: char| letter.is_whitespace() || letter.is_control() || letter == '#';
    match name.chars().find(|letter| is_odd(*letter)) {
        Some(odd) => Err(refuse(flag, format!("a host's name has no {odd:?}"))),
        None if name.is_empty() => Err(refuse(flag, "a host's name is not empty")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_docker_reads_them() {
        for (text, name, address) in [
            ("db:10.1.2.3", "db", "10.1.2.3"),
            ("db=10.1.2.3", "db", "10.1.2.3"),
            ("db:::1", "db", "::1"),
            ("db=::1", "db", "::1"),
            ("db:[2001:db8::1]", "db", "2001:db8::1"),
            ("db=[10.1.2.3]", "db", "10.1.2.3"),
            ("here:host-gateway", "here", "127.0.0.1"),
            ("here=host-gateway", "here", "127.0.0.1"),
        ] {
            let expected = (name.to_owned(), address.parse().unwrap());
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "db", "db:", ":1.2.3.4", "=1.2.3.4", "db:x", "a:b=1.2.3.4", "db:[1.2.3.4"] {
            let error = parse(bad).unwrap_err().to_string();
            assert_eq!(error, "cannot use --add-host: expected NAME:IP", "{bad}");
        }
        for bad in ["a b:1.2.3.4", "a\nb=1.2.3.4", "a\t=::1", "a#b:1.2.3.4", "\u{85}:1.2.3.4"] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains(": a host's name has no '"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
