//! What the store holds, and what of it must stay.
//!
//! *Named* content can be reached from `index.json`. Everything else is *cache*: bases pulled for
//! a build, layers and records that save work, images whose name moved on. Of that nothing may go that
//! a running process used, nor what such content refers to. Which of the rest goes, `cache` decides.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::file_lock::Lock;
use super::folders::{KeptFolder, kept_folders, needed_by_containers, steps_in};
use super::lock::{Census, TRASH};
use super::tree::{delete_later, remove_tree};
use super::walk::{files, names};
use super::{Store, StorePlace, absent_as_none, graph};
use crate::error::{Cannot, Result};
use crate::oci::Digest;

/// A number of files and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many files.
    pub count: u64,
    /// How many bytes they hold.
    pub bytes: u64,
}

impl Amount {
    /// Counts one more file.
    pub(super) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// Whether something may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A name leads to it: it is no cache.
    Named,
    /// A running process uses it, or a container needs it.
    InUse,
    /// It saves work: something leads to it.
    Useful,
    /// Nothing can find it again.
    Garbage,
}

impl Standing {
    /// The same of what this process cannot remove.
    #[must_use]
    pub fn stays(self) -> Self {
        if self == Self::Named { Self::Named } else { Self::InUse }
    }
}

/// A blob, a record or something unpacked.
#[derive(Clone, Debug)]
pub struct Item {
    /// Where it is, below the store's folder.
    pub path: PathBuf,
    /// Its bytes; those of what is unpacked as they were counted then.
    pub bytes: u64,
    /// When it was last used.
    pub used: SystemTime,
    /// Whether it may go.
    pub standing: Standing,
}

/// A blob file.
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) bytes: u64,
    used: SystemTime,
}

/// A record file, and the digests and kept folders that stand in it.
struct RecordFile {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
    mentions: Vec<Digest>,
    steps: Vec<String>,
}

/// Everything that a decision is made from.
pub struct Survey {
    root: PathBuf,
    named: BTreeSet<Digest>,
    blobs: Vec<Blob>,
    records: Vec<RecordFile>,
    folders: Vec<KeptFolder>,
    /// The folders that containers need.
    needed: BTreeSet<PathBuf>,
    /// What a running process used, and all that it refers to.
    held: BTreeSet<Digest>,
    /// What records lead to.
    recorded: BTreeSet<Digest>,
    /// What dead processes left.
    dead: Vec<PathBuf>,
    /// When the oldest running process began to use the store.
    oldest_lease: Option<SystemTime>,
}

/// Keeps all processes from marking anything as used, so that what is unused stays unused.
///
/// Others wait while it is there, so it should not be there for long: files that it removes are only
/// moved away, and deleted when it is gone.
pub struct Collector {
    store: Store,
    trash: Option<tempfile::TempDir>,
    next: usize,
    lock: Lock,
}

impl Store {
    /// Waits until no process marks anything as used, and keeps all from it.
    pub fn collect(&self) -> Result<Collector> {
        let lock = Lock::exclusive(&self.collect_lock()).map_err(|e| self.cannot_write(e))?;
        Ok(Collector { store: self.clone(), trash: None, next: 0, lock })
    }

    /// The same where nobody has to be waited for.
    pub fn try_collect(&self) -> Result<Option<Collector>> {
        let lock = Lock::try_exclusive(&self.collect_lock()).map_err(|e| self.cannot_write(e))?;
        Ok(lock.map(|lock| Collector { store: self.clone(), trash: None, next: 0, lock }))
    }

    /// Looks at everything that the store holds. Without a [`Collector`] it may change meanwhile.
    pub fn survey(&self) -> Result<Survey> {
        let named = self.index()?.manifests.into_iter().map(|entry| entry.digest).collect();
        Survey::take(self, named).cannot(|| format!("look through the store {}", self.display()))
    }

    /// The blobs that names lead to.
    pub fn named_blobs(&self) -> Result<BTreeSet<Digest>> {
        let named = self.index()?.manifests.into_iter().map(|entry| entry.digest);
        graph::reachable(self, named)
            .cannot(|| format!("look through the store {}", self.display()))
    }

    /// What must stay, whatever it is: [`Keepers`] are found without a look at records.
    pub fn keepers(&self) -> Result<Keepers> {
        let named: Vec<Digest> = self.index()?.manifests.into_iter().map(|e| e.digest).collect();
        let find = || -> io::Result<Keepers> {
            let oldest_lease = Census::take(&self.place(StorePlace::Work))?.oldest;
            let used = oldest_lease.map(|began| blobs_used_since(self, began)).transpose()?;
            let used = used.into_iter().flatten();
            let blobs = graph::reachable(self, named.into_iter().chain(used))?;
            let folders = needed_by_containers(self)?;
            Ok(Keepers { root: self.root().to_owned(), blobs, folders, oldest_lease })
        };
        find().cannot(|| format!("look through the store {}", self.display()))
    }
}

