//! What builds with a toolchain from an image keep for each other: a folder like this for each scope.
//!
//! Flags, C code and the image itself, all of which a project chooses, run code that may write there,
//! and `go` does not check modules that are unpacked already. So neither the compiled standard library
//! nor modules are shared between scopes, nor between the images of one: what one Go compiled or unpacked no
//! other takes for its own. That costs each its first build.
//!
//! ```text
//! STORE/go/<scope and image>/
//!   in-use                  locked by every build, so that nothing is removed under it;
//!                           mtime = the last build
//!   about                   whose it is, for people
//!   build/                  GOCACHE; the go command notes the use of each file, to the hour
//!   build/inside-HEX/       GOCACHE of builds inside the image that HEX stands for
//!   build/**/gondola/       see `golang::gocache`; it stays as long as anything is beside it
//!   path/                   GOPATH; modules are in path/pkg/mod
//! ```
//! The go command itself shares its caches safely between processes. The toolchains themselves are
//! among what the store has unpacked, see `rootfs`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use fs_err::{File, OpenOptions};

use super::describe::Names;
use super::{Cache, Entry, EntryPath, Facts, modified};
use crate::error::{Cannot, Result};
use crate::oci::Digest;
use crate::store::{CacheScope, Collector, Lock, ScratchFolder, Standing, Store, StorePlace, walk};

/// The file that every build locks.
const IN_USE: &str = "in-use";
/// The file that says whose the caches are.
const ABOUT: &str = "about";
/// The folder for our own files in a build cache: see `golang::gocache`.
pub const OWN: &str = "gondola";

/// The folder for all that.
#[derive(Clone, Debug)]
pub struct GoCache {
    folder: PathBuf,
    about: Option<String>,
    scratch: Option<Arc<ScratchFolder>>,
}

/// Keeps others from removing what is in use, until it is dropped.
#[derive(Debug)]
pub struct InUse(#[expect(dead_code, reason = "closing the file is what unlocks")] File);

impl GoCache {
    /// Uses a folder, made when it is first needed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), about: None, scratch: None }
    }

    /// That of a scope; one that ends with the build is in a folder that goes with it.
    pub fn of_scope(store: &Store, scope: &CacheScope) -> Result<Self> {
        let Some(name) = scope.name() else {
            let scratch = store.scratch_folder()?;
            let folder = scratch.path().join("go");
            return Ok(Self { folder, about: None, scratch: Some(Arc::new(scratch)) });
        };
        let folder = store.place(StorePlace::GoCaches).join(name.as_str());
        Ok(Self { folder, about: Some(scope.display().to_owned()), scratch: None })
    }

    /// That of one image's Go among those of a scope: it is somebody's program, and writes what it likes.
    #[must_use]
    pub fn of_image(&self, image: &Digest) -> Self {
        let scope = self.folder.file_name().unwrap_or_default().to_string_lossy();
        let name = blake3::hash(format!("{scope}\n{image}").as_bytes()).to_hex();
        let about = |about: &String| format!("{about}, by Go of image {}", &image.hex()[..12]);
        Self {
            folder: self.folder.with_file_name(&name.as_str()[..32]),
            about: self.about.as_ref().map(about),
            scratch: self.scratch.clone(),
        }
    }

    /// The build cache.
    pub fn build_cache(&self) -> PathBuf {
        self.folder.join(BUILD)
    }

    /// The cache of builds for which all of an image counts, made where it is not there.
    pub fn build_cache_of(&self, image: &Digest) -> Result<PathBuf> {
        let folder = self.build_cache().join(format!("inside-{}", &image.hex()[..32]));
        fs_err::create_dir_all(&folder).cannot(|| "make the folders for Go builds")?;
        Ok(folder)
    }

    /// `GOPATH`.
    pub fn go_path(&self) -> PathBuf {
        self.folder.join(PATH)
    }

    /// The module cache.
    pub fn modules(&self) -> PathBuf {
        self.go_path().join("pkg/mod")
    }

    /// Makes the folders, and keeps what is in them until the answer is dropped.
    pub fn use_now(&self) -> Result<InUse> {
        for folder in [self.build_cache(), self.modules()] {
            fs_err::create_dir_all(folder).cannot(|| "make the folders for Go builds")?;
        }
        let file = OpenOptions::new().create(true).append(true).open(self.folder.join(IN_USE));
        let file = file.cannot(|| "open a lock of the Go caches")?;
        file.file().set_modified(now(&file)?).cannot(|| "note the use of the Go caches")?;
        if let Some(about) = &self.about {
            super::write_about(&self.folder.join(ABOUT), about);
        }
        // Waits only while caches are removed. On a file system without locks there is none.
        let _ = file.file().lock_shared();
        Ok(InUse(file))
    }
}

