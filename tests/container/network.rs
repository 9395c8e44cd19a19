//! Networks and published ports.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};

use super::support::need;
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
        for network in ["none", "private"] {
            assert_eq!(devices(&["--network", network]), ["lo"], "{network}");
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        // Takes one connection, and closes it.
        let taking = std::thread::spawn(move || drop(listener.accept().unwrap()));
        let reach = |options: &[&str]| {
            let run = [&["run", "--rm"], options, &["IMAGE", "nc", "127.0.0.1", &port]];
            world.gondola(&run.concat()).code
        };
        assert_eq!(reach(&["--network", "private"]), Some(1));
        assert_eq!(reach(&["--network", "none"]), Some(1));
        assert_eq!(reach(&[]), Some(0));
        taking.join().unwrap();
    });
    let world = need!(World::new(User::Own));
    let ran = world.script(&["--network", "host", "-p", "8080:80"], "true").success();
    assert!(ran.stderr.contains("-p does nothing"), "{ran:?}");
}
