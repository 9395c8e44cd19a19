//! The last steps of the process that becomes the program: streams, user, rights, exec.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::{self, PipeWriter, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::fs::{FileType, Gid, Mode, Uid};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use super::error::{At as _, Attempt, Fault, NO_LANDLOCK, Stage};
use super::fakeroot;
use super::id_map::write_single_map;
use super::identity::{IdMap, Identity};
use super::isolation::Isolation;
use super::kernel;
use super::limit::Limit;
use super::privileges::{self, Confinement};
use super::procfs;
use super::protocol::{Job, StreamFds};
use super::seccomp::{self, Sockets};
use super::spec::{Access, LowPorts, Mount, Network, Root, Unconfined};
use super::staging::Staging;

/// Docker's, for an image that sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything that the program needs to start.
pub(super) struct Exec<'a> {
    pub(super) job: &'a Job,
    pub(super) identity: Identity,
    pub(super) terminal: Option<&'a OwnedFd>,
    /// Leads to the fakeroot, where there is one.
    pub(super) fakeroot: Option<&'a UnixStream>,
    /// The root file system, where nothing can be mounted: this process has to change to it.
    pub(super) staging: Option<&'a Staging>,
    /// Leads to who answers for `/proc`, where it cannot be mounted.
    pub(super) procfs: Option<&'a UnixStream>,
}

/// Why the process did not become the program.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Refusal {
    /// The sandbox is at fault.
    Fault(Fault),
    /// There is no such program.
    NotFound(String),
    /// There is one, but it cannot be executed.
    NotExecutable(String),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Becomes the program; comes back only when that failed, or in a rehearsal.
pub(super) fn run(exec: &Exec<'_>, streams: &StreamFds, mut refuse: PipeWriter) -> ExitCode {
    let refusal = match prepare(exec, streams) {
        Ok(ready) if exec.job.rehearsal => return ExitCode::from(ready.confinement as u8),
        Ok(ready) => execute(exec, &ready),
        Err(refusal) => refusal,
    };
    let said = serde_json::to_vec(&refusal).expect("a refusal is plain data");
    // Nobody is left to hear of a failure here.
    let _ = refuse.write_all(&said);
    ExitCode::FAILURE
}

/// A process that has but to become the program.
struct Ready {
    /// How far Landlock confines it, where it is relied on.
    confinement: Confinement,
    /// Whether `/proc` is there.
    has_proc: bool,
}

fn prepare(exec: &Exec<'_>, streams: &StreamFds) -> Result<Ready, Refusal> {
    let action = || "start the program";
    kernel::reset_signals().at(Stage::Helper, action)?;
    rustix::process::setsid().at(Stage::Helper, action)?;
    connect_streams(exec, streams)?;
    if let Some(staging) = exec.staging {
        let action = || "change the root directory";
        rustix::process::fchdir(staging.root()).at(Stage::Mounts, action)?;
        rustix::process::chroot(".").at(Stage::Mounts, action)?;
    }
    // As in every container, whatever the caller has.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    if let Some(processes) = exec.job.spec.processes {
        let limit = Rlimit { current: Some(processes), maximum: Some(processes) };
        rustix::process::setrlimit(Resource::Nproc, limit)
            .at(Stage::Privileges, || "limit the number of processes")?;
    }
    exec.job.spec.limits.iter().try_for_each(Limit::apply)?;
    if has_own_root(exec.job) {
        // As root, as Docker does; the program's user may not be allowed to. Where it is no folder
        // the change to it says so.
        let _ = fs_err::create_dir_all(&exec.job.spec.cwd);
    }
    // As root, too: the folder may be one that the user can be in and not get to.
    let entered =
        has_own_root(exec.job) && rustix::process::chdir(exec.job.spec.cwd.as_str()).is_ok();
    become_user(exec)?;
    // After the change of user, which would clear it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .at(Stage::Helper, action)?;
    change_folder(&exec.job.spec.cwd, entered)?;
    let ready = restrict(exec)?;
    kernel::close_on_exec_from(3).at(Stage::Privileges, || "close what is open")?;
    Ok(ready)
}

