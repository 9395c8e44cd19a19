//! `/proc`, `/sys` and the links in `/dev` to what a process has open, where nothing can be mounted: the
//! calls that open, describe or read a link below them are answered here, from those of the container.
//!
//! ```text
//!   program ── open, stat, readlink … ──► the kernel waits ──► a thread of process 1
//!                   /proc/self/fd/63                           opens /proc/NUMBER/fd/63
//!           ◄── a descriptor of its own ─────────────────────┘
//!           ── every other path ─────────────────────────────► the kernel, as if nothing were
//! ```
//!
//! The memory of a process, and its files below `/proc`, are for its own user alone: there is a thread
//! for each user that calls. All of them are threads of process 1, from which every process of the
//! sandbox comes: some machines let nobody else look.
//!
//! No boundary, and none is promised: a process of this sandbox sees those of the container as any other
//! of it would. Absent: paths that lead there by a working directory or a link of the image's own, and
//! programs that are executed by such a path.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;

use rustix::fs::{Access, AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::channel;
use super::error::{At as _, Attempt, Stage};
use super::fakeroot::target::{low, own_name, read_string};
use super::identity::Identity;
use super::notify::{self, Answer, Call};
use super::privileges;
use super::seccomp::{self, Waiting};

/// Has the calls of this process and its children wait for an answer, from now on. False where the
/// process waits for another one's answers already, and cannot for these.
pub(super) fn attach(server: &UnixStream) -> Attempt<bool> {
    let action = || "answer for /proc";
    let program = seccomp::waiting(CALLS.iter().map(|(number, _)| (*number, Waiting::Always)))?;
    let listener = match notify::install(&program) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => return Ok(false),
        installed => installed.at(Stage::Privileges, action)?,
    };
    channel::send(server, &(), &[listener.as_fd()]).at(Stage::Privileges, action)?;
    Ok(true)
}

/// What is about to answer.
pub(super) struct Server {
    near: UnixStream,
    far: UnixStream,
    identity: Identity,
    /// Where the root file system is, as this process sees it.
    root: Vec<u8>,
}

impl Server {
    /// Makes ready to answer a process that begins as somebody in a root file system.
    pub(super) fn prepare(root: impl std::os::fd::AsFd, identity: &Identity) -> Attempt<Self> {
        let action = || "answer for /proc";
        let (near, far) = UnixStream::pair().at(Stage::Privileges, action)?;
        let fd = root.as_fd().try_clone_to_owned().at(Stage::Privileges, action)?;
        let root = rustix::fs::readlink(own_name(&fd), Vec::new()).at(Stage::Privileges, action)?;
        Ok(Self { near, far, identity: identity.clone(), root: root.into_bytes() })
    }

    /// The end for the process whose calls are to be answered.
    pub(super) fn far(&self) -> &UnixStream {
        &self.far
    }

    /// Starts the threads that answer, once that process attaches. No process is forked any more.
    pub(super) fn start(self) -> Attempt<()> {
        let Self { near, far, identity, root } = self;
        // So that the end of a process that never attaches is seen.
        drop(far);
        let work = move || {
            if let Ok(Some(((), mut fds))) = channel::receive::<()>(&near)
                && let Some(listener) = fds.pop()
            {
                let answering = Answering { listener: Arc::new(listener), root: root.into() };
                answering.serve(User::of_identity(&identity));
            }
        };
        let thread = thread::Builder::new().name("procfs".to_owned()).spawn(work);
        thread.map(drop).at(Stage::Privileges, || "answer for /proc")
    }
}

/// What every thread needs to answer.
#[derive(Clone)]
struct Answering {
    listener: Arc<OwnedFd>,
    root: Arc<[u8]>,
}

