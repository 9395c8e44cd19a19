//! System calls that wait for an answer of another process: the kernel's interface of the fakeroot.
//! With [`super::kernel`] the only `unsafe` code. See seccomp_unotify(2).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use seccompiler::sock_filter;

/// A system call that waits.
pub(super) struct Call {
    id: u64,
    listener: Arc<OwnedFd>,
    /// The thread that makes it.
    pub(super) thread: u32,
    pub(super) number: i64,
    pub(super) arguments: [u64; 6],
}

impl Call {
    /// Whether it still waits. While it does its thread is the one that made it; after that the number of the
    /// thread may be another one's.
    pub(super) fn is_pending(&self) -> bool {
        let request = libc::SECCOMP_IOCTL_NOTIF_ID_VALID;
        #[expect(unsafe_code, reason = "no safe wrapper makes this request")]
        // SAFETY: the kernel reads the number, which outlives the call.
        let result = unsafe { libc::ioctl(self.listener.as_raw_fd(), request, &raw const self.id) };
        result == 0
    }

    fn check(&self) -> io::Result<()> {
        if self.is_pending() { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
    }
}

/// What becomes of a call.
#[derive(Debug)]
pub(super) enum Answer {
    /// It returns this.
    Value(i64),
    /// It returns a descriptor of this file in its process.
    Descriptor { file: OwnedFd, close_on_exec: bool },
    /// It fails with this number.
    Error(i32),
    /// The kernel carries it out.
    Continue,
}

impl From<rustix::io::Errno> for Answer {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Error(error.raw_os_error())
    }
}

/// Hands calls on the kernel's wait list to whoever holds the descriptor that is returned: all calls
/// of this thread and its children for which the program says so. Needs `no_new_privs`.
pub(super) fn install(program: &[sock_filter]) -> io::Result<OwnedFd> {
    // With the second flag only a fatal signal disturbs a call that is being answered: programs of
    // Go interrupt themselves all the time. Before Linux 5.19 there is none.
    let plain = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let fd = install_with(program, plain | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
    match fd {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => install_with(program, plain),
        result => result,
    }
}

fn install_with(program: &[sock_filter], flags: libc::c_ulong) -> io::Result<OwnedFd> {
    let length = libc::c_ushort::try_from(program.len()).expect("the list is short");
    // Both structures are the kernel's `struct sock_filter`.
    let filter = program.as_ptr().cast::<libc::sock_filter>().cast_mut();
    let form = libc::sock_fprog { len: length, filter };
    let operation = libc::SECCOMP_SET_MODE_FILTER;
    #[expect(unsafe_code, reason = "no safe wrapper installs a listener")]
    // SAFETY: `form` points to `length` instructions that outlive the call, which copies them.
    let fd = unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, &raw const form) };
    answer(fd)?;
    let fd = i32::try_from(fd).expect("a descriptor has 32 bits");
    #[expect(unsafe_code, reason = "the descriptor is new and has no owner yet")]
    // SAFETY: the kernel just returned it, and nothing else closes it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(fd)
}

/// Tells the kernel to switch to whoever is answered at once, on the same processor.
pub(super) fn wake_at_once(listener: &OwnedFd) {
    const SYNC_WAKE_UP: libc::c_ulong = 1;
    let request = libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS;
    #[expect(unsafe_code, reason = "no safe wrapper makes this request")]
    // SAFETY: the request takes a number. Kernels before 6.6 refuse it, which is no harm.
    let _ = unsafe { libc::ioctl(listener.as_raw_fd(), request, SYNC_WAKE_UP) };
}

