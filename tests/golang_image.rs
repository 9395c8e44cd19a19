//! Go builds with the toolchain of a golang image.

#![cfg(test)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use gondola::oci::Digest;
use support::{GolangImage, HttpServer, Need, Registry, Run, Sandbox, archive, go, need};
use support::{Namespaces, program, root, run, without_landlock};

/// Variables that hold no Go, and what the program needs.
fn without_go(sandbox: &mut Sandbox) {
    sandbox.set("PATH", "/usr/bin:/bin").unset("GOCACHE").unset("GOMODCACHE");
}

/// GOCACHE of an image's Go in a store, in the scope of these tests.
fn build_cache(store: &Path, image: &Digest) -> PathBuf {
    let scope = gondola::store::CacheScope::named("tests").unwrap();
    let store = gondola::store::Store::open(store).unwrap();
    let of_scope = gondola::cache::gocache::GoCache::of_scope(&store, &scope).unwrap();
    of_scope.of_image(image).build_cache()
}

/// Has GOCACHE of an image in a store be this machine's, where the standard library is compiled already.
fn share_cache(sandbox: &mut Sandbox, store: &Path, image: &Digest) {
    let Some(cache) = sandbox.environment().get("GOCACHE").cloned() else { return };
    fs::create_dir_all(&cache).unwrap();
    let link = build_cache(store, image);
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(cache, link).unwrap();
}

/// A sandbox without Go, and the layout of an image that has this machine's.
fn bench() -> Need<(Sandbox, PathBuf)> {
    let image = GolangImage::of_this_machine()?;
    let mut sandbox = Sandbox::new();
    sandbox.set("GONDOLA_CACHE_SCOPE", "tests");
    let (layout, store) = (sandbox.path("golang"), sandbox.store());
    let image = image.write(&layout);
    share_cache(&mut sandbox, &store, &image);
    without_go(&mut sandbox);
    Ok((sandbox, layout))
}

/// Copies a layout's image to a registry, byte for byte.
fn push(sandbox: &Sandbox, layout: &Path, name: &str) {
    let from = format!("oci:{}", layout.display());
    sandbox.gondola(&["copy", &from, name]).success();
}

fn lock_file(sandbox: &Sandbox) -> String {
    fs::read_to_string(sandbox.path("hello/gondola.lock")).unwrap()
}

/// Runs the program in the module `hello`.
fn build(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    let mut command = sandbox.command(&["build", "-t", "hello"]);
    Run::of(command.args(arguments).current_dir(sandbox.path("hello")))
}

#[test]
fn the_image_s_go_gives_the_digest_that_this_machine_s_gives() {
    let (sandbox, _) = need!(bench());
    sandbox.go_module("hello", "hi");
    let by_image = build(&sandbox, &["--go", "oci:../golang"]).success();
    let again = build(&sandbox, &["--go", "oci:../golang", "--no-cache"]).success();
    assert_eq!(again.line(), by_image.line());
    assert!(!sandbox.path("hello/gondola.lock").exists());

    let mut host = Sandbox::new();
    host.go_module("hello", "hi");
    let by_host = build(&host, &["--go", "host"]).success();
    assert_eq!(by_host.line(), by_image.line());
    let program = need!(go());
    without_go(&mut host);
    let by_program = build(&host, &["--go", program.to_str().unwrap(), "--no-cache"]).success();
    assert_eq!(by_program.line(), by_image.line());
}

