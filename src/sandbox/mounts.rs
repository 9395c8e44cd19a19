//! Fills the root file system with what a process expects (`/proc`, `/sys`, `/dev`, the network's
//! files) and with what the caller asked for, and makes it the root.
//!
//! Sources are opened as detached mounts while the host's files are still there; targets are looked
//! up by [`super::path`], so that no symbolic link of the image leads outside.

use std::fmt::Write as _;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, mount_change, move_mount, open_tree, unmount,
};

use super::error::{At as _, Attempt, Fault, Stage};
use super::identity::IdMap;
use super::kernel;
use super::owner::{Kept, Owner};
use super::path::{Kind, RootFolder, Spot, file_type};
use super::protocol::Job;
use super::root::{self, Marks};
use super::spec::{Access, Mount, Network, Spec};
use super::stub::Stub;
use super::way_out;

/// Neither set-user-id programs nor device nodes count.
pub(super) const PLAIN: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);
/// Nor can anything be executed.
const DATA: MountAttrFlags = PLAIN.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Files and folders that tell too much, or do too much: Docker's list.
const MASKED: [&str; 13] = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
    "sys/kernel/security",
];
/// Files and folders through which the host would be configured: Docker's list.
const READ_ONLY: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];
/// Links in `/dev`.
pub(super) const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Docker's size of `/dev/shm`.
const SHARED_MEMORY_BYTES: u64 = 64 << 20;

/// The group `tty` in every distribution.
const TTY_GROUP: u32 = 5;

/// The most that is read of a network file of the host.
const MAX_NETWORK_FILE_BYTES: u64 = 1 << 20;

/// Builds the whole view in this process's own mount namespace and changes the root to it.
/// Returns what had to be made in the root file system to mount on.
pub(super) fn assemble(job: &Job) -> Attempt<Vec<Stub>> {
    let spec = &job.spec;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).at(Stage::Mounts, || "keep mounts to the sandbox")?;
    let marks = if job.isolation.has_user_namespace() { Marks::User } else { Marks::Trusted };
    let requested = spec.mounts.iter().map(|mount| Source::open(mount, marks));
    let mut requested = requested.collect::<Attempt<Vec<_>>>()?;
    let fd = root::mount(spec, marks)?;
    let mut root = RootFolder::new(fd).at(Stage::Mounts, || "open the root file system")?;
    let network_files = memory_files(&mut root, spec, &mut requested)?;
    mount_proc(&mut root, job)?;
    mount_sys(&mut root)?;
    protect(&root)?;
    mount_dev(&mut root, job)?;
    for (target, file) in &network_files {
        place(&mut root, target, Kind::File, file.as_fd())?;
    }
    requested.sort_by_key(|source| Path::new(source.target).components().count());
    for source in &requested {
        source.attach(&mut root)?;
    }
    root::seal(root.as_fd(), spec.root_access)?;
    change_root(root.as_fd())?;
    Ok(root.into_stubs())
}

fn change_root(root: BorrowedFd<'_>) -> Attempt<()> {
    let action = || "change the root";
    rustix::process::fchdir(root).at(Stage::Mounts, action)?;
    // With both arguments the same, the old root lies on top of the new one until it is taken off.
    rustix::process::pivot_root(".", ".").at(Stage::Mounts, action)?;
    unmount(".", UnmountFlags::DETACH).at(Stage::Mounts, action)?;
    rustix::process::chdir("/").at(Stage::Mounts, action)
}

/// Something that the caller asked for, opened on the host.
struct Source<'a> {
    target: &'a str,
    /// A detached mount; for a secret only once [`memory_files`] made it.
    tree: Option<OwnedFd>,
    kind: Kind,
    mount: &'a Mount,
}

impl<'a> Source<'a> {
    fn open(mount: &'a Mount, marks: Marks) -> Attempt<Self> {
        let target = mount.target();
        if !target.starts_with('/') {
            let reason = "the target is not an absolute path";
            return Err(Fault::new(Stage::Request, format!("mount {target:?}"), reason));
        }
        let (tree, kind) = match mount {
            Mount::Bind { source, access, .. } | Mount::Own { source, access, .. } => {
                let subpath = match mount {
                    Mount::Bind { subpath, .. } => subpath.as_deref(),
                    _ => None,
                };
                let tree = open_source(source, subpath, *access)
                    .at(Stage::Mounts, || format!("mount {} at {target}", source.display()))?;
                let folder = file_type(tree.as_fd()).is_ok_and(|kind| kind == FileType::Directory);
                (Some(tree), if folder { Kind::Folder } else { Kind::File })
            }
            Mount::Overlay { layers, changes, .. } => {
                let tree = root::layered(layers, changes, marks)?;
                set_attributes(&tree, PLAIN)
                    .at(Stage::Mounts, || format!("mount folders over each other at {target}"))?;
                (Some(tree), Kind::Folder)
            }
            Mount::Tmpfs { size_bytes, mode, .. } => {
                let mode = format!("{mode:o}");
                let size = size_bytes.map(|bytes| bytes.to_string());
                let mut options = vec![("mode", mode.as_str())];
                options.extend(size.as_deref().map(|size| ("size", size)));
                let tree = new_mount("tmpfs", &options, PLAIN)
                    .at(Stage::Mounts, || format!("mount a tmpfs at {target}"))?;
                (Some(tree), Kind::Folder)
            }
            Mount::Secret { .. } => (None, Kind::File),
        };
        Ok(Self { target, tree, kind, mount })
    }

