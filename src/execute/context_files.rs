//! Copies of files that steps see through mounts.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::context::copy::{self, Destination, Selected};
use crate::engine::ReadFile;
use crate::engine::files::TreeFiles;
use crate::error::Result;
use crate::rootfs::{Fork, Unpacker};
use crate::sandbox::Root;

/// Copies of files, for steps to see. They vanish when this is dropped.
pub(super) struct ContextFiles {
    /// Where they are.
    pub path: PathBuf,
    #[expect(dead_code, reason = "it holds the files")]
    fork: Mutex<Fork>,
}

/// Copies files for a step to see. Their owners are what they are in their image, and root in a
/// context; and what the ignore file leaves out is not there. The contents of a context are compared
/// with what the step's key was made of.
pub(super) fn copied(unpacker: &Unpacker, selected: Vec<Selected>) -> Result<Arc<ContextFiles>> {
    let nothing = TreeFiles::default();
    let destination =
        Destination { path: "/", files: &nothing, owner: None, chmod: None, link: false, time: 0 };
    let name = match selected.as_slice() {
        [one] if !one.node.entry.is_directory() => Some(one.name.clone()),
        _ => None,
    };
    let tree = copy::place(selected, &destination)?;
    let fork = unpacker.empty().fork()?;
    fork.apply(&tree)?;
    let mut path = folder_of(&fork);
    path.extend(name.as_deref().map(OsStr::from_bytes));
    Ok(Arc::new(ContextFiles { path, fork: Mutex::new(fork) }))
}

/// Where the files of a fork of nothing are.
pub(super) fn folder_of(fork: &Fork) -> PathBuf {
    match fork.root() {
        Root::Overlay { changes: Some(changes), .. } => changes.upper,
        Root::Folder(folder) => folder,
        Root::Overlay { changes: None, .. } | Root::Host { .. } => PathBuf::new(),
    }
}

/// What explanations know of files that were selected; none where they are more than `most`.
pub(super) fn read_files<'a>(
    selected: impl Iterator<Item = &'a Selected> + Clone,
    most: usize,
) -> Option<Vec<ReadFile>> {
    let count =
        |one: &Selected| usize::from(!one.node.entry.is_directory()) + one.inside.count_files();
    if selected.clone().map(count).sum::<usize>() > most {
        return None;
    }
    let mut all = Vec::new();
    for one in selected {
        let path = one.path.as_ref().map_or_else(
            || String::from_utf8_lossy(&one.name).into_owned(),
            |path| path.to_str_lossy().into_owned(),
        );
        if !one.node.entry.is_directory() {
            all.push(ReadFile::of(path, &one.node.entry));
        }
        let folder =
            one.path.as_ref().map_or(String::new(), |path| format!("{}/", path.to_str_lossy()));
        let inside = one.inside.iter().filter(|(_, node)| !node.entry.is_directory());
        all.extend(inside.map(|(path, node)| {
            ReadFile::of(format!("{folder}{}", path.to_str_lossy()), &node.entry)
        }));
    }
    Some(all)
}
