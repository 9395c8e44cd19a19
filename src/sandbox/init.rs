//! Process 1 of a sandbox: builds the view, starts the program, reaps orphans, passes signals on,
//! and reports how the program ended. When it ends, the kernel kills whatever is left.

use std::io::{self, PipeReader, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus};
use rustix::thread::CapabilitySet;

use super::channel;
use super::connect::{self, ConnectRequest};
use super::error::{At as _, Attempt, Fault, Stage};
use super::exec::{self, Exec, Refusal};
use super::exit::Exit;
use super::fakeroot::{self, FakerootSetup, Table};
use super::identity::{self, Identity};
use super::isolation::Isolation;
use super::kernel::{self, Fork, Signals};
use super::mounts;
use super::path::RootFolder;
use super::privileges;
use super::procfs;
use super::protocol::{Job, Report, StreamFds};
use super::reach;
use super::spec::{Network, Root};
use super::staging::Staging;
use super::stub::Stub;
use super::tty;

/// The most that is read of the image's `passwd` and `group`.
const MAX_ACCOUNT_FILE_BYTES: u64 = 4 << 20;

/// By which process 1 is called, and calls.
pub(super) struct Channels<'a> {
    /// Leads to the caller.
    pub(super) control: &'a UnixStream,
    /// Leads to the helper.
    pub(super) requests: UnixStream,
    /// Leads to a child that the helper makes where this process cannot answer for a fakeroot.
    pub(super) outside: Option<UnixStream>,
}

