//! What attacks stand on: folders and bases, chance and time, and runs that cannot hang.

use std::cell::Cell;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use fs_err as fs;
use gondola::oci::Digest;
use rustix::process::{Pid, Signal, kill_process_group};

use super::support::{Busybox, Need, ReadImage, Sandbox, Stored, go, succeed};

/// Far longer than anything takes on a busy machine: what runs longer hangs.
pub const LIMIT: Duration = Duration::from_secs(40);

/// How many attacks go on for as long as they are let: they share the time.
const LASTING: u32 = 18;

/// No fewer attempts show anything.
const FEWEST: usize = 4;

/// What all attacks of a run share.
pub struct Session {
    pub seed: u64,
    long: Option<Duration>,
    folder: tempfile::TempDir,
    base: OnceLock<Need<PathBuf>>,
    payload: OnceLock<Need<PathBuf>>,
}

/// What an attack came to.
#[derive(Default)]
pub struct Findings {
    pub attempts: usize,
    /// What was not held off, a line each.
    pub broken: Vec<String>,
    /// Figures of the attack's own.
    pub notes: Vec<String>,
}

impl Findings {
    /// Counts an attempt, and what is wrong with it.
    pub fn judge(&mut self, name: &str, outcome: Result<(), String>) {
        self.attempts += 1;
        if let Err(why) = outcome {
            self.broken.push(format!("{name}: {why}"));
        }
    }

    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

/// How long an attack with chance in it goes on.
pub struct Chances {
    begun: Instant,
    long: Option<Duration>,
    usual: Duration,
    state: Cell<u64>,
}

impl Chances {
    /// Whether to make a further attempt: a few are made on the slowest machine, and then those for
    /// which there is time.
    pub fn go_on(&self, made: usize) -> bool {
        made < FEWEST || self.begun.elapsed() < self.long.unwrap_or(self.usual)
    }

    /// A number below `end`.
    pub fn below(&self, end: u64) -> u64 {
        let mut state = self.state.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.state.set(state);
        state % end.max(1)
    }

    /// A part of a time.
    pub fn part(&self, of: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(of.as_micros()).unwrap()))
    }
}

impl Session {
    pub fn new() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let now = || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            u64::try_from(now.unwrap().as_micros()).unwrap()
        };
        let folder = tempfile::Builder::new().prefix("gondola-adversary-").tempdir().unwrap();
        open_to_all(folder.path());
        Self {
            seed: number("GONDOLA_TEST_SEED").unwrap_or_else(now),
            long: number("GONDOLA_TEST_LONG").map(|minutes| Duration::from_secs(minutes * 60)),
            folder,
            base: OnceLock::new(),
            payload: OnceLock::new(),
        }
    }

    /// Chances for an attack that usually takes `seconds`.
    pub fn chances(&self, seconds: u64) -> Chances {
        Chances {
            begun: Instant::now(),
            long: self.long.map(|all| all / LASTING),
            usual: Duration::from_secs(seconds),
            state: Cell::new(self.seed.max(1)),
        }
    }

    /// An image layout with a shell, for `--build-context busybox=`.
    pub fn base(&self) -> Need<String> {
        let make = || {
            let folder = self.folder.path().join("base");
            Busybox::default().write(&folder).map(|_| folder)
        };
        let folder = self.base.get_or_init(make).clone()?;
        Ok(format!("busybox=oci-layout://{}:latest", folder.display()))
    }

    /// The program of `payload/`, compiled once.
    pub fn payload(&self) -> Need<PathBuf> {
        let make = || {
            let file = self.folder.path().join("payload");
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/adversary/payload");
            let mut build = Command::new(go()?);
            build.current_dir(source).env("CGO_ENABLED", "0").env("GOFLAGS", "-buildvcs=false");
            succeed(build.args(["build", "-trimpath", "-o"]).arg(&file).arg("."));
            Ok(file)
        };
        self.payload.get_or_init(make).clone()
    }
}

/// Lets other users reach a folder.
pub fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A store, a context and the words of a build.
pub struct Bench {
    pub sandbox: Sandbox,
    base: String,
}

impl Bench {
    pub fn new(session: &Session) -> Need<Self> {
        let mut sandbox = Sandbox::new();
        sandbox.set("SOURCE_DATE_EPOCH", "1700000000");
        Ok(Self { sandbox, base: session.base()? })
    }

    /// The command that builds a context by its Dockerfile.
    pub fn build(&self, context: &str, more: &[&str]) -> Command {
        let file = format!("{context}/Dockerfile");
        let words = ["build", "-f", &file, "--build-context", &self.base, "-o", "oci:out:t"];
        self.sandbox.command(&[&words[..], more, &[context]].concat())
    }

