//! From a pull, which pushes bytes, to a decoder, which asks for them: a few pieces wait in between.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Descriptor, Hasher};
use crate::store::Ingest;

/// How many pieces wait for the decoder.
const PIECES_WAITING: usize = 8;
/// The largest piece.
const PIECE: usize = 256 << 10;

/// Takes a blob as it arrives.
pub(super) struct Sink {
    hasher: Hasher,
    /// Where the blob is kept as well.
    ingest: Option<Ingest>,
    pieces: SyncSender<Vec<u8>>,
    used: Receiver<Vec<u8>>,
}

/// Gives the blob's bytes; an end before its size is an error.
pub(super) struct Source {
    pieces: Receiver<Vec<u8>>,
    used: Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    left: u64,
}

/// Makes the two ends for a blob of `size` bytes.
pub(super) fn pipe(blob: &Descriptor, ingest: Option<Ingest>) -> (Sink, Source) {
    let (pieces, arriving) = sync_channel(PIECES_WAITING);
    let (give_back, used) = channel();
    let sink = Sink { hasher: Hasher::like(&blob.digest), ingest, pieces, used };
    let (current, left) = (Vec::new(), blob.size);
    (sink, Source { pieces: arriving, used: give_back, current, at: 0, left })
}

impl Sink {
    /// Compares the digest of all that arrived, and keeps the blob if that was asked for.
    pub(super) fn finish(self, blob: &Descriptor) -> Result<()> {
        let found = self.hasher.finish();
        if found != blob.digest {
            return Err(Error::new(ErrorKind::Corrupt, format!("pull blob {}", blob.digest))
                .because(format!("found digest {found}")));
        }
        self.ingest.map_or(Ok(()), |ingest| ingest.commit_as(&blob.digest, blob.size))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(PIECE)];
        self.hasher.update(bytes);
        if let Some(ingest) = &mut self.ingest {
            ingest.write_all(bytes)?;
        }
        // Fresh memory is as slow as hashing.
        let mut piece = self.used.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE));
        piece.clear();
        piece.extend_from_slice(bytes);
        let sent = self.pieces.send(piece);
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody unpacks it"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        if self.at == self.current.len() {
            let Ok(next) = self.pieces.recv() else {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the pull broke off"));
            };
            // The sink may be gone already.
            let _ = self.used.send(std::mem::replace(&mut self.current, next));
            self.at = 0;
        }
        let bytes = &self.current[self.at..];
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.at += count;
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }
}
