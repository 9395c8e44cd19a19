//! A network of a sandbox's own with a way out: past the machine, and never to its loopback device.
//!
//! A case runs on a host of its own: in a network namespace whose only neighbour, and gateway, is a
//! second one with a server in it.

use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fs_err as fs;
use gondola::sandbox::{Child, Isolation, Launcher, Network};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::NAMESPACES;
use super::context::{Context, HOST_PATH};
use super::endings::wait_for_word;

type Row = (&'static str, &'static [Isolation], fn(&Context));

pub const CASES: &[Row] = &[
    ("a_private_network_leads_past_this_machine", NAMESPACES, leads_out),
    ("a_private_network_has_the_hosts_name_servers", NAMESPACES, names),
    ("a_private_network_keeps_dockers_rights", NAMESPACES, rights),
    ("a_way_out_ends_with_its_sandbox", NAMESPACES, ends),
    ("what_a_private_network_lacks_is_named", NAMESPACES, lacks),
    ("without_namespaces_no_network_is_private", &[Isolation::InContainer], refused),
];

const PROGRAMS: [&str; 2] = ["pasta", "slirp4netns"];

/// Makes the host and its neighbour, and runs the case in there. Nothing of it is left on the machine.
const HOST: &str = r#"
set -e
payload=$1 tunnels=$2; shift 2
mount -t tmpfs none /run
mkdir /run/netns
mount --bind "$tunnels" /dev/net/tun
sysctl -qw net.ipv4.ip_unprivileged_port_start=0
ip netns add peer
ip link set lo up
ip link add out type veth peer name in netns peer
ip addr add 198.51.100.1/24 dev out
ip addr add 2001:db8::1/64 dev out nodad
ip link set out up
ip -n peer addr add 198.51.100.2/24 dev in
ip -n peer addr add 2001:db8::2/64 dev in nodad
ip -n peer link set lo up
ip -n peer link set in up
ip route add default via 198.51.100.2
ip route add default via 2001:db8::2
echo nameserver 127.0.0.1 >/run/resolv.conf
mount --bind /run/resolv.conf /etc/resolv.conf
mkfifo /run/ready
ip netns exec peer setpriv --pdeathsig KILL "$payload" serve :7000 >/run/ready &
server=$!
read word </run/ready
"$@" && code=0 || code=$?
kill $server
exit $code
"#;

/// Whether a case is about this.
pub fn is_here(name: &str) -> bool {
    CASES.iter().any(|(case, _, _)| *case == name)
}

/// What the machine lacks for these cases.
pub fn missing() -> Option<String> {
    if !super::settings::is_root() {
        return Some("making another network needs root".to_owned());
    }
    let lacks = |name: &&str| find(name).is_none();
    let needed = ["pasta", "slirp4netns", "ip", "unshare", "setpriv", "sysctl"];
    let program = needed.iter().find(|name| lacks(name));
    program.map(|name| format!("{name} is not installed"))
}

/// The command, run on a host of its own.
pub fn on_own_host(command: &Command, payload: &Path, tunnels: &Path) -> Command {
    let mut outer = Command::new("unshare");
    outer.args(["--net", "--mount", "sh", "-c", HOST, "sh"]).arg(payload).arg(tunnels);
    outer.arg(command.get_program()).args(command.get_args());
    outer
}

fn find(name: &str) -> Option<PathBuf> {
    HOST_PATH.split(':').map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

/// The case, with one program that leads out, which nobody else runs by this name.
fn with(context: &Context, program: &str) -> (Context, PathBuf) {
    let folder = context.folder.join(format!("with-{program}"));
    fs::create_dir_all(&folder).unwrap();
    let link = |name: &str| {
        if let Some(path) = find(name)
            && !folder.join(name).exists()
        {
            std::os::unix::fs::symlink(path, folder.join(name)).unwrap();
        }
        folder.join(name)
    };
    for name in ["newuidmap", "newgidmap"] {
        link(name);
    }
    let path = if program.is_empty() { PathBuf::new() } else { link(program) };
    let launcher = Launcher::new(folder.to_str().unwrap());
    let (folder, base) = (context.folder.clone(), context.base.clone());
    (Context { isolation: context.isolation, launcher, folder, base }, path)
}

/// Listens on the host, and counts whoever comes.
fn listen(address: &str) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(address).unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        while listener.accept().is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, count)
}

