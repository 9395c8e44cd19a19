//! Paths in a root file system in which nothing is mounted that stand for files of the container around
//! it: the kernel's own, and those of terminals.
//!
//! ```text
//!   /proc/self/cwd/../f ──► the folder that the link leads to, in the root file system ──► /src/../f there
//!   /proc/self/fd/3     ──► /proc/NUMBER/fd/3 of the container
//!   /proc/1/root/etc/f  ──► refused: process 1, its helper, and what is no process of the step
//! ```
//!
//! What is left of a path behind a link of `/proc` that jumps is looked up as the program would, in its root
//! file system: links and `..` in it lead nowhere else.

use std::borrow::Cow;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::io::Errno;

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
const MOUNT_TABLES: [&str; 3] = ["mounts", "mountinfo", "mountstats"];

/// What everybody may know of any process.
const KNOWN: [&[u8]; 13] = [
    b"cgroup",
    b"cmdline",
    b"comm",
    b"cpuset",
    b"limits",
    b"loginuid",
    b"oom_score",
    b"oom_score_adj",
    b"sched",
    b"stat",
    b"statm",
    b"status",
    b"task",
];

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

/// Where a path leads that is not the root file system's own.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To this path of the container.
    Outside(CString),
    /// To this path of the root file system, through a link of the kernel's that is not there.
    Inside(Vec<u8>),
}

/// Who asks, and where from.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) thread: u32,
    /// Where the root file system is, as this process sees it.
    pub(super) root: &'a [u8],
    pub(super) devices: Devices,
}

/// As many links of the kernel's as one path may lead through.
const MOST_LINKS: usize = 40;

impl Asking<'_> {
    /// Where a path leads; nothing for one that is the root file system's own.
    ///
    /// Links in `/dev` are followed only where the call follows the last part of its path.
    pub(super) fn place(self, path: &[u8], follow: bool) -> Result<Option<Place>, Errno> {
        let mut path = Cow::Borrowed(path);
        for jumps in 0..MOST_LINKS {
            match self.step(&path, follow)? {
                Step::Outside(outer) => return Ok(Some(Place::Outside(outer))),
                Step::Elsewhere(other) => path = Cow::Owned(other),
                Step::Own if jumps == 0 => return Ok(None),
                Step::Own => return Ok(Some(Place::Inside(path.into_owned()))),
            }
        }
        Err(Errno::LOOP)
    }

    fn step(self, path: &[u8], follow: bool) -> Result<Step, Errno> {
        if let Some(rest) = below(path, "/proc") {
            return self.proc(rest, follow);
        }
        if below(path, "/sys").is_some() {
            return plain_below(path, "/sys");
        }
        if !path.starts_with(b"/dev") {
            return Ok(Step::Own);
        }
        if below(path, "/dev/pts").is_some() {
            return plain_below(path, "/dev/pts");
        }
        let is_here = self.devices == Devices::Answered && is_device(path);
        if is_here || path == b"/dev/ptmx" && follow {
            return outside(path);
        }
        let streams = [("/dev/stdin", "0"), ("/dev/stdout", "1"), ("/dev/stderr", "2")];
        if let Some((_, number)) =
            streams.iter().find(|(name, _)| name.as_bytes() == path && follow)
        {
            return Ok(Step::Elsewhere(format!("/proc/self/fd/{number}").into_bytes()));
        }
        Ok(match below(path, "/dev/fd") {
            Some(tail) if follow || tail.len() > 1 => {
                Step::Elsewhere([b"/proc/self/fd", tail].concat())
            }
            _ => Step::Own,
        })
    }

    /// What is below `/proc`, part by part.
    fn proc(self, rest: &[u8], follow: bool) -> Result<Step, Errno> {
        let process = || process_of(self.thread).ok_or(Errno::NOENT);
        let is_folder = rest.ends_with(b"/");
        let parts: Vec<&[u8]> = parts_of(rest);
        let mut at: Vec<Vec<u8>> = Vec::new();
        for (index, part) in parts.iter().copied().enumerate() {
            let is_last = index + 1 == parts.len();
            let ends_here = is_last && !is_folder;
            if part == b".." {
                if at.pop().is_none() {
                    return Ok(Step::Elsewhere(joined(b"", &parts[index + 1..], is_folder)));
                }
                continue;
            }
            let words: Vec<String> = match part {
                // The link itself is as good as any process's.
                b"self" | b"thread-self" if at.is_empty() && ends_here && !follow => {
                    return outside(&[b"/proc/", part].concat());
                }
                b"self" if at.is_empty() => vec![process()?.to_string()],
                b"thread-self" if at.is_empty() => {
                    vec![process()?.to_string(), "task".to_owned(), self.thread.to_string()]
                }
                b"net" if at.is_empty() && (!is_last || follow) => {
                    vec![process()?.to_string(), "net".to_owned()]
                }
                _ => Vec::new(),
            };
            if words.is_empty() {
                at.push(part.to_vec());
            } else {
                at.extend(words.into_iter().map(String::into_bytes));
            }
            if !ends_here && is_jump(&at) {
                check(&at)?;
                return self.jump(&at, &parts[index + 1..], is_folder);
            }
        }
        check(&at)?;
        // For the process itself, in its changed root directory, nothing would be mounted.
        if let Some(table) = mount_table(&at) {
            return outside(&[b"/proc/self/", table].concat());
        }
        let names: Vec<&[u8]> = at.iter().map(Vec::as_slice).collect();
        outside(&joined(b"/proc", &names, is_folder))
    }

    /// Where the rest of a path leads from the folder that a link of the kernel's leads to.
    fn jump(self, link: &[Vec<u8>], rest: &[&[u8]], is_folder: bool) -> Result<Step, Errno> {
        let names: Vec<&[u8]> = link.iter().map(Vec::as_slice).collect();
        let folder = rustix::fs::readlink(path_of(&joined(b"/proc", &names, false)), Vec::new())?;
        let folder = folder.as_bytes();
        let from = match inside(self.root, folder) {
            Some(b"/") => b"",
            Some(folder) => folder,
            // It was opened by an answer.
            None if ["/proc", "/sys", "/dev/pts"]
                .iter()
                .any(|top| below(folder, top).is_some()) =>
            {
                folder
            }
            // What has no path has nothing in it.
            None if !folder.starts_with(b"/") => return Err(Errno::NOTDIR),
            None => return Err(Errno::ACCESS),
        };
        Ok(Step::Elsewhere(joined(from, rest, is_folder)))
    }
}

