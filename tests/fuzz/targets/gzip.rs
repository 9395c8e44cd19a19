//! Compressed layers: gzip with any number of members, zstd with any number of frames.
//!
//! The first byte chooses how the rest is packed again; the rest is also read as it is.

#![no_main]

use std::io::Read;

use gondola::error::Cannot as _;
use gondola::layer::{Encoding, Entry, Tree, WriteOptions, decompress, detect, diff_id, write};
use gondola::oci::{Compression, Digest};
use libfuzzer_sys::fuzz_target;

/// Small enough that a bomb is cut off at once.
const LIMIT: u64 = 4 << 20;

fuzz_target!(|data: &[u8]| {
    unpack(data);
    let Some((choice, content)) = data.split_first() else { return };
    unpack(content);
    pack(*choice, content);
});

/// Whatever is made of the input, all ways to read it agree.
fn unpack(layer: &[u8]) {
    let compression = detect(layer);
    let told = diff_id(compression, layer, LIMIT);
    let mut found = Vec::new();
    let read = decompress(compression, layer).and_then(|reader| {
        reader.take(LIMIT + 1).read_to_end(&mut found).cannot(|| "read a layer")
    });
    match told {
        Ok((digest, size)) => {
            read.expect("it could be read for its digest");
            assert!(size <= LIMIT);
            assert_eq!((digest, size), (Digest::of(&found), found.len() as u64));
        }
        Err(_) => assert!(read.is_err() || found.len() as u64 > LIMIT, "one way errs"),
    }
    if compression == Compression::None {
        assert_eq!(found, layer);
    }
    let inside = gondola::layer::look_inside(layer, LIMIT, |reader| {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).cannot(|| "read a layer")?;
        Ok(bytes)
    });
    if let Ok(inside) = inside {
        assert_eq!(inside.found, found);
        assert_eq!(inside.diff_id, Digest::of(&found));
    }
}

/// What was packed is unpacked to the same, at every level, and equal input gives equal output.
fn pack(choice: u8, content: &[u8]) {
    let encoding = match choice {
        0..=8 => Encoding::Gzip { level: choice + 1, single_member: false },
        9..=17 => Encoding::Gzip { level: choice - 8, single_member: true },
        18..=27 => Encoding::Zstd { level: choice - 17 },
        _ => Encoding::default(),
    };
    let mut tree = Tree::new();
    let file = Entry::file(bytes::Bytes::copy_from_slice(content), 0o644);
    tree.insert("content".parse().expect("a path"), file).expect("it is the first");
    let packed = |encoding, threads| {
        let mut out = Vec::new();
        let info = write(&tree, &WriteOptions { encoding, threads }, &|_| (), &mut out);
        let info = info.expect("memory can be written to");
        assert_eq!(info.digest, Digest::of(&out));
        (info, out)
    };
    let (info, layer) = packed(encoding, 1);
    assert_eq!(packed(encoding, 2).1, layer, "the bytes depend on the number of threads");
    assert_eq!(detect(&layer), encoding.compression());
    let (plain, archive) = packed(Encoding::None, 1);
    assert_eq!(info.diff_id, plain.diff_id);
    let mut found = Vec::new();
    let mut reader = decompress(encoding.compression(), &layer[..]).expect("a decoder");
    reader.read_to_end(&mut found).expect("it was just written");
    assert_eq!(found, archive);
}
