//! The way out of a sandbox's own network: `pasta` or `slirp4netns`, which pass on in user space what
//! the sandbox sends, and lead neither to the host's loopback device nor, by the gateway's address, to
//! the host.
//!
//! ```text
//!   helper ── Task, namespaces ──► keeper ── joins the user namespace, clones ──► first ── runs ──► pasta
//!      ◄───── ready, or why not ──────────────────────────────────────────────────┘
//! ```
//!
//! Nothing of it outlives the sandbox, however that ends. The keeper, the own binary once more, ends
//! when the helper closes their socket or dies; the first process of a process namespace ends with the
//! keeper; and with it the kernel ends all that is in there, whoever the program has become.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree,
};
use rustix::process::{Pid, Signal, WaitOptions, waitpid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use super::channel;
use super::error::{At as _, Attempt, Fault, Stage};
use super::helper::take_control;
use super::identity::find_program;
use super::kernel::{self, Fork};

/// The name under which the own binary is re-executed.
pub(super) const MARK: &str = "gondola-sandbox-network";

/// Who is asked for names in such a network: what is sent there goes to the host's name server, also to
/// one on its loopback device. `slirp4netns` has it built in, `pasta` is told.
pub(super) const NAME_SERVER: [u8; 4] = [10, 0, 2, 3];

/// Where the network namespace is found by a program that opens neither processes of other rights nor
/// descriptors that it was given. Every `/proc` has this file, and nobody else sees the mount on it.
const NAMESPACE: &str = "/proc/version";

/// The device by which they take what the sandbox sends.
const TUNNELS: &str = "/dev/net/tun";

/// How long a program may take until it passes on.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most that is quoted of a program's complaint.
const LONGEST_COMPLAINT: u64 = 1 << 10;

/// A program that leads out of a network namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Program {
    Pasta(PathBuf),
    Slirp4netns(PathBuf),
}

impl Program {
    /// The programs in the folders of `path`, the better one first: `pasta` knows IPv6, and gives the
    /// sandbox the host's address, so that nobody reaches the host by it.
    pub(super) fn find(path: &str) -> Attempt<Vec<Self>> {
        let pasta = find_program("pasta", path).map(Self::Pasta);
        let slirp = find_program("slirp4netns", path).map(Self::Slirp4netns);
        let found: Vec<_> = pasta.into_iter().chain(slirp).collect();
        if found.is_empty() {
            let reason = "neither pasta nor slirp4netns is on PATH (on Debian: apt install passt, or \
                apt install slirp4netns)";
            return Err(Fault::new(Stage::Request, ACTION, reason));
        }
        Ok(found)
    }

    fn path(&self) -> &Path {
        match self {
            Self::Pasta(path) | Self::Slirp4netns(path) => path,
        }
    }