/// Whose memory and files a thread may look at.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct User {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl User {
    fn of_identity(identity: &Identity) -> Self {
        let groups = identity.groups.clone();
        Self { uid: identity.uid, gid: identity.gid, groups }
    }

    /// The user that a thread of another process is.
    fn of_thread(thread: u32) -> Option<Self> {
        let status = fs_err::read_to_string(format!("/proc/{thread}/status")).ok()?;
        let ids = |name: &str| -> Option<Vec<u32>> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().map(|id| id.parse().ok()).collect()
        };
        // The second of four is the one in force.
        let effective = |name| ids(name)?.get(1).copied();
        Some(Self { uid: effective("Uid:")?, gid: effective("Gid:")?, groups: ids("Groups:")? })
    }

    /// Makes this thread, and no other one of its process, the user's.
    fn enter(&self) -> Attempt<()> {
        if self.uid == 0 {
            return privileges::keep_capabilities(privileges::DOCKER_CAPABILITIES);
        }
        let action = || format!("look as user {}", self.uid);
        let groups: Vec<_> = self.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        rustix::thread::set_thread_groups(&groups).at(Stage::User, action)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).at(Stage::User, action)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).at(Stage::User, action)
    }
}

impl Answering {
    /// Hands out calls that another user's thread has to answer, and starts those threads.
    fn serve(self, first: User) {
        let (send, receive) = mpsc::channel::<(User, Call)>();
        let receiver = self.clone();
        let begun = thread::Builder::new().name("procfs-first".to_owned()).spawn(move || {
            if first.enter().is_ok() {
                receiver.receive(&first, &send);
            }
        });
        let mut others: BTreeMap<User, mpsc::Sender<Call>> = BTreeMap::new();
        while begun.is_ok()
            && let Ok((user, call)) = receive.recv()
        {
            let other = others.entry(user).or_insert_with_key(|user| self.start(user.clone()));
            if let Err(mpsc::SendError(call)) = other.send(call) {
                // That thread could not become the user: the kernel answers.
                notify::respond(&self.listener, &call, Answer::Continue);
            }
        }
    }

    /// Receives all calls as one user, and passes on those of others.
    fn receive(&self, own: &User, others: &mpsc::Sender<(User, Call)>) {
        notify::wake_at_once(&self.listener);
        // The end of process 1 ends this thread, too.
        while let Ok(Some(call)) = notify::receive(&self.listener) {
            let reply = match self.answer(&call) {
                Err(Unanswered::NotOurs) => match User::of_thread(call.thread) {
                    Some(user) if user.uid != own.uid => {
                        // Without the other thread nobody is left to answer to.
                        let _ = others.send((user, call));
                        continue;
                    }
                    _ => Answer::Continue,
                },
                reply => settled(reply),
            };
            notify::respond(&self.listener, &call, reply);
        }
    }

    fn start(&self, user: User) -> mpsc::Sender<Call> {
        let (send, receive) = mpsc::channel::<Call>();
        let answering = self.clone();
        let work = move || {
            if user.enter().is_err() {
                return;
            }
            while let Ok(call) = receive.recv() {
                let reply = settled(answering.answer(&call));
                notify::respond(&answering.listener, &call, reply);
            }
        };
        // Where no thread can be started, nobody receives, and the kernel answers.
        let _ = thread::Builder::new().name("procfs-user".to_owned()).spawn(work);
        send
    }

