//! The caller's side: starts a helper, hands it the job, and waits for what comes back.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};

use super::channel;
use super::connector::Connector;
use super::error::{At as _, Attempt, Fault, Stage};
use super::exit::Exit;
use super::identity::{IdMap, find_program, subordinate_ranges, user_name};
use super::isolation::Isolation;
use super::protocol::{HELPER, Job, NOT_TAKEN_OUT, Order, Report};
use super::spec::{Lifetime, Network, Root, Spec};
use super::stub::Stub;
use super::trials::Trials;
use super::tty::{self, WindowSize};
use super::user_namespace::{holds_id_range, is_in_user_namespace};
use super::way_out::Program;
use crate::error::{Cannot as _, Error, ErrorKind, Result};

/// The standard streams of a program.
#[derive(Debug)]
pub struct Streams {
    /// What it reads.
    pub input: OwnedFd,
    /// What it writes.
    pub output: OwnedFd,
    /// What it complains on.
    pub error: OwnedFd,
}

impl Streams {
    /// This process's own.
    pub fn inherit() -> Result<Self> {
        let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned();
        let action = || "copy the standard streams";
        Ok(Self {
            input: copy(rustix::stdio::stdin()).cannot(action)?,
            output: copy(rustix::stdio::stdout()).cannot(action)?,
            error: copy(rustix::stdio::stderr()).cannot(action)?,
        })
    }

    /// Nothing to read, and nothing kept of what is written.
    pub fn null() -> Result<Self> {
        let open = || {
            let flags = OFlags::RDWR | OFlags::CLOEXEC;
            rustix::fs::open("/dev/null", flags, Mode::empty()).cannot(|| "open /dev/null")
        };
        Ok(Self { input: open()?, output: open()?, error: open()? })
    }
}

/// Starts sandboxes.
#[derive(Clone, Debug)]
pub struct Launcher {
    helper: PathBuf,
    path: String,
    trials: Option<PathBuf>,
}

impl Launcher {
    /// Uses the running binary as the helper, which calls [`super::reexec`] first in its `main`, and
    /// finds `newuidmap` and `proot` in the folders of `path`, the host's `PATH`.
    pub fn new(path: impl Into<String>) -> Self {
        Self { helper: PathBuf::from("/proc/self/exe"), path: path.into(), trials: None }
    }

    /// Remembers in a folder which isolation works here, until one of them fails.
    #[must_use]
    pub fn remembering(mut self, folder: impl Into<PathBuf>) -> Self {
        self.trials = Some(folder.into());
        self
    }

    /// Remembers nothing, and knows nothing of earlier trials.
    #[must_use]
    pub fn forgetful(mut self) -> Self {
        self.trials = None;
        self
    }

    /// Uses another binary that calls [`super::reexec`] first.
    #[must_use]
    pub fn with_helper(mut self, helper: impl Into<PathBuf>) -> Self {
        self.helper = helper.into();
        self
    }

    /// Starts a process on an isolation, and returns once it runs (or once it is known not to be there:
    /// then [`Child::wait`] tells).
    ///
    /// # Errors
    /// When the sandbox could not be entered: what `docker run` ends with 125 for.
    pub fn spawn(&self, spec: &Spec, isolation: Isolation, streams: Streams) -> Result<Child> {
        self.launch(spec, isolation, streams, false)
            .map_err(|fault| self.note(isolation, fault).into_error())
            .cannot(|| format!("run in the sandbox {isolation}"))
    }

    /// What is remembered of earlier trials.
    pub(super) fn trials(&self) -> Option<Trials> {
        self.trials.as_ref().map(|folder| Trials::of(folder, &self.path))
    }

    /// Forgets that an isolation worked, where it does not by now.
    pub(super) fn note(&self, isolation: Isolation, fault: Fault) -> Fault {
        if fault.is_of_isolation()
            && let Some(trials) = self.trials()
        {
            trials.forget(isolation);
        }
        fault
    }

    pub(super) fn launch(
        &self,
        spec: &Spec,
        isolation: Isolation,
        streams: Streams,
        rehearsal: bool,
    ) -> Attempt<Child> {
        check(spec, isolation)?;
        let job = Job {
            spec: spec.clone(),
            isolation,
            id_map: self.id_map(isolation)?,
            proot: if isolation == Isolation::Proot { Some(self.find("proot")?) } else { None },
            ways_out: match spec.network {
                Network::Private => Program::find(&self.path)?,
                Network::Host | Network::None => Vec::new(),
            },
            rehearsal,
            joins: false,
            approached: None,
        };
        self.start(&job, streams, &[])
    }