/// Refuses what another process than one of the program's own has, but what everybody may know of any.
fn check(at: &[Vec<u8>]) -> Result<(), Errno> {
    let Some((first, rest)) = at.split_first() else { return Ok(()) };
    let Some(number) = number(first) else { return Ok(()) };
    let named = match rest {
        [task, _, rest @ ..] if task == b"task" => rest.first(),
        rest => rest.first(),
    };
    let is_known = named.is_none_or(|name| KNOWN.contains(&name.as_slice()));
    if is_known || mount_table(at).is_some() || process_of(number).is_none_or(is_of_step) {
        return Ok(());
    }
    Err(Errno::ACCESS)
}

/// What a path comes to at first sight.
enum Step {
    Own,
    Outside(CString),
    /// The same as another path.
    Elsewhere(Vec<u8>),
}

/// Whether a process is one that process 1, which this is, started; neither this nor the helper.
fn is_of_step(process: u32) -> bool {
    let own = rustix::process::getpid().as_raw_nonzero().get().cast_unsigned();
    let helper = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    let mut at = process;
    // A chain of parents is no longer than there are processes.
    for _ in 0..1 << 15 {
        if at == own || Some(at) == helper {
            return at != process;
        }
        match parent_of(at) {
            Some(parent) if parent > 1 => at = parent,
            Some(1) if own == 1 || helper == Some(1) => at = 1,
            _ => return false,
        }
    }
    false
}

/// Whether a path below `/proc` is one of the links that lead to what a process has open.
fn is_jump(at: &[Vec<u8>]) -> bool {
    let Some((first, rest)) = at.split_first() else { return false };
    if number(first).is_none() {
        return false;
    }
    let rest = match rest {
        [task, thread, rest @ ..] if task == b"task" && number(thread).is_some() => rest,
        rest => rest,
    };
    match rest {
        [name] => [&b"cwd"[..], b"root", b"exe"].contains(&name.as_slice()),
        [folder, _] => [&b"fd"[..], b"map_files", b"ns"].contains(&folder.as_slice()),
        _ => false,
    }
}

