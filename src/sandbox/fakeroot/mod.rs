//! Owners in a user namespace that holds one id: the calls by which a program gives files away, asks
//! whose they are, makes devices and changes its own user are answered here, from what
//! [`super::owner`] keeps, so that package managers work and a layer gets the owners that they want.
//!
//! ```text
//!   program ── chown, stat, setuid … ──► the kernel waits ──► a thread of process 1 ──► the answer
//!           ── everything else ────────► the kernel
//! ```
//!
//! The filter looks at the call's number alone; a file about which nothing is kept costs one look at its
//! attributes, and the kernel answers. No boundary: a program that races with its own call deceives
//! itself. What the fakeroot writes, it writes to files that it looked up without leaving the root.
//!
//! Known differences to real root: processes that changed their user still have the access of the one
//! id, and `/proc` tells that one; a link that is renamed loses its owner; what they make by `openat2`,
//! `O_TMPFILE`, `mkfifo`, `bind` or through a dangling link is root's, and so is its group.

mod creation;
mod files;
mod ids;
mod outside;
mod table;
pub(super) mod target;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use self::creation::Creation;
use self::files::Form;
pub(super) use self::files::umask;
use self::ids::{Credentials, Registry, Triple};
pub(super) use self::outside::Outside;
pub(super) use self::table::Table;
use self::target::{Target, low, read_string};
use super::channel;
use super::error::{At as _, Attempt, Stage};
use super::identity::{IdMap, Identity};
use super::notify::{self, Answer, Call};
use super::privileges;
use super::protocol::Job;
use super::seccomp::{self, Waiting};

/// What answering needs beyond the one id.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SYS_PTRACE);

/// Whether a job's owners are recorded.
pub(super) fn is_needed(job: &Job) -> bool {
    job.isolation.has_namespaces() && job.id_map == IdMap::Single
}

/// Whether `/proc` numbers processes as this one does: not where it had to be the outer one's.
fn knows_processes() -> bool {
    let own = rustix::process::getpid().as_raw_nonzero().to_string();
    rustix::fs::readlink("/proc/self", Vec::new())
        .is_ok_and(|name| name.as_bytes() == own.as_bytes())
}

/// Has the calls of this process and its children wait for the fakeroot, from now on.
pub(super) fn attach(fakeroot: &UnixStream) -> Attempt<()> {
    let action = || "record the owners of files";
    let program = seccomp::waiting(CALLS.iter().map(|(number, _, waiting)| (*number, *waiting)))?;
    let listener = notify::install(&program).at(Stage::Privileges, action)?;
    let fds = [std::os::fd::AsFd::as_fd(&listener)];
    channel::send(fakeroot, &(), &fds).at(Stage::Privileges, action)
}

/// A fakeroot that is about to begin.
pub(super) struct FakerootSetup {
    far: UnixStream,
    /// What a thread of this process needs; nothing where the helper sees to it.
    own: Option<Own>,
}

struct Own {
    near: UnixStream,
    registry: Registry,
    table: Table,
}

impl FakerootSetup {
    /// Makes ready to answer a process that begins as somebody: here, or by way of a socket to the helper.
    pub(super) fn prepare(
        table: Table,
        identity: &Identity,
        outside: Option<UnixStream>,
    ) -> Attempt<Option<Self>> {
        if knows_processes() {
            let pair = UnixStream::pair().at(Stage::Privileges, || "record the owners of files")?;
            let registry =
                outside::registry_of(identity.uid, identity.gid, identity.groups.clone());
            let own = Own { near: pair.0, registry, table };
            return Ok(Some(Self { far: pair.1, own: Some(own) }));
        }
        let Some(far) = outside else { return Ok(None) };
        outside::ask(&far, identity)?;
        Ok(Some(Self { far, own: None }))
    }

    /// The end for the process whose calls are to be answered.
    pub(super) fn far(&self) -> &UnixStream {
        &self.far
    }

    /// Starts the thread that answers, once that process attaches. No process is forked any more.
    pub(super) fn start(self) -> Attempt<()> {
        let Self { far, own } = self;
        // So that the end of a process that never attaches is seen.
        drop(far);
        let Some(Own { near, registry, table }) = own else { return Ok(()) };
        let work = move || {
            if let Ok(Some(((), mut fds))) = channel::receive::<()>(&near)
                && let Some(listener) = fds.pop()
                && privileges::keep_capabilities(CAPABILITIES).is_ok()
            {
                let listener = Arc::new(listener);
                Fakeroot { listener, registry, table, changed_roots: false }.serve();
            }
        };
        let thread = std::thread::Builder::new().name("fakeroot".to_owned()).spawn(work);
        thread.map(drop).at(Stage::Privileges, || "record the owners of files")
    }
}

