//! What a process may do and see of the machine.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use fs_err as fs;
use gondola::sandbox::{Isolation, Network};

use super::context::{Context, lines};
use super::settings::install;
use super::{NAMESPACES, ROOTED};

type Row = (&'static str, &'static [Isolation], fn(&Context));

pub const CASES: &[Row] = &[
    ("capabilities_are_dockers_and_no_program_adds_to_them", NAMESPACES, capabilities),
    ("nobody_listens_in_on_the_hosts_network", ROOTED, sniffing),
    ("a_file_is_given_a_right_that_its_giver_has_not", ROOTED, file_capability),
    ("a_user_other_than_root_has_no_capabilities", ROOTED, user_capabilities),
    ("calls_outside_dockers_list_are_refused", ROOTED, calls),
    ("dangerous_files_of_proc_and_sys_are_masked", NAMESPACES, masks),
    ("no_process_of_the_host_is_seen", NAMESPACES, processes),
    ("the_helpers_memory_and_files_are_out_of_reach", NAMESPACES, helper_hidden),
    ("no_descriptor_above_two_is_open_even_if_the_caller_leaks_one", ROOTED, descriptors),
    ("abstract_sockets_of_the_host_are_unreachable", NAMESPACES, abstract_sockets),
    ("the_hosts_network_is_reached_only_when_asked_for", NAMESPACES, network),
    ("a_block_device_cannot_be_opened", NAMESPACES, block_device),
    ("users_are_looked_up_in_the_image", ROOTED, users),
    ("a_user_is_of_his_own_group_and_of_those_that_list_him", ROOTED, groups),
    ("missing_variables_get_dockers_defaults", ROOTED, environment),
    ("host_name_and_hosts_file_are_the_sandboxs_own", NAMESPACES, hostname),
    ("the_usual_devices_work", ROOTED, devices),
];

