//! One folder of an image, unpacked alone.
//!
//! Layers are read from the top, one after the other: one that hides all below it, or that has the
//! whole of what is asked for, ends the reading, and those below are not even fetched. Nothing but the
//! folder is written, in the way of every layer. Where more than one layer has something of it they are
//! merged, without copying contents.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::copy::{self, Contents};
use super::inspect::LayerDir;
use super::part::Part;
use super::unpack::{Blobs, Job, Unpacked, diff_ids};
use super::view::{Node, View};
use super::{OwnerStorage, Unpacker, as_path};
use crate::blocking::blocking;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::image::Image;
use crate::layer::TreePath;
use crate::oci::Digest;
use crate::store::{FolderInfo, ScratchFolder};

/// The kind of the store's folders that parts of images are.
const KIND: &str = "folder";

impl Unpacker {
    /// A part of an image that was unpacked before, and stays while this handle's lease lasts. `image` is
    /// the digest of its manifest.
    pub fn kept_part(&self, image: &Digest, part: &Part) -> Result<Option<PathBuf>> {
        let kept = self.context.store.kept_folder(KIND, &part.key(image))?;
        Ok(kept.map(|kept| kept.join("fs")))
    }

    /// Unpacks a part of an image, unless it is here, as plain files of this user: owners and extended
    /// attributes are left out, and of modes only stays which files are programs. `None` where the image
    /// has no such folder.
    ///
    /// Nothing in it leads out of it: [`ErrorKind::Unsupported`] says that something would have.
    pub async fn unpack_part(&self, image: &Image, part: &Part) -> Result<Option<PathBuf>> {
        let digest = image.manifest.digest();
        if let Some(kept) = self.kept_part(digest, part)? {
            return Ok(Some(kept));
        }
        let key = part.key(digest);
        let _locks = self.lock(KIND, &[&key]).await?;
        if let Some(kept) = self.kept_part(digest, part)? {
            return Ok(Some(kept));
        }
        let layers = self.unpack_from_top(image, part).await?;
        let (unpacker, folder) = (self.clone(), part.folder().clone());
        let merged = blocking(move || unpacker.merge(&layers, &folder)).await?;
        let Some((folder, bytes)) = merged else { return Ok(None) };
        let info = FolderInfo { bytes, needs: Vec::new() };
        Ok(Some(self.context.store.keep_folder(folder, (KIND, &key), &info)?.join("fs")))
    }

    /// Unpacks what layers have of a part, down to the one below which none counts. The base is first.
    async fn unpack_from_top(&self, image: &Image, part: &Part) -> Result<Vec<Unpacked>> {
        let (diff_ids, storage) = (diff_ids(image)?, OwnerStorage::Recorded);
        let mut layers = Vec::new();
        for number in (0..diff_ids.len()).rev() {
            let mut job = Job::new(image, number, storage, Blobs::NotStored);
            job.options.only = Some(part.clone());
            let layer = self.unpack_one(job).await?;
            let ends = layer.written.hides_all || layer.written.is_whole;
            if layer.written.entries > 0 {
                layers.push(layer);
            }
            if ends {
                break;
            }
        }
        layers.reverse();
        Ok(layers)
    }

    /// Puts together what the layers have of one folder; answers how many bytes it takes, too.
    fn merge(&self, layers: &[Unpacked], only: &TreePath) -> Result<Option<(ScratchFolder, u64)>> {
        let place = |layer: &Unpacked| layer.folder.path().join("fs");
        let target = self.context.store.scratch_folder()?;
        let merged = target.path().join("fs");
        let bytes = match layers {
            [one] if !one.written.has_marks => {
                let found = place(one).join(as_path(only.as_bytes()));
                if !fs_err::symlink_metadata(&found).is_ok_and(|found| found.is_dir()) {
                    return Ok(None);
                }
                fs_err::rename(found, &merged).cannot(|| "move an unpacked folder")?;
                one.written.bytes
            }
            _ => {
                let layer_dirs = layers.iter().rev().map(|layer| {
                    LayerDir::open(place(layer), OwnerStorage::Recorded).map(Arc::new)
                });
                let view = View::new(layer_dirs.collect::<Result<_>>()?);
                let node = view.node(only.as_bytes())?.filter(Node::is_folder);
                let Some(node) = node else { return Ok(None) };
                copy::copy(&node, &merged, OwnerStorage::Recorded, Contents::Linked)?
            }
        };
        refuse_ways_out(&merged).cannot(|| format!("use /{only} of the image"))?;
        Ok(Some((target, bytes)))
    }
}

/// Refuses symbolic links that lead out of a folder in which nothing will change any more.
fn refuse_ways_out(folder: &Path) -> Result<()> {
    let action = || "follow its links";
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, folder, flags, Mode::empty()).cannot(action)?;
    let mut pending = vec![PathBuf::new()];
    while let Some(inside) = pending.pop() {
        for entry in fs_err::read_dir(folder.join(&inside)).cannot(action)? {
            let entry = entry.cannot(action)?;
            let kind = entry.file_type().cannot(action)?;
            let path = inside.join(entry.file_name());
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_symlink() && leads_out(&root, &path).cannot(action)? {
                let what = format!("use {}", path.display().to_string().escape_debug());
                return Err(Error::new(ErrorKind::Unsupported, what)
                    .because("it is a link, and may lead out of the folder"));
            }
        }
    }
    Ok(())
}

/// Whether the kernel would leave `root` on the way to a path in it.
fn leads_out(root: &OwnedFd, path: &Path) -> rustix::io::Result<bool> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), inside) {
            // Where the system does not know the call, no link is trusted.
            Err(Errno::XDEV | Errno::NOSYS | Errno::PERM) => return Ok(true),
            // Somewhere on the machine something was renamed or mounted meanwhile.
            Err(Errno::AGAIN | Errno::INTR) => {}
            // It leads to nothing, and always will.
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
}
