//! Images unpacked, copy-on-write forks of them, and what was changed in a fork.
//!
//! ```text
//! ROOT/gondola/rootfs/<form>/<chain ID>/      one layer over all below it; its mtime = last use
//!   fs/           the layer's files, in overlay form
//!   fs.owners     owners that the files cannot carry, see `sandbox::owner`; absent: none
//!   hides-all     present where the layer hides everything below it
//!   bytes         how many bytes it takes on disk, about
//! ROOT/gondola/rootfs/<form>/step-<random>/   the same for the changes of a fork that was kept
//!   needs         the layers that it lies on, the base first, one a line
//! ROOT/gondola/rootfs/folder/<hash>/fs/       one folder of an image, as plain files, see [`Part`]
//! ROOT/gondola/rootfs/working/tree-<random>/  a working tree that nobody uses, see `working`
//! ROOT/gondola/work/<random>/<number>/        a layer being unpacked, a fork, or a working tree in use:
//!   fs/           the upper folder of an overlay, or a copy of the whole
//!   work/         the overlay's own
//! ```
//!
//! A layer appears under its name when all of it was checked, by a rename: `kill -9` leaves garbage
//! in the folder of a process alone. Nothing in place is ever changed. What no running process uses
//! can be removed like any other cache.
//!
//! # Layers
//!
//! A layer is written on its own, without looking at those below, as Docker's overlay2 and
//! containerd's overlayfs do. So a symbolic link *of the same layer* is followed, inside the layer,
//! where a later entry lies behind it; a link of a lower layer is not: `var/run/x` over a base whose
//! `/var/run` is a link gives the image a folder `/var/run`. What needs those below comes afterwards:
//! folders that the archive does not name look like the lower layer's (as in containerd), else they
//! are root's with mode 0755; and a hard link to a file of a lower layer makes both names one file of
//! this layer, as in a mounted overlay and with the `vfs` drivers of Docker and podman (their overlay
//! drivers refuse it). A character device 0/0 hides what lies below. Unlike in Docker, a folder that
//! comes with a whiteout of its own name hides what the lower folder has, in both orders, as the image
//! specification says.
//!
//! Of extended attributes `security.capability` and `user.*` are kept: never those of an overlay,
//! of ours, or of the host's security modules.
//!
//! # Blobs
//!
//! A pull goes straight into folders and does not store the compressed blob: that would cost a tenth
//! more time and half as much disk again, and the blob is seldom needed. A push to the registry that
//! it came from mounts it; any other push, and every export, fetches it then (see
//! [`transport::fetch_blobs`](crate::transport::fetch_blobs)). A blob that is in the store is read from there.

mod apply;
mod attributes;
mod changes;
mod copy;
mod folders;
mod fork;
mod gather;
mod hiding;
mod inspect;
mod kept_listing;
mod links;
mod listing;
mod marks;
mod part;
mod pipe;
mod record;
mod touched;
mod transition;
mod unpack;
mod unpack_part;
mod view;
mod working;
mod write;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT};

pub use fork::Fork;
pub use listing::Listing;
pub use part::Part;
pub use view::{Follow, Found, View};

use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::layer::{Tree, TreePath};
use crate::sandbox::{Isolation, Root};
use crate::store::{FolderInfo, ScratchFolder, Store};
use crate::transport::Context;
use inspect::LayerDir;

/// The file that says that a layer hides everything below it.
const HIDES_ALL: &str = "hides-all";

/// Where a sandbox mounts what [`Fork::link`] leads to.
pub const LINKED: &str = "/run/gondola";

/// A symbolic link to something that a sandbox mounts below [`LINKED`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where it is.
    pub path: TreePath,
    /// The name of what is mounted.
    pub target: String,
    /// Whose the folders are that are made for it.
    pub uid: u32,
    /// The group of those folders.
    pub gid: u32,
}

