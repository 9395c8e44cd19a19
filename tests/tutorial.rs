//! The tutorial that everybody begins with, to the letter: its files, and its commands as they are typed.

#![cfg(test)]

mod support;

use std::process::{Command, Stdio};

use support::{Base, Bases, Need, Run, Sandbox, Terminal, install, need, program, root, run};

const MAIN: &str = r#"package main

import "fmt"

func main() {
	fmt.Println("Hello, World!")
}
"#;

const DOCKERFILE: &str = r#"FROM golang:latest
WORKDIR /app
COPY . .
RUN go build -o main .
CMD ["./main"]
"#;

const HELLO: &str = "Hello, World!";

/// An id that no distribution gives to anybody: a user without a name and without ranges.
const NOBODYS_ID: &str = "54321";

/// Whoever follows the tutorial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    /// Whoever runs the tests.
    Own,
    /// Somebody with one id.
    Unprivileged,
}

/// A folder with the tutorial's files, and a registry that has the image of the first line.
struct Tutorial {
    _bases: Bases,
    sandbox: Sandbox,
    user: User,
}

impl Tutorial {
    fn new(user: User) -> Need<Self> {
        let bases = Bases::start()?;
        bases.digest(Base::Golang)?;
        let mut sandbox = Sandbox::new();
        let registries = bases.registries_conf();
        run("chmod", &["-R", "a+rX", registries.parent().unwrap().to_str().unwrap()]);
        sandbox.set("CONTAINERS_REGISTRIES_CONF", registries.to_str().unwrap());
        sandbox.write("main.go", MAIN);
        sandbox.write("Dockerfile", DOCKERFILE);
        let tutorial = Self { _bases: bases, sandbox, user };
        if user == User::Unprivileged {
            root("becoming another user")?;
            program("setpriv")?;
            install(env!("CARGO_BIN_EXE_gondola"), tutorial.copy());
            tutorial.hand_over();
        }
        Ok(tutorial)
    }

    /// Gives all files to the user.
    fn hand_over(&self) {
        if self.user == User::Unprivileged {
            let folder = self.sandbox.work().parent().unwrap().to_owned();
            run("chown", &["-R", NOBODYS_ID, folder.to_str().unwrap()]);
        }
    }

    /// The program, where the user can execute it.
    fn copy(&self) -> std::path::PathBuf {
        self.sandbox.work().parent().unwrap().join("gondola")
    }

    fn command(&self, line: &str) -> Command {
        let words: Vec<&str> = line.split(' ').collect();
        if self.user == User::Own {
            return self.sandbox.command(&words);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODYS_ID, "--regid", NOBODYS_ID, "--clear-groups"]);
        command.arg(self.copy()).args(words).env_clear().envs(self.sandbox.environment());
        command.current_dir(self.sandbox.work()).stdin(Stdio::null());
        command
    }

    /// Runs the program with a line of the tutorial.
    fn type_in(&self, line: &str) -> Run {
        Run::of(&mut self.command(line))
    }

    /// Writes a file of the tutorial's folder.
    fn write(&self, name: &str, text: &str) {
        self.sandbox.write(name, text);
        self.hand_over();
    }
}

/// A container that a test which failed left running ends with the test.
impl Drop for Tutorial {
    fn drop(&mut self) {
        let _ = self.command("rm -f my-go-app-container").output();
    }
}

fn as_typed(user: User) {
    let tutorial = need!(Tutorial::new(user));
    let built = tutorial.type_in("build -t my-go-app .").success();
    let built = built.says(". is built by its Dockerfile; --package builds its Go program");
    let built = built.says("GO111MODULE=auto").says("go mod init");
    assert!(built.line().starts_with("docker.io/library/my-go-app:latest@sha256:"), "{built:?}");
    let again = tutorial.type_in("build -t my-go-app .").success();
    assert_eq!(again.stdout, built.stdout);

    let session = "run -it --name my-go-app-container my-go-app";
    let ran = tutorial.type_in(session).success();
    assert_eq!(ran.stdout, format!("{HELLO}\r\n"));
    let listed = tutorial.type_in("ps -a").success().stdout;
    assert!(listed.contains("my-go-app-container") && listed.contains("Exited (0)"), "{listed}");
    assert_eq!(
        tutorial.type_in("start my-go-app-container").success().line(),
        "my-go-app-container"
    );
    // It follows to the end, so that the program has written all that it will.
    let logs = tutorial.type_in("logs -f my-go-app-container").success().stdout;
    assert_eq!(logs, format!("{HELLO}\r\n").repeat(2));
    let attached = tutorial.type_in("start -a my-go-app-container").success();
    assert_eq!(attached.stdout, format!("{HELLO}\r\n"));
    tutorial.type_in("stats --no-stream").success();
    assert_eq!(
        tutorial.type_in("stop my-go-app-container").success().line(),
        "my-go-app-container"
    );
    assert_eq!(
        tutorial.type_in("restart my-go-app-container").success().line(),
        "my-go-app-container"
    );
    let logs = tutorial.type_in("logs -f my-go-app-container").success().stdout;
    assert_eq!(logs, format!("{HELLO}\r\n").repeat(4));
    tutorial.type_in("stop my-go-app-container").success();
    assert_eq!(tutorial.type_in("rm my-go-app-container").success().line(), "my-go-app-container");

    let terminal = Terminal::start(&tutorial.command(session));
    let (shown, code) = terminal.finish();
    assert_eq!((shown.contains(HELLO), code), (true, Some(0)), "{shown}");
    tutorial.type_in("rm my-go-app-container").success();
    assert_eq!(tutorial.type_in("ps -aq").success().stdout, "");
}