/// Waits for the next call. `None` when nobody is left who could make one.
pub(super) fn receive(listener: &Arc<OwnedFd>) -> io::Result<Option<Call>> {
    loop {
        #[expect(unsafe_code, reason = "the kernel asks for zeroes")]
        // SAFETY: the structure is made of integers alone.
        let mut record: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        let request = libc::SECCOMP_IOCTL_NOTIF_RECV;
        #[expect(unsafe_code, reason = "no safe wrapper makes this request")]
        // SAFETY: the kernel fills `record`, which is of the type that the request names.
        let result = unsafe { libc::ioctl(listener.as_raw_fd(), request, &raw mut record) };
        match answer(i64::from(result)) {
            Ok(()) => {
                let number = i64::from(record.data.nr);
                let (id, thread, arguments) = (record.id, record.pid, record.data.args);
                let listener = listener.clone();
                return Ok(Some(Call { id, listener, thread, number, arguments }));
            }
            // The caller was killed before it could be asked, or this thread was interrupted.
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                if is_abandoned(listener) {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_abandoned(listener: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut watched = [PollFd::new(listener, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut watched, Some(&at_once)).is_err() || watched[0].revents().contains(PollFlags::HUP)
}

/// Answers a call. One whose maker has gone needs none.
pub(super) fn respond(call: &Call, reply: Answer) {
    let (val, error, flags) = match reply {
        Answer::Value(value) => (value, 0, 0),
        Answer::Error(number) => (0, -number, 0),
        Answer::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE),
        Answer::Descriptor { file, close_on_exec } => {
            respond_with_descriptor(call, &file, close_on_exec);
            return;
        }
    };
    let flags = u32::try_from(flags).expect("one low bit");
    let response = libc::seccomp_notif_resp { id: call.id, val, error, flags };
    let request = libc::SECCOMP_IOCTL_NOTIF_SEND;
    #[expect(unsafe_code, reason = "no safe wrapper makes this request")]
    // SAFETY: `response` is of the type that the request names and outlives the call.
    let _ = unsafe { libc::ioctl(call.listener.as_raw_fd(), request, &raw const response) };
}

/// Gives the maker of a call a descriptor, which the call returns. The kernel does so only while the call
/// waits.
fn respond_with_descriptor(call: &Call, fd: &OwnedFd, close_on_exec: bool) {
    let flag = u32::try_from(libc::SECCOMP_ADDFD_FLAG_SEND).expect("one low bit");
    let newfd_flags = if close_on_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 };
    let srcfd = fd.as_raw_fd().cast_unsigned();
    let (id, newfd) = (call.id, 0);
    let request = libc::SECCOMP_IOCTL_NOTIF_ADDFD;
    let addition = libc::seccomp_notif_addfd { id, flags: flag, srcfd, newfd, newfd_flags };
    #[expect(unsafe_code, reason = "no safe wrapper makes this request")]
    // SAFETY: `addition` is of the type that the request names and outlives the call.
    let result = unsafe { libc::ioctl(call.listener.as_raw_fd(), request, &raw const addition) };
    if result < 0 {
        let number = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        respond(call, Answer::Error(number));
    }
}

/// Reads memory of the process that makes a call; less than asked for where the rest does not exist. Errs
/// where the call is over: what was read may be another one's.
pub(super) fn read_memory(call: &Call, address: u64, into: &mut [u8]) -> io::Result<usize> {
    let thread = call.thread;
    let count = or_by_file(read_directly(thread, address, into), || {
        let memory = fs_err::File::open(format!("/proc/{thread}/mem"))?;
        memory.file().read_at(into, address)
    })?;
    call.check().map(|()| count)
}

/// Writes memory of the process that makes a call, the whole slice. Errs where the call is over.
pub(super) fn write_memory(call: &Call, address: u64, from: &[u8]) -> io::Result<()> {
    let thread = call.thread;
    call.check()?;
    or_by_file(write_directly(thread, address, from), || {
        let memory = fs_err::OpenOptions::new().write(true).open(format!("/proc/{thread}/mem"))?;
        // Of what was opened it is known now whose it is.
        call.check()?;
        memory.file().write_all_at(from, address)
    })
}

/// The filters of some containers refuse the calls that reach memory directly to everybody, while the
/// file of it is refused to other users alone.
fn or_by_file<T>(
    directly: io::Result<T>,
    by_file: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let refused = [Some(libc::EPERM), Some(libc::ENOSYS)];
    match directly {
        Err(error) if refused.contains(&error.raw_os_error()) => {}
        result => return result,
    }
    // What the file says of an address where there is nothing.
    by_file().map_err(|error| match error.raw_os_error() {
        Some(libc::EIO) => io::Error::from_raw_os_error(libc::EFAULT),
        _ => error,
    })
}

fn read_directly(thread: u32, address: u64, into: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = remote(address, into.len())?;
    let pid = thread.cast_signed();
    #[expect(unsafe_code, reason = "no safe wrapper reads another process")]
    // SAFETY: `local` describes a slice that is borrowed for writing; the other is not ours.
    let count =
        unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

fn write_directly(thread: u32, address: u64, from: &[u8]) -> io::Result<()> {
    let local = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() };
    let remote = remote(address, from.len())?;
    let pid = thread.cast_signed();
    #[expect(unsafe_code, reason = "no safe wrapper writes another process")]
    // SAFETY: `local` describes a borrowed slice that the call only reads.
    let count =
        unsafe { libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) };
    match usize::try_from(count) {
        Ok(written) if written == from.len() => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

fn remote(address: u64, length: usize) -> io::Result<libc::iovec> {
    let address = usize::try_from(address);
    let address = address.map_err(|_| io::Error::from_raw_os_error(libc::EFAULT))?;
    Ok(libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: length })
}

/// The bytes that `stat` gives for an open file.
pub(super) fn raw_stat(fd: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size_of::<libc::stat>()];
    let (number, flags) = (fd.as_raw_fd(), libc::AT_EMPTY_PATH);
    let (call, path, buffer) = (libc::SYS_newfstatat, c"".as_ptr(), bytes.as_mut_ptr());
    #[expect(unsafe_code, reason = "safe wrappers give fields, not the kernel's bytes")]
    // SAFETY: the path is a C string, and the buffer has the size that the kernel fills.
    let result = unsafe { libc::syscall(call, number, path, buffer, flags) };
    answer(result).map(|()| bytes)
}

/// The bytes that `statx` gives for an open file.
pub(super) fn raw_statx(fd: &OwnedFd, flags: i32, mask: u32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size_of::<libc::statx>()];
    let flags = (flags & libc::AT_STATX_SYNC_TYPE) | libc::AT_EMPTY_PATH;
    let (number, path, buffer) = (fd.as_raw_fd(), c"".as_ptr(), bytes.as_mut_ptr());
    #[expect(unsafe_code, reason = "safe wrappers give fields, not the kernel's bytes")]
    // SAFETY: the path is a C string, and the buffer has the size that the kernel fills.
    let result = unsafe { libc::syscall(libc::SYS_statx, number, path, flags, mask, buffer) };
    answer(result).map(|()| bytes)
}

/// Whether an extended attribute may be there: whether the kernel says anything but that it is not.
pub(super) fn has_attribute(path: &CStr, name: &CStr, follow: bool) -> bool {
    let get = if follow { libc::getxattr } else { libc::lgetxattr };
    #[expect(unsafe_code, reason = "the safe wrapper cannot ask without a buffer")]
    // SAFETY: both are C strings, and without a size nothing is written.
    let result = unsafe { get(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) };
    result >= 0
}

fn answer(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The time that another process may run on real-time terms: the current limit and the greatest.
pub(super) fn realtime_limit(thread: u32) -> io::Result<(u64, u64)> {
    let mut found = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let pid = thread.cast_signed();
    #[expect(unsafe_code, reason = "the safe wrapper cannot ask without setting")]
    // SAFETY: nothing is set, and `found` is valid for writes.
    let result =
        unsafe { libc::prlimit64(pid, libc::RLIMIT_RTTIME, std::ptr::null(), &raw mut found) };
    answer(i64::from(result))?;
    Ok((found.rlim_cur, found.rlim_max))
}

/// Sets the current limit of [`realtime_limit`].
pub(super) fn set_realtime_limit(thread: u32, current: u64, greatest: u64) -> io::Result<()> {
    let wanted = libc::rlimit64 { rlim_cur: current, rlim_max: greatest };
    let pid = thread.cast_signed();
    #[expect(unsafe_code, reason = "the safe wrapper knows process ids alone")]
    // SAFETY: `wanted` outlives the call, and the old limit is not asked for.
    let result = unsafe {
        libc::prlimit64(pid, libc::RLIMIT_RTTIME, &raw const wanted, std::ptr::null_mut())
    };
    answer(i64::from(result))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has `getppid` of a thread wait; answers where the thread is, and how to end it.
    fn waiting_call() -> (Arc<OwnedFd>, std::thread::JoinHandle<i32>) {
        let (send, receive) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let op = |code: u32, jt, jf, k: u32| {
                let code = u16::try_from(code).unwrap();
                sock_filter { code, jt, jf, k }
            };
            let number = u32::try_from(libc::SYS_getppid).unwrap();
            let program = [
                op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
                op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
                op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
                op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
            ];
            rustix::thread::set_no_new_privs(true).unwrap();
            send.send(install(&program).unwrap()).unwrap();
            rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get())
        });
        (Arc::new(receive.recv().unwrap()), thread)
    }

    #[test]
    fn memory_of_a_process_whose_call_is_over_is_left_alone() {
        let (listener, thread) = waiting_call();
        let call = receive(&listener).unwrap().unwrap();
        let place = Box::new(*b"before");
        let address = std::ptr::from_ref(&*place) as u64;
        let mut found = [0; 6];
        assert!(call.is_pending());
        assert_eq!(read_memory(&call, address, &mut found).unwrap(), 6);
        assert_eq!(&found, b"before");
        write_memory(&call, address, b"during").unwrap();
        respond(&call, Answer::Value(7));
        assert_eq!(thread.join().unwrap(), 7);
        assert!(!call.is_pending());
        let over = Some(libc::ESRCH);
        assert_eq!(read_memory(&call, address, &mut found).unwrap_err().raw_os_error(), over);
        assert_eq!(write_memory(&call, address, b"after!").unwrap_err().raw_os_error(), over);
        let place = std::hint::black_box(place);
        assert_eq!(&*place, b"during");
    }

    #[test]
    fn memory_is_reached_by_its_file_where_the_direct_way_is_refused() {
        let thread = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        let refused = || Err(io::Error::from_raw_os_error(libc::EPERM));
        let here = b"text".to_vec();
        let address = here.as_ptr() as u64;
        let mut found = [0; 4];
        let memory = || fs_err::File::open(format!("/proc/{thread}/mem"));
        let count = or_by_file(refused(), || memory()?.file().read_at(&mut found, address));
        assert_eq!((count.unwrap(), &found), (4, b"text"));
        let mut byte = [0];
        let nowhere = or_by_file(refused(), || memory()?.file().read_at(&mut byte, 0));
        assert_eq!(nowhere.unwrap_err().raw_os_error(), Some(libc::EFAULT));
        // Any other failure is the answer.
        let failed = || Err::<(), _>(io::Error::from_raw_os_error(libc::ESRCH));
        let other = or_by_file(failed(), || panic!("it is not asked"));
        assert_eq!(other.unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
