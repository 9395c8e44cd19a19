//! `-t`: a real terminal on both sides.

use std::fs::File;
use std::io::{Read as _, Write as _};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::support::{need, program};
use super::world::{User, World, as_users};

/// A terminal, and the program on it.
struct Terminal {
    controller: File,
    child: std::process::Child,
}

impl Terminal {
    fn start(world: &World, arguments: &[&str]) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = openpt(flags).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let terminal = ioctl_tiocgptpeer(&controller, flags).unwrap();
        let gondola = world.gondola_command(arguments);
        // A session with this terminal, as a shell's.
        let mut command = std::process::Command::new("setsid");
        world.settle(&mut command);
        command.args(["--ctty", "--wait"]).arg(gondola.get_program()).args(gondola.get_args());
        let side = || terminal.try_clone().unwrap();
        command.stdin(side()).stdout(side()).stderr(side());
        let child = command.spawn().unwrap();
        // With it gone here, reading ends when the program's side does.
        drop((terminal, command));
        let terminal = Self { controller: controller.into(), child };
        terminal.resize(33, 101);
        terminal
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.controller, size).unwrap();
    }

    /// Reads until the output has a word.
    fn read_to(&mut self, word: &str) -> String {
        let mut seen = String::new();
        let mut byte = [0];
        while !seen.contains(word) {
            self.controller.read_exact(&mut byte).unwrap();
            seen.push(char::from(byte[0]));
        }
        seen
    }

    fn type_in(&mut self, keys: &str) {
        self.controller.write_all(keys.as_bytes()).unwrap();
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.controller).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    fn code(mut self) -> Option<i32> {
        let code = self.child.wait().unwrap().code();
        assert!(self.echoes(), "the terminal has its modes back");
        code
    }
}

#[test]
fn a_program_has_a_terminal_of_the_callers_size_and_every_key() {
    need!(program("setsid"));
    as_users!(|world: &World| {
        let script = "trap 'stty size' WINCH; echo up; while :; do sleep 0.1; done";
        let run = ["run", "--rm", "-it", "IMAGE", "sh", "-c", script];
        let mut terminal = Terminal::start(world, &run);
        terminal.read_to("up\r\n");
        assert!(!terminal.echoes());
        terminal.resize(44, 55);
        terminal.read_to("44 55\r\n");
        terminal.type_in("\x03");
        assert_eq!(terminal.code(), Some(130));
        let mut terminal = Terminal::start(world, &["run", "--rm", "-it", "IMAGE", "cat"]);
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
    let mut terminal = Terminal::start(&world, &run);
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
        let mut terminal = Terminal::start(world, &run);
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
        let mut terminal = Terminal::start(world, &["exec", "-it", "bg", "sh"]);
        terminal.type_in("echo $((40+2)); exit 6\n");
        terminal.read_to("42\r\n");
        assert_eq!(terminal.code(), Some(6));
        // Nobody has typed anything to the first one.
        assert_eq!(world.ps("bg")["status"], "running");
    });
}
