//! Paths in a root file system in which nothing is mounted that stand for files of the container around
//! it: the kernel's own, and those of terminals.

use std::borrow::Cow;
use std::ffi::CString;

/// The devices that every program may use: their names and numbers.
pub(super) const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// What is mounted, as a process sees it.
const MOUNT_TABLES: [&str; 3] = ["/mounts", "/mountinfo", "/mountstats"];

/// Where a program's devices are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Devices {
    /// In its root file system.
    Made,
    /// In the container's `/dev`: none can be made or used in the root file system.
    Answered,
}

/// A path of a thread in the root file system at `root`, from the top of that. None for one that begins
/// elsewhere, or in a folder that nobody else may look for.
pub(super) fn absolute<'a>(
    root: &[u8],
    thread: u32,
    (folder, path): (i32, &'a [u8]),
) -> Option<Cow<'a, [u8]>> {
    if path.starts_with(b"/") {
        return Some(plain(Cow::Borrowed(path)));
    }
    let link = match folder {
        libc::AT_FDCWD => format!("/proc/{thread}/cwd"),
        number => format!("/proc/{thread}/fd/{number}"),
    };
    let folder = rustix::fs::readlink(link, Vec::new()).ok()?.into_bytes();
    let mut full = inside(root, &folder)?.to_vec();
    if full != b"/" {
        full.push(b'/');
    }
    full.extend_from_slice(path);
    Some(plain(Cow::Owned(full)))
}

/// The same path without parts that mean nothing. A slash at the end does.
fn plain(path: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    if !path.windows(2).any(|pair| pair == b"//" || pair == b"/.") {
        return path;
    }
    let parts = path.split(|byte| *byte == b'/');
    let parts = parts.filter(|part| !part.is_empty() && *part != b".");
    let mut text = parts.fold(Vec::new(), |text, part| [text.as_slice(), b"/", part].concat());
    if text.is_empty() || path.ends_with(b"/") {
        text.push(b'/');
    }
    Cow::Owned(text)
}

/// A path of this process as one in the root file system at `root` sees it.
pub(super) fn inside<'a>(root: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    match path.strip_prefix(root)? {
        b"" => Some(b"/"),
        rest => rest.starts_with(b"/").then_some(rest),
    }
}

/// The path outside that stands for one of a process; none for all that is the root file system's own.
///
/// Links in `/dev` are followed only where the call follows the last part of its path.
pub(super) fn outer(thread: u32, path: &[u8], follow: bool, devices: Devices) -> Option<CString> {
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
        // For the process itself, in its changed root directory, nothing would be mounted.
        if let Some(table) = MOUNT_TABLES.iter().find(|table| rest.ends_with(table.as_bytes())) {
            return CString::new(format!("/proc/self{table}")).ok();
        }
        let own_ones = [("/self", ""), ("/net", "/net")];
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
    let terminals = path == b"/dev/ptmx" && follow || below("/dev/pts").is_some();
    if terminals || devices == Devices::Answered && is_device(path) {
        return CString::new(path).ok();
    }
    let streams = [("/dev/stdin", "/fd/0"), ("/dev/stdout", "/fd/1"), ("/dev/stderr", "/fd/2")];
    if let Some((_, file)) = streams.iter().find(|(name, _)| name.as_bytes() == path && follow) {
        return own(file.as_bytes());
    }
    let tail = below("/dev/fd")?;
    (follow || tail.len() > 1).then(|| own(&[b"/fd", tail].concat())).flatten()
}

/// Whether a path is that of one of the devices that every program may use.
fn is_device(path: &[u8]) -> bool {
    let name = path.strip_prefix(b"/dev/").unwrap_or_default();
    DEVICES.iter().any(|(device, ..)| device.as_bytes() == name)
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
pub(super) fn process_of(thread: u32) -> Option<u32> {
    let status = fs_err::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

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
            ("/proc/mounts", true, plain("/proc/self/mounts")),
            ("/proc/self/mountinfo", true, plain("/proc/self/mountinfo")),
            ("/proc/7/mountinfo", true, plain("/proc/self/mountinfo")),
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
            ("/dev/ptmx", true, plain("/dev/ptmx")),
            ("/dev/ptmx", false, None),
            ("/dev/pts/0", false, plain("/dev/pts/0")),
            ("/process", true, None),
            ("/proc/self/../../etc/passwd", true, None),
            ("/proc/..", true, None),
            ("/proc/1/../cpuinfo", true, plain("/proc/1/../cpuinfo")),
            ("/proc/self/..", true, own("/..")),
            ("proc/self", true, None),
            ("/etc/passwd", true, None),
        ];
        for (path, follow, expected) in cases {
            let found = outer(thread, path.as_bytes(), follow, Devices::Made);
            let found = found.map(|path| path.into_string().unwrap());
            assert_eq!(found, expected, "{path} {follow}");
        }
    }

    #[test]
    fn devices_are_the_containers_where_none_can_be_made() {
        for (path, expected) in [("/dev/null", true), ("/dev/tty", true), ("/dev/sda", false)] {
            let found = outer(1, path.as_bytes(), true, Devices::Answered);
            assert_eq!(found.is_some(), expected, "{path}");
        }
    }

    #[test]
    fn a_relative_path_begins_where_its_process_is() {
        let folder = tempfile::tempdir().unwrap();
        let opened = fs_err::File::open(folder.path()).unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&opened);
        let thread = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        let name = folder.path().file_name().unwrap().to_str().unwrap();
        let root = folder.path().parent().unwrap().to_str().unwrap().as_bytes();
        let found = absolute(root, thread, (number, b"a/b")).unwrap();
        assert_eq!(String::from_utf8_lossy(&found), format!("/{name}/a/b"));
        let top = folder.path().to_str().unwrap().as_bytes();
        assert_eq!(&*absolute(top, thread, (number, b"a")).unwrap(), b"/a");
        assert_eq!(absolute(b"/elsewhere", thread, (number, b"a")), None);
        for (path, expected) in
            [("/x", "/x"), ("//proc/./self/", "/proc/self/"), ("/.", "/"), ("/.x/..", "/.x/..")]
        {
            let found = absolute(root, thread, (number, path.as_bytes())).unwrap();
            assert_eq!(String::from_utf8_lossy(&found), expected);
        }
    }

    #[test]
    fn a_link_out_of_the_root_file_system_is_none_of_it() {
        for (path, expected) in [
            ("/store/fs/usr/bin/go", Some("/usr/bin/go")),
            ("/store/fs", Some("/")),
            ("/store/fs2/x", None),
            ("pipe:[7]", None),
        ] {
            let found = inside(b"/store/fs", path.as_bytes());
            assert_eq!(found, expected.map(str::as_bytes));
        }
    }
}
