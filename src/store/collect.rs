//! What the store holds, and what can go.
//!
//! *Named* content can be reached from `index.json`. Everything else is *cache*: bases pulled for
//! a build, layers and records that save work, images whose name moved on. Pruning removes cache
//! alone, and of that nothing that a running process used, nor what such content refers to.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::file_lock::Lock;
use super::folders::{KeptFolder, kept_folders, needed_by_containers, steps_in};
use super::lock::Census;
use super::tree::remove_tree;
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

/// What the store holds. Each file is counted once, in the first class that it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Everything that a name leads to.
    pub images: Amount,
    /// Manifests without a name and all that they refer to: bases, and images whose name moved.
    pub bases: Amount,
    /// Blobs that no manifest here refers to.
    pub layers: Amount,
    /// Records.
    pub records: Amount,
    /// Layers and folders of images that are unpacked, to be run.
    pub unpacked: Amount,
    /// Unfinished files, of running and of dead processes.
    pub temporary: Amount,
}

impl Usage {
    /// The sum of all bytes.
    pub fn bytes(&self) -> u64 {
        [self.images, self.bases, self.layers, self.records, self.unpacked, self.temporary]
            .iter()
            .map(|amount| amount.bytes)
            .sum()
    }
}

/// What [`Store::prune`] removes. Named images always stay, and so does what is in use.
///
/// Without a limit and without `all`, only what nothing can find again goes: content that neither
/// a name nor a record leads to. With `all`, the whole cache goes. With a limit, the part of the
/// cache that is over it goes; with both limits, the part that is over both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrunePolicy {
    /// Removes cache that was last used at least so long ago.
    pub older_than: Option<Duration>,
    /// Removes the least recently used cache, until so many bytes of cache are left.
    pub keep_bytes: Option<u64>,
    /// Removes all cache; a limit narrows it down again.
    pub all: bool,
    /// Removes nothing, and answers what would be removed.
    pub dry_run: bool,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The blobs, with their sizes, the least recently used first.
    pub blobs: Vec<(Digest, u64)>,
    /// The records.
    pub records: Amount,
    /// What was unpacked.
    pub unpacked: Amount,
    /// Unfinished files of dead processes.
    pub temporary: Amount,
}

impl Pruned {
    /// The sum of all bytes.
    pub fn bytes(&self) -> u64 {
        let blobs: u64 = self.blobs.iter().map(|(_, bytes)| bytes).sum();
        blobs + self.records.bytes + self.unpacked.bytes + self.temporary.bytes
    }
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

/// Something that may be pruned.
struct Candidate {
    used: SystemTime,
    bytes: u64,
    path: PathBuf,
    what: What,
}

/// What a [`Candidate`] is.
enum What {
    Blob(Digest),
    Record,
    Folder,
}

/// Everything that a decision is made from.
struct Survey {
    named: BTreeSet<Digest>,
    blobs: Vec<Blob>,
    records: Vec<RecordFile>,
    folders: Vec<KeptFolder>,
    /// The folders that containers need.
    needed: BTreeSet<PathBuf>,
    /// When the oldest running process began to use the store.
    oldest_lease: Option<SystemTime>,
}

impl Store {
    /// Adds up what the store holds.
    pub fn usage(&self) -> Result<Usage> {
        let named = self.index()?.manifests.into_iter().map(|entry| entry.digest);
        let count = || -> io::Result<Usage> {
            let survey = Survey::take(self, named.collect(), None)?;
            survey.usage(self)
        };
        count().cannot(|| format!("add up the store {}", self.shown()))
    }

