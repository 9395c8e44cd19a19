//! Connections into the network of a sandbox, for ports that it publishes: process 1, who is in that
//! network, opens them and hands them out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use super::channel;

/// What process 1 is asked for; the answer goes to the socket that comes along.
#[derive(Serialize, Deserialize)]
pub(super) struct ConnectRequest {
    pub(super) port: u16,
}

/// The answer: a connection comes along, or the number of the error.
#[derive(Serialize, Deserialize)]
pub(super) struct Answer(pub(super) Result<(), i32>);

/// Connects on behalf of whoever holds the other end of `reply`, and tells how it went.
pub(super) fn serve(port: u16, reply: &UnixStream) {
    let opened = open(Ipv4Addr::LOCALHOST.into(), port).or_else(|error| match error {
        rustix::io::Errno::CONNREFUSED => open(Ipv6Addr::LOCALHOST.into(), port),
        other => Err(other),
    });
    // Whoever has gone needs no answer.
    let _ = match opened {
        Ok(fd) => channel::send(reply, &Answer(Ok(())), &[fd.as_fd()]),
        Err(error) => channel::send(reply, &Answer(Err(error.raw_os_error())), &[]),
    };
}

/// Never waits: process 1 has other duties.
fn open(address: IpAddr, port: u16) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    let connected = match rustix::net::connect(&fd, &SocketAddr::new(address, port)) {
        // On a loopback device a refusal is known at once.
        Err(rustix::io::Errno::INPROGRESS) => rustix::net::sockopt::socket_error(&fd)?,
        result => result,
    };
    match connected {
        Ok(()) => Ok(fd),
        // A kernel without IPv6 refuses as one without a listener does.
        Err(_) if address.is_ipv6() => Err(rustix::io::Errno::CONNREFUSED),
        Err(error) => Err(error),
    }
}
