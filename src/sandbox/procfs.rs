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
//! Files in memory ([`super::memory_file`]) are opened in the same way, by whichever path.
//!
//! No boundary, and none is promised: a process of this sandbox sees those of the container as any other
//! of it would. Absent: paths that lead to the kernel's folders by a link of the image's own (but for
//! `/etc/mtab`), a working directory below them, and programs that are executed by such a path.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;

use rustix::fs::{Access, AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use super::channel;
use super::error::{At as _, Attempt, Stage};
use super::fakeroot::target::{low, own_name, read_string};
use super::identity::Identity;
use super::kernel_path::{self, Devices, process_of};
use super::memory_file::MemoryFile;
use super::notify::{self, Answer, Call};
use super::path_call::{CALLS, Kind};
use super::privileges;
use super::seccomp::{self, Waiting};
use super::staging::Staging;

/// In most images a link to `/proc`.
const MOUNT_TABLE: &[u8] = b"/etc/mtab";

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
    files: Files,
}

/// The files of a root file system that a program cannot open by itself.
struct Files {
    root: OwnedFd,
    /// Where that is, as this process sees it.
    place: Vec<u8>,
    memory: Vec<MemoryFile>,
    devices: Devices,
}

impl Server {
    /// Makes ready to answer a process that begins as somebody in a root file system.
    pub(super) fn prepare(staging: &Staging, identity: &Identity) -> Attempt<Self> {
        let action = || "answer for /proc";
        let (near, far) = UnixStream::pair().at(Stage::Privileges, action)?;
        let root = staging.root().as_fd().try_clone_to_owned().at(Stage::Privileges, action)?;
        let place = rustix::fs::readlink(own_name(&root), Vec::new());
        let place = place.at(Stage::Privileges, action)?.into_bytes();
        let memory = staging.memory_files().at(Stage::Privileges, action)?;
        let files = Files { root, place, memory, devices: staging.devices() };
        Ok(Self { near, far, identity: identity.clone(), files })
    }

    /// The end for the process whose calls are to be answered.
    pub(super) fn far(&self) -> &UnixStream {
        &self.far
    }

    /// Starts the threads that answer, once that process attaches. No process is forked any more.
    pub(super) fn start(self) -> Attempt<()> {
        let Self { near, far, identity, files } = self;
        // So that the end of a process that never attaches is seen.
        drop(far);
        let work = move || {
            if let Ok(Some(((), mut fds))) = channel::receive::<()>(&near)
                && let Some(listener) = fds.pop()
            {
                let answering = Answering { listener: Arc::new(listener), files: Arc::new(files) };
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
    files: Arc<Files>,
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
        let name = (kind.folder(arguments), path.as_bytes());
        let Some(path) = self.files.absolute(thread, name) else { return Ok(Answer::Continue) };
        let name = Name { files: &self.files, thread, path: &path };
        let word = |at: usize| low(arguments[at]);
        match *kind {
            Kind::Open { flags } => name.open((word(flags), word(flags + 1).cast_unsigned())),
            Kind::Create => {
                let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
                name.open((flags, word(1).cast_unsigned()))
            }
            Kind::OpenHow => name.open(read_how(thread, arguments[2])?),
            Kind::ReadLink { buffer } => name.read_link((arguments[buffer], word(buffer + 1))),
            Kind::Describe { buffer, follow, .. } => {
                let Some(file) = name.look_up(follow.follows(arguments))? else {
                    return Ok(Answer::Continue);
                };
                write(thread, arguments[buffer], &notify::raw_stat(&file)?)
            }
            Kind::DescribeMore => {
                let Some(file) = name.look_up(word(2) & libc::AT_SYMLINK_NOFOLLOW == 0)? else {
                    return Ok(Answer::Continue);
                };
                let bytes = notify::raw_statx(&file, word(2), word(3).cast_unsigned())?;
                write(thread, arguments[4], &bytes)
            }
            // Nothing there has any, and only a path inside would be asked.
            Kind::Attributes { follow } => match name.outer(follow) {
                Some(_) => Err(Errno::NOTSUP.into()),
                None => Ok(Answer::Continue),
            },
            Kind::Access { path: at } => {
                let Some(outer) = name.outer(true) else { return Ok(Answer::Continue) };
                let wanted = Access::from_bits_retain(word(at + 1).cast_unsigned());
                rustix::fs::accessat(CWD, outer, wanted, AtFlags::EACCESS)?;
                Ok(Answer::Value(0))
            }
        }
    }
}

impl Files {
    /// A path from the top of the root file system; none where the kernel knows best.
    fn absolute<'a>(&self, thread: u32, name: (i32, &'a [u8])) -> Option<Cow<'a, [u8]>> {
        let (folder, path) = name;
        // A descriptor of the kernel's folders is one of the container's: it needs no help.
        let from_descriptor = folder != libc::AT_FDCWD && !path.starts_with(b"/");
        if path.is_empty() || from_descriptor && self.memory.is_empty() {
            return None;
        }
        kernel_path::absolute(&self.place, thread, name)
    }

    /// Whether the file that programs expect to list what is mounted is the usual link.
    fn has_mount_table(&self) -> bool {
        let relative = &MOUNT_TABLE[1..];
        let link = rustix::fs::readlinkat(&self.root, relative, Vec::new());
        link.is_ok_and(|link| {
            link.to_bytes().ends_with(b"proc/mounts")
                || link.to_bytes().ends_with(b"proc/self/mounts")
        })
    }

    /// The file in memory that a path leads to, as the user that this thread is.
    fn memory_at(&self, path: &[u8], follow: bool) -> Option<&MemoryFile> {
        if self.memory.is_empty() {
            return None;
        }
        let follow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC | follow;
        let found = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), inside).ok()?;
        let stat = rustix::fs::fstat(found).ok()?;
        self.memory.iter().find(|file| file.is(&stat))
    }
}

