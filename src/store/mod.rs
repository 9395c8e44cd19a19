//! The store: everything that was pulled or built, in one OCI image layout on disk.
//!
//! ```text
//! ROOT/
//!   oci-layout                    {"imageLayoutVersion":"1.0.0"}
//!   index.json                    one descriptor per name
//!   blobs/sha256/<hex>            manifests, configs, layers; mtime = last use
//!   gondola/
//!     format                      the number of this form; without the file it is 1, see `format`
//!     index.lock                  held while index.json is replaced
//!     collect.lock                shared: marking a blob as used; exclusive: removing blobs
//!     records/<kind>/<hex>.json   small facts found by key, such as "this tree is that layer"
//!     rootfs/<kind>/<key>/        unpacked content, see `rootfs`; mtime = last use; `bytes` in it
//!                                 says how large it is, `needs` which others it needs
//!     isolation/                  which isolation worked here when last tried, see `sandbox`
//!     containers/<id>/needs       unpacked content, kind/key a line, that stays as long as it is there;
//!                                 the rest of it is for `container` to say
//!     locks/<number>              held while unpacked content of some keys is made
//!     work/<random>/lease         one folder per running process, which holds a lock on `lease`;
//!                                 its mtime = when the process began to use the store
//!     work/<random>/<number>      what that process is writing
//!     bound                       how far the look for what is over the bound has come, see `cache`
//!   build-caches/<form>/<hash>/   what steps of Dockerfiles mount as caches, see `cache::mounts`
//!   go/<scope>/                   what builds with a Go from an image keep, see `cache::gocache`
//!   programs/<scope>/             the last programs of Go packages, see `cache::programs`
//! ```
//!
//! Any reader of OCI layouts reads it. The annotations of a descriptor in `index.json` are
//! `io.containerd.image.name` and `org.opencontainers.image.ref.name`, and *both* are the full
//! name, `docker.io/library/hello:latest`: a bare tag would not be unique among several
//! repositories, and readers take the first match. So `skopeo inspect
//! oci:ROOT:docker.io/library/hello:latest` works. Several names of one digest are several
//! descriptors. Entries that other tools wrote are kept.
//!
//! # Invariants
//!
//! - A blob in place is a verified blob. Content is written to `work/`, hashed on the way, and
//!   renamed into place.
//! - Nothing is changed in place: `kill -9` at any moment leaves at most a folder in `work/`
//!   whose lease nobody locks. The next process that begins to write removes it, and so does
//!   `cache prune`.
//! - What a process looked up or stored stays until its lease ends, see [`Lease`].
//!
//! # Power loss
//!
//! `index.json` is synced to disk before it replaces the old one: names are never lost. Blobs and
//! records are not: a sync per blob would cost more than all the rest. After a power loss a blob
//! may be short or hold zeros. That is noticed, because opening checks the size and reading checks
//! the digest; the blob is then removed, and the next run fetches or makes it anew. A broken
//! record counts as absent.

mod collect;
mod file_lock;
mod folders;
mod format;
mod graph;
mod ingest;
mod layout;
mod lock;
mod names;
mod notes;
mod over;
mod read;
mod records;
mod scope;
mod space;
mod tree;
mod verify;
mod walk;

use std::fmt;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

pub use collect::{Amount, Collector, Item, Keepers, Standing, Survey, digest_of};
pub use file_lock::Lock;
pub use folders::{FolderInfo, FolderLocks, ScratchFolder, is_step_folder, unpacked_bytes};
pub use ingest::Ingest;
pub use layout::StorePlace;
pub use lock::Lease;
pub use notes::Notes;
pub use read::BlobReader;
pub use scope::{CacheScope, ScopeName};
pub use tree::remove_tree;
pub use verify::Verification;
pub use walk::{SharedFile, Size, names, size_below, walk, walk_on};

use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Descriptor, Digest, Index, canonical_json};
use lock::ProcessFolder;
use over::Below;

/// The only version of the image layout specification.
const LAYOUT_VERSION: &str = "1.0.0";

/// The content store of one user. A clone is another handle on the same store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    root: PathBuf,
    /// A store that is read where this one has not what is asked for, see `over`.
    below: Option<Below>,
    session: Mutex<Session>,
    /// The form that this program writes.
    ours: u32,
    /// The form that the store has.
    found: AtomicU32,
    /// Whether something could not be written for want of room: what was written of it is gone again.
    ran_full: AtomicBool,
}

/// What a handle knows of its own right to write.
enum Session {
    /// There is no store yet; the first that writes makes it.
    Unmade,
    /// Nothing was used yet.
    Unstarted,
    /// The handle has a lease.
    Leased(Arc<ProcessFolder>),
    /// The store can only be read, so nobody like us can remove anything either.
    Unwritable,
}

