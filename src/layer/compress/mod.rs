//! Compression in pieces, on several threads, written in order.
//!
//! ```text
//!   producer ─┬─► hash                                       (diff ID)
//!             ├─► jobs ─► worker … worker ─┐
//!             └─► order of the pieces ─────┴─► hash and write (digest)
//! ```
//!
//! The channels are short: what is in flight, and with it the memory, is bounded by the number of
//! workers. A stage that fails lets go of its channels, and all others come to their end.

mod gzip;
mod zstd;

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::Encoding;
use super::pieces::{EarlierLayer, Piece, Pieces};
use super::stage::{Block, Pool, hash, spawn};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::oci::{Digest, Hasher};

/// More workers than this gain nothing: hashing is the floor by then.
const MOST_WORKERS: usize = 12;
/// The size of a piece: what each gzip member or zstd frame holds. With 4 MiB, layers of Go programs
/// are 0.05 % smaller as gzip and 0.4 % as Zstandard (level 3), and the memory needed trebles.
const PIECE: usize = 1 << 20;

/// Compresses pieces, one after the other.
trait Encoder: Send {
    /// Room that the compressed form of any piece fits into.
    fn bound(&mut self) -> usize;

    /// Appends the compressed form of `piece` to `out`, which has room for [`Self::bound`] bytes.
    fn encode(&mut self, piece: &[u8], last: bool, out: &mut Block) -> io::Result<()>;
}

/// How an archive is compressed.
#[derive(Clone, Copy)]
pub(super) struct How<'a> {
    pub(super) encoding: Encoding,
    pub(super) threads: usize,
    /// What has pieces of it already. Only for encodings whose pieces do not depend on each other.
    pub(super) earlier: Option<&'a EarlierLayer>,
    /// Is told the digest of the archive when all of it went in.
    pub(super) on_diff_id: Option<&'a dyn Fn(&Digest)>,
}

/// What went through: before compression, and after.
pub(super) struct Streamed {
    pub(super) plain: (Digest, u64),
    pub(super) compressed: (Digest, u64),
    /// None where no earlier layer was looked into.
    pub(super) pieces: Pieces,
}

/// Compresses what `produce` puts in, and writes it to `out`.
pub(super) fn stream<W: Write + Send>(
    how: How<'_>,
    out: W,
    produce: impl FnOnce(&mut Input) -> Result<()>,
) -> Result<Streamed> {
    match how.encoding {
        Encoding::None => stream_plain(how, out, produce),
        // Its pieces depend on each other.
        Encoding::Gzip { single_member: true, .. } => {
            stream_encoded(How { threads: 1, ..how }, out, produce)
        }
        _ => {
            let threads = how.threads.clamp(1, MOST_WORKERS);
            stream_encoded(How { threads, ..how }, out, produce)
        }
    }
}

fn encoder(encoding: Encoding) -> Result<Box<dyn Encoder>> {
    Ok(match encoding {
        Encoding::Gzip { level, single_member: false } => Box::new(gzip::Members::new(level)?),
        Encoding::Gzip { level, single_member: true } => Box::new(gzip::SingleMember::new(level)),
        Encoding::Zstd { level } => Box::new(zstd::Frames::new(level)?),
        Encoding::None => unreachable!("a plain archive goes through no encoder"),
    })
}

fn stream_plain<W: Write + Send>(
    how: How<'_>,
    out: W,
    produce: impl FnOnce(&mut Input) -> Result<()>,
) -> Result<Streamed> {
    let pool = &Pool::new(PIECE);
    let (sender, receiver) = sync_channel::<Arc<Block>>(2);
    let written = thread::scope(|scope| {
        let writing = spawn(scope, move || {
            let mut output = Output::new(out);
            receiver.into_iter().try_for_each(|block| {
                output.write(block.bytes())?;
                pool.release(block);
                Ok(())
            })?;
            output.finish()
        })?;
        let produced = feed(pool, produce, |block, _| sender.send(block).map_err(|_| Stopped));
        drop(sender);
        merge(produced, writing.join().expect("the writing thread does not panic"))
    })?;
    let pieces = Pieces::default();
    if let Some(tell) = how.on_diff_id {
        tell(&written.0);
    }
    Ok(Streamed { plain: written.clone(), compressed: written, pieces })
}

fn stream_encoded<W: Write + Send>(
    How { encoding, threads: workers, earlier, on_diff_id }: How<'_>,
    out: W,
    produce: impl FnOnce(&mut Input) -> Result<()>,
) -> Result<Streamed> {
    let encoders = (0..workers).map(|_| encoder(encoding)).collect::<Result<Vec<_>>>()?;
    let (inputs, outputs) = (&Pool::new(PIECE), &Pool::new(0));
    let (order, ordered) = sync_channel(workers + 1);
    let (jobs, queue) = sync_channel(workers + 1);
    let (plain, to_hash) = sync_channel(workers + 1);
    thread::scope(|scope| {
        let hashing = spawn(scope, move || hash(to_hash, inputs))?;
        let queue = Arc::new(Mutex::new(queue));
        for encoder in encoders {
            let queue = queue.clone();
            let worker = Worker { encoder, inputs, outputs, earlier };
            spawn(scope, move || worker.work(&queue))?;
        }
        drop(queue);
        let writing = spawn(scope, move || collect(ordered, outputs, out))?;
        let produced = feed(inputs, produce, |block, last| {
            let (done, result) = sync_channel(1);
            order.send(result).map_err(|_| Stopped)?;
            plain.send(block.clone()).map_err(|_| Stopped)?;
            jobs.send(Job { piece: block, last, done }).map_err(|_| Stopped)
        });
        drop((order, jobs, plain));
        let plain = hashing.join().expect("the hashing thread does not panic");
        if let (Ok(()), Some(tell)) = (&produced, on_diff_id) {
            tell(&plain.0);
        }
        let written = writing.join().expect("the writing thread does not panic");
        let (compressed, pieces) = merge(produced, written)?;
        Ok(Streamed { plain, compressed, pieces })
    })
}