/// A path that a thread asks for.
struct Name<'a> {
    files: &'a Files,
    thread: u32,
    /// From the top of the root file system.
    path: &'a [u8],
}

impl Name<'_> {
    fn outer(&self, follow: bool) -> Option<CString> {
        if follow && self.path == MOUNT_TABLE && self.files.has_mount_table() {
            return Some(c"/proc/self/mounts".to_owned());
        }
        kernel_path::outer(self.thread, self.path, follow, self.files.devices)
    }

    fn open(&self, (flags, mode): (i32, u32)) -> Result<Answer, Unanswered> {
        let flags = OFlags::from_bits_retain(flags.cast_unsigned());
        let (follow, close_on_exec) =
            (!flags.contains(OFlags::NOFOLLOW), flags.contains(OFlags::CLOEXEC));
        let Some(outer) = self.outer(follow) else {
            let Some(memory) = self.files.memory_at(self.path, follow) else {
                return Ok(Answer::Continue);
            };
            return Ok(Answer::Descriptor { file: memory.open(flags)?, close_on_exec });
        };
        // A terminal of the program's must not become this process's.
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = rustix::fs::open(outer, flags, Mode::from_raw_mode(mode))?;
        Ok(Answer::Descriptor { file, close_on_exec })
    }

    /// Opens a file for its path alone, where it is one to answer for.
    fn look_up(&self, follow: bool) -> Result<Option<OwnedFd>, Unanswered> {
        let Some(outer) = self.outer(follow) else {
            let memory = self.files.memory_at(self.path, follow);
            return Ok(memory.map(MemoryFile::look).transpose()?);
        };
        let flags = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        Ok(Some(rustix::fs::open(outer, flags, Mode::empty())?))
    }

    fn read_link(&self, (buffer, size): (u64, i32)) -> Result<Answer, Unanswered> {
        let Some(outer) = self.outer(false) else { return Ok(Answer::Continue) };
        let size = usize::try_from(size).ok().filter(|size| *size > 0).ok_or(Errno::INVAL)?;
        let text = match self.path {
            b"/proc/self" => process_of(self.thread).ok_or(Errno::NOENT)?.to_string().into_bytes(),
            _ => rustix::fs::readlink(outer, Vec::new())?.into_bytes(),
        };
        let text = kernel_path::inside(&self.files.place, &text).unwrap_or(&text);
        let text = &text[..text.len().min(size)];
        write(self.thread, buffer, text)?;
        Ok(Answer::Value(i64::try_from(text.len()).expect("a path is short")))
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

/// Says on the program's standard error that nobody answers for `/proc`.
pub(super) fn warn() {
    let text = b"warning: /proc is empty here: the container answers system calls of its own, and \
        programs that read /proc fail\n";
    // Whoever closed it does not want to hear of it.
    let _ = rustix::io::write(rustix::stdio::stderr(), text);
}