#[derive(Serialize, Deserialize)]
struct LayoutFile {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

impl Store {
    /// Opens the store in the folder `root`, and makes it where there is none.
    ///
    /// New folders are for the owner alone. A store that cannot be written to can be read. One that a
    /// newer program made in another form is refused, and stays as it is.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_in_format(root, format::FORMAT)
    }

    /// The same, but a store that is not there has nothing in it, and is made by the first that writes to it.
    pub fn open_as_it_is(root: &Path) -> Result<Self> {
        let store = Self::at(root, format::FORMAT)?;
        if store.has_layout_file()? {
            store.make_if_missing()?;
        } else {
            *store.session() = Session::Unmade;
        }
        Ok(store)
    }

    /// Makes the store where there is none and one can be made: for those that write to folders in it by
    /// themselves.
    pub fn make_if_writable(&self) -> Result<()> {
        match self.make_now() {
            Err(error) if is_unwritable(&error) => Ok(()),
            made => made,
        }
    }

    /// Whether anything can be written to it. A store that is not there yet is none that can.
    pub fn is_writable(&self) -> Result<bool> {
        Ok(self.held_if_writable()?.is_some())
    }

    /// Whether there is a store in its folder.
    pub fn is_there(&self) -> Result<bool> {
        self.has_layout_file()
    }

    /// Whether the folder `root` holds a store that this program may write to, or none yet. Nothing is made.
    pub fn may_be_at(root: &Path) -> bool {
        Self::at(root, format::FORMAT).is_ok()
    }

    /// The same as [`Store::open`] for a program that writes the form `ours`.
    fn open_in_format(root: &Path, ours: u32) -> Result<Self> {
        let store = Self::at(root, ours)?;
        store.make_if_missing()?;
        Ok(store)
    }

    fn at(root: &Path, ours: u32) -> Result<Self> {
        let store = Self(Arc::new(Inner {
            root: root.to_owned(),
            below: None,
            session: Mutex::new(Session::Unstarted),
            ours,
            found: AtomicU32::new(ours),
            ran_full: AtomicBool::new(false),
        }));
        let found = store.read_format(ours)?;
        store.0.found.store(found, Ordering::Relaxed);
        Ok(store)
    }

    /// Makes the store if nobody has yet; the folders first, so that others can go on beside this.
    fn make_now(&self) -> Result<()> {
        {
            let mut session = self.session();
            if !matches!(*session, Session::Unmade) {
                return Ok(());
            }
            self.make_folders()?;
            *session = Session::Unstarted;
        }
        self.make_if_missing()
    }

    fn make_if_missing(&self) -> Result<()> {
        if self.has_layout_file()? && self.place(StorePlace::Work).is_dir() {
            return Ok(());
        }
        self.make_layout()
    }