    /// The command that builds a context into the store.
    pub fn keep(&self, context: &str, tag: &str) -> Command {
        let file = format!("{context}/Dockerfile");
        let words = ["build", "-f", &file, "--build-context", &self.base, "-t", tag, context];
        self.sandbox.command(&words)
    }

    /// The image that was built last.
    pub fn image(&self) -> ReadImage {
        Stored::folder(&self.sandbox.path("out")).image(Some("t"))
    }

    /// Forgets the image that was built last.
    pub fn forget(&self) {
        let _ = fs::remove_dir_all(self.sandbox.path("out"));
    }
}

/// A program that came to its end.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
    /// The most memory that the program itself had, without those that it started.
    pub peak_kib: u64,
}

impl Ended {
    /// The last lines that it said, on one.
    pub fn said(&self) -> String {
        let lines: Vec<&str> = self.stderr.lines().rev().take(4).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    pub fn succeeded(&self) -> Result<(), String> {
        if self.code == Some(0) {
            return Ok(());
        }
        Err(format!("ended with {:?}: {}", self.code, self.said()))
    }

    /// That it failed as programs do: with a code of its own and a sentence.
    pub fn failed_in_words(&self) -> Result<(), String> {
        let words = self.stderr.contains("error: ");
        if matches!(self.code, Some(1..=127)) && words && !self.stderr.contains("panicked") {
            return Ok(());
        }
        Err(format!("ended with {:?} and no clear sentence: {}", self.code, self.said()))
    }
}

/// A running program, in a process group of its own, whose output goes to files.
pub struct Running {
    pub child: Child,
    output: [fs::File; 2],
    begun: Instant,
    peak_kib: u64,
}

/// Starts a command so that nothing it does can hang the attack.
pub fn start(command: &mut Command) -> Running {
    let file = || fs::File::from_parts(tempfile::tempfile().unwrap(), "output");
    let output = [file(), file()];
    let [stdout, stderr] = output.each_ref().map(|file| file.try_clone().unwrap().into_file());
    command.stdout(stdout).stderr(stderr).process_group(0);
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Running { child, output, begun: Instant::now(), peak_kib: 0 }
}

impl Running {
    /// Whether it has ended; keeps an eye on its memory.
    pub fn has_ended(&mut self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let peak = status.ok().and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim();
            line.strip_suffix(" kB")?.parse().ok()
        });
        self.peak_kib = self.peak_kib.max(peak.unwrap_or(0));
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end; errs where that does not come in time.
    pub fn end(mut self, limit: Duration) -> Result<Ended, String> {
        while !self.has_ended() {
            if self.begun.elapsed() > limit {
                self.kill();
                return Err(format!("still ran after {} s: {}", limit.as_secs(), self.text(1)));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let code = self.child.wait().unwrap().code();
        let (stdout, stderr) = (self.text(0), self.text(1));
        Ok(Ended { code, stdout, stderr, took: self.begun.elapsed(), peak_kib: self.peak_kib })
    }

    /// Ends it at once, and everything that it started in its group.
    pub fn kill(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }

    fn text(&mut self, which: usize) -> String {
        use std::io::Seek as _;
        let mut bytes = Vec::new();
        self.output[which].rewind().unwrap();
        self.output[which].read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Does something for every number below `count`, on some threads; gives the results by number.
pub fn at_once<T: Send>(count: usize, threads: usize, act: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let done = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let result = act(number);
                    done.lock().unwrap().push((number, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Result<Ended, String> {
    start(command).end(LIMIT)
}

/// Runs a command that has to succeed.
pub fn must(command: &mut Command) -> Result<Ended, String> {
    let ended = run(command)?;
    ended.succeeded()?;
    Ok(ended)
}

/// Every blob of a store or layout is what its name says; how many there are.
pub fn hash_blobs(store: &Path) -> Result<usize, String> {
    let folder = store.join("blobs/sha256");
    let mut count = 0;
    for entry in fs::read_dir(&folder).map_err(|error| error.to_string())? {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).map_err(|error| error.to_string())?;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if Digest::of(&bytes).hex() != name {
            return Err(format!("blob {name} holds something else, {} bytes", bytes.len()));
        }
        count += 1;
    }
    Ok(count)
}

/// Whether any file of an image holds a text, in its contents or as the target of a link.
pub fn holds(image: &ReadImage, text: &str) -> Option<String> {
    let found = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    let mut files = image.files().into_iter();
    files.find(|(_, entry)| found(&entry.bytes)).map(|(path, _)| path)
}
