//! Copies of files that steps see through mounts.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::dockerfile::copy::{self, Destination, Selected};
use crate::engine::files::TreeFiles;
use crate::error::Result;
use crate::rootfs::{Fork, Unpacker};
use crate::sandbox::Root;

/// Copies of files, for steps to see. They vanish when this is dropped.
pub(super) struct Shown {
    /// Where they are.
    pub path: PathBuf,
    #[expect(dead_code, reason = "it holds the files")]
    fork: Mutex<Fork>,
}

/// Copies files for a step to see. Their owners are what they are in their image, and root in a
/// context; and what the ignore file leaves out is not there. The contents of a context are compared
/// with what the step's key was made of.
pub(super) fn shown(unpacker: &Unpacker, selected: &[Selected]) -> Result<Arc<Shown>> {
    let nothing = TreeFiles::default();
    let destination =
        Destination { path: "/", files: &nothing, owner: None, chmod: None, link: false, time: 0 };
    let tree = copy::place(selected, &destination)?;
    let fork = unpacker.empty().fork()?;
    fork.apply(&tree)?;
    let mut path = folder_of(&fork);
    if let [one] = selected
        && !one.node.entry.is_directory()
    {
        path.push(OsStr::from_bytes(&one.name));
    }
    Ok(Arc::new(Shown { path, fork: Mutex::new(fork) }))
}

/// Where the files of a fork of nothing are.
pub(super) fn folder_of(fork: &Fork) -> PathBuf {
    match fork.root() {
        Root::Overlay { changes: Some(changes), .. } => changes.upper,
        Root::Folder(folder) => folder,
        Root::Overlay { changes: None, .. } | Root::Host { .. } => PathBuf::new(),
    }
}
