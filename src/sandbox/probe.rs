//! Which isolations this machine allows, found out by entering each once and doing everything short of
//! starting a program. Settings and versions are read only to explain a failure, never to decide.

use std::path::Path;
use std::time::Duration;

use rustix::thread::CapabilitySet;
use serde::Serialize;

use super::error::{At as _, Attempt, Fault, Stage};
use super::exit::Exit;
use super::helper::SELF_TEST;
use super::isolation::Isolation;
use super::privileges::Confinement;
use super::spawn::{Launcher, Streams};
use super::spec::{Access, Mount, Network, Root, Spec};
use super::whiteout::make_whiteout;
use crate::error::{Cannot as _, Error, Result};

/// What a machine says about one isolation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The isolation.
    pub isolation: Isolation,
    /// Whether it works here.
    pub works: bool,
    /// Why it does not, or what is weaker than it could be.
    pub reason: Option<String>,
    /// The one thing to do about it, as a command where there is one.
    pub fix: Option<String>,
    /// Whether the next trial will find the same, as long as nothing changes on the machine.
    #[serde(skip)]
    pub(super) lasts: bool,
}

/// What a machine says about every isolation, best first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    /// The best isolation that works.
    pub fn best(&self) -> Option<Isolation> {
        self.0.iter().find(|finding| finding.works).map(|finding| finding.isolation)
    }

    /// What was found of one isolation.
    pub(super) fn of(&self, isolation: Isolation) -> Option<&Finding> {
        self.0.iter().find(|finding| finding.isolation == isolation)
    }

    /// One line: which isolation runs, and why not a better one.
    pub fn summary(&self) -> String {
        let Some(best) = self.best() else { return "no sandbox works here".to_owned() };
        // That nobody is root is no defect.
        let better = self
            .0
            .iter()
            .find(|f| !f.works && f.isolation < best && f.isolation != Isolation::NsRoot);
        let mut line = format!("sandbox {best}: {}", best.runs());
        if let Some(finding) = better {
            let reason = finding.reason.as_deref().unwrap_or("it does not work");
            line = format!("{line}; not {}: {reason}", finding.isolation);
            if let Some(fix) = &finding.fix {
                line = format!("{line}; fix: {fix}");
            }
        }
        line
    }
}

/// With what to probe.
#[derive(Clone, Copy, Debug)]
pub struct ProbeOptions<'a> {
    /// What starts sandboxes.
    pub launcher: &'a Launcher,
    /// A folder on the file system that root file systems will be on; a folder is made in it and
    /// removed again.
    pub folder: &'a Path,
}

/// Tries every isolation once.
pub fn probe(options: &ProbeOptions<'_>) -> Result<Findings> {
    Isolation::ALL
        .into_iter()
        .map(|isolation| try_one(options, isolation))
        .collect::<Result<_>>()
        .map(Findings)
}

pub(super) fn try_one(options: &ProbeOptions<'_>, isolation: Isolation) -> Result<Finding> {
    // Every isolation gets folders of its own: each leaves other traces in them.
    let scratch = tempfile::Builder::new()
        .prefix("sandbox-probe-")
        .tempdir_in(options.folder)
        .cannot(|| "try the sandbox")?;
    let outcome = rehearse(options.launcher, isolation, scratch.path());
    open_for_removal(scratch.path());
    Ok(match outcome {
        Ok(confinement) => weakness(isolation, confinement),
        Err(fault) => explain(isolation, fault),
    })
}

/// Long enough for a busy machine, short enough for a person.
const TIMEOUT: Duration = Duration::from_secs(10);

fn rehearse(launcher: &Launcher, isolation: Isolation, scratch: &Path) -> Attempt<Confinement> {
    if isolation == Isolation::Proot {
        return rehearse_proot(launcher, scratch).map(|()| Confinement::Full);
    }
    let mut spec = Spec::new(root(isolation, scratch)?, ["true"]);
    spec.timeout = Some(TIMEOUT);
    if isolation.has_overlay() {
        hide_file(isolation, scratch)?;
        spec.cwd = format!("/{HIDDEN}");
    }
    match run(launcher, &spec, isolation, true)? {
        Exit::NotExecutable(_) if isolation.has_overlay() => {
            let reason = "whiteouts can be made in the store's folder as extended attributes alone, \
                          and this kernel does not understand those";
            Err(Fault::new(Stage::Overlay, "hide a file of a layer", reason))
        }
        Exit::Code(code) if code == Confinement::Partial as u8 => Ok(Confinement::Partial),
        Exit::Code(code) if code == Confinement::Absent as u8 => Ok(Confinement::Absent),
        Exit::Code(0) => Ok(Confinement::Full),
        exit => {
            Err(Fault::new(Stage::Helper, "try it", format!("the rehearsal ended in {exit:?}")))
        }
    }
}

/// The name of a file that the upper one of two layers hides: a folder for the program can be made in
/// its place only where the kernel understands that.
const HIDDEN: &str = "hidden";