/// The name of the table of mounts that a path below `/proc` is.
fn mount_table(at: &[Vec<u8>]) -> Option<&[u8]> {
    let (name, before) = at.split_last()?;
    let of_process = match before {
        [process] => number(process).is_some(),
        [process, task, thread] => {
            number(process).is_some() && task == b"task" && number(thread).is_some()
        }
        [] => name == b"mounts",
        _ => false,
    };
    let is_table = MOUNT_TABLES.iter().any(|table| table.as_bytes() == name.as_slice());
    (of_process && is_table).then_some(name.as_slice())
}

fn number(name: &[u8]) -> Option<u32> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

/// A path below one of the container's folders, which must not go up from it.
fn plain_below(path: &[u8], folder: &str) -> Result<Step, Errno> {
    let mut depth = 0_usize;
    for part in parts_of(&path[folder.len()..]) {
        match (part, depth) {
            (b"..", 0) => return Ok(Step::Own),
            (b"..", _) => depth -= 1,
            _ => depth += 1,
        }
    }
    outside(path)
}

/// The rest of a path below a folder.
fn below<'a>(path: &'a [u8], folder: &str) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(folder.as_bytes())?;
    (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
}

fn outside(path: &[u8]) -> Result<Step, Errno> {
    CString::new(path).map(Step::Outside).map_err(|_| Errno::INVAL)
}

fn parts_of(path: &[u8]) -> Vec<&[u8]> {
    path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b".")).collect()
}