    /// Starts a helper and hands it the job, the streams, and the namespaces to enter.
    pub(super) fn start(
        &self,
        job: &Job,
        streams: Streams,
        namespaces: &[OwnedFd],
    ) -> Attempt<Child> {
        let action = || "start the sandbox helper";
        let (control, far) = UnixStream::pair().at(Stage::Helper, action)?;
        let process = Command::new(&self.helper)
            .arg0(HELPER)
            .env_clear()
            .stdin(OwnedFd::from(far))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .at(Stage::Helper, || format!("start the sandbox helper {}", self.helper.display()))?;
        let detached = job.spec.lifetime == Lifetime::Detached;
        let child = Child {
            process,
            control: Arc::new(control),
            interrupted: Arc::default(),
            pid: 0,
            stubs: Vec::new(),
            terminal: None,
            exit: None,
            detached,
        };
        let child = child.begin(job, &streams, namespaces);
        // From here on only the program holds them, so that a reader sees their end.
        drop(streams);
        child
    }

    fn id_map(&self, isolation: Isolation) -> Attempt<IdMap> {
        match isolation {
            Isolation::Ns | Isolation::NsCopy => Ok(IdMap::Single),
            Isolation::NsSubuid if holds_id_range() => Ok(IdMap::Inherited),
            Isolation::NsSubuid => self.subordinate_ids(),
            Isolation::NsRoot if is_in_user_namespace() => {
                let reason = "this is root of a user namespace alone";
                Err(Fault::new(Stage::Namespaces, "be real root", reason))
            }
            Isolation::NsRoot
            | Isolation::InContainer
            | Isolation::Proot
            | Isolation::Toolchain => Ok(IdMap::None),
        }
    }

    pub(super) fn subordinate_ids(&self) -> Attempt<IdMap> {
        let (user_program, group_program) = (self.find("newuidmap")?, self.find("newgidmap")?);
        let uid = rustix::process::getuid().as_raw();
        let name = user_name(&read("/etc/passwd"), uid);
        let ranges = |file: &str| {
            let ranges = subordinate_ranges(&read(file), name.as_deref(), uid);
            if ranges.is_empty() {
                let user = name.clone().unwrap_or_else(|| uid.to_string());
                let reason = format!("{file} has no range for {user}");
                return Err(Fault::new(Stage::IdMap, "map user ids", reason));
            }
            Ok(ranges)
        };
        let (uids, gids) = (ranges("/etc/subuid")?, ranges("/etc/subgid")?);
        Ok(IdMap::Ranges { newuidmap: user_program, newgidmap: group_program, uids, gids })
    }

    fn find(&self, program: &str) -> Attempt<PathBuf> {
        find_program(program, &self.path).ok_or_else(|| {
            Fault::new(Stage::IdMap, format!("run {program}"), "there is no such program on PATH")
        })
    }

    /// The folders of programs.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn helper(&self) -> &Path {
        &self.helper
    }
}

/// Keeps every open descriptor but the standard streams from whatever this process starts from now on:
/// also what its own starter left open.
pub fn keep_descriptors() -> Result<()> {
    super::kernel::close_on_exec_from(3).cannot(|| "keep open files to this process")
}

fn read(path: &str) -> String {
    fs_err::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn check(spec: &Spec, isolation: Isolation) -> Attempt<()> {
    let fits = match spec.root {
        Root::Host { .. } => isolation == Isolation::Toolchain,
        Root::Folder(_) => isolation != Isolation::Toolchain,
        Root::Overlay { .. } => isolation.has_overlay(),
    };
    if !fits {
        let reason = "it has no such root file system";
        return Err(Fault::new(Stage::Request, format!("use the sandbox {isolation}"), reason));
    }
    if isolation == Isolation::Toolchain && !(spec.mounts.is_empty() && spec.user.is_empty()) {
        let reason = "it knows neither mounts nor users";
        return Err(Fault::new(Stage::Request, format!("use the sandbox {isolation}"), reason));
    }
    if !isolation.has_namespaces() && spec.network == Network::Private {
        let reason = "it has no network of its own";
        return Err(Fault::new(Stage::Request, format!("use the sandbox {isolation}"), reason));
    }
    if !isolation.has_namespaces()
        && (spec.shared_memory_bytes.is_some() || !spec.name_servers.is_empty())
    {
        let reason = "its shared memory and its name servers are the machine's own";
        return Err(Fault::new(Stage::Request, format!("use the sandbox {isolation}"), reason));
    }
    Ok(())
}

/// A program in a sandbox. Dropping it kills everything there, unless its lifetime is
/// [`Lifetime::Detached`].
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    control: Arc<UnixStream>,
    interrupted: Arc<AtomicBool>,
    pid: i32,
    stubs: Vec<Stub>,
    terminal: Option<OwnedFd>,
    exit: Option<Exit>,
    detached: bool,
}

impl Child {
    /// Hands over the job and waits until the program runs.
    fn begin(mut self, job: &Job, streams: &Streams, namespaces: &[OwnedFd]) -> Attempt<Self> {
        let streams = [streams.input.as_fd(), streams.output.as_fd(), streams.error.as_fd()];
        let fds: Vec<_> =
            streams.into_iter().chain(namespaces.iter().map(OwnedFd::as_fd)).collect();
        channel::send(&self.control, job, &fds)
            .at(Stage::Helper, || "hand the job to the sandbox helper")?;
        loop {
            match self.receive()? {
                (Report::Started { pid }, _) => self.pid = pid,
                (Report::Running { stubs }, mut fds) => {
                    self.stubs = stubs;
                    self.terminal = fds.pop();
                    return Ok(self);
                }
                (Report::Ended(exit), _) => {
                    self.exit = Some(exit);
                    return Ok(self);
                }
                (Report::Failed(fault), _) => return Err(fault),
            }
        }
    }

