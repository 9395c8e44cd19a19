//! Request bodies: nothing, bytes, or a source that is read while it is sent.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use reqwest::Body;
use tokio::sync::mpsc;

use super::growing::{GrowingBlob, Growth};
use super::{BlobSource, OnBytes};
use crate::blocking::blocking;
use crate::error::{Cannot, Error, ErrorKind, Result};

/// How much is read and sent at once. Smaller pieces cost more CPU, larger ones leave the cache.
const PIECE: usize = 256 * 1024;
/// How many pieces are read ahead of the network.
const AHEAD: usize = 4;
/// Bodies up to this size are read into memory before they are sent.
const SMALL: u64 = 64 * 1024;
/// How many idle buffers are kept.
const IDLE_BUFFERS: usize = 16;

const READING: &str = "read what is to be sent";

/// The body of a request. It can be sent as often as the request must be repeated.
#[derive(Clone)]
pub(super) enum Payload {
    /// No body.
    Empty,
    /// Bytes in memory.
    Bytes(Bytes),
    /// A part of a source.
    Part(Part),
    /// A blob that is being made.
    Growing(Growing),
}

/// A blob that is sent while it is made: nobody knows its length before its end.
#[derive(Clone)]
pub(super) struct Growing {
    pub blob: GrowingBlob,
    pub meter: Arc<Meter>,
    pub buffers: Buffers,
}

/// A part of a source.
#[derive(Clone)]
pub(super) struct Part {
    pub source: Arc<dyn BlobSource>,
    pub offset: u64,
    pub length: u64,
    pub meter: Arc<Meter>,
    pub buffers: Buffers,
}

/// Counts the bytes of a blob that were handed to the network, and tells each of them once.
pub(super) struct Meter {
    on_bytes: OnBytes,
    /// The highest position told.
    told: AtomicU64,
    /// Every byte handed on, repeats as well: a sign of life.
    moved: AtomicU64,
}

impl Meter {
    pub(super) fn new(on_bytes: OnBytes) -> Self {
        Self { on_bytes, told: AtomicU64::new(0), moved: AtomicU64::new(0) }
    }

    /// Takes note that the bytes up to `position` were moved, `count` of them just now.
    pub(super) fn reached(&self, position: u64, count: u64) {
        self.moved.fetch_add(count, Ordering::Relaxed);
        let before = self.told.fetch_max(position, Ordering::Relaxed);
        if position > before {
            (self.on_bytes)(position - before);
        }
    }

    /// How many bytes moved so far, repeats included.
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }
}

impl Payload {
    /// The size in bytes, which becomes `Content-Length`; `None` where it is not known yet.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::Part(part) => Some(part.length),
            Self::Growing(_) => None,
        }
    }

    /// Whether it is content as it is, of which nothing else is said.
    pub(super) fn is_of_blob(&self) -> bool {
        matches!(self, Self::Part(_) | Self::Growing(_))
    }

    /// The meter of a body that is read while it is sent.
    pub(super) fn meter(&self) -> Option<&Meter> {
        match self {
            Self::Part(part) => Some(&part.meter),
            Self::Growing(growing) => Some(&growing.meter),
            _ => None,
        }
    }

    /// Opens the body from its start, with the error that reading it ends in, if any.
    pub(super) async fn open(&self) -> Result<(Option<Body>, SourceError)> {
        let error = SourceError::default();
        let body = match self {
            Self::Empty => None,
            Self::Bytes(bytes) => Some(Body::from(bytes.clone())),
            Self::Part(part) if part.length <= SMALL => Some(Body::from(part.read().await?)),
            Self::Part(part) => Some(part.stream(error.clone())),
            Self::Growing(growing) => Some(growing.stream()),
        };
        Ok((body, error))
    }
}

/// Where a source that cannot be read leaves its error: the network layer would hide it.
#[derive(Clone, Default)]
pub(super) struct SourceError(Arc<Mutex<Option<Error>>>);

impl SourceError {
    fn set(&self, error: Error) {
        *self.0.lock().expect("no holder of this lock panics") = Some(error);
    }

    pub(super) fn take(&self) -> Option<Error> {
        self.0.lock().expect("no holder of this lock panics").take()
    }
}

impl Part {
    /// Reads a small part whole.
    async fn read(&self) -> Result<Bytes> {
        let part = self.clone();
        blocking(move || {
            let mut bytes = Vec::with_capacity(usize::try_from(part.length).unwrap_or_default());
            let mut reader = part.open()?;
            reader.read_to_end(&mut bytes).cannot(|| READING)?;
            part.meter.reached(part.offset + part.length, part.length);
            Ok(Bytes::from(bytes))
        })
        .await
    }

