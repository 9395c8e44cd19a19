//! Folders and a clean environment in which a test runs the program.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use super::need::{Need, describe, program};

/// What `go` takes from the machine: its caches, so that the standard library is compiled once for
/// all tests, and where modules come from.
const FROM_GO: [&str; 5] = ["GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB", "GONOSUMDB"];

/// A home, a store and a working folder of a test's own.
pub struct Sandbox {
    folder: TempDir,
    environment: BTreeMap<String, String>,
}

/// A program that came to its end.
#[derive(Debug)]
pub struct Run {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    message: String,
}

impl Sandbox {
    /// Makes the folders. The environment holds `PATH`, `HOME`, `GONDOLA_HOME` and what `go` needs.
    pub fn new() -> Self {
        let folder = TempDir::with_prefix("gondola-test-").unwrap();
        for name in ["home", "work"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mut sandbox = Self { folder, environment: go_settings().clone() };
        let path = std::env::var("PATH").unwrap_or_default();
        sandbox.set("PATH", &format!("{path}:/usr/local/go/bin:/usr/sbin:/sbin"));
        sandbox.set("HOME", sandbox.home().to_str().unwrap());
        sandbox.set("GONDOLA_HOME", sandbox.store().to_str().unwrap());
        sandbox
    }

    /// Sets a variable for every further run.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Takes a variable away from every further run.
    pub fn unset(&mut self, name: &str) -> &mut Self {
        self.environment.remove(name);
        self
    }

    /// The variables that the program gets.
    pub fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// The home folder.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The store, `GONDOLA_HOME`; made by the program.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// The folder that the program starts in.
    pub fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// A path in the working folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.work().join(name)
    }

    /// Writes a file in the working folder, with its parents.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        path
    }

    /// Writes a Go module without dependencies whose program prints a text and its arguments.
    pub fn go_module(&self, name: &str, says: &str) -> PathBuf {
        self.write(&format!("{name}/go.mod"), format!("module example.com/{name}\n\ngo 1.21\n"));
        let main = self.write(
            &format!("{name}/main.go"),
            format!(
                "package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n)\n\nfunc main() {{\n\t\
                 fmt.Println({says:?}, os.Args[1:])\n}}\n"
            ),
        );
        main.parent().unwrap().to_owned()
    }

    /// The program with arguments, ready to be changed further.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gondola"));
        command.env_clear().envs(&self.environment).current_dir(self.work());
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs the program.
    pub fn gondola<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Run {
        Run::of(&mut self.command(arguments))
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Run {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self::ended(command, output)
    }

    /// Runs a command for as long as `patience` lasts; what it wrote to stderr where that was too short.
    pub fn within(command: &mut Command, patience: Duration) -> Result<Self, String> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        while child.try_wait().unwrap().is_none() {
            if began.elapsed() > patience {
                child.kill().unwrap();
                let output = child.wait_with_output().unwrap();
                return Err(String::from_utf8_lossy(&output.stderr).into_owned());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Self::ended(command, child.wait_with_output().unwrap()))
    }

    /// Describes a command that came to its end.
    pub fn ended(command: &Command, output: Output) -> Self {
        let message = describe(command, &output);
        let text = |bytes| String::from_utf8(bytes).expect("the program prints UTF-8");
        let code = output.status.code();
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr), message }
    }

    /// Panics with both outputs unless the program succeeded.
    #[track_caller]
    pub fn success(self) -> Self {
        self.code(0)
    }

    /// Panics with both outputs unless the program ended with this code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.message);
        self
    }

    /// Panics with both outputs unless the program printed the text to stderr.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no {text:?} in stderr of {}", self.message);
        self
    }

    /// The one line on stdout.
    #[track_caller]
    pub fn line(&self) -> &str {
        let line = self.stdout.strip_suffix('\n').unwrap_or(&self.stdout);
        assert!(!line.is_empty() && !line.contains('\n'), "not one line: {}", self.message);
        line
    }
}

/// The machine's `go`; every test of the Go front end needs it.
pub fn go() -> Need<PathBuf> {
    program("go").or_else(|missing| {
        let usual = Path::new("/usr/local/go/bin/go");
        if usual.is_file() { Ok(usual.to_owned()) } else { Err(missing) }
    })
}

fn go_settings() -> &'static BTreeMap<String, String> {
    static SETTINGS: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let Ok(go) = go() else { return BTreeMap::new() };
        let asked = Command::new(go).args(["env", "-json"]).args(FROM_GO).output().unwrap();
        let found: BTreeMap<String, Value> =
            serde_json::from_slice(&asked.stdout).unwrap_or_default();
        let text = |(name, value): (String, Value)| Some((name, value.as_str()?.to_owned()));
        found.into_iter().filter_map(text).filter(|(_, value)| !value.is_empty()).collect()
    })
}