/// Runs process 1 to its end. Success means that the caller was told everything.
pub(super) fn run(
    job: Job,
    streams: StreamFds,
    channels: &mut Channels<'_>,
    (gate, staging): (PipeReader, Option<&Staging>),
) -> ExitCode {
    let end = match wait_for_gate(gate) {
        Ok(true) => serve(job, streams, channels, staging),
        // The helper failed, and says why itself.
        Ok(false) => return ExitCode::FAILURE,
        Err(fault) => Err(fault),
    };
    let report = match end {
        Ok(End::Program(code)) => return code,
        Ok(End::Init(exit)) => Report::Ended(exit),
        Err(fault) => Report::Failed(fault),
    };
    match channel::send(channels.control, &report, &[]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Which process came to its end.
enum End {
    /// The program's, which was not executed.
    Program(ExitCode),
    /// Process 1, having seen the program end.
    Init(Exit),
}

/// Waits until the helper has written the id maps, which it can do only while this process is not
/// hidden. From then on this process dies with the helper. Returns whether to go on.
fn wait_for_gate(mut gate: PipeReader) -> Attempt<bool> {
    let action = || "start the sandbox";
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .at(Stage::Helper, action)?;
    // An end without a byte: the helper failed, or died before the line above took hold.
    if gate.read(&mut [0]).at(Stage::Helper, action)? == 0 {
        return Ok(false);
    }
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .at(Stage::Privileges, || "hide the memory of process 1")?;
    Ok(true)
}

fn serve(
    mut job: Job,
    streams: StreamFds,
    channels: &mut Channels<'_>,
    staging: Option<&Staging>,
) -> Attempt<End> {
    let action = || "start the program";
    let signals = Signals::block_all().at(Stage::Helper, action)?;
    let size = job.spec.terminal;
    // A changed root directory has no terminals; a mounted one has its own.
    let outer = size.filter(|_| !job.isolation.has_namespaces()).map(tty::open_pair).transpose()?;
    job.approached.as_deref().map(reach::arrive).transpose()?;
    if job.isolation.has_namespaces() && !job.joins {
        name_machine(&mut job)?;
    }
    let prepared = fakeroot::is_needed(&job).then(|| Table::open(&job)).transpose()?;
    let (stubs, identity) = enter(&job, staging)?;
    let inner = size.filter(|_| job.isolation.has_namespaces()).map(tty::open_pair).transpose()?;
    let terminal = outer.or(inner);
    let (mut refusals, refuse) = io::pipe().at(Stage::Helper, action)?;
    let fakeroot =
        prepared.map(|table| FakerootSetup::prepare(table, &identity, channels.outside.take()));
    let fakeroot = fakeroot.transpose()?.flatten();
    let procfs = staging
        .map(|staging| procfs::Server::prepare(staging, &identity, exec::kept_capabilities(&job)));
    let procfs = procfs.transpose()?;
    let exec = Exec {
        job: &job,
        identity,
        terminal: terminal.as_ref().map(|t| &t.terminal),
        fakeroot: fakeroot.as_ref().map(FakerootSetup::far),
        staging,
        procfs: procfs.as_ref().map(procfs::Server::far),
    };
    let child = match kernel::fork_into(0).at(Stage::Helper, action)? {
        Fork::Child => {
            return Ok(End::Program(exec::run(&exec, &streams, refuse)));
        }
        Fork::Parent(child) => child,
    };
    drop((streams, refuse));
    // What the fakeroot makes in a program's place gets the modes that it asks for.
    rustix::process::umask(Mode::empty());
    fakeroot.map(FakerootSetup::start).transpose()?;
    procfs.map(procfs::Server::start).transpose()?;
    privileges::bound_capabilities(CapabilitySet::KILL)?;
    privileges::keep_capabilities(CapabilitySet::KILL)?;
    privileges::forbid_new_privileges()?;
    let mut said = Vec::new();
    refusals.read_to_end(&mut said).at(Stage::Helper, action)?;
    drop(refusals);
    if !said.is_empty() {
        let _ = rustix::process::waitpid(Some(child), WaitOptions::empty());
        return refused(&said);
    }
    let controller: Vec<OwnedFd> = terminal.into_iter().map(|pair| pair.controller).collect();
    let controller_fds: Vec<_> = controller.iter().map(|fd| fd.as_fd()).collect();
    channel::send(channels.control, &Report::Running { stubs }, &controller_fds)
        .at(Stage::Helper, action)?;
    drop(controller_fds);
    drop((controller, job));
    Ok(End::Init(wait_for(child, &signals, &channels.requests)))
}

/// What the program's process said instead of becoming the program.
fn refused(said: &[u8]) -> Attempt<End> {
    match serde_json::from_slice(said) {
        Ok(Refusal::Fault(fault)) => Err(fault),
        Ok(Refusal::NotFound(reason)) => Ok(End::Init(Exit::NotFound(reason))),
        Ok(Refusal::NotExecutable(reason)) => Ok(End::Init(Exit::NotExecutable(reason))),
        Err(error) => Err(Fault::new(Stage::Helper, "start the program", error.to_string())),
    }
}

/// Gives the sandbox its name. The filters of some containers refuse that, also in a namespace of one's
/// own: it has the container's name then.
fn name_machine(job: &mut Job) -> Attempt<()> {
    match rustix::system::sethostname(job.spec.hostname.as_bytes()) {
        Err(rustix::io::Errno::PERM) => {
            job.spec.hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
            Ok(())
        }
        named => named.at(Stage::Mounts, || "set the host name"),
    }
}

/// Changes to the view that the isolation gives, and finds the user in it.
fn enter(job: &Job, staging: Option<&Staging>) -> Attempt<(Vec<Stub>, Identity)> {
    let stubs = match job.isolation {
        _ if job.joins => Vec::new(),
        Isolation::NsRoot | Isolation::NsSubuid | Isolation::Ns | Isolation::NsCopy => {
            let has_own_network = job.spec.network != Network::Host;
            if has_own_network {
                // As Docker has it: any user may listen on any port of a network of one's own. While the
                // outer /proc is there; in a container it may be read-only.
                let _ = fs_err::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
            }
            let stubs = mounts::assemble(job)?;
            if has_own_network {
                // A kernel may lack IPv4; then there is no loopback to raise.
                let _ = kernel::raise_loopback();
            }
            stubs
        }
        // The root is changed by the program's process alone: this one answers for /proc.
        Isolation::InContainer => {
            let staging = staging.expect("the helper put everything into place");
            let root = staging.root();
            let identity = find_identity(job, |path| root.open_inside(path, account_flags()))?;
            return Ok((staging.put_back(), identity));
        }
        Isolation::Proot => {
            let root = RootFolder::new(open_folder(job)?).at(Stage::Mounts, || "open the root")?;
            let identity = find_identity(job, |path| root.open_inside(path, account_flags()))?;
            return Ok((Vec::new(), identity));
        }
        Isolation::Toolchain => {
            let uid = rustix::process::getuid().as_raw();
            let gid = rustix::process::getgid().as_raw();
            return Ok((Vec::new(), Identity { uid, gid, ..Identity::default() }));
        }
    };
    let open = |path: &str| rustix::fs::open(path, account_flags(), Mode::empty());
    Ok((stubs, find_identity(job, open)?))
}

fn account_flags() -> OFlags {
    // A FIFO in its place must not hold everything up.
    OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC
}

fn find_identity(
    job: &Job,
    open: impl Fn(&str) -> rustix::io::Result<OwnedFd>,
) -> Attempt<Identity> {
    let read = |path| {
        let Ok(fd) = open(path) else { return String::new() };
        let file = std::fs::File::from(fd);
        let mut bytes = Vec::new();
        let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
        if !regular || file.take(MAX_ACCOUNT_FILE_BYTES).read_to_end(&mut bytes).is_err() {
            return String::new();
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    identity::resolve(&job.spec.user, &read("/etc/passwd"), &read("/etc/group"))
}

fn open_folder(job: &Job) -> Attempt<OwnedFd> {
    let Root::Folder(folder) = &job.spec.root else {
        let reason = format!("the sandbox {} needs a plain folder", job.isolation);
        return Err(Fault::new(Stage::Request, "enter the root file system", reason));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(folder, flags, Mode::empty());
    opened.at(Stage::Mounts, || format!("open {}", folder.display()))
}

/// Reaps everything and passes every signal to `program`, until that one ends.
fn wait_for(program: Pid, signals: &Signals, requests: &UnixStream) -> Exit {
    // Where there is no network of its own, nobody is at the other end: a closed one is always ready.
    let mut is_open = true;
    loop {
        let readable = PollFlags::IN;
        let mut watched = [PollFd::new(signals, readable), PollFd::new(requests, readable)];
        let count = if is_open { 2 } else { 1 };
        // Interrupted or not, the signals say what happened.
        let _ = poll(&mut watched[..count], None);
        if watched[1].revents().contains(readable) {
            is_open = serve_connect_request(requests);
        }
        while let Ok(Some(signal)) = signals.next() {
            if signal.number != libc::SIGCHLD {
                let _ = kernel::send_signal(program, signal.number);
            }
        }
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == program {
                return exit(status);
            }
        }
    }
}

/// Answers whether there may be further requests.
fn serve_connect_request(requests: &UnixStream) -> bool {
    match channel::receive::<ConnectRequest>(requests) {
        Ok(Some((request, mut fds))) => {
            if let Some(reply) = fds.pop() {
                connect::serve(request.port, &reply.into());
            }
            true
        }
        // What is broken stays so.
        Ok(None) | Err(_) => false,
    }
}

fn exit(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, signal) => Exit::Signal(signal.unwrap_or(libc::SIGKILL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_again_whose_end_is_closed() {
        let (requests, far) = UnixStream::pair().unwrap();
        drop(far);
        assert!(!serve_connect_request(&requests));
        let (requests, far) = UnixStream::pair().unwrap();
        drop(far.shutdown(std::net::Shutdown::Write));
        assert!(!serve_connect_request(&requests));
    }
}
