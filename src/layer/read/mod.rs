//! Reading layers that others made: nothing in them is trusted, no read is unbounded.

mod archive;
mod entry;
mod fields;
mod records;

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use flate2::bufread::MultiGzDecoder;

pub use archive::{ArchiveReader, Limits, entries};
pub use entry::{ListedEntry, ListedKind};

use super::stage::{Block, Pool, hash, spawn};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::oci::{Compression, Digest};

/// Large enough that decoders rarely wait for input.
const BUFFER: usize = 256 << 10;

/// Reads the archive inside a compressed layer: all gzip members, all zstd frames.
///
/// Read it to its end, behind the archive's own end marker too: until then neither the diff ID nor
/// the layer's digest is known.
pub fn decompress<'a, R: Read + Send + 'a>(
    compression: Compression,
    layer: R,
) -> Result<Box<dyn Read + Send + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(layer),
        Compression::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, layer))),
        Compression::Zstd => {
            let buffered = BufReader::with_capacity(BUFFER, layer);
            let decoder = zstd::stream::read::Decoder::with_buffer(buffered);
            Box::new(decoder.cannot(|| "decompress a layer")?)
        }
    })
}

/// Tells from the first four bytes how a layer is compressed; what is neither gzip nor zstd counts
/// as plain.
pub fn detect(start: &[u8]) -> Compression {
    match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // The second is a skippable frame, which some writers put first.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Reads a compressed layer to its end; returns its diff ID and its size before compression.
///
/// Errs when it is longer than `limit` bytes.
pub fn diff_id<R: Read + Send>(
    compression: Compression,
    layer: R,
    limit: u64,
) -> Result<(Digest, u64)> {
    let mut archive = decompress(compression, layer)?.take(limit.saturating_add(1));
    let pool = &Pool::new(BUFFER);
    let (sender, receiver) = sync_channel(4);
    let (read, (digest, size)) = thread::scope(|scope| {
        let hashing = spawn(scope, move || hash(receiver, pool))?;
        let read = read_blocks(&mut archive, pool, &sender);
        drop(sender);
        Ok::<_, Error>((read, hashing.join().expect("the hashing thread does not panic")))
    })?;
    read.map_err(|error| unreadable("decompress a layer", error))?;
    if size > limit {
        let why = format!("it has more than {limit} bytes");
        return Err(Error::new(ErrorKind::Invalid, "decompress a layer").because(why));
    }
    Ok((digest, size))
}

/// What reading a layer to its end has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside<T> {
    /// The digest of the archive.
    pub diff_id: Digest,
    /// The size of the archive.
    pub size: u64,
    /// What the reader of the archive made of it.
    pub found: T,
}

/// Reads a compressed layer to its end and gives the archive in it to `read`: decompressing,
/// hashing and whatever `read` does each have a thread, and nothing is kept but a few blocks.
///
/// Errs when `read` does, and when the archive is longer than `limit` bytes.
pub fn look_inside<R: Read + Send, T: Send>(
    layer: R,
    limit: u64,
    read: impl FnOnce(&mut (dyn Read + Send)) -> Result<T> + Send,
) -> Result<Inside<T>> {
    let mut layer = layer;
    let mut start = [0; 4];
    let known = fill(&mut layer, &mut start).map_err(|e| unreadable("read a layer", e))?;
    let compression = detect(&start[..known]);
    let whole = io::Cursor::new(start).take(known as u64).chain(layer);
    let mut archive = decompress(compression, whole)?.take(limit.saturating_add(1));
    let pool = &Pool::new(BUFFER);
    let (to_hash, hashed) = sync_channel(BLOCKS_WAITING);
    let (to_reader, blocks) = sync_channel(BLOCKS_WAITING);
    thread::scope(|scope| {
        let hashing = spawn(scope, move || hash(hashed, pool))?;
        let reading = spawn(scope, move || {
            let mut blocks = Blocks { arriving: blocks, current: None, at: 0, pool };
            let found = read(&mut blocks)?;
            // The reader may stop early: the rest is taken here, so that the sender never waits.
            while blocks.fill()? {
                blocks.at = usize::MAX;
            }
            Ok(found)
        })?;
        let fed = feed(&mut archive, pool, &to_hash, &to_reader);
        drop((to_hash, to_reader));
        let (diff_id, size) = hashing.join().expect("the hashing thread does not panic");
        let found = reading.join().expect("the reading thread does not panic");
        // A reader that gave up is why there was no more to feed.
        let found = match (fed, found) {
            (_, Err(error)) => return Err(error),
            (Err(error), Ok(_)) => return Err(unreadable("decompress a layer", error)),
            (Ok(()), Ok(found)) => found,
        };
        if size > limit {
            let why = format!("it has more than {limit} bytes");
            return Err(Error::new(ErrorKind::Invalid, "decompress a layer").because(why));
        }
        Ok(Inside { diff_id, size, found })
    })
}

