//! What keeps a container: starts its program, carries its streams and connections, writes down how
//! it ended.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::config::Config;
use super::entry::LockedContainer;
use super::log::Log;
use super::plan::NetworkChoice;
use super::ports;
use super::process::Process;
use super::relay::{Connect, Relay};
use super::state::{Exited, Running, State};
use super::streams::{Attachment, Copiers, ProgramStreams, Recorder, StreamOptions};
use super::terminal;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::sandbox::{Child, Exit, Launcher, keep_descriptors};

/// What `gondola run` ends with when the container could not be started.
pub const NOT_STARTED: u8 = 125;

/// Signals that are the program's to handle, beside SIGINT, of which the second one kills.
const PASSED_ON: [SignalKind; 5] = [
    SignalKind::hangup(),
    SignalKind::quit(),
    SignalKind::terminate(),
    SignalKind::user_defined1(),
    SignalKind::user_defined2(),
];

/// Keeps containers.
#[derive(Clone)]
pub struct Supervisor {
    /// What starts sandboxes.
    pub launcher: Launcher,
    /// What time it is.
    pub clock: fn() -> Timestamp,
}

/// A container whose program runs.
struct Started {
    program: Program,
    running: Running,
    _relay: Option<Relay>,
}

/// A program that runs, and what carries its streams.
pub(super) struct Program {
    child: Child,
    copiers: Copiers,
    terminal: Option<OwnedFd>,
}

impl Program {
    /// Begins to carry the streams of `child`.
    pub(super) fn new(
        child: Child,
        ours: ProgramStreams,
        (wanted, recorder): (StreamOptions, Option<&Recorder>),
    ) -> Result<Self> {
        let terminal = child.terminal().map(|fd| fd.try_clone_to_owned()).transpose();
        let terminal = terminal.cannot(|| "connect the program's terminal")?;
        let copiers = ours.connect(&child, wanted, recorder)?;
        Ok(Self { child, copiers, terminal })
    }

    /// Waits for the end of the program and of its streams, and passes signals to it.
    pub(super) async fn attend(self, mut signals: UnboundedReceiver<SignalKind>) -> Result<Exit> {
        let Self { mut child, copiers, terminal } = self;
        let signaller = child.signaller();
        let mut waiting = tokio::task::spawn_blocking(move || child.wait());
        let exit = loop {
            tokio::select! {
                ended = &mut waiting => break ended.cannot(|| "wait for the program")?,
                Some(kind) = signals.recv() => match (kind, &terminal) {
                    (kind, _) if kind == SignalKind::interrupt() => signaller.interrupt(),
                    (kind, Some(terminal)) if kind == SignalKind::window_change() => {
                        // A program that has just ended needs no other size.
                        let _ = terminal::resize(terminal);
                    }
                    (kind, _) => signaller.signal(kind.as_raw_value()),
                },
            }
        };
        // With the sandbox gone, nobody holds the other ends any more.
        let carried = tokio::task::spawn_blocking(move || copiers.finish()).await;
        carried.cannot(|| "carry the program's output")?;
        exit
    }
}

impl Supervisor {
    /// Runs a container to its end; calls `report` when its program runs. Signals to this process go
    /// to the program.
    ///
    /// # Errors
    /// When the program could not be started, or the sandbox broke. A container that had never run
    /// is gone then. [`Exit::NotFound`] and [`Exit::NotExecutable`] are answers and no errors, and
    /// leave as little.
    pub async fn run(
        &self,
        locked: LockedContainer,
        attachment: Attachment,
        report: impl FnOnce(),
    ) -> Result<Exit> {
        let container = locked.container().clone();
        let fresh = matches!(State::read(&container.state_path())?, State::Created);
        let began = (self.clock)();
        let outcome = self.start_and_wait(&locked, attachment, report).await;
        let exit = match outcome {
            Ok(exit) => exit,
            Err(error) => {
                self.record_end(locked, (fresh, began), NOT_STARTED)?;
                return Err(error);
            }
        };
        let never = matches!(exit, Exit::NotFound(_) | Exit::NotExecutable(_));
        self.record_end(locked, (fresh && never, began), exit.code())?;
        Ok(exit)
    }

    /// Writes down how a program ended, or takes the container away.
    fn record_end(
        &self,
        locked: LockedContainer,
        (vanish, began): (bool, Timestamp),
        code: u8,
    ) -> Result<()> {
        let started = match State::read(&locked.container().state_path())? {
            State::Running(running) => running.started,
            _ => began,
        };
        let remove = locked.container().look()?.is_some_and(|seen| seen.config.remove);
        let finished = (self.clock)();
        locked.write(&State::Exited(Exited { code, started, finished }))?;
        if vanish || remove { locked.remove() } else { Ok(()) }
    }

    async fn start_and_wait(
        &self,
        locked: &LockedContainer,
        attachment: Attachment,
        report: impl FnOnce(),
    ) -> Result<Exit> {
        let signals = listen_to_signals()?;
        let Started { program, running, _relay } = match self.start(locked, attachment)? {
            Ok(started) => started,
            Err(exit) => return Ok(exit),
        };
        locked.write(&State::Running(running))?;
        report();
        program.attend(signals).await
    }

