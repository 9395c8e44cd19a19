//! Where nothing can be mounted: root of a container without `CAP_SYS_ADMIN`, and with less.

use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::fs::symlink;

use fs_err as fs;
use gondola::sandbox::{Isolation, Spec};
use rustix::thread::CapabilitySet;

use super::context::{Context, Outcome};
use super::files::{listing, secret};

type Row = (&'static str, &'static [Isolation], fn(&Context));

const HERE: &[Isolation] = &[Isolation::InContainer];

pub const CASES: &[Row] = &[
    ("a_secret_is_on_no_disk_where_nothing_can_be_mounted", HERE, secrets),
    ("the_kernels_folders_are_found_from_where_a_process_is", HERE, relative),
    ("what_is_mounted_is_the_containers", HERE, mount_table),
    ("terminals_are_opened_where_nothing_can_be_mounted", HERE, terminals),
    ("devices_work_without_the_right_to_make_them", HERE, without_devices),
    ("without_an_answer_for_proc_a_program_is_warned_and_runs", HERE, unanswered),
];

fn with_token(context: &Context, arguments: &[&str]) -> Spec {
    let mut spec = context.spec(arguments);
    spec.mounts.push(secret("/run/secrets/token"));
    spec
}

/// It is read by whichever path, by the one whose it is, and is written by nobody.
fn secrets(context: &Context) {
    symlink("run/secrets/token", context.base.join("link")).unwrap();
    let before = listing(&context.base);
    for (folder, path) in
        [("/", "/run/secrets/token"), ("/run", "secrets/../secrets/token"), ("/", "/link")]
    {
        let mut spec = with_token(context, &["cat", path, path]);
        spec.cwd = folder.to_owned();
        assert_eq!(context.output_of(&spec), "hunter2hunter2", "{path}");
    }
    let run = |arguments: &[&str]| context.output_of(&with_token(context, arguments));
    assert_eq!(run(&["mode", "/link"]), "400 0 0\n");
    assert_eq!(run(&["probe", "w:/link"]), "w:/link EROFS\n");
    let mut spec = with_token(context, &["probe", "r:/run/secrets/token"]);
    spec.user = "app".to_owned();
    assert_eq!(context.output_of(&spec), "r:/run/secrets/token EACCES\n");
    let (mut child, _output, _error) = context.start(&with_token(context, &["sleep"]));
    // Whoever is killed now, this is what stays.
    assert_eq!(fs::read(context.base.join("run/secrets/token")).unwrap(), [0; 7]);
    child.kill();
    child.wait().unwrap();
    assert_eq!(listing(&context.base), before);
}

fn relative(context: &Context) {
    for (folder, path) in
        [("/proc", "self/comm"), ("/proc", "./self/comm"), ("/", "proc//self/comm")]
    {
        let mut spec = context.spec(&["cat", path]);
        spec.cwd = folder.to_owned();
        assert_eq!(context.output_of(&spec), "payload\n", "{folder} {path}");
    }
}

/// Packages look there before they start what needs `/proc`.
fn mount_table(context: &Context) {
    symlink("../proc/self/mounts", context.base.join("etc/mtab")).unwrap();
    for path in ["/proc/self/mountinfo", "/proc/mounts", "/etc/mtab"] {
        for user in ["", "app"] {
            let mut spec = context.spec(&["cat", path]);
            spec.user = user.to_owned();
            assert!(context.output_of(&spec).contains(" /proc "), "{path} {user}");
        }
    }
}

fn terminals(context: &Context) {
    for user in ["", "app"] {
        let mut spec = context.spec(&["probe", "w:/dev/ptmx"]);
        spec.user = user.to_owned();
        assert_eq!(context.output_of(&spec), "w:/dev/ptmx ok\n", "{user}");
    }
}

/// As in containers of CRI-O.
fn without_devices(context: &Context) {
    let missing = CapabilitySet::MKNOD | CapabilitySet::SETFCAP;
    let mut held = rustix::thread::capabilities(None).unwrap();
    for one in missing {
        rustix::thread::remove_capability_from_bounding_set(one).unwrap();
    }
    held.effective -= missing;
    held.permitted -= missing;
    held.inheritable -= missing;
    rustix::thread::set_capabilities(None, held).unwrap();
    let before = listing(&context.base);
    for user in ["", "app"] {
        let asked = ["probe", "w:/dev/null", "r:/dev/null", "r:/dev/zero", "w:/dev/tty"];
        let mut spec = context.spec(&asked);
        spec.user = user.to_owned();
        let expected = "w:/dev/null ok\nr:/dev/null empty\nr:/dev/zero ok\nw:/dev/tty ENXIO\n";
        assert_eq!(context.output_of(&spec), expected, "{user}");
    }
    assert_eq!(listing(&context.base), before);
}

/// Something else answers calls of this container already, as LXD does.
fn unanswered(context: &Context) {
    let _listener = listen();
    fs::create_dir_all(context.base.join("go/pkg/tool")).unwrap();
    fs::create_dir_all(context.base.join("go/bin")).unwrap();
    fs::write(context.base.join("go/bin/go"), "").unwrap();
    let before = listing(&context.base);
    for user in ["", "app"] {
        let mut spec = with_token(context, &["env"]);
        spec.user = user.to_owned();
        spec.env.insert("PATH".to_owned(), "/none:/go/bin".to_owned());
        let Outcome { exit, output, error } = context.run_spec(&spec);
        assert!(exit.is_success(), "{error}");
        assert!(output.contains("GOROOT=/go\n"), "{output}");
        assert!(error.starts_with("warning: /proc is empty here"), "{error}");
    }
    // There is no other way to show it then.
    assert_eq!(context.output_of(&with_token(context, &["cat", "/run/secrets/token"])), "hunter2");
    assert_eq!(listing(&context.base), before);
}

/// Answers for the calls of this thread and its children, of which none waits.
#[expect(unsafe_code, reason = "no safe wrapper installs a listener")]
fn listen() -> OwnedFd {
    let mut all = libc::sock_filter {
        code: u16::try_from(libc::BPF_RET | libc::BPF_K).unwrap(),
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ALLOW,
    };
    let program = libc::sock_fprog { len: 1, filter: &raw mut all };
    rustix::thread::set_no_new_privs(true).unwrap();
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let operation = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: `program` points to one instruction, and the call copies it.
    let fd = unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, &raw const program) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel just returned it, and nothing else closes it.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }
}
