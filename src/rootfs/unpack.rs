//! Brings the layers of an image from where they are into folders.
//!
//! ```text
//!   registry ─► digest ─► decompress ─┬─► diff ID
//!                                     └─► entries ─► folder of this process ─► rename
//! ```
//!
//! Each arrow is another thread, and several layers go this way side by side. A folder gets its place
//! in the store when digest and diff ID were found to be right, and after those below it.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use super::links;
use super::pipe::{Source, pipe};
use super::write::{WriteOptions, Written, write_layer};
use super::{KeptLayer, OwnerStorage, Rootfs, Unpacker, attributes};
use crate::blocking::blocking;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::image::{Blob, Image};
use crate::layer::{Inside, Limits, look_inside};
use crate::oci::Digest;
use crate::progress::TaskKind;
use crate::registry::BlobSource as _;
use crate::store::{FolderInfo, FolderLocks, ScratchFolder};
use crate::transport::{BlobProgress, concurrently};

/// How long to wait before looking again whether another process has unpacked the same.
const PAUSE: Duration = Duration::from_millis(20);
/// What a layer may hold: far above what images have, far below what machines have.
pub(super) const LIMITS: Limits = Limits { headers: 4 << 20, metadata: 1 << 20, bytes: 256 << 30 };

/// A layer to unpack.
pub(super) struct Job {
    blob: Blob,
    diff_id: Digest,
    pub(super) options: WriteOptions,
    /// Its place among the layers.
    number: usize,
    blobs: Blobs,
}

impl Job {
    /// For all of a layer.
    pub(super) fn new(image: &Image, number: usize, storage: OwnerStorage, blobs: Blobs) -> Self {
        let is_base = number == 0;
        Self {
            blob: image.layers[number].clone(),
            diff_id: image.config.value().rootfs.diff_ids[number].clone(),
            options: WriteOptions { storage, is_base, only: None, limits: LIMITS },
            number,
            blobs,
        }
    }
}

/// What becomes of a blob that is pulled to be unpacked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Blobs {
    Stored,
    NotStored,
}

/// A layer that was unpacked, and has no place yet.
pub(super) struct Unpacked {
    pub(super) folder: ScratchFolder,
    pub(super) written: Written,
}

impl Unpacker {
    /// Unpacks what is missing of an image, straight from where its layers are, and gives the whole.
    ///
    /// Each layer is unpacked once and shared by every process; of several that want the same one,
    /// one works and the others wait.
    pub async fn unpack(&self, image: &Image) -> Result<Rootfs> {
        self.unpack_all(image, Blobs::NotStored).await
    }

    /// The same, and on the way stores the blobs that are pulled.
    pub async fn unpack_and_store(&self, image: &Image) -> Result<Rootfs> {
        self.unpack_all(image, Blobs::Stored).await
    }

    /// Whether all of an image is unpacked already.
    pub fn has(&self, image: &Image) -> Result<bool> {
        let chain = chain(image)?;
        let keys: Vec<&str> = chain.iter().map(Digest::hex).collect();
        let found = self.found(OwnerStorage::of(self.isolation), &keys)?;
        Ok(found.iter().all(Option::is_some))
    }

    async fn unpack_all(&self, image: &Image, blobs: Blobs) -> Result<Rootfs> {
        let storage = OwnerStorage::of(self.isolation);
        let chain = chain(image)?;
        let keys: Vec<&str> = chain.iter().map(Digest::hex).collect();
        let mut found = self.found(storage, &keys)?;
        if found.iter().any(Option::is_none) {
            let _locks = self.lock(storage.name(), &keys).await?;
            found = self.found(storage, &keys)?;
            self.unpack_missing(image, &keys, &mut found, blobs).await?;
        }
        let layers = found.into_iter().map(|layer| layer.expect("all are there now")).collect();
        Ok(Rootfs::new(self, layers))
    }

    /// The layers that are here, and those below which one is missing, too.
    fn found(&self, storage: OwnerStorage, keys: &[&str]) -> Result<Vec<Option<KeptLayer>>> {
        keys.iter().map(|key| KeptLayer::find(&self.context.store, storage, key)).collect()
    }