/// Hides a file of one layer by another, in the way of layers that are unpacked here.
fn hide_file(isolation: Isolation, scratch: &Path) -> Attempt<()> {
    let action = || "hide a file of a layer";
    let marks = if isolation.has_user_namespace() { "user.overlay." } else { "trusted.overlay." };
    fs_err::write(scratch.join("base").join(HIDDEN), "").at(Stage::Overlay, action)?;
    let layer = fs_err::File::open(scratch.join("layer")).at(Stage::Overlay, action)?;
    let layer = layer.file();
    make_whiteout(layer, HIDDEN.as_bytes(), layer, marks).at(Stage::Overlay, action)
}

/// The kernel leaves a folder without permissions in an overlay's folder for its own use.
fn open_for_removal(scratch: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let open = std::fs::Permissions::from_mode(0o700);
    // Where there was no overlay there is none.
    let _ = fs_err::set_permissions(scratch.join("work/work"), open);
}

fn run(launcher: &Launcher, spec: &Spec, isolation: Isolation, rehearsal: bool) -> Attempt<Exit> {
    let failed = |error: Error| Fault::new(Stage::Helper, "try it", error.to_string());
    let streams = Streams::null().map_err(failed)?;
    launcher.launch(spec, isolation, streams, rehearsal)?.wait().map_err(failed)
}

fn root(isolation: Isolation, scratch: &Path) -> Attempt<Root> {
    let folder = |name: &str| {
        let path = scratch.join(name);
        let made = fs_err::create_dir(&path);
        made.map_err(|error| Fault::new(Stage::Helper, "try it", error.to_string()))?;
        Ok(path)
    };
    Ok(match isolation {
        Isolation::Toolchain => {
            Root::Host { read: Vec::new(), write: vec![scratch.to_owned(), "/".into()] }
        }
        _ if isolation.has_overlay() => Root::overlay(
            vec![folder("base")?, folder("layer")?],
            folder("upper")?,
            folder("work")?,
        ),
        _ => Root::Folder(folder("root")?),
    })
}

/// A `proot` counts only if it runs this very binary well: some that are installed do not.
fn rehearse_proot(launcher: &Launcher, scratch: &Path) -> Attempt<()> {
    let failed = |reason: String| Fault::new(Stage::Helper, "try proot", reason);
    let helper = fs_err::canonicalize(launcher.helper()).map_err(|e| failed(e.to_string()))?;
    fs_err::write(scratch.join("present"), "").map_err(|e| failed(e.to_string()))?;
    let helper = helper.to_string_lossy().into_owned();
    let mut spec = Spec::new(Root::Folder("/".into()), [helper, SELF_TEST.to_owned()]);
    spec.timeout = Some(TIMEOUT);
    spec.network = Network::Host;
    spec.mounts.push(Mount::Bind {
        source: scratch.to_owned(),
        subpath: None,
        target: "/gondola-self-test".to_owned(),
        access: Access::ReadWrite,
    });
    match run(launcher, &spec, Isolation::Proot, false)? {
        Exit::Code(0) => Ok(()),
        _ => Err(failed("this proot fails its self-test".to_owned())),
    }
}

/// An isolation that works, with what Landlock could not add.
fn weakness(isolation: Isolation, confinement: Confinement) -> Finding {
    let reason = match (isolation, confinement) {
        (_, Confinement::Full) | (Isolation::InContainer | Isolation::Proot, _) => None,
        (Isolation::Toolchain, Confinement::Partial) => {
            Some("Landlock here lacks rules that newer kernels have")
        }
        (Isolation::Toolchain, Confinement::Absent) => {
            Some("without Landlock the host's files are not confined")
        }
        _ => {
            Some("with the host's network its abstract sockets can be reached (no Landlock scope)")
        }
    };
    let fix = reason.map(|_| "Linux 6.12 or newer with Landlock".to_owned());
    Finding { isolation, works: true, reason: reason.map(str::to_owned), fix, lasts: true }
}

fn explain(isolation: Isolation, fault: Fault) -> Finding {
    let lasts = fault.lasts();
    let is_root = rustix::process::geteuid().is_root();
    let (reason, fix) = match (isolation, fault.stage) {
        // Whatever it was that failed first: without it nothing of this works.
        (Isolation::NsRoot, _) if is_root && lacks(&[ADMIN]).is_some() => {
            explain_capability(ADMIN.1)
        }
        (Isolation::NsRoot, Stage::Namespaces) => {
            ("it needs real root (CAP_SYS_ADMIN)".to_owned(), None)
        }
        (Isolation::NsRoot, Stage::Overlay) if !is_root => {
            ("it needs real root (CAP_SYS_ADMIN)".to_owned(), None)
        }
        (Isolation::InContainer, Stage::Mounts) if !is_root => {
            ("it needs root, at least a container's".to_owned(), None)
        }
        (Isolation::InContainer, Stage::Mounts) if lacks(&OF_CONTAINER).is_some() => {
            explain_capability(lacks(&OF_CONTAINER).unwrap_or_default())
        }
        (Isolation::Proot, Stage::IdMap) => {
            (fault.reason, Some("install proot 5.4 or newer".to_owned()))
        }
        (_, Stage::Namespaces) => explain_namespaces(fault.errno, &fault.reason),
        (_, Stage::IdMap)
            if is_root && fault.errno == Some(libc::EPERM) && lacks(&[OWN_ID]).is_some() =>
        {
            let reason =
                "root of this container lacks CAP_SETFCAP, without which it has no user namespace";
            let fix = "run as another user: docker run --user 1000; Kubernetes: securityContext: {runAsUser: 1000}";
            (reason.to_owned(), Some(fix.to_owned()))
        }
        (Isolation::NsSubuid, Stage::IdMap) => explain_id_map(&fault),
        (_, Stage::IdMap | Stage::Mounts | Stage::Privileges) if restricted_by_apparmor() => {
            by_apparmor()
        }
        (_, Stage::Overlay) => {
            let reason = format!("layers cannot be mounted: {}", fault.reason);
            (reason, Some("set GONDOLA_HOME to a folder on ext4, xfs, btrfs or tmpfs".to_owned()))
        }
        _ => (format!("cannot {}: {}", fault.action, fault.reason), None),
    };
    Finding { isolation, works: false, reason: Some(reason), fix, lasts }
}