    /// Starts the program; `Err` within is one that is not there or cannot be executed.
    fn start(
        &self,
        locked: &LockedContainer,
        attachment: Attachment,
    ) -> Result<std::result::Result<Started, Exit>> {
        let container = locked.container();
        let action = || format!("start container {}", container.name());
        let Some(seen) = container.look()? else {
            return Err(Error::new(ErrorKind::NotFound, action()).because("it was removed"));
        };
        let config = seen.config;
        let wanted = StreamOptions { attachment, input: config.input, terminal: config.terminal };
        let listening = ports::listen(&config.ports)?;
        let published = listening.iter().map(|(port, _)| *port).collect();
        let log = Arc::new(Log::open(&container.log_path())?);
        let mut spec = config.spec.clone();
        spec.terminal = config.terminal.then(terminal::current_size);
        let (streams, ours) = ProgramStreams::new(wanted)?;
        let mut child = self.launcher.spawn(&spec, config.isolation, streams)?;
        if let Some(Exit::NotFound(_) | Exit::NotExecutable(_)) = child.exit() {
            return Ok(Err(child.wait()?));
        }
        let relay = connect_network(&config, &child, listening)?;
        // One that has ended already waits to be told so.
        let first = Process::of(child.pid()).unwrap_or(Process { pid: child.pid(), began: 0 });
        let recorder = Recorder { log, clock: self.clock };
        let program = Program::new(child, ours, (wanted, Some(&recorder)))?;
        let running = Running { first, started: (self.clock)(), ports: published };
        Ok(Ok(Started { program, running, _relay: relay }))
    }
}

/// Listens to the signals that go to a program, from now on.
pub(super) fn listen_to_signals() -> Result<UnboundedReceiver<SignalKind>> {
    let (sender, receiver) = unbounded_channel();
    let request = [SignalKind::interrupt(), SignalKind::window_change()];
    for kind in PASSED_ON.into_iter().chain(request) {
        let mut arriving = signal(kind).cannot(|| "listen for signals")?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while arriving.recv().await.is_some() && sender.send(kind).is_ok() {}
        });
    }
    Ok(receiver)
}

/// How the process that was started to keep a container tells how that went.
#[derive(Serialize, Deserialize)]
enum StartReport {
    Started,
    /// The program is not there or cannot be executed.
    Refused(Exit),
    Failed(String),
}

/// Starts a process that keeps the container from now on, and waits until its program runs.
///
/// The process is the own binary with `arguments`, which must lead to `gondola shim`. Answers
/// what is no error in [`Supervisor::run`], too.
pub fn start_detached(locked: &LockedContainer, arguments: &[String]) -> Result<Option<Exit>> {
    let action = || format!("start container {}", locked.container().name());
    let lock = locked.lock().copy().cannot(action)?;
    let mut shim = Command::new("/proc/self/exe");
    shim.args(arguments).current_dir("/");
    shim.stdin(lock).stdout(Stdio::piped()).stderr(Stdio::null());
    // What stays must not hold a pipe or lock of whoever called this program.
    keep_descriptors()?;
    let mut shim = shim.spawn().cannot(action)?;
    let mut line = String::new();
    if let Some(output) = shim.stdout.take() {
        BufReader::new(output).read_line(&mut line).cannot(action)?;
    }
    match serde_json::from_str(&line) {
        Ok(StartReport::Started) => Ok(None),
        Ok(StartReport::Refused(exit)) => Ok(Some(exit)),
        Ok(StartReport::Failed(reason)) => {
            let reason = reason.strip_prefix("cannot ").unwrap_or(&reason);
            Err(Error::new(ErrorKind::Io, reason))
        }
        Err(_) => Err(Error::new(ErrorKind::Io, action())
            .because("the process that was to keep it ended without a word")),
    }
}

impl Supervisor {
    /// Keeps a container for [`start_detached`], in a session of its own: `locked` was handed over
    /// as standard input, and standard output hears how it went.
    pub async fn run_detached(&self, locked: LockedContainer, output: OwnedFd) -> Result<()> {
        // Only the leader of a group of processes cannot begin a session, which this is not.
        let _ = rustix::process::setsid();
        let output = std::cell::RefCell::new(Some(std::fs::File::from(output)));
        let report = |said: &StartReport| {
            if let Some(mut output) = output.take() {
                let line = serde_json::to_string(said).expect("it is plain data");
                // Whoever asked may have gone away meanwhile; the container stays.
                let _ = writeln!(output, "{line}");
            }
        };
        let kept = self.run(locked, Attachment::Detached, || report(&StartReport::Started)).await;
        match kept {
            Ok(exit) => report(&StartReport::Refused(exit)),
            Err(error) => {
                report(&StartReport::Failed(error.to_string()));
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Lets published ports lead to the container's own network.
fn connect_network(
    config: &Config,
    child: &Child,
    listening: Vec<(ports::Published, std::net::TcpListener)>,
) -> Result<Option<Relay>> {
    let has_own = matches!(config.network, NetworkChoice::Published | NetworkChoice::Private);
    if !has_own || listening.is_empty() {
        return Ok(None);
    }
    let connector = child.connector();
    let connect: Arc<Connect> = Arc::new(move |port| connector.connect(port));
    Relay::start(listening, &connect).map(Some)
}