/// The names of the two folders.
const BUILD: &str = "build";
const PATH: &str = "path";

/// The present by the clock of the file system.
fn now(file: &File) -> Result<SystemTime> {
    let probe = tempfile::tempfile_in(file.path().parent().expect("a lock is in a folder"));
    let modified = probe.and_then(|probe| probe.metadata()?.modified());
    modified.cannot(|| "learn the time of the file system")
}

pub(super) struct GoCaches;

impl Cache for GoCaches {
    fn name(&self) -> &'static str {
        "go-caches"
    }

    fn entry_of(&self, file: &Path, _: &Facts) -> Option<EntryPath> {
        let scope = scope_of(file)?;
        let mut inside = file.strip_prefix(&scope).ok()?.iter();
        let used = Some(scope.join(IN_USE));
        match inside.next()?.to_str()? {
            // Modules do not tell when they were used, but the last build does.
            PATH => {
                inside.next()?;
                Some(EntryPath { path: scope.join(PATH), used })
            }
            BUILD if inside.clone().all(|part| part != OWN) => {
                inside.next()?;
                Some(EntryPath::alone(file))
            }
            // What killed builds left in our own folder says what may be wrong with the rest, so our
            // notes go last, with the folder.
            BUILD | ABOUT | IN_USE => Some(EntryPath { path: scope, used }),
            _ => None,
        }
    }

    fn standing(&self, store: &Store, entry: &Path) -> Standing {
        let Some(scope) = scope_of(entry) else { return Standing::InUse };
        let folder = store.root().join(&scope);
        if Lock::is_held_at_all(&folder.join(IN_USE)).unwrap_or(true) {
            Standing::InUse
        } else if entry != scope {
            Standing::Useful
        } else if is_empty(&folder) {
            Standing::Garbage
        } else {
            Standing::InUse
        }
    }

    fn remove(&self, collector: &mut Collector, store: &Store, entry: &Entry) -> Result<bool> {
        let Some(scope) = scope_of(&entry.path) else { return Ok(false) };
        if entry.path == scope && !is_empty(&store.root().join(&scope)) {
            return Ok(false);
        }
        let in_use = store.root().join(scope).join(IN_USE);
        let lock = Lock::try_exclusive(&in_use).cannot(|| "remove Go caches")?;
        let is_of_build = entry.path.components().count() > 3;
        let file = store.root().join(&entry.path);
        let used = modified(if is_of_build { &file } else { &in_use });
        if lock.is_none() || used > Some(entry.used) {
            return Ok(false);
        }
        collector.remove(&entry.path).map(|()| true)
    }

    fn describe(&self, store: &Store, entry: &Entry, names: &Names) -> String {
        let what = match entry.path.components().count() {
            2 => "notes",
            3 => "modules",
            _ => "compiled packages",
        };
        let about = scope_of(&entry.path).map(|scope| store.root().join(scope).join(ABOUT));
        match about.and_then(|about| names.about(about)) {
            Some(whose) => format!("{what} of {whose}"),
            None => what.to_owned(),
        }
    }
}

/// The folder of the scope that a file belongs to. Those of earlier versions have other names.
fn scope_of(file: &Path) -> Option<PathBuf> {
    let name = file.strip_prefix(StorePlace::GoCaches.path()).ok()?.iter().next()?;
    let is_scope = name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit) && name.len() > 8;
    is_scope.then(|| Path::new(StorePlace::GoCaches.path()).join(name))
}