pub const DOCKER: &str = "00000000a80425fb";
/// Without `CAP_NET_RAW`.
const ON_HOST: &str = "00000000a80405fb";
/// Without `CAP_SYS_CHROOT`, too.
const NO_CHROOT: &str = "00000000a80005fb";
const NONE: &str = "0000000000000000";
pub const FIELDS: [&str; 8] =
    ["status", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"];

fn expected(held: &str, bound: &str) -> String {
    format!(
        "CapInh {NONE}\nCapPrm {held}\nCapEff {held}\nCapBnd {bound}\nCapAmb {NONE}\n\
         NoNewPrivs 1\nSeccomp 2\n"
    )
}

fn capabilities(context: &Context) {
    assert_eq!(context.output(&FIELDS), expected(ON_HOST, ON_HOST));
    let mut alone = context.spec(&FIELDS);
    alone.network = Network::None;
    assert_eq!(context.output_of(&alone), expected(DOCKER, DOCKER));
}

fn sniffing(context: &Context) {
    let password = format!("hunter2-{}", std::process::id());
    let (_child, mut output, _error) = context.start(&context.spec(&["sniff", &password]));
    let mut said = [0; 6];
    output.read_exact(&mut said).unwrap();
    if said == *b"ready\n" {
        // Another process of the host talks to a third one.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut talking = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        talking.write_all(password.as_bytes()).unwrap();
    }
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    let said = format!("{}{rest}", String::from_utf8_lossy(&said));
    assert_eq!(said, "sniff EPERM\nraw EPERM\n");
}

/// What a package's installation does for `ping` becomes part of a layer, whatever the step may do.
fn file_capability(context: &Context) {
    install(context.base.join("payload"), context.base.join("ping"));
    assert_eq!(context.output(&["setcap", "/ping"]), "setcap ok\n");
    // The kernel does not start what insists on a right that is out of reach.
    let mut spec = context.spec(&[]);
    spec.argv = ["/ping", "true"].map(str::to_owned).into();
    assert_eq!(context.run_spec(&spec).exit.code(), 126);
    if context.isolation != Isolation::InContainer {
        spec.network = Network::None;
        assert_eq!(context.run_spec(&spec).exit.code(), 0);
    }
}

fn user_capabilities(context: &Context) {
    let mut spec = context.spec(&FIELDS);
    spec.user = "app".to_owned();
    // A changed root directory could be left again.
    let bound = if context.isolation == Isolation::InContainer { NO_CHROOT } else { ON_HOST };
    assert_eq!(context.output_of(&spec), expected(NONE, bound));
}

fn calls(context: &Context) {
    let expected = "clone-newuser EPERM\nclone3 ENOSYS\nunshare EPERM\nmount EPERM\n\
        open_tree EPERM\nio_uring_setup EPERM\nbpf EPERM\nkeyctl EPERM\nsocket-alg EPERM\n\
        socket-vsock EPERM\nsocket-unix ok\npersonality-query ok\npersonality-no-random EPERM\n\
        not-invented-yet EPERM\nfar-future ENOSYS\n";
    assert_eq!(context.output(&["calls"]), expected);
}

fn masks(context: &Context) {
    let asked = [
        ("r:/proc/kcore", &["empty"][..]),
        ("r:/proc/keys", &["empty"]),
        ("r:/proc/timer_list", &["empty"]),
        ("r:/proc/interrupts", &["empty"]),
        ("w:/proc/sys/kernel/hostname", &["EROFS", "EACCES"]),
        ("w:/proc/sysrq-trigger", &["EROFS", "EACCES"]),
        ("w:/sys/kernel/mm/transparent_hugepage/enabled", &["EROFS", "EACCES"]),
        ("w:/sys/new", &["EROFS", "EACCES", "EPERM"]),
    ];
    let arguments: Vec<_> =
        ["probe"].into_iter().chain(asked.iter().map(|(arg, _)| *arg)).collect();
    let output = context.output(&arguments);
    for (line, (arg, allowed)) in lines(&output).into_iter().zip(asked) {
        let answer = line.strip_prefix(arg).unwrap().trim();
        // What this kernel does not have needs no mask.
        assert!(allowed.contains(&answer) || answer == "ENOENT", "{line}");
    }
    for folder in ["/proc/scsi", "/proc/acpi", "/sys/firmware"] {
        let outcome = context.run(&["ls", folder]);
        assert_eq!(outcome.output, "", "{folder}");
    }
}

fn processes(context: &Context) {
    let output = context.output(&["getpid"]);
    assert_eq!(output.split_whitespace().collect::<Vec<_>>(), ["1", "2"]);
}

fn helper_hidden(context: &Context) {
    let files = ["r:/proc/1/environ", "r:/proc/1/mem", "r:/proc/1/maps", "l:/proc/1/exe"];
    let more = ["l:/proc/1/root", "l:/proc/1/cwd", "l:/proc/1/fd/0", "w:/proc/1/mem"];
    let arguments = [&["probe"], &files[..], &more[..]].concat();
    let output = context.output(&arguments);
    assert_eq!(output.lines().count(), files.len() + more.len());
    for line in output.lines() {
        assert!(line.ends_with("EACCES") || line.ends_with("EPERM"), "{line}");
    }
    assert_eq!(context.output(&["ptrace", "1"]), "ptrace EPERM\n");
}

fn descriptors(context: &Context) {
    let folder = fs::File::open(&context.folder).unwrap();
    rustix::io::fcntl_setfd(&folder, rustix::io::FdFlags::empty()).unwrap();
    let number = folder.as_raw_fd();
    assert_eq!(context.output(&["fds"]), "0\n1\n2\n");
    // A working directory by way of such a descriptor would lead out.
    for candidate in 3..=number.max(32) {
        let mut spec = context.spec(&["pwd"]);
        spec.cwd = format!("/proc/self/fd/{candidate}");
        let outcome = context.run_spec(&spec);
        let inside = outcome.output == format!("/proc/self/fd/{candidate}\n");
        assert!(
            outcome.exit.code() == 126 || (context.isolation == Isolation::InContainer && inside),
            "{outcome:?}"
        );
    }
}

fn abstract_sockets(context: &Context) {
    let name = format!("gondola-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    for (network, expected) in [(Network::Host, "EPERM"), (Network::None, "ECONNREFUSED")] {
        let mut spec = context.spec(&["abstract", &name]);
        spec.network = network;
        assert_eq!(context.output_of(&spec), format!("connect {expected}\n"));
    }
}

fn network(context: &Context) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answering = std::thread::spawn(move || drop(listener.accept().unwrap()));
    assert_eq!(context.output(&["dial", &address]), "dial ok\n");
    answering.join().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let alone = |arguments: &[&str]| {
        let mut spec = context.spec(arguments);
        spec.network = Network::None;
        context.output_of(&spec)
    };
    assert_eq!(alone(&["dial", &address]), "dial ECONNREFUSED\n");
    assert_eq!(alone(&["interfaces"]), "lo\n");
    assert_eq!(alone(&["serve-self"]), "hello\ndial ok\n");
}

