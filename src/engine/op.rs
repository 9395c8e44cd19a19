//! Steps as data.
//!
//! What is written here is all that decides on a step's result, and nothing of the machine that
//! executes it: an op that was written down can be executed by another process, or next week.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::key::Key;
use crate::layer::Encoding;
use crate::oci::{Digest, Platform};

/// Names files that an op works on or reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// What a step or a source left, by its key: that says what the files are.
    Snapshot(String),
    /// A folder of whoever builds, by its name: `local:context` or `local:NAME`. Only the files
    /// themselves say what they are, so they are read for the key.
    Local(String),
}

impl Input {
    /// Whether the name says what the files are.
    fn has_key(&self) -> bool {
        matches!(self, Self::Snapshot(_))
    }

    fn name(&self) -> &str {
        let (Self::Snapshot(name) | Self::Local(name)) = self;
        name
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// The key of the files that it works on.
    pub base: String,
    /// No file and no document is younger than this, in seconds since 1970.
    pub epoch: Option<i64>,
    /// How its layer is compressed.
    pub encoding: Encoding,
    /// What it does.
    pub action: Action,
}

/// What an op does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Takes all files of a folder, and nothing below them.
    Take(Input),
    /// Runs a program.
    Exec(Box<ExecOp>),
    /// Copies files.
    Copy(Box<CopyOp>),
    /// Makes a folder, and those that it is in, where there is none.
    MakeFolder {
        /// The folder.
        path: String,
        /// Whose it is, as `USER` says it.
        user: String,
    },
}

/// Files that steps begin with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceOp {
    /// None.
    Scratch,
    /// Those of an image, which its diff IDs name.
    Image(Vec<Digest>),
}

impl SourceOp {
    /// Its key.
    pub fn key(&self) -> String {
        match self {
            Self::Scratch => Key::new("scratch").finish(),
            Self::Image(diff_ids) => {
                Key::new("base").list(diff_ids.iter().map(Digest::as_str)).finish()
            }
        }
    }
}

/// A program that is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOp {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// A script that is made for it.
    pub script: Option<Script>,
    /// Its environment, in order.
    pub environment: Vec<(String, String)>,
    /// Its working folder.
    pub folder: String,
    /// Its user, as an image says it.
    pub user: String,
    /// Which network it has.
    pub network: Network,
    /// Further names of hosts.
    pub hosts: Vec<(String, IpAddr)>,
    /// The size of `/dev/shm`.
    pub shared_memory_bytes: Option<u64>,
    /// What its processes may have at most, as `--ulimit` says it.
    pub limits: Vec<String>,
    /// What it sees besides its files, in order.
    pub mounts: Vec<Mount>,
    /// A variable that it gets besides, where its files ask for that. No part of the key: the variable is.
    pub alternative: Option<Alternative>,
    /// Which caches it gets without asking.
    pub caches: UnaskedCaches,
    /// The platform of its base. The files say it, so that it is no part of the key.
    pub platform: Platform,
    /// The program that reads commands, for whoever looks at a failure. No part of the key.
    pub shell: Vec<String>,
}

/// A variable that a program gets where its files ask for it, which whoever executes it finds out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alternative {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A script for a step to execute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// Its name in the folder of scripts.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Which network a step has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The host's.
    Host,
    /// None.
    None,
    /// One of its own.
    Private,
}

impl Network {
    /// As keys have it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Host => "Host",
            Self::None => "None",
            Self::Private => "Private",
        }
    }
}

/// Caches that a step gets without asking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnaskedCaches {
    /// Whether there may be any.
    pub wanted: bool,
    /// Paths that later steps read: no cache may hide them.
    pub read_later: Vec<String>,
    /// Whether what the step leaves becomes a part of the image. No part of the key.
    pub in_image: bool,
}

/// Something that a step sees besides its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where.
    pub target: String,
    /// Whether it cannot be written to.
    pub read_only: bool,
    /// What it is.
    pub kind: MountKind,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// Files.
    Bind {
        /// Whose.
        from: Input,
        /// Which of them.
        source: String,
    },
    /// A folder that outlives the build.
    Cache {
        /// Its name.
        id: String,
        /// Who else may use it meanwhile.
        sharing: Sharing,
        /// What a new one begins with: files, and which of them.
        seed: Option<(Input, String)>,
        /// Whose a new one is.
        access: Access,
    },
    /// Memory, of so many bytes at most.
    Tmpfs(Option<u64>),
    /// A secret of whoever builds.
    Secret {
        /// Its name.
        id: String,
        /// The variable that holds it.
        variable: Option<String>,
        /// Whether it is a file.
        is_file: bool,
        /// Without it the step fails.
        required: bool,
        /// Whose the file is.
        access: Access,
    },
    /// An SSH agent of whoever builds.
    Agent {
        /// Its name.
        id: String,
        /// Without it the step fails.
        required: bool,
        /// Whose the socket is.
        access: Access,
    },
}

