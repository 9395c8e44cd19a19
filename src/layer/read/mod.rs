//! Reading layers that others made.

use std::io::{BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use crate::error::{Cannot as _, Result};
use crate::oci::Compression;

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
