//! The attacker's program inside of steps and containers, in each sandbox that is a boundary.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use fs_err as fs;
use serde_json::Value;

use super::support::{Missing, Need, Sandbox, install, program, root, run as output};
use super::world::{Ended, Session, must, run};

/// An id that no distribution gives to anybody.
const NOBODYS_ID: &str = "54321";

/// Where the attacker's program runs.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub isolation: &'static str,
    pub how: How,
    pub user: User,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum How {
    /// In `RUN`.
    Step,
    /// In `gondola run`.
    Container,
}

/// Who runs gondola.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum User {
    /// Whoever runs the tests.
    Own,
    /// Somebody with one id, where root runs the tests.
    Nobody,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = if self.how == How::Step { "RUN" } else { "run" };
        let user = if self.user == User::Own { "" } else { ", another user" };
        write!(f, "{how}, {}{user}", self.isolation)
    }
}

/// All places that are a boundary, whether they work here or not.
pub fn places() -> Vec<Place> {
    let mut places = Vec::new();
    for user in [User::Own, User::Nobody] {
        for isolation in ["ns-root", "ns-subuid", "ns", "ns-copy"] {
            for how in [How::Step, How::Container] {
                places.push(Place { isolation, how, user });
            }
        }
    }
    places
}

/// A folder of a user with the attacker's program, ready to run in one place.
pub struct Inside {
    pub sandbox: Sandbox,
    place: Place,
    gondola: PathBuf,
}

impl Inside {
    /// Errs where the place does not work here.
    pub fn new(session: &Session, place: Place) -> Need<Self> {
        let sandbox = Sandbox::new();
        fs::create_dir(sandbox.path("ctx")).unwrap();
        fs::copy(session.payload()?, sandbox.path("ctx/payload")).unwrap();
        let mut gondola = PathBuf::from(env!("CARGO_BIN_EXE_gondola"));
        if place.user == User::Nobody {
            root("becoming another user")?;
            program("setpriv")?;
            gondola = sandbox.path("gondola");
            install(env!("CARGO_BIN_EXE_gondola"), &gondola);
            let folder = sandbox.work().parent().unwrap().to_owned();
            output("chown", &["-R", NOBODYS_ID, folder.to_str().unwrap()]);
            fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let inside = Self { sandbox, place, gondola };
        let found = inside.command(&["doctor", "--json"]).output().unwrap();
        let found: Value = serde_json::from_slice(&found.stdout).unwrap_or_default();
        let row =
            found.as_array().into_iter().flatten().find(|row| row["isolation"] == place.isolation);
        match row {
            Some(row) if row["works"] == true => Ok(inside),
            _ => Err(Missing::because(format!("{} does not work here", place.isolation))),
        }
    }

    /// The program as the place's user, with its isolation still to be said.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.gondola);
        if self.place.user == User::Nobody {
            command = Command::new("setpriv");
            command.args(["--reuid", NOBODYS_ID, "--regid", NOBODYS_ID, "--clear-groups"]);
            command.arg(&self.gondola);
        }
        command.args(words).env_clear().envs(self.sandbox.environment());
        command.current_dir(self.sandbox.work()).stdin(Stdio::null());
        command
    }

    /// Runs the attacker's program there with variables; gives what it printed, by name.
    pub fn attack(
        &self,
        variables: &[(&str, String)],
        words: &[&str],
        flags: &[&str],
    ) -> Result<BTreeMap<String, String>, String> {
        let ended = match self.place.how {
            How::Step => self.step(variables, words, flags),
            How::Container => self.container(variables, words, flags),
        }?;
        let text = format!("{}\n{}", ended.stdout, ended.stderr);
        let lines = text.lines().filter_map(|line| line.split_once(">> ")?.1.split_once(" = "));
        let found: BTreeMap<_, _> =
            lines.map(|(name, result)| (name.to_owned(), result.trim().to_owned())).collect();
        if found.is_empty() {
            return Err(format!("ended with {:?} and no findings: {}", ended.code, ended.said()));
        }
        Ok(found)
    }

    fn step(
        &self,
        variables: &[(&str, String)],
        words: &[&str],
        flags: &[&str],
    ) -> Result<Ended, String> {
        let mut env = String::new();
        for (name, value) in variables {
            writeln!(env, "ENV {name}={value}").unwrap();
        }
        let words = serde_json::to_string(&[&["/payload"], words].concat()).unwrap();
        let flags = flags.join(" ");
        let file = format!("FROM scratch\nCOPY payload /payload\n{env}RUN {flags} {words}\n");
        fs::write(self.sandbox.path("ctx/Dockerfile"), file).unwrap();
        let build =
            ["build", "--sandbox", self.place.isolation, "--progress", "plain", "--no-cache"];
        let more = ["-f", "ctx/Dockerfile", "-t", "attacked", "ctx"];
        run(&mut self.command(&[&build[..], &more].concat()))
    }

    fn container(
        &self,
        variables: &[(&str, String)],
        words: &[&str],
        flags: &[&str],
    ) -> Result<Ended, String> {
        let file = "FROM scratch\nCOPY payload /payload\n";
        fs::write(self.sandbox.path("ctx/Dockerfile"), file).unwrap();
        let build = ["build", "-f", "ctx/Dockerfile", "-o", "oci:image:t", "ctx"];
        must(&mut self.command(&build))?;
        let env: Vec<String> =
            variables.iter().flat_map(|(n, v)| ["-e".to_owned(), format!("{n}={v}")]).collect();
        let env: Vec<&str> = env.iter().map(String::as_str).collect();
        let begin = ["run", "--rm", "--sandbox", self.place.isolation];
        let rest = [&["oci:image:t", "/payload"], words].concat();
        run(&mut self.command(&[&begin[..], flags, &env, &rest].concat()))
    }
}