    /// The folder that the store is in.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Where the blob of this digest is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        let own = self.own_blob_path(digest);
        match self.below() {
            Some(below) if !own.exists() && below.blob_path(digest).exists() => {
                below.blob_path(digest)
            }
            _ => own,
        }
    }

    /// Where the blob is written.
    fn own_blob_path(&self, digest: &Digest) -> PathBuf {
        self.place(StorePlace::Blobs).join(digest.algorithm()).join(digest.hex())
    }

    /// Makes sure that this handle's lease has begun, and shares it.
    ///
    /// Whatever uses or stores a blob begins the lease by itself; asking for it is for those that
    /// want it to outlive the handle.
    pub fn lease(&self) -> Result<Lease> {
        Ok(Lease::new(self.held()?))
    }

    /// Begins this handle's lease; in a store that can only be read nobody removes anything, and none is
    /// needed.
    pub fn lease_if_writable(&self) -> Result<()> {
        self.held_if_writable().map(drop)
    }

    /// Ends this handle's lease: whatever it used may go from now on, unless something else keeps it, as
    /// a container does with what it needs. What is used after that begins another lease.
    ///
    /// For whoever lives long and is done with the store. A [`Lease`] or an unfinished file that is still
    /// held keeps it as it was.
    pub fn end_lease(&self) {
        let mut session = self.session();
        if matches!(*session, Session::Leased(_)) {
            *session = Session::Unstarted;
        }
    }

    /// Makes an empty folder on the store's file system. It goes when it is dropped, and what a
    /// killed process leaves of it is removed by the next.
    pub fn temporary_folder(&self) -> Result<tempfile::TempDir> {
        self.held()?.folder().map_err(|error| self.cannot_write(error))
    }

    /// The size of the blob, where it is here. Marks it as used.
    pub fn has(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.own_blob_path(digest);
        let found = self.mark_used(&path).map_err(|error| {
            Error::new(ErrorKind::Io, format!("look for blob {digest} in the store"))
                .caused_by(error)
        })?;
        match (found, self.below()) {
            (None, Some(below)) => below.has(digest),
            (found, _) => Ok(found.map(|metadata| metadata.len())),
        }
    }

    /// Whether the blob is here in the descriptor's size. Marks it as used.
    ///
    /// A blob of another size is broken or misnamed; storing the content again replaces it.
    pub fn holds(&self, descriptor: &Descriptor) -> Result<bool> {
        Ok(self.has(&descriptor.digest)? == Some(descriptor.size))
    }

    /// Opens a blob. Reading fails instead of ending on the wrong content.
    ///
    /// Errs with [`ErrorKind::NotFound`] where the blob is not here, and with
    /// [`ErrorKind::Corrupt`] where it has another size than the descriptor says.
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobReader> {
        BlobReader::open(self, descriptor)
    }

    /// Reads a whole blob of at most `limit` bytes.
    pub fn read(&self, descriptor: &Descriptor, limit: u64) -> Result<Bytes> {
        read::whole(self, descriptor, limit)
    }

    /// Begins to store content that is hashed while it is written.
    pub fn ingest(&self) -> Result<Ingest> {
        Ingest::begin(self, Some(crate::oci::Hasher::new()))
    }

    /// Begins to store content whose digest the writer computes itself: see [`Ingest::commit_as`].
    pub fn ingest_unhashed(&self) -> Result<Ingest> {
        Ingest::begin(self, None)
    }

    /// Stores `bytes`.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        ingest::put(self, bytes)
    }

    fn collect_lock(&self) -> PathBuf {
        self.place(StorePlace::CollectLock)
    }

    /// The lease of this handle, which begins here if it has not yet.
    fn held(&self) -> Result<Arc<ProcessFolder>> {
        self.make_now()?;
        let mut session = self.session();
        if let Session::Leased(held) = &*session {
            return Ok(held.clone());
        }
        if !self.is_in_our_format() {
            let raised = self.raise_format(self.0.ours)?;
            self.0.found.store(raised, Ordering::Relaxed);
        }
        let held = ProcessFolder::begin(&self.place(StorePlace::Work), &self.collect_lock());
        let held = Arc::new(held.map_err(|error| self.cannot_write(error))?);
        *session = Session::Leased(held.clone());
        Ok(held)
    }

    /// The lease of this handle, or `None` where the store can only be read.
    fn held_if_writable(&self) -> Result<Option<Arc<ProcessFolder>>> {
        let is_unmade = match *self.session() {
            Session::Unwritable => return Ok(None),
            Session::Unmade => true,
            Session::Unstarted | Session::Leased(_) => false,
        };
        // Another process may have made it meanwhile.
        if is_unmade && !self.has_layout_file()? {
            return Ok(None);
        }
        match self.held() {
            Ok(held) => Ok(Some(held)),
            Err(error) if is_unwritable(&error) => {
                *self.session() = Session::Unwritable;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn session(&self) -> std::sync::MutexGuard<'_, Session> {
        self.0.session.lock().expect("no code panics while it holds the session")
    }

    /// Keeps the collector out for as long as the answer lives; `None` in a read-only store.
    fn keep_collector_out(&self) -> Result<Option<Lock>> {
        if self.held_if_writable()?.is_none() {
            return Ok(None);
        }
        let lock = Lock::shared(&self.collect_lock());
        lock.map(Some).map_err(|error| self.cannot_write(error))
    }

    /// Sets a file's last use to now; `None` where there is no such file.
    ///
    /// The collector is kept out meanwhile: a file that was found here stays for the lease.
    fn mark_used(&self, path: &Path) -> Result<Option<std::fs::Metadata>> {
        let held = self.held_if_writable()?;
        let _lock = self.keep_collector_out()?;
        let failed = |error: io::Error| self.cannot_write(error);
        match held {
            Some(held) => touch(path, held.began()).map_err(failed),
            None => absent_as_none(fs_err::symlink_metadata(path)).map_err(failed),
        }
    }

    /// Whether records are read and kept here: those of another form mean nothing.
    fn is_in_our_format(&self) -> bool {
        self.0.found.load(Ordering::Relaxed) == self.0.ours
    }

    fn has_layout_file(&self) -> Result<bool> {
        let path = self.place(StorePlace::LayoutFile);
        let failed = || Error::new(ErrorKind::Io, format!("open the store {}", self.display()));
        let refused = |error| failed().caused_by(error).hint("set GONDOLA_HOME to another folder");
        let Some(bytes) = absent_as_none(fs_err::read(&path)).map_err(refused)? else {
            return Ok(false);
        };
        let corrupt = Error::new(ErrorKind::Corrupt, format!("open the store {}", self.display()));
        match serde_json::from_slice::<LayoutFile>(&bytes) {
            Ok(LayoutFile { version }) if version == LAYOUT_VERSION => Ok(true),
            Ok(LayoutFile { version }) => Err(corrupt
                .because(format!(
                    "its oci-layout file has version \"{}\", expected {LAYOUT_VERSION}",
                    version.escape_debug()
                ))
                .hint("set GONDOLA_HOME to another folder")),
            Err(error) => Err(corrupt
                .because(format!("{} is no image layout's: {error}", path.display()))
                .hint(format!("remove {}: it is written anew", path.display()))),
        }
    }

    /// Makes the folders, then `index.json`, and `oci-layout` last, which says that all is there.
    fn make_layout(&self) -> Result<()> {
        self.make_folders()?;
        let _lock = Lock::exclusive(&self.place(StorePlace::IndexLock))
            .map_err(|e| self.cannot_write(e))?;
        if self.has_layout_file()? {
            return Ok(());
        }
        let index = self.place(StorePlace::Index);
        if !index.exists() {
            self.write_format(self.0.ours)?;
            self.0.found.store(self.0.ours, Ordering::Relaxed);
            self.replace_durably(&index, &canonical_json(&Index::new(Vec::new())))?;
        }
        let layout = LayoutFile { version: LAYOUT_VERSION.to_owned() };
        self.replace_durably(&self.place(StorePlace::LayoutFile), &canonical_json(&layout))
    }

    fn make_folders(&self) -> Result<()> {
        let blobs = self.place(StorePlace::Blobs).join("sha256");
        let folders = [blobs, self.place(StorePlace::Work), self.place(StorePlace::Records)];
        folders.iter().try_for_each(|folder| self.make_folder(folder))
    }

    fn make_folder(&self, folder: &Path) -> Result<()> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| {
            let named = format!("cannot make the folder {}: {error}", folder.display());
            self.cannot_write(io::Error::new(error.kind(), named))
        })
    }

    /// Puts a file in the place of another one, which may be absent, at once.
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let written = self.held()?.scratch(bytes).and_then(|scratch| scratch.place(path));
        written.map_err(|error| self.cannot_write(error))
    }

    fn replace_durably(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let held = self.held()?;
        let written = held.scratch(bytes).and_then(|scratch| scratch.replace_durably(path));
        written.map_err(|error| self.cannot_write(error))
    }

    fn display(&self) -> std::path::Display<'_> {
        self.root().display()
    }

    fn unwritten(&self, error: io::Error) -> Error {
        let action = format!("write to the store {}", self.display());
        Error::new(ErrorKind::Io, action).caused_by(error)
    }

    /// The error for whatever the operating system refuses here, with the way out.
    fn cannot_write(&self, error: io::Error) -> Error {
        let hint = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                self.0.ran_full.store(true, Ordering::Relaxed);
                "free some space there (gondola cache prune), or set GONDOLA_HOME to a folder on another disk"
            }
            // Who started this process set a limit, and that is told.
            io::ErrorKind::FileTooLarge => return self.unwritten(error),
            _ => "set GONDOLA_HOME to a folder that can be written to",
        };
        self.unwritten(error).hint(hint)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.root()).finish()
    }
}