/// Answers calls.
struct Fakeroot {
    listener: Arc<OwnedFd>,
    registry: Registry,
    table: Table,
    /// Whether any process has changed its root directory.
    changed_roots: bool,
}

impl Fakeroot {
    fn serve(mut self) {
        notify::wake_at_once(&self.listener);
        // The end of process 1 ends this thread, too.
        while let Ok(Some(call)) = notify::receive(&self.listener) {
            let reply = self.answer(&call).unwrap_or_else(Answer::from);
            notify::respond(&call, reply);
        }
    }

    fn answer(&mut self, call: &Call) -> rustix::io::Result<Answer> {
        let Some((_, kind, _)) = CALLS.iter().find(|(number, ..)| *number == call.number) else {
            return Ok(Answer::Continue);
        };
        let (thread, arguments) = (call.thread, &call.arguments);
        let word = |at: usize| low(arguments[at]);
        match *kind {
            Kind::Owner(place, first) => {
                let target = place.find(call)?;
                let wanted = (id(arguments[first]), id(arguments[first + 1]));
                self.change_owner(thread, &target, wanted)
            }
            Kind::Describe(place, buffer) => {
                let target = place.find(call)?;
                self.describe(call, &target, arguments[buffer], Form::Stat)
            }
            Kind::Statx => {
                let target = Place::At { path: 1, flags: Some(2) }.find(call)?;
                let form = Form::Statx { flags: word(2), mask: word(3).cast_unsigned() };
                self.describe(call, &target, arguments[4], form)
            }
            Kind::Device(place, mode) => {
                let target = place.find(call)?;
                let node = (word(mode).cast_unsigned(), arguments[mode + 1]);
                self.make_device(thread, &target, node)
            }
            Kind::File(place, flags) => {
                let mode = word(flags + 1).cast_unsigned();
                let creation = Creation::File { flags: word(flags), mode };
                self.create(thread, &place.find(call)?, &creation)
            }
            Kind::Creat => {
                let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
                let creation = Creation::File { flags, mode: word(1).cast_unsigned() };
                self.create(thread, &Place::Link(0).find(call)?, &creation)
            }
            Kind::Folder(place, mode) => {
                let creation = Creation::Folder { mode: word(mode).cast_unsigned() };
                self.create(thread, &place.find(call)?, &creation)
            }
            Kind::Symlink(place) => {
                let to = read_string(call, arguments[0])?.into_bytes();
                self.create(thread, &place.find(call)?, &Creation::Link { to })
            }
            Kind::Chroot => {
                self.changed_roots = true;
                Ok(Answer::Continue)
            }
            Kind::Ids(kind) => self.ids(call, kind),
        }
    }

    fn ids(&mut self, call: &Call, kind: Ids) -> rustix::io::Result<Answer> {
        let thread = call.thread;
        let failed = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
        let old = self.registry.of(thread);
        if let Some(answer) = tell(old, call, kind)? {
            // Whoever never changed anything hears it from the kernel, but for the further groups:
            // no namespace of one id has these.
            let known = matches!(kind, Ids::Further) || self.registry.changed(thread).is_some();
            return Ok(if known { answer } else { Answer::Continue });
        }
        let new = changed(old, call, kind)?;
        if new != *old {
            if !call.is_pending() {
                return Err(Errno::SRCH);
            }
            self.registry.change(thread, new).map_err(failed)?;
        }
        Ok(Answer::Value(0))
    }
}

/// In which arguments of a call its file is.
#[derive(Clone, Copy)]
enum Place {
    /// A path, followed to its end.
    Path(usize),
    /// A path whose last part is not followed.
    Link(usize),
    /// A descriptor, the first argument.
    Descriptor,
    /// A path, after the descriptor of a folder; not followed at its end where there are no flags.
    At { path: usize, flags: Option<usize> },
}

impl Place {
    fn find(self, call: &Call) -> rustix::io::Result<Target> {
        let arguments = &call.arguments;
        match self {
            Self::Path(at) => Target::path(call, arguments[at], true),
            Self::Link(at) => Target::path(call, arguments[at], false),
            Self::Descriptor => Ok(Target::descriptor(call.thread, arguments[0])),
            Self::At { path, flags } => {
                let flags = flags.map_or(libc::AT_SYMLINK_NOFOLLOW, |at| low(arguments[at]));
                let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
                let folder = low(arguments[path - 1]).into();
                let target = Target::at(call, folder, arguments[path], follow)?;
                // Else an empty path means nothing.
                if target.is_empty() && flags & libc::AT_EMPTY_PATH == 0 {
                    return Err(Errno::NOENT);
                }
                Ok(target)
            }
        }
    }
}

