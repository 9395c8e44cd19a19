//! From a tree to a compressed archive, in one pass.

use std::io::Write;

use super::compress::{self, Input};
use super::content::Source;
use super::header::{self, BLOCK};
use super::{Content, Encoding, Entry, EntryKind, Tree, TreePath};
use crate::error::Result;
use crate::oci::{Compression, Digest};

/// How a layer is written.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    /// How it is compressed.
    pub encoding: Encoding,
    /// How many threads compress. The bytes written do not depend on it.
    pub threads: usize,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerInfo {
    /// The digest of the bytes written.
    pub digest: Digest,
    /// The number of bytes written.
    pub size: u64,
    /// The digest of the archive before compression.
    pub diff_id: Digest,
    /// The size of the archive before compression.
    pub uncompressed_size: u64,
    /// How it is compressed.
    pub compression: Compression,
}

/// Writes `tree` to `out` as a compressed archive.
///
/// `progress` is told the bytes of the archive as they are read, on the calling thread; their sum
/// is [`archive_size`]. `out` is written from another thread, and flushed at the end. Errs if a file
/// cannot be read or does not have the size that the tree gives, or if `out` fails: what was
/// written until then is no layer.
pub fn write<W: Write + Send>(
    tree: &Tree,
    options: &WriteOptions,
    progress: &dyn Fn(u64),
    out: W,
) -> Result<LayerInfo> {
    tree.check_links()?;
    let streamed = compress::stream(options.encoding, options.threads, out, |input| {
        append_tree(tree, progress, input)
    })?;
    let (diff_id, uncompressed_size) = streamed.plain;
    let (digest, size) = streamed.compressed;
    let compression = options.encoding.compression();
    Ok(LayerInfo { digest, size, diff_id, uncompressed_size, compression })
}

/// The size of the archive that [`write()`] makes of `tree`, before compression.
pub fn archive_size(tree: &Tree) -> Result<u64> {
    let mut headers = Vec::new();
    let mut size = END.len() as u64;
    for (path, entry) in tree {
        headers.clear();
        header::append(path, entry, &mut headers)?;
        size += headers.len() as u64 + entry.size().next_multiple_of(BLOCK as u64);
    }
    Ok(size)
}

/// What an archive ends with.
const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// Progress is told in steps of about this many bytes.
const STEP: u64 = 1 << 20;

fn append_tree(tree: &Tree, progress: &dyn Fn(u64), input: &mut Input) -> Result<()> {
    let mut archive = Archive { input, progress, untold: 0, headers: Vec::new() };
    for (path, entry) in tree {
        archive.append(path, entry)?;
    }
    archive.put(&END)?;
    progress(archive.untold);
    Ok(())
}

/// An archive in the making.
struct Archive<'a, 'b> {
    input: &'a mut Input<'b>,
    progress: &'a dyn Fn(u64),
    untold: u64,
    headers: Vec<u8>,
}

impl Archive<'_, '_> {
    fn append(&mut self, path: &TreePath, entry: &Entry) -> Result<()> {
        let mut headers = std::mem::take(&mut self.headers);
        headers.clear();
        header::append(path, entry, &mut headers)?;
        self.put(&headers)?;
        self.headers = headers;
        let EntryKind::File(content) = &entry.kind else { return Ok(()) };
        match content {
            Content::Memory(bytes) => self.put(bytes)?,
            Content::File { path, size } => self.copy(Source::open(path, *size)?)?,
        }
        let padding = content.size().next_multiple_of(BLOCK as u64) - content.size();
        let padding = usize::try_from(padding).expect("it is less than a block");
        self.put(&[0; BLOCK][..padding])
    }

