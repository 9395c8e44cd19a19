//! `-t`: a real terminal on both sides.

use super::support::{Terminal, need, program};
use super::world::{User, World, as_users};

fn start(world: &World, arguments: &[&str]) -> Terminal {
    Terminal::start(&world.gondola_command(arguments))
}

#[test]
fn a_program_has_a_terminal_of_the_callers_size_and_every_key() {
    need!(program("setsid"));
    as_users!(|world: &World| {
        let script = "trap 'stty size' WINCH; echo up; while :; do sleep 0.1; done";
        let run = ["run", "--rm", "-it", "IMAGE", "sh", "-c", script];
        let mut terminal = start(world, &run);
        terminal.read_to("up\r\n");
        assert!(!terminal.echoes());
        terminal.resize(44, 55);
        terminal.read_to("44 55\r\n");
        terminal.type_in("\x03");
        assert_eq!(terminal.code(), Some(130));
        let mut terminal = start(world, &["run", "--rm", "-it", "IMAGE", "cat"]);
        terminal.type_in("abc\n");
        terminal.read_to("abc\r\n");
        terminal.read_to("abc\r\n");
        terminal.type_in("\x04");
        assert_eq!(terminal.code(), Some(0));
    });
}

#[test]
fn the_callers_terminal_is_restored_when_the_program_is_killed() {
    need!(program("setsid"));
    let world = need!(World::new(User::Own));
    let run = ["run", "--name", "tty", "-it", "IMAGE", "sh", "-c", "echo up; sleep 1000"];
    let mut terminal = start(&world, &run);
    terminal.read_to("up\r\n");
    world.gondola(&["stop", "-s", "KILL", "tty"]).success();
    assert_eq!(terminal.code(), Some(137));
    assert_eq!(world.gondola(&["logs", "tty"]).success().stdout, "up\r\n");
}

#[test]
fn ctrl_c_reaches_a_program_without_a_terminal() {
    need!(program("setsid"));
    as_users!(|world: &World| {
        let run = ["run", "--rm", "IMAGE", "sh", "-c", "echo up; sleep 1000"];
        let mut terminal = start(world, &run);
        terminal.read_to("up\r\n");
        terminal.type_in("\x03");
        assert_eq!(terminal.code(), Some(130));
    });
}

#[test]
fn a_further_program_has_a_terminal_too() {
    need!(program("setsid"));
    as_users!(|world: &World| {
        world.gondola(&["run", "-d", "-it", "--name", "bg", "IMAGE", "sh"]).success();
        let mut terminal = start(world, &["exec", "-it", "bg", "sh"]);
        terminal.type_in("echo $((40+2)); exit 6\n");
        terminal.read_to("42\r\n");
        assert_eq!(terminal.code(), Some(6));
        // Nobody has typed anything to the first one.
        assert_eq!(world.ps("bg")["status"], "running");
    });
}