/// What nobody may remove.
pub struct Keepers {
    root: PathBuf,
    blobs: BTreeSet<Digest>,
    folders: BTreeSet<PathBuf>,
    oldest_lease: Option<SystemTime>,
}

impl Keepers {
    /// Whether something at a path below the store's folder must stay that was last used then.
    pub fn keep(&self, path: &Path, used: SystemTime) -> bool {
        self.oldest_lease.is_some_and(|began| used >= began)
            || self.folders.contains(&self.root.join(path))
            || digest_of(path).is_some_and(|digest| self.blobs.contains(&digest))
    }
}

/// The digest of the blob at a path below the store's folder.
pub fn digest_of(path: &Path) -> Option<Digest> {
    let mut parts = path.strip_prefix(StorePlace::Blobs.path()).ok()?.iter();
    let (algorithm, hex) = (parts.next()?.to_str()?, parts.next()?.to_str()?);
    format!("{algorithm}:{hex}").parse().ok()
}

impl Collector {
    /// Removes a file or folder of the store; one that is not there is removed.
    pub fn remove(&mut self, path: &Path) -> Result<()> {
        let path = self.store.root().join(path);
        if self.trash.is_none() {
            self.trash = self.store.trash();
        }
        let number = self.next;
        self.next += 1;
        let moved = self.trash.as_ref().map(|trash| {
            fs_err::rename(&path, trash.path().join(number.to_string())).or_else(absent_is_fine)
        });
        match moved {
            Some(Ok(())) => Ok(()),
            // A disk may be too full for the other folder.
            _ => remove_tree(&path).map_err(|error| self.store.cannot_write(error)),
        }
    }

    /// Lets others go on, and then deletes what was removed.
    pub fn finish(self) {
        let Self { trash, lock, .. } = self;
        drop(lock);
        if let Some(trash) = trash {
            // What cannot be deleted counts as a dead process's from now on.
            let _ = remove_tree(&trash.keep());
        }
    }

    /// Lets others go on, and deletes what was removed until `is_over` says so: the rest is deleted
    /// beside other work, by this process or the next.
    pub fn finish_until(self, is_over: &dyn Fn() -> bool) {
        let Self { trash, lock, .. } = self;
        drop(lock);
        let Some(trash) = trash.map(tempfile::TempDir::keep) else { return };
        for name in names(&trash) {
            let path = trash.join(name);
            if path.is_dir() || is_over() {
                delete_later(trash);
                return;
            }
            // What stays is deleted by the next process.
            let _ = fs_err::remove_file(path);
        }
        let _ = fs_err::remove_dir(trash);
    }
}

fn absent_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

impl Store {
    /// A folder to move files to, so that deleting them blocks nobody. A disk may be too full for
    /// it. Without a lease it counts as a dead process's.
    fn trash(&self) -> Option<tempfile::TempDir> {
        tempfile::Builder::new().prefix(TRASH).tempdir_in(self.place(StorePlace::Work)).ok()
    }
}

impl Survey {
    fn take(store: &Store, named: Vec<Digest>) -> io::Result<Self> {
        let census = Census::take_if_there(&store.place(StorePlace::Work))?;
        let mut survey = Self {
            root: store.root().to_owned(),
            named: graph::reachable(store, named)?,
            blobs: blobs(store)?,
            records: records(store)?,
            folders: kept_folders(store)?,
            needed: needed_by_containers(store)?,
            held: BTreeSet::new(),
            recorded: BTreeSet::new(),
            dead: census.dead,
            oldest_lease: census.oldest,
        };
        let used = survey.blobs.iter().filter(|blob| survey.in_use(blob.used));
        let used: Vec<Digest> = used.map(|blob| blob.digest.clone()).collect();
        survey.held = graph::reachable(store, used)?;
        let mentions = survey.records.iter().flat_map(|record| record.mentions.clone());
        survey.recorded = graph::reachable(store, mentions)?;
        Ok(survey)
    }

    /// Everything that a name leads to.
    pub fn named(&self) -> &BTreeSet<Digest> {
        &self.named
    }

    /// Manifests without a name, and all that they refer to: bases, and images whose name moved.
    pub fn unnamed_images(&self, store: &Store) -> Result<BTreeSet<Digest>> {
        let find = || -> io::Result<_> {
            let mut documents = Vec::new();
            for blob in self.blobs.iter().filter(|blob| !self.named.contains(&blob.digest)) {
                if graph::references(store, &blob.digest)?.is_some() {
                    documents.push(blob.digest.clone());
                }
            }
            graph::reachable(store, documents)
        };
        find().cannot(|| format!("look through the store {}", store.display()))
    }

    /// The digests that stand in records of a kind.
    pub fn mentioned_by(&self, kind: &str) -> BTreeSet<Digest> {
        let of_kind = |record: &&RecordFile| {
            record.path.parent().is_some_and(|folder| folder.ends_with(kind))
        };
        let records = self.records.iter().filter(of_kind);
        records.flat_map(|record| record.mentions.iter().cloned()).collect()
    }

