//! Connects to ports of a sandbox's network, by way of its helper.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::channel;
use super::connect::Answer;
use super::control::{self, Request};
use super::protocol::Order;
use crate::error::{Cannot as _, Error, ErrorKind, Result};

/// How long a server may take to accept.
const PATIENCE: Duration = Duration::from_secs(10);

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
            Err(error) if channel::is_gone(&error) => None,
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
                let near = control::connect_to(path)?;
                channel::send(&near, &Request::Connect(port), &[])?;
                near
            }
        };
        channel::receive(&near)
    }
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