/// Whether the folder of a scope has nothing but our own notes. A cache behind a link is somebody else's.
fn is_empty(scope: &Path) -> bool {
    let is_there = |name: &str| scope.join(name).symlink_metadata().is_ok();
    !is_there(PATH) && !scope.join(BUILD).is_symlink() && !has_files(&scope.join(BUILD))
}

/// Whether a build cache has any file that is not our own.
fn has_files(build: &Path) -> bool {
    let is_own = |path: &Path| path.file_name().is_some_and(|name| name == OWN);
    walk(build, None, &is_own, &mut |path, _| {
        if is_own(path) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
    .is_break()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Policy, prune};
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    const SCOPE: &str = "00112233445566778899aabbccddeeff";

    fn write(path: &Path, text: &str) {
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }

    fn older_than(seconds: u64) -> Policy {
        Policy { older_than: Some(Duration::from_secs(seconds)), ..Policy::default() }
    }

    #[test]
    fn what_was_not_used_is_removed_unless_a_build_runs() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let cache = GoCache::new(store.place(StorePlace::GoCaches).join(SCOPE));
        let build = cache.use_now().unwrap();
        write(&cache.build_cache().join("00/x-d"), "compiled");
        write(&cache.build_cache().join(OWN).join("purged"), "ours");
        let module = cache.modules().join("example.com/x@v1.0.0");
        write(&module.join("x.go"), "package x");
        fs_err::set_permissions(&module, PermissionsExt::from_mode(0o555)).unwrap();

        let used = fs_err::metadata(cache.folder.join(IN_USE)).unwrap().modified().unwrap();
        let later = used + Duration::from_secs(10);
        let freed = |policy: Policy| {
            let dry = Policy { dry_run: true, ..policy };
            let said = prune(&store, &dry, later).unwrap().bytes;
            assert_eq!(prune(&store, &policy, later).unwrap().bytes, said);
            said
        };
        assert_eq!(freed(older_than(5)), 0, "a build runs");
        drop(build);
        assert_eq!(freed(older_than(100)), 0);
        assert_eq!(freed(Policy { keep_bytes: Some(21), ..Policy::default() }), 0);
        assert_eq!(freed(older_than(5)), 17);
        assert!(cache.folder.exists());
        // Nothing but our own notes was left.
        assert_eq!(freed(Policy::default()), 4);
        assert!(!cache.folder.exists());
    }

    #[test]
    fn each_image_has_caches_of_its_own_in_each_scope() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let of = |scope: &str, image: &str| {
            let scope = CacheScope::named(scope).unwrap();
            GoCache::of_scope(&store, &scope).unwrap().of_image(&Digest::of(image.as_bytes()))
        };
        let all = [of("a", "x"), of("a", "y"), of("b", "x")];
        let folders: std::collections::BTreeSet<PathBuf> =
            all.iter().flat_map(|cache| [cache.build_cache(), cache.modules()]).collect();
        assert_eq!(folders.len(), 6);
        assert_eq!(of("a", "x").modules(), all[0].modules());
        for folder in folders {
            let relative = folder.strip_prefix(store.root()).unwrap();
            assert!(scope_of(relative).is_some(), "{relative:?}");
        }
    }

    #[test]
    fn caches_behind_links_are_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let cache = GoCache::new(store.place(StorePlace::GoCaches).join(SCOPE));
        drop(cache.use_now().unwrap());
        let others = [(cache.build_cache(), "build-x"), (cache.go_path(), "path-x")];
        let outside = tempfile::tempdir().unwrap();
        for (link, name) in &others {
            let elsewhere = outside.path().join(name);
            fs_err::rename(link, &elsewhere).unwrap();
            write(&elsewhere.join("00/x-d"), "compiled");
            std::os::unix::fs::symlink(&elsewhere, link).unwrap();
        }
        let used = fs_err::metadata(cache.folder.join(IN_USE)).unwrap().modified().unwrap();
        let later = used + Duration::from_secs(10);
        assert_eq!(prune(&store, &older_than(5), later).unwrap().bytes, 0);
        for (link, _) in &others {
            assert_eq!(fs_err::read(link.join("00/x-d")).unwrap(), b"compiled");
        }
    }
}