    /// The folders of processes that died, below the store's folder.
    pub fn dead(&self) -> impl Iterator<Item = &Path> {
        self.dead.iter().filter_map(|folder| folder.strip_prefix(&self.root).ok())
    }

    /// Every blob, record and unpacked folder, and whether it may go.
    pub fn items(&self) -> Vec<Item> {
        let found = self.found_folders();
        let item = |path: &Path, bytes: u64, used: SystemTime, standing: Standing| {
            let path = path.strip_prefix(&self.root).unwrap_or(path).to_owned();
            Item { path, bytes, used, standing }
        };
        let blobs = self.blobs.iter().map(|blob| {
            let path = Path::new(StorePlace::Blobs.path()).join(blob.digest.algorithm());
            let standing = self.standing_of_blob(&blob.digest);
            item(&path.join(blob.digest.hex()), blob.bytes, blob.used, standing)
        });
        let records = self.records.iter().map(|record| {
            let in_use = self.in_use(record.used);
            let standing = if in_use { Standing::InUse } else { Standing::Useful };
            item(&record.path, record.bytes, record.used, standing)
        });
        let folders = self.folders.iter().map(|folder| {
            let standing = if self.in_use(folder.used) || self.needed.contains(&folder.path) {
                Standing::InUse
            } else if found.contains(&folder.key) {
                Standing::Useful
            } else {
                Standing::Garbage
            };
            item(&folder.path, folder.bytes, folder.used, standing)
        });
        blobs.chain(records).chain(folders).collect()
    }

    fn standing_of_blob(&self, digest: &Digest) -> Standing {
        if self.named.contains(digest) {
            Standing::Named
        } else if self.held.contains(digest) {
            Standing::InUse
        } else if self.recorded.contains(digest) {
            Standing::Useful
        } else {
            Standing::Garbage
        }
    }

    /// Whether something last used then was used since the oldest running process began.
    fn in_use(&self, used: SystemTime) -> bool {
        self.oldest_lease.is_some_and(|began| used >= began)
    }

    /// The folders that somebody can find again: those of images by their layers, changes that were
    /// kept by the records that name them.
    fn found_folders(&self) -> BTreeSet<String> {
        let named: BTreeSet<&str> =
            self.records.iter().flat_map(|r| r.steps.iter().map(String::as_str)).collect();
        let mut found = BTreeSet::new();
        for folder in &self.folders {
            let is_found =
                !folder.is_step() || named.contains(&*folder.key) || self.in_use(folder.used);
            if is_found {
                found.insert(folder.key.clone());
                found.extend(folder.needs.iter().cloned());
            }
        }
        found
    }
}

/// Every blob. Files that have no digest for a name are not ours and are passed over.
pub(super) fn blobs(store: &Store) -> io::Result<Vec<Blob>> {
    let mut blobs = Vec::new();
    for algorithm in ["sha256", "sha512"] {
        for (path, metadata) in files(&store.place(StorePlace::Blobs).join(algorithm))? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Ok(digest) = format!("{algorithm}:{name}").parse() {
                blobs.push(Blob { digest, bytes: metadata.len(), used: metadata.modified()? });
            }
        }
    }
    Ok(blobs)
}

/// The blobs that were used since a time. Nothing is built of the names and paths of all others: there
/// may be hundreds of thousands.
fn blobs_used_since(store: &Store, time: SystemTime) -> io::Result<Vec<Digest>> {
    let mut used = Vec::new();
    for algorithm in ["sha256", "sha512"] {
        let folder = store.place(StorePlace::Blobs).join(algorithm);
        let Some(folder) = absent_as_none(fs_err::File::open(folder))? else { continue };
        let folder = folder.file();
        for entry in rustix::fs::Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            // It may vanish meanwhile.
            let found = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                found => found?,
            };
            let is_file = FileType::from_raw_mode(found.st_mode).is_file();
            if is_file
                && modified(&found).is_none_or(|used| used >= time)
                && let Ok(name) = name.to_str()
                && let Ok(digest) = format!("{algorithm}:{name}").parse()
            {
                used.push(digest);
            }
        }
    }
    Ok(used)
}

/// When a file was changed; nothing is said of one from before 1970.
fn modified(found: &rustix::fs::Stat) -> Option<SystemTime> {
    let seconds = u64::try_from(found.st_mtime).ok()?;
    let nanos = u32::try_from(found.st_mtime_nsec).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

fn records(store: &Store) -> io::Result<Vec<RecordFile>> {
    let mut records = Vec::new();
    let kinds = absent_as_none(fs_err::read_dir(store.place(StorePlace::Records)))?;
    for kind in kinds.into_iter().flatten() {
        for (path, metadata) in files(&kind?.path())? {
            let text = absent_as_none(fs_err::read(&path))?.unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let (mentions, steps) = (graph::mentioned_in(&text), steps_in(&text));
            let (bytes, used) = (metadata.len(), metadata.modified()?);
            records.push(RecordFile { path, bytes, used, mentions, steps });
        }
    }
    Ok(records)
}
