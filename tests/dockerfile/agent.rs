//! `RUN --mount=type=ssh`: real agents, with a real key.

use std::path::{Path, PathBuf};
use std::process::Command;

use gondola::oci::Platform;

use super::bench::{Bench, NOBODYS_ID, compile, text};
use super::support::{Need, Run, Service, need, program, root, run, succeed};

/// Asks the agent for its keys and prints their names, then asks it to forget them all.
const CLIENT: &str = r#"package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
)

func ask(agent net.Conn, kind byte) []byte {
	agent.Write([]byte{0, 0, 0, 1, kind})
	var length uint32
	if err := binary.Read(agent, binary.BigEndian, &length); err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	answer := make([]byte, length)
	io.ReadFull(agent, answer)
	return answer
}

func text(from []byte) (string, []byte) {
	length := binary.BigEndian.Uint32(from)
	return string(from[4 : 4+length]), from[4+length:]
}

func main() {
	agent, err := net.Dial("unix", os.Getenv("SSH_AUTH_SOCK"))
	if err != nil {
		fmt.Println(err)
		os.Exit(4)
	}
	answer := ask(agent, 11)
	count, rest := binary.BigEndian.Uint32(answer[1:]), answer[5:]
	for ; count > 0; count-- {
		var name string
		_, rest = text(rest)
		name, rest = text(rest)
		fmt.Println(name)
	}
	fmt.Println("forget:", ask(agent, 19)[0])
}
"#;

const FILE: &str = "FROM busybox\nCOPY client /bin/\nRUN --mount=type=ssh,required client > /keys\n\
    RUN --mount=type=ssh,id=other,target=/other test $SSH_AUTH_SOCK = /other && client > /others\n\
    RUN --mount=type=ssh,id=missing test -z \"$SSH_AUTH_SOCK\"\n\
    USER app\nRUN --mount=type=ssh,uid=1000 client > /tmp/app\n";

/// An agent with a key that is called `name`. As `setpriv` says, it is somebody else's.
fn agent(folder: &Path, name: &str, setpriv: &[&str]) -> Need<(Service, PathBuf)> {
    let (key, socket) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.sock")));
    let keygen = program("ssh-keygen")?;
    run(keygen, &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key.to_str().unwrap()]);
    let program_of_agent = program("ssh-agent")?;
    let mut command = match setpriv {
        [] => Command::new(program_of_agent),
        words => {
            let mut command = Command::new(program("setpriv")?);
            command.args(words).arg(program_of_agent);
            command
        }
    };
    command.args(["-D", "-a"]).arg(&socket);
    let (service, ()) = Service::start(command, |said| said.contains("Agent pid").then_some(()))?;
    let mut add = Command::new(program("ssh-add")?);
    succeed(add.arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket));
    Ok((service, socket))
}

fn prepared() -> Need<Bench> {
    let bench = Bench::new()?;
    compile(&bench.sandbox, CLIENT, &Platform::host().architecture, "ctx/client")?;
    bench.file(FILE);
    Ok(bench)
}

#[test]
fn a_step_sees_the_keys_of_the_agent_that_it_was_given_and_cannot_take_them_away() {
    let bench = need!(prepared());
    let (_first, default) = need!(agent(&bench.sandbox.work(), "first", &[]));
    let (_second, other) = need!(agent(&bench.sandbox.work(), "second", &[]));
    let other = format!("other={}", other.display());
    let mut command =
        bench.sandbox.command(&bench.arguments(&["--ssh", "default", "--ssh", &other]));
    Run::of(command.env("SSH_AUTH_SOCK", &default)).success();
    let image = bench.image();
    assert_eq!(text(&image, "keys"), "first\nforget: 5\n");
    assert_eq!(text(&image, "others"), "second\nforget: 5\n");
    assert_eq!(text(&image, "tmp/app"), "first\nforget: 5\n");
    let files = image.files();
    assert!(!files.keys().any(|path| path.starts_with("run/") || path == "other"), "{files:?}");
    // The socket is its owner's alone.
    bench.file(&FILE.replace("ssh,uid=1000", "ssh"));
    let default = format!("default={}", default.display());
    bench.run(&["--ssh", &default, "--ssh", &other]).code(1).says("exit code 4");
}

#[test]
fn an_agent_of_a_user_with_one_id_answers_that_users_steps() {
    need!(root("becoming another user"));
    let bench = need!(prepared());
    let own = bench.sandbox.path("own");
    fs_err::create_dir(&own).unwrap();
    std::os::unix::fs::chown(&own, Some(NOBODYS_ID.parse().unwrap()), None).unwrap();
    // The agent's user has to reach its folder.
    need!(bench.command_of_nobody(&[]));
    let setpriv = ["--reuid", NOBODYS_ID, "--regid", NOBODYS_ID, "--clear-groups"];
    let (_first, default) = need!(agent(&own, "first", &setpriv));
    let (_second, other) = need!(agent(&own, "second", &setpriv));
    let (default, other) =
        (format!("default={}", default.display()), format!("other={}", other.display()));
    let mut command = need!(bench.command_of_nobody(&["--ssh", &default, "--ssh", &other]));
    Run::of(&mut command).success();
    let image = bench.image();
    assert_eq!(text(&image, "keys"), "first\nforget: 5\n");
    assert_eq!(text(&image, "others"), "second\nforget: 5\n");
    assert_eq!(text(&image, "tmp/app"), "first\nforget: 5\n");
}

#[test]
fn an_agent_that_is_not_there_is_told() {
    let bench = need!(Bench::new());
    bench.file("FROM busybox\nRUN --mount=type=ssh test -z \"$SSH_AUTH_SOCK\"\n");
    bench.build(&[]);
    bench.file("FROM busybox\nRUN --mount=type=ssh,required true\n");
    bench.run(&[]).code(2).says("mount the SSH agent default").says("--ssh default");
    bench.run(&["--ssh", "default"]).code(2).says("SSH_AUTH_SOCK is not set");
    let socket = bench.sandbox.path("gone");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let gone = format!("default={}", socket.display());
    bench.run(&["--ssh", &gone]).code(1).says("SSH agent at").says("refused");
    bench.run(&["--ssh", "default=ctx/Dockerfile"]).code(1).says("ssh-add");
}
