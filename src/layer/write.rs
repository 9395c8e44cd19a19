//! From a tree to a compressed archive, in one pass.

use std::io::{Read, Write};

use super::compress::{self, How, Input, Streamed};
use super::header::{self, BLOCK};
use super::{
    Content, EarlierLayer, Encoding, Entry, EntryKind, FileReader, Pieces, Tree, TreePath,
};
use crate::error::{Cannot as _, Result};
use crate::oci::{Compression, Digest};

/// How a layer is written.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    /// How it is compressed.
    pub encoding: Encoding,
    /// How many threads compress. The bytes written do not depend on it.
    pub threads: usize,
}

/// What is at hand while a layer is written. Its bytes do not depend on it.
#[derive(Clone, Copy, Default)]
pub struct Aids<'a> {
    /// A layer that may have pieces of it.
    pub earlier: Option<&'a EarlierLayer>,
    /// Is told the digest of the archive as soon as all of it was read: not all of it is compressed then.
    pub on_diff_id: Option<&'a dyn Fn(&Digest)>,
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
/// cannot be read or does not have the size, or the hash, that the tree gives, or if `out` fails:
/// what was written until then is no layer.
pub fn write<W: Write + Send>(
    tree: &Tree,
    options: &WriteOptions,
    progress: &dyn Fn(u64),
    out: W,
) -> Result<LayerInfo> {
    write_with(tree, options, Aids::default(), progress, out).map(|(info, _)| info)
}

/// The same, with what is at hand. Answers the layer's own pieces, too, where an earlier layer was looked
/// into; there are none where pieces depend on each other.
pub fn write_with<W: Write + Send>(
    tree: &Tree,
    options: &WriteOptions,
    aids: Aids<'_>,
    progress: &dyn Fn(u64),
    out: W,
) -> Result<(LayerInfo, Pieces)> {
    tree.check_links()?;
    let WriteOptions { encoding, threads } = *options;
    let earlier = aids.earlier.filter(|_| encoding.has_pieces());
    let how = How { encoding, threads, earlier, on_diff_id: aids.on_diff_id };
    let streamed = compress::stream(how, out, |input| append_tree(tree, progress, input))?;
    Ok(info(streamed, options))
}

fn info(streamed: Streamed, options: &WriteOptions) -> (LayerInfo, Pieces) {
    let Streamed { plain: (diff_id, uncompressed_size), compressed: (digest, size), pieces } =
        streamed;
    let compression = options.encoding.compression();
    (LayerInfo { digest, size, diff_id, uncompressed_size, compression }, pieces)
}

/// Compresses an archive that is there already as [`write()`] compresses the one that it makes. The error
/// of `progress`, which is told of the bytes that were read, ends it.
pub fn compress_archive<W: Write + Send>(
    mut archive: impl Read,
    options: &WriteOptions,
    progress: &dyn Fn(u64) -> Result<()>,
    out: W,
) -> Result<LayerInfo> {
    let WriteOptions { encoding, threads } = *options;
    let how = How { encoding, threads, earlier: None, on_diff_id: None };
    let streamed = compress::stream(how, out, |input| {
        loop {
            match archive.read(input.room()?) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    input.advance(count);
                    progress(count as u64)?;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).cannot(|| "read an archive"),
            }
        }
    })?;
    Ok(info(streamed, options).0)
}

