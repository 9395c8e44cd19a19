//! Pieces of compressed layers that are there already.
//!
//! ```text
//!   archive:        │ piece │ piece │ piece │     each is compressed by itself
//!   earlier layer:  │ piece │ other │ piece │
//!   layer:            taken   made    taken
//! ```
//! A program of which one line changed has most of its bytes where they were. A piece that has the bytes of
//! one in an earlier layer is not compressed again. What is taken must have the hash that it had when it was
//! made, so the layer has the bytes that compressing gives, whatever became of the earlier one.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use serde::{Deserialize, Serialize};

use super::ContentHash;
use super::stage::Block;

/// The pieces of a compressed layer, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pieces(pub(super) Vec<Piece>);

/// A piece of a compressed layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Piece {
    /// The hash of the bytes that were compressed.
    #[serde(rename = "p", with = "super::hexadecimal")]
    plain: ContentHash,
    /// The hash of what that gave.
    #[serde(rename = "c", with = "super::hexadecimal")]
    compressed: ContentHash,
    /// How many bytes that are.
    #[serde(rename = "l")]
    length: usize,
}

impl Piece {
    pub(super) fn new(plain: ContentHash, compressed: &[u8]) -> Self {
        let length = compressed.len();
        Self { plain, compressed: *blake3::hash(compressed).as_bytes(), length }
    }
}

/// An earlier layer, whose pieces are used again.
#[derive(Debug, Default)]
pub struct EarlierLayer {
    file: Option<File>,
    /// Where each piece begins, by the hash of the bytes that were compressed.
    places: BTreeMap<ContentHash, (u64, Piece)>,
}

impl EarlierLayer {
    /// The layer in a file. It must have been compressed as the next one is going to be.
    pub fn new(file: File, pieces: Pieces) -> Self {
        let mut begin = 0;
        let place = |piece: Piece| {
            let place = (piece.plain, (begin, piece));
            begin += place.1.1.length as u64;
            place
        };
        Self { file: Some(file), places: pieces.0.into_iter().map(place).collect() }
    }

    /// Puts the compressed form of a piece into an empty block, if it is there as it was.
    pub(super) fn take(&self, plain: &ContentHash, out: &mut Block) -> Option<Piece> {
        let (begin, piece) = self.places.get(plain)?;
        let room = out.room().get_mut(..piece.length)?;
        self.file.as_ref()?.read_exact_at(room, *begin).ok()?;
        if *blake3::hash(room).as_bytes() != piece.compressed {
            return None;
        }
        out.advance(piece.length);
        Some(piece.clone())
    }
}
