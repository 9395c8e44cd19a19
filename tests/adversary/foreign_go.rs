//! An image whose Go is the attacker's program: it is executed on this machine where no sandbox is.

use std::net::TcpListener;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Command;

use fs_err as fs;

use super::Attack;
use super::support::{GolangImage, Need, Sandbox, archive, go, succeed};
use super::world::{Ended, Findings, Session, run};

pub const ATTACKS: &[Attack] = &[
    ("an image's Go and this machine", machine),
    ("an image's Go and links in a cache mount", planted_links),
];

/// Does what the file `ask` beside it says, a line each, and says what came of it.
const HOSTILE: &str = r#"
package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

func act(words []string) error {
	switch words[0] {
	case "connect":
		connection, err := net.Dial("unix", words[1])
		if err == nil {
			connection.Close()
		}
		return err
	case "datagram":
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		return syscall.Sendto(pair[0], []byte("x"), 0, &syscall.SockaddrUnix{Name: words[1]})
	case "dial":
		connection, err := net.Dial("tcp", words[1])
		if err == nil {
			connection.Close()
		}
		return err
	case "read":
		_, err := os.ReadFile(words[1])
		return err
	case "write":
		file, err := os.OpenFile(words[1], os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			file.Close()
		}
		return err
	case "truncate":
		return syscall.Truncate(words[1], 0)
	case "chmod":
		return os.Chmod(words[1], 0o777)
	case "link":
		return os.Symlink(words[1], words[2])
	case "kill":
		var number int
		fmt.Sscan(words[1], &number)
		return syscall.Kill(number, 0)
	}
	return fmt.Errorf("unknown")
}

func main() {
	text, _ := os.ReadFile(os.Getenv("GOROOT") + "/ask")
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		if err := act(strings.Fields(os.ExpandEnv(line))); err != nil {
			fmt.Fprintf(os.Stderr, ">> %s = held: %v\n", line, err)
		} else {
			fmt.Fprintf(os.Stderr, ">> %s = reached\n", line)
		}
	}
}
"#;

/// A layout of an image whose Go does what is asked.
fn write_image(sandbox: &Sandbox, ask: &str) -> Need<()> {
    let binary = sandbox.path("hostile/go");
    if !binary.exists() {
        let source = sandbox.write("hostile/main.go", HOSTILE);
        let mut compile = Command::new(go()?);
        compile.env_clear().envs(sandbox.environment()).env("CGO_ENABLED", "0");
        succeed(compile.args(["build", "-o"]).arg(&binary).arg(source));
    }
    let layer = archive(&[
        ("usr/local/go/VERSION", 0o644, b"go1.99.0\n"),
        ("usr/local/go/bin/go", 0o755, &fs::read(&binary).unwrap()),
        ("usr/local/go/ask", 0o644, ask.as_bytes()),
    ]);
    let layer = sandbox.write("layer.tar", layer);
    GolangImage::with_layer(layer).write(&sandbox.path("golang"));
    Ok(())
}

/// Builds steps on that image where no sandbox is.
fn build(sandbox: &Sandbox, steps: &str, further: &[&str]) -> Result<Ended, String> {
    sandbox.write("ctx/Dockerfile", format!("FROM golang\nWORKDIR /app\n{steps}\n"));
    let words = ["build", "-f", "ctx/Dockerfile", "--sandbox", "toolchain", "--progress", "plain"];
    let more = ["--no-cache", "--build-context", "golang=oci-layout://golang", "-o", "oci:out"];
    run(&mut sandbox.command(&[&words[..], &more, further, &["ctx"]].concat()))
}

/// Judges each line that was asked for: it has to be held.
fn judge(findings: &mut Findings, place: &str, asked: &[String], ended: &Ended) {
    for line in asked {
        let said = format!(">> {line} = ");
        let answers: Vec<&str> =
            ended.stderr.lines().filter_map(|it| it.split_once(&said)).map(|it| it.1).collect();
        let outcome = match answers.as_slice() {
            [] => Err(format!("no answer: {}", ended.said())),
            answers if answers.iter().any(|it| it.starts_with("reached")) => {
                Err("reached".to_owned())
            }
            _ => Ok(()),
        };
        findings.judge(&format!("{place}: {line}"), outcome);
    }
}

