//! `COPY` and `ADD`: which files are meant, and what becomes of the file system they are put into.
//!
//! ```text
//! sources ─► select ─► what is there, in order ─► digest, for the step's key
//!                            └──────────────────► place, into a stage's files ─► Tree
//! ```
//! Selecting does not look at the destination and placing does not look at the sources again. Both
//! follow BuildKit: a folder's content is copied, not the folder; a trailing slash makes the
//! destination a folder; links that a source ends with are followed, those in folders are kept.

mod chmod;
mod inside;
mod owner;
mod place;
mod select;

pub use chmod::Chmod;
pub use inside::Inside;
pub use owner::{Owner, owner};
pub use place::{Destination, make_folder, place};
pub use select::{Selected, Selection, digest, select};