fn joined(folder: &[u8], parts: &[&[u8]], is_folder: bool) -> Vec<u8> {
    let mut path = folder.to_vec();
    for part in parts {
        path.push(b'/');
        path.extend_from_slice(part);
    }
    if is_folder || path.is_empty() {
        path.push(b'/');
    }
    path
}

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// The parent of a process.
fn parent_of(process: u32) -> Option<u32> {
    let stat = fs_err::read(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may hold anything; the state and the parent follow it.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let text = String::from_utf8_lossy(&stat[end + 1..]).into_owned();
    text.split_whitespace().nth(1)?.parse().ok()
}

/// Whether a path is that of one of the devices that every program may use.
fn is_device(path: &[u8]) -> bool {
    let name = path.strip_prefix(b"/dev/").unwrap_or_default();
    DEVICES.iter().any(|(device, ..)| device.as_bytes() == name)
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

    fn asking(root: &[u8], devices: Devices) -> Asking<'_> {
        let thread = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        Asking { thread, root, devices }
    }

    /// A child of this process, as the processes of a step are.
    fn child(folder: &Path) -> std::process::Child {
        let mut child = std::process::Command::new("sleep");
        child.arg("1000").current_dir(folder).spawn().unwrap()
    }

    fn shown(place: Result<Option<Place>, Errno>) -> String {
        match place {
            Ok(None) => "own".to_owned(),
            Ok(Some(Place::Outside(path))) => path.into_string().unwrap(),
            Ok(Some(Place::Inside(path))) => format!("inside {}", String::from_utf8_lossy(&path)),
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn paths_of_the_kernel_are_those_of_the_process_that_asks() {
        let asking = asking(b"/nowhere", Devices::Made);
        let (thread, process) = (asking.thread, rustix::process::getpid().as_raw_nonzero().get());
        let own = |rest: &str| format!("/proc/{process}{rest}");
        let plain = |path: &str| path.to_owned();
        let cases = [
            ("/proc/self", true, own("")),
            ("/proc/self", false, plain("/proc/self")),
            ("/proc/thread-self/stat", true, own(&format!("/task/{thread}/stat"))),
            ("/proc/mounts", true, plain("/proc/self/mounts")),
            ("/proc/self/mountinfo", true, plain("/proc/self/mountinfo")),
            ("/proc/7/mountinfo", true, plain("/proc/self/mountinfo")),
            ("/proc/cpuinfo", true, plain("/proc/cpuinfo")),
            ("/proc/sys/fs/mounts", true, plain("/proc/sys/fs/mounts")),
            ("/proc", true, plain("/proc")),
            ("/sys/kernel", true, plain("/sys/kernel")),
            ("/dev/fd", false, plain("own")),
            ("/dev/stdout", false, plain("own")),
            ("/dev/null", true, plain("own")),
            ("/dev/ptmx", true, plain("/dev/ptmx")),
            ("/dev/ptmx", false, plain("own")),
            ("/dev/pts/0", false, plain("/dev/pts/0")),
            ("/process", true, plain("own")),
            ("/proc/self/../../etc/passwd", true, plain("inside /etc/passwd")),
            ("/proc/..", true, plain("inside /")),
            ("/proc/1/../cpuinfo", true, plain("/proc/cpuinfo")),
            ("/proc/self/..", true, plain("/proc")),
            ("/proc/self/../self/status", true, own("/status")),
            ("/dev/pts/../fd/3", true, plain("own")),
            ("/dev/pts/../sda", true, plain("own")),
            ("/sys/../etc/shadow", true, plain("own")),
            ("proc/self", true, plain("own")),
            ("/etc/passwd", true, plain("own")),
        ];
        for (path, follow, expected) in cases {
            assert_eq!(shown(asking.place(path.as_bytes(), follow)), expected, "{path} {follow}");
        }
    }

    #[test]
    fn what_this_process_and_others_have_is_nobodys_business() {
        let asking = asking(b"/nowhere", Devices::Made);
        let process = rustix::process::getpid();
        let helper = rustix::process::getppid().unwrap();
        let numbers = [process, helper].map(|pid| pid.as_raw_nonzero().get());
        let refused = format!("{:?}", Errno::ACCESS);
        for number in numbers {
            for rest in [
                "environ",
                "root",
                "root/etc/shadow",
                "cwd/x",
                "fd",
                "fd/0",
                "fd/0/x",
                "mem",
                "maps",
                "exe",
                "../self/environ",
                "attr/current",
                "ns/net",
            ] {
                let path = format!("/proc/{number}/{rest}");
                assert_eq!(shown(asking.place(path.as_bytes(), true)), refused, "{path}");
            }
            let thread = format!("/proc/{number}/task/{number}/environ");
            assert_eq!(shown(asking.place(thread.as_bytes(), true)), refused, "{thread}");
            for rest in ["status", "cmdline", "task/1/stat"] {
                let path = format!("/proc/{number}/{rest}");
                assert_eq!(shown(asking.place(path.as_bytes(), true)), path);
            }
        }
        // The same by other ways there.
        let indirect = format!("/proc/self/../{process}/fd/0", process = numbers[0]);
        for path in [indirect.as_str(), "/dev/fd/0", "/dev/stdin", "/proc/thread-self/environ"] {
            assert_eq!(shown(asking.place(path.as_bytes(), true)), refused, "{path}");
        }
    }

    #[test]
    fn behind_a_link_that_jumps_a_path_is_one_of_the_root_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs_err::canonicalize(folder.path()).unwrap();
        fs_err::create_dir_all(root.join("src/deep")).unwrap();
        let mut child = child(&root.join("src"));
        let process = child.id();
        let asking =
            Asking { thread: process, root: root.as_os_str().as_bytes(), devices: Devices::Made };
        let cases = [
            ("/proc/self/cwd", format!("/proc/{process}/cwd")),
            ("/proc/self/cwd/", "inside /src/".to_owned()),
            ("/proc/self/cwd/f", "inside /src/f".to_owned()),
            ("/proc/self/cwd/../../../f", "inside /src/../../../f".to_owned()),
            ("/proc/thread-self/cwd/deep/x", "inside /src/deep/x".to_owned()),
            ("/proc/self/cwd/../proc/self/status", "inside /src/../proc/self/status".to_owned()),
            // Its root directory is this machine's, and no part of the root file system.
            ("/proc/self/root/etc/shadow", format!("{:?}", Errno::ACCESS)),
        ];
        for (path, expected) in cases {
            let found = shown(asking.place(path.as_bytes(), true));
            assert_eq!(found, expected, "{path}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_of_the_step_is_one_that_this_one_started() {
        let mut child = child(Path::new("/"));
        assert!(is_of_step(child.id()));
        assert!(!is_of_step(std::process::id()));
        assert!(!is_of_step(1));
        let asking = asking(b"/nowhere", Devices::Made);
        let path = format!("/proc/{}/environ", child.id());
        assert_eq!(shown(asking.place(path.as_bytes(), true)), path);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn devices_are_the_containers_where_none_can_be_made() {
        for (path, expected) in [("/dev/null", true), ("/dev/tty", true), ("/dev/sda", false)] {
            let found = asking(b"/nowhere", Devices::Answered).place(path.as_bytes(), true);
            assert_eq!(found.unwrap().is_some(), expected, "{path}");
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