fn has_own_root(job: &Job) -> bool {
    job.isolation.has_namespaces() || job.isolation == Isolation::InContainer
}

fn connect_streams(exec: &Exec<'_>, streams: &StreamFds) -> Attempt<()> {
    let action = || "connect the standard streams";
    let [input, output, error] = match exec.terminal {
        Some(terminal) => {
            rustix::process::ioctl_tiocsctty(terminal).at(Stage::Terminal, action)?;
            [terminal; 3]
        }
        None => [&streams[0], &streams[1], &streams[2]],
    };
    rustix::stdio::dup2_stdin(input).at(Stage::Helper, action)?;
    rustix::stdio::dup2_stdout(output).at(Stage::Helper, action)?;
    rustix::stdio::dup2_stderr(error).at(Stage::Helper, action)?;
    // So that the program's user can open /dev/stdout. A pipe or terminal of somebody else stays.
    if has_own_root(exec.job) && exec.identity.uid != 0 {
        let (uid, terminal) = (Uid::from_raw(exec.identity.uid), exec.terminal.is_some());
        for stream in [input, output, error] {
            let stat = rustix::fs::fstat(stream).at(Stage::Helper, action)?;
            if terminal || FileType::from_raw_mode(stat.st_mode) == FileType::Fifo {
                let _ = rustix::fs::fchown(stream, Some(uid), None);
            }
        }
    }
    Ok(())
}

/// Takes the user's ids and drops the capabilities that a process of Docker's has not.
fn become_user(exec: &Exec<'_>) -> Attempt<()> {
    let (job, identity) = (exec.job, &exec.identity);
    if job.isolation == Isolation::Proot || job.isolation == Isolation::Toolchain {
        privileges::bound_capabilities(CapabilitySet::empty())?;
        return privileges::keep_capabilities(CapabilitySet::empty());
    }
    let single = job.id_map == IdMap::Single;
    if single && (identity.uid != 0 || identity.gid != 0) {
        become_the_only_user(identity)?;
    }
    let kept = kept_capabilities(job);
    privileges::bound_capabilities(kept)?;
    if !single {
        set_ids(identity)?;
    }
    let kept = if identity.uid == 0 { kept } else { CapabilitySet::empty() };
    privileges::keep_capabilities(kept)
}

/// The capabilities that root of a sandbox has, of those that this process has.
pub(super) fn kept_capabilities(job: &Job) -> CapabilitySet {
    let mut kept = privileges::DOCKER_CAPABILITIES;
    if job.isolation == Isolation::InContainer {
        // With it, a changed root directory can be left again.
        kept -= CapabilitySet::SYS_CHROOT;
    }
    if job.spec.network == Network::Host || !job.isolation.has_namespaces() {
        // With it, real root reads what other processes of the host say, on the loopback device too.
        // In a user namespace it is void over the host's network; the rule is one for all the same.
        kept -= CapabilitySet::NET_RAW;
        if job.spec.low_ports == LowPorts::Closed {
            kept -= CapabilitySet::NET_BIND_SERVICE;
        }
    }
    kept
}

fn set_ids(identity: &Identity) -> Attempt<()> {
    let action = || format!("become user {} and group {}", identity.uid, identity.gid);
    let groups: Vec<_> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    rustix::thread::set_thread_groups(&groups).at(Stage::User, action)?;
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).at(Stage::User, action)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).at(Stage::User, action)
}

/// Where the user namespace holds one id, that id is root's while mounting. A namespace inside it
/// gives the same id the number that the image wants.
fn become_the_only_user(identity: &Identity) -> Attempt<()> {
    let action = || format!("become user {}", identity.uid);
    let dumpable = rustix::process::set_dumpable_behavior;
    // The files to write belong to root while the process is hidden. Nothing else runs here yet.
    dumpable(DumpableBehavior::Dumpable).at(Stage::User, action)?;
    kernel::unshare_user().at(Stage::User, action)?;
    write_single_map("/proc/self", (identity.uid, 0), (identity.gid, 0))?;
    dumpable(DumpableBehavior::NotDumpable).at(Stage::User, action)
}