    fn attach(&self, root: &mut RootFolder) -> Attempt<()> {
        let tree = self.tree.as_ref().expect("memory_files made every secret");
        place(root, self.target, self.kind, tree.as_fd())
    }
}

fn open_source(
    source: &Path,
    subpath: Option<&Path>,
    access: Access,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let mut folder = rustix::fs::open(source, flags, Mode::empty())?;
    if let Some(subpath) = subpath {
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        folder = rustix::fs::openat2(&folder, subpath, flags, Mode::empty(), inside)?;
    }
    let tree = clone_tree(folder.as_fd(), "")?;
    let read_only = match access {
        Access::ReadOnly => MountAttrFlags::MOUNT_ATTR_RDONLY,
        Access::ReadWrite => MountAttrFlags::empty(),
    };
    set_attributes(&tree, PLAIN | read_only)?;
    Ok(tree)
}

/// Opens a copy of the mounts at and below a place.
pub(super) fn clone_tree(at: BorrowedFd<'_>, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(at, path, flags)
}

fn set_attributes(tree: &OwnedFd, attributes: MountAttrFlags) -> rustix::io::Result<()> {
    kernel::set_mount_attributes(tree, attributes, true)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Makes a file system, mounted nowhere yet. An option without a value is a flag.
pub(super) fn new_mount(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> rustix::io::Result<OwnedFd> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(&fs, *key)?;
        } else {
            fsconfig_set_string(&fs, *key, *value)?;
        }
    }
    fsconfig_create(&fs)?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Mounts a detached mount at a place.
pub(super) fn attach(tree: BorrowedFd<'_>, spot: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", spot, "", flags)
}

/// Mounts at a path of the caller or of the network's files, which must stay out of the kernel's
/// own file systems: over them a mount could hide what a later check reads.
fn place(root: &mut RootFolder, target: &str, kind: Kind, tree: BorrowedFd<'_>) -> Attempt<()> {
    let action = || format!("mount at {target}");
    let spot = root.ensure(target, kind).at(Stage::Mounts, action)?;
    if spot.path.starts_with("proc") || spot.path.starts_with("sys") || spot.path == Path::new("") {
        let reason = format!("it leads to /{}", spot.path.display());
        return Err(Fault::new(Stage::Request, action(), reason));
    }
    attach(tree, spot.fd.as_fd()).at(Stage::Mounts, action)
}

/// Makes a folder of the kernel's; a symbolic link there is the work of a hostile step.
fn system_folder(root: &mut RootFolder, name: &str) -> Attempt<Spot> {
    let spot = root.ensure(name, Kind::Folder).at(Stage::Mounts, || format!("mount /{name}"))?;
    if spot.path != Path::new(name) {
        let reason = format!("it is a symbolic link to /{}", spot.path.display());
        return Err(Fault::new(Stage::Mounts, format!("mount /{name}"), reason));
    }
    Ok(spot)
}

/// Writes the network's files and the secrets to memory and opens each as a detached mount.
///
/// A mount can be copied only while it is mounted somewhere: `/dev` lends itself for the moment.
fn memory_files<'a>(
    root: &mut RootFolder,
    spec: &Spec,
    requested: &mut [Source<'a>],
) -> Attempt<Vec<(&'a str, OwnedFd)>> {
    let action = || "keep files in memory";
    let options = [("mode", "700")];
    // A secret that somebody may execute is a program.
    let is_program = |source: &Source<'_>| matches!(source.mount, Mount::Secret { mode, .. } if mode & 0o111 != 0);
    let attributes = if requested.iter().any(is_program) { PLAIN } else { DATA };
    let scratch = new_mount("tmpfs", &options, attributes).at(Stage::Mounts, action)?;
    let spot = system_folder(root, "dev")?;
    attach(scratch.as_fd(), spot.fd.as_fd()).at(Stage::Mounts, action)?;
    for (index, source) in requested.iter_mut().enumerate() {
        if let Mount::Secret { content, mode, uid, gid, .. } = source.mount {
            let name = format!("secret-{index}");
            let file = memory_file(&scratch, &name, content.reveal(), *mode)
                .at(Stage::Mounts, || format!("keep the secret for {} in memory", source.target))?;
            own(&file, *uid, *gid);
            let tree = clone_tree(scratch.as_fd(), &name).at(Stage::Mounts, action)?;
            let no_exec = if mode & 0o111 == 0 {
                MountAttrFlags::MOUNT_ATTR_NOEXEC
            } else {
                MountAttrFlags::empty()
            };
            let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | no_exec;
            set_attributes(&tree, attributes).at(Stage::Mounts, action)?;
            source.tree = Some(tree);
        }
    }
    let mut files = Vec::new();
    for (target, content) in network_texts(spec) {
        let name = target.trim_start_matches("/etc/");
        drop(memory_file(&scratch, name, content.as_bytes(), 0o644).at(Stage::Mounts, action)?);
        files.push((target, clone_tree(scratch.as_fd(), name).at(Stage::Mounts, action)?));
    }
    let scratch_name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&scratch));
    unmount(scratch_name, UnmountFlags::DETACH).at(Stage::Mounts, action)?;
    Ok(files)
}

