//! gzip, [RFC 1952](https://www.rfc-editor.org/rfc/rfc1952): a member for each piece, or one for all.
//!
//! Headers carry no name and no time. The operating system is 255, "unknown".

use std::io::{self, Write as _};

use flate2::GzBuilder;
use flate2::write::GzEncoder;
use libdeflater::{CompressionLvl, Compressor};

use super::{Encoder, PIECE};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::stage::Block;

/// Makes each piece a member of its own.
pub(super) struct Members(Compressor);

impl Members {
    pub(super) fn new(level: u8) -> Result<Self> {
        let level = CompressionLvl::new(level.into()).map_err(|_| {
            Error::new(ErrorKind::Usage, format!("use gzip level {level}"))
                .because("expected 1 to 9")
        })?;
        Ok(Self(Compressor::new(level)))
    }
}

impl Encoder for Members {
    fn bound(&mut self) -> usize {
        self.0.gzip_compress_bound(PIECE)
    }

    fn encode(&mut self, piece: &[u8], _: bool, out: &mut Block) -> io::Result<()> {
        let count = self.0.gzip_compress(piece, out.room()).map_err(io::Error::other)?;
        out.advance(count);
        Ok(())
    }
}

/// Makes all pieces together one member.
pub(super) struct SingleMember(GzEncoder<Vec<u8>>);

impl SingleMember {
    pub(super) fn new(level: u8) -> Self {
        let level = flate2::Compression::new(level.into());
        Self(GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), level))
    }
}

impl Encoder for SingleMember {
    fn bound(&mut self) -> usize {
        0
    }

    fn encode(&mut self, piece: &[u8], last: bool, out: &mut Block) -> io::Result<()> {
        let encoder = &mut self.0;
        encoder.write_all(piece)?;
        if last {
            encoder.try_finish()?;
        }
        let compressed = encoder.get_mut();
        out.reset(compressed.len());
        out.room()[..compressed.len()].copy_from_slice(compressed);
        out.advance(compressed.len());
        compressed.clear();
        Ok(())
    }
}