    /// Reads a file straight into the blocks that go to the compressor.
    fn copy(&mut self, mut source: Source) -> Result<()> {
        loop {
            let count = source.read(self.input.room()?)?;
            if count == 0 {
                return Ok(());
            }
            self.input.advance(count);
            self.tell(count as u64);
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.input.put(bytes)?;
        self.tell(bytes.len() as u64);
        Ok(())
    }

    fn tell(&mut self, bytes: u64) {
        self.untold += bytes;
        if self.untold >= STEP {
            (self.progress)(std::mem::take(&mut self.untold));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Read as _;

    use super::*;
    use crate::layer::decompress;

    /// Bytes that compress by about a half.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1u32;
        let next = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0] & 0x1f
        };
        (0..length).map(|_| next(&mut state)).collect()
    }

    /// A tree that has something of everything, and content longer than one piece.
    fn sample() -> Tree {
        let mut tree = Tree::new();
        let mut put = |path: &str, entry: Entry| {
            tree.insert_with_parents(path.parse().unwrap(), entry).unwrap();
        };
        let large = noise(1_500_000);
        put("app/server", Entry::file(large, 0o755));
        put("app/again", Entry::symlink("server"));
        put("etc/passwd", Entry::file("root:x:0:0::/:/bin/sh\n", 0o644).modified(1_700_000_000));
        put("etc/shadow", Entry::new(EntryKind::HardLink("etc/passwd".parse().unwrap()), 0o644));
        put("dev/null", Entry::new(EntryKind::CharDevice { major: 1, minor: 3 }, 0o666));
        put("dev/sda", Entry::new(EntryKind::BlockDevice { major: 8, minor: 0 }, 0o660));
        put("run/pipe", Entry::new(EntryKind::Fifo, 0o600).owned_by(65532, 65532));
        put("tmp", Entry::directory(0o1777));
        put(
            "home/käse/名前",
            Entry::file("", 0o600).owned_by(4_000_000_000, 3_000_000).modified(-1),
        );
        let mut capable = Entry::file("ping", 0o755);
        capable.xattrs.insert("security.capability".into(), vec![1, 0, 0, 2, 0, 32, 0, 0]);
        put("bin/ping", capable);
        put(&format!("{0}/{0}/{0}", "long".repeat(20)), Entry::symlink("../".repeat(60)));
        tree.insert_whiteout(&"usr/old".parse().unwrap(), 0).unwrap();
        tree.insert_opaque(Some(&"var/cache".parse().unwrap()), 0).unwrap();
        tree
    }

    fn written(tree: &Tree, encoding: Encoding, threads: usize) -> (LayerInfo, Vec<u8>) {
        let mut out = Vec::new();
        let told = Cell::new(0);
        let progress = |bytes| told.set(told.get() + bytes);
        let info = write(tree, &WriteOptions { encoding, threads }, &progress, &mut out).unwrap();
        assert_eq!(told.get(), info.uncompressed_size);
        assert_eq!(info.uncompressed_size, archive_size(tree).unwrap());
        assert_eq!(info.size, out.len() as u64);
        assert_eq!(info.digest, Digest::of(&out));
        (info, out)
    }

    const ENCODINGS: [Encoding; 5] = [
        Encoding::None,
        Encoding::Gzip { level: 1, single_member: false },
        Encoding::Gzip { level: 6, single_member: false },
        Encoding::Gzip { level: 6, single_member: true },
        Encoding::Zstd { level: 3 },
    ];

    #[test]
    fn every_encoding_holds_the_same_archive_whatever_the_number_of_threads() {
        let tree = sample();
        let (plain, archive) = written(&tree, Encoding::None, 1);
        for encoding in ENCODINGS {
            let (info, layer) = written(&tree, encoding, 1);
            assert_eq!((info.diff_id, info.size), (plain.digest.clone(), layer.len() as u64));
            let mut inside = Vec::new();
            decompress(info.compression, &layer[..]).unwrap().read_to_end(&mut inside).unwrap();
            assert!(inside == archive, "{encoding}");
            for threads in [2, 3, 16] {
                assert!(written(&tree, encoding, threads).1 == layer, "{encoding} {threads}");
            }
        }
    }
}
