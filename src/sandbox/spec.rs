//! What to run, and what it may see.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::limit::Limit;
use super::tty::WindowSize;

/// A process to run in a sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// The file system that it sees.
    pub root: Root,
    /// Whether it may write to the root file system.
    pub root_access: Access,
    /// The program and its arguments. A name without a slash is looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// Its environment. `PATH`, `HOME` and, on a terminal, `TERM` get Docker's defaults where they
    /// are missing; on the host's files ([`Root::Host`]) nothing is added.
    pub env: BTreeMap<String, String>,
    /// Its working directory, made where it does not exist.
    pub cwd: String,
    /// `USER` as an image says it: empty, `name`, `uid`, `name:group` or `uid:gid`. Names are looked
    /// up in the root file system.
    pub user: String,
    /// Further things to mount; a shorter target is mounted first.
    pub mounts: Vec<Mount>,
    /// What becomes of it on the host's files ([`Root::Host`]) where nothing can confine it to them.
    #[serde(default)]
    pub unconfined: Unconfined,
    /// Whether it may change modes, owners and attributes on the host's files: Landlock has no rule for
    /// that, so a process that may can do so to whatever its user may.
    #[serde(default = "all_access")]
    pub attributes: Access,
    /// Which network it has.
    pub network: Network,
    /// Whether its root may listen on the low ports of the host's network.
    #[serde(default)]
    pub low_ports: LowPorts,
    /// Its host name.
    pub hostname: String,
    /// Further lines for `/etc/hosts`.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// A terminal of this size in place of the standard streams.
    pub terminal: Option<WindowSize>,
    /// After which time everything in the sandbox is killed.
    pub timeout: Option<Duration>,
    /// How many processes and threads it may have. Real root is not bound by it.
    pub processes: Option<u64>,
    /// What else each of its processes may have at most.
    #[serde(default)]
    pub limits: Vec<Limit>,
    /// The size of `/dev/shm`, instead of Docker's 64 MiB. There is one where there are namespaces.
    #[serde(default)]
    pub shared_memory_bytes: Option<u64>,
    /// Who is asked for names, instead of the host's name servers. As [`Self::shared_memory_bytes`].
    #[serde(default)]
    pub name_servers: Vec<IpAddr>,
    /// Whether it ends when its starter does.
    pub lifetime: Lifetime,
    /// A socket to be made, in a folder that only this user can enter, by which other processes reach
    /// the sandbox: see [`super::Launcher::join`] and [`super::Connector::at`]. It is removed at the end.
    pub control: Option<PathBuf>,
}

fn all_access() -> Access {
    Access::ReadWrite
}

impl Spec {
    /// A process with an empty environment, the host's network and no mounts, run as root in `/`.
    pub fn new(root: Root, argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            root,
            root_access: Access::ReadWrite,
            argv: argv.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            cwd: "/".to_owned(),
            user: String::new(),
            mounts: Vec::new(),
            unconfined: Unconfined::default(),
            attributes: all_access(),
            network: Network::Host,
            low_ports: LowPorts::default(),
            hostname: "gondola".to_owned(),
            extra_hosts: Vec::new(),
            terminal: None,
            timeout: None,
            processes: None,
            limits: Vec::new(),
            shared_memory_bytes: None,
            name_servers: Vec::new(),
            lifetime: Lifetime::WithStarter,
            control: None,
        }
    }
}

/// The file system that a process sees. All paths are the host's, and absolute.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Root {
    /// Layers mounted over each other.
    Overlay {
        /// Unpacked layers in overlay form, the base first.
        layers: Vec<PathBuf>,
        /// Where changes go; without it the root is read-only.
        changes: Option<Changes>,
    },
    /// A plain folder.
    Folder(PathBuf),
    /// The host's own files, confined to two lists: only on [`super::Isolation::Toolchain`].
    Host {
        /// Files and folders that may be read and executed.
        read: Vec<PathBuf>,
        /// Files and folders that may be written, too. No symbolic link is on the way to any: whoever may
        /// write to the folder of one would say what is written to.
        write: Vec<PathBuf>,
    },
}