    fn answer(&self, call: &Call) -> Result<Answer, Unanswered> {
        let Some((_, kind)) = CALLS.iter().find(|(number, _)| *number == call.number) else {
            return Ok(Answer::Continue);
        };
        let (arguments, thread) = (&call.arguments, call.thread);
        let path = match read_string(thread, arguments[kind.path()]) {
            Err(Errno::PERM | Errno::ACCESS) => return Err(Unanswered::NotOurs),
            // The kernel says what is wrong with it.
            Err(_) => return Ok(Answer::Continue),
            Ok(path) => path,
        };
        let word = |at: usize| low(arguments[at]);
        let path = path.as_bytes();
        match *kind {
            Kind::Open { flags } => {
                let mode = word(flags + 1).cast_unsigned();
                open(thread, path, (word(flags), mode))
            }
            Kind::Create => {
                let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
                open(thread, path, (flags, word(1).cast_unsigned()))
            }
            Kind::OpenHow => open(thread, path, read_how(thread, arguments[2])?),
            Kind::ReadLink { buffer } => {
                self.read_link(thread, path, (arguments[buffer], word(buffer + 1)))
            }
            Kind::Describe { buffer, follow, .. } => {
                let follow = follow.follows(arguments);
                let Some(file) = look_up(thread, path, follow)? else {
                    return Ok(Answer::Continue);
                };
                write(thread, arguments[buffer], &notify::raw_stat(&file)?)
            }
            Kind::DescribeMore => {
                let follow = word(2) & libc::AT_SYMLINK_NOFOLLOW == 0;
                let Some(file) = look_up(thread, path, follow)? else {
                    return Ok(Answer::Continue);
                };
                let bytes = notify::raw_statx(&file, word(2), word(3).cast_unsigned())?;
                write(thread, arguments[4], &bytes)
            }
            // Nothing there has any, and only a path inside would be asked.
            Kind::Attributes { follow } => match outer(thread, path, follow) {
                Some(_) => Err(Errno::NOTSUP.into()),
                None => Ok(Answer::Continue),
            },
            Kind::Access { path: at } => {
                let Some(outer) = outer(thread, path, true) else { return Ok(Answer::Continue) };
                let wanted = Access::from_bits_retain(word(at + 1).cast_unsigned());
                rustix::fs::accessat(CWD, outer, wanted, AtFlags::EACCESS)?;
                Ok(Answer::Value(0))
            }
        }
    }

    fn read_link(
        &self,
        thread: u32,
        path: &[u8],
        (buffer, size): (u64, i32),
    ) -> Result<Answer, Unanswered> {
        let Some(outer) = outer(thread, path, false) else { return Ok(Answer::Continue) };
        let size = usize::try_from(size).ok().filter(|size| *size > 0).ok_or(Errno::INVAL)?;
        let text = match path {
            b"/proc/self" => process_of(thread).ok_or(Errno::NOENT)?.to_string().into_bytes(),
            _ => rustix::fs::readlink(outer, Vec::new())?.into_bytes(),
        };
        let text = self.inside(&text);
        let text = &text[..text.len().min(size)];
        write(thread, buffer, text)?;
        Ok(Answer::Value(i64::try_from(text.len()).expect("a path is short")))
    }

    /// A path as a process in the root file system sees it.
    fn inside<'a>(&self, path: &'a [u8]) -> &'a [u8] {
        match path.strip_prefix(&*self.root) {
            Some(b"") => b"/",
            Some(rest) if rest.starts_with(b"/") => rest,
            _ => path,
        }
    }
}

/// Why a call has no answer.
enum Unanswered {
    /// Its process is another user's.
    NotOurs,
    /// It fails.
    Failed(Errno),
}

