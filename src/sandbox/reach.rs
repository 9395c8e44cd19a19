//! Folders that a process may not get to, for a process in a user namespace that a
//! [user with rights of root's](mod@super::other_user) makes: it has no such rights inside, and the store may
//! be in root's home.
//!
//! ```text
//!   helper: goes to STORE, by its rights        process 1: its working folder is STORE, open
//!   /root (0700) / … / STORE                    a tmpfs over /root, and in it … / STORE, mounted anew
//! ```
//!
//! A working folder is the one thing of the outer mounts that stays usable in new ones.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};

use super::error::{At as _, Attempt, Stage};
use super::mounts::{PLAIN, attach, clone_tree, new_mount};
use super::spec::{Changes, Mount, Root, Spec};

/// Goes to the folder that holds all of what a program is to see and this user, without rights of root's,
/// does not get to. Answers which folder that is, where there is such a thing.
pub(super) fn approach(spec: &Spec) -> Attempt<Option<PathBuf>> {
    // Asks for the real user, who has no rights but those of his id.
    let is_out_of_reach = |path: &&Path| {
        path.is_absolute() && rustix::fs::access(*path, Access::EXISTS) == Err(Errno::ACCESS)
    };
    let folders = folders(spec).into_iter().filter(is_out_of_reach);
    let Some(folder) = folders.map(Path::to_owned).reduce(|one, other| common(&one, &other)) else {
        return Ok(None);
    };
    rustix::process::chdir(&folder).at(Stage::Mounts, || format!("go to {}", folder.display()))?;
    Ok(Some(folder))
}

/// Mounts the working folder where it was, in this process's own mounts.
pub(super) fn arrive(folder: &Path) -> Attempt<()> {
    let action = || format!("get to {}", folder.display());
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).at(Stage::Mounts, action)?;
    let opened = clone_tree(CWD, ".").at(Stage::Mounts, action)?;
    let is_closed = |path: &&Path| rustix::fs::stat(path.join(".")).err() == Some(Errno::ACCESS);
    let ancestors: Vec<&Path> = folder.ancestors().skip(1).collect();
    if let Some(closed) = ancestors.into_iter().rev().find(is_closed) {
        let cover = new_mount("tmpfs", &[("mode", "755")], PLAIN).at(Stage::Mounts, action)?;
        attach(cover.as_fd(), spot(closed).at(Stage::Mounts, action)?.as_fd())
            .at(Stage::Mounts, action)?;
    }
    fs_err::create_dir_all(folder).at(Stage::Mounts, action)?;
    attach(opened.as_fd(), spot(folder).at(Stage::Mounts, action)?.as_fd())
        .at(Stage::Mounts, action)
}

fn spot(folder: &Path) -> rustix::io::Result<std::os::fd::OwnedFd> {
    rustix::fs::open(folder, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// The folders of the host that a program is to see.
fn folders(spec: &Spec) -> Vec<&Path> {
    fn layered<'a>(layers: &'a [PathBuf], changes: Option<&'a Changes>) -> Vec<&'a Path> {
        let changes = changes.map(|changes| [&changes.upper, &changes.work]);
        layers.iter().chain(changes.into_iter().flatten()).map(PathBuf::as_path).collect()
    }
    let mut all = match &spec.root {
        Root::Folder(folder) => vec![folder.as_path()],
        Root::Overlay { layers, changes } => layered(layers, changes.as_ref()),
        Root::Host { .. } => Vec::new(),
    };
    for mount in &spec.mounts {
        match mount {
            Mount::Bind { source, .. } | Mount::Own { source, .. } => all.push(source),
            Mount::Overlay { layers, changes, .. } => all.extend(layered(layers, Some(changes))),
            Mount::Tmpfs { .. } | Mount::Secret { .. } => {}
        }
    }
    all
}

/// The folder that two are in, or one of them.
fn common(one: &Path, other: &Path) -> PathBuf {
    let parts = one.components().zip(other.components());
    parts.take_while(|(one, other)| one == other).map(|(part, _)| part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_folders_have_in_common_is_a_folder() {
        for (one, other, expected) in [
            ("/root/store/a/b", "/root/store/c", "/root/store"),
            ("/root/store", "/root/store/c", "/root/store"),
            ("/root/store", "/root/storey", "/root"),
            ("/a", "/b", "/"),
        ] {
            assert_eq!(common(Path::new(one), Path::new(other)), Path::new(expected));
        }
    }
}