    fn arguments(&self) -> Vec<String> {
        let name_server = NAME_SERVER.map(|part| part.to_string()).join(".");
        let words: &[&str] = match self {
            // Without a word about them, pasta forwards ports in both directions: those of the sandbox's
            // loopback device to the host's. Real root would become somebody who may not enter.
            Self::Pasta(_) => &[
                "--quiet",
                "--config-net",
                "--no-map-gw",
                "-t",
                "none",
                "-u",
                "none",
                "-T",
                "none",
                "-U",
                "none",
                "--dns-forward",
                &name_server,
                "--runas",
                "0",
                "--netns",
                NAMESPACE,
            ],
            Self::Slirp4netns(_) => &[
                "--configure",
                "--mtu=65520",
                "--disable-host-loopback",
                "--enable-sandbox",
                "--enable-seccomp",
                "--ready-fd=0",
                "--netns-type=path",
                NAMESPACE,
                "tap0",
            ],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Runs it in the background, and comes back once it passes on.
    fn start(&self) -> Attempt<()> {
        let action = || format!("run {}", self.path().display());
        let said = rustix::fs::memfd_create("complaint", MemfdFlags::CLOEXEC);
        let mut said = File::from(said.at(Stage::Network, action)?);
        let mut command = Command::new(self.path());
        let complaint = said.try_clone().at(Stage::Network, action)?;
        command.args(self.arguments()).env_clear().stdout(Stdio::null()).stderr(complaint);
        let ready = match self {
            // It goes into the background by itself when it is ready.
            Self::Pasta(_) => command.stdin(Stdio::null()).status().map(|status| status.success()),
            Self::Slirp4netns(_) => start_with_sign(&mut command),
        };
        if ready.at(Stage::Network, action)? {
            return Ok(());
        }
        let mut text = Vec::new();
        let read = said.rewind().and_then(|()| said.take(LONGEST_COMPLAINT).read_to_end(&mut text));
        read.at(Stage::Network, action)?;
        Err(Fault::new(Stage::Network, action(), complaint_in(&String::from_utf8_lossy(&text))))
    }
}

/// Starts a program that stays, and writes to its standard input when it is ready.
fn start_with_sign(command: &mut Command) -> io::Result<bool> {
    let (mut sign, end) = io::pipe()?;
    // Not waited for here: it ends with the process namespace, or is reaped as the last one there.
    drop(command.stdin(end).spawn()?);
    command.stdin(Stdio::null());
    Ok(sign.read(&mut [0])? > 0)
}

/// What a program complains of, without the complaints about complaining: there is no system log.
fn complaint_in(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.ends_with("bytes to syslog"));
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() { "it ended without a word".to_owned() } else { lines.join("; ") }
}

const ACTION: &str = "lead out of a private network";

/// What a keeper is told; the user namespace to join, where there is one, and the network's come along.
#[derive(Serialize, Deserialize)]
struct Task {
    programs: Vec<Program>,
}

/// What it answers.
#[derive(Serialize, Deserialize)]
struct Told(Result<(), Fault>);

/// A way out that works. Dropped, it is closed, and nothing of it is left.
pub(super) struct WayOut {
    keeper: std::process::Child,
    socket: UnixStream,
}

impl WayOut {
    /// Leads out of the network of a process, which is not hidden yet. `has_users` says whether it is in
    /// another user namespace.
    pub(super) fn open(pid: Pid, has_users: bool, programs: &[Program]) -> Attempt<Self> {
        let action = || ACTION;
        let open = |name| {
            let path = format!("/proc/{}/ns/{name}", pid.as_raw_nonzero());
            let file = fs_err::File::open(path).at(Stage::Network, action)?;
            Ok(OwnedFd::from(file.into_parts().0))
        };
        let names = if has_users { &["user", "net"][..] } else { &["net"] };
        let namespaces = names.iter().map(open).collect::<Attempt<Vec<_>>>()?;
        let (socket, far) = UnixStream::pair().at(Stage::Network, action)?;
        let keeper = Command::new("/proc/self/exe")
            .arg0(MARK)
            .env_clear()
            .stdin(OwnedFd::from(far))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .at(Stage::Network, action)?;
        let way_out = Self { keeper, socket };
        let fds: Vec<_> = namespaces.iter().map(|fd| fd.as_fd()).collect();
        let task = Task { programs: programs.to_vec() };
        channel::send(&way_out.socket, &task, &fds).at(Stage::Network, action)?;
        way_out.socket.set_read_timeout(Some(PATIENCE)).at(Stage::Network, action)?;
        let reason = match channel::receive(&way_out.socket) {
            Ok(Some((Told(Ok(())), _))) => return Ok(way_out),
            Ok(Some((Told(Err(fault)), _))) => return Err(fault),
            Ok(None) => "its process ended without a word".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                format!("it was not ready after {} seconds", PATIENCE.as_secs())
            }
            Err(error) => return Err(error).at(Stage::Network, action),
        };
        Err(Fault::new(Stage::Network, ACTION, reason))
    }
}

impl Drop for WayOut {
    fn drop(&mut self) {
        // The keeper sees the end of the socket and ends everything; nothing can be done about a failure
        // of either.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let _ = self.keeper.wait();
    }
}