/// Owner and mode of what is mounted. What is `None` has the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Permission bits.
    pub mode: Option<u32>,
    /// User ID.
    pub uid: Option<u32>,
    /// Group ID.
    pub gid: Option<u32>,
}

/// How steps that run at the same time share a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// All of them write to it.
    #[default]
    Shared,
    /// Each has its own.
    Private,
    /// One waits for the other.
    Locked,
}

/// Files that are copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyOp {
    /// Whether more than files are taken, as `ADD` does.
    pub add: Option<AddOp>,
    /// The files that paths are of.
    pub from: Input,
    /// Paths, and for an addition addresses and repositories.
    pub sources: Vec<String>,
    /// Files that the op itself brings: names and texts.
    pub inline: Vec<(String, String)>,
    /// Where they go; a slash at its end makes it a folder.
    pub path: String,
    /// Instead of the sources' owners.
    pub owner: Option<String>,
    /// Instead of the sources' permissions.
    pub mode: Option<String>,
    /// What is left out.
    pub excludes: Vec<String>,
    /// Whether sources keep the folders that they are in.
    pub parents: bool,
    /// Whether links on the way are replaced by folders.
    pub link: bool,
    /// The op as warnings quote it, without values of variables. No part of the key.
    pub written: String,
}

/// What an addition does that a copy does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddOp {
    /// Whether archives are unpacked, where that was said.
    pub unpack: Option<bool>,
    /// Whether repositories keep their history.
    pub keep_git_dir: bool,
    /// What an address or repository must come to. No part of the key: it changes no result.
    pub checksum: Option<String>,
}

impl AddOp {
    /// Whether local archives are unpacked.
    pub fn unpacks_local(&self) -> bool {
        self.unpack != Some(false)
    }

    /// Whether archives that are downloaded are unpacked.
    pub fn unpacks_remote(&self) -> bool {
        self.unpack == Some(true)
    }
}

/// What kind of step an op is, for whoever keeps some kinds only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepKind {
    /// `RUN`
    Run,
    /// `COPY` and `ADD`
    Copy,
    /// `WORKDIR`, and a context as a base
    Other,
}

impl Op {
    /// What kind of step it is.
    pub fn kind(&self) -> StepKind {
        match self.action {
            Action::Exec(_) => StepKind::Run,
            Action::Copy(_) => StepKind::Copy,
            Action::Take(_) | Action::MakeFolder { .. } => StepKind::Other,
        }
    }

    /// Whether its definition decides on what comes out: all that it reads has a key.
    ///
    /// A folder is known by its files alone, and so is what an address leads to.
    pub fn is_decided(&self) -> bool {
        match &self.action {
            Action::Copy(copy) => copy.add.is_none() && copy.from.has_key(),
            Action::Exec(exec) => exec.binds().all(Input::has_key),
            Action::Take(from) => from.has_key(),
            Action::MakeFolder { .. } => true,
        }
    }

    /// The op whose program has the variable that files may ask for.
    pub fn with_alternative(&self) -> Option<Self> {
        let Action::Exec(exec) = &self.action else { return None };
        let mut exec = exec.clone();
        let Alternative { name, value } = exec.alternative.take()?;
        exec.environment.push((name, value));
        Some(Self { action: Action::Exec(exec), ..self.clone() })
    }

    /// What it is called before files are read: all that it says, and the names of what it reads. Two
    /// ops with one definition come out the same where it decides, see [`Op::is_decided`].
    ///
    /// An op that reads no files has its definition for a key.
    pub fn definition(&self) -> String {
        let key = match &self.action {
            Action::Take(from) => self.start("context").text(from.name()),
            Action::Exec(exec) => {
                let folders = exec.binds().filter(|from| !from.has_key());
                let names: Vec<_> = folders.map(|from| from.name().as_bytes().to_vec()).collect();
                exec.fields(self.start("run"), &names)
            }
            Action::Copy(copy) => copy.fields(self.start("copy")).text(copy.from.name()),
            Action::MakeFolder { .. } => return self.key(&[]),
        };
        key.finish()
    }

