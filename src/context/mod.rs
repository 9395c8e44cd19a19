//! Build contexts: where `COPY` and `ADD` find files that are in no image, and what becomes of them.
//!
//! ```text
//! folder, archive, checkout, download ─► files, less what an ignore file names ─► copy ─► Tree
//! ```
//! Nothing here knows the language that asked for it.

mod archive;
pub mod copy;
mod digests;
pub(crate) mod download;
mod folder;
mod git;
pub mod ignore;
mod known;

pub use archive::{
    Archive, Unpacked, archive as as_archive, below as folder_of_archive, open as open_archive,
    read as read_archive,
};
pub use digests::Digests;
pub use folder::{Folder, open as open_folder};
pub use git::{Checkout, FetchedHistory, GitSource};