/// A piece to compress, and where its compressed form goes.
struct Job {
    piece: Arc<Block>,
    last: bool,
    done: SyncSender<io::Result<Compressed>>,
}

/// A piece that was compressed.
struct Compressed {
    block: Block,
    /// What it is known by, where an earlier layer is looked into.
    piece: Option<Piece>,
}

/// Compresses pieces on a thread of its own.
struct Worker<'a> {
    encoder: Box<dyn Encoder>,
    inputs: &'a Pool,
    outputs: &'a Pool,
    earlier: Option<&'a EarlierLayer>,
}

impl Worker<'_> {
    fn work(mut self, jobs: &Mutex<Receiver<Job>>) {
        loop {
            let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Job { piece, last, done }) = next else { return };
            let result = self.compress(piece.bytes(), last);
            self.inputs.release(piece);
            // The collector may be gone after a failure; then the result is not needed.
            drop(done.send(result));
        }
    }

    fn compress(&mut self, piece: &[u8], last: bool) -> io::Result<Compressed> {
        let mut block = self.outputs.take();
        block.reset(self.encoder.bound());
        let plain = self.earlier.map(|_| *blake3::hash(piece).as_bytes());
        if let (Some(earlier), Some(plain)) = (self.earlier, &plain)
            && let Some(taken) = earlier.take(plain, &mut block)
        {
            return Ok(Compressed { block, piece: Some(taken) });
        }
        self.encoder.encode(piece, last, &mut block)?;
        let piece = plain.map(|plain| Piece::new(plain, block.bytes()));
        Ok(Compressed { block, piece })
    }
}

/// Writes the compressed pieces in the order in which they were produced.
fn collect<W: Write>(
    ordered: Receiver<Receiver<io::Result<Compressed>>>,
    outputs: &Pool,
    out: W,
) -> Result<((Digest, u64), Pieces)> {
    let (mut output, mut pieces) = (Output::new(out), Pieces::default());
    for result in ordered {
        let compressed = result.recv().expect("a worker answers each job");
        let Compressed { block, piece } = compressed.cannot(|| "compress a layer")?;
        output.write(block.bytes())?;
        outputs.give(block);
        pieces.0.extend(piece);
    }
    Ok((output.finish()?, pieces))
}

/// Hashes what it writes.
struct Output<W> {
    out: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Output<W> {
    fn new(out: W) -> Self {
        Self { out, hasher: Hasher::new(), size: 0 }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.out.write_all(bytes).cannot(|| "write a layer")
    }

    fn finish(mut self) -> Result<(Digest, u64)> {
        self.out.flush().cannot(|| "write a layer")?;
        Ok((self.hasher.finish(), self.size))
    }
}

/// A later stage is gone; it says why itself.
struct Stopped;

/// The error of the first stage that failed: a producer that was merely stopped has none of its own.
fn merge<T>(produced: Result<(), Option<Error>>, written: Result<T>) -> Result<T> {
    match produced {
        Err(Some(error)) => Err(error),
        Err(None) => Err(written.err().unwrap_or_else(|| {
            Error::new(ErrorKind::Io, "write a layer").because("a thread stopped early")
        })),
        Ok(()) => written,
    }
}

/// Runs `produce` and hands each full block, and the last one, to `send`.
fn feed(
    pool: &Pool,
    produce: impl FnOnce(&mut Input) -> Result<()>,
    mut send: impl FnMut(Arc<Block>, bool) -> Result<(), Stopped>,
) -> Result<(), Option<Error>> {
    let mut stopped = false;
    let mut input = Input {
        pool,
        block: pool.take(),
        send: &mut |block, last| {
            send(block, last).map_err(|Stopped| {
                stopped = true;
                Error::new(ErrorKind::Io, "write a layer").because("a later stage stopped")
            })
        },
    };
    let result = produce(&mut input).and_then(|()| input.finish());
    result.map_err(|error| if stopped { None } else { Some(error) })
}

/// Where the bytes to compress go. Cuts them into pieces.
pub(super) struct Input<'a> {
    pool: &'a Pool,
    block: Block,
    send: &'a mut dyn FnMut(Arc<Block>, bool) -> Result<()>,
}

impl Input<'_> {
    /// Room for the next bytes, never empty. [`Self::advance`] says how many were put there.
    pub(super) fn room(&mut self) -> Result<&mut [u8]> {
        if self.block.room().is_empty() {
            let full = std::mem::replace(&mut self.block, self.pool.take());
            (self.send)(Arc::new(full), false)?;
        }
        Ok(self.block.room())
    }

    /// Takes the first `count` bytes of the room.
    pub(super) fn advance(&mut self, count: usize) {
        self.block.advance(count);
    }

    /// Puts in bytes from memory.
    pub(super) fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            self.advance(count);
            bytes = &bytes[count..];
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        (self.send)(Arc::new(self.block), true)
    }
}
