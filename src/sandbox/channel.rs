//! Messages and descriptors over the socket between the caller and its helper.
//!
//! A message is a four-byte little-endian length and that many bytes of JSON. Descriptors travel
//! with the length.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::identity::IdMap;
use super::rung::Rung;
use super::spawn::{Exit, Stub};
use super::spec::Spec;
use super::way_out::Program;

/// The largest message: room for a hundred secrets of Docker's largest size.
const MAX_MESSAGE_BYTES: usize = 128 << 20;

/// The most descriptors with one message.
const MAX_DESCRIPTORS: usize = 9;

/// What a helper is told to do: the first message to it, with the three standard streams.
#[derive(Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) spec: Spec,
    pub(super) rung: Rung,
    pub(super) id_map: IdMap,
    /// The `proot` program, on that rung.
    pub(super) proot: Option<std::path::PathBuf>,
    /// What may lead out of a private network, the first that works.
    #[serde(default)]
    pub(super) ways_out: Vec<Program>,
    /// Do everything up to the program's start, and leave it there.
    pub(super) rehearsal: bool,
    /// Enter a running sandbox, whose namespaces come after the streams.
    pub(super) joins: bool,
}

/// Later messages to the helper.
#[derive(Serialize, Deserialize)]
pub(super) enum Order {
    /// Pass this signal to the program; SIGKILL ends everything in the sandbox.
    Signal(i32),
    /// Connect to this port of the sandbox's network. The socket for the answer comes along.
    Connect(u16),
}

/// Messages from the helper.
#[derive(Serialize, Deserialize)]
pub(super) enum Report {
    /// Process 1 was started; its id in the caller's numbering.
    Started { pid: i32 },
    /// The program runs. A terminal's controlling side comes along, if one was asked for.
    Running { stubs: Vec<Stub> },
    /// The sandbox could not be entered.
    Failed(Fault),
    /// The program ended.
    Ended(Exit),
}

/// Sends a message with descriptors.
pub(super) fn send(
    socket: &UnixStream,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "the message is too long");
    let length = u32::try_from(body.len()).map_err(|_| too_long())?;
    if body.len() > MAX_MESSAGE_BYTES {
        return Err(too_long());
    }
    // The header and the body go out together: several processes write to one socket.
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(body);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(too_long());
    }
    let sent = sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    let mut socket = socket;
    socket.write_all(&bytes[sent..])
}

/// Receives a message with the descriptors that came along; `None` when the other side is gone.
pub(super) fn receive<T: DeserializeOwned>(
    socket: &UnixStream,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut header = [0; 4];
    let Some(descriptors) = receive_header(socket, &mut header)? else { return Ok(None) };
    let length = usize::try_from(u32::from_le_bytes(header)).expect("usize has 32 bits");
    if length > MAX_MESSAGE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
    }
    let mut body = Vec::new();
    let mut bounded = socket.take(length as u64);
    if bounded.read_to_end(&mut body)? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((serde_json::from_slice(&body)?, descriptors)))
}

fn receive_header(socket: &UnixStream, header: &mut [u8; 4]) -> io::Result<Option<Vec<OwnedFd>>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(header)], &mut ancillary, flags) {
            Err(rustix::io::Errno::INTR) => {}
            // A helper that was killed before it read everything resets the connection.
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            result => break result?.bytes,
        }
    };
    if received == 0 {
        return Ok(None);
    }
    let mut socket = socket;
    socket.read_exact(&mut header[received..])?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    Ok(Some(descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeReader, pipe};
    use std::os::fd::AsFd as _;

    #[test]
    fn a_message_arrives_with_its_descriptors_and_the_end_is_told_apart() {
        let (near, far) = UnixStream::pair().unwrap();
        let (reader, mut writer) = pipe().unwrap();
        send(&near, &"hello", &[reader.as_fd()]).unwrap();
        drop((near, reader));
        let (text, mut descriptors) = receive::<String>(&far).unwrap().unwrap();
        assert_eq!(text, "hello");
        writer.write_all(b"through").unwrap();
        drop(writer);
        let mut seen = String::new();
        PipeReader::from(descriptors.pop().unwrap()).read_to_string(&mut seen).unwrap();
        assert_eq!((seen.as_str(), descriptors.len()), ("through", 0));
        assert!(receive::<String>(&far).unwrap().is_none());
    }

    #[test]
    fn a_message_longer_than_the_bound_is_refused() {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert_eq!(receive::<String>(&far).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
