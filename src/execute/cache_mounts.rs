//! Which caches the steps of a build can mount: see [`crate::cache::mounts`].

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::error::Result;
use crate::rootfs::OwnerStorage;
use crate::sandbox::Isolation;
use crate::store::{CacheScope, ScratchFolder, Store, StorePlace};

/// The caches that a build can use.
pub(super) struct Caches {
    /// Whose they are.
    pub scope: CacheScope,
    /// Whether files get what their ids name.
    shares: bool,
    store: Store,
    /// What goes with the build, once there is something.
    private: Mutex<Option<ScratchFolder>>,
}

impl Caches {
    pub(super) fn new(store: Store, scope: CacheScope, shares: bool) -> Self {
        Self { scope, shares, store, private: Mutex::default() }
    }

    /// Where caches are that a file asks for.
    pub(super) fn of_files(&self, isolation: Isolation) -> Result<PathBuf> {
        self.folder(isolation, self.shares)
    }

    /// Where caches are that nobody asked for.
    pub(super) fn of_scope(&self, isolation: Isolation) -> Result<PathBuf> {
        self.folder(isolation, self.scope.name().is_some())
    }

    fn folder(&self, isolation: Isolation, is_kept: bool) -> Result<PathBuf> {
        let form = OwnerStorage::of(isolation).name();
        if is_kept {
            return Ok(self.store.place(StorePlace::CacheMounts).join(form));
        }
        let mut private = self.private.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = match private.take() {
            Some(scratch) => scratch,
            None => self.store.scratch_folder()?,
        };
        Ok(private.insert(scratch).path().join(form))
    }
}