#[test]
fn the_tutorial_is_built_and_run_as_typed() {
    need!(program("setsid"));
    as_typed(User::Own);
}

#[test]
fn the_tutorial_is_built_and_run_as_typed_by_a_user_with_one_id() {
    need!(program("setsid"));
    as_typed(User::Unprivileged);
}

#[test]
fn a_step_without_a_module_gets_a_variable_that_the_image_has_not() {
    let tutorial = need!(Tutorial::new(User::Own));
    let mode = |file: &str, dockerfile: &str| {
        tutorial.write("Dockerfile", dockerfile);
        let built = tutorial.type_in("build -t mode .").success();
        let run = tutorial.type_in(&format!("run --rm mode cat {file}")).success();
        (run.stdout.trim().to_owned(), built.stderr.contains("GO111MODULE=auto"))
    };
    let begin = "FROM golang:latest\nWORKDIR /app\nCOPY . .\n";
    // It must not name the variable, or it would be the one who sets it.
    let asks = "RUN go version; env | grep ^GO1 >/mode || true\n";
    let step = |more: &str| format!("{begin}{more}{asks}");
    let auto = ("GO111MODULE=auto".to_owned(), true);
    let none = (String::new(), false);
    // Known from the build before, it is said all the same.
    assert_eq!(mode("/mode", &step("")), auto);
    assert_eq!(mode("/mode", &step("")), auto);
    let set = |value: &str| (format!("GO111MODULE={value}"), false);
    assert_eq!(mode("/mode", &step("ENV GO111MODULE=on\n")), set("on"));
    assert_eq!(mode("/mode", &step("ARG GO111MODULE=off\n")), set("off"));
    assert_eq!(mode("/mode", &step("RUN go env -w GO111MODULE=off\n")), none);
    assert_eq!(mode("/mode", &step("RUN echo module m >go.mod\n")), none);
    assert_eq!(mode("/mode", &step("RUN echo module m >/go.mod\n")), none);
    let mounted = format!(
        "{begin}RUN --mount=type=bind,source=m.mod,target=go.mod go version; env | grep ^GO1 >/mode || true\n"
    );
    tutorial.write("m.mod", "module m\n");
    assert_eq!(mode("/mode", &mounted), none);
    // The image itself says nothing.
    let seen = format!("{}CMD env\n", step(""));
    tutorial.write("Dockerfile", &seen);
    tutorial.type_in("build -t mode .").success();
    let seen = tutorial.type_in("run --rm mode").success().stdout;
    assert!(!seen.contains("GO111MODULE"), "{seen}");
}

#[test]
fn without_a_dockerfile_or_a_module_the_program_is_built_as_go_run_does() {
    let sandbox = Sandbox::new();
    need!(support::go());
    sandbox.write("my-go-app/main.go", MAIN);
    sandbox.write("my-go-app/greet_test.go", "package main_test\n");
    let build = |words: &[&str]| {
        let all = [&["build", "-t", "x", "-o", "oci:out:t"], words].concat();
        sandbox.gondola(&all)
    };
    let first = build(&["./my-go-app"]).success();
    let again = build(&["./my-go-app"]).success();
    assert_eq!(first.stdout, again.stdout);
    let here =
        Run::of(sandbox.command(&["build", "-t", "x"]).current_dir(sandbox.path("my-go-app")));
    assert_eq!(first.stdout, here.success().stdout);
    sandbox.write("my-go-app/other.go", "package main\n\nfunc init() { println(\"init\") }\n");
    let two = build(&["./my-go-app"]).success();
    assert_ne!(first.stdout, two.stdout);
    sandbox.write("my-go-app/other.go", "package main\n\nimport _ \"example.com/dependency\"\n");
    build(&["./my-go-app"]).code(1).says("example.com/dependency").says("go mod init");
}

#[test]
fn a_dockerfile_that_cannot_be_built_here_names_the_way_to_its_program() {
    let tutorial = need!(Tutorial::new(User::Own));
    let built = tutorial.type_in("build --sandbox proot -t my-go-app .");
    if built.code == Some(0) {
        // This machine has that, too.
        return;
    }
    built.code(1).says("--package");
    need!(support::go());
    tutorial.type_in("build --package -t my-go-app .").success();
}
