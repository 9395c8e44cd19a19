//! `--shell-on-failure`, on a real terminal.

use std::process::Command;

use gondola::oci::Platform;
use rustix::process::{Signal, kill_process};

use super::bench::{Bench, compile};
use super::support::{Terminal, need, program};

const FILE: &str = "FROM busybox\nENV E=env\nWORKDIR /home/app\nUSER app\n\
    RUN --mount=type=tmpfs,target=/mem --mount=type=secret,id=s,uid=1000 echo left > left; exit 3\n";

/// Types into the shell of a failed step, and ends it.
fn look_around(command: &Command) {
    let mut terminal = Terminal::start(command);
    let before = terminal.read_to(" $ ");
    assert!(before.contains("/bin/sh where the step failed"), "{before}");
    let look =
        "echo $E $(pwd) $(id -u) $(cat left /run/secrets/s) $(grep -c ' /mem ' /proc/mounts)";
    terminal.type_in(&format!("{look} end$((1+1)); tty; echo new > new; exit 9\n"));
    let (seen, code) = terminal.finish();
    assert!(seen.contains("env /home/app 1000 left hidden 1 end2"), "{seen}");
    assert!(seen.contains("/dev/pts/"), "{seen}");
    assert!(seen.contains("exit code 3"), "{seen}");
    assert_eq!(code, Some(1));
}

#[test]
fn a_failed_step_ends_in_a_shell_among_its_files() {
    need!(program("setsid"));
    let bench = need!(Bench::new());
    bench.file(FILE);
    bench.sandbox.write("s", "hidden");
    let options = ["--shell-on-failure", "--secret", "id=s,src=s"];
    // With bars, which have to give way, and without.
    look_around(bench.sandbox.command(&bench.arguments(&options)).env("TERM", "xterm"));
    look_around(&bench.sandbox.command(&bench.arguments(&options)));
    // Neither the failure nor what was done in the shell has left anything.
    bench.run(&[]).code(1).says("exit code 3");
    bench.file(&FILE.replace("echo left > left; exit 3", "ls > /tmp/seen"));
    assert_eq!(super::bench::text(&bench.build(&[]), "tmp/seen"), "");
    bench.file(FILE);
    look_around(&need!(bench.command_of_nobody(&options)));
}

#[test]
fn the_shell_is_the_stages_and_an_image_without_one_is_told() {
    need!(program("setsid"));
    let bench = need!(Bench::new());
    let start =
        || Terminal::start(&bench.sandbox.command(&bench.arguments(&["--shell-on-failure"])));
    bench.file("FROM busybox\nSHELL [\"/bin/busybox\", \"ash\", \"-c\"]\nRUN exit 4\n");
    let mut terminal = start();
    let before = terminal.read_to("# ");
    assert!(before.contains("/bin/busybox ash where the step failed"), "{before}");
    terminal.type_in("exit\n");
    assert_eq!(terminal.finish().1, Some(1));
    let fails = "package main\n\nimport \"os\"\n\nfunc main() { os.Exit(5) }\n";
    need!(compile(&bench.sandbox, fails, &Platform::host().architecture, "ctx/fails"));
    bench.file("FROM scratch\nCOPY fails /\nRUN [\"/fails\"]\n");
    let (seen, code) = start().finish();
    assert!(seen.contains("no shell is opened: the image has no /bin/sh"), "{seen}");
    assert!(seen.contains("exit code 5"), "{seen}");
    assert_eq!(code, Some(1));
}

#[test]
fn without_a_terminal_a_failure_is_as_usual_and_the_shell_is_missed_aloud() {
    let bench = need!(Bench::new());
    bench.file("FROM busybox\nRUN exit 3\n");
    let ran = bench.run(&["--shell-on-failure"]).code(1);
    ran.says("standard input is no terminal").says("exit code 3");
    // A failure that is no step's has nothing to open a shell in.
    bench.file("FROM busybox\nCOPY nothere /\n");
    let ran = bench.run(&["--shell-on-failure"]).code(1).says("nothere");
    assert!(!ran.stderr.contains("shell"), "{}", ran.stderr);
}

#[test]
fn of_two_steps_that_fail_one_gets_the_terminal() {
    need!(program("setsid"));
    let bench = need!(Bench::new());
    bench.file(
        "FROM busybox AS a\nRUN exit 3\nFROM busybox AS b\nRUN exit 4\nFROM scratch\n\
         COPY --from=a / /a\nCOPY --from=b / /b\n",
    );
    let mut terminal =
        Terminal::start(&bench.sandbox.command(&bench.arguments(&["--shell-on-failure"])));
    terminal.read_to("# ");
    terminal.type_in("exit\n");
    let (seen, code) = terminal.finish();
    assert!(!seen.contains("where the step failed"), "{seen}");
    assert_eq!(code, Some(1));
}

#[test]
fn an_interruption_gives_the_terminal_back() {
    need!(program("setsid"));
    let bench = need!(Bench::new());
    bench.file("FROM busybox\nRUN exit 3\n");
    let mut terminal =
        Terminal::start(&bench.sandbox.command(&bench.arguments(&["--shell-on-failure"])));
    terminal.read_to("# ");
    assert!(!terminal.echoes());
    kill_process(terminal.foreground(), Signal::TERM).unwrap();
    assert_eq!(terminal.finish().1, Some(130));
}
