//! Takes rights away: capabilities, Landlock, and the filter of [`super::seccomp`].

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath,
    Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
    path_beneath_rules,
};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::error::{At as _, Attempt, Fault, Stage};
use super::spec::Network;

/// What Docker leaves to a container's root.
pub(super) const DOCKER_CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// The newest Landlock whose rights are asked for; older kernels give what they have.
const LANDLOCK: ABI = ABI::V6;

/// Devices that every program may use.
const DEVICES: [&str; 6] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Whether Landlock confines what it was asked to. A rehearsal exits with the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Confinement {
    /// By every rule.
    Full = 0,
    /// By those that this kernel has.
    Partial = 3,
    /// By none: the kernel has no Landlock.
    Absent = 4,
}

/// Takes every capability outside `keep` out of the bounding set: no program gives it back.
pub(super) fn bound_capabilities(keep: CapabilitySet) -> Attempt<()> {
    let action = || "drop capabilities";
    let held = rustix::thread::capabilities(None).at(Stage::Privileges, action)?;
    // Whoever may not change the bounding set holds nothing to drop from it.
    if !held.effective.contains(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if keep.contains(capability) {
            continue;
        }
        match rustix::thread::capability_is_in_bounding_set(capability) {
            Ok(true) => rustix::thread::remove_capability_from_bounding_set(capability)
                .at(Stage::Privileges, action)?,
            Ok(false) => {}
            // The kernel knows no capability of this number, nor a larger one.
            Err(_) => break,
        }
    }
    Ok(())
}

/// Gives up every capability of this process but those in `keep` that it holds.
pub(super) fn keep_capabilities(keep: CapabilitySet) -> Attempt<()> {
    limit_capabilities(keep, keep)
}

/// Gives up every capability of this thread but those that it holds and may have: a part of these is in
/// force.
pub(super) fn limit_capabilities(
    permitted: CapabilitySet,
    effective: CapabilitySet,
) -> Attempt<()> {
    let action = || "drop capabilities";
    let held = rustix::thread::capabilities(None).at(Stage::Privileges, action)?;
    // Kernels without ambient capabilities have none to clear.
    let _ = rustix::thread::clear_ambient_capability_set();
    let permitted = held.permitted & permitted;
    let effective = permitted & effective;
    let sets = CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).at(Stage::Privileges, action)
}

/// Refuses every gain of rights through a program from now on.
pub(super) fn forbid_new_privileges() -> Attempt<()> {
    rustix::thread::set_no_new_privs(true).at(Stage::Privileges, || "forbid new privileges")
}

/// Hides the host's abstract sockets from a process that shares its network.
pub(super) fn scope_sockets() -> Attempt<Confinement> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .scope(Scope::AbstractUnixSocket)
        .and_then(Ruleset::create);
    restrict(ruleset)
}

/// Whether the kernel confines processes to some of the host's files.
pub fn can_confine_files() -> bool {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    ruleset.handle_access(AccessFs::from_all(ABI::V1)).and_then(Ruleset::create).is_ok()
}

/// Confines a process on the host's files to two lists of paths.
pub(super) fn confine_files(
    read: &[PathBuf],
    write: &[PathBuf],
    network: Network,
) -> Attempt<Confinement> {
    let written = without_links(write)?;
    let ruleset = (|| {
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(LANDLOCK))?
            .scope(Scope::AbstractUnixSocket | Scope::Signal)?;
        if network != Network::Host {
            ruleset = ruleset.handle_access(AccessNet::from_all(LANDLOCK))?;
        }
        let devices = DEVICES.iter().map(Path::new);
        ruleset
            .create()?
            .add_rules(path_beneath_rules(read, AccessFs::from_read(LANDLOCK)))?
            .add_rules(written.into_iter().map(Ok::<_, RulesetError>))?
            .add_rules(path_beneath_rules(devices, AccessFs::from_file(LANDLOCK)))
    })();
    restrict(ruleset)
}

/// The rules for what may be written to. Each place is opened here, once, with no link on the way to it:
/// where earlier processes might write to the folder that it is in, they could have put one there.
fn without_links(paths: &[PathBuf]) -> Attempt<Vec<PathBeneath<OwnedFd>>> {
    let mut rules = Vec::new();
    for path in paths {
        let action = || format!("let a process write to {}", path.display());
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let opened = match rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve) {
            // What is not there, or cannot be reached, cannot be let in.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => continue,
            Err(Errno::LOOP) => {
                let reason = "a symbolic link is on the way to it";
                return Err(Fault::new(Stage::Request, action(), reason));
            }
            opened => opened.at(Stage::Privileges, action)?,
        };
        let stat = rustix::fs::fstat(&opened).at(Stage::Privileges, action)?;
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let all: BitFlags<AccessFs> = AccessFs::from_all(LANDLOCK);
        let access = if is_folder { all } else { all & AccessFs::from_file(LANDLOCK) };
        rules.push(PathBeneath::new(opened, access));
    }
    Ok(rules)
}

fn restrict(ruleset: Result<landlock::RulesetCreated, RulesetError>) -> Attempt<Confinement> {
    let status = ruleset.and_then(landlock::RulesetCreated::restrict_self).map_err(|error| {
        Fault::new(Stage::Privileges, "confine the process by Landlock", error.to_string())
    })?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Confinement::Full,
        RulesetStatus::PartiallyEnforced => Confinement::Partial,
        RulesetStatus::NotEnforced => Confinement::Absent,
    })
}
