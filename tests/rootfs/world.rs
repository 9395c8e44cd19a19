//! A store, unpackers for every form, and ways to look at what they made.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs_err as fs;
use gondola::error::{Error, Result};
use gondola::image::Image;
use gondola::layer::{Entry, EntryKind};
use gondola::oci::Platform;
use gondola::progress::Reporter;
use gondola::rootfs::{Rootfs, Unpacker, View};
use gondola::sandbox::{Exit, Isolation, Launcher, Spec, Streams};
use gondola::store::Store;
use gondola::transport::Context;

use super::archive::{Raw, image};
use super::support::client::client;

/// What hostile layers would like to reach, and nobody may.
const OUTSIDE: &str = "outside";

/// A store in a folder with a neighbour.
pub struct World {
    folder: tempfile::TempDir,
    pub store: Store,
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("gondola-rootfs-").tempdir().unwrap();
        fs::create_dir(folder.path().join(OUTSIDE)).unwrap();
        fs::write(folder.path().join(OUTSIDE).join("kept"), "as it was").unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        Self { folder, store }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn outside(&self) -> PathBuf {
        self.path(OUTSIDE)
    }

    pub fn unpacker(&self, isolation: Isolation) -> Unpacker {
        let context = Context {
            store: self.store.clone(),
            client: client(),
            reporter: Reporter::silent(),
            host: Platform::host(),
            jobs: 4,
        };
        Unpacker { context, isolation, cores: 2 }
    }

    /// Unpacks an image for an isolation.
    pub fn unpack(&self, image: &Image, isolation: Isolation) -> Result<Rootfs> {
        block_on(self.unpacker(isolation).unpack(image))
    }

    /// Unpacks one layer with these entries.
    pub fn layer(&self, entries: &[Raw], isolation: Isolation) -> Result<Rootfs> {
        self.unpack(&image(&[entries]), isolation)
    }

    /// Ends the lease, as the end of a process does, and keeps the folder.
    pub fn into_folder(self) -> tempfile::TempDir {
        self.folder
    }

    /// Panics unless everything outside is as it was, and the store has nothing half done.
    pub fn is_untouched(&self) {
        let names = list(&self.outside());
        assert_eq!(names, ["kept"], "something was written outside");
        let kept = self.outside().join("kept");
        assert_eq!(fs::read_to_string(&kept).unwrap(), "as it was");
        let metadata = fs::metadata(&kept).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.nlink()), (0o644, 1));
        assert_eq!(list(self.folder.path()), [OUTSIDE, "store"]);
    }
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}

pub fn list(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What stays in a folder when what is deleted on the side is gone.
pub fn left_in(folder: &Path) -> Vec<String> {
    let until = Instant::now() + Duration::from_mins(1);
    loop {
        let left = list(folder);
        if left.is_empty() || Instant::now() > until {
            return left;
        }
        std::thread::yield_now();
    }
}

/// One line for each file of a view: kind, mode, owner, time, path, and what is particular to it.
pub fn listing(view: &View) -> Vec<String> {
    let tree = view.tree(None).unwrap();
    tree.iter().map(|(path, entry)| line(&path.to_str_lossy(), &entry)).collect()
}

pub fn line(path: &str, entry: &Entry) -> String {
    let (kind, detail) = match &entry.kind {
        EntryKind::File(content) => ('f', format!(" <{} bytes>", content.size())),
        EntryKind::Directory => ('d', String::new()),
        EntryKind::Symlink(target) => ('l', format!(" -> {}", String::from_utf8_lossy(target))),
        EntryKind::HardLink(target) => ('h', format!(" => {target}")),
        EntryKind::CharDevice { major, minor } => ('c', format!(" {major} {minor}")),
        EntryKind::BlockDevice { major, minor } => ('b', format!(" {major} {minor}")),
        EntryKind::Fifo => ('p', String::new()),
    };
    let xattrs: Vec<&str> = entry.xattrs.keys().map(String::as_str).collect();
    let xattrs = if xattrs.is_empty() { String::new() } else { format!(" {}", xattrs.join(" ")) };
    format!(
        "{kind} {:04o} {}:{} {} {path}{detail}{xattrs}",
        entry.mode, entry.uid, entry.gid, entry.mtime
    )
}

/// The paths of a view.
pub fn paths(view: &View) -> Vec<String> {
    view.tree(None).unwrap().iter().map(|(path, _)| path.to_string()).collect()
}

pub fn read(view: &View, path: &str) -> Option<String> {
    view.read(path, 4 << 20).unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
}

/// Why something failed.
#[track_caller]
pub fn refusal<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("it was not refused"),
        Err(error) => error,
    }
}

/// Runs a script of busybox's shell on a root that has `/bin/busybox`; gives how it ended and what it
/// left for mounts.
pub fn shell(
    root: gondola::sandbox::Root,
    isolation: Isolation,
    script: &str,
) -> Vec<gondola::sandbox::Stub> {
    let launcher = Launcher::new("/usr/bin:/bin").with_helper(helper());
    let mut spec = Spec::new(root, ["/bin/busybox", "sh", "-ec", script]);
    spec.network = gondola::sandbox::Network::None;
    let mut child = launcher.spawn(&spec, isolation, Streams::inherit().unwrap()).unwrap();
    assert_eq!(child.wait().unwrap(), Exit::Code(0), "{script}");
    child.stubs().to_vec()
}

/// The program that enters sandboxes: beside this one where it was copied for another user.
fn helper() -> PathBuf {
    let beside = std::env::current_exe().unwrap().with_file_name("gondola");
    if beside.exists() { beside } else { PathBuf::from(env!("CARGO_BIN_EXE_gondola")) }
}