fn block_device(context: &Context) {
    use std::os::linux::fs::MetadataExt as _;
    let device = fs::metadata(&context.base).unwrap().st_dev().to_string();
    let output = context.output(&["block-device", &device]);
    let expected = match context.isolation {
        Isolation::NsRoot => "mknod ok\nopen EACCES\n",
        // An empty file that stands for the device in the layer.
        Isolation::Ns | Isolation::NsCopy => "mknod ok\nopen ok\n",
        _ => "mknod EPERM\n",
    };
    assert_eq!(output, expected);
    if matches!(context.isolation, Isolation::Ns | Isolation::NsCopy) {
        assert_eq!(context.output(&["probe", "r:/disk"]), "r:/disk empty\n");
    }
}

fn users(context: &Context) {
    let cases =
        [("", "0 0"), ("root", "0 0"), ("app", "1000 1001"), ("1000", "1000 1001"), ("7:8", "7 8")];
    for (user, ids) in cases {
        let mut spec = context.spec(&["id"]);
        spec.user = user.to_owned();
        let output = context.output_of(&spec);
        assert!(output.starts_with(ids), "{user}: {output}");
    }
    let mut spec = context.spec(&["id"]);
    spec.user = "stranger".to_owned();
    assert!(context.refusal(&spec).contains("no such user in /etc/passwd"));
}

fn groups(context: &Context) {
    for (user, ids) in [
        ("app", "1000 1001 [1001 1002]\n"),
        ("app:7", "1000 7 [7]\n"),
        ("8:9", "8 9 [9]\n"),
        ("", "0 0 [0]\n"),
    ] {
        let mut spec = context.spec(&["id"]);
        spec.user = user.to_owned();
        assert_eq!(context.output_of(&spec), ids, "{user}");
    }
}

fn environment(context: &Context) {
    let mut spec = context.spec(&["env"]);
    spec.user = "app".to_owned();
    spec.env.insert("A".to_owned(), "1 2".to_owned());
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let expected = format!("A=1 2\nHOME=/home/app\n{path}\n");
    assert_eq!(context.output_of(&spec), expected);
    spec.env.insert("HOME".to_owned(), "/elsewhere".to_owned());
    assert!(context.output_of(&spec).contains("HOME=/elsewhere\n"));
}

fn hostname(context: &Context) {
    let mut spec = context.spec(&["hostname"]);
    spec.hostname = "box".to_owned();
    assert_eq!(context.output_of(&spec), "box\n");
    let mut spec = context.spec(&["cat", "/etc/hosts", "/etc/hostname"]);
    spec.hostname = "box".to_owned();
    spec.extra_hosts.push(("db".to_owned(), "10.1.2.3".parse().unwrap()));
    let output = context.output_of(&spec);
    assert!(output.ends_with("127.0.0.1\tbox\n10.1.2.3\tdb\nbox\n"), "{output}");
    assert!(output.contains("localhost"), "{output}");
    let seen = context.output(&["cat", "/etc/resolv.conf"]);
    assert_eq!(seen, fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
}

fn devices(context: &Context) {
    let devices = ["r:/dev/zero", "r:/dev/urandom", "r:/dev/full", "w:/dev/null"];
    let output = context.output(&[&["probe"], &devices[..]].concat());
    for line in output.lines() {
        assert!(line.ends_with(" ok"), "{line}");
    }
    assert_eq!(output.lines().count(), devices.len());
}