/// Changes the working directory, unless it was changed, and makes sure that it is one of the sandbox.
fn change_folder(cwd: &str, entered: bool) -> Result<(), Refusal> {
    let cannot = |reason: String| {
        Refusal::NotExecutable(format!("cannot change to the working directory {cwd}: {reason}"))
    };
    let plain = |error: rustix::io::Errno| cannot(io::Error::from(error).to_string());
    if !entered {
        rustix::process::chdir(cwd).map_err(plain)?;
    }
    let now = rustix::process::getcwd(Vec::new()).map_err(plain)?;
    if !now.as_bytes().starts_with(b"/") {
        return Err(cannot("it leads out of the sandbox".to_owned()));
    }
    Ok(())
}

/// Everything that cannot be taken back: no new privileges, Landlock, system calls.
fn restrict(exec: &Exec<'_>) -> Attempt<Ready> {
    let job = exec.job;
    privileges::forbid_new_privileges()?;
    if let Some(fakeroot) = exec.fakeroot {
        fakeroot::attach(fakeroot)?;
    }
    let has_proc = exec.procfs.map(procfs::attach).transpose()? != Some(false);
    if let Some(staging) = exec.staging.filter(|_| !has_proc) {
        staging.stand_alone()?;
        procfs::warn();
    }
    let network = job.spec.network;
    let mut confinement = Confinement::Full;
    let sockets = match (&job.spec.root, job.isolation) {
        (Root::Host { read, write }, _) => {
            confinement = privileges::confine_files(read, write, network)?;
            let is_accepted = job.rehearsal || job.spec.unconfined == Unconfined::Accepted;
            if confinement == Confinement::Absent && !is_accepted {
                let action = "confine a program to the files that it needs";
                return Err(Fault::new(Stage::Confinement, action, NO_LANDLOCK));
            }
            match network {
                Network::Host => Sockets::Internet,
                Network::None | Network::Private => Sockets::None,
            }
        }
        // Without a network namespace of one's own, no socket is all that can be promised.
        (_, Isolation::InContainer | Isolation::Proot) if network == Network::None => Sockets::None,
        _ => {
            if network == Network::Host {
                confinement = privileges::scope_sockets()?;
            }
            Sockets::Docker
        }
    };
    // Elsewhere all files are the sandbox's own.
    let attributes = match job.spec.root {
        Root::Host { .. } => job.spec.attributes,
        Root::Overlay { .. } | Root::Folder(_) => Access::ReadWrite,
    };
    seccomp::install(sockets, attributes)?;
    Ok(Ready { confinement, has_proc })
}

fn execute(exec: &Exec<'_>, ready: &Ready) -> Refusal {
    let mut env = environment(exec);
    if !ready.has_proc
        && let Some(goroot) = goroot(env.get("PATH").map_or(DEFAULT_PATH, String::as_str))
    {
        env.entry("GOROOT".to_owned()).or_insert(goroot);
    }
    let argv = match exec.job.isolation {
        Isolation::Proot => match proot_arguments(exec) {
            Ok(argv) => argv,
            Err(fault) => return Refusal::Fault(fault),
        },
        _ => exec.job.spec.argv.clone(),
    };
    let Some(name) = argv.first() else {
        return Refusal::NotFound("no command is specified".to_owned());
    };
    let candidates = if name.contains('/') {
        vec![name.clone()]
    } else {
        let path = env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
        let folders = path.split(':').map(|folder| if folder.is_empty() { "." } else { folder });
        folders.map(|folder| format!("{folder}/{name}")).collect()
    };
    let variables: Vec<_> = env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    match (c_strings(&argv), c_strings(&variables)) {
        (Some(argv_c), Some(variables)) => try_each(name, &candidates, &argv_c, &variables),
        _ => Refusal::NotExecutable("an argument or variable holds a zero byte".to_owned()),
    }
}