/// The size of the archive that [`write()`] makes of `tree`, before compression.
pub fn archive_size(tree: &Tree) -> Result<u64> {
    let mut headers = Vec::new();
    let mut size = END.len() as u64;
    for (path, entry) in tree {
        headers.clear();
        header::append(&path, &entry, &mut headers)?;
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
        archive.append(&path, &entry)?;
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
            Content::File(file) => self.copy(file.open()?)?,
        }
        let padding = content.size().next_multiple_of(BLOCK as u64) - content.size();
        let padding = usize::try_from(padding).expect("it is less than a block");
        self.put(&[0; BLOCK][..padding])
    }

    /// Reads a file straight into the blocks that go to the compressor.
    fn copy(&mut self, mut source: FileReader) -> Result<()> {
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
    use std::fmt::Write as _;
    use std::io::{self, Read as _};

    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;
    use crate::layer::{content_key, decompress, sample};

    const ENCODINGS: [Encoding; 6] = [
        Encoding::None,
        Encoding::Gzip { level: 1, single_member: false },
        Encoding::Gzip { level: 6, single_member: false },
        Encoding::Gzip { level: 1, single_member: true },
        Encoding::Gzip { level: 6, single_member: true },
        Encoding::Zstd { level: 3 },
    ];

    fn written(tree: &Tree, encoding: Encoding, threads: usize) -> (LayerInfo, Vec<u8>) {
        let mut out = Vec::new();
        let told = Cell::new(0);
        let progress = |bytes| told.set(told.get() + bytes);
        let info = write(tree, &WriteOptions { encoding, threads }, &progress, &mut out).unwrap();
        assert_eq!(told.get(), info.uncompressed_size);
        assert_eq!(info.uncompressed_size, archive_size(tree).unwrap());
        assert_eq!((info.size, &info.digest), (out.len() as u64, &Digest::of(&out)));
        (info, out)
    }

    /// These pin the layer format. A change here means that equal trees give other layers than
    /// before: raise `FORMAT`, and say in the commit why.
    #[test]
    fn the_format_is_what_it_was() {
        let mut tree = sample::tree();
        let mut found = String::new();
        for encoding in ENCODINGS {
            let (info, _) = written(&tree, encoding, 2);
            let key = content_key(&mut tree, &encoding).unwrap();
            writeln!(found, "{encoding} {} {key}", info.digest).unwrap();
        }
        assert_eq!(found, GOLDEN);
        assert_eq!(crate::layer::FORMAT, 1);
    }

    const GOLDEN: &str = "\
none sha256:7e7f59ee5128df04607efef225681d0268e0e65fcf15247eaa8a5a4da1bf8961 67711234e842f909ca5613c8fb79133da6f33602db7e718862f0bca1dcf36daa
gzip:1 sha256:6d1d4947b7e89e8244999d48c1070a85137670baa747dcd8302d63048d1442e7 800d4398ccfe633fa57f4391a8e0f9dda3f71fe157a86069f4808679acd09b2b
gzip:6 sha256:b280212fde19f60759c4ed6903ab7ffe4e77f94195eebddd622e4910b7eb82f3 6da9f6acf76cbd6eb69be7cfb7e4403742afa843934c0a77bf51bc23afa2c4ef
gzip:1 sha256:35d2f4333349d1393b1f66054c33741c9bf9d5aae35861cacd55fd86a9d80dcc e8aace7a9ad6685c8df4fbcbd963ea93e3d8b76c8fbd7ab73a556b4c0e42f371
gzip:6 sha256:e01834e03cdd9a9ca7810ba2afbe189466ac5ec87185a47fe466fa89ea731c39 35afa9c94d2f12de91666e2680a86ede6e402411770eb6f2ff7d13b98a160717
zstd:3 sha256:f57b242feb0dfe29c634c8ebce19f10328dae07f8d476121a58b503b7c2ac6f4 97547040990f2e71c707f4dd7996ebc2396ec7b6cf579992324225795f99f6e8
";

    #[test]
    fn every_encoding_holds_the_same_archive_whatever_the_number_of_threads() {
        let tree = sample::tree();
        let (plain, archive) = written(&tree, Encoding::None, 1);
        for encoding in ENCODINGS {
            let (info, layer) = written(&tree, encoding, 1);
            assert_eq!(info.diff_id, plain.digest);
            assert_eq!(info.compression, encoding.compression());
            let mut inside = Vec::new();
            decompress(info.compression, &layer[..]).unwrap().read_to_end(&mut inside).unwrap();
            assert!(inside == archive, "{encoding}");
            for threads in [0, 2, 3, 16] {
                assert!(written(&tree, encoding, threads).1 == layer, "{encoding} {threads}");
            }
        }
    }

    /// A tree of four pieces, the second of which depends on `byte`.
    fn of_pieces(byte: u8) -> Tree {
        let mut content = sample::text(7 << 19);
        content[3 << 19] = byte;
        let mut tree = Tree::new();
        tree.insert("a".parse().unwrap(), Entry::file(content, 0o644)).unwrap();
        tree
    }

    /// A layer in a file, with its pieces.
    fn in_file(tree: &Tree, encoding: Encoding) -> (std::fs::File, Pieces) {
        let mut file = tempfile::tempfile().unwrap();
        let options = WriteOptions { encoding, threads: 2 };
        let none = EarlierLayer::default();
        let aids = Aids { earlier: Some(&none), on_diff_id: None };
        let (_, pieces) = write_with(tree, &options, aids, &|_| (), &mut file).unwrap();
        (file, pieces)
    }

    fn beside(tree: &Tree, encoding: Encoding, earlier: &EarlierLayer) -> (LayerInfo, Vec<u8>) {
        let mut out = Vec::new();
        let options = WriteOptions { encoding, threads: 2 };
        let told = std::cell::RefCell::new(Vec::new());
        let tell = |diff_id: &Digest| told.borrow_mut().push(diff_id.clone());
        let aids = Aids { earlier: Some(earlier), on_diff_id: Some(&tell) };
        let (info, pieces) = write_with(tree, &options, aids, &|_| (), &mut out).unwrap();
        assert_eq!(*told.borrow(), std::slice::from_ref(&info.diff_id));
        let expected = if encoding.has_pieces() { 4 } else { 0 };
        assert_eq!(pieces.0.len(), expected, "{encoding}");
        (info, out)
    }

    #[test]
    fn a_layer_beside_an_earlier_one_has_the_bytes_that_it_has_alone() {
        for encoding in ENCODINGS {
            let alone = written(&of_pieces(b'2'), encoding, 2);
            let (file, pieces) = in_file(&of_pieces(b'1'), encoding);
            // However it was written down meanwhile.
            let pieces = serde_json::from_str(&serde_json::to_string(&pieces).unwrap()).unwrap();
            let earlier = EarlierLayer::new(file, pieces);
            assert_eq!(beside(&of_pieces(b'2'), encoding, &earlier), alone, "{encoding}");
        }
    }

    #[test]
    fn pieces_that_are_there_are_taken_unless_they_are_damaged() {
        use std::os::unix::fs::FileExt as _;
        let fast = Encoding::Gzip { level: 1, single_member: false };
        let small = Encoding::Gzip { level: 9, single_member: false };
        let [of_fast, of_small] = [fast, small].map(|of| written(&of_pieces(b'2'), of, 2));
        // By a layer of another level it can be told where a piece is from.
        let (file, pieces) = in_file(&of_pieces(b'1'), small);
        let damaged = file.try_clone().unwrap();
        let earlier = EarlierLayer::new(file, pieces);
        let (info, mixed) = beside(&of_pieces(b'2'), fast, &earlier);
        assert_eq!(info.diff_id, of_fast.0.diff_id);
        let sizes = [of_small.1.len(), mixed.len(), of_fast.1.len()];
        assert!(sizes.is_sorted() && sizes[0] < sizes[1] && sizes[1] < sizes[2], "{sizes:?}");
        for at in 0..damaged.metadata().unwrap().len() / 1000 {
            damaged.write_all_at(b"damage", 1000 * at).unwrap();
        }
        assert_eq!(beside(&of_pieces(b'2'), fast, &earlier), of_fast);
        damaged.set_len(0).unwrap();
        assert_eq!(beside(&of_pieces(b'2'), fast, &earlier), of_fast);
    }

    #[test]
    fn an_archive_of_exactly_one_piece_is_one_member() {
        let mut tree = Tree::new();
        let content = vec![7; (1 << 20) - BLOCK - END.len()];
        tree.insert("a".parse().unwrap(), Entry::file(content, 0o644)).unwrap();
        let (info, layer) = written(&tree, Encoding::default(), 2);
        assert_eq!(info.uncompressed_size, 1 << 20);
        let mut first = Vec::new();
        flate2::read::GzDecoder::new(&layer[..]).read_to_end(&mut first).unwrap();
        assert_eq!(first.len(), 1 << 20);
    }

    #[test]
    fn a_single_member_is_all_that_a_simple_reader_needs() {
        let (info, layer) = written(&sample::tree(), Encoding::default().in_single_member(), 2);
        let mut first = Vec::new();
        flate2::read::GzDecoder::new(&layer[..]).read_to_end(&mut first).unwrap();
        assert_eq!(first.len() as u64, info.uncompressed_size);
        // No name, no time, an unknown operating system.
        assert_eq!(layer[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, layer[8], 255]);
    }

    /// Takes so many bytes and then fails, as a full disk does.
    struct Full(usize);

    impl io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let count = bytes.len().min(self.0);
            self.0 -= count;
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_stops_everything_and_is_the_error() {
        let mut tree = Tree::new();
        for name in ["a", "b", "c"] {
            tree.insert(name.parse().unwrap(), Entry::file(sample::text(9 << 20), 0o644)).unwrap();
        }
        for encoding in ENCODINGS {
            for room in [0, 1, 2 << 20] {
                let options = WriteOptions { encoding, threads: 2 };
                let error = write(&tree, &options, &|_| (), Full(room)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Io);
                assert!(error.to_string().starts_with("cannot write a layer: "), "{error}");
                assert!(!error.to_string().contains("stopped"), "{error}");
            }
        }
    }

    #[test]
    fn a_file_of_another_size_stops_everything_and_is_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs_err::write(&file, "12345").unwrap();
        let mut tree = Tree::new();
        tree.insert("a".parse().unwrap(), Entry::file(sample::text(3 << 20), 0o644)).unwrap();
        let content = Content::file(&file, 6);
        tree.insert("b".parse().unwrap(), Entry::file(content, 0o644)).unwrap();
        for encoding in ENCODINGS {
            let options = WriteOptions { encoding, threads: 2 };
            let error = write(&tree, &options, &|_| (), io::sink()).unwrap_err().to_string();
            assert!(error.contains(file.to_str().unwrap()), "{error}");
        }
        assert!(content_key(&mut tree, &Encoding::None).is_err());
    }

    #[test]
    fn no_layer_has_other_bytes_than_its_key_was_made_of() {
        use crate::layer::FileContent;
        use crate::layer::boundary::{Boundary, hooked};
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let (old, new) = (vec![b'o'; 3 << 20], vec![b'n'; 3 << 20]);
        for encoding in ENCODINGS {
            for edit in [Boundary::Hashed, Boundary::Opened, Boundary::FirstBlock] {
                fs_err::write(&file, &old).unwrap();
                let mut tree = Tree::new();
                let content = Content::from_file(&file).unwrap();
                tree.insert("a".parse().unwrap(), Entry::file(content, 0o644)).unwrap();
                content_key(&mut tree, &encoding).unwrap();
                if edit == Boundary::Hashed {
                    fs_err::write(&file, &new).unwrap();
                }
                let (target, bytes) = (file.clone(), new.clone());
                let hook = move |at, _: &FileContent| {
                    if at == edit {
                        fs_err::write(&target, &bytes).unwrap();
                    }
                };
                let options = WriteOptions { encoding, threads: 2 };
                let error = hooked(hook, || write(&tree, &options, &|_| (), io::sink()));
                let error = error.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Changed, "{encoding} {edit:?}: {error}");
                assert!(error.message().contains(file.to_str().unwrap()), "{error}");
            }
        }
    }

    #[test]
    fn content_in_a_file_and_in_memory_give_the_same_layer_and_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let bytes = sample::text(2_000_001);
        fs_err::write(&file, &bytes).unwrap();
        let tree = |content| {
            let mut tree = Tree::new();
            tree.insert("a".parse().unwrap(), Entry::file(content, 0o644)).unwrap();
            tree
        };
        let (mut in_memory, mut in_file) =
            (tree(bytes.into()), tree(Content::from_file(&file).unwrap()));
        let encoding = Encoding::default();
        assert_eq!(written(&in_memory, encoding, 2), written(&in_file, encoding, 2));
        let key = content_key(&mut in_memory, &encoding).unwrap();
        assert_eq!(key, content_key(&mut in_file, &encoding).unwrap());
    }

    #[test]
    fn a_hard_link_that_cannot_be_unpacked_is_not_written() {
        let mut tree = Tree::new();
        let link = EntryKind::HardLink("b".parse().unwrap());
        tree.insert("a".parse().unwrap(), Entry::new(link, 0o644)).unwrap();
        let options = WriteOptions { encoding: Encoding::None, threads: 1 };
        assert!(write(&tree, &options, &|_| (), io::sink()).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        #[test]
        fn the_tar_crate_reads_what_the_tree_has(tree in sample::any_tree()) {
            let (_, archive) = written(&tree, Encoding::None, 1);
            let mut read = tar::Archive::new(&archive[..]);
            let mut entries = read.entries().unwrap();
            for (path, entry) in &tree {
                let mut found = entries.next().unwrap().unwrap();
                compare(&path, &entry, &mut found);
            }
            prop_assert!(entries.next().is_none());
        }
    }

    fn compare(path: &TreePath, entry: &Entry, found: &mut tar::Entry<&[u8]>) {
        let mut name = path.as_bytes().to_vec();
        if entry.is_directory() {
            name.push(b'/');
        }
        assert_eq!(found.path_bytes(), name);
        let header = found.header().clone();
        assert!(header.as_ustar().is_some());
        assert_eq!(header.mode().unwrap(), entry.mode);
        assert_eq!(header.username_bytes(), Some(&b""[..]));
        let link = match &entry.kind {
            EntryKind::Symlink(target) => Some(target.clone()),
            EntryKind::HardLink(target) => Some(target.as_bytes().to_vec()),
            _ => None,
        };
        assert_eq!(found.link_name_bytes().map(|name| name.to_vec()), link);
        if let EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } =
            entry.kind
        {
            assert_eq!(header.device_major().unwrap(), Some(major));
            assert_eq!(header.device_minor().unwrap(), Some(minor));
        }
        let mut content = Vec::new();
        found.read_to_end(&mut content).unwrap();
        if let EntryKind::File(Content::Memory(bytes)) = &entry.kind {
            assert_eq!(content, bytes[..]);
        }
        compare_records(entry, &header, found);
    }

    fn compare_records(entry: &Entry, header: &tar::Header, found: &mut tar::Entry<&[u8]>) {
        let mut xattrs = std::collections::BTreeMap::new();
        let (mut mtime, mut uid, mut gid) = (
            i64::try_from(header.mtime().unwrap()).unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
        );
        for record in found.pax_extensions().unwrap().into_iter().flatten() {
            let record = record.unwrap();
            let text = || record.value().unwrap().to_owned();
            match record.key().unwrap() {
                "mtime" => mtime = text().parse().unwrap(),
                "uid" => uid = text().parse().unwrap(),
                "gid" => gid = text().parse().unwrap(),
                key => {
                    if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                        xattrs.insert(name.to_owned(), record.value_bytes().to_vec());
                    }
                }
            }
        }
        assert_eq!((mtime, uid, gid), (entry.mtime, entry.uid.into(), entry.gid.into()));
        assert_eq!(xattrs, entry.xattrs);
    }
}
