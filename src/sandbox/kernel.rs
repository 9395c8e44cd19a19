//! The system calls that no safe wrapper offers. Every `unsafe` of the crate is in this file and in
//! [`super::notify`].

use std::ffi::{CString, c_char, c_int};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::mount::MountAttrFlags;
use rustix::process::Pid;

/// Which side of a fork the caller is on.
pub(super) enum Fork {
    /// The new process.
    Child,
    /// The old one, which learns the child's id.
    Parent(Pid),
}

/// Starts a child in new namespaces: `fork` for any set of `CLONE_NEW*` flags.
///
/// The caller must be single-threaded: in the child, locks held by other threads stay held.
pub(super) fn fork_into(namespaces: c_int) -> io::Result<Fork> {
    let flags = i64::from(namespaces | libc::SIGCHLD);
    let none: i64 = 0;
    #[expect(unsafe_code, reason = "no safe wrapper forks into namespaces")]
    // SAFETY: without CLONE_VM and with no stack this is fork(2): the child runs on a copy of this
    // stack. The helper has one thread, so that no lock can be held by another one.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    answer(pid)?;
    let pid = i32::try_from(pid).expect("a process id has 32 bits");
    Ok(Pid::from_raw(pid).map_or(Fork::Child, Fork::Parent))
}

/// Moves the calling process, which must be single-threaded, into a new user namespace.
pub(super) fn unshare_user() -> io::Result<()> {
    #[expect(unsafe_code, reason = "rustix marks every unshare as unsafe")]
    // SAFETY: CLONE_NEWUSER shares no memory or descriptor table; it is refused with threads.
    let result = unsafe { libc::unshare(libc::CLONE_NEWUSER) };
    answer(i64::from(result))
}

/// Sets attributes on a mount, and with `recursive` on every mount below it.
pub(super) fn set_mount_attributes(
    mount: impl AsFd,
    attributes: MountAttrFlags,
    recursive: bool,
) -> io::Result<()> {
    let wanted = libc::mount_attr {
        attr_set: u64::from(attributes.bits()),
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let recursion = if recursive { libc::AT_RECURSIVE } else { 0 };
    let (fd, flags) = (mount.as_fd().as_raw_fd(), libc::AT_EMPTY_PATH | recursion);
    let (path, size) = (c"".as_ptr(), size_of::<libc::mount_attr>());
    #[expect(unsafe_code, reason = "rustix has no mount_setattr")]
    // SAFETY: the path is a C string and `wanted` outlives the call, which reads `size` bytes of it.
    let result =
        unsafe { libc::syscall(libc::SYS_mount_setattr, fd, path, flags, &raw const wanted, size) };
    answer(result)
}

/// Marks every descriptor from `first` on as closed by the next `execve`.
pub(super) fn close_on_exec_from(first: u32) -> io::Result<()> {
    let last = u32::MAX;
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    #[expect(unsafe_code, reason = "rustix has no close_range")]
    // SAFETY: the call closes nothing now; owned descriptors of this process stay valid.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    answer(result)
}

/// Replaces this process. Returns only when that failed.
pub(super) fn execute(program: &CString, argv: &[CString], env: &[CString]) -> io::Error {
    let argv = pointers(argv);
    let env = pointers(env);
    #[expect(unsafe_code, reason = "std falls back to a shell where execve says ENOEXEC")]
    // SAFETY: both arrays end with a null pointer and point to C strings that outlive the call.
    let _ = unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// A signal that arrived.
#[derive(Clone, Copy)]
pub(super) struct Signal {
    pub(super) number: i32,
    /// Whether the kernel sent it, as it does for a key on the terminal.
    pub(super) from_terminal: bool,
}

/// Signals as a readable descriptor, in place of handlers.
pub(super) struct Signals(OwnedFd);

impl Signals {
    /// Blocks every signal of this process and opens a descriptor that delivers them.
    pub(super) fn block_all() -> io::Result<Self> {
        Self::of_set(&full_set())
    }

    /// Blocks some signals of this thread and opens a descriptor that delivers them.
    pub(super) fn block(numbers: &[c_int]) -> io::Result<Self> {
        Self::of_set(&set_of(numbers))
    }

    fn of_set(set: &libc::sigset_t) -> io::Result<Self> {
        set_mask(set)?;
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        #[expect(unsafe_code, reason = "rustix has no signalfd")]
        // SAFETY: `set` is an initialised set; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, std::ptr::from_ref(set), flags) };
        answer(i64::from(fd))?;
        #[expect(unsafe_code, reason = "the descriptor is new and has no owner yet")]
        // SAFETY: the kernel just returned it, and nothing else closes it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self(fd))
    }

    /// Takes the next signal that waits, if one does.
    pub(super) fn next(&self) -> io::Result<Option<Signal>> {
        let mut record = [0u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.0, &mut record) {
            Ok(_) => {
                let field = |at: usize| {
                    i32::from_ne_bytes(*record[at..].first_chunk().expect("it is 128 bytes long"))
                };
                // Its number, an error's, and how it was sent.
                let (number, code) = (field(0), field(8));
                Ok(Some(Signal { number, from_terminal: code == libc::SI_KERNEL }))
            }
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Lets every signal through again and gives each its default meaning: what a program expects.
pub(super) fn reset_signals() -> io::Result<()> {
    for number in 1..=libc::SIGRTMAX() {
        #[expect(unsafe_code, reason = "rustix keeps signal dispositions unsafe")]
        // SAFETY: SIG_DFL installs no code; numbers that cannot be set are refused.
        let _ = unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    set_mask(&empty_set())
}

/// Sends any signal by its number.
pub(super) fn send_signal(pid: Pid, number: i32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "rustix knows named signals alone, real-time ones have none")]
    // SAFETY: kill(2) touches no memory of this process.
    let result = unsafe { libc::kill(pid.as_raw_nonzero().get(), number) };
    answer(i64::from(result))
}

/// Raises the loopback device of this process's network namespace.
pub(super) fn raise_loopback() -> io::Result<()> {
    let (family, kind) = (rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM);
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    let up = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).expect("two low bits");
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: up },
    };
    for (letter, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
        *letter = byte.cast_signed();
    }
    let fd = socket.as_raw_fd();
    #[expect(unsafe_code, reason = "no safe wrapper sets the flags of a device")]
    // SAFETY: the request is an initialised `ifreq` that outlives the call.
    let result = unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw const request) };
    answer(i64::from(result))
}

