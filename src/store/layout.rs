//! Where everything is in the store's folder: nothing else spells these paths.

use std::path::{Path, PathBuf};

use super::Store;

/// A folder or file of the store, by what it holds. The drawing is that of [`crate::store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorePlace {
    /// Manifests, configurations and layers.
    Blobs,
    /// The file with the names of images.
    Index,
    /// The file that makes the folder an image layout.
    LayoutFile,
    /// The number of the store's form.
    Format,
    /// Held while names change.
    IndexLock,
    /// Held while blobs are marked as used, or removed.
    CollectLock,
    /// Small facts found by key.
    Records,
    /// Images and layers, and changes of steps, as folders.
    Unpacked,
    /// What trials of isolation found here.
    Isolation,
    /// Containers.
    Containers,
    /// Locks on keys of unpacked content.
    Locks,
    /// What processes are writing.
    Work,
    /// How far the look for what is over the bound has come.
    Bound,
    /// What steps of Dockerfiles mount as caches.
    CacheMounts,
    /// What builds with a Go from an image keep for each other.
    GoCaches,
    /// The last programs of Go packages.
    Programs,
}

impl StorePlace {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Blobs,
        Self::Index,
        Self::LayoutFile,
        Self::Format,
        Self::IndexLock,
        Self::CollectLock,
        Self::Records,
        Self::Unpacked,
        Self::Isolation,
        Self::Containers,
        Self::Locks,
        Self::Work,
        Self::Bound,
        Self::CacheMounts,
        Self::GoCaches,
        Self::Programs,
    ];

    /// The path below the store's folder.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Blobs => "blobs",
            Self::Index => "index.json",
            Self::LayoutFile => "oci-layout",
            Self::Format => "gondola/format",
            Self::IndexLock => "gondola/index.lock",
            Self::CollectLock => "gondola/collect.lock",
            Self::Records => "gondola/records",
            Self::Unpacked => "gondola/rootfs",
            Self::Isolation => "gondola/isolation",
            Self::Containers => "gondola/containers",
            Self::Locks => "gondola/locks",
            Self::Work => "gondola/work",
            Self::Bound => "gondola/bound",
            Self::CacheMounts => "build-caches",
            Self::GoCaches => "go",
            Self::Programs => "programs",
        }
    }

    /// Where it is in the store whose folder is `root`.
    pub fn of(self, root: &Path) -> PathBuf {
        root.join(self.path())
    }
}

impl Store {
    /// Where something of the store is, or would be.
    pub fn place(&self, place: StorePlace) -> PathBuf {
        place.of(self.root())
    }
}
