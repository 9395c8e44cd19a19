//! Networks and published ports.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};

use super::support::{Missing, Need, need, program};
use super::world::{User, World, as_users};

/// Answers every connection with what it says, on a port that another user may open.
const ECHO: [&str; 7] = ["nc", "-ll", "-p", "8080", "-e", "/bin/busybox", "cat"];

fn say(address: &str, text: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The address of the host that leads to the container.
fn address(world: &World) -> String {
    let row = world.ps("web");
    let port = row["ports"][0].as_str().unwrap();
    port.split_once("->").unwrap().0.replace("0.0.0.0", "127.0.0.1")
}

#[test]
fn a_published_port_leads_to_the_program_also_after_a_restart() {
    as_users!(|world: &World| {
        let run = ["run", "-d", "--name", "web", "-p", "127.0.0.1::8080", "IMAGE"];
        world.gondola(&[&run[..], &ECHO].concat()).success();
        let mut text = String::new();
        // Until the program listens, connections are closed without an answer.
        while text.is_empty() {
            text = say(&address(world), "hello");
        }
        assert_eq!(text, "hello");
        let long = "0123456789".repeat(100_000);
        assert!(say(&address(world), &long) == long);
        // Its own network: the host has nobody at that port.
        assert!(TcpStream::connect("127.0.0.1:8080").is_err());
        world.gondola(&["restart", "-t", "0", "web"]).success();
        text.clear();
        while text.is_empty() {
            text = say(&address(world), "again");
        }
        assert_eq!(text, "again");
        let exposed =
            world.gondola(&["run", "-d", "-P", "--name", "all", "IMAGE", "sleep", "1000"]);
        exposed.success();
        assert!(world.ps("all")["ports"][0].as_str().unwrap().ends_with("->8080/tcp"));
    });
}

#[test]
fn a_port_in_use_is_told_before_anything_starts() {
    as_users!(|world: &World| {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = format!("{}:8080", taken.local_addr().unwrap());
        for detach in ["-d", "--rm"] {
            let ran = world.gondola(&["run", detach, "-p", &port, "IMAGE"]).code(125);
            assert!(ran.stderr.contains("the port is in use; hint"), "{ran:?}");
            assert_eq!(ran.stdout, "");
        }
        assert_eq!(world.count(), 0);
        world.gondola(&["run", "-p", "53:53/udp", "IMAGE"]).code(125).says("--network host");
        world
            .gondola(&["run", "--network", "none", "-p", "1:1", "IMAGE"])
            .code(125)
            .says("leads there");
    });
}

#[test]
fn networks_are_the_hosts_or_a_loopback_device() {
    as_users!(|world: &World| {
        let devices = |network: &[&str]| {
            let printed = world.script(network, "ls /sys/class/net").success().stdout;
            printed.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        for network in [["--network", "none"], ["-p", "127.0.0.1::8080"]] {
            assert_eq!(devices(&network), ["lo"], "{network:?}");
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        // Takes one connection, and closes it.
        let taking = std::thread::spawn(move || drop(listener.accept().unwrap()));
        let reach = |options: &[&str]| {
            let run = [&["run", "--rm"], options, &["IMAGE", "nc", "127.0.0.1", &port]];
            world.gondola(&run.concat()).code
        };
        assert_eq!(reach(&["-p", "127.0.0.1::8080"]), Some(1));
        assert_eq!(reach(&["--network", "none"]), Some(1));
        assert_eq!(reach(&["--network", "default"]), Some(0));
        taking.join().unwrap();
    });
    let world = need!(World::new(User::Own));
    let ran = world.script(&["--network", "host", "-p", "8080:80"], "true").success();
    assert!(ran.stderr.contains("-p does nothing"), "{ran:?}");
}

/// What a way out needs here.
fn way_out() -> Need<()> {
    program("pasta").or_else(|_| program("slirp4netns"))?;
    let tunnels = fs_err::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    tunnels.map_err(Missing::because)?;
    let routes = fs_err::read_to_string("/proc/net/route").unwrap_or_default();
    let is_default = |line: &str| line.split_whitespace().nth(1) == Some("00000000");
    if routes.lines().any(is_default) { Ok(()) } else { Err(Missing::because("no way out")) }
}

#[test]
fn a_private_network_has_a_way_out_and_published_ports() {
    need!(way_out());
    let world = need!(World::new(User::Own));
    let run = ["run", "-d", "--name", "web", "--network", "private", "-p", "127.0.0.1::8080"];
    world.gondola(&[&run[..], &["IMAGE"], &ECHO].concat()).success();
    let mut text = String::new();
    // Until the program listens, connections are closed without an answer.
    while text.is_empty() {
        text = say(&address(&world), "hello");
    }
    assert_eq!(text, "hello");
    let inside = "ls /sys/class/net | wc -l; grep -c 10.0.2.3 /etc/resolv.conf; \
        grep CapBnd /proc/self/status";
    let ran = world.gondola(&["exec", "web", "sh", "-c", inside]).success();
    assert_eq!(ran.stdout, "2\n1\nCapBnd:\t00000000a80425fb\n");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    assert_eq!(world.gondola(&["exec", "web", "nc", "127.0.0.1", &port]).code, Some(1));
    world.gondola(&["rm", "-f", "web"]).success();
}

#[test]
fn on_the_hosts_network_nobody_may_listen_in() {
    as_users!(|world: &World| {
        let look = "grep CapBnd /proc/self/status";
        let bound = |network: &[&str]| world.script(network, look).success().stdout;
        assert_eq!(bound(&[]), "CapBnd:\t00000000a80405fb\n");
        assert_eq!(bound(&["--network", "none"]), "CapBnd:\t00000000a80425fb\n");
        let run = ["run", "-d", "--name", "web", "IMAGE", "sleep", "1000"];
        world.gondola(&run).success();
        let ran = world.gondola(&["exec", "web", "sh", "-c", look]).success();
        assert_eq!(ran.stdout, "CapBnd:\t00000000a80405fb\n");
        world.gondola(&["rm", "-f", "web"]).success();
    });
}

#[test]
fn a_container_has_the_proxies_of_dockers_configuration() {
    let world = need!(World::new(User::Own));
    let folder = world.home().join(".docker");
    fs_err::create_dir(&folder).unwrap();
    let text =
        r#"{"proxies": {"default": {"httpProxy": "http://me:hunter2@p:1", "noProxy": "x"}}}"#;
    fs_err::write(folder.join("config.json"), text).unwrap();
    let look = "env | grep -i _proxy | sort";
    let ran = world.script(&["-e", "no_proxy=mine"], look).success();
    let expected =
        "HTTP_PROXY=http://me:hunter2@p:1\nhttp_proxy=http://me:hunter2@p:1\nno_proxy=mine\n";
    assert_eq!(ran.stdout, expected);
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    let ran =
        world.script(&["--network", "private", "--sandbox", "in-container"], "true").code(125);
    assert!(ran.stderr.contains("has no network of its own"), "{}", ran.stderr);
}
