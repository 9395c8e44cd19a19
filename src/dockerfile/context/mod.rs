//! Build contexts: where `COPY` and `ADD` find files that are in no image.

mod archive;
mod digests;
mod folder;
mod git;
mod known;

pub use archive::{
    Archive, Unpacked, archive as as_archive, below as folder_of_archive, open as open_archive,
    read as read_archive,
};
pub use digests::Digests;
pub use folder::{Folder, open as open_folder};
pub use git::{Checkout, FetchedHistory, GitSource};