    /// Its key, with the digests of what was read for it, in the order in which the op names it.
    pub fn key(&self, digests: &[Vec<u8>]) -> String {
        let key = match &self.action {
            Action::Take(_) => add(self.start("context"), digests),
            Action::Exec(exec) => exec.fields(self.start("run"), digests),
            Action::Copy(copy) => add(copy.fields(self.start("copy")), digests),
            Action::MakeFolder { path, user } => self.start("workdir").text(path).text(user),
        };
        key.finish()
    }

    fn start(&self, kind: &str) -> Key {
        let epoch = self.epoch.map(|epoch| epoch.to_string());
        Key::new(kind).text(&self.base).optional(epoch).text(self.encoding.to_string())
    }
}

fn add(key: Key, digests: &[Vec<u8>]) -> Key {
    digests.iter().fold(key, Key::text)
}

impl ExecOp {
    /// The files that mounts show, in order.
    pub(super) fn binds(&self) -> impl Iterator<Item = &Input> {
        self.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Bind { from, .. } => Some(from),
            _ => None,
        })
    }

    fn fields(&self, key: Key, digests: &[Vec<u8>]) -> Key {
        let environment = self.environment.iter().flat_map(|(name, value)| [name, value]);
        let hosts = self.hosts.iter().map(|(name, address)| format!("{name} {address}"));
        let key = key
            .list(&self.argv)
            .optional(self.script.as_ref().map(|script| &script.text))
            .list(environment)
            .text(&self.folder)
            .text(&self.user)
            .text(self.network.as_str())
            .list(hosts)
            .number(u64::from(self.caches.wanted))
            .list(&self.caches.read_later);
        let key = match self.shared_memory_bytes {
            Some(bytes) => key.text("shared memory").number(bytes),
            None => key,
        };
        let key = self.limits.iter().fold(key, Key::text);
        let mut digests = digests.iter();
        self.mounts.iter().fold(key, |key, mount| mount.fields(key, &mut digests))
    }
}

impl Mount {
    fn fields<'a>(&self, key: Key, digests: &mut impl Iterator<Item = &'a Vec<u8>>) -> Key {
        let key = key.text(&self.target).number(u64::from(self.read_only));
        match &self.kind {
            MountKind::Bind { from, source } => {
                let files = match from {
                    Input::Snapshot(from) => from.as_bytes(),
                    Input::Local(_) => digests.next().map_or(&b""[..], Vec::as_slice),
                };
                key.text("bind").text([files, b" ", source.as_bytes()].concat())
            }
            // What a cache holds is no part of what a step does.
            MountKind::Cache { id, .. } => key.text("cache").text(id),
            MountKind::Secret { id, variable, access, .. } => {
                access.fields(key.text("secret").text(id).optional(variable.as_ref()))
            }
            MountKind::Tmpfs(size) => key.text("tmpfs").number(size.unwrap_or_default()),
            MountKind::Agent { id, access, .. } => access.fields(key.text("ssh").text(id)),
        }
    }
}

impl Access {
    /// Adds whose a mounted file is, where that was said.
    fn fields(self, key: Key) -> Key {
        let said = [self.mode, self.uid, self.gid];
        if said.iter().all(Option::is_none) {
            return key;
        }
        said.into_iter().fold(key, |key, number| key.optional(number.map(u32::to_le_bytes)))
    }
}

impl CopyOp {
    /// The part of the key that does not depend on the sources' content.
    fn fields(&self, key: Key) -> Key {
        let inline = self.inline.iter().flat_map(|(name, text)| [name, text]);
        let key = key
            .text(&self.path)
            .list(&self.sources)
            .list(inline)
            .optional(self.owner.as_ref())
            .optional(self.mode.as_ref())
            .list(&self.excludes)
            .number(u64::from(self.parents))
            .number(u64::from(self.link));
        let Some(add) = &self.add else { return key };
        let key = key.text("add").number(match add.unpack {
            None => 2,
            Some(unpack) => u64::from(unpack),
        });
        if add.keep_git_dir { key.text("with its history") } else { key }
    }
}
