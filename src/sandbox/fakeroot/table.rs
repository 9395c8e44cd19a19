//! The side tables of the root file system while it is in use: what unpacking wrote, and what is
//! appended for the next step and the layer.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use super::super::channel::Job;
use super::super::error::{At as _, Attempt, Fault, Stage};
use super::super::owner::{Kept, SideTable};
use super::super::spec::Root;

/// The merged tables, and where new lines go.
#[derive(Default)]
pub(in super::super) struct Table {
    lines: SideTable,
    journal: Option<Journal>,
}

/// The file beside the changes; made with its first line.
struct Journal {
    folder: OwnedFd,
    name: OsString,
    file: Option<File>,
}

impl Table {
    /// Reads the tables of a root file system, while its folders can still be reached. A program that
    /// joins a sandbox cannot reach them; what it does to links goes into no layer.
    pub(in super::super) fn open(job: &Job) -> Attempt<Self> {
        let root = &job.spec.root;
        if job.joins {
            return Ok(Self::default());
        }
        let (layers, changes) = match root {
            Root::Overlay { layers, changes } => {
                (layers.as_slice(), changes.as_ref().map(|changes| changes.upper.as_path()))
            }
            Root::Folder(folder) => (&[][..], Some(folder.as_path())),
            Root::Host { .. } => (&[][..], None),
        };
        let mut lines = SideTable::default();
        for folder in layers.iter().map(PathBuf::as_path).chain(changes) {
            let table = SideTable::of_folder(folder).map_err(|error| {
                Fault::new(Stage::Mounts, "read the owners of files", error.to_string())
            })?;
            lines.overlay(table);
        }
        let journal = changes.map(Journal::beside).transpose()?;
        Ok(Self { lines, journal })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// What is kept about a path of the sandbox, which is absolute.
    pub(super) fn get(&self, path: &Path) -> Option<&Kept> {
        self.lines.get(path.strip_prefix("/").unwrap_or(path))
    }

    /// Keeps something about a path of the sandbox.
    pub(super) fn keep(&mut self, path: &Path, kept: Kept) -> std::io::Result<()> {
        let path = path.strip_prefix("/").unwrap_or(path);
        if let Some(journal) = &mut self.journal {
            journal.append(&SideTable::line(path, &kept))?;
        }
        self.lines.insert(path.to_owned(), kept);
        Ok(())
    }
}

impl Journal {
    fn beside(folder: &Path) -> Attempt<Self> {
        let action = || "open the owners of files";
        let path = SideTable::beside(folder);
        let parent = path.parent().unwrap_or(Path::new("/"));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, parent, flags, Mode::empty());
        let folder = folder.at(Stage::Mounts, action)?;
        let name = path.file_name().unwrap_or_default().to_owned();
        Ok(Self { folder, name, file: None })
    }

    fn append(&mut self, line: &[u8]) -> std::io::Result<()> {
        if self.file.is_none() {
            let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
            let flags = flags | OFlags::NOFOLLOW;
            let opened = rustix::fs::openat(&self.folder, &self.name, flags, Mode::from(0o644))?;
            self.file = Some(opened.into());
        }
        self.file.as_mut().expect("it was opened above").write_all(line)
    }
}