/// Does a keeper's work: starts what leads out, and ends it when the helper is gone or done.
pub(super) fn keep() -> ExitCode {
    let Ok(helper) = take_control() else { return ExitCode::FAILURE };
    let Ok(Some((task, namespaces))) = channel::receive::<Task>(&helper) else {
        return ExitCode::FAILURE;
    };
    let (first, _keeper) = match divide(namespaces) {
        Ok(Side::First(network, keeper)) => {
            return match lead(&helper, &task.programs, &network, keeper) {
                Ok(()) => ExitCode::SUCCESS,
                Err(fault) => tell(&helper, Err(fault)),
            };
        }
        Ok(Side::Keeper(first, keeper)) => (first, keeper),
        Err(fault) => return tell(&helper, Err(fault)),
    };
    // Nothing more is said on this socket. It ends with the helper.
    let _ = (&helper).read(&mut [0]);
    let _ = kernel::send_signal(first, libc::SIGKILL);
    // The kernel tells of its end when all others in its process namespace have ended.
    let _ = waitpid(Some(first), WaitOptions::empty());
    ExitCode::SUCCESS
}

fn tell(helper: &UnixStream, told: Result<(), Fault>) -> ExitCode {
    match channel::send(helper, &Told(told), &[]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Which process returned from [`divide`].
enum Side {
    /// The keeper, which knows the first process and holds the pipe open as long as it lives.
    Keeper(Pid, io::PipeWriter),
    /// The first process, with the network namespace; the pipe ends with the keeper.
    First(OwnedFd, io::PipeReader),
}

/// Starts a process that is the first of its process namespace, with the rights that the sandbox's root
/// has over the network.
fn divide(mut namespaces: Vec<OwnedFd>) -> Attempt<Side> {
    let action = || ACTION;
    let none = || Fault::new(Stage::Network, ACTION, "there is none");
    let network = namespaces.pop().ok_or_else(none)?;
    if let Some(users) = namespaces.pop() {
        move_into_link_name_space(users.as_fd(), Some(LinkNameSpaceType::User))
            .at(Stage::Network, action)?;
    }
    let (ended, keeper) = io::pipe().at(Stage::Network, action)?;
    match kernel::fork_into(libc::CLONE_NEWPID | libc::CLONE_NEWNS).at(Stage::Network, action)? {
        Fork::Child => {
            drop(keeper);
            Ok(Side::First(network, ended))
        }
        Fork::Parent(first) => Ok(Side::Keeper(first, keeper)),
    }
}

/// The first process: starts a program that leads out, says so, and reaps until nothing is left.
fn lead(
    helper: &UnixStream,
    programs: &[Program],
    network: &OwnedFd,
    keeper: io::PipeReader,
) -> Attempt<()> {
    let action = || ACTION;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .at(Stage::Network, action)?;
    if is_ended(&keeper).at(Stage::Network, action)? {
        return Ok(());
    }
    drop(keeper);
    show(network)?;
    check_tunnels()?;
    let mut complaints = Vec::new();
    for program in programs {
        match program.start() {
            Ok(()) => {
                channel::send(helper, &Told(Ok(())), &[]).at(Stage::Network, action)?;
                while rustix::process::wait(WaitOptions::empty()).is_ok() {}
                return Ok(());
            }
            Err(fault) => complaints.push(format!("{}: {}", fault.action, fault.reason)),
        }
    }
    Err(Fault::new(Stage::Network, ACTION, complaints.join("; ")))
}

fn is_ended(keeper: &io::PipeReader) -> io::Result<bool> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // Nothing is ever written to it.
    Ok(poll(&mut [PollFd::new(keeper, PollFlags::IN)], Some(&now))? > 0)
}

/// Makes the network namespace a file of this process's own mounts.
fn show(network: &OwnedFd) -> Attempt<()> {
    let action = || ACTION;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).at(Stage::Network, action)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(network, "", flags).at(Stage::Network, action)?;
    let spot = rustix::fs::open(NAMESPACE, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let spot = spot.at(Stage::Network, || format!("open {NAMESPACE}"))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&tree, "", &spot, "", flags).at(Stage::Network, action)
}

/// Tries what every such program needs: their own words about it are many.
fn check_tunnels() -> Attempt<()> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let opened = rustix::fs::open(TUNNELS, flags, Mode::empty()).map(drop);
    opened.map_err(|error| {
        let needs = match error {
            rustix::io::Errno::NOENT => "there is no such device (as root: modprobe tun)",
            rustix::io::Errno::ACCESS => "only root may use it (as root: chmod 666 /dev/net/tun)",
            _ => "it cannot be used here",
        };
        Fault::new(Stage::Network, ACTION, format!("open {TUNNELS}: {needs}"))
    })
}