/// An id of an argument; all ones mean "unchanged".
fn id(argument: u64) -> Option<u32> {
    let id = low(argument).cast_unsigned();
    (id != u32::MAX).then_some(id)
}

/// What a call that asks for ids is told; `None` for one that sets some.
fn tell(who: &Credentials, call: &Call, kind: Ids) -> rustix::io::Result<Option<Answer>> {
    let arguments = &call.arguments;
    let write = |address: u64, ids: &[u32]| {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_ne_bytes()).collect();
        notify::write_memory(call, address, &bytes).map_err(|_| Errno::FAULT)
    };
    let three = |ids: Triple| {
        for (address, id) in arguments.iter().zip([ids.real, ids.effective, ids.saved]) {
            write(*address, &[id])?;
        }
        Ok(Some(Answer::Value(0)))
    };
    let one = |id: u32| Ok(Some(Answer::Value(id.into())));
    match kind {
        Ids::User => one(who.users.real),
        // Setting the ids for files tells the one in force, and changes what only the kernel looks at.
        Ids::EffectiveUser | Ids::SetFileUser => one(who.users.effective),
        Ids::Group => one(who.groups.real),
        Ids::EffectiveGroup | Ids::SetFileGroup => one(who.groups.effective),
        Ids::Users => three(who.users),
        Ids::Groups => three(who.groups),
        Ids::Further => {
            let room = usize::try_from(low(arguments[0])).map_err(|_| Errno::INVAL)?;
            if room != 0 && room < who.further.len() {
                return Err(Errno::INVAL);
            }
            if room != 0 && !who.further.is_empty() {
                write(arguments[1], &who.further)?;
            }
            let count = i64::try_from(who.further.len()).expect("the list is short");
            Ok(Some(Answer::Value(count)))
        }
        _ => Ok(None),
    }
}

/// The credentials after a call that sets some.
fn changed(old: &Credentials, call: &Call, kind: Ids) -> rustix::io::Result<Credentials> {
    let (root, arguments) = (old.is_root(), &call.arguments);
    let [first, second, third] = [0, 1, 2].map(|at: usize| id(arguments[at]));
    let given = |id: Option<u32>| id.ok_or(Errno::INVAL);
    let users =
        |set: Option<Triple>| Ok(Credentials { users: set.ok_or(Errno::PERM)?, ..old.clone() });
    let groups =
        |set: Option<Triple>| Ok(Credentials { groups: set.ok_or(Errno::PERM)?, ..old.clone() });
    match kind {
        Ids::SetUser => users(old.users.set_one(given(first)?, root)),
        Ids::SetGroup => groups(old.groups.set_one(given(first)?, root)),
        Ids::SetTwoUsers => users(old.users.set_two([first, second], root)),
        Ids::SetTwoGroups => groups(old.groups.set_two([first, second], root)),
        Ids::SetUsers => users(old.users.set([first, second, third], root)),
        Ids::SetGroups => groups(old.groups.set([first, second, third], root)),
        _ if !root => Err(Errno::PERM),
        _ => {
            let mut further = read_groups(call, arguments[0], arguments[1])?;
            further.sort_unstable();
            Ok(Credentials { further, ..old.clone() })
        }
    }
}

/// The most groups that the kernel takes.
const MOST_GROUPS: usize = 65536;

fn read_groups(call: &Call, count: u64, address: u64) -> rustix::io::Result<Vec<u32>> {
    let count = usize::try_from(low(count)).map_err(|_| Errno::INVAL)?;
    if count > MOST_GROUPS {
        return Err(Errno::INVAL);
    }
    let mut bytes = vec![0; count * 4];
    if !bytes.is_empty() {
        let read = notify::read_memory(call, address, &mut bytes);
        if !read.is_ok_and(|read| read == count * 4) {
            return Err(Errno::FAULT);
        }
    }
    let words = bytes.chunks_exact(4);
    Ok(words.map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]])).collect())
}

