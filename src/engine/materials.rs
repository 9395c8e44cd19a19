//! What a build was made of: everything that it read and did not make itself.
//!
//! It has digests and names, and no path of this machine and no value of a variable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::op::{Action, Input, MountKind, Op};
use crate::oci::Digest;

/// What caches are called that hold what `go` compiled and downloaded.
pub const GO_CACHES: &str = "Go's caches";

/// What a build was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Materials {
    /// Images that steps began with or copied from.
    pub bases: BTreeSet<BaseImage>,
    /// Folders of whoever built, by the names that ops have for them; with what an addition fetched
    /// for them. A digest stands for what was read, and changes with that alone.
    pub contexts: BTreeMap<String, String>,
    /// What compiled the programs, where that was not done by steps.
    pub toolchain: Option<Toolchain>,
    /// What was checked out of version control.
    pub revision: Option<Revision>,
    /// Go modules whose packages were compiled, with the digest of their `go.sum`, which fixes all
    /// that they need.
    pub modules: BTreeMap<String, Option<Digest>>,
    /// Caches that may have had a part in it.
    pub caches: BTreeSet<String>,
}

/// An image that a build used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BaseImage {
    /// What it was called, where that is a name that others know.
    pub name: Option<String>,
    /// Its manifest or index.
    pub digest: Digest,
}

/// What compiled Go packages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// Its version, such as `go1.26.0`.
    pub version: String,
    /// Where it came from.
    pub origin: ToolchainOrigin,
}

/// Where a toolchain came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolchainOrigin {
    /// An image.
    Image(Digest),
    /// The machine that built; this is the program's name.
    Host(String),
}

/// What a folder holds of a repository. Files may differ from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// The address of the repository, without credentials, where it has one.
    pub source: Option<String>,
    /// The commit.
    pub revision: String,
}

/// The materials of a build as its steps name them.
#[derive(Default)]
pub(super) struct Collected(Mutex<Parts>);

#[derive(Default)]
struct Parts {
    bases: BTreeSet<BaseImage>,
    /// The digests of what was read, by the name of the folder.
    read: BTreeMap<String, BTreeSet<Vec<u8>>>,
    caches: BTreeSet<String>,
}

impl Collected {
    pub(super) fn base(&self, base: BaseImage) {
        self.parts().bases.insert(base);
    }

    /// Takes note of the caches that an op names.
    pub(super) fn op(&self, op: &Op) {
        let Action::Exec(exec) = &op.action else { return };
        for mount in &exec.mounts {
            if let MountKind::Cache { id, .. } = &mount.kind {
                self.cache(id);
            }
        }
    }

    pub(super) fn cache(&self, name: &str) {
        self.parts().caches.insert(name.to_owned());
    }

    /// Takes note of what was read for an op, in the order in which it names that.
    pub(super) fn read(&self, op: &Op, digests: &[Vec<u8>]) {
        let mut parts = self.parts();
        let mut add = |from: &Input, digest: &Vec<u8>| {
            if let Input::Local(name) = from {
                parts.read.entry(name.clone()).or_default().insert(digest.clone());
            }
        };
        match &op.action {
            Action::Copy(copy) => digests.iter().for_each(|digest| add(&copy.from, digest)),
            Action::Take(from) => digests.iter().for_each(|digest| add(from, digest)),
            Action::Exec(exec) => {
                let folders = exec.binds().filter(|from| matches!(from, Input::Local(_)));
                folders.zip(digests).for_each(|(from, digest)| add(from, digest));
            }
            Action::MakeFolder { .. } => {}
        }
    }

    /// All that was noted.
    pub(super) fn materials(&self) -> Materials {
        let parts = self.parts();
        let digest = |read: &BTreeSet<Vec<u8>>| {
            let mut hasher = blake3::Hasher::new();
            for digest in read {
                hasher.update(&(digest.len() as u64).to_le_bytes());
                hasher.update(digest);
            }
            format!("blake3:{}", hasher.finalize().to_hex())
        };
        let contexts = parts.read.iter().map(|(name, read)| (name.clone(), digest(read)));
        Materials {
            bases: parts.bases.clone(),
            contexts: contexts.collect(),
            caches: parts.caches.clone(),
            ..Materials::default()
        }
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