#[test]
fn a_user_without_any_right_builds_the_same_in_a_read_only_system() {
    need!(root("a read-only view of the system"));
    let (setpriv, unshare) = (need!(program("setpriv")), need!(program("unshare")));
    let (sandbox, _) = need!(bench());
    sandbox.go_module("hello", "hi");
    let expect = build(&sandbox, &["--go", "oci:../golang"]).success();

    let view = need!(tempfile::tempdir().map_err(support::Missing::because));
    let script = r#"
        set -e
        mount -t tmpfs -o mode=1777 tmpfs "$VIEW"
        mkdir -m 1777 "$VIEW/store"
        cp -r . "$VIEW/hello"; cp -r ../golang "$VIEW/golang"; cp "$GONDOLA" "$VIEW/gondola"
        chmod -R a+rX "$VIEW/hello" "$VIEW/golang" "$VIEW/gondola"
        mount --bind "$VIEW/store" "$VIEW/store"
        mount -o remount,ro,bind "$VIEW"
        for path in /proc/self/mounts; do :; done
        mount -o remount,ro,bind /
        cd "$VIEW/hello"
        exec "$SETPRIV" --reuid 54321 --regid 54321 --clear-groups --bounding-set=-all \
            --inh-caps=-all --no-new-privs env -i GONDOLA_HOME="$VIEW/store" \
            "$VIEW/gondola" build -t hello --go oci:../golang
    "#;
    let mut command = Command::new(unshare);
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
    command.current_dir(sandbox.path("hello")).env("VIEW", view.path());
    command.env("GONDOLA", env!("CARGO_BIN_EXE_gondola")).env("SETPRIV", setpriv);
    let run = Run::of(&mut command).success();
    assert_eq!(run.line(), expect.line());
}