    /// Reads the part on a thread of its own while it is sent.
    fn stream(&self, failed: SourceError) -> Body {
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
        let part = self.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = part.send_to(&sender) {
                failed.set(error);
                // Ends the request; the text is never shown.
                let _ = sender.blocking_send(Err(io::Error::other("source failed")));
            }
        });
        let pieces = futures_util::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|piece| (piece, receiver))
        });
        Body::wrap_stream(pieces)
    }

    fn send_to(&self, sender: &mpsc::Sender<io::Result<Bytes>>) -> Result<()> {
        let mut reader = self.open()?;
        let mut position = self.offset;
        loop {
            let piece = self.buffers.read(&mut *reader).cannot(|| READING)?;
            if piece.is_empty() {
                return Ok(());
            }
            let count = piece.len() as u64;
            position += count;
            if sender.blocking_send(Ok(piece)).is_err() {
                // The request has ended; its answer says why.
                return Ok(());
            }
            self.meter.reached(position, count);
        }
    }

    fn open(&self) -> Result<Box<dyn Read + Send>> {
        let mut reader = self.source.open()?;
        let skipped =
            io::copy(&mut (&mut reader).take(self.offset), &mut io::sink()).cannot(|| READING)?;
        if skipped != self.offset {
            return Err(Error::new(ErrorKind::Corrupt, READING)
                .because(format!("it ends at byte {skipped}, expected {}", self.offset)));
        }
        Ok(Box::new(Exactly { reader, left: self.length }))
    }
}

impl Growing {
    /// Reads what is there as it comes.
    fn stream(&self) -> Body {
        let pieces =
            futures_util::stream::unfold((self.clone(), 0), |(mut growing, at)| async move {
                let piece = growing.next(at).await.transpose()?;
                let count = piece.as_ref().map_or(0, |piece| piece.len() as u64);
                growing.meter.reached(at + count, count);
                Some((piece, (growing, at + count)))
            });
        Body::wrap_stream(pieces)
    }

    /// Waits for the next piece; there is none after the last byte.
    async fn next(&mut self, at: u64) -> io::Result<Option<Bytes>> {
        let there = |growth: &Growth| growth.bytes > at || growth.digest.is_some();
        // The text is never shown.
        let failed = |_| io::Error::other("it is not made");
        let bytes = self.blob.growth.wait_for(there).await.map_err(failed)?.bytes;
        if bytes <= at {
            return Ok(None);
        }
        let (file, buffers) = (self.blob.file.clone(), self.buffers.clone());
        let read = blocking(move || {
            let mut reader = Written { file: &file, at, left: bytes - at };
            buffers.read(&mut reader).cannot(|| READING)
        });
        let piece = read.await.map_err(io::Error::other)?;
        if piece.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(piece))
    }
}

/// Reads the bytes of a file that are there already.
struct Written<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Written<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Reads a part in pieces of any size, each into memory.
pub(super) struct Pieces {
    part: Part,
    reader: Option<Box<dyn Read + Send>>,
}

impl Pieces {
    pub(super) fn new(part: Part) -> Self {
        Self { part, reader: None }
    }

    /// Reads the next piece: `length` bytes, or what is left.
    pub(super) async fn next(&mut self, length: u64) -> Result<Bytes> {
        let (part, reader) = (self.part.clone(), self.reader.take());
        let reading = blocking(move || {
            let mut reader = reader.map_or_else(|| part.open(), Ok)?;
            let mut bytes = Vec::new();
            (&mut reader).take(length).read_to_end(&mut bytes).cannot(|| READING)?;
            Ok((reader, bytes))
        });
        let (reader, bytes) = reading.await?;
        self.reader = Some(reader);
        Ok(Bytes::from(bytes))
    }
}

/// Reads `left` bytes; an earlier end is an error, so that no request is sent short.
struct Exactly {
    reader: Box<dyn Read + Send>,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.reader.read(&mut buffer[..wanted])?;
        if count == 0 {
            let text = format!("it ends {} bytes early", self.left);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        self.left -= count as u64;
        if self.left == 0 {
            // A verifying source checks its content when it is asked for more than there is.
            // That must be before the last bytes are sent.
            self.reader.read(&mut [0; 1])?;
        }
        Ok(count)
    }
}

/// Buffers that come back once their bytes are sent: fresh memory is slow.
#[derive(Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A filled buffer on its way through the network.
struct Filled {
    bytes: Vec<u8>,
    length: usize,
    home: Buffers,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        let mut idle = self.home.idle();
        if idle.len() < IDLE_BUFFERS {
            idle.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl Buffers {
    fn idle(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Reads the next piece; an empty one means the end.
    fn read(&self, reader: &mut dyn Read) -> io::Result<Bytes> {
        let taken = self.idle().pop();
        let mut bytes = taken.unwrap_or_else(|| vec![0; PIECE]);
        let mut length = 0;
        while length < bytes.len() {
            match reader.read(&mut bytes[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Bytes::from_owner(Filled { bytes, length, home: self.clone() }))
    }
}