impl From<Errno> for Unanswered {
    fn from(error: Errno) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for Unanswered {
    fn from(error: io::Error) -> Self {
        Self::Failed(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

fn settled(answer: Result<Answer, Unanswered>) -> Answer {
    match answer {
        Ok(answer) => answer,
        Err(Unanswered::NotOurs) => Answer::Continue,
        Err(Unanswered::Failed(error)) => error.into(),
    }
}

fn open(thread: u32, path: &[u8], (flags, mode): (i32, u32)) -> Result<Answer, Unanswered> {
    let flags = OFlags::from_bits_retain(flags.cast_unsigned());
    let Some(outer) = outer(thread, path, !flags.contains(OFlags::NOFOLLOW)) else {
        return Ok(Answer::Continue);
    };
    let close_on_exec = flags.contains(OFlags::CLOEXEC);
    // A terminal of the program's must not become this process's.
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = rustix::fs::open(outer, flags, Mode::from_raw_mode(mode))?;
    Ok(Answer::Descriptor { file, close_on_exec })
}

/// Opens a file for its path alone, where it is one to answer for.
fn look_up(thread: u32, path: &[u8], follow: bool) -> Result<Option<OwnedFd>, Unanswered> {
    let Some(outer) = outer(thread, path, follow) else { return Ok(None) };
    let flags = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    Ok(Some(rustix::fs::open(outer, flags, Mode::empty())?))
}

fn write(thread: u32, address: u64, bytes: &[u8]) -> Result<Answer, Unanswered> {
    notify::write_memory(thread, address, bytes)?;
    Ok(Answer::Value(0))
}

/// The flags and the mode of `struct open_how`.
fn read_how(thread: u32, address: u64) -> Result<(i32, u32), Unanswered> {
    let mut bytes = [0; 16];
    if notify::read_memory(thread, address, &mut bytes)? != bytes.len() {
        return Err(Errno::FAULT.into());
    }
    let (flags, mode) = bytes.split_at(8);
    let number = |half: &[u8]| u64::from_ne_bytes(half.try_into().expect("it has eight bytes"));
    Ok((low(number(flags)), low(number(mode)).cast_unsigned()))
}

/// The path outside that stands for one of a process; none for all that is the root file system's own.
///
/// Links in `/dev` are followed only where the call follows the last part of its path.
fn outer(thread: u32, path: &[u8], follow: bool) -> Option<CString> {
    let below = |folder: &str| {
        let rest = path.strip_prefix(folder.as_bytes())?;
        (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
    };
    if !path.starts_with(b"/") || leaves_its_top(path) {
        return None;
    }
    if below("/sys").is_some() {
        return CString::new(path).ok();
    }
    let own = |rest: &[u8]| {
        let process = process_of(thread)?;
        let mut outer = format!("/proc/{process}").into_bytes();
        outer.extend_from_slice(rest);
        CString::new(outer).ok()
    };
    if let Some(rest) = below("/proc") {
        let own_ones = [("/self", ""), ("/mounts", "/mounts"), ("/net", "/net")];
        for (name, stands_for) in own_ones {
            // The link itself is as good as any process's.
            let tail = rest.strip_prefix(name.as_bytes());
            if let Some(tail) =
                tail.filter(|tail| tail.starts_with(b"/") || tail.is_empty() && follow)
            {
                return own(&[stands_for.as_bytes(), tail].concat());
            }
        }
        if let Some(tail) = rest.strip_prefix(b"/thread-self") {
            return own(&[format!("/task/{thread}").as_bytes(), tail].concat());
        }
        return CString::new(path).ok();
    }
    let streams = [("/dev/stdin", "/fd/0"), ("/dev/stdout", "/fd/1"), ("/dev/stderr", "/fd/2")];
    if let Some((_, file)) = streams.iter().find(|(name, _)| name.as_bytes() == path && follow) {
        return own(file.as_bytes());
    }
    let tail = below("/dev/fd")?;
    (follow || tail.len() > 1).then(|| own(&[b"/fd", tail].concat())).flatten()
}

/// Whether a path goes up to the root, and may go on elsewhere.
fn leaves_its_top(path: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut parts = path.split(|byte| *byte == b'/');
    parts.by_ref().filter(|part| !part.is_empty() && *part != b".").any(|part| {
        depth = if part == b".." { depth.saturating_sub(1) } else { depth + 1 };
        depth == 0
    })
}

/// The process that a thread is one of.
fn process_of(thread: u32) -> Option<u32> {
    let status = fs_err::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

/// Says on the program's standard error that nobody answers for `/proc`.
pub(super) fn warn() {
    let text = b"warning: /proc is empty here: the container answers system calls of its own, and \
        programs that read /proc fail\n";
    // Whoever closed it does not want to hear of it.
    let _ = rustix::io::write(rustix::stdio::stderr(), text);
}

/// What a call that waits does, and in which arguments it says so. A path after a descriptor is the
/// second argument.
#[derive(Clone, Copy)]
enum Kind {
    /// The flags, and after them the mode.
    Open {
        flags: usize,
    },
    Create,
    OpenHow,
    /// The buffer, and after it its size.
    ReadLink {
        buffer: usize,
    },
    Describe {
        path: usize,
        buffer: usize,
        follow: Follow,
    },
    DescribeMore,
    /// The path, and after it what is asked.
    Access {
        path: usize,
    },
    /// Extended attributes of a path.
    Attributes {
        follow: bool,
    },
}

/// Whether the last part of a path is followed where it is a link.
#[derive(Clone, Copy)]
enum Follow {
    Always,
    Never,
    /// As the flags in this argument say.
    Unless {
        flags: usize,
    },
}

impl Follow {
    fn follows(self, arguments: &[u64; 6]) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Unless { flags } => low(arguments[flags]) & libc::AT_SYMLINK_NOFOLLOW == 0,
        }
    }
}

impl Kind {
    fn path(self) -> usize {
        match self {
            Self::Open { flags } => flags - 1,
            Self::Create | Self::Attributes { .. } => 0,
            Self::OpenHow | Self::DescribeMore => 1,
            Self::ReadLink { buffer } => buffer - 1,
            Self::Describe { path, .. } | Self::Access { path } => path,
        }
    }
}

/// The calls that wait.
const CALLS: &[(i64, Kind)] = &[
    (libc::SYS_openat, Kind::Open { flags: 2 }),
    (libc::SYS_openat2, Kind::OpenHow),
    (libc::SYS_readlinkat, Kind::ReadLink { buffer: 2 }),
    (
        libc::SYS_newfstatat,
        Kind::Describe { path: 1, buffer: 2, follow: Follow::Unless { flags: 3 } },
    ),
    (libc::SYS_statx, Kind::DescribeMore),
    (libc::SYS_getxattr, Kind::Attributes { follow: true }),
    (libc::SYS_lgetxattr, Kind::Attributes { follow: false }),
    (libc::SYS_listxattr, Kind::Attributes { follow: true }),
    (libc::SYS_llistxattr, Kind::Attributes { follow: false }),
    (libc::SYS_faccessat, Kind::Access { path: 1 }),
    (libc::SYS_faccessat2, Kind::Access { path: 1 }),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, Kind::Open { flags: 1 }),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, Kind::Create),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_readlink, Kind::ReadLink { buffer: 1 }),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_stat, Kind::Describe { path: 0, buffer: 1, follow: Follow::Always }),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lstat, Kind::Describe { path: 0, buffer: 1, follow: Follow::Never }),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_access, Kind::Access { path: 0 }),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_kernel_are_those_of_the_process_that_asks() {
        let thread = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        let process = rustix::process::getpid().as_raw_nonzero().get();
        let own = |rest: &str| Some(format!("/proc/{process}{rest}"));
        let plain = |path: &str| Some(path.to_owned());
        let cases = [
            ("/proc/self/fd/63", true, own("/fd/63")),
            ("/proc/self", true, own("")),
            ("/proc/self", false, plain("/proc/self")),
            ("/proc/thread-self/stat", true, own(&format!("/task/{thread}/stat"))),
            ("/proc/mounts", true, own("/mounts")),
            ("/proc/net/tcp", true, own("/net/tcp")),
            ("/proc/cpuinfo", true, plain("/proc/cpuinfo")),
            ("/proc", true, plain("/proc")),
            ("/sys/kernel", true, plain("/sys/kernel")),
            ("/dev/fd", true, own("/fd")),
            ("/dev/fd", false, None),
            ("/dev/fd/3", false, own("/fd/3")),
            ("/dev/stdout", true, own("/fd/1")),
            ("/dev/stdout", false, None),
            ("/dev/null", true, None),
            ("/process", true, None),
            ("/proc/self/../../etc/passwd", true, None),
            ("/proc/..", true, None),
            ("/proc/1/../cpuinfo", true, plain("/proc/1/../cpuinfo")),
            ("/proc/self/..", true, own("/..")),
            ("proc/self", true, None),
            ("/etc/passwd", true, None),
        ];
        for (path, follow, expected) in cases {
            let found = outer(thread, path.as_bytes(), follow);
            let found = found.map(|path| path.into_string().unwrap());
            assert_eq!(found, expected, "{path} {follow}");
        }
    }

    #[test]
    fn a_link_out_of_the_root_file_system_is_shown_as_one_of_it() {
        let listener = Arc::new(fs_err::File::open("/dev/null").unwrap().into_parts().0.into());
        let answering = Answering { listener, root: b"/store/fs".as_slice().into() };
        for (path, expected) in [
            ("/store/fs/usr/bin/go", "/usr/bin/go"),
            ("/store/fs", "/"),
            ("/store/fs2/x", "/store/fs2/x"),
            ("pipe:[7]", "pipe:[7]"),
        ] {
            assert_eq!(answering.inside(path.as_bytes()), expected.as_bytes());
        }
    }
}
