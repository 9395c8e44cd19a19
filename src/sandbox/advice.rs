//! Why an isolation does not work here, and what to do about it: for docker, Kubernetes, GitLab's runner
//! and systemd.
//!
//! That a trial failed is known; what is read here only explains it. A fix names everything that is
//! missing at once, as far as that can be seen: one that leads to the next refusal is none.

use std::collections::BTreeSet;
use std::path::Path;

use rustix::thread::CapabilitySet;

use super::error::{Fault, Stage};
use super::isolation::Isolation;

/// What surrounds this process, by the kernel's own files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Place {
    is_root: bool,
    effective: u64,
    bounding: u64,
    /// Whether a system-call filter is in force.
    filtered: bool,
    no_new_privileges: bool,
    /// AppArmor's profile, where one confines.
    profile: Option<String>,
    /// Whether AppArmor takes rights from user namespaces of users.
    restricts_namespaces: bool,
    /// Whether users may make no user namespaces.
    forbids_namespaces: bool,
    in_container: bool,
    /// Whether the store is on a container's own layers.
    store_on_layers: bool,
}

/// What would have to be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a change of its own")]
pub(super) struct Fix {
    capabilities: BTreeSet<&'static str>,
    as_root: bool,
    without_filter: bool,
    without_profile: bool,
    with_privileges: bool,
    /// A folder for the store that is on no layers.
    folder: bool,
    /// Commands for the machine itself.
    machine: Vec<String>,
    /// What to install.
    program: Option<&'static str>,
}

/// Why something does not work, and what would have to be changed.
pub(super) type Explained = (String, Option<Fix>);

/// What root of a container needs to change the root directory, to make devices, and to become another
/// user.
const OF_CONTAINER: [(CapabilitySet, &str); 4] = [
    (CapabilitySet::SYS_CHROOT, "SYS_CHROOT"),
    (CapabilitySet::MKNOD, "MKNOD"),
    (CapabilitySet::SETUID, "SETUID"),
    (CapabilitySet::SETGID, "SETGID"),
];
/// What it needs to make files of others.
const OF_FILES: [(CapabilitySet, &str); 3] = [
    (CapabilitySet::CHOWN, "CHOWN"),
    (CapabilitySet::DAC_OVERRIDE, "DAC_OVERRIDE"),
    (CapabilitySet::FOWNER, "FOWNER"),
];
/// What root needs to map its own id into a user namespace.
const OWN_ID: [(CapabilitySet, &str); 1] = [(CapabilitySet::SETFCAP, "SETFCAP")];
/// What root needs to make namespaces and to mount layers.
const ADMIN: [(CapabilitySet, &str); 1] = [(CapabilitySet::SYS_ADMIN, "SYS_ADMIN")];

/// Files that say that this is a container.
const MARKS: [&str; 3] =
    [".dockerenv", "run/.containerenv", "var/run/secrets/kubernetes.io/serviceaccount"];

impl Place {
    /// Where this process is, with its store in a folder.
    pub(super) fn here(folder: &Path) -> Self {
        Self::read(Path::new("/"), folder)
    }

