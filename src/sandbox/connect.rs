//! Connections into the network of a sandbox, for ports that it publishes: process 1, who is in that
//! network, opens them and hands them out.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use super::channel::{self, Order};
use super::join::{self, Request};
use crate::error::{Cannot as _, Error, ErrorKind, Result};

/// How long a server may take to accept.
const PATIENCE: Duration = Duration::from_secs(10);

/// What process 1 is asked for; the answer goes to the socket that comes along.
#[derive(Serialize, Deserialize)]
pub(super) struct ConnectRequest {
    pub(super) port: u16,
}

/// The answer: a connection comes along, or the number of the error.
#[derive(Serialize, Deserialize)]
struct Answer(Result<(), i32>);

/// Opens connections into the network of a sandbox.
#[derive(Clone, Debug)]
pub struct Connector(Way);

#[derive(Clone, Debug)]
enum Way {
    Starter(Arc<UnixStream>),
    Control(PathBuf),
}

impl Connector {
    pub(super) fn of_starter(control: Arc<UnixStream>) -> Self {
        Self(Way::Starter(control))
    }

    /// By way of the socket of [`super::Spec::control`], from any process of the same user.
    pub fn at(control: impl Into<PathBuf>) -> Self {
        Self(Way::Control(control.into()))
    }

    /// Connects to a port of the sandbox's loopback device. Blocks, most briefly; while nobody
    /// listens there the error is [`ErrorKind::Network`].
    pub fn connect(&self, port: u16) -> Result<TcpStream> {
        let action = || format!("connect to port {port} of the sandbox");
        let answered = match self.ask(port) {
            Err(error) if is_gone(&error) => None,
            result => result.cannot(action)?,
        };
        let Some((Answer(answer), mut fds)) = answered else {
            return Err(Error::new(ErrorKind::NotFound, action()).because("it has ended"));
        };
        let refused = |error: io::Error| Error::new(ErrorKind::Network, action()).caused_by(error);
        answer.map_err(|number| refused(io::Error::from_raw_os_error(number)))?;
        let fd = fds.pop().ok_or_else(|| refused(io::ErrorKind::UnexpectedEof.into()))?;
        finish(fd).map_err(refused)
    }

    fn ask(&self, port: u16) -> io::Result<Option<(Answer, Vec<OwnedFd>)>> {
        let near = match &self.0 {
            Way::Starter(control) => {
                let (near, far) = UnixStream::pair()?;
                channel::send(control, &Order::Connect(port), &[far.as_fd()])?;
                near
            }
            Way::Control(path) => {
                let near = join::connect_to(path)?;
                channel::send(&near, &Request::Connect(port), &[])?;
                near
            }
        };
        channel::receive(&near)
    }
}

/// Whether an error on a helper's socket says that there is no helper.
pub(super) fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound};
    matches!(error.kind(), BrokenPipe | ConnectionRefused | ConnectionReset | NotFound)
}

/// Waits until the connection is made, where the server was busy.
fn finish(fd: OwnedFd) -> io::Result<TcpStream> {
    let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    let mut watched = [PollFd::new(&fd, PollFlags::OUT)];
    if poll(&mut watched, Some(&patience))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    rustix::net::sockopt::socket_error(&fd)??;
    let stream = TcpStream::from(fd);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

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
