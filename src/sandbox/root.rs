//! Mounts the root file system: layers over each other, or a folder.

use std::ffi::CString;
use std::fmt::Write as _;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    open_tree,
};

use super::error::{At as _, Attempt, Fault, Stage};
use super::kernel;
use super::spec::{Access, Changes, Durability, Root, Spec};

/// Which extended attributes an overlay keeps its marks in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    /// `trusted.overlay.*`, for real root.
    Trusted,
    /// `user.overlay.*`, in a user namespace.
    User,
}

/// Mounts the root file system over one of its own folders and opens it.
///
/// Device nodes in it cannot be opened, whoever made them.
pub(super) fn mount(spec: &Spec, marks: Marks) -> Attempt<OwnedFd> {
    let root = match &spec.root {
        Root::Folder(folder) => bind(folder)?,
        Root::Overlay { layers, changes: None } if layers.len() == 1 => {
            let root = bind(&layers[0])?;
            kernel::set_mount_attributes(&root, MountAttrFlags::MOUNT_ATTR_RDONLY, false)
                .at(Stage::Mounts, || "make the root file system read-only")?;
            root
        }
        // Without layers the upper folder holds everything, and no whiteouts.
        Root::Overlay { layers, changes: Some(changes) } if layers.is_empty() => {
            bind(&changes.upper)?
        }
        Root::Overlay { layers, changes } => overlay(layers, changes.as_ref(), marks)?,
        Root::Host { .. } => {
            let reason = "the host's own files are for the sandbox toolchain";
            return Err(Fault::new(Stage::Request, "mount the root file system", reason));
        }
    };
    kernel::set_mount_attributes(&root, MountAttrFlags::MOUNT_ATTR_NODEV, false)
        .at(Stage::Mounts, || "set the options of the root file system")?;
    Ok(root)
}

/// Makes the root file system read-only, once every mount point exists.
pub(super) fn seal(root: BorrowedFd<'_>, access: Access) -> Attempt<()> {
    match access {
        Access::ReadWrite => Ok(()),
        Access::ReadOnly => {
            kernel::set_mount_attributes(root, MountAttrFlags::MOUNT_ATTR_RDONLY, false)
                .at(Stage::Mounts, || "make the root file system read-only")
        }
    }
}

fn bind(folder: &Path) -> Attempt<OwnedFd> {
    let action = || format!("open the root file system {}", folder.display());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, folder, flags).at(Stage::Mounts, action)?;
    attach_over(&tree, folder).at(Stage::Mounts, action)?;
    Ok(tree)
}