/// How many blocks wait for each reader of an archive.
const BLOCKS_WAITING: usize = 4;

/// Decompresses and hands every block to both readers, until the end or until one has gone.
fn feed(
    archive: &mut impl Read,
    pool: &Pool,
    to_hash: &SyncSender<Arc<Block>>,
    to_reader: &SyncSender<io::Result<Arc<Block>>>,
) -> io::Result<()> {
    loop {
        let mut block = pool.take();
        let count = match fill(archive, block.room()) {
            Ok(count) => count,
            Err(error) => {
                // The reader must not take a cut for the end; the error itself is told here.
                let _ = to_reader.send(Err(io::Error::new(error.kind(), error.to_string())));
                return Err(error);
            }
        };
        if count == 0 {
            return Ok(());
        }
        block.advance(count);
        let block = Arc::new(block);
        to_hash.send(block.clone()).expect("the hashing thread takes all blocks");
        if to_reader.send(Ok(block)).is_err() {
            return Ok(());
        }
    }
}

/// Fills a buffer as far as there is something; answers how far.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_some(reader, &mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// Blocks from another thread as one stream.
struct Blocks<'a> {
    arriving: Receiver<io::Result<Arc<Block>>>,
    current: Option<Arc<Block>>,
    at: usize,
    pool: &'a Pool,
}

impl Blocks<'_> {
    /// Makes sure that there is something to read; false at the end.
    fn fill(&mut self) -> Result<bool> {
        self.next().map_err(|error| unreadable("decompress a layer", error))
    }

    fn next(&mut self) -> io::Result<bool> {
        if self.current.as_ref().is_some_and(|block| self.at < block.bytes().len()) {
            return Ok(true);
        }
        if let Some(block) = self.current.take() {
            self.pool.release(block);
        }
        let Ok(block) = self.arriving.recv() else { return Ok(false) };
        (self.current, self.at) = (Some(block?), 0);
        Ok(true)
    }
}

impl Read for Blocks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.next()? {
            return Ok(0);
        }
        let block = self.current.as_ref().expect("just filled");
        let bytes = &block.bytes()[self.at..];
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.at += count;
        Ok(count)
    }
}

fn read_blocks(
    reader: &mut impl Read,
    pool: &Pool,
    sender: &SyncSender<Arc<Block>>,
) -> io::Result<()> {
    loop {
        let mut block = pool.take();
        let count = read_some(reader, block.room())?;
        if count == 0 {
            return Ok(());
        }
        block.advance(count);
        sender.send(Arc::new(block)).expect("the hashing thread takes all blocks");
    }
}

