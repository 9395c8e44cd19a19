//! The re-executed process between the caller and process 1: it writes the id maps from outside,
//! passes signals on, keeps the time, and ends everything when the caller is gone.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Pid, WaitOptions, WaitStatus, waitpid};

use super::channel::{self, Job, Order, Report};
use super::error::{At as _, Attempt, Fault, Stage};
use super::id_range;
use super::identity::{IdMap, Range, map_arguments};
use super::init;
use super::join::{self, ControlSocket};
use super::kernel::{self, Fork, Signals};
use super::spawn::Exit;
use super::spec::{Lifetime, Network};
use super::way_out::{self, WayOut};

/// The name under which the own binary is re-executed.
pub(super) const MARK: &str = "gondola-sandbox-helper";

/// The argument that makes the own binary check how it is run, for the probe of `proot`.
pub(super) const SELF_TEST: &str = "gondola-sandbox-self-test";

/// Does the work of a sandbox helper if this process was started as one; else returns at once.
///
/// Must be the first call of `main`, before any thread is started: then the returned code is
/// the process's.
pub fn reexec() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let name = arguments.next()?;
    if name == MARK {
        return Some(serve());
    }
    if name == way_out::MARK {
        return Some(way_out::keep());
    }
    if name == id_range::MARK {
        return id_range::become_its_root();
    }
    if arguments.next()? == SELF_TEST {
        return Some(self_test());
    }
    None
}

/// Succeeds for a process that believes to be root and sees a file through a pretended mount.
fn self_test() -> ExitCode {
    let root = rustix::process::geteuid().is_root();
    if root && Path::new("/gondola-self-test/present").is_file() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// By which process 1 is called, and calls.
pub(super) struct Channels<'a> {
    /// Leads to the caller.
    pub(super) control: &'a UnixStream,
    /// Leads to the helper.
    pub(super) requests: UnixStream,
}

/// The three standard streams of the program.
pub(super) type StreamFds = [OwnedFd; 3];

fn serve() -> ExitCode {
    let Ok(control) = take_control() else { return ExitCode::FAILURE };
    let Ok(Some((job, streams))) = channel::receive::<Job>(&control) else {
        return ExitCode::FAILURE;
    };
    let mut streams = streams;
    let namespaces = streams.split_off(streams.len().min(3));
    let Ok(streams) = StreamFds::try_from(streams) else { return ExitCode::FAILURE };
    let entered = if job.joins { join::enter(&namespaces) } else { Ok(()) };
    drop(namespaces);
    match entered.and_then(|()| start(&control, job, streams)) {
        Ok(Side::Init(code)) => code,
        Ok(Side::Helper(watch)) => {
            let report = watch.until_the_end(&control);
            report.map_or(ExitCode::SUCCESS, |report| answer(&control, &report))
        }
        Err(fault) => answer(&control, &Report::Failed(fault)),
    }
}