fn memory_file(
    folder: &OwnedFd,
    name: &str,
    content: &[u8],
    mode: u32,
) -> std::io::Result<std::fs::File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::from(0o600))?;
    let mut file = std::fs::File::from(file);
    std::io::Write::write_all(&mut file, content)?;
    // Apart from opening, so that the umask takes nothing away.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(file)
}

/// Gives a file to a user. Where the user namespace does not hold that one, the file says whose it
/// is, as those of layers do; where it cannot, it stays root's.
fn own(file: &std::fs::File, uid: u32, gid: u32) {
    let (user, group) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    if rustix::fs::fchown(file, Some(user), Some(group)).is_err() {
        let kept = Kept { owner: Some(Owner { uid, gid }), ..Kept::default() };
        let _ = kept.write_to_file(file);
    }
}

/// What `/etc/hosts` holds where the host's is not used.
const LOCAL_HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// The files that say who and where the machine is.
pub(super) fn network_texts(spec: &Spec) -> [(&'static str, String); 3] {
    let host = |path| match spec.network {
        Network::Host => host_text(path),
        Network::None | Network::Private => String::new(),
    };
    let mut hosts = match host("/etc/hosts") {
        text if text.is_empty() => LOCAL_HOSTS.to_owned(),
        text => text,
    };
    if !hosts.ends_with('\n') {
        hosts.push('\n');
    }
    let own = [(&spec.hostname, IpAddr::from([127, 0, 0, 1]))];
    let extra = spec.extra_hosts.iter().map(|(name, address)| (name, *address));
    for (name, address) in own.into_iter().chain(extra) {
        writeln!(hosts, "{address}\t{name}").expect("writing to a string does not fail");
    }
    let resolver = match spec.network {
        Network::Private if spec.name_servers.is_empty() => {
            asking(&[IpAddr::from(way_out::NAME_SERVER)], host_text("/etc/resolv.conf"))
        }
        Network::Private => asking(&spec.name_servers, host_text("/etc/resolv.conf")),
        Network::Host | Network::None => asking(&spec.name_servers, host("/etc/resolv.conf")),
    };
    [
        ("/etc/resolv.conf", resolver),
        ("/etc/hosts", hosts),
        ("/etc/hostname", format!("{}\n", spec.hostname)),
    ]
}

/// A `resolv.conf` with other name servers, if some are given; the rest of it stays.
fn asking(servers: &[IpAddr], text: String) -> String {
    if servers.is_empty() {
        return text;
    }
    let rest = text.lines().filter(|line| !line.trim_start().starts_with("nameserver"));
    let lines = servers.iter().map(|server| format!("nameserver {server}"));
    lines.chain(rest.map(str::to_owned)).fold(String::new(), |text, line| text + &line + "\n")
}

/// A small text file of the host; empty if there is none.
fn host_text(path: &str) -> String {
    let mut text = String::new();
    if let Ok(file) = fs_err::File::open(path) {
        let mut bounded = file.take(MAX_NETWORK_FILE_BYTES);
        if bounded.read_to_string(&mut text).is_err() {
            text.clear();
        }
    }
    text
}

fn mount_proc(root: &mut RootFolder, job: &Job) -> Attempt<()> {
    let action = || "mount /proc";
    let spot = system_folder(root, "proc")?;
    let tree = match new_mount("proc", &[], DATA) {
        // The kernel gives no fresh one where the outer one is partly hidden, as in a container.
        // The outer one shows more process ids, but opens none of those processes.
        Err(Errno::PERM) if job.isolation.has_user_namespace() => clone_tree(CWD, "/proc"),
        result => result,
    };
    let tree = tree.at(Stage::Mounts, action)?;
    attach(tree.as_fd(), spot.fd.as_fd()).at(Stage::Mounts, action)
}

/// A fresh `/sys` needs a network namespace of one's own; the host's, read-only, does as well.
fn mount_sys(root: &mut RootFolder) -> Attempt<()> {
    let spot = system_folder(root, "sys")?;
    let read_only = DATA | MountAttrFlags::MOUNT_ATTR_RDONLY;
    let tree = new_mount("sysfs", &[], read_only).or_else(|_| {
        let tree = clone_tree(CWD, "/sys")?;
        set_attributes(&tree, read_only)?;
        Ok::<_, Errno>(tree)
    });
    // A host without /sys gives none.
    let Ok(tree) = tree else { return Ok(()) };
    attach(tree.as_fd(), spot.fd.as_fd()).at(Stage::Mounts, || "mount /sys")
}

fn protect(root: &RootFolder) -> Attempt<()> {
    for path in MASKED {
        let action = || format!("mask /{path}");
        let Ok(spot) = root.look(path) else { continue };
        let tree = match file_type(spot.as_fd()).at(Stage::Mounts, action)? {
            FileType::Directory => {
                new_mount("tmpfs", &[("size", "4k")], DATA | MountAttrFlags::MOUNT_ATTR_RDONLY)
            }
            _ => clone_tree(CWD, "/dev/null"),
        };
        let tree = tree.at(Stage::Mounts, action)?;
        attach(tree.as_fd(), spot.as_fd()).at(Stage::Mounts, action)?;
    }
    for path in READ_ONLY {
        let action = || format!("make /{path} read-only");
        let Ok(spot) = root.look(path) else { continue };
        let tree = clone_tree(spot.as_fd(), "").at(Stage::Mounts, action)?;
        set_attributes(&tree, DATA | MountAttrFlags::MOUNT_ATTR_RDONLY)
            .at(Stage::Mounts, action)?;
        attach(tree.as_fd(), spot.as_fd()).at(Stage::Mounts, action)?;
    }
    Ok(())
}

fn mount_dev(root: &mut RootFolder, job: &Job) -> Attempt<()> {
    let action = || "mount /dev";
    let spot = system_folder(root, "dev")?;
    let options = [("mode", "755"), ("size", "64k")];
    let dev = new_mount("tmpfs", &options, PLAIN).at(Stage::Mounts, action)?;
    attach(dev.as_fd(), spot.fd.as_fd()).at(Stage::Mounts, action)?;
    for name in DEVICES {
        // A container may lack some.
        let Ok(device) = clone_tree(CWD, &format!("/dev/{name}")) else { continue };
        let flags = OFlags::CREATE | OFlags::RDONLY | OFlags::CLOEXEC;
        let action = || format!("mount /dev/{name}");
        let node = rustix::fs::openat(&dev, name, flags, Mode::from(0o666));
        let node = node.at(Stage::Mounts, action)?;
        attach(device.as_fd(), node.as_fd()).at(Stage::Mounts, action)?;
    }
    for (name, target) in DEVICE_LINKS {
        rustix::fs::symlinkat(target, &dev, name).at(Stage::Mounts, action)?;
    }
    let group = TTY_GROUP.to_string();
    let mut terminals = vec![("newinstance", ""), ("ptmxmode", "666"), ("mode", "620")];
    if holds_group(&job.id_map, TTY_GROUP) {
        terminals.push(("gid", &group));
    }
    let no_exec = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let terminals = new_mount("devpts", &terminals, no_exec);
    place_in(&dev, "pts", &terminals.at(Stage::Mounts, || "mount /dev/pts")?)?;
    let size = job.spec.shared_memory_bytes.unwrap_or(SHARED_MEMORY_BYTES).to_string();
    let shared = new_mount("tmpfs", &[("mode", "1777"), ("size", &size)], DATA);
    place_in(&dev, "shm", &shared.at(Stage::Mounts, || "mount /dev/shm")?)?;
    // Not every kernel has message queues.
    if let Ok(queues) = new_mount("mqueue", &[], DATA) {
        place_in(&dev, "mqueue", &queues)?;
    }
    Ok(())
}

fn holds_group(id_map: &IdMap, group: u32) -> bool {
    match id_map {
        IdMap::None | IdMap::Inherited => true,
        IdMap::Single => false,
        IdMap::Ranges { gids, .. } => {
            gids.iter().map(|range| u64::from(range.count)).sum::<u64>() >= u64::from(group)
        }
    }
}

fn place_in(dev: &OwnedFd, name: &str, tree: &OwnedFd) -> Attempt<()> {
    let action = || format!("mount /dev/{name}");
    rustix::fs::mkdirat(dev, name, Mode::from(0o755)).at(Stage::Mounts, action)?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let spot = rustix::fs::openat(dev, name, flags, Mode::empty()).at(Stage::Mounts, action)?;
    attach(tree.as_fd(), spot.as_fd()).at(Stage::Mounts, action)
}
