//! Another user than root, for root of a container that may have no user namespace while others may.
//!
//! Since Linux 5.12 nobody maps root's id into a user namespace who lacks `CAP_SETFCAP`, which CRI-O and
//! OpenShift give to no container: root of such a pod has none. Every other user maps his own id. So root
//! becomes one, and keeps of his rights those over the files and processes of others: the sources of a
//! build, and the settings in root's home, are root's. What is made from then on is the other user's.
//!
//! No variable says that a process is such a user: its id and its capabilities do.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, Gid, Uid};
use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::error::{At as _, Attempt, Stage};
use super::isolation::Isolation;

/// The name under which the own binary tries as the other user what works.
pub(super) const MARK: &str = "gondola-other-user";

/// An id that no image and no distribution gives to anybody, and that a container with ids of its own has.
pub(super) const OTHER: u32 = 65533;

/// What root needs to become somebody else and to get on with root's files.
const NEEDED: CapabilitySet = CapabilitySet::SETUID
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER);

/// What is kept, where it is there. Not the right to give files away: in the namespace others have no ids.
const KEPT: [CapabilitySet; 4] = [
    CapabilitySet::DAC_OVERRIDE,
    CapabilitySet::FOWNER,
    CapabilitySet::KILL,
    CapabilitySet::NET_BIND_SERVICE,
];

/// The folders of a store, below its own.
const OF_STORE: [&str; 2] = ["blobs", "gondola"];

/// Whether this process is root that may map no ids, and may become somebody who does.
pub(super) fn is_worth_trying() -> bool {
    let held = rustix::thread::capabilities(None).map(|sets| sets.permitted);
    geteuid().is_root() && held.is_ok_and(lacks_namespaces)
}

fn lacks_namespaces(held: CapabilitySet) -> bool {
    let own = CapabilitySet::SYS_ADMIN | CapabilitySet::SETFCAP;
    held.contains(NEEDED) && !held.intersects(own)
}

/// Whether one of some isolations works for the other user: the own binary tries them as that one.
pub(super) fn works(
    (helper, path): (&Path, &str),
    folder: &Path,
    isolations: &[Isolation],
) -> bool {
    let mut command = Command::new(helper);
    command.arg0(MARK).arg(folder).arg(path).args(isolations.iter().map(|it| it.as_str()));
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Becomes the other user, and keeps what root may do with the files of others.
pub(super) fn become_it() -> Attempt<()> {
    let action = || format!("become user {OTHER}");
    let held = rustix::thread::capabilities(None).at(Stage::User, action)?;
    let (uid, gid) = (Uid::from_raw(OTHER), Gid::from_raw(OTHER));
    rustix::thread::set_keep_capabilities(true).at(Stage::User, action)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).at(Stage::User, action)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).at(Stage::User, action)?;
    let kept = KEPT.into_iter().filter(|one| held.permitted.contains(*one));
    let all = kept.clone().fold(CapabilitySet::empty(), |all, one| all | one);
    let sets = CapabilitySets { effective: all, permitted: all, inheritable: all };
    rustix::thread::set_capabilities(None, sets).at(Stage::User, action)?;
    // The programs that this one starts, the sandbox's helper first of all, have them as well.
    for one in kept {
        rustix::thread::configure_capability_in_ambient_set(one, true).at(Stage::User, action)?;
    }
    Ok(())
}

/// Hands over the folders of a store that root made for himself alone: within the namespace nobody has
/// root's rights. A folder that is neither a store nor empty stays as it is, and so does what else is in one.
pub(super) fn hand_over(store: &Path) -> Attempt<()> {
    let is_empty = || fs_err::read_dir(store).is_ok_and(|mut found| found.next().is_none());
    if !store.join("oci-layout").is_file() && !is_empty() {
        return Ok(());
    }
    let below = |folder: &Path| {
        let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let first = OF_STORE.map(|name| store.join(name));
    let second: Vec<PathBuf> = first.iter().flat_map(|folder| below(folder)).collect();
    for path in first.iter().chain(&second).map(PathBuf::as_path).chain([store]) {
        let action = || format!("give {} to user {OTHER}", path.display());
        let is_closed = |found: &std::fs::Metadata| {
            found.is_dir() && found.uid() == 0 && found.mode() & 0o001 == 0
        };
        if fs_err::symlink_metadata(path).is_ok_and(|found| is_closed(&found)) {
            let (uid, gid) = (Some(Uid::from_raw(OTHER)), Some(Gid::from_raw(OTHER)));
            rustix::fs::chownat(rustix::fs::CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .at(Stage::User, action)?;
        }
    }
    Ok(())
}

/// The user that this process became.
pub fn other_user() -> Option<u32> {
    is_it().then_some(OTHER)
}

/// Whether this process is the other user with rights of root's.
pub(super) fn is_it() -> bool {
    let held = rustix::thread::capabilities(None).map(|sets| sets.effective);
    geteuid().as_raw() == OTHER && held.is_ok_and(|held| held.contains(CapabilitySet::DAC_OVERRIDE))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What CRI-O gives to a container's root.
    const CRI_O: CapabilitySet = CapabilitySet::CHOWN
        .union(CapabilitySet::DAC_OVERRIDE)
        .union(CapabilitySet::FSETID)
        .union(CapabilitySet::FOWNER)
        .union(CapabilitySet::SETGID)
        .union(CapabilitySet::SETUID)
        .union(CapabilitySet::SETPCAP)
        .union(CapabilitySet::NET_BIND_SERVICE)
        .union(CapabilitySet::KILL);

    #[test]
    fn root_that_may_map_its_own_id_or_become_nobody_else_stays_root() {
        for (held, expected) in [
            (CRI_O, true),
            (CRI_O | CapabilitySet::SYS_CHROOT, true),
            (CRI_O | CapabilitySet::SETFCAP, false),
            (CRI_O | CapabilitySet::SYS_ADMIN, false),
            (CRI_O - CapabilitySet::SETUID, false),
            (CRI_O - CapabilitySet::DAC_OVERRIDE, false),
            (CapabilitySet::empty(), false),
        ] {
            assert_eq!(lacks_namespaces(held), expected, "{held:?}");
        }
    }
}