/// What root needs to make namespaces and to mount layers.
const ADMIN: (CapabilitySet, &str) = (CapabilitySet::SYS_ADMIN, "SYS_ADMIN");
/// What root of a container needs to change the root directory, and to make devices where nobody can
/// answer for them.
const OF_CONTAINER: [(CapabilitySet, &str); 2] =
    [(CapabilitySet::SYS_CHROOT, "SYS_CHROOT"), (CapabilitySet::MKNOD, "MKNOD")];

/// What root needs to map its own id into a user namespace.
const OWN_ID: (CapabilitySet, &str) = (CapabilitySet::SETFCAP, "SETFCAP");

/// The first of these that this process lacks.
fn lacks(needed: &[(CapabilitySet, &'static str)]) -> Option<&'static str> {
    let held = rustix::thread::capabilities(None).ok()?.effective;
    needed.iter().find(|(one, _)| !held.contains(*one)).map(|(_, name)| *name)
}

fn explain_capability(name: &str) -> (String, Option<String>) {
    let fix = format!(
        "docker run --cap-add {name}; Kubernetes: securityContext: {{capabilities: {{add: [{name}]}}}}; \
         GitLab's runner: cap_add = [\"{name}\"] of [runners.docker]"
    );
    (format!("root of this container lacks CAP_{name}"), Some(fix))
}

fn explain_id_map(fault: &Fault) -> (String, Option<String>) {
    let fix = if fault.reason.contains("no such program") {
        "sudo apt-get install uidmap (elsewhere: shadow-utils)".to_owned()
    } else {
        "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \"$USER\"".to_owned()
    };
    (format!("cannot {}: {}", fault.action, fault.reason), Some(fix))
}

fn explain_namespaces(errno: Option<i32>, reason: &str) -> (String, Option<String>) {
    let setting = |path: &str| fs_err::read_to_string(path).unwrap_or_default().trim().to_owned();
    let (why, fix) = match errno {
        Some(libc::ENOSPC) => (
            "user namespaces are switched off or used up",
            "sudo sysctl -w user.max_user_namespaces=28633",
        ),
        Some(libc::EINVAL | libc::ENOSYS) => {
            ("this kernel has no user namespaces", "a kernel with CONFIG_USER_NS")
        }
        _ if setting("/proc/sys/kernel/unprivileged_userns_clone") == "0" => (
            "user namespaces are switched off for users",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        _ if restricted_by_apparmor() => {
            return by_apparmor();
        }
        _ if setting("/proc/self/status").lines().any(|line| line == "Seccomp:\t2") => (
            "user namespaces are blocked by a system-call filter, as in a container",
            "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined; \
             Kubernetes: securityContext: {seccompProfile: {type: Unconfined}, procMount: Unmasked}; \
             GitLab's runner: the same as security_opt of [runners.docker]",
        ),
        _ => return (format!("user namespaces cannot be made: {reason}"), None),
    };
    (why.to_owned(), Some(fix.to_owned()))
}

fn restricted_by_apparmor() -> bool {
    let path = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    fs_err::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

fn by_apparmor() -> (String, Option<String>) {
    let fix = "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
    ("user namespaces are blocked by AppArmor".to_owned(), Some(fix.to_owned()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What each isolation says where those of `working` work and no other.
    pub fn findings(working: &[Isolation]) -> Findings {
        let finding = |isolation| Finding {
            isolation,
            works: working.contains(&isolation),
            reason: Some(format!("no {isolation}")),
            fix: (isolation == Isolation::Ns).then(|| "switch it on".to_owned()),
            lasts: true,
        };
        Findings(Isolation::ALL.into_iter().map(finding).collect())
    }

    #[test]
    fn the_summary_says_why_not_a_better_one_and_what_to_do() {
        let line = findings(&[Isolation::Toolchain]).summary();
        assert_eq!(
            line,
            "sandbox toolchain: Go packages, and go commands in RUN; not ns-subuid: no ns-subuid"
        );
        assert_eq!(findings(&[]).summary(), "no sandbox works here");
    }
}