/// What a call that waits does, and in which arguments it says so.
#[derive(Clone, Copy)]
enum Kind {
    /// Sets the owner: the user's id, and after it the group's.
    Owner(Place, usize),
    /// Describes a file, in a buffer.
    Describe(Place, usize),
    Statx,
    /// Makes a device: the mode, and after it the number.
    Device(Place, usize),
    /// Makes a file: the flags, and after them the mode.
    File(Place, usize),
    Creat,
    /// Makes a folder: the mode.
    Folder(Place, usize),
    Symlink(Place),
    Chroot,
    Ids(Ids),
}

/// What a call does with the ids of its process.
#[derive(Clone, Copy)]
enum Ids {
    User,
    EffectiveUser,
    Group,
    EffectiveGroup,
    Users,
    Groups,
    Further,
    SetUser,
    SetGroup,
    SetTwoUsers,
    SetTwoGroups,
    SetUsers,
    SetGroups,
    SetFurther,
    SetFileUser,
    SetFileGroup,
}

const AT: Place = Place::At { path: 1, flags: None };
const AT_WITH_FLAGS_3: Place = Place::At { path: 1, flags: Some(3) };
const AT_WITH_FLAGS_4: Place = Place::At { path: 1, flags: Some(4) };

/// The calls that wait.
const CALLS: &[(i64, Kind, Waiting)] = &[
    (libc::SYS_fchown, Kind::Owner(Place::Descriptor, 1), Waiting::Always),
    (libc::SYS_fchownat, Kind::Owner(AT_WITH_FLAGS_4, 2), Waiting::Always),
    (libc::SYS_fstat, Kind::Describe(Place::Descriptor, 1), Waiting::Always),
    (libc::SYS_newfstatat, Kind::Describe(AT_WITH_FLAGS_3, 2), Waiting::Always),
    (libc::SYS_statx, Kind::Statx, Waiting::Always),
    (libc::SYS_mknodat, Kind::Device(AT, 2), Waiting::ForDevice { mode: 2 }),
    (libc::SYS_openat, Kind::File(AT, 2), Waiting::ForNewFile { flags: 2 }),
    (libc::SYS_mkdirat, Kind::Folder(AT, 2), Waiting::Always),
    (libc::SYS_symlinkat, Kind::Symlink(Place::At { path: 2, flags: None }), Waiting::Always),
    (libc::SYS_chroot, Kind::Chroot, Waiting::Always),
    (libc::SYS_getuid, Kind::Ids(Ids::User), Waiting::Always),
    (libc::SYS_geteuid, Kind::Ids(Ids::EffectiveUser), Waiting::Always),
    (libc::SYS_getgid, Kind::Ids(Ids::Group), Waiting::Always),
    (libc::SYS_getegid, Kind::Ids(Ids::EffectiveGroup), Waiting::Always),
    (libc::SYS_getresuid, Kind::Ids(Ids::Users), Waiting::Always),
    (libc::SYS_getresgid, Kind::Ids(Ids::Groups), Waiting::Always),
    (libc::SYS_getgroups, Kind::Ids(Ids::Further), Waiting::Always),
    (libc::SYS_setuid, Kind::Ids(Ids::SetUser), Waiting::Always),
    (libc::SYS_setgid, Kind::Ids(Ids::SetGroup), Waiting::Always),
    (libc::SYS_setreuid, Kind::Ids(Ids::SetTwoUsers), Waiting::Always),
    (libc::SYS_setregid, Kind::Ids(Ids::SetTwoGroups), Waiting::Always),
    (libc::SYS_setresuid, Kind::Ids(Ids::SetUsers), Waiting::Always),
    (libc::SYS_setresgid, Kind::Ids(Ids::SetGroups), Waiting::Always),
    (libc::SYS_setgroups, Kind::Ids(Ids::SetFurther), Waiting::Always),
    (libc::SYS_setfsuid, Kind::Ids(Ids::SetFileUser), Waiting::Always),
    (libc::SYS_setfsgid, Kind::Ids(Ids::SetFileGroup), Waiting::Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chown, Kind::Owner(Place::Path(0), 1), Waiting::Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lchown, Kind::Owner(Place::Link(0), 1), Waiting::Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_stat, Kind::Describe(Place::Path(0), 1), Waiting::Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lstat, Kind::Describe(Place::Link(0), 1), Waiting::Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, Kind::File(Place::Link(0), 1), Waiting::ForNewFile { flags: 1 }),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, Kind::Creat, Waiting::Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, Kind::Folder(Place::Link(0), 1), Waiting::Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_symlink, Kind::Symlink(Place::Link(1)), Waiting::Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, Kind::Device(Place::Link(0), 1), Waiting::ForDevice { mode: 1 }),
];