    /// Waits until no other process makes the folders of these keys.
    pub(super) async fn lock(&self, kind: &str, keys: &[&str]) -> Result<FolderLocks> {
        loop {
            let locks = self.context.store.try_lock_folders(kind, keys.iter().copied())?;
            match locks {
                Some(locks) => return Ok(locks),
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn unpack_missing(
        &self,
        image: &Image,
        keys: &[&str],
        found: &mut [Option<KeptLayer>],
        blobs: Blobs,
    ) -> Result<()> {
        let storage = OwnerStorage::of(self.isolation);
        let missing: Vec<usize> =
            (0..keys.len()).filter(|number| found[*number].is_none()).collect();
        let jobs = missing.iter().map(|number| Job::new(image, *number, storage, blobs));
        let unpacked = self.unpack_layers(jobs.collect()).await?;
        for (number, layer) in missing.into_iter().zip(unpacked) {
            let below: Vec<KeptLayer> = found[..number].iter().flatten().cloned().collect();
            let store = self.context.store.clone();
            let key = keys[number].to_owned();
            let place = move || {
                let Unpacked { folder, written } = layer;
                let fs = folder.path().join("fs");
                let below = if written.hides_all { &[] } else { &below[..] };
                let linked = links::put(
                    &written.links_below,
                    &fs,
                    storage,
                    &super::view_of(below, storage)?,
                )?;
                copy_implied_folders(&fs, storage, &written.implied, below)?;
                if written.hides_all {
                    KeptLayer::mark_hiding(folder.path())?;
                }
                let info = FolderInfo { bytes: written.bytes + linked, needs: Vec::new() };
                store.keep_folder(folder, (storage.name(), &key), &info)?;
                KeptLayer::find(&store, storage, &key)
            };
            found[number] = blocking(place).await?;
        }
        Ok(())
    }

    /// Unpacks layers, the largest first: one that begins last would run on alone.
    async fn unpack_layers(&self, mut jobs: Vec<Job>) -> Result<Vec<Unpacked>> {
        jobs.sort_by_key(|job| std::cmp::Reverse(job.blob.descriptor.size));
        let work = jobs.into_iter().map(|job| async move {
            let number = job.number;
            self.unpack_one(job).await.map(|unpacked| (number, unpacked))
        });
        let mut unpacked = concurrently(work, self.cores.max(2)).await?;
        unpacked.sort_by_key(|(number, _)| *number);
        Ok(unpacked.into_iter().map(|(_, unpacked)| unpacked).collect())
    }

    pub(super) async fn unpack_one(&self, job: Job) -> Result<Unpacked> {
        let (store, blob) = (&self.context.store, job.blob.clone());
        let folder = store.scratch_folder()?;
        let local = store.holds(&blob.descriptor)?;
        match blob.remote().filter(|_| !local) {
            None => {
                let store = store.clone();
                blocking(move || {
                    let reader: Box<dyn Read + Send> = if local {
                        Box::new(store.open_blob(&job.blob.descriptor)?)
                    } else {
                        job.blob.open()?
                    };
                    decode(reader, folder, &job)
                })
                .await
            }
            Some(repository) => {
                let ingest = match job.blobs {
                    Blobs::Stored => Some(store.ingest_unhashed()?),
                    Blobs::NotStored => None,
                };
                let (sink, source) = pipe(&blob.descriptor, ingest);
                let transfer = BlobProgress::start(
                    &self.context.reporter,
                    TaskKind::Download,
                    &blob.descriptor,
                );
                let progress = transfer.on_bytes();
                let pull =
                    self.context.client.pull_blob(repository, &blob.descriptor, sink, progress);
                let decoding = blocking(move || decode::<Source>(source, folder, &job));
                let (pulled, decoded) = tokio::join!(pull, decoding);
                match (pulled, decoded) {
                    // One of the two failed first, and the other because of it.
                    (Err(pull), Err(decode)) => {
                        Err(if decode.kind() == ErrorKind::Io { pull } else { decode })
                    }
                    (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
                    (Ok(sink), Ok(unpacked)) => {
                        sink.finish(&blob.descriptor)?;
                        transfer.done();
                        Ok(unpacked)
                    }
                }
            }
        }
    }
}

/// Decompresses, checks and writes one layer.
fn decode<R: Read + Send>(reader: R, folder: ScratchFolder, job: &Job) -> Result<Unpacked> {
    let fs = folder.path().join("fs");
    let write = |archive: &mut (dyn Read + Send)| {
        make_layer_folder(&fs)?;
        write_layer(archive, &fs, &job.options)
    };
    let action = || format!("unpack layer {}", job.blob.descriptor.digest);
    let Inside { diff_id, found, .. } =
        look_inside(reader, job.options.limits.bytes, write).cannot(action)?;
    if diff_id != job.diff_id {
        return Err(Error::new(ErrorKind::Corrupt, action())
            .because(format!("its diff ID is {diff_id}, the config says {}", job.diff_id)));
    }
    Ok(Unpacked { folder, written: found })
}

/// Makes the folder of a layer: what an image says nothing of looks so.
pub(super) fn make_layer_folder(folder: &Path) -> Result<()> {
    let make = || -> std::io::Result<()> {
        fs_err::create_dir(folder)?;
        let file = fs_err::File::open(folder)?;
        rustix::fs::fchmod(&file, 0o755.into())?;
        rustix::fs::futimens(&file, &super::seconds(0))?;
        Ok(())
    };
    make().cannot(|| "make the folder of a layer")
}

/// Makes folders that a layer only implies look like those that they are merged with.
///
/// containerd does the same; Docker gives them to root, with mode 0755. A symbolic link or file of a
/// lower layer in their place is hidden by them, in both.
fn copy_implied_folders(
    folder: &Path,
    storage: OwnerStorage,
    implied: &BTreeSet<Vec<u8>>,
    below: &[KeptLayer],
) -> Result<()> {
    let view = super::view_of(below, storage)?;
    let mut keeper = attributes::Keeper::new(folder, storage);
    // The lowest first, because setting the one does not change the time of the other.
    for path in implied.iter().rev() {
        let made = folder.join(super::as_path(path));
        if !fs_err::symlink_metadata(&made).is_ok_and(|found| found.is_dir()) {
            // Something else was put in its place later.
            continue;
        }
        let lower = match view.node(path)? {
            Some(node) if node.is_folder() => node.entry()?,
            _ => None,
        };
        let entry = lower.unwrap_or_else(|| crate::layer::Entry::directory(0o755));
        let attributes = attributes::Attributes::of_entry(&entry);
        let open = fs_err::File::open(&made).cannot(|| "open a folder of a layer")?;
        keeper.set(&open, path, &attributes, attributes::Target::Folder)?;
        rustix::fs::futimens(&open, &attributes.times()).cannot(|| "set the time of a folder")?;
    }
    Ok(())
}

/// The chain IDs of an image's layers: what each layer and all below it are together.
///
/// See "Layer ChainID" in the [image specification][spec].
///
/// [spec]: https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid
fn chain(image: &Image) -> Result<Vec<Digest>> {
    let mut chain: Vec<Digest> = Vec::new();
    for id in diff_ids(image)? {
        chain.push(match chain.last() {
            None => id.clone(),
            Some(below) => Digest::of(format!("{below} {id}").as_bytes()),
        });
    }
    Ok(chain)
}

/// The diff IDs of an image's layers. Errs where they are not as many.
pub(super) fn diff_ids(image: &Image) -> Result<&[Digest]> {
    let diff_ids = &image.config.value().rootfs.diff_ids;
    let (layers, ids) = (image.layers.len(), diff_ids.len());
    if layers != ids {
        let action = format!("unpack image {}", image.manifest.digest());
        return Err(Error::new(ErrorKind::Invalid, action)
            .because(format!("its config has {ids} diff IDs for {layers} layers")));
    }
    Ok(diff_ids)
}
