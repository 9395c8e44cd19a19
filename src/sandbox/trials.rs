//! What earlier trials of an isolation found: to try it again would take as long as to use it.
//!
//! ```text
//! FOLDER/
//!   SITUATION-ISOLATION      "works" or "fails", and the end of the line
//! ```
//!
//! An answer counts for as long as whatever decides over it is the same: the rights of the process,
//! the switches of the kernel, the programs that may help. Each answer is a file of its own, written
//! aside and renamed, so that processes side by side neither lose nor mix them, and one answer can
//! be forgotten alone.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::identity::find_program;
use super::isolation::Isolation;

/// Lines of `/proc/self/status` that say what this process may do.
const RIGHTS: [&str; 7] =
    ["Uid:", "Gid:", "CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:", "Groups:"];

/// What else decides which namespaces there are, and what the machine is.
const SWITCHES: [&str; 8] = [
    "/proc/sys/kernel/random/boot_id",
    "/proc/sys/kernel/unprivileged_userns_clone",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    "/proc/sys/user/max_user_namespaces",
    "/proc/self/attr/current",
    "/proc/self/uid_map",
    "/etc/subuid",
    "/etc/subgid",
];

/// The programs that an isolation may need.
const PROGRAMS: [&str; 3] = ["newuidmap", "newgidmap", "proot"];

/// How many answers are kept: one store may be used in several containers by turns.
const KEPT: usize = 64;

/// The answers of one situation.
pub(super) struct Trials {
    folder: PathBuf,
    situation: String,
}

impl Trials {
    /// Those that are kept in a folder, which need not be there, for a process with this `PATH`.
    pub(super) fn of(folder: &Path, path: &str) -> Self {
        Self { folder: folder.to_owned(), situation: situation(path) }
    }

    /// What was found when an isolation was last tried in this situation.
    pub(super) fn found(&self, isolation: Isolation) -> Option<bool> {
        match fs_err::read_to_string(self.file(isolation)).ok()?.trim() {
            "works" => Some(true),
            "fails" => Some(false),
            _ => None,
        }
    }

    /// Notes what was found, where the folder can be written to.
    pub(super) fn keep(&self, isolation: Isolation, works: bool) {
        // Without a note it is tried again.
        let _ = self.write(isolation, if works { "works\n" } else { "fails\n" });
        self.remove_oldest();
    }

    fn write(&self, isolation: Isolation, text: &str) -> std::io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let mut unfinished = tempfile::NamedTempFile::new_in(&self.folder)?;
        unfinished.write_all(text.as_bytes())?;
        unfinished.persist(self.file(isolation))?;
        Ok(())
    }

    /// Forgets what was found of one isolation, because it does not work by now.
    pub(super) fn forget(&self, isolation: Isolation) {
        // One that was never noted is forgotten already.
        let _ = fs_err::remove_file(self.file(isolation));
    }

    fn file(&self, isolation: Isolation) -> PathBuf {
        self.folder.join(format!("{}-{isolation}", self.situation))
    }

    /// Removes what is left over of situations that do not come again.
    fn remove_oldest(&self) {
        let Ok(entries) = fs_err::read_dir(&self.folder) else { return };
        let dated = entries.filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        });
        let mut all: Vec<_> = dated.collect();
        if all.len() <= KEPT {
            return;
        }
        all.sort();
        for (_, path) in &all[..all.len() - KEPT] {
            // Another process may have done it.
            let _ = fs_err::remove_file(path);
        }
    }
}

/// All that decides which isolation works, as one word.
fn situation(path: &str) -> String {
    let read = |file: &str| fs_err::read_to_string(file).unwrap_or_default();
    let status = read("/proc/self/status");
    let rights = status.lines().filter(|line| RIGHTS.iter().any(|name| line.starts_with(name)));
    let mut parts: Vec<String> = rights.map(str::to_owned).collect();
    parts.extend(SWITCHES.map(read));
    for program in PROGRAMS {
        let found = find_program(program, path);
        let found = found.and_then(|file| Some((fs_err::metadata(&file).ok()?, file)));
        parts.push(found.map_or_else(String::new, |(meta, file)| {
            format!("{} {} {} {}", file.display(), meta.ino(), meta.mode(), meta.ctime())
        }));
    }
    blake3::hash(parts.join("\n").as_bytes()).to_hex().as_str()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_forgotten_alone_and_holds_for_its_situation() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("not/yet");
        let trials = Trials::of(&folder, "/usr/bin");
        assert_eq!(trials.found(Isolation::Ns), None);
        trials.keep(Isolation::NsRoot, false);
        trials.keep(Isolation::Ns, true);
        trials.keep(Isolation::NsCopy, true);
        let found = |trials: &Trials| {
            [Isolation::NsRoot, Isolation::Ns, Isolation::NsCopy].map(|r| trials.found(r))
        };
        assert_eq!(found(&trials), [Some(false), Some(true), Some(true)]);
        trials.forget(Isolation::Ns);
        assert_eq!(found(&trials), [Some(false), None, Some(true)]);
        let other = Trials { situation: "other".to_owned(), folder: folder.clone() };
        assert_eq!(found(&other), [None; 3]);
        fs_err::write(other.file(Isolation::Ns), "mayb").unwrap();
        assert_eq!(other.found(Isolation::Ns), None);
    }

    #[test]
    fn a_helping_program_that_comes_or_changes_is_another_situation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let before = situation(path);
        assert_eq!(before, situation(path));
        let program = folder.path().join("newuidmap");
        fs_err::write(&program, "").unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs_err::set_permissions(&program, executable).unwrap();
        assert_ne!(before, situation(path));
    }

    #[test]
    fn answers_of_situations_that_do_not_come_again_go() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..KEPT * 2 {
            let situation = number.to_string();
            let trials = Trials { situation, folder: folder.path().to_owned() };
            trials.keep(Isolation::Ns, true);
            assert_eq!(trials.found(Isolation::Ns), Some(true));
        }
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), KEPT);
    }
}