    fn receive(&self) -> Attempt<(Report, Vec<OwnedFd>)> {
        let action = || "hear from the sandbox helper";
        match channel::receive(&self.control).at(Stage::Helper, action)? {
            Some(received) => Ok(received),
            None => Err(Fault::new(Stage::Helper, action(), "it ended without a word")),
        }
    }

    /// Waits until nothing of the sandbox is left, and tells how the program ended. Blocks.
    pub fn wait(&mut self) -> Result<Exit> {
        while self.exit.is_none() {
            match self.receive().map_err(Fault::into_error)? {
                (Report::Ended(exit), _) => self.exit = Some(exit),
                (Report::Failed(fault), _) => return Err(fault.into_error()),
                (Report::Started { .. } | Report::Running { .. }, _) => {}
            }
        }
        // The helper ends last: with it gone, so are the mounts and every process.
        let ended = self.process.wait().cannot(|| "wait for the sandbox helper")?;
        if ended.code() == Some(NOT_TAKEN_OUT.into()) {
            return Err(Error::new(ErrorKind::Io, "finish the sandbox")
                .because("what was put into the root file system for the program is still there"));
        }
        Ok(self.exit.clone().expect("the loop ends with it"))
    }

    /// The id of the sandbox's first process, as the host counts.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// How the program ended, where that is known without waiting: as for one that is not there.
    pub fn exit(&self) -> Option<&Exit> {
        self.exit.as_ref()
    }

    /// What was made in the root file system to mount on.
    pub fn stubs(&self) -> &[Stub] {
        &self.stubs
    }

    /// The controlling side of the program's terminal, if it has one; see [`super::relay`].
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(OwnedFd::as_fd)
    }

    /// Tells the program that its terminal has a new size.
    pub fn resize(&self, size: WindowSize) -> Result<()> {
        match &self.terminal {
            None => Ok(()),
            Some(terminal) => tty::set_window_size(terminal, size)
                .map_err(std::io::Error::from)
                .cannot(|| "set the size of the terminal"),
        }
    }

    /// A handle that sends signals while another thread waits.
    pub fn signaller(&self) -> Signaller {
        Signaller { control: self.control.clone(), interrupted: self.interrupted.clone() }
    }

    /// A handle that opens connections into the sandbox's network while another thread waits.
    pub fn connector(&self) -> Connector {
        Connector::of_starter(self.control.clone())
    }

    /// Kills everything in the sandbox. [`Self::wait`] then tells of it.
    pub fn kill(&self) {
        self.signaller().signal(libc::SIGKILL);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.detached {
            return;
        }
        // The helper sees the end of the socket and ends everything; nothing can be done about
        // a failure of either.
        let _ = self.control.shutdown(std::net::Shutdown::Both);
        let _ = self.process.wait();
    }
}

/// Sends signals to the program of a sandbox; after its end nothing happens.
#[derive(Clone, Debug)]
pub struct Signaller {
    control: Arc<UnixStream>,
    interrupted: Arc<AtomicBool>,
}

impl Signaller {
    /// Sends a signal to the program; SIGKILL ends everything in the sandbox.
    pub fn signal(&self, number: i32) {
        // Whoever has ended reads no orders.
        let _ = channel::send(&self.control, &Order::Signal(number), &[]);
    }

    /// Passes a Ctrl-C on: the first one asks (SIGINT), the second one kills everything.
    pub fn interrupt(&self) {
        let again = self.interrupted.swap(true, Ordering::Relaxed);
        self.signal(if again { libc::SIGKILL } else { libc::SIGINT });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_dockers() {
        let cases = [
            (Exit::Code(0), 0),
            (Exit::Code(7), 7),
            (Exit::Signal(libc::SIGINT), 130),
            (Exit::Signal(libc::SIGKILL), 137),
            (Exit::NotFound(String::new()), 127),
            (Exit::NotExecutable(String::new()), 126),
            (Exit::TimedOut, 124),
        ];
        for (exit, code) in cases {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }

    #[test]
    fn an_isolation_that_has_no_such_root_is_refused_before_anything_starts() {
        let launcher = Launcher::new("").with_helper("/nonexistent");
        let spec = Spec::new(Root::Overlay { layers: vec![], changes: None }, ["true"]);
        for isolation in
            [Isolation::NsCopy, Isolation::InContainer, Isolation::Proot, Isolation::Toolchain]
        {
            let error = launcher.spawn(&spec, isolation, Streams::null().unwrap()).unwrap_err();
            assert!(error.to_string().contains("it has no such root"), "{error}");
        }
    }
}
