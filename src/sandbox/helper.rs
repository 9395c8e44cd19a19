//! The re-executed process between the caller and process 1: it writes the id maps from outside,
//! passes signals on, keeps the time, and ends everything when the caller is gone.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{DumpableBehavior, Pid, WaitOptions, WaitStatus, waitpid};

use super::channel::{self, take_control};
use super::closed_stdout;
use super::control::{self, ControlSocket};
use super::error::{At as _, Attempt, Fault, Stage};
use super::exit::Exit;
use super::fakeroot::{self, Outside};
use super::id_map::write_id_map;
use super::id_range;
use super::identity::IdMap;
use super::init::{self, Channels};
use super::isolation::Isolation;
use super::join;
use super::kernel::{self, Fork, Signals};
use super::other_user;
use super::probe;
use super::protocol::{HELPER, Job, NOT_TAKEN_OUT, Order, Report, SELF_TEST, StreamFds};
use super::reach;
use super::spec::{Lifetime, Network};
use super::staging::Staging;
use super::way_out::{self, WayOut};

/// Does the work of a sandbox helper if this process was started as one; else returns at once.
///
/// Must be the first call of `main`, before any thread is started: then the returned code is
/// the process's.
pub fn reexec() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let name = arguments.next()?;
    if name == HELPER {
        return Some(serve());
    }
    if name == way_out::MARK {
        return Some(way_out::keep());
    }
    if name == other_user::MARK {
        return Some(probe::try_each(arguments));
    }
    if name == id_range::MARK_WITHOUT_OUTPUT {
        closed_stdout::note_closed();
    }
    if name == id_range::MARK || name == id_range::MARK_WITHOUT_OUTPUT {
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
        Ok(Side::Helper(mut watch)) => {
            let staging = watch.staging.take();
            let report = watch.until_the_end(&control);
            let taken_out = staging.is_none_or(|staging| staging.take_out().is_ok());
            let said = report.map_or(ExitCode::SUCCESS, |report| answer(&control, &report));
            if taken_out { said } else { ExitCode::from(NOT_TAKEN_OUT) }
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

/// Which process returned from [`start`].
enum Side {
    /// Process 1 or the program, which have ended.
    Init(ExitCode),
    /// The helper.
    Helper(Box<Watch>),
}

fn start(control: &UnixStream, mut job: Job, streams: StreamFds) -> Attempt<Side> {
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
    let staging =
        (job.isolation == Isolation::InContainer).then(|| Staging::put(&job)).transpose()?;
    if other_user::is_it() && job.isolation.has_user_namespace() {
        job.approached = reach::approach(&job.spec)?;
    }
    let (gate, opener) = io::pipe().at(Stage::Helper, action)?;
    let control_path = job.spec.control.as_deref().filter(|_| !job.joins);
    let mut socket = control_path.map(|path| ControlSocket::open(path, &job)).transpose()?;
    let (requests, far) = UnixStream::pair().at(Stage::Helper, action)?;
    let needs_fakeroot = fakeroot::is_needed(&job) && !job.joins;
    let outside = needs_fakeroot.then(UnixStream::pair).transpose().at(Stage::Helper, action)?;
    match kernel::fork_into(namespaces).at(Stage::Namespaces, || "create namespaces")? {
        Fork::Child => {
            drop((opener, requests));
            drop(socket);
            let outside = outside.map(|(_, far)| far);
            let mut channels = Channels { control, requests: far, outside };
            Ok(Side::Init(init::run(job, streams, &mut channels, (gate, staging.as_ref()))))
        }
        Fork::Parent(pid) => {
            drop((streams, gate, far));
            let requests = (namespaces != 0).then_some(requests);
            let near = outside.map(|(near, _)| near);
            let let_in = let_in(control, &job, pid, socket.as_mut()).and_then(|way_out| {
                let prepare = |near| Outside::prepare(near, pid);
                let outside = near.map(prepare).transpose()?;
                (&opener).write_all(b"1").at(Stage::Helper, action)?;
                Ok((way_out, outside))
            });
            match let_in {
                Ok((way_out, outside)) => {
                    // Process 1 notices where nobody answers, and says so.
                    let fakeroot = outside.and_then(|outside| outside.start(&job).ok().flatten());
                    let watch = Watch {
                        pid,
                        signals,
                        deadline,
                        detached,
                        orphans,
                        socket,
                        requests,
                        way_out,
                        fakeroot,
                        staging,
                    };
                    Ok(Side::Helper(Box::new(watch)))
                }
                Err(fault) => {
                    drop(opener);
                    if let Some(socket) = socket {
                        socket.close();
                    }
                    let _ = waitpid(Some(pid), WaitOptions::empty());
                    // The first failure is the one to tell of.
                    let _ = staging.map(Staging::take_out);
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
    if !job.isolation.has_namespaces() {
        return 0;
    }
    if job.joins {
        return 0;
    }
    let mut flags =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if job.isolation.has_user_namespace() && job.id_map != IdMap::Inherited {
        flags |= libc::CLONE_NEWUSER;
    }
    if job.spec.network != Network::Host {
        flags |= libc::CLONE_NEWNET;
    }
    flags
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
    /// The process that answers for the fakeroot, where process 1 does not.
    fakeroot: Option<Pid>,
    /// What was put into the root file system, where nothing can be mounted.
    staging: Option<Staging>,
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
        if let Some(fakeroot) = self.fakeroot {
            // It sees mounts of the sandbox.
            let _ = kernel::send_signal(fakeroot, libc::SIGKILL);
            let _ = waitpid(Some(fakeroot), WaitOptions::empty());
        }
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
                    control::serve_connect_request(port, &reply.into(), self.requests.as_ref());
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