fn read_some(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// An error from a decoder, or from the reader below it.
///
/// Decoders report broken input with these kinds; an operating system's errors have others.
fn unreadable(action: &str, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::InvalidData
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::Other => ErrorKind::Invalid,
        _ => ErrorKind::Io,
    };
    Error::new(kind, action).caused_by(error)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::layer::{Encoding, WriteOptions, sample, write};

    fn layer(encoding: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let encoding: Encoding = encoding.parse().unwrap();
        write(&sample::tree(), &WriteOptions { encoding, threads: 2 }, &|_| (), &mut out).unwrap();
        out
    }

    #[test]
    fn a_layer_tells_how_it_is_compressed_and_what_its_diff_id_is() {
        let plain = layer("none");
        let expected = (Digest::of(&plain), plain.len() as u64);
        for encoding in ["none", "gzip:1", "gzip:9", "zstd:1"] {
            let layer = layer(encoding);
            let compression = detect(&layer);
            assert_eq!(compression, encoding.parse::<Encoding>().unwrap().compression());
            assert_eq!(diff_id(compression, &layer[..], expected.1).unwrap(), expected);
            let error = diff_id(compression, &layer[..], expected.1 - 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
        assert_eq!(detect(b""), Compression::None);
        assert_eq!(detect(&[0x1f]), Compression::None);
    }

    #[test]
    fn what_follows_the_end_marker_and_the_first_member_counts() {
        let mut archive = layer("none");
        archive.resize(archive.len() + 9000, 0);
        let gzip = |bytes: &[u8]| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let zstd = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).unwrap();
        let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0abc";
        let (first, second) = archive.split_at(700_001);
        let whole = (Digest::of(&archive), archive.len() as u64);
        let members = [gzip(first), gzip(b""), gzip(second)].concat();
        let frames = [&skippable[..], &zstd(first), skippable, &zstd(second)].concat();
        for layer in [members, frames, archive.clone()] {
            let compression = detect(&layer);
            assert_eq!(diff_id(compression, &layer[..], u64::MAX).unwrap(), whole);
            let mut seen = 0;
            let inside = Counting(decompress(compression, &layer[..]).unwrap(), &mut seen);
            let listed: Result<Vec<_>> = entries(inside).collect();
            assert_eq!(listed.unwrap().len(), sample::tree().len());
            assert_eq!(seen, whole.1);
        }
    }

    struct Counting<'a, R>(R, &'a mut u64);

    impl<R: Read> Read for Counting<'_, R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.read(buffer)?;
            *self.1 += count as u64;
            Ok(count)
        }
    }

    #[test]
    fn a_broken_layer_is_invalid_and_a_broken_disk_is_not() {
        for encoding in ["gzip:1", "zstd:1"] {
            let whole = layer(encoding);
            let compression = detect(&whole);
            for cut in [0, 3, 20, whole.len() / 2, whole.len() - 1] {
                let result = diff_id(compression, &whole[..cut], u64::MAX);
                // No frame at all is an empty zstd stream.
                if !(cut == 0 && compression == Compression::Zstd) {
                    assert_eq!(result.unwrap_err().kind(), ErrorKind::Invalid, "{encoding} {cut}");
                }
            }
            let mut junk_behind = whole.clone();
            junk_behind.extend_from_slice(b"junk");
            let error = diff_id(compression, &junk_behind[..], u64::MAX).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{encoding}: {error}");
            let error = diff_id(compression, whole[..99].chain(Unreadable), u64::MAX).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{encoding}: {error}");
        }
    }

    struct Unreadable;

    impl Read for Unreadable {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }

    #[test]
    fn a_changed_byte_changes_the_diff_id_or_is_an_error() {
        let whole = layer("gzip:1");
        let (expected, _) = diff_id(Compression::Gzip, &whole[..], u64::MAX).unwrap();
        for place in (10..whole.len()).step_by(whole.len() / 40) {
            let mut flipped = whole.clone();
            flipped[place] ^= 0x10;
            if let Ok((found, _)) = diff_id(Compression::Gzip, &flipped[..], u64::MAX) {
                assert_ne!(found, expected, "{place}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_input_makes_a_decoder_panic(
            start in prop::sample::select(vec![&b"\x1f\x8b\x08"[..], b"\x28\xb5\x2f\xfd", b""]),
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let layer = [start, &rest].concat();
            drop(diff_id(detect(&layer), &layer[..], 1 << 20));
        }
    }
}