fn reach(context: &Context, network: Network, addresses: &[String]) -> String {
    let words = ["reach"].into_iter().chain(addresses.iter().map(String::as_str));
    let mut spec = context.spec(&words.collect::<Vec<_>>());
    spec.network = network;
    context.output_of(&spec)
}

fn leads_out(context: &Context) {
    let (four, on_four) = listen("127.0.0.1:0");
    let (six, on_six) = listen("[::1]:0");
    let loopback = [format!("127.0.0.1:{four}"), format!("[::1]:{six}")];
    let open = format!("{} open\n{} open\n", loopback[0], loopback[1]);
    assert_eq!(reach(context, Network::Host, &loopback), open);
    while (on_four.load(Ordering::SeqCst), on_six.load(Ordering::SeqCst)) != (1, 1) {
        std::thread::yield_now();
    }
    // By its other addresses the host is reached as from every other machine, or not at all.
    let (any, _) = listen("0.0.0.0:0");
    for program in PROGRAMS {
        let (context, _) = with(context, program);
        let ways = [
            format!("127.0.0.1:{any}"),
            // The gateway, by which such programs would lead to the host's loopback device.
            format!("198.51.100.2:{four}"),
            format!("[2001:db8::2]:{six}"),
        ];
        let gateway = format!("10.0.2.2:{four}");
        let mut shut: Vec<String> = loopback.iter().chain(&ways).cloned().collect();
        if program == "slirp4netns" {
            shut.push(gateway);
        }
        let expected: String = shut.iter().map(|address| [address, " shut\n"].concat()).collect();
        assert_eq!(reach(&context, Network::Private, &shut), expected, "{program}");
        let own = [format!("198.51.100.1:{any}")];
        let expected = if program == "pasta" { "shut" } else { "open" };
        let answer = reach(&context, Network::Private, &own);
        assert_eq!(answer, format!("{} {expected}\n", own[0]), "{program}");
        let mut out = vec!["198.51.100.2:7000".to_owned()];
        if program == "pasta" {
            out.push("[2001:db8::2]:7000".to_owned());
        }
        let expected: String = out.iter().map(|address| [address, " open\n"].concat()).collect();
        assert_eq!(reach(&context, Network::Private, &out), expected, "{program}");
    }
    assert_eq!((on_four.load(Ordering::SeqCst), on_six.load(Ordering::SeqCst)), (1, 1));
}

/// The host's name server listens on its loopback device, as systemd's does.
fn names(context: &Context) {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let _ = socket.send_to(&answer(&query[..length]), from);
        }
    });
    for program in PROGRAMS {
        let (context, _) = with(context, program);
        let mut spec = context.spec(&["lookup", "registry.example"]);
        spec.network = Network::Private;
        assert_eq!(context.output_of(&spec), "198.51.100.2\n", "{program}");
        spec.name_servers = vec!["192.0.2.9".parse().unwrap()];
        spec.argv = ["/payload", "cat", "/etc/resolv.conf"].map(str::to_owned).into();
        assert_eq!(context.output_of(&spec), "nameserver 192.0.2.9\n", "{program}");
    }
}

/// The answer of a name server: one address for every name, and nothing but addresses of version 4.
fn answer(query: &[u8]) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let is_four = query[end - 4..end] == [0, 1, 0, 1];
    let mut answer = query[..end].to_vec();
    answer[2..4].copy_from_slice(&[0x81, 0x80]);
    answer[4..12].copy_from_slice(&[0, 1, 0, u8::from(is_four), 0, 0, 0, 0]);
    if is_four {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 2]);
    }
    answer
}