/// Lets some signals of this thread through again.
pub(super) fn unblock(numbers: &[c_int]) -> io::Result<()> {
    change_mask(libc::SIG_UNBLOCK, &set_of(numbers))
}

fn set_mask(set: &libc::sigset_t) -> io::Result<()> {
    change_mask(libc::SIG_SETMASK, set)
}

fn change_mask(how: c_int, set: &libc::sigset_t) -> io::Result<()> {
    #[expect(unsafe_code, reason = "rustix keeps signal masks unsafe")]
    // SAFETY: `set` is initialised, and the old mask is not asked for.
    let result = unsafe { libc::sigprocmask(how, std::ptr::from_ref(set), std::ptr::null_mut()) };
    answer(i64::from(result))
}

fn set_of(numbers: &[c_int]) -> libc::sigset_t {
    let mut set = empty_set();
    for number in numbers {
        #[expect(unsafe_code, reason = "only the C library knows the set's form")]
        // SAFETY: the reference is valid for writes and initialised; odd numbers are refused.
        let _ = unsafe { libc::sigaddset(&raw mut set, *number) };
    }
    set
}

fn empty_set() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    #[expect(unsafe_code, reason = "only the C library knows the set's form")]
    // SAFETY: the pointer is valid for writes; the call fills the whole set.
    let _ = unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    #[expect(unsafe_code, reason = "only the C library knows the set's form")]
    // SAFETY: sigemptyset initialised it; it fails for invalid pointers alone.
    let set = unsafe { set.assume_init() };
    set
}

fn full_set() -> libc::sigset_t {
    let mut set = empty_set();
    #[expect(unsafe_code, reason = "only the C library knows the set's form")]
    // SAFETY: the reference is valid for writes.
    let _ = unsafe { libc::sigfillset(&raw mut set) };
    set
}

fn answer(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