impl Root {
    /// Layers under a writable upper folder; `work` is an empty folder on the same file system.
    pub fn overlay(layers: Vec<PathBuf>, upper: PathBuf, work: PathBuf) -> Self {
        let changes = Changes { upper, work, durability: Durability::Synced };
        Self::Overlay { layers, changes: Some(changes) }
    }

    /// The same root, whose changes nobody needs after a crash of the machine.
    #[must_use]
    pub fn volatile(mut self) -> Self {
        if let Self::Overlay { changes: Some(changes), .. } = &mut self {
            changes.durability = Durability::Volatile;
        }
        self
    }
}

/// What becomes of changes when the machine crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// What a program syncs is on the disk, and everything is when the sandbox ends. That end waits
    /// for all that was written to the disk lately, by whomever.
    Synced,
    /// Nothing is synced, whatever the program asks for.
    Volatile,
}

/// The two folders in which an overlay keeps what is written to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Changes {
    /// The changed files, in overlay form.
    pub upper: PathBuf,
    /// A folder for the kernel's own use, on the same file system.
    pub work: PathBuf,
    /// Whether they are written to disk in time.
    pub durability: Durability,
}

/// Whether something may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Read alone.
    ReadOnly,
    /// Read and written.
    ReadWrite,
}

/// Something mounted into the root file system. Targets are absolute paths in it; symbolic links on
/// the way are followed inside the root, and missing folders are made (see [`super::Stub`]).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Mount {
    /// A file or folder of the host.
    Bind {
        /// The host's file or folder.
        source: PathBuf,
        /// A path below `source`, looked up without ever leaving it: what a build file names.
        subpath: Option<PathBuf>,
        /// Where it appears.
        target: String,
        /// Whether it may be written to.
        access: Access,
    },
    /// A folder of the host that nobody else uses meanwhile. Where nothing can be mounted, it is moved to
    /// where it appears, and back at the end; so it has to be on the file system of the root.
    Own {
        /// The host's folder.
        source: PathBuf,
        /// Where it appears.
        target: String,
        /// Whether it may be written to.
        access: Access,
    },
    /// Folders of the host over each other. Only where there are overlays ([`super::Isolation::has_overlay`]).
    Overlay {
        /// The folders that are read alone, the lowest first. Nobody may change them meanwhile.
        layers: Vec<PathBuf>,
        /// Where changes go. Nobody else may mount them meanwhile.
        changes: Changes,
        /// Where it appears.
        target: String,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Where it appears.
        target: String,
        /// Its largest size.
        size_bytes: Option<u64>,
        /// Its permissions, such as `0o1777`.
        mode: u32,
    },
    /// A file in memory that never touches the disk.
    Secret {
        /// Where it appears.
        target: String,
        /// What it holds.
        content: Secret,
        /// Its permissions, such as `0o400`.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

impl Mount {
    /// Where it appears.
    pub fn target(&self) -> &str {
        match self {
            Self::Bind { target, .. }
            | Self::Own { target, .. }
            | Self::Overlay { target, .. }
            | Self::Tmpfs { target, .. }
            | Self::Secret { target, .. } => target,
        }
    }
}

/// The content of a file that is never printed.
pub type Secret = crate::secret::Secret<[u8]>;

/// Whether a process on the host's files runs where the kernel has no Landlock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unconfined {
    /// It does not.
    #[default]
    Refused,
    /// It does, with all rights of its user, who asked for that.
    Accepted,
}

/// Which network a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The host's.
    Host,
    /// None but a loopback device of its own, into which [`super::Connector`] leads (no sockets at all on [`super::Isolation::Toolchain`]).
    None,
    /// One of its own, out of which a program in user space leads, but neither to the host's loopback
    /// device nor by the gateway's address to the host. Needs an isolation with namespaces.
    Private,
}

/// Whether a sandbox's root may listen on ports below 1024 where the network is the host's. On a network
/// of the sandbox's own everybody may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LowPorts {
    /// As root may.
    #[default]
    Open,
    /// As a user may, who mostly may not.
    Closed,
}

/// When a sandbox ends at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifetime {
    /// With the process that started it, however that one ends.
    WithStarter,
    /// When its program does.
    Detached,
}
