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
//! for each user that calls, with the ids and the capabilities of who calls, and no more. All of them are
//! threads of process 1, from which every process of the sandbox comes: some machines let nobody else look.
//! What that process itself has is hidden, for to its own threads the kernel refuses nothing.
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

use rustix::fs::{Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::channel;
use super::error::{At as _, Attempt, Stage};
use super::fakeroot::target::{low, own_name, read_string};
use super::fakeroot::umask;
use super::identity::Identity;
use super::kernel_path::{self, Asking, Devices, Place, process_of};
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
    /// As who the process begins.
    first: User,
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
    /// Makes ready to answer a process that begins as somebody in a root file system, as root with the
    /// capabilities that are `kept`.
    pub(super) fn prepare(
        staging: &Staging,
        identity: &Identity,
        kept: CapabilitySet,
    ) -> Attempt<Self> {
        let action = || "answer for /proc";
        let (near, far) = UnixStream::pair().at(Stage::Privileges, action)?;
        let root = staging.root().as_fd().try_clone_to_owned().at(Stage::Privileges, action)?;
        let place = rustix::fs::readlink(own_name(&root), Vec::new());
        let place = place.at(Stage::Privileges, action)?.into_bytes();
        let memory = staging.memory_files().at(Stage::Privileges, action)?;
        let files = Files { root, place, memory, devices: staging.devices() };
        Ok(Self { near, far, first: User::of_identity(identity, kept), files })
    }

    /// The end for the process whose calls are to be answered.
    pub(super) fn far(&self) -> &UnixStream {
        &self.far
    }

    /// Starts the threads that answer, once that process attaches. No process is forked any more.
    pub(super) fn start(self) -> Attempt<()> {
        let Self { near, far, first, files } = self;
        // So that the end of a process that never attaches is seen.
        drop(far);
        let work = move || {
            if let Ok(Some(((), mut fds))) = channel::receive::<()>(&near)
                && let Some(listener) = fds.pop()
            {
                let answering = Answering { listener: Arc::new(listener), files: Arc::new(files) };
                answering.serve(first);
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

/// As who a thread may look at files and processes: what the kernel knows of a thread, and decides by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct User {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    /// The capabilities that it may have, and those in force.
    permitted: u64,
    effective: u64,
}

impl User {
    fn of_identity(identity: &Identity, kept: CapabilitySet) -> Self {
        let groups = identity.groups.clone();
        let capabilities = if identity.uid == 0 { kept.bits() } else { 0 };
        let (permitted, effective) = (capabilities, capabilities);
        Self { uid: identity.uid, gid: identity.gid, groups, permitted, effective }
    }

    /// The user that a thread is, of this process or another.
    fn of_thread(thread: u32) -> Option<Self> {
        let status = fs_err::read_to_string(format!("/proc/{thread}/status")).ok()?;
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let ids = |name: &str| -> Option<Vec<u32>> {
            line(name)?.split_whitespace().map(|id| id.parse().ok()).collect()
        };
        // The last of four is the one that files are opened with.
        let for_files = |name| ids(name)?.get(3).copied();
        let set = |name| u64::from_str_radix(line(name)?.trim(), 16).ok();
        Some(Self {
            uid: for_files("Uid:")?,
            gid: for_files("Gid:")?,
            groups: ids("Groups:")?,
            permitted: set("CapPrm:")?,
            effective: set("CapEff:")?,
        })
    }

    /// Makes this thread, and no other one of its process, the user's, with no right that the user has not;
    /// answers who it is now.
    fn enter(&self) -> Attempt<Self> {
        let action = || format!("look as user {}", self.uid);
        let own = || {
            let thread = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
            Self::of_thread(thread).ok_or(Errno::SRCH).at(Stage::User, action)
        };
        let before = own()?;
        if before.groups != self.groups {
            let groups: Vec<_> = self.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
            rustix::thread::set_thread_groups(&groups).at(Stage::User, action)?;
        }
        if before.gid != self.gid {
            let gid = Gid::from_raw(self.gid);
            rustix::thread::set_thread_res_gid(gid, gid, gid).at(Stage::User, action)?;
        }
        if before.uid != self.uid {
            let uid = Uid::from_raw(self.uid);
            rustix::thread::set_keep_capabilities(true).at(Stage::User, action)?;
            rustix::thread::set_thread_res_uid(uid, uid, uid).at(Stage::User, action)?;
        }
        let [permitted, effective] =
            [self.permitted, self.effective].map(CapabilitySet::from_bits_retain);
        privileges::limit_capabilities(permitted, effective)?;
        own()
    }
}

/// As how many users a step is answered. Whoever makes more is answered by the kernel.
const MOST_USERS: usize = 64;

impl Answering {
    /// Hands out calls that another user's thread has to answer, and starts those threads.
    fn serve(self, first: User) {
        let (send, receive) = mpsc::channel::<(User, Call)>();
        let receiver = self.clone();
        let begun = thread::Builder::new().name("procfs-first".to_owned()).spawn(move || {
            if let Ok(own) = first.enter() {
                receiver.receive(&own, &send);
            }
        });
        let mut others: BTreeMap<User, mpsc::Sender<Call>> = BTreeMap::new();
        while begun.is_ok()
            && let Ok((user, call)) = receive.recv()
        {
            if others.len() >= MOST_USERS && !others.contains_key(&user) {
                notify::respond(&call, Answer::Continue);
                continue;
            }
            let other = others.entry(user).or_insert_with_key(|user| self.start(user.clone()));
            if let Err(mpsc::SendError(call)) = other.send(call) {
                // That thread could not become the user: the kernel answers.
                notify::respond(&call, Answer::Continue);
            }
        }
    }

    /// Receives all calls as one user, and passes on those of others.
    fn receive(&self, own: &User, others: &mpsc::Sender<(User, Call)>) {
        notify::wake_at_once(&self.listener);
        // The end of process 1 ends this thread, too.
        while let Ok(Some(call)) = notify::receive(&self.listener) {
            let reply = match self.answer(&call, own) {
                Err(Unanswered::NotOurs) => match User::of_thread(call.thread) {
                    Some(user) if user != *own => {
                        // Without the other thread nobody is left to answer to.
                        let _ = others.send((user, call));
                        continue;
                    }
                    _ => Answer::Continue,
                },
                reply => settled(reply),
            };
            notify::respond(&call, reply);
        }
    }

    fn start(&self, user: User) -> mpsc::Sender<Call> {
        let (send, receive) = mpsc::channel::<Call>();
        let answering = self.clone();
        let work = move || {
            // With less than the user has, the user's own calls would be refused.
            let Ok(own) = user.enter() else { return };
            if own != user {
                return;
            }
            while let Ok(call) = receive.recv() {
                let reply = settled(answering.answer(&call, &own));
                notify::respond(&call, reply);
            }
        };
        // Where no thread can be started, nobody receives, and the kernel answers.
        let _ = thread::Builder::new().name("procfs-user".to_owned()).spawn(work);
        send
    }

    fn answer(&self, call: &Call, own: &User) -> Result<Answer, Unanswered> {
        let Some((_, kind)) = CALLS.iter().find(|(number, _)| *number == call.number) else {
            return Ok(Answer::Continue);
        };
        let (arguments, thread) = (&call.arguments, call.thread);
        let path = match read_string(call, arguments[kind.path()]) {
            Err(Errno::PERM | Errno::ACCESS) => return Err(Unanswered::NotOurs),
            // The kernel says what is wrong with it.
            Err(_) => return Ok(Answer::Continue),
            Ok(path) => path,
        };
        let name = (kind.folder(arguments), path.as_bytes());
        let Some(path) = self.files.absolute(thread, name) else { return Ok(Answer::Continue) };
        let name = Name { files: &self.files, thread, path: &path };
        let word = |at: usize| low(arguments[at]);
        let follow = follows(*kind, call)?;
        let Some(found) = name.find(follow)? else { return Ok(Answer::Continue) };
        // Whoever is answered gets what he may have himself, and no more.
        if User::of_thread(thread).as_ref() != Some(own) || !call.is_pending() {
            return Err(Unanswered::NotOurs);
        }
        match *kind {
            Kind::Open { flags } => {
                name.open(&found, (word(flags), word(flags + 1).cast_unsigned()))
            }
            Kind::Create => {
                let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
                name.open(&found, (flags, word(1).cast_unsigned()))
            }
            Kind::OpenHow => name.open(&found, read_how(call)?),
            Kind::ReadLink { buffer } => {
                name.read_link(&found, call, (arguments[buffer], word(buffer + 1)))
            }
            Kind::Describe { buffer, .. } => {
                let file = name.look_up(&found, follow)?;
                write(call, arguments[buffer], &notify::raw_stat(&file)?)
            }
            Kind::DescribeMore => {
                let file = name.look_up(&found, follow)?;
                let bytes = notify::raw_statx(&file, word(2), word(3).cast_unsigned())?;
                write(call, arguments[4], &bytes)
            }
            // Nothing there has any, and only a path inside would be asked.
            Kind::Attributes { .. } => match found {
                Found::Memory(_) => Ok(Answer::Continue),
                Found::Outside(_) | Found::Inside(_) => Err(Errno::NOTSUP.into()),
            },
            Kind::Access { path: at } => {
                let wanted = Access::from_bits_retain(word(at + 1).cast_unsigned());
                match &found {
                    Found::Memory(_) => return Ok(Answer::Continue),
                    Found::Outside(outer) => {
                        rustix::fs::accessat(CWD, outer, wanted, AtFlags::EACCESS)?;
                    }
                    Found::Inside(_) => {
                        let own = own_name(&name.look_up(&found, true)?);
                        rustix::fs::accessat(CWD, own, wanted, AtFlags::EACCESS)?;
                    }
                }
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

    /// Opens a path of the root file system as a program in it would.
    fn open_inside(&self, path: &[u8], flags: OFlags, mode: u32) -> rustix::io::Result<OwnedFd> {
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, path, flags, Mode::from_raw_mode(mode), inside)
    }

    /// The file in memory that a path leads to, as the user that this thread is.
    fn memory_at(&self, path: &[u8], follow: bool) -> Option<&MemoryFile> {
        if self.memory.is_empty() {
            return None;
        }
        let follow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let found = self.open_inside(path, OFlags::PATH | OFlags::CLOEXEC | follow, 0).ok()?;
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

/// What a path leads to that is answered for.
enum Found<'a> {
    /// A file of the container.
    Outside(CString),
    /// One of the root file system, by another path.
    Inside(Vec<u8>),
    /// One in memory.
    Memory(&'a MemoryFile),
}

/// What `openat2` understands of the flags of `open`, which passes over all others.
const OPEN_FLAGS: OFlags = OFlags::ACCMODE
    .union(OFlags::APPEND)
    .union(OFlags::CREATE)
    .union(OFlags::DIRECT)
    .union(OFlags::DIRECTORY)
    .union(OFlags::DSYNC)
    .union(OFlags::EXCL)
    .union(OFlags::NOATIME)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::SYNC)
    .union(OFlags::TMPFILE)
    .union(OFlags::TRUNC);
/// Those that mean something with `O_PATH`.
const PATH_FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

impl<'a> Name<'a> {
    /// What the path leads to; nothing where the kernel answers.
    fn find(&self, follow: bool) -> Result<Option<Found<'a>>, Errno> {
        if follow && self.path == MOUNT_TABLE && self.files.has_mount_table() {
            return Ok(Some(Found::Outside(c"/proc/self/mounts".to_owned())));
        }
        let (root, devices) = (&self.files.place, self.files.devices);
        let asking = Asking { thread: self.thread, root, devices };
        Ok(match asking.place(self.path, follow)? {
            Some(Place::Outside(outer)) => Some(Found::Outside(outer)),
            Some(Place::Inside(path)) => match self.files.memory_at(&path, follow) {
                Some(memory) => Some(Found::Memory(memory)),
                None => Some(Found::Inside(path)),
            },
            None => self.files.memory_at(self.path, follow).map(Found::Memory),
        })
    }

    fn open(&self, found: &Found<'_>, (flags, mode): (i32, u32)) -> Result<Answer, Unanswered> {
        let flags = OFlags::from_bits_retain(flags.cast_unsigned());
        let close_on_exec = flags.contains(OFlags::CLOEXEC);
        // A terminal of the program's must not become this process's.
        let always = OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = match found {
            Found::Memory(memory) => memory.open(flags)?,
            Found::Outside(outer) => {
                rustix::fs::open(outer, flags | always, Mode::from_raw_mode(mode))?
            }
            Found::Inside(path) if flags.contains(OFlags::PATH) => {
                self.files.open_inside(path, (flags & PATH_FLAGS) | OFlags::CLOEXEC, 0)?
            }
            Found::Inside(path) => {
                // Whoever waits here for the other end has everybody else wait.
                let there = OFlags::PATH | OFlags::CLOEXEC;
                let is_fifo = |file: OwnedFd| {
                    let stat = rustix::fs::fstat(file);
                    stat.is_ok_and(|it| FileType::from_raw_mode(it.st_mode) == FileType::Fifo)
                };
                if self.files.open_inside(path, there, 0).is_ok_and(is_fifo) {
                    return Err(Errno::NXIO.into());
                }
                let makes = flags.intersects(OFlags::CREATE) || flags.contains(OFlags::TMPFILE);
                let mode = if makes { mode & 0o7777 & !umask(self.thread) } else { 0 };
                self.files.open_inside(path, (flags & OPEN_FLAGS) | always, mode)?
            }
        };
        Ok(Answer::Descriptor { file, close_on_exec })
    }

    /// Opens a file for its path alone.
    fn look_up(&self, found: &Found<'_>, follow: bool) -> Result<OwnedFd, Unanswered> {
        let flags = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        Ok(match found {
            Found::Memory(memory) => memory.look()?,
            Found::Outside(outer) => rustix::fs::open(outer, flags, Mode::empty())?,
            Found::Inside(path) => self.files.open_inside(path, flags, 0)?,
        })
    }

    fn read_link(
        &self,
        found: &Found<'_>,
        call: &Call,
        (buffer, size): (u64, i32),
    ) -> Result<Answer, Unanswered> {
        let size = usize::try_from(size).ok().filter(|size| *size > 0).ok_or(Errno::INVAL)?;
        let process = || process_of(self.thread).ok_or(Errno::NOENT);
        let text = match found {
            Found::Memory(_) => return Ok(Answer::Continue),
            Found::Outside(outer) if outer.as_c_str() == c"/proc/self" => {
                process()?.to_string().into_bytes()
            }
            Found::Outside(outer) if outer.as_c_str() == c"/proc/thread-self" => {
                format!("{}/task/{}", process()?, self.thread).into_bytes()
            }
            Found::Outside(outer) => {
                let text = rustix::fs::readlink(outer, Vec::new())?.into_bytes();
                kernel_path::inside(&self.files.place, &text).unwrap_or(&text).to_vec()
            }
            Found::Inside(_) => {
                let link = self.look_up(found, false)?;
                rustix::fs::readlinkat(link, "", Vec::new())?.into_bytes()
            }
        };
        let text = &text[..text.len().min(size)];
        write(call, buffer, text)?;
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

fn write(call: &Call, address: u64, bytes: &[u8]) -> Result<Answer, Unanswered> {
    notify::write_memory(call, address, bytes)?;
    Ok(Answer::Value(0))
}

/// Whether a call follows the last part of its path where that is a link.
fn follows(kind: Kind, call: &Call) -> Result<bool, Unanswered> {
    let word = |at: usize| low(call.arguments[at]);
    Ok(match kind {
        Kind::Open { flags } => word(flags) & libc::O_NOFOLLOW == 0,
        Kind::OpenHow => read_how(call)?.0 & libc::O_NOFOLLOW == 0,
        Kind::Create | Kind::Access { .. } => true,
        Kind::ReadLink { .. } => false,
        Kind::Describe { follow, .. } => follow.follows(&call.arguments),
        Kind::DescribeMore => word(2) & libc::AT_SYMLINK_NOFOLLOW == 0,
        Kind::Attributes { follow } => follow,
    })
}

/// The flags and the mode of `struct open_how`, the third argument.
fn read_how(call: &Call) -> Result<(i32, u32), Unanswered> {
    let mut bytes = [0; 16];
    if notify::read_memory(call, call.arguments[2], &mut bytes)? != bytes.len() {
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