fn machine(_: &Session, findings: &mut Findings) -> Need<()> {
    let sandbox = Sandbox::new();
    let (stream, datagrams) = (sandbox.path("stream"), sandbox.path("datagrams"));
    let _stream = UnixListener::bind(&stream).unwrap();
    let _datagrams = UnixDatagram::bind(&datagrams).unwrap();
    let secret = sandbox.write("secret", "what-only-the-host-may-know");
    let cache = sandbox.home().join(".cache/go-build");
    fs::create_dir_all(&cache).unwrap();
    let shown = |path: &Path| path.display().to_string();
    let asked = vec![
        format!("connect {}", shown(&stream)),
        format!("datagram {}", shown(&datagrams)),
        format!("read {}", shown(&secret)),
        format!("write {}", shown(&secret)),
        format!("truncate {}", shown(&secret)),
        format!("chmod {}", shown(&secret)),
        "chmod $GOROOT/bin/go".to_owned(),
        format!("write {}/planted", shown(&cache)),
        "write $GOROOT/bin/planted".to_owned(),
        "write $GOROOT/../planted".to_owned(),
        format!("write {}/planted", shown(&sandbox.store())),
        "read /etc/shadow".to_owned(),
        format!("kill {}", std::process::id()),
    ];
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let dial = format!("dial {}", server.local_addr().unwrap());
    let own = "write $GOCACHE/own".to_owned();
    write_image(&sandbox, &[&asked[..], &[own.clone(), dial.clone()]].concat().join("\n"))?;
    for (place, network, flags, connects) in [
        ("no network", "none", &[][..], false),
        ("network", "host", &[], true),
        ("offline", "host", &["--offline"], false),
    ] {
        let steps = format!("RUN --network={network} [\"go\", \"version\"]");
        let ended = match build(&sandbox, &steps, flags) {
            Ok(ended) => ended,
            Err(why) => {
                findings.judge(place, Err(why));
                continue;
            }
        };
        judge(findings, place, &asked, &ended);
        for (line, is_meant) in [(&own, true), (&dial, connects)] {
            let is_so = ended.stderr.contains(&format!(">> {line} = reached"));
            let outcome = if is_so == is_meant { Ok(()) } else { Err(ended.said()) };
            findings.judge(&format!("{place}: {line}"), outcome);
        }
    }
    let kept = fs::read_to_string(&secret).unwrap();
    let is_whole = kept == "what-only-the-host-may-know";
    findings.judge("the secret", if is_whole { Ok(()) } else { Err(kept) });
    Ok(())
}

/// One step has the folder of a cache for its own, and puts a link there; the next asks for that link to be
/// its cache, and so to be written to.
fn planted_links(_: &Session, findings: &mut Findings) -> Need<()> {
    let sandbox = Sandbox::new();
    let outside = sandbox.path("outside");
    fs::create_dir(&outside).unwrap();
    let asked = [
        format!("link {} $GOMODCACHE/evil", outside.display()),
        format!("write {}/planted", outside.display()),
        "write $GOCACHE/planted".to_owned(),
    ];
    write_image(&sandbox, &asked.join("\n"))?;
    let mount = "RUN --mount=type=cache,target=/c [\"go\", \"version\"]";
    let first = build(&sandbox, &format!("ENV GOCACHE=/c/x GOMODCACHE=/c/inner\n{mount}"), &[]);
    let planted = first.and_then(|ended| {
        let is_there = ended.stderr.contains("$GOMODCACHE/evil = reached");
        if is_there { Ok(()) } else { Err(ended.said()) }
    });
    findings.judge("the link is planted", planted);
    for cache in
        ["GOCACHE=/c/inner/evil GOMODCACHE=/c/y", "GOCACHE=/c/z GOMODCACHE=/c/inner/evil/deep"]
    {
        let outcome = match build(&sandbox, &format!("ENV {cache}\n{mount}"), &[]) {
            Ok(ended) if ended.code == Some(0) => Err("it was taken for a cache".to_owned()),
            Ok(ended) if ended.stderr.contains("in it is no folder") => Ok(()),
            Ok(ended) => Err(ended.said()),
            Err(why) => Err(why),
        };
        findings.judge(cache, outcome);
        let left: Vec<_> = fs::read_dir(&outside).unwrap().map(|it| it.unwrap().path()).collect();
        let outcome = if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) };
        findings.judge("what is outside", outcome);
    }
    Ok(())
}
