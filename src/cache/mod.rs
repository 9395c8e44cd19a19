//! What is kept between runs, whose it is, and what of it goes.
//!
//! ```text
//!   the store's survey ─┐                        ┌─► usage: whose the bytes are, when they were used
//!                       ├─► entries of caches ───┤
//!   one walk of folders ┘   (name, size, use)    └─► policy ─► the oldest first, of all kinds ─► remove
//! ```
//! Every file of the store belongs to an entry of one cache, the first in [`CACHES`] that says so. An
//! entry goes as a whole. What a running process uses, what a container needs and what a named image
//! is made of never goes.
//!
//! When an entry was last used is for its users to note, at most once an hour where nothing else has to
//! be written: an mtime, as each cache's own file says.

pub mod backend;
mod bound;
mod choice;
mod containers;
mod content;
mod describe;
pub mod gocache;
pub mod mounts;
pub mod policy;
pub mod programs;
pub mod steps;
mod temporary;
mod unpacked;
mod unused;
mod view;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub use bound::{Bounded, keep_within};
pub use choice::Caches;
pub use describe::Describer;
pub use policy::{Policy, Pruned, Usage};

use crate::error::Result;
use crate::store::{Collector, Item, Size, Standing, Store, StorePlace};

/// Every cache, and what else is kept: named images and containers. A file belongs to the first that takes it.
pub const CACHES: [&(dyn Cache + Sync); 13] = [
    &content::Images,
    &containers::Containers,
    &content::Unnamed,
    &steps::Steps,
    &content::Layers,
    &content::LookUps,
    &unpacked::Toolchains,
    &unpacked::Unpacked,
    &mounts::CacheMounts,
    &gocache::GoCaches,
    &programs::Programs,
    &unused::Unused,
    &temporary::Temporary,
];

/// All entries of all caches.
pub struct View(Vec<Entry>);

impl View {
    /// The entries, by their paths.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }
}

/// An owner of something that is kept.
pub trait Cache {
    /// What it is called, in words with dashes.
    fn name(&self) -> &'static str;

    /// The entry that a file belongs to, where it is one of this cache. Paths are below the store's
    /// folder. What is unpacked is one file here.
    fn entry_of(&self, file: &Path, facts: &Facts) -> Option<EntryPath>;

    /// Whether it saves work and nothing else: what people keep by name is listed, and no cache.
    fn saves_work_alone(&self) -> bool {
        true
    }

    /// Whether an entry may go that the store itself says nothing of.
    fn standing(&self, _store: &Store, _entry: &Path) -> Standing {
        if self.saves_work_alone() { Standing::Useful } else { Standing::Named }
    }

    /// Removes an entry unless somebody uses it, or has used it since `used`; answers whether it is
    /// gone.
    fn remove(&self, collector: &mut Collector, _store: &Store, entry: &Entry) -> Result<bool> {
        collector.remove(&entry.path).map(|()| true)
    }

    /// What an entry is, in the user's words.
    fn describe(&self, store: &Store, entry: &Entry, names: &describe::Names) -> String;

    /// Everything that it keeps.
    fn entries(&self, view: &View) -> Vec<Entry> {
        view.entries().iter().filter(|entry| entry.cache == self.name()).cloned().collect()
    }

    /// How much that is, and when any of it was last used.
    fn usage(&self, view: &View) -> Usage {
        Usage::of(view.entries().iter().filter(|entry| entry.cache == self.name()))
    }

    /// Removes what a policy says of this cache alone.
    fn prune(&self, store: &Store, policy: &Policy, now: SystemTime) -> Result<Pruned> {
        prune_those(store, policy, now, &|entry| entry.cache == self.name())
    }
}

/// Something that is kept, which goes as a whole.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name of the cache.
    pub cache: &'static str,
    /// Where it is, below the store's folder.
    pub path: PathBuf,
    /// How many bytes are free when it is gone.
    pub size: Size,
    /// When it was last used.
    pub used: SystemTime,
    /// Whether it may go.
    pub standing: Standing,
}

impl Entry {
    /// One of those that the store looks after itself.
    fn of(cache: &'static str, item: Item) -> Self {
        let Item { path, bytes, used, standing } = item;
        Self { cache, path, size: Size::of_bytes(bytes), used, standing }
    }
}

/// The entry that a file belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPath {
    /// The entry's file or folder.
    pub path: PathBuf,
    /// The file whose mtime is the last use; the entry's own where there is none.
    pub used: Option<PathBuf>,
}

impl EntryPath {
    /// A file that is an entry of its own.
    fn alone(file: &Path) -> Self {
        Self { path: file.to_owned(), used: None }
    }
}