fn rights(context: &Context) {
    let mut spec = context.spec(&["status", "CapEff"]);
    spec.network = Network::Private;
    assert_eq!(context.output_of(&spec), format!("CapEff {}\n", super::cases::DOCKER));
    spec.argv = ["/payload", "listen", "127.0.0.1:80"].map(str::to_owned).into();
    assert_eq!(context.output_of(&spec), "listen ok\n");
}

/// A sandbox that stays, and the program that leads out of it.
fn staying(context: &Context, path: &Path) -> (Child, std::io::PipeReader, Pid) {
    let mut spec = context.spec(&["sleep"]);
    spec.network = Network::Private;
    let (child, mut output, _error) = context.start(&spec);
    wait_for_word(&mut output, "ready");
    let found = processes(path);
    // slirp4netns starts a second one for a moment; each ends.
    let pid = *found.first().expect("it runs");
    (child, output, pid)
}

/// The processes that were started by a path.
fn processes(path: &Path) -> Vec<Pid> {
    let folder = fs::read_dir("/proc").unwrap();
    let ids = folder.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok());
    let started = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).next() == Some(path.as_os_str().as_encoded_bytes())
    };
    ids.filter(started).filter_map(Pid::from_raw).collect()
}

fn wait_for_end(pid: &std::os::fd::OwnedFd) {
    let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
    let ended = poll(&mut [PollFd::new(pid, PollFlags::IN)], Some(&patience)).unwrap();
    assert_eq!(ended, 1, "it outlives its sandbox");
}

fn ends(context: &Context) {
    for program in PROGRAMS {
        let (context, path) = with(context, program);
        // At the end of the program, of which it tells when nothing is left.
        let (mut child, _output, _pid) = staying(&context, &path);
        child.kill();
        child.wait().unwrap();
        assert_eq!(processes(&path), [], "{program}");
        // Whoever is killed: the helper, or the keeper of the program, whose child is the first process.
        for depth in [1, 2] {
            let (child, mut output, pid) = staying(&context, &path);
            let watched = pidfd_open(pid, PidfdFlags::empty()).unwrap();
            let mut victim = Pid::from_raw(child.pid()).unwrap();
            victim = parent(victim);
            if depth == 2 {
                victim = keeper(victim);
            }
            kill_process(victim, Signal::KILL).unwrap();
            wait_for_end(&watched);
            drop(child);
            output.read_to_end(&mut Vec::new()).unwrap();
        }
    }
}

fn parent(pid: Pid) -> Pid {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    Pid::from_raw(fields.split_whitespace().nth(1).unwrap().parse().unwrap()).unwrap()
}

/// The child of a helper that keeps its way out.
fn keeper(helper: Pid) -> Pid {
    let all = processes(Path::new("gondola-sandbox-network"));
    *all.iter().find(|pid| parent(**pid) == helper).unwrap()
}

fn lacks(context: &Context) {
    let (context, _) = with(context, "");
    let mut spec = context.spec(&["true"]);
    spec.network = Network::Private;
    let refusal = context.refusal(&spec);
    assert!(refusal.contains("neither pasta nor slirp4netns is on PATH"), "{refusal}");
    assert!(refusal.contains("apt install passt"), "{refusal}");
    // One that fails is quoted, and the next one tried.
    let bad = context.folder.join("with-/pasta");
    fs::write(&bad, "#!/bin/sh\necho no luck >&2\nexit 1\n").unwrap();
    fs::set_permissions(&bad, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let refusal = context.refusal(&spec);
    assert!(refusal.ends_with("with-/pasta: no luck"), "{refusal}");
    let slirp = find("slirp4netns").unwrap();
    std::os::unix::fs::symlink(slirp, context.folder.join("with-/slirp4netns")).unwrap();
    let out = ["198.51.100.2:7000".to_owned()];
    assert_eq!(reach(&context, Network::Private, &out), "198.51.100.2:7000 open\n");
}

fn refused(context: &Context) {
    let mut spec = context.spec(&["true"]);
    spec.network = Network::Private;
    let refusal = context.refusal(&spec);
    assert!(refusal.contains("it has no network of its own"), "{refusal}");
}