    /// The same with the kernel's files below another root.
    fn read(root: &Path, folder: &Path) -> Self {
        let text = |path: &str| fs_err::read_to_string(root.join(path)).unwrap_or_default();
        let status = text("proc/self/status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().nth(1)).unwrap_or_default().to_owned()
        };
        let first = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim).unwrap_or_default().to_owned()
        };
        let bits = |name: &str| u64::from_str_radix(&first(name), 16).unwrap_or_default();
        let setting = |path: &str| text(path).trim().to_owned();
        let profile = setting("proc/self/attr/current");
        let mounts = text("proc/self/mountinfo");
        let folder = fs_err::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let is_marked = MARKS.iter().any(|mark| root.join(mark).exists());
        Self {
            is_root: field("Uid:") == "0",
            effective: bits("CapEff:"),
            bounding: bits("CapBnd:"),
            filtered: first("Seccomp:") == "2",
            no_new_privileges: first("NoNewPrivs:") == "1",
            profile: Some(profile.trim_end_matches('\0').to_owned())
                .filter(|profile| !profile.is_empty() && !profile.starts_with("unconfined")),
            restricts_namespaces: setting("proc/sys/kernel/apparmor_restrict_unprivileged_userns")
                == "1",
            forbids_namespaces: setting("proc/sys/kernel/unprivileged_userns_clone") == "0",
            in_container: is_on_layers(&mounts, Path::new("/"))
                || is_marked && !is_on_a_disk(&mounts),
            store_on_layers: is_on_layers(&mounts, &folder),
        }
    }

    /// Why an isolation does not work.
    pub(super) fn explain(&self, isolation: Isolation, fault: &Fault) -> Explained {
        let (reason, fix) = match (isolation, fault.stage) {
            (Isolation::NsRoot, _) if !self.is_root => {
                return ("it needs real root (CAP_SYS_ADMIN)".to_owned(), None);
            }
            (Isolation::NsRoot, _) if !self.lacks(&ADMIN).is_empty() => {
                let capabilities = self.lacks(&ADMIN);
                let fix = Fix {
                    capabilities,
                    without_profile: self.profile.is_some(),
                    ..self.unfiltered()
                };
                ("root of this container lacks CAP_SYS_ADMIN".to_owned(), Some(fix))
            }
            (Isolation::InContainer, _)
                if !self.is_root || !self.lacks(&OF_CONTAINER).is_empty() =>
            {
                return self.of_container();
            }
            (Isolation::Proot, Stage::IdMap) => {
                return (fault.reason.clone(), Some(Fix::install("proot 5.4 or newer")));
            }
            (_, Stage::Namespaces) => self.of_namespaces(fault),
            (_, Stage::IdMap)
                if self.is_root
                    && fault.errno == Some(libc::EPERM)
                    && !self.lacks(&OWN_ID).is_empty() =>
            {
                let reason = "root of this container lacks CAP_SETFCAP, without which it has no user \
                              namespace";
                let fix = Fix { capabilities: self.lacks(&OWN_ID), ..Fix::default() };
                (reason.to_owned(), Some(fix))
            }
            (Isolation::NsSubuid, Stage::IdMap) => self.of_ids(fault),
            (_, Stage::Overlay) => {
                (format!("layers cannot be mounted: {}", fault.reason), Some(Fix::default()))
            }
            (_, Stage::IdMap | Stage::Mounts | Stage::Privileges) => self.of_rights(fault),
            _ => (format!("cannot {}: {}", fault.action, fault.reason), None),
        };
        let needs_folder =
            isolation.has_overlay() && (self.store_on_layers || fault.stage == Stage::Overlay);
        (reason, fix.map(|fix| Fix { folder: fix.folder || needs_folder, ..fix }))
    }

    /// What is weaker than it could be of the isolation in a container, where it works.
    pub(super) fn weakness(&self) -> Option<Explained> {
        let capabilities = self.lacks(&OF_FILES);
        if capabilities.is_empty() {
            return None;
        }
        let reason = format!("files of other users cannot be made: {}", lacking(&capabilities));
        Some((reason, Some(Fix { capabilities, ..Fix::default() })))
    }

    /// Which of these a root of this container lacks.
    fn lacks(&self, needed: &[(CapabilitySet, &'static str)]) -> BTreeSet<&'static str> {
        let held = if self.is_root { self.effective } else { self.bounding };
        let is_missing = |one: &CapabilitySet| held & one.bits() == 0;
        needed.iter().filter(|(one, _)| is_missing(one)).map(|(_, name)| *name).collect()
    }

    fn unfiltered(&self) -> Fix {
        Fix { without_filter: self.filtered, ..Fix::default() }
    }

    fn of_container(&self) -> Explained {
        let mut capabilities = self.lacks(&OF_CONTAINER);
        let reason = if self.is_root {
            format!("root of this container {}", lacking(&capabilities))
        } else {
            "it needs root, at least a container's".to_owned()
        };
        if !self.is_root && !self.in_container {
            // Whoever can be root of a machine has something better.
            return (reason, None);
        }
        capabilities.extend(self.lacks(&OF_FILES));
        (reason, Some(Fix { capabilities, as_root: !self.is_root, ..Fix::default() }))
    }

    fn of_namespaces(&self, fault: &Fault) -> Explained {
        let restricted = self.restricts_namespaces.then(|| APPARMOR_COMMAND.to_owned());
        match fault.errno {
            Some(libc::ENOSPC) => (
                "user namespaces are switched off or used up".to_owned(),
                Some(Fix::command("sudo sysctl -w user.max_user_namespaces=28633")),
            ),
            Some(libc::EINVAL | libc::ENOSYS) => (
                "this kernel has no user namespaces".to_owned(),
                Some(Fix::command("start a kernel with CONFIG_USER_NS")),
            ),
            _ if self.forbids_namespaces => (
                "user namespaces are switched off for users".to_owned(),
                Some(Fix::command("sudo sysctl -w kernel.unprivileged_userns_clone=1")),
            ),
            _ if self.filtered => (
                "user namespaces are blocked by a system-call filter, as in a container".to_owned(),
                Some(Fix { machine: restricted.into_iter().collect(), ..self.unfiltered() }),
            ),
            _ if self.restricts_namespaces => self.of_rights(fault),
            _ => (format!("user namespaces cannot be made: {}", fault.reason), None),
        }
    }

    /// Something was refused that a namespace's own root may do everywhere else.
    fn of_rights(&self, fault: &Fault) -> Explained {
        let is_refused = matches!(fault.errno, Some(libc::EPERM | libc::EACCES));
        let what = format!("cannot {}: {}", fault.action, fault.reason);
        if self.restricts_namespaces && !self.may_administer() {
            let fix = Fix::command(APPARMOR_COMMAND);
            return ("user namespaces are blocked by AppArmor".to_owned(), Some(fix));
        }
        match &self.profile {
            _ if !is_refused => (what, None),
            _ if self.filtered => {
                let fix = Fix { without_profile: self.profile.is_some(), ..self.unfiltered() };
                (format!("a system-call filter forbids it: {what}"), Some(fix))
            }
            Some(profile) => {
                let fix = Fix { without_profile: true, ..Fix::default() };
                (format!("AppArmor's profile {profile} forbids it: {what}"), Some(fix))
            }
            None => (what, None),
        }
    }

    fn may_administer(&self) -> bool {
        self.is_root && self.lacks(&ADMIN).is_empty()
    }

    fn of_ids(&self, fault: &Fault) -> Explained {
        let reason = format!("cannot {}: {}", fault.action, fault.reason);
        let privileges = Fix { with_privileges: self.no_new_privileges, ..Fix::default() };
        if fault.reason.contains("no such program") {
            // An image rarely has the one without the other.
            let program = Some(if self.in_container { UIDMAP_AND_RANGE } else { UIDMAP });
            return (reason, Some(Fix { program, ..privileges }));
        }
        if self.no_new_privileges && !self.is_root {
            let why = format!("{reason}; newuidmap gets no rights of its own here (no_new_privs)");
            return (why, Some(privileges));
        }
        let fix = if self.in_container { Fix::install(RANGE) } else { Fix::command(SUBIDS) };
        (reason, Some(fix))
    }
}

const UIDMAP: &str = "uidmap (elsewhere: shadow-utils)";
const UIDMAP_AND_RANGE: &str = "uidmap (elsewhere: shadow-utils) and a range of ids for the user \
                                (/etc/subuid and /etc/subgid)";
const RANGE: &str = "a range of ids for the user (/etc/subuid and /etc/subgid)";
const SUBIDS: &str =
    "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \"$USER\"";
const APPARMOR_COMMAND: &str = "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";

/// `lacks CAP_A and CAP_B`.
fn lacking(capabilities: &BTreeSet<&str>) -> String {
    let names: Vec<String> = capabilities.iter().map(|name| format!("CAP_{name}")).collect();
    format!("lacks {}", names.join(" and "))
}

/// Whether a folder is on the layers of a container: on a mounted overlay.
fn is_on_layers(mounts: &str, folder: &Path) -> bool {
    mount_of(mounts, folder).is_some_and(|mount| mount.kind == "overlay")
}

/// Whether the root is a whole disk, as a machine's own is: one that was made of an image has the image's
/// marks.
fn is_on_a_disk(mounts: &str) -> bool {
    let root = mount_of(mounts, Path::new("/"));
    root.is_some_and(|mount| mount.root == "/" && mount.source.starts_with("/dev/"))
}

/// A line of `/proc/self/mountinfo`.
struct MountLine<'a> {
    /// What of the file system is mounted.
    root: &'a str,
    at: &'a str,
    kind: &'a str,
    source: &'a str,
}

impl<'a> MountLine<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, at) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        Some(Self { root, at, kind: after.next()?, source: after.next()? })
    }
}