/// How the files of unpacked layers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnerStorage {
    /// With real owners, and marks that only the system's root can set.
    Trusted,
    /// With owners as the ids of the user namespace that gondola runs in, or of a container.
    Mapped,
    /// As one user's files, with owners recorded beside them.
    Recorded,
}

impl OwnerStorage {
    /// What an isolation needs.
    ///
    /// Root in a container may not be allowed to set the marks of the system's root.
    pub fn of(isolation: Isolation) -> Self {
        match isolation {
            Isolation::NsRoot => Self::Trusted,
            Isolation::NsSubuid | Isolation::InContainer => Self::Mapped,
            Isolation::Ns | Isolation::NsCopy | Isolation::Proot | Isolation::Toolchain => {
                Self::Recorded
            }
        }
    }

    /// The name of the folders for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Mapped => "mapped",
            Self::Recorded => "recorded",
        }
    }
}

/// Makes root file systems.
#[derive(Clone)]
pub struct Unpacker {
    /// The store, the client for registries, and who is told of progress.
    pub context: Context,
    /// Where the root file systems will be used.
    pub isolation: Isolation,
    /// How many layers are unpacked side by side; at least two are.
    pub cores: usize,
}

impl Unpacker {
    /// The root file system of an image without layers.
    pub fn empty(&self) -> Rootfs {
        Rootfs::new(self, Vec::new())
    }

    /// What [`Fork::keep`] kept, where all of it is still here. Marks it as used.
    pub fn kept(&self, id: &str) -> Result<Option<Rootfs>> {
        let (store, storage) = (&self.context.store, OwnerStorage::of(self.isolation));
        let Some(top) = KeptLayer::find(store, storage, id)? else { return Ok(None) };
        let mut layers = Vec::new();
        for key in store.folder_needs(&top.folder)? {
            match KeptLayer::find(store, storage, &key)? {
                Some(layer) => layers.push(layer),
                None => return Ok(None),
            }
        }
        layers.push(top);
        Ok(Some(Rootfs::new(self, layers)))
    }
}

/// A layer in its place in the store.
#[derive(Clone, Debug)]
struct KeptLayer {
    key: String,
    folder: PathBuf,
    hides_all: bool,
}

impl KeptLayer {
    fn find(store: &Store, storage: OwnerStorage, key: &str) -> Result<Option<Self>> {
        let folder = store.kept_folder(storage.name(), key)?;
        Ok(folder.map(|folder| {
            let hides_all = folder.join(HIDES_ALL).exists();
            Self { key: key.to_owned(), folder, hides_all }
        }))
    }

    /// Notes in the folder of a layer in the making that it hides everything below.
    fn mark_hiding(folder: &Path) -> Result<()> {
        fs_err::write(folder.join(HIDES_ALL), "").cannot(|| "finish a layer")
    }

    fn files(&self) -> PathBuf {
        self.folder.join("fs")
    }
}

/// An unpacked image. It is never changed, and stays in the store while this handle's lease lasts.
#[derive(Clone)]
pub struct Rootfs {
    store: Store,
    isolation: Isolation,
    /// The base first; none below one that hides everything.
    layers: Vec<KeptLayer>,
}

impl Rootfs {
    fn new(unpacker: &Unpacker, mut layers: Vec<KeptLayer>) -> Self {
        let hidden = layers.iter().rposition(|layer| layer.hides_all).unwrap_or(0);
        layers.drain(..hidden);
        Self { store: unpacker.context.store.clone(), isolation: unpacker.isolation, layers }
    }

    /// The isolation that it is for.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// The folders of the layers, in overlay form, the base first.
    pub fn layers(&self) -> Vec<PathBuf> {
        self.layers.iter().map(KeptLayer::files).collect()
    }

    /// The merged files, read without mounting them.
    pub fn view(&self) -> Result<View> {
        view_of(&self.layers, OwnerStorage::of(self.isolation))
    }