fn attach_over(tree: &OwnedFd, folder: &Path) -> rustix::io::Result<()> {
    move_mount(tree, "", CWD, folder, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// The folders of an overlay, open; named to the kernel through `/proc/self/fd`, so that long
/// paths and colons do no harm and the mount table inside shows no path of the host.
struct Folders {
    /// The top layer first.
    layers: Vec<OwnedFd>,
    changes: Option<(OwnedFd, OwnedFd)>,
    durability: Durability,
}

impl Folders {
    fn open(layers: &[PathBuf], changes: Option<&Changes>) -> Attempt<Self> {
        let folders = Self {
            layers: layers.iter().rev().map(|layer| open_folder(layer)).collect::<Attempt<_>>()?,
            changes: changes
                .map(|c| Ok((open_folder(&c.upper)?, open_folder(&c.work)?)))
                .transpose()?,
            durability: changes.map_or(Durability::Synced, |changes| changes.durability),
        };
        if let (Some((_, work)), Durability::Volatile) = (&folders.changes, folders.durability) {
            // Where the same changes were mounted before, the kernel left a warning that they may not
            // be whole; only a crash of the machine, after which nobody mounts them, makes it true.
            let _ = rustix::fs::unlinkat(work, "work/incompat/volatile/dirty", AtFlags::empty());
            let _ = rustix::fs::unlinkat(work, "work/incompat/volatile", AtFlags::REMOVEDIR);
        }
        Ok(folders)
    }
}

/// Folders over each other that are mounted nowhere yet.
pub(super) fn layered(layers: &[PathBuf], changes: &Changes, marks: Marks) -> Attempt<OwnedFd> {
    let folders = Folders::open(layers, Some(changes))?;
    overlay_by_layer(&folders, marks).or_else(|fault| match fault.errno {
        // Before Linux 6.7 layers cannot be added one by one, and nothing else is known of one.
        Some(libc::EINVAL) if layers.len() == 1 => overlay_of(&folders, marks, "lowerdir"),
        _ => Err(fault),
    })
}

fn overlay(layers: &[PathBuf], changes: Option<&Changes>, marks: Marks) -> Attempt<OwnedFd> {
    let Some(top) = layers.last() else {
        return Err(Fault::new(Stage::Request, "mount the layers", "there are none"));
    };
    let mut folders = Folders::open(layers, changes)?;
    match overlay_by_layer(&folders, marks) {
        Ok(tree) => {
            attach_over(&tree, top).at(Stage::Overlay, || "mount the layers")?;
            Ok(tree)
        }
        // Before Linux 6.7 layers cannot be added one by one.
        Err(fault) if fault.errno == Some(libc::EINVAL) => {
            overlay_at_once(&folders, marks, top).or_else(|fault| {
                // Before Linux 5.10 changes are always synced.
                if folders.durability == Durability::Synced {
                    return Err(fault);
                }
                folders.durability = Durability::Synced;
                overlay_at_once(&folders, marks, top)
            })
        }
        Err(fault) => Err(fault),
    }
}

fn open_folder(path: &Path) -> Attempt<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    opened.at(Stage::Mounts, || format!("open {}", path.display()))
}

fn name(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn overlay_by_layer(folders: &Folders, marks: Marks) -> Attempt<OwnedFd> {
    overlay_of(folders, marks, "lowerdir+")
}

/// Mounts with each layer given by `option`.
fn overlay_of(folders: &Folders, marks: Marks, option: &str) -> Attempt<OwnedFd> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .at(Stage::Overlay, || "open the overlay file system")?;
    configure_overlay(&fs, folders, (marks, option))
        .at(Stage::Overlay, || "mount the layers")
        .map_err(|fault| match kernel_log(&fs) {
            Some(said) => Fault { reason: format!("{}: {said}", fault.reason), ..fault },
            None => fault,
        })?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .at(Stage::Overlay, || "mount the layers")
}

fn configure_overlay(
    fs: &OwnedFd,
    folders: &Folders,
    (marks, option): (Marks, &str),
) -> Result<(), Errno> {
    for layer in &folders.layers {
        fsconfig_set_string(fs, option, name(layer))?;
    }
    if let Some((upper, work)) = &folders.changes {
        fsconfig_set_string(fs, "upperdir", name(upper))?;
        fsconfig_set_string(fs, "workdir", name(work))?;
        if folders.durability == Durability::Volatile {
            fsconfig_set_flag(fs, "volatile")?;
        }
    }
    match marks {
        Marks::User => fsconfig_set_flag(fs, "userxattr")?,
        // What a user namespace never has: without them a layer is plain files and whiteouts.
        Marks::Trusted => {
            fsconfig_set_string(fs, "redirect_dir", "nofollow")?;
            fsconfig_set_string(fs, "metacopy", "off")?;
        }
    }
    fsconfig_create(fs)
}

/// What the kernel said about a failed mount, where it says anything.
fn kernel_log(fs: &OwnedFd) -> Option<String> {
    let mut buffer = [0; 1024];
    let length = rustix::io::read(fs, &mut buffer).ok()?;
    let said = String::from_utf8_lossy(&buffer[..length]);
    let said = said.trim().trim_start_matches("e ").trim_start_matches("overlay: ");
    (!said.is_empty()).then(|| said.to_owned())
}

fn overlay_at_once(folders: &Folders, marks: Marks, target: &Path) -> Attempt<OwnedFd> {
    let mut options = String::from("lowerdir=");
    let names: Vec<_> = folders.layers.iter().map(name).collect();
    options.push_str(&names.join(":"));
    if let Some((upper, work)) = &folders.changes {
        write!(options, ",upperdir={},workdir={}", name(upper), name(work))
            .expect("writing to a string does not fail");
        if folders.durability == Durability::Volatile {
            options.push_str(",volatile");
        }
    }
    options.push_str(match marks {
        Marks::User => ",userxattr",
        Marks::Trusted => ",redirect_dir=nofollow,metacopy=off",
    });
    let options = CString::new(options).expect("the options are made of digits and names");
    rustix::mount::mount("overlay", target, "overlay", MountFlags::empty(), options.as_c_str())
        .at(Stage::Overlay, || "mount the layers")?;
    open_folder(target)
}
