//! Networks of steps, what steps may do on the host's, and which proxies they see.

use std::net::TcpListener;

use fs_err as fs;

use super::bench::{Bench, text};
use super::support::{Missing, Need, need, program};

const PASSWORD: &str = "hunter2";

/// The lines of a step's environment that name proxies, sorted.
const SEEN: &str = "FROM busybox\nRUN env | grep -i _proxy | sort > /seen; true\n";

fn address(password: &str) -> String {
    format!("http://me:{password}@127.0.0.1:9")
}

#[test]
fn a_proxy_with_a_password_reaches_steps_only_when_it_was_asked_for() {
    let mut bench = need!(Bench::new());
    bench.file(SEEN);
    bench.sandbox.set("HTTPS_PROXY", &address(PASSWORD));
    bench.sandbox.set("http_proxy", "http://127.0.0.1:9").set("NO_PROXY", "me@corp.example");
    let ran = bench.run(&[]).success();
    let expected = "HTTP_PROXY=http://127.0.0.1:9\nNO_PROXY=me@corp.example\n\
        http_proxy=http://127.0.0.1:9\nno_proxy=me@corp.example\n";
    assert_eq!(text(&bench.image(), "seen"), expected);
    let ran = ran.says("HTTPS_PROXY holds a password, and RUN does not see it");
    let ran = ran.says("to pass it on: --build-arg HTTPS_PROXY\n");
    assert_eq!(ran.stderr.matches("HTTPS_PROXY holds").count(), 1, "{}", ran.stderr);
    assert!(!ran.stderr.contains(PASSWORD), "{}", ran.stderr);
    // Once asked for, both spellings, and no word. The result of before would do: proxies are in no key.
    fs::remove_dir_all(bench.sandbox.path("out")).unwrap();
    let ran = bench.run(&["--no-cache", "--build-arg", "HTTPS_PROXY"]).success();
    assert!(!ran.stderr.contains("holds a password"), "{}", ran.stderr);
    assert!(!ran.stderr.contains(PASSWORD), "{}", ran.stderr);
    let image = bench.image();
    let seen = text(&image, "seen");
    assert!(seen.contains(&format!("HTTPS_PROXY={}\n", address(PASSWORD))), "{seen}");
    assert!(seen.contains(&format!("https_proxy={}\n", address(PASSWORD))), "{seen}");
    assert!(!image.config.to_string().contains(PASSWORD), "{}", image.config);
    bench.sandbox.set("HTTPS_PROXY", &address("another"));
    assert_eq!(text(&bench.build(&["--build-arg", "HTTPS_PROXY"]), "seen"), seen);
    // Other arguments leave it where it is.
    bench.file("FROM busybox\nARG HTTPS_PROXY\nRUN echo $HTTPS_PROXY > /seen\n");
    assert_eq!(text(&bench.build(&["--build-arg", "OTHER=1"]), "seen"), "\n");
}

#[test]
fn proxies_of_dockers_configuration_reach_steps_and_no_description() {
    let mut bench = need!(Bench::new());
    let home = bench.sandbox.home().join(".docker");
    fs::create_dir(&home).unwrap();
    let own = address(PASSWORD);
    let text_of = format!(r#"{{"proxies": {{"default": {{"httpsProxy": "{own}"}}}}}}"#);
    fs::write(home.join("config.json"), text_of).unwrap();
    bench.sandbox.set("https_proxy", &address("other"));
    bench.file(SEEN);
    let ran = bench.run(&[]).success();
    assert_eq!(text(&bench.image(), "seen"), format!("HTTPS_PROXY={own}\nhttps_proxy={own}\n"));
    // The user's own configuration says it: nothing is asked.
    assert!(!ran.stderr.contains("holds a password"), "{}", ran.stderr);
    let typed = ["--build-arg", "HTTPS_PROXY=http://typed:1"];
    let image = bench.build(&[&["--no-cache"][..], &typed].concat());
    assert_eq!(text(&image, "seen"), "HTTPS_PROXY=http://typed:1\nhttps_proxy=http://typed:1\n");
    // Declared, it is one of the arguments that history names.
    bench.file("FROM busybox\nARG HTTPS_PROXY\nRUN echo $HTTPS_PROXY > /seen\n");
    let image = bench.build(&[]);
    assert_eq!(text(&image, "seen"), format!("{own}\n"));
    let history = image.config["history"].to_string();
    assert!(!history.contains(PASSWORD), "{history}");
    assert!(history.contains("|1 HTTPS_PROXY=http://***@127.0.0.1:9"), "{history}");
    // One that cannot be read is no reason to stop.
    fs::write(home.join("config.json"), "{").unwrap();
    bench.file("FROM busybox\nRUN true\n");
    bench.run(&["--network", "none"]).says("no proxy is taken from docker's configuration");
}

#[test]
fn a_step_has_fewer_rights_on_the_hosts_network_than_on_its_own() {
    let bench = need!(Bench::new());
    bench.file(
        "FROM busybox\nRUN grep CapBnd /proc/self/status > /host\n\
         RUN --network=none grep CapBnd /proc/self/status > /none\n",
    );
    let image = bench.build(&[]);
    assert_eq!(text(&image, "host"), "CapBnd:\t00000000a80401fb\n");
    assert_eq!(text(&image, "none"), "CapBnd:\t00000000a80425fb\n");
}

/// What a way out needs here.
fn way_out() -> Need<()> {
    program("pasta").or_else(|_| program("slirp4netns"))?;
    let tunnels = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    tunnels.map_err(Missing::because)?;
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let is_default = |line: &str| line.split_whitespace().nth(1) == Some("00000000");
    if routes.lines().any(is_default) { Ok(()) } else { Err(Missing::because("no way out")) }
}

#[test]
fn a_private_network_does_not_lead_to_this_machine() {
    need!(way_out());
    let bench = need!(Bench::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let try_it = format!("if nc 127.0.0.1 {port} </dev/null; then echo open; else echo shut; fi");
    bench.file(&format!(
        "FROM busybox\nRUN {try_it} > /tried; cp /etc/resolv.conf /proc/net/route /\n"
    ));
    let taking = std::thread::spawn(move || {
        let (taken, _) = listener.accept().unwrap();
        drop((taken, listener));
    });
    let image = bench.build(&["--network", "private"]);
    assert_eq!(text(&image, "tried"), "shut\n");
    assert!(text(&image, "resolv.conf").starts_with("nameserver 10.0.2.3\n"));
    assert!(text(&image, "route").contains("\t00000000\t"), "{}", text(&image, "route"));
    for same in ["default", "host"] {
        // Not taken from the step that was on another network.
        let image = bench.build(&["--network", same]);
        assert_eq!(text(&image, "tried"), "open\n");
    }
    taking.join().unwrap();
}

#[test]
fn what_a_private_network_lacks_is_named_before_the_step() {
    let mut bench = need!(Bench::new());
    bench.file("FROM busybox\nRUN true\n");
    let empty = bench.sandbox.path("empty");
    fs::create_dir(&empty).unwrap();
    bench.sandbox.set("PATH", empty.to_str().unwrap());
    let ran = bench.run(&["--network", "private"]).code(1);
    ran.says("neither pasta nor slirp4netns is on PATH").says("apt install passt");
    bench.run(&["--network", "bridge"]).code(2).says("expected host, none or private");
}