    /// Removes cache as `policy` says, and what dead processes left. `now` is the current time.
    ///
    /// Other processes wait while it decides, not while files are deleted.
    pub fn prune(&self, policy: &PrunePolicy, now: SystemTime) -> Result<Pruned> {
        let lock =
            Lock::exclusive(&self.collect_lock()).map_err(|error| self.cannot_write(error))?;
        let named: Vec<Digest> =
            self.index()?.manifests.into_iter().map(|entry| entry.digest).collect();
        let decide = || -> io::Result<_> {
            let census = Census::take(&self.place(StorePlace::Work))?;
            let survey = Survey::take(self, named, census.oldest)?;
            let candidates = survey.chosen(self, policy, now)?;
            Ok((census, candidates))
        };
        let (census, candidates) =
            decide().cannot(|| format!("look through the store {}", self.shown()))?;
        let mut pruned = Pruned { temporary: amount_below(&census.dead), ..Pruned::default() };
        let trash = if policy.dry_run { None } else { self.trash() };
        for (number, candidate) in candidates.into_iter().enumerate() {
            if !policy.dry_run {
                let removed = remove(&candidate.path, trash.as_ref(), number);
                removed.map_err(|error| self.cannot_write(error))?;
            }
            pruned.count(candidate);
        }
        drop(lock);
        if let Some(trash) = trash {
            // What cannot be deleted counts as a dead process's from now on.
            let _ = remove_tree(&trash.keep());
        }
        if !policy.dry_run {
            census.bury();
        }
        Ok(pruned)
    }

    /// A folder to move files to, so that deleting them blocks nobody. A disk may be too full for
    /// it. Without a lease it counts as a dead process's.
    fn trash(&self) -> Option<tempfile::TempDir> {
        tempfile::Builder::new().prefix("trash-").tempdir_in(self.place(StorePlace::Work)).ok()
    }
}

impl Pruned {
    fn count(&mut self, candidate: Candidate) {
        match candidate.what {
            What::Blob(digest) => self.blobs.push((digest, candidate.bytes)),
            What::Record => self.records.add(candidate.bytes),
            What::Folder => self.unpacked.add(candidate.bytes),
        }
    }
}

impl Survey {
    fn take(
        store: &Store,
        named: Vec<Digest>,
        oldest_lease: Option<SystemTime>,
    ) -> io::Result<Self> {
        Ok(Self {
            named: graph::reachable(store, named)?,
            blobs: blobs(store)?,
            records: records(store)?,
            folders: kept_folders(store)?,
            needed: needed_by_containers(store)?,
            oldest_lease,
        })
    }

    fn usage(&self, store: &Store) -> io::Result<Usage> {
        let mut usage = Usage::default();
        let mut documents = Vec::new();
        for blob in self.blobs.iter().filter(|blob| !self.named.contains(&blob.digest)) {
            if graph::references(store, &blob.digest)?.is_some() {
                documents.push(blob.digest.clone());
            }
        }
        let bases = graph::reachable(store, documents)?;
        for blob in &self.blobs {
            let class = if self.named.contains(&blob.digest) {
                &mut usage.images
            } else if bases.contains(&blob.digest) {
                &mut usage.bases
            } else {
                &mut usage.layers
            };
            class.add(blob.bytes);
        }
        self.records.iter().for_each(|record| usage.records.add(record.bytes));
        self.folders.iter().for_each(|folder| usage.unpacked.add(folder.bytes));
        usage.temporary = amount_below(&[store.place(StorePlace::Work)]);
        Ok(usage)
    }

    /// What the policy removes, the least recently used first.
    fn chosen(
        self,
        store: &Store,
        policy: &PrunePolicy,
        now: SystemTime,
    ) -> io::Result<Vec<Candidate>> {
        let only_garbage =
            !policy.all && policy.older_than.is_none() && policy.keep_bytes.is_none();
        let mut roots: Vec<Digest> = Vec::new();
        roots.extend(self.blobs.iter().filter(|b| self.in_use(b.used)).map(|b| b.digest.clone()));
        if only_garbage {
            roots.extend(self.records.iter().flat_map(|record| record.mentions.clone()));
        }
        let kept = graph::reachable(store, roots)?;
        let cache_bytes = self.cache_bytes();
        let mut candidates = self.candidates(store, &kept, only_garbage);
        candidates.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
        if let Some(age) = policy.older_than {
            candidates.retain(|c| now.duration_since(c.used).unwrap_or_default() >= age);
        }
        if let Some(keep) = policy.keep_bytes {
            candidates.truncate(enough(&candidates, cache_bytes.saturating_sub(keep)));
        }
        Ok(candidates)
    }