/// Sets the last use to now, or to `began` where the clock was set back behind that.
fn touch(path: &Path, began: SystemTime) -> io::Result<Option<std::fs::Metadata>> {
    let now = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    };
    match rustix::fs::utimensat(CWD, path, &now, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(None),
        // A blob of somebody else's in a shared store can still be read.
        Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
            return absent_as_none(fs_err::symlink_metadata(path));
        }
        Err(error) => return Err(error.into()),
    }
    let metadata = absent_as_none(fs_err::symlink_metadata(path))?;
    if metadata.as_ref().is_some_and(|m| m.modified().is_ok_and(|used| used < began)) {
        fs_err::File::open(path)?.into_parts().0.set_modified(began)?;
    }
    Ok(metadata)
}

fn absent_as_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the operating system refused because the place is read-only for us.
fn is_unwritable(error: &Error) -> bool {
    use std::error::Error as _;
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|error| {
        matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_mark_is_never_older_than_the_lease_though_the_clock_is_set_back() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        file.as_file().set_modified(long_ago).unwrap();
        let used = || fs_err::metadata(file.path()).unwrap().modified().unwrap();
        touch(file.path(), long_ago).unwrap().unwrap();
        let now = used();
        assert!(now > long_ago);
        let began = now + Duration::from_hours(1);
        touch(file.path(), began).unwrap().unwrap();
        assert!(used() >= began);
    }

    #[test]
    fn a_file_that_is_absent_has_no_mark() {
        let folder = tempfile::tempdir().unwrap();
        assert!(touch(&folder.path().join("x"), SystemTime::UNIX_EPOCH).unwrap().is_none());
    }
}
