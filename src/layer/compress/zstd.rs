//! Zstandard, [RFC 8878](https://www.rfc-editor.org/rfc/rfc8878): a frame for each piece.
//!
//! Frames carry the size of their content and no checksum: the layer's digest covers them.

use std::io;

use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, compress_bound};

use super::{Encoder, PIECE};
use crate::error::{Cannot as _, Result};
use crate::layer::stage::Block;

/// Makes each piece a frame of its own.
pub(super) struct Frames(Compressor<'static>);

impl Frames {
    pub(super) fn new(level: u8) -> Result<Self> {
        let start = || -> io::Result<Compressor<'static>> {
            let mut compressor = Compressor::new(level.into())?;
            compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
            compressor.set_parameter(CParameter::ChecksumFlag(false))?;
            Ok(compressor)
        };
        start().cannot(|| format!("use zstd level {level}")).map(Self)
    }
}

impl Encoder for Frames {
    fn bound(&mut self) -> usize {
        compress_bound(PIECE)
    }

    fn encode(&mut self, piece: &[u8], _: bool, out: &mut Block) -> io::Result<()> {
        let count = self.0.compress_to_buffer(piece, out.room())?;
        out.advance(count);
        Ok(())
    }
}