    /// Whether something last used then was used since the oldest running process began.
    fn in_use(&self, used: SystemTime) -> bool {
        self.oldest_lease.is_some_and(|began| used >= began)
    }

    fn cache_bytes(&self) -> u64 {
        let unnamed = self.blobs.iter().filter(|blob| !self.named.contains(&blob.digest));
        let blobs: u64 = unnamed.map(|blob| blob.bytes).sum();
        let folders: u64 = self.folders.iter().map(|folder| folder.bytes).sum();
        blobs + folders + self.records.iter().map(|record| record.bytes).sum::<u64>()
    }

    fn candidates(
        self,
        store: &Store,
        kept: &BTreeSet<Digest>,
        only_garbage: bool,
    ) -> Vec<Candidate> {
        let oldest = self.oldest_lease;
        let in_use = move |used| oldest.is_some_and(|began| used >= began);
        let free = |blob: &Blob| !self.named.contains(&blob.digest) && !kept.contains(&blob.digest);
        let found = self.found_folders();
        let needed = self.needed;
        let unused = |f: &KeptFolder| !in_use(f.used) && !needed.contains(&f.path);
        let folders = self.folders.into_iter().filter(unused);
        let folders = folders.filter(|folder| !only_garbage || !found.contains(&folder.key));
        let folders = folders.map(|folder| Candidate {
            used: folder.used,
            bytes: folder.bytes,
            path: folder.path,
            what: What::Folder,
        });
        let blobs = self.blobs.into_iter().filter(free).map(|blob| Candidate {
            used: blob.used,
            bytes: blob.bytes,
            path: store.blob_path(&blob.digest),
            what: What::Blob(blob.digest),
        });
        let records = self.records.into_iter().filter(|r| !only_garbage && !in_use(r.used));
        let records = records.map(|record| Candidate {
            used: record.used,
            bytes: record.bytes,
            path: record.path,
            what: What::Record,
        });
        blobs.chain(records).chain(folders).collect()
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

/// How many candidates, from the first, have at least `bytes` bytes together.
fn enough(candidates: &[Candidate], bytes: u64) -> usize {
    let mut freed = 0;
    let still_needed = |candidate: &&Candidate| {
        let needed = freed < bytes;
        freed += candidate.bytes;
        needed
    };
    candidates.iter().take_while(still_needed).count()
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

fn records(store: &Store) -> io::Result<Vec<RecordFile>> {
    let mut records = Vec::new();
    for kind in
        absent_as_none(fs_err::read_dir(store.place(StorePlace::Records)))?.into_iter().flatten()
    {
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

/// The regular files in a folder, which may be absent; a file that vanishes meanwhile is left out.
fn files(folder: &Path) -> io::Result<Vec<(PathBuf, std::fs::Metadata)>> {
    let mut files = Vec::new();
    for entry in absent_as_none(fs_err::read_dir(folder))?.into_iter().flatten() {
        let path = entry?.path();
        match absent_as_none(fs_err::symlink_metadata(&path))? {
            Some(metadata) if metadata.is_file() => files.push((path, metadata)),
            _ => {}
        }
    }
    Ok(files)
}

/// Counts the unfinished files in processes' folders. What vanishes meanwhile does not count.
fn amount_below(folders: &[PathBuf]) -> Amount {
    let mut amount = Amount::default();
    for entry in folders.iter().filter_map(|folder| fs_err::read_dir(folder).ok()).flatten() {
        let Ok(path) = entry.map(|entry| entry.path()) else { continue };
        match fs_err::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                let below = amount_below(&[path]);
                amount.count += below.count;
                amount.bytes += below.bytes;
            }
            Ok(metadata) if !path.ends_with(super::lock::LEASE) => amount.add(metadata.len()),
            _ => {}
        }
    }
    amount
}

/// Removes a file or folder: into the trash where there is one, which is emptied later.
fn remove(path: &Path, trash: Option<&tempfile::TempDir>, number: usize) -> io::Result<()> {
    let moved = trash.map(|trash| fs_err::rename(path, trash.path().join(number.to_string())));
    match moved {
        Some(Ok(())) => Ok(()),
        _ => remove_tree(path),
    }
}
