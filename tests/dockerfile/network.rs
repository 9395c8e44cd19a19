//! Which proxies steps see.

use fs_err as fs;

use super::bench::{Bench, text};
use super::support::need;

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