/// What is known of the store's blobs when they are divided among caches.
#[derive(Debug, Default)]
pub struct Facts {
    /// Blobs that a name leads to.
    pub named: std::collections::BTreeSet<crate::oci::Digest>,
    /// Blobs of images that have no name.
    pub unnamed: std::collections::BTreeSet<crate::oci::Digest>,
    /// Layers that are results of steps.
    pub steps: std::collections::BTreeSet<crate::oci::Digest>,
}

/// The cache and the entry that a file belongs to.
fn owner(file: &Path, facts: &Facts) -> Option<(&'static (dyn Cache + Sync), EntryPath)> {
    CACHES.iter().find_map(|cache| Some((*cache, cache.entry_of(file, facts)?)))
}

/// The cache of a name.
fn named(name: &str) -> Option<&'static (dyn Cache + Sync)> {
    CACHES.iter().copied().find(|cache| cache.name() == name)
}

/// Removes what a policy says, of all caches together: the least recently used first.
///
/// With `dry_run` nothing is removed, and the answer is the same.
pub fn prune(store: &Store, policy: &Policy, now: SystemTime) -> Result<Pruned> {
    prune_those(store, policy, now, &|_| true)
}

fn prune_those(
    store: &Store,
    policy: &Policy,
    now: SystemTime,
    is_meant: &dyn Fn(&Entry) -> bool,
) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    if !store.is_there()? {
        return Ok(pruned);
    }
    // Walks take long, and nobody should wait for them.
    let mut entries = view::walked(store);
    for entry in &mut entries {
        entry.standing =
            named(entry.cache).map_or(entry.standing, |c| c.standing(store, &entry.path));
    }
    // What is only looked at keeps nobody waiting, and need not be writable.
    let collector = (!policy.dry_run).then(|| store.collect()).transpose()?;
    entries.extend(view::surveyed(store, &store.survey()?)?);
    entries.retain(is_meant);
    if entries.iter().any(|entry| is_of_others(&entry.path)) {
        let chosen = policy::choose(entries.clone(), policy, now);
        pruned.of_others = Usage::of(chosen.iter().filter(|entry| is_of_others(&entry.path)));
        // They take up room, and stay.
        for entry in entries.iter_mut().filter(|entry| is_of_others(&entry.path)) {
            entry.standing = entry.standing.stays();
        }
    }
    let chosen = policy::choose(entries, policy, now);
    let Some(mut collector) = collector else {
        for entry in &chosen {
            pruned.count(entry);
        }
        return Ok(pruned);
    };
    for entry in &chosen {
        let cache = named(entry.cache).expect("entries have the name of their cache");
        if cache.remove(&mut collector, store, entry)? {
            pruned.count(entry);
        }
    }
    collector.finish();
    Ok(pruned)
}

/// Whether something below the store's folder has files of a range of ids, which only its root can remove,
/// and this process is not that.
pub fn is_of_others(path: &Path) -> bool {
    path.iter().any(|part| part == "mapped") && !rustix::process::geteuid().is_root()
}

/// How long a note of a use is good enough.
const HOUR: Duration = Duration::from_hours(1);

/// Notes that something was used just now, unless that was noted within the last hour. Where nothing may
/// be written it is at worst removed early.
pub fn note_use(file: &Path, now: SystemTime) {
    let used = fs_err::metadata(file).and_then(|found| found.modified());
    let is_noted = used.is_ok_and(|used| match now.duration_since(used) {
        Ok(age) => age < HOUR,
        // The clock was set back.
        Err(_) => true,
    });
    if !is_noted && let Ok(file) = fs_err::OpenOptions::new().append(true).open(file) {
        let _ = file.file().set_modified(now);
    }
}

/// The kind of the record at a path.
fn kind_of(file: &Path) -> Option<&str> {
    file.strip_prefix(StorePlace::Records.path()).ok()?.parent()?.to_str()
}

/// What a file beside an entry says that it is.
fn about(path: &Path) -> Option<String> {
    let text = crate::disk::read_text(path, LONGEST_ABOUT).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The longest that is read of such a file.
const LONGEST_ABOUT: u64 = 64 << 10;

/// Writes beside an entry what it is, unless that is there. Without it people are told less.
fn write_about(path: &Path, text: &str) {
    if !path.exists() {
        let _ = fs_err::write(path, format!("{text}\n"));
    }
}

/// The last use of what has a file for that.
fn modified(path: &Path) -> Option<SystemTime> {
    fs_err::symlink_metadata(path).and_then(|found| found.modified()).ok()
}
