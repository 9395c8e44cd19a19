//! Layers: from a [`Tree`] to a compressed archive, and back to a listing.
//!
//! ```text
//!   Tree ─► header + content ─► blocks ─┬─► diff ID
//!                                       └─► compress, on several threads ─► digest ─► output
//! ```
//!
//! One pass, in memory that does not grow with the layer. The bytes depend on the tree and the
//! [`Encoding`] alone: not on the number of threads, the machine, or the time. What could change
//! them (the form of headers, the size of compressed pieces, the version of an encoder) is counted
//! by [`FORMAT`], and golden digests in this module's tests guard it.

mod beneath;
mod chunk;
mod compress;
mod content;
mod encoding;
mod entry;
mod header;
pub mod hexadecimal;
mod key;
mod merge;
mod packed;
mod path;
mod pieces;
mod read;
#[cfg(test)]
mod sample;
mod stage;
mod tree;
mod write;

pub use beneath::{FileState, HeldFolder, Inner};
#[cfg(test)]
pub(crate) use content::boundary;
pub use content::{Content, ContentHash, FileContent, FileReader};
pub use encoding::Encoding;
pub use entry::{Entry, EntryKind};
pub use key::content_key;
pub use merge::{Below, Merge};
pub use packed::{FindHashes, IntoIter, Iter};
pub use path::{TreePath, Whiteout};
pub use pieces::{EarlierLayer, Pieces};
pub use read::{
    ArchiveReader, Inside, Limits, ListedEntry, ListedKind, decompress, detect, diff_id, entries,
    look_inside,
};
pub use tree::Tree;
pub use write::{Aids, LayerInfo, WriteOptions, archive_size, compress_archive, write, write_with};

/// The number of the layer format. It goes up whenever an equal tree gives other bytes.
pub const FORMAT: u32 = 1;