/// Where the Go of a `PATH` is: without `/proc` a `go` that was built without that path does not find it.
fn goroot(path: &str) -> Option<String> {
    let programs = path.split(':').filter(|folder| folder.starts_with('/'));
    let mut programs = programs.map(|folder| format!("{folder}/go"));
    let program = programs.find_map(|program| fs_err::canonicalize(program).ok())?;
    let folder = program.parent()?.parent()?;
    folder.join("pkg/tool").is_dir().then(|| folder.to_str().map(str::to_owned))?
}

/// Tries each candidate, and remembers the one that is there but refused.
fn try_each(name: &str, candidates: &[String], argv: &[CString], env: &[CString]) -> Refusal {
    let mut refusal = Refusal::NotFound(format!("{name}: not found"));
    for candidate in candidates {
        let Ok(program) = CString::new(candidate.as_str()) else { continue };
        let error = kernel::execute(&program, argv, env);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) if std::path::Path::new(candidate).is_file() => {
                let reason = format!("{candidate}: its interpreter or loader is missing");
                return Refusal::NotFound(reason);
            }
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            Some(libc::EACCES) => {
                refusal = Refusal::NotExecutable(format!("{candidate}: permission denied"));
            }
            _ => return Refusal::NotExecutable(format!("{candidate}: {error}")),
        }
    }
    refusal
}

fn c_strings(strings: &[String]) -> Option<Vec<CString>> {
    strings.iter().map(|string| CString::new(string.as_str()).ok()).collect()
}

/// The program's environment with Docker's defaults.
fn environment(exec: &Exec<'_>) -> BTreeMap<String, String> {
    let spec = &exec.job.spec;
    let mut env = spec.env.clone();
    if matches!(spec.root, Root::Host { .. }) {
        return env;
    }
    let home = exec.identity.home.clone().unwrap_or_else(|| "/".to_owned());
    let terminal = spec.terminal.map(|_| "xterm".to_owned());
    let defaults =
        [("PATH", Some(DEFAULT_PATH.to_owned())), ("HOME", Some(home)), ("TERM", terminal)];
    for (name, value) in defaults {
        if let (Some(value), false) = (value, env.contains_key(name)) {
            env.insert(name.to_owned(), value);
        }
    }
    env
}

/// The command line by which `proot` runs the program.
fn proot_arguments(exec: &Exec<'_>) -> Attempt<Vec<String>> {
    let (job, identity) = (exec.job, &exec.identity);
    let refuse = |what: &str, reason: &str| Err(Fault::new(Stage::Request, what, reason));
    let (Some(proot), Root::Folder(root)) = (&job.proot, &job.spec.root) else {
        return refuse("run proot", "it needs a proot program and a plain folder");
    };
    let mut argv = vec![proot.display().to_string(), "--kill-on-exit".to_owned()];
    argv.extend(["-i".to_owned(), format!("{}:{}", identity.uid, identity.gid)]);
    argv.extend(["-r".to_owned(), root.display().to_string()]);
    argv.extend(["-w".to_owned(), job.spec.cwd.clone()]);
    for shared in ["/dev", "/proc", "/sys", "/etc/resolv.conf", "/etc/hosts"] {
        argv.extend(["-b".to_owned(), shared.to_owned()]);
    }
    for mount in &job.spec.mounts {
        let (Mount::Bind { source, subpath: None, target, access: _ }
        | Mount::Own { source, target, access: _ }) = mount
        else {
            return refuse(
                &format!("mount at {}", mount.target()),
                "proot binds whole folders alone",
            );
        };
        argv.extend(["-b".to_owned(), format!("{}:{target}", source.display())]);
    }
    argv.extend(job.spec.argv.iter().cloned());
    Ok(argv)
}