    /// The store's folders that the layers are in.
    pub fn kept_folders(&self) -> Vec<PathBuf> {
        self.layers.iter().map(|layer| layer.folder.clone()).collect()
    }

    /// Copies a folder of the image and everything in it to `target`, which is made, with owners as the
    /// isolation keeps them. Answers whether there is such a folder.
    pub fn copy_out(&self, path: &str, target: &Path) -> Result<bool> {
        let view = self.view()?;
        let found = view.find(path, Follow::Last)?.filter(|found| found.entry.is_directory());
        let Some(found) = found else { return Ok(false) };
        let real = found.path.as_ref().map_or(&b""[..], TreePath::as_bytes);
        let Some(node) = view.node(real)? else { return Ok(false) };
        copy::copy(&node, target, OwnerStorage::of(self.isolation), copy::Contents::Copied)?;
        Ok(true)
    }

    /// A writable root file system over this one: an overlay, or a copy where the isolation has none.
    pub fn fork(&self) -> Result<Fork> {
        Fork::new(self)
    }

    /// The same for a program whose changes are kept. Where root file systems are copied, and a layer can
    /// say what it hides, it is a working tree of the store, in which only what differs is copied.
    pub fn fork_in_place(&self) -> Result<Fork> {
        Fork::in_place(self)
    }

    /// With a tree on top, and the id by which [`Unpacker::kept`] finds that. Nothing is copied but the
    /// contents of the tree.
    pub fn with(&self, tree: &Tree) -> Result<(Self, String)> {
        let fork = Fork::unmounted(self)?;
        fork.apply(tree)?;
        fork.keep(Some(tree))
    }

    /// The layers, mounted for reading alone.
    ///
    /// Errs on isolations without overlays, unless there is one layer: take a fork there.
    pub fn read_only(&self) -> Result<Root> {
        match (self.isolation.has_overlay(), self.layers.as_slice()) {
            (true, _) => Ok(Root::Overlay { layers: self.layers(), changes: None }),
            (false, [only]) => Ok(Root::Folder(only.files())),
            (false, layers) => {
                let action = format!("use {} layers without copying them", layers.len());
                Err(Error::new(ErrorKind::Unsupported, action)
                    .because(format!("the sandbox {} has no overlays", self.isolation)))
            }
        }
    }
}

impl Rootfs {
    /// The keys of the layers, the base first.
    fn keys(&self) -> Vec<String> {
        self.layers.iter().map(|layer| layer.key.clone()).collect()
    }

    /// Keeps a folder as the layer on top; answers its key, too.
    fn keep_layer(
        mut self,
        layer: ScratchFolder,
        storage: OwnerStorage,
        info: &FolderInfo,
    ) -> Result<(Self, String)> {
        let id = self.store.fresh_folder_key(&layer);
        self.store.keep_folder(layer, (storage.name(), &id), info)?;
        self.push(storage, &id)?;
        Ok((self, id))
    }

    /// Puts a layer on top that is in the store.
    fn push(&mut self, storage: OwnerStorage, key: &str) -> Result<()> {
        let layer = KeptLayer::find(&self.store, storage, key)?;
        let layer = layer.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "keep a root file system")
                .because("it was removed meanwhile")
        })?;
        if layer.hides_all {
            self.layers.clear();
        }
        self.layers.push(layer);
        Ok(())
    }
}

/// The merged files of layers, the base first.
fn view_of(layers: &[KeptLayer], storage: OwnerStorage) -> Result<View> {
    let start = layers.iter().rposition(|layer| layer.hides_all).unwrap_or(0);
    let top_first = layers[start..].iter().rev();
    let layer_dirs = top_first.map(|layer| LayerDir::open(layer.files(), storage).map(Arc::new));
    Ok(View::new(layer_dirs.collect::<Result<_>>()?))
}

/// A path in a layer as the system takes it.
fn as_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

/// A time of modification for the system's calls; the time of the last reading stays.
fn seconds(mtime: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime, tv_nsec: 0 },
    }
}