/// The mount that a folder is on. Of those at one place the last is seen.
fn mount_of<'a>(mounts: &'a str, folder: &Path) -> Option<MountLine<'a>> {
    let all = mounts.lines().filter_map(MountLine::read);
    all.filter(|mount| folder.starts_with(mount.at)).max_by_key(|mount| mount.at.len())
}

impl Fix {
    fn command(text: &str) -> Self {
        Self { machine: vec![text.to_owned()], ..Self::default() }
    }

    fn install(program: &'static str) -> Self {
        Self { program: Some(program), ..Self::default() }
    }

    /// Whether it has the store in another folder.
    pub(super) fn moves_store(&self) -> bool {
        self.folder
    }

    /// What of it lets root do what it may.
    pub(super) fn of_filters(&self) -> Self {
        let Self { without_filter, without_profile, .. } = *self;
        Self { without_filter, without_profile, ..Self::default() }
    }

    /// With what another one changes.
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.capabilities.extend(&other.capabilities);
        self.as_root |= other.as_root;
        self.without_filter |= other.without_filter;
        self.without_profile |= other.without_profile;
        self.with_privileges |= other.with_privileges;
        self.folder |= other.folder;
        self.program = self.program.or(other.program);
        let new = other.machine.iter().filter(|command| !self.machine.contains(command));
        let new: Vec<String> = new.cloned().collect();
        self.machine.extend(new);
        self
    }

    /// The fix as it is told.
    pub(super) fn text(&self, place: &Place) -> Option<String> {
        let mut parts = Vec::new();
        if let Some(program) = self.program {
            parts.push(if place.in_container {
                format!("put {program} into the image")
            } else if program == UIDMAP {
                format!("sudo apt-get install {program}")
            } else {
                format!("install {program}")
            });
        }
        let is_about_rights = self.changes_rights();
        if is_about_rights || self.folder && place.in_container {
            parts.push(format!("docker run {}", self.docker(place.is_root).join(" ")));
            parts.push(format!("Kubernetes: {}", self.kubernetes()));
            parts.push(format!("GitLab's runner: {} of [runners.docker]", self.gitlab()));
        } else if self.folder {
            parts.push("set GONDOLA_HOME to a folder on ext4, xfs, btrfs or tmpfs".to_owned());
        }
        if is_about_rights && let Some(service) = self.systemd() {
            parts.push(format!("systemd: {service} of [Service]"));
        }
        let machine = self.machine.join("; ");
        if !machine.is_empty() {
            let on = if place.in_container { "on the host: " } else { "" };
            parts.push(format!("{on}{machine}"));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn changes_rights(&self) -> bool {
        let switches =
            [self.as_root, self.without_filter, self.without_profile, self.with_privileges];
        !self.capabilities.is_empty() || switches.contains(&true)
    }

    fn docker(&self, is_root: bool) -> Vec<String> {
        let mut flags = Vec::new();
        let mut add = |wanted: bool, flag: &str| {
            if wanted {
                flags.push(flag.to_owned());
            }
        };
        add(self.as_root, "--user 0");
        for name in &self.capabilities {
            add(true, &format!("--cap-add {name}"));
        }
        add(self.without_filter, "--security-opt seccomp=unconfined");
        add(self.without_profile, "--security-opt apparmor=unconfined");
        add(self.with_privileges, "without --security-opt no-new-privileges");
        // A volume is root's own.
        let store = if is_root || self.as_root {
            "--volume gondola:/store --env GONDOLA_HOME=/store"
        } else {
            "--tmpfs /store:exec,mode=1777 --env GONDOLA_HOME=/store"
        };
        add(self.folder, store);
        flags
    }

    fn kubernetes(&self) -> String {
        let mut fields = Vec::new();
        if self.as_root {
            fields.push("runAsUser: 0".to_owned());
        }
        if !self.capabilities.is_empty() {
            fields.push(format!("capabilities: {{add: [{}]}}", self.names(", ", "")));
        }
        if self.without_filter {
            fields.push("seccompProfile: {type: Unconfined}".to_owned());
        }
        if self.without_profile {
            fields.push("appArmorProfile: {type: Unconfined}".to_owned());
        }
        if self.with_privileges {
            fields.push("allowPrivilegeEscalation: true".to_owned());
        }
        let context = format!("securityContext: {{{}}}", fields.join(", "));
        match (fields.is_empty(), self.folder) {
            (true, _) => EMPTY_DIR.to_owned(),
            (false, true) => format!("{context} and {EMPTY_DIR}"),
            (false, false) => context,
        }
    }

    fn gitlab(&self) -> String {
        let mut lines = Vec::new();
        if self.as_root {
            lines.push("user = \"0\"".to_owned());
        }
        if !self.capabilities.is_empty() {
            lines.push(format!("cap_add = [{}]", self.names(", ", "\"")));
        }
        let options = [
            (self.without_filter, "\"seccomp=unconfined\""),
            (self.without_profile, "\"apparmor=unconfined\""),
            (self.with_privileges, "\"no-new-privileges:false\""),
        ];
        let options: Vec<&str> =
            options.into_iter().filter(|(wanted, _)| *wanted).map(|(_, option)| option).collect();
        if !options.is_empty() {
            lines.push(format!("security_opt = [{}]", options.join(", ")));
        }
        if self.folder {
            lines
                .push("volumes = [\"/store\"], with the variable GONDOLA_HOME: /store,".to_owned());
        }
        lines.join(", ")
    }

    fn systemd(&self) -> Option<String> {
        let mut settings = Vec::new();
        if self.as_root {
            settings.push("User=root".to_owned());
        }
        if !self.capabilities.is_empty() {
            settings.push(format!("CapabilityBoundingSet={}", self.names(" ", "CAP_").trim()));
        }
        if self.without_filter {
            settings.push("RestrictNamespaces=no, SystemCallFilter=".to_owned());
        }
        if self.without_profile {
            settings.push("AppArmorProfile=".to_owned());
        }
        if self.with_privileges {
            settings.push("NoNewPrivileges=no".to_owned());
        }
        (!settings.is_empty()).then(|| settings.join(", "))
    }

    /// The capabilities: between quotes, or behind a word.
    fn names(&self, between: &str, mark: &str) -> String {
        let close = if mark == "\"" { mark } else { "" };
        let names = self.capabilities.iter().map(|name| format!("{mark}{name}{close}"));
        names.collect::<Vec<_>>().join(between)
    }
}

const EMPTY_DIR: &str = "an emptyDir for GONDOLA_HOME";

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of the kernel, as a process finds them in a place.
    struct Root(tempfile::TempDir);

    impl Root {
        fn of(uid: u32, capabilities: u64, seccomp: u8) -> Self {
            let root = Self(tempfile::tempdir().unwrap());
            let status = format!(
                "Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{:016x}\nCapBnd:\t{capabilities:016x}\n\
                 NoNewPrivs:\t0\nSeccomp:\t{seccomp}\nSeccomp_filters:\t1\n",
                if uid == 0 { capabilities } else { 0 }
            );
            root.with("proc/self/status", &status)
        }

        fn with(self, path: &str, text: &str) -> Self {
            let path = self.0.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
            self
        }

        /// In a container, with a store on its layers or in a volume.
        fn in_container(self) -> Self {
            let mounts =
                "1 0 0:5 / / rw - overlay overlay rw\n2 1 0:6 / /volume rw - ext4 /dev/vda rw\n";
            self.with("proc/self/mountinfo", mounts)
        }

        fn place(&self, store: &str) -> Place {
            Place::read(self.0.path(), Path::new(store))
        }
    }

    /// Docker's own set.
    const DOCKERS: u64 = 0xa804_25fb;
    const EVERYTHING: u64 = 0x1ff_ffff_ffff;

    fn refused(stage: Stage, action: &str, errno: i32) -> Fault {
        let reason = "operation not permitted".to_owned();
        Fault { stage, action: action.to_owned(), reason, errno: Some(errno) }
    }

    fn said(place: &Place, isolation: Isolation, fault: &Fault) -> (String, String) {
        let (reason, fix) = place.explain(isolation, fault);
        (reason, fix.and_then(|fix| fix.text(place)).unwrap_or_default())
    }

    #[test]
    fn under_dockers_profile_the_filter_is_the_one_thing_to_change_for_namespaces() {
        let root = Root::of(0, DOCKERS, 2).in_container();
        let fault = refused(Stage::Namespaces, "make namespaces", libc::EPERM);
        let (reason, fix) = said(&root.place("/volume/store"), Isolation::Ns, &fault);
        assert_eq!(
            reason,
            "user namespaces are blocked by a system-call filter, as in a container"
        );
        assert_eq!(
            fix,
            "docker run --security-opt seccomp=unconfined; Kubernetes: securityContext: \
             {seccompProfile: {type: Unconfined}}; GitLab's runner: security_opt = \
             [\"seccomp=unconfined\"] of [runners.docker]; systemd: RestrictNamespaces=no, \
             SystemCallFilter= of [Service]"
        );
        let (_, fix) = said(&root.place("/tmp/store"), Isolation::Ns, &fault);
        assert!(
            fix.starts_with("docker run --security-opt seccomp=unconfined --volume gondola:/store")
        );
        let (_, fix) = said(&root.place("/tmp/store"), Isolation::NsCopy, &fault);
        assert!(!fix.contains("--volume"), "{fix}");
    }

    #[test]
    fn root_without_administration_is_told_all_that_it_needs_at_once() {
        let root = Root::of(0, DOCKERS, 2).in_container();
        let root = root.with("proc/self/attr/current", "docker-default (enforce)\n");
        let fault = refused(Stage::Namespaces, "make namespaces", libc::EPERM);
        let (reason, fix) = said(&root.place("/tmp"), Isolation::NsRoot, &fault);
        assert_eq!(reason, "root of this container lacks CAP_SYS_ADMIN");
        let docker = "docker run --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt \
                      apparmor=unconfined --volume gondola:/store --env GONDOLA_HOME=/store; ";
        assert!(fix.starts_with(docker), "{fix}");
        assert!(
            fix.contains("capabilities: {add: [SYS_ADMIN]}, seccompProfile: {type: Unconfined}")
        );
        assert!(fix.contains("cap_add = [\"SYS_ADMIN\"], security_opt = [\"seccomp=unconfined\""));
        let fault = refused(Stage::Mounts, "change the root", libc::EPERM);
        let all = Root::of(0, EVERYTHING, 2).in_container();
        let (reason, fix) = said(&all.place("/volume"), Isolation::NsRoot, &fault);
        assert!(reason.starts_with("a system-call filter forbids it: cannot change the root"));
        assert!(fix.starts_with("docker run --security-opt seccomp=unconfined; "), "{fix}");
        let user = Root::of(1000, DOCKERS, 2).in_container();
        assert_eq!(said(&user.place("/"), Isolation::NsRoot, &fault).1, "");
    }

    #[test]
    fn all_capabilities_that_a_container_s_root_lacks_are_named() {
        let fault = refused(Stage::Mounts, "change the root directory", libc::EPERM);
        let none = Root::of(0, 0, 2).in_container();
        let (reason, fix) = said(&none.place("/"), Isolation::InContainer, &fault);
        let expected = "root of this container lacks CAP_MKNOD and CAP_SETGID and CAP_SETUID and \
                        CAP_SYS_CHROOT";
        assert_eq!(reason, expected);
        let docker = "docker run --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add FOWNER --cap-add \
                      MKNOD --cap-add SETGID --cap-add SETUID --cap-add SYS_CHROOT; ";
        assert!(fix.starts_with(docker), "{fix}");
        let user = Root::of(1000, DOCKERS, 2).in_container();
        let (reason, fix) = said(&user.place("/"), Isolation::InContainer, &fault);
        assert_eq!(reason, "it needs root, at least a container's");
        assert!(
            fix.starts_with("docker run --user 0; Kubernetes: securityContext: {runAsUser: 0}; ")
        );
        let host = Root::of(1000, EVERYTHING, 0);
        assert_eq!(said(&host.place("/"), Isolation::InContainer, &fault).1, "");
        let files = Root::of(0, DOCKERS & !0b1011, 2).in_container().place("/");
        let (reason, _) = files.weakness().unwrap();
        let expected = "files of other users cannot be made: lacks CAP_CHOWN and CAP_DAC_OVERRIDE and CAP_FOWNER";
        assert_eq!(reason, expected);
        assert_eq!(Root::of(0, DOCKERS, 2).place("/").weakness(), None);
    }

    #[test]
    fn switches_of_the_machine_are_named_and_in_a_container_they_are_the_hosts() {
        let sysctl = "proc/sys/kernel/apparmor_restrict_unprivileged_userns";
        let refusal = refused(Stage::IdMap, "map user ids", libc::EPERM);
        let host = Root::of(1000, EVERYTHING, 0).with(sysctl, "1\n");
        let (reason, fix) = said(&host.place("/"), Isolation::Ns, &refusal);
        assert_eq!(reason, "user namespaces are blocked by AppArmor");
        assert_eq!(fix, APPARMOR_COMMAND);
        let both = Root::of(1000, DOCKERS, 2).with(sysctl, "1\n").in_container();
        let fault = refused(Stage::Namespaces, "make namespaces", libc::EPERM);
        let (_, fix) = said(&both.place("/volume"), Isolation::Ns, &fault);
        assert!(fix.starts_with("docker run --security-opt seccomp=unconfined; "), "{fix}");
        assert!(fix.ends_with(&format!("; on the host: {APPARMOR_COMMAND}")), "{fix}");
        let used_up = refused(Stage::Namespaces, "make namespaces", libc::ENOSPC);
        let (reason, fix) = said(&host.place("/"), Isolation::Ns, &used_up);
        assert_eq!(reason, "user namespaces are switched off or used up");
        assert_eq!(fix, "sudo sysctl -w user.max_user_namespaces=28633");
        let off = Root::of(1000, 0, 0).with("proc/sys/kernel/unprivileged_userns_clone", "0\n");
        let (_, fix) = said(&off.place("/"), Isolation::Ns, &fault);
        assert_eq!(fix, "sudo sysctl -w kernel.unprivileged_userns_clone=1");
        let plain = Root::of(1000, 0, 0);
        assert_eq!(said(&plain.place("/"), Isolation::Ns, &fault).1, "");
    }

    #[test]
    fn a_machine_whose_disk_was_made_of_a_containers_image_is_none() {
        let disk = "1 0 254:0 / / rw - ext4 /dev/vda rw\n";
        let part = "1 0 254:0 /var/lib/docker/vfs/dir/a / rw - ext4 /dev/vda rw\n";
        for (mounts, marked, expected) in [
            (disk, true, false),
            (disk, false, false),
            (part, true, true),
            (part, false, false),
            ("1 0 0:5 / / rw - overlay overlay rw\n", false, true),
        ] {
            let root = Root::of(0, DOCKERS, 0).with("proc/self/mountinfo", mounts);
            let root = if marked { root.with(".dockerenv", "") } else { root };
            assert_eq!(root.place("/").in_container, expected, "{mounts} {marked}");
        }
    }

    #[test]
    fn layers_that_cannot_be_mounted_need_another_folder() {
        let fault = refused(Stage::Overlay, "mount the layers", libc::EINVAL);
        let host = Root::of(1000, 0, 0);
        let (_, fix) = said(&host.place("/"), Isolation::Ns, &fault);
        assert_eq!(fix, "set GONDOLA_HOME to a folder on ext4, xfs, btrfs or tmpfs");
        let user = Root::of(1000, DOCKERS, 0).in_container();
        let (_, fix) = said(&user.place("/tmp"), Isolation::Ns, &fault);
        assert!(fix.starts_with("docker run --tmpfs /store:exec,mode=1777 --env"), "{fix}");
        let container = Root::of(0, DOCKERS, 0).in_container();
        let (_, fix) = said(&container.place("/tmp"), Isolation::Ns, &fault);
        assert_eq!(
            fix,
            "docker run --volume gondola:/store --env GONDOLA_HOME=/store; Kubernetes: an emptyDir \
             for GONDOLA_HOME; GitLab's runner: volumes = [\"/store\"], with the variable \
             GONDOLA_HOME: /store, of [runners.docker]"
        );
        let none = Fault { reason: "there is no such program on PATH".to_owned(), ..fault };
        let none = Fault { stage: Stage::IdMap, ..none };
        assert_eq!(
            said(&host.place("/"), Isolation::NsSubuid, &none).1,
            "sudo apt-get install uidmap (elsewhere: shadow-utils)"
        );
        let (_, fix) = said(&container.place("/volume"), Isolation::NsSubuid, &none);
        assert_eq!(
            fix,
            "put uidmap (elsewhere: shadow-utils) and a range of ids for the user (/etc/subuid and \
             /etc/subgid) into the image"
        );
    }
}