fn answer(control: &UnixStream, report: &Report) -> ExitCode {
    match channel::send(control, report, &[]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The socket arrives as standard input, because that needs no inherited descriptor.
pub(super) fn take_control() -> io::Result<UnixStream> {
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(UnixStream::from(control))
}

/// Which process returned from [`start`].
enum Side {
    /// Process 1 or the program, which have ended.
    Init(ExitCode),
    /// The helper.
    Helper(Box<Watch>),
}

fn start(control: &UnixStream, job: Job, streams: StreamFds) -> Attempt<Side> {
    let action = || "start the sandbox";
    // Out of the caller's session: Ctrl-C reaches the caller alone, who decides what it means.
    rustix::process::setsid().at(Stage::Helper, action)?;
    let signals = Signals::block_all().at(Stage::Helper, action)?;
    let namespaces = namespaces(&job);
    // A further program's orphans go to the process 1 of its sandbox.
    let orphans = namespaces == 0 && !job.joins;
    if orphans {
        // Without process ids of their own, orphans come to the helper, which ends them.
        let own = Some(rustix::process::getpid());
        rustix::process::set_child_subreaper(own).at(Stage::Helper, action)?;
    }
    let deadline = job.spec.timeout.map(|timeout| Instant::now() + timeout);
    let detached = job.spec.lifetime == Lifetime::Detached;
    let (gate, opener) = io::pipe().at(Stage::Helper, action)?;
    let control_path = job.spec.control.as_deref().filter(|_| !job.joins);
    let mut socket = control_path.map(|path| ControlSocket::open(path, &job)).transpose()?;
    let (requests, far) = UnixStream::pair().at(Stage::Helper, action)?;
    match kernel::fork_into(namespaces).at(Stage::Namespaces, || "create namespaces")? {
        Fork::Child => {
            drop((opener, requests));
            drop(socket);
            let channels = Channels { control, requests: far };
            Ok(Side::Init(init::run(job, streams, &channels, gate)))
        }
        Fork::Parent(pid) => {
            drop((streams, gate, far));
            let requests = (namespaces != 0).then_some(requests);
            let let_in = let_in(control, &job, pid, socket.as_mut()).and_then(|way_out| {
                (&opener).write_all(b"1").at(Stage::Helper, action)?;
                Ok(way_out)
            });
            match let_in {
                Ok(way_out) => {
                    let watch = Watch {
                        pid,
                        signals,
                        deadline,
                        detached,
                        orphans,
                        socket,
                        requests,
                        way_out,
                    };
                    Ok(Side::Helper(Box::new(watch)))
                }
                Err(fault) => {
                    drop(opener);
                    if let Some(socket) = socket {
                        socket.close();
                    }
                    let _ = waitpid(Some(pid), WaitOptions::empty());
                    Err(fault)
                }
            }
        }
    }
}

/// Does from outside what process 1 needs before it begins, while it is not hidden.
fn let_in(
    control: &UnixStream,
    job: &Job,
    pid: Pid,
    socket: Option<&mut ControlSocket>,
) -> Attempt<Option<WayOut>> {
    let flags = namespaces(job);
    let id_map = if job.joins { &IdMap::None } else { &job.id_map };
    write_id_map(pid, id_map)?;
    if let Some(socket) = socket.filter(|_| flags != 0) {
        socket.open_namespaces(pid)?;
    }
    let is_private = flags != 0 && job.spec.network == Network::Private;
    let has_users = flags & libc::CLONE_NEWUSER != 0;
    let open = || WayOut::open(pid, has_users, &job.ways_out);
    let way_out = is_private.then(open).transpose()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .at(Stage::Privileges, || "hide the helper's memory")?;
    let started = Report::Started { pid: pid.as_raw_nonzero().get() };
    channel::send(control, &started, &[]).at(Stage::Helper, || "start the sandbox")?;
    Ok(way_out)
}

fn namespaces(job: &Job) -> i32 {
    if !job.rung.has_namespaces() {
        return 0;
    }
    if job.joins {
        return 0;
    }
    let mut flags =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if job.rung.has_user_namespace() && job.id_map != IdMap::Inherited {
        flags |= libc::CLONE_NEWUSER;
    }
    if job.spec.network != Network::Host {
        flags |= libc::CLONE_NEWNET;
    }
    flags
}

pub(super) fn write_id_map(pid: Pid, map: &IdMap) -> Attempt<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    match map {
        IdMap::None | IdMap::Inherited => Ok(()),
        IdMap::Single => {
            write_single_map(&format!("/proc/{}", pid.as_raw_nonzero()), (0, uid), (0, gid))
        }
        IdMap::Ranges { newuidmap, newgidmap, uids, gids } => {
            // Side by side: each takes about a millisecond.
            let users = start_map_program(newuidmap, pid, uid, uids)?;
            let groups = start_map_program(newgidmap, pid, gid, gids)?;
            finish_map_program(newuidmap, users)?;
            finish_map_program(newgidmap, groups)
        }
    }
}

/// Maps one id, `(inside, outside)`, for the process whose folder in `/proc` is given.
pub(super) fn write_single_map(process: &str, uid: (u32, u32), gid: (u32, u32)) -> Attempt<()> {
    let write = |file: &str, text: String| {
        let path = format!("{process}/{file}");
        // One write: the kernel takes a map whole or not at all.
        let written =
            File::options().write(true).open(&path).and_then(|mut f| f.write_all(text.as_bytes()));
        written.at(Stage::IdMap, || format!("write {path}"))
    };
    // A process without rights may map its group only where it cannot drop groups.
    write("setgroups", "deny".to_owned())?;
    write("gid_map", format!("{} {} 1\n", gid.0, gid.1))?;
    write("uid_map", format!("{} {} 1\n", uid.0, uid.1))
}

fn start_map_program(
    program: &Path,
    pid: Pid,
    own: u32,
    ranges: &[Range],
) -> Attempt<std::process::Child> {
    Command::new(program)
        .arg(pid.as_raw_nonzero().to_string())
        .args(map_arguments(own, ranges))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .at(Stage::IdMap, || format!("run {}", program.display()))
}

fn finish_map_program(program: &Path, child: std::process::Child) -> Attempt<()> {
    let action = || format!("run {}", program.display());
    let output = child.wait_with_output().at(Stage::IdMap, action)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("it failed without a word");
    Err(Fault::new(Stage::IdMap, action(), said))
}

/// What the helper does while the program runs.
struct Watch {
    /// Process 1.
    pid: Pid,
    signals: Signals,
    deadline: Option<Instant>,
    detached: bool,
    /// Whether orphans come to the helper.
    orphans: bool,
    socket: Option<ControlSocket>,
    /// Leads to process 1, where that one has namespaces.
    requests: Option<UnixStream>,
    /// Leads out of a private network, and closes with it.
    way_out: Option<WayOut>,
}

impl Watch {
    /// Waits until nothing of the sandbox is left. Returns what process 1 did not report itself.
    fn until_the_end(mut self, control: &UnixStream) -> Option<Report> {
        let mut listening = true;
        let mut timed_out = false;
        let status = loop {
            if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.deadline = None;
                timed_out = true;
                self.pass_on(libc::SIGKILL);
            }
            let spoken = self.wait_for_something(control, listening);
            if spoken {
                listening = self.obey(control);
            }
            if let Some(status) = self.take_signals() {
                break status;
            }
        };
        drop(self.way_out);
        if self.orphans {
            end_orphans();
        }
        if let Some(socket) = self.socket {
            socket.close();
        }
        if timed_out {
            return Some(Report::Ended(Exit::TimedOut));
        }
        match (status.exit_status(), status.terminating_signal()) {
            (Some(0), _) => None,
            (_, Some(signal)) => Some(Report::Ended(Exit::Signal(signal))),
            _ => {
                let reason = "process 1 ended without a word";
                Some(Report::Failed(Fault::new(Stage::Helper, "keep the sandbox running", reason)))
            }
        }
    }

    /// Blocks until a signal, an order or the deadline. Returns whether the caller spoke.
    fn wait_for_something(&self, control: &UnixStream, listening: bool) -> bool {
        let mut watched = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if listening {
            watched.push(PollFd::new(control, PollFlags::IN));
        }
        if let Some(socket) = &self.socket {
            watched.push(PollFd::new(socket.listener(), PollFlags::IN));
        }
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let ready = poll(&mut watched, left.as_ref()).unwrap_or(0) > 0;
        let spoken = ready && listening && !watched[1].revents().is_empty();
        if let Some(socket) = &self.socket {
            socket.serve(self.requests.as_ref());
        }
        spoken
    }

    /// Carries out one order. Returns whether there may be more.
    fn obey(&self, control: &UnixStream) -> bool {
        match channel::receive::<Order>(control) {
            Ok(Some((Order::Signal(number), _))) => {
                self.pass_on(number);
                return true;
            }
            Ok(Some((Order::Connect(port), mut fds))) => {
                if let Some(reply) = fds.pop() {
                    join::serve_connect_request(port, &reply.into(), self.requests.as_ref());
                }
                return true;
            }
            Ok(None) | Err(_) => {}
        }
        if !self.detached {
            self.pass_on(libc::SIGKILL);
        }
        false
    }

    fn pass_on(&self, number: i32) {
        // Process 1 may have ended just now.
        let _ = kernel::send_signal(self.pid, number);
    }

    /// Passes waiting signals on. Returns the status of process 1 once it has ended.
    fn take_signals(&self) -> Option<WaitStatus> {
        while let Ok(Some(signal)) = self.signals.next() {
            if signal.number != libc::SIGCHLD {
                self.pass_on(signal.number);
                continue;
            }
            if let Ok(Some((_, status))) = waitpid(Some(self.pid), WaitOptions::NOHANG) {
                return Some(status);
            }
        }
        None
    }
}

/// Ends every process that the program left behind, where no process namespace does that.
fn end_orphans() {
    loop {
        let children = children();
        if children.is_empty() {
            return;
        }
        for child in children {
            let _ = kernel::send_signal(child, libc::SIGKILL);
        }
        // The children of each come next.
        let _ = rustix::process::wait(WaitOptions::empty());
    }
}

/// The processes whose parent this one is.
fn children() -> Vec<Pid> {
    let own = rustix::process::getpid();
    let Ok(folder) = fs_err::read_dir("/proc") else { return Vec::new() };
    let ids = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let parent = |pid: &i32| {
        let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in brackets, may hold anything; the state and the parent follow it.
        let after_name = stat.rsplit_once(')')?.1;
        Pid::from_raw(after_name.split_whitespace().nth(1)?.parse().ok()?)
    };
    ids.filter(|pid| parent(pid) == Some(own)).filter_map(Pid::from_raw).collect()
}