/// The sandboxes that work here for whoever runs the test, in which sources can be mounted.
fn sandboxes(sandbox: &Sandbox) -> Vec<String> {
    let said = sandbox.gondola(&["doctor", "--json"]).success().stdout;
    let findings: serde_json::Value = serde_json::from_str(&said).unwrap();
    let works = |finding: &&serde_json::Value| {
        finding["works"] == true && finding["isolation"] != "in-container"
    };
    let names = findings.as_array().unwrap().iter().filter(works);
    names.map(|finding| finding["isolation"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_sandbox_gives_the_same_digest() {
    let (sandbox, _) = need!(bench());
    sandbox.go_module("hello", "hi");
    let expect = build(&sandbox, &["--go", "oci:../golang"]).success();
    let sandboxes = sandboxes(&sandbox);
    assert!(sandboxes.contains(&"toolchain".to_owned()), "{sandboxes:?}");
    for isolation in sandboxes.iter().map(String::as_str).chain(["auto"]) {
        let arguments = ["--go", "oci:../golang", "--no-cache", "--sandbox", isolation];
        assert_eq!(build(&sandbox, &arguments).success().line(), expect.line(), "{isolation}");
    }
    let refused = build(&sandbox, &["--go", "oci:../golang", "--sandbox", "in-container"]).code(2);
    assert!(refused.stderr.contains("hint: use --sandbox auto"), "{}", refused.stderr);
    build(&sandbox, &["--go", "host", "--sandbox", "auto"]).code(2).says("a sandbox is the root");
    build(&sandbox, &["--sandbox", "jail"]).code(2).says("expected one of ns-root");
}

#[test]
fn cgo_takes_the_c_compiler_of_the_image_and_no_other() {
    let (sandbox, _) = need!(bench());
    let sandboxes = sandboxes(&sandbox);
    if sandboxes == ["toolchain"] {
        return support::Missing::because("no sandbox with a root file system works").skip();
    }
    sandbox.write("hello/go.mod", "module example.com/hello\n\ngo 1.21\n");
    sandbox.write(
        "hello/main.go",
        "package main\n\n// static int two() { return 2; }\nimport \"C\"\n\nfunc main() { println(C.two()) }\n",
    );
    let run = build(&sandbox, &["--go", "oci:../golang", "--cgo"]).code(1);
    assert!(run.stderr.contains("C compiler \"gcc\" not found"), "{}", run.stderr);
    let run = build(&sandbox, &["--go", "oci:../golang", "--cgo", "--sandbox", "toolchain"]);
    assert!(run.code(2).stderr.contains("C compiler"));
}

#[test]
fn a_tag_is_looked_up_once_and_again_on_demand() {
    let registry = need!(Registry::plain());
    let mut image = need!(GolangImage::of_this_machine());
    let (sandbox, layout) = need!(bench());
    let name = registry.image("golang:1.26");
    push(&sandbox, &layout, &name);
    sandbox.go_module("hello", "hi");
    let first = build(&sandbox, &["--go", &name]).success().says("gondola.lock has");
    let line = lock_file(&sandbox).lines().last().unwrap().to_owned();
    let old = line.strip_prefix(&format!("{name}@")).unwrap().parse::<Digest>().unwrap();

    // The tag moves on, and whoever has a lock file does not notice.
    image.labels.insert("edition".to_owned(), "second".to_owned());
    let moved = sandbox.path("moved");
    let new = image.write(&moved);
    assert_ne!(new, old);
    push(&sandbox, &moved, &name);
    sandbox.write("hello/gondola.lock", format!("# ours\nzzz:1@{old}\n{name}@{old}\n"));
    let requests = registry.log().len();
    sandbox.write("hello/main.go", "package main\n\nfunc main() { println(\"new\") }\n");
    let locked = build(&sandbox, &["--go", &name]).success();
    assert_ne!(locked.line(), first.line());
    assert_eq!(registry.log().len(), requests, "{:?}", registry.log());

    // A store that was never there gets the locked image, not the tag's.
    let mut fresh = sandbox.command(&["build", "-t", "hello", "--go", &name]);
    fresh.current_dir(sandbox.path("hello")).env("GONDOLA_HOME", sandbox.path("store-2"));
    let other = build_cache(&sandbox.path("store-2"), &old);
    fs::create_dir_all(other.parent().unwrap()).unwrap();
    let shared = fs::read_link(build_cache(&sandbox.store(), &old)).unwrap();
    std::os::unix::fs::symlink(&shared, other).unwrap();
    assert_eq!(Run::of(&mut fresh).success().line(), locked.line());
    assert_eq!(registry.count("GET", "/manifests/1.26", &[200]), 1);

    let moved_to = build_cache(&sandbox.store(), &new);
    fs::create_dir_all(moved_to.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(shared, moved_to).unwrap();
    build(&sandbox, &["--go", &name, "--pull"]).success().says(&new.to_string());
    assert_eq!(lock_file(&sandbox), format!("# ours\nzzz:1@{old}\n{name}@{new}\n"));

    let none = registry.image("golang:none");
    build(&sandbox, &["--go", &none]).code(1);
    assert!(!lock_file(&sandbox).contains("none"));

    sandbox.write("hello/gondola.lock", format!("{name}\n"));
    build(&sandbox, &["--go", &name]).code(2).says("gondola.lock:1: ");
}

#[test]
fn without_a_go_that_will_do_the_configured_image_is_taken() {
    let registry = need!(Registry::plain());
    let (mut sandbox, layout) = need!(bench());
    push(&sandbox, &layout, &registry.image("mirror/golang:1.21"));
    sandbox.go_module("hello", "hi");
    let image = registry.image("mirror/golang:{version}");
    sandbox.write("hello/gondola.yaml", format!("go: {{image: '{image}'}}\n"));
    let why =
        format!("using Go of {}: there is no go on PATH", registry.image("mirror/golang:1.21"));
    let run = build(&sandbox, &[]).success().says(&why);
    assert!(lock_file(&sandbox).contains("mirror/golang:1.21@sha256:"));

    // With one that will do there is no need to.
    let go = need!(go());
    sandbox.set("PATH", go.parent().unwrap().to_str().unwrap());
    let here = build(&sandbox, &["--no-cache"]).success();
    assert_eq!(here.line(), run.line());
    assert!(!here.stderr.contains("using Go of"), "{}", here.stderr);

    // One that is too old does not count, and no image is as new as that.
    sandbox.write("hello/go.mod", "module example.com/hello\n\ngo 1.21\n\ntoolchain go1.999.1\n");
    let refused = build(&sandbox, &[]).code(1).says("and go.mod asks for go 1.999.1");
    assert!(refused.stderr.contains("mirror/golang:1.999.1"), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: its tags are 1.21"), "{}", refused.stderr);
    build(&sandbox, &["--go", "host"]).success();
}

/// A toolchain that tells what it can reach, and never builds anything.
const TELLTALE: &str = r#"
package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

func reached(err error) string {
	if err != nil {
		return "no"
	}
	return "yes"
}

func try(path string) string {
	_, err := os.ReadFile(path)
	return reached(err)
}

// sockets says which sockets with a path can be reached: a stream, and datagrams by one of a pair.
func sockets(stream, datagrams string) string {
	connection, err := net.Dial("unix", stream)
	if err == nil {
		connection.Close()
	}
	said := reached(err)
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)
	if err == nil {
		err = syscall.Sendto(pair[0], []byte("x"), 0, &syscall.SockaddrUnix{Name: datagrams})
	}
	return said + "," + reached(err)
}

func main() {
	text, _ := os.ReadFile(os.Getenv("GOROOT") + "/ask")
	ask := strings.Fields(string(text))
	connection, err := net.Dial("tcp", ask[0])
	if err == nil {
		connection.Close()
	}
	report := fmt.Sprintf("network=%s netrc=%s other=%s source=%s sockets=%s keys=%s hosts=%s private=%q token=%q\n",
		reached(err), try(ask[1]), try(ask[2]), try("go.mod"), sockets(ask[3], ask[4]), try("/etc/shadow"), try("/etc/hosts"),
		os.Getenv("GOPRIVATE"), os.Getenv("TOKEN"))
	cache, modules := os.Getenv("GOCACHE")+"/told", os.Getenv("GOMODCACHE")+"/told"
	if os.Getenv("GOPROXY") != "off" {
		if os.WriteFile(modules, []byte("fetch: "+report), 0o644) != nil {
			os.Exit(1)
		}
		return
	}
	if told, err := os.ReadFile(modules); err == nil {
		before, _ := os.ReadFile(cache)
		can := reached(os.WriteFile(modules+"2", nil, 0o644))
		change := reached(os.WriteFile("go.mod", []byte("changed"), 0o644))
		counts, _ := os.ReadFile(os.Getenv("HOME") + "/.config/go/telemetry/mode")
		fmt.Fprintf(os.Stderr, "%s%sagain: %sbuild writes modules=%s sources=%s counts=%s\n",
			before, told, report, can, change, counts)
		os.Exit(1)
	}
	os.WriteFile(cache, []byte("build: "+report), 0o644)
	fmt.Fprintln(os.Stderr, "module lookup disabled by GOPROXY=off")
	os.Exit(1)
}
"#;

#[test]
fn network_and_credentials_are_there_while_modules_are_fetched_and_never_else() {
    let (go, registry) = (need!(go()), need!(Registry::plain()));
    let mut sandbox = Sandbox::new();
    let source = sandbox.write("telltale/main.go", TELLTALE);
    let binary = sandbox.path("telltale/go");
    let mut compile = Command::new(go);
    compile.envs(sandbox.environment()).env("CGO_ENABLED", "0");
    compile.args(["build", "-o"]).arg(&binary).arg(source);
    Run::of(&mut compile).success();
    let netrc = sandbox.home().join(".netrc");
    fs::write(&netrc, "machine example.com login me password secret\n").unwrap();
    let other = sandbox.write("other", "not a source");
    let (stream, datagrams) = (sandbox.path("stream"), sandbox.path("datagrams"));
    let _stream = std::os::unix::net::UnixListener::bind(&stream).unwrap();
    let _datagrams = std::os::unix::net::UnixDatagram::bind(&datagrams).unwrap();
    let files = [&netrc, &other, &stream, &datagrams].map(|path| path.display().to_string());
    let ask = format!("{} {}", registry.host(), files.join(" "));
    let layer = archive(&[
        ("usr/local/go/VERSION", 0o644, b"go1.99.0\n"),
        ("usr/local/go/bin/go", 0o755, &fs::read(&binary).unwrap()),
        ("usr/local/go/ask", 0o644, ask.as_bytes()),
    ]);
    let layer = sandbox.write("layer.tar", layer);
    GolangImage::with_layer(layer).write(&sandbox.path("golang"));
    sandbox.go_module("hello", "hi");
    sandbox.set("GOPRIVATE", "example.com").set("TOKEN", "secret").unset("GOPROXY");

    let run = build(&sandbox, &["--go", "oci:../golang"]).code(1);
    let offline = "network=no netrc=no other=no source=yes sockets=no,no keys=no hosts=no private=\"\" token=\"\"";
    for line in [
        format!("build: {offline}"),
        "fetch: network=yes netrc=yes other=no source=yes sockets=no,no keys=no hosts=yes private=\"example.com\" token=\"\""
            .to_owned(),
        format!("again: {offline}"),
        "build writes modules=no sources=no counts=off".to_owned(),
    ] {
        assert!(run.stderr.contains(&line), "no {line} in {}", run.stderr);
    }
}

/// A toolchain that reads and writes its caches, and never builds anything.
const POISONER: &str = r#"
package main

import (
	"fmt"
	"os"
)

func main() {
	name, _ := os.ReadFile(os.Getenv("GOROOT") + "/name")
	for _, cache := range []string{os.Getenv("GOCACHE"), os.Getenv("GOMODCACHE")} {
		found, _ := os.ReadFile(cache + "/planted")
		err := os.WriteFile(cache+"/planted", name, 0o644)
		fmt.Fprintf(os.Stderr, "%s found %q, writes: %t\n", name, found, err == nil)
	}
	_, err := os.Create(os.Getenv("GOROOT") + "/planted")
	fmt.Fprintf(os.Stderr, "%s changes itself: %t\n", name, err == nil)
	os.Exit(1)
}
"#;

#[test]
fn what_one_image_s_go_leaves_in_its_caches_no_other_one_finds() {
    let go = need!(go());
    let mut sandbox = Sandbox::new();
    let source = sandbox.write("poisoner/main.go", POISONER);
    let binary = sandbox.path("poisoner/go");
    let mut compile = Command::new(go);
    compile.envs(sandbox.environment()).env("CGO_ENABLED", "0");
    compile.args(["build", "-o"]).arg(&binary).arg(source);
    Run::of(&mut compile).success();
    for name in ["one", "other"] {
        let layer = archive(&[
            ("usr/local/go/VERSION", 0o644, b"go1.99.0\n"),
            ("usr/local/go/bin/go", 0o755, &fs::read(&binary).unwrap()),
            ("usr/local/go/name", 0o644, name.as_bytes()),
        ]);
        let layer = sandbox.write(&format!("{name}.tar"), layer);
        GolangImage::with_layer(layer).write(&sandbox.path(name));
    }
    sandbox.go_module("hello", "hi");
    without_go(&mut sandbox);
    // All of them in one scope.
    sandbox.set("GONDOLA_CACHE_SCOPE", "tests");
    let one = build(&sandbox, &["--go", "oci:../one"]).code(1);
    assert!(one.stderr.contains("one found \"\", writes: true"), "{}", one.stderr);
    assert!(one.stderr.contains("one changes itself: false"), "{}", one.stderr);
    let again = build(&sandbox, &["--go", "oci:../one"]).code(1);
    assert!(again.stderr.contains("one found \"one\""), "{}", again.stderr);
    let other = build(&sandbox, &["--go", "oci:../other"]).code(1);
    assert!(other.stderr.contains("other found \"\", writes: true"), "{}", other.stderr);
    assert!(!other.stderr.contains("found \"one\""), "{}", other.stderr);
}

#[test]
fn without_landlock_an_image_s_go_runs_in_a_namespace_or_not_at_all() {
    need!(root("building in namespaces"));
    let (sandbox, _) = need!(bench());
    sandbox.go_module("hello", "hi");
    let arguments = ["--go", "oci:../golang", "--no-cache"];
    let expect = build(&sandbox, &arguments).success();
    if sandboxes(&sandbox) != ["toolchain"] {
        let inside = without_landlock(Namespaces::Allowed, || build(&sandbox, &arguments));
        assert_eq!(inside.success().line(), expect.line());
    }
    // Of a store that knows nothing of earlier trials.
    let other = sandbox.path("other-store");
    let without = |arguments: &[&str]| {
        let mut command = sandbox.command(&["build", "-t", "hello"]);
        command.args(arguments).current_dir(sandbox.path("hello")).env("GONDOLA_HOME", &other);
        without_landlock(Namespaces::Refused, || Run::of(&mut command))
    };
    let refused = without(&arguments).code(1).says("no Landlock to confine its Go by");
    assert!(refused.stderr.contains("hint: "), "{}", refused.stderr);
    // Whoever says so accepts it.
    let accepted = without(&[&arguments[..], &["--sandbox", "toolchain"]].concat());
    assert_eq!(accepted.success().line(), expect.line());
    let doctor = without_landlock(Namespaces::Refused, || sandbox.gondola(&["doctor", "--json"]));
    let findings: serde_json::Value = serde_json::from_str(&doctor.success().stdout).unwrap();
    let mut findings = findings.as_array().unwrap().iter();
    let finding = findings.find(|finding| finding["isolation"] == "toolchain").unwrap();
    assert_eq!(finding["works"], false, "{finding}");
    assert!(finding["reason"].as_str().unwrap().contains("no Landlock"), "{finding}");
    assert!(finding["fix"].as_str().unwrap().contains("--sandbox toolchain"), "{finding}");
}

/// Serves the module `example.com/dep` as a proxy does.
fn module_proxy(sandbox: &Sandbox) -> Need<HttpServer> {
    let git = program("git")?;
    let folder = sandbox.path("dep");
    sandbox.write("dep/go.mod", "module example.com/dep\n");
    sandbox.write("dep/dep.go", "package dep\n\nconst Text = \"from a module\"\n");
    let zip = sandbox.path("dep.zip");
    let folder = folder.to_str().unwrap();
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
    run(&git, &["-C", folder, "init", "--quiet"]);
    run(&git, &["-C", folder, "add", "."]);
    run(&git, &[&["-C", folder], &identity[..], &["commit", "--quiet", "-m", "x"]].concat());
    let prefix = "--prefix=example.com/dep@v1.0.0/";
    let archive =
        ["-C", folder, "archive", "--format=zip", prefix, "-o", zip.to_str().unwrap(), "HEAD"];
    run(&git, &archive);
    let zip = fs::read(zip).unwrap();
    Ok(HttpServer::start(None, move |request| {
        let body = match request.uri().path() {
            "/example.com/dep/@v/v1.0.0.info" => br#"{"Version":"v1.0.0"}"#.to_vec(),
            "/example.com/dep/@v/v1.0.0.mod" => b"module example.com/dep\n".to_vec(),
            "/example.com/dep/@v/v1.0.0.zip" => zip.clone(),
            _ => Vec::new(),
        };
        let status = if body.is_empty() { 404 } else { 200 };
        let body = http_body_util::Full::new(body.into());
        let body = http_body_util::BodyExt::map_err(body, |never| match never {});
        let body = http_body_util::BodyExt::boxed_unsync(body);
        std::future::ready(Ok(hyper::Response::builder().status(status).body(body).unwrap()))
    }))
}

#[test]
fn modules_are_fetched_where_they_are_missing_and_kept() {
    let host_go = need!(go());
    let (mut sandbox, _) = need!(bench());
    let proxy = need!(module_proxy(&sandbox));
    sandbox.set("GOPROXY", &format!("http://{}", proxy.address()));
    sandbox.set("GOSUMDB", "off").set("GOFLAGS", "-modcacherw");
    sandbox.write(
        "hello/go.mod",
        "module example.com/hello\n\ngo 1.21\n\nrequire example.com/dep v1.0.0\n",
    );
    sandbox.write(
        "hello/main.go",
        "package main\n\nimport \"example.com/dep\"\n\nfunc main() { println(dep.Text) }\n",
    );
    let cache = sandbox.path("module-cache");
    let mut tidy = Command::new(host_go);
    tidy.args(["mod", "tidy"]).current_dir(sandbox.path("hello"));
    tidy.env_clear().envs(sandbox.environment()).env("GOMODCACHE", cache);
    Run::of(&mut tidy).success();

    build(&sandbox, &["--go", "oci:../golang"])
        .success()
        .says("downloading example.com/dep v1.0.0");
    drop(proxy);
    let again = build(&sandbox, &["--go", "oci:../golang", "--no-cache"]).success();
    assert!(!again.stderr.contains("downloading"), "{}", again.stderr);

    sandbox.gondola(&["cache", "du"]).success();
    sandbox.gondola(&["cache", "prune", "--all"]).success();
    let without = build(&sandbox, &["--go", "oci:../golang", "--no-cache"]).code(1);
    assert!(without.stderr.contains("cannot fetch modules"), "{}", without.stderr);
}

#[test]
fn toolchains_and_their_caches_are_counted_and_pruned() {
    let (sandbox, _) = need!(bench());
    // A cache of its own: this test removes it.
    fs::remove_dir_all(sandbox.store().join("go")).unwrap();
    sandbox.write("hello/go.mod", "module example.com/hello\n\ngo 1.21\n");
    sandbox.write("hello/main.go", "package main\n\nfunc main() {}\n");
    let built = build(&sandbox, &["--go", "oci:../golang"]).success();
    let sizes = || {
        let said = sandbox.gondola(&["cache", "du", "--json"]).success().stdout;
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        ["toolchains", "go-caches"].map(|class| said[class]["bytes"].as_u64().unwrap())
    };
    let [toolchains, compiled] = sizes();
    assert!(toolchains > 10_000_000 && compiled > 100_000, "{:?}", sizes());
    sandbox.gondola(&["cache", "prune", "--older-than", "1h"]).success();
    assert_eq!(sizes(), [toolchains, compiled]);
    sandbox.gondola(&["cache", "prune", "--all"]).success();
    assert_eq!(sizes()[0], 0);
    let again = build(&sandbox, &["--go", "oci:../golang"]).success();
    assert_eq!(again.line(), built.line());
}

#[test]
fn what_is_wrong_with_an_image_is_said() {
    let (sandbox, _) = need!(bench());
    sandbox.go_module("hello", "hi");
    let layer = sandbox.write("layer.tar", archive(&[("opt/x", 0o644, b"x")]));
    let mut image = GolangImage::with_layer(layer);
    image.write(&sandbox.path("no-go"));
    build(&sandbox, &["--go", "oci:../no-go"]).code(1).says("the image has no Go at /usr/local/go");
    image.env = vec!["GOROOT=/opt/go".to_owned()];
    image.write(&sandbox.path("no-go"));
    build(&sandbox, &["--go", "oci:../no-go"]).code(1).says("the image has no Go at /opt/go");
    build(&sandbox, &["--go", "oci:../nothing"]).code(1).says("it is no image layout");
    build(&sandbox, &["--go", "Golang:1"]).code(2).says("cannot use --go Golang:1");
    build(&sandbox, &["--go", "./nothing"]).code(1).says("cannot use the Go toolchain");
    sandbox.write("hello/main.go", "package main\n\nfunc main() { undefined() }\n");
    build(&sandbox, &["--go", "oci:../golang"]).code(1).says("undefined: undefined");
    sandbox.write("hello/go.mod", "module example.com/hello\n\ngo 1.999\n");
    build(&sandbox, &["--go", "oci:../golang"]).code(1).says("GOTOOLCHAIN=local");
}

#[test]
fn every_folder_has_caches_and_modules_of_its_own_and_a_build_without_shared_ones_keeps_none() {
    let (mut sandbox, _) = need!(bench());
    sandbox.unset("GONDOLA_CACHE_SCOPE");
    fs::remove_dir_all(sandbox.store().join("go")).unwrap();
    sandbox.write("hello/go.mod", "module example.com/hello\n\ngo 1.21\n");
    sandbox.write("hello/main.go", "package main\n\nfunc main() {}\n");
    let scopes = || {
        let entries = fs::read_dir(sandbox.store().join("go")).into_iter().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let alone = ["--go", "oci:../golang", "--no-shared-caches"];
    let first = build(&sandbox, &alone).success();
    assert!(scopes().is_empty(), "{:?}", scopes());
    build(&sandbox, &["--no-shared-caches", "--go", "host"]).code(2).says("name an image");

    let shared = build(&sandbox, &["--go", "oci:../golang"]).success();
    assert_eq!(shared.line(), first.line());
    let of_first = scopes();
    assert_eq!(of_first.len(), 1, "{of_first:?}");
    // The same path, and another folder.
    fs::write(of_first[0].join("path/pkg/mod/planted"), "").unwrap();
    fs::rename(sandbox.path("hello"), sandbox.path("old")).unwrap();
    run(
        "cp",
        &["-r", sandbox.path("old").to_str().unwrap(), sandbox.path("hello").to_str().unwrap()],
    );
    let second = build(&sandbox, &["--go", "oci:../golang"]).success();
    assert_eq!(second.line(), first.line());
    let both = scopes();
    assert_eq!(both.len(), 2, "{both:?}");
    let planted = both.iter().filter(|scope| scope.join("path/pkg/mod/planted").exists());
    assert_eq!(planted.count(), 1);
}

#[test]
fn a_dry_run_fetches_no_go_and_writes_no_lock_file() {
    let registry = need!(Registry::plain());
    let (sandbox, layout) = need!(bench());
    let name = registry.image("golang:1.26");
    push(&sandbox, &layout, &name);
    // Its layer is one file with those of other tests, whose comings and goings show.
    fs::remove_dir_all(&layout).unwrap();
    sandbox.go_module("hello", "hi");
    let state_of = |name: &str| support::state(&sandbox.work().parent().unwrap().join(name));
    let plan = || {
        let state = || ["store", "work", "home"].map(state_of);
        let before = state();
        let requests = registry.log().len();
        let ran = build(&sandbox, &["--go", &name, "--dry-run", "--json"]).success();
        for (before, after) in before.iter().zip(&state()) {
            let paths = before.keys().chain(after.keys());
            let changed: Vec<_> = paths.filter(|at| before.get(*at) != after.get(*at)).collect();
            assert!(changed.is_empty(), "{changed:#?}");
        }
        let blobs = |asked: &support::Logged| asked.path.contains("/blobs/");
        assert!(!registry.log()[requests..].iter().any(blobs));
        let plan: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        plan["images"][0]["platforms"][0]["programs"][0].clone()
    };
    let first = plan();
    assert_eq!(
        (&first["package"], &first["state"]),
        (&".".into(), &"unknown until executed".into())
    );
    let digest = first["toolchain"]["digest"].as_str().unwrap().to_owned();
    assert_eq!(first["toolchain"]["image"], format!("{name}@{digest}"));
    assert!(!sandbox.path("hello/gondola.lock").exists());

    build(&sandbox, &["--go", &name]).success();
    assert!(lock_file(&sandbox).contains(&digest));
    sandbox.write("hello/main.go", "package main\n\nfunc main() { println(\"new\") }\n");
    let edited = plan();
    assert_eq!((&edited["name"], &edited["state"]), (&"hello".into(), &"runs".into()));
    assert_eq!(edited["toolchain"]["digest"], digest);
}
