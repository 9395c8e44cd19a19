//! `go` confined to the files that a build needs, without the network but where modules are
//! fetched.

use std::io::PipeReader;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::unix::pipe;

use super::{CREDENTIALS, Call, Launch, Output, Phase, Running};
use crate::blocking::joined;
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::golang::scope::source_folders;
use crate::sandbox::{
    Access, Child, Exit, FOR_PROGRAMS, FOR_THE_NETWORK, Isolation, Launcher, Network, Root,
    Signaller, Spec, Streams, Unconfined,
};

/// Starts processes on this machine's own files that may use a few of them only.
#[derive(Debug)]
pub(in crate::golang) struct Confined {
    pub launcher: Launcher,
    /// Whether it runs where nothing confines it.
    pub unconfined: Unconfined,
    /// Where the toolchain is.
    pub root: PathBuf,
    /// Written by every process: GOCACHE, and the temporary folder.
    pub scratch: Vec<PathBuf>,
    /// Where modules are; written where they are fetched.
    pub modules: PathBuf,
    /// The user's own home folder.
    pub home: Option<PathBuf>,
    /// Further files that fetching needs, such as certificates.
    pub for_fetching: Vec<PathBuf>,
}

impl Launch for Confined {
    fn start(&self, call: &Call<'_>) -> Result<Running> {
        start(&self.launcher, self.spec(call)?, Isolation::Toolchain, ())
    }
}

impl Confined {
    fn spec(&self, call: &Call<'_>) -> Result<Spec> {
        let sources = source_folders(call.dir);
        let (mut read, mut write) = (vec![self.root.clone()], self.scratch.clone());
        write.push(call.out_dir.to_owned());
        match call.phase {
            Phase::Build => read.push(self.modules.clone()),
            Phase::Fetch => {
                write.push(self.modules.clone());
                // git and ssh are needed for modules that no proxy has.
                let of_host = FOR_THE_NETWORK.iter().chain(&FOR_PROGRAMS);
                read.extend(of_host.map(PathBuf::from));
                read.extend(self.for_fetching.clone());
                let home = self.home.iter();
                read.extend(home.flat_map(|home| CREDENTIALS.map(|name| home.join(name))));
            }
        }
        match call.sources {
            Access::ReadOnly => read.extend(sources),
            Access::ReadWrite => write.extend(sources),
        }
        // The user's own links lead to them; a process cannot write to the folders that these are in.
        let followed = |path: PathBuf| fs_err::canonicalize(&path).unwrap_or(path);
        let write = write.into_iter().map(followed).collect();
        let spec = spec(call, Root::Host { read, write })?;
        // git cannot do without; go can.
        let attributes = match call.phase {
            Phase::Build => Access::ReadOnly,
            Phase::Fetch => Access::ReadWrite,
        };
        Ok(Spec { unconfined: self.unconfined, attributes, ..spec })
    }
}

/// What a call is on a root, without mounts.
pub(super) fn spec(call: &Call<'_>, root: Root) -> Result<Spec> {
    if !call.dir.is_dir() {
        let action = format!("run go in {}", call.dir.display());
        return Err(Error::new(ErrorKind::NotFound, action).because("there is no such folder"));
    }
    let arguments = call.arguments.iter().cloned();
    let mut spec = Spec::new(root, std::iter::once(text(call.go)?).chain(arguments));
    spec.cwd = text(call.dir)?;
    spec.env.clone_from(&call.environment);
    spec.env.insert("PWD".to_owned(), spec.cwd.clone());
    spec.network = match call.phase {
        Phase::Fetch => Network::Host,
        Phase::Build => Network::None,
    };
    Ok(spec)
}

pub(super) fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, format!("build in {}", path.display()))
            .because("the path is not UTF-8")
    })
}

/// Starts a process in a sandbox, on a thread that waits for its end. What it `needs` lives until
/// then.
pub(super) fn start(
    launcher: &Launcher,
    spec: Spec,
    isolation: Isolation,
    needs: impl Send + 'static,
) -> Result<Running> {
    let action = || "make a pipe for go";
    let (stdout, far_stdout) = std::io::pipe().cannot(action)?;
    let (stderr, far_stderr) = std::io::pipe().cannot(action)?;
    let input = Streams::null()?.input;
    let streams = Streams { input, output: far_stdout.into(), error: far_stderr.into() };
    let kill_on_drop = KillOnDrop::default();
    let (launcher, watched) = (launcher.clone(), kill_on_drop.0.clone());
    let thread = tokio::task::spawn_blocking(move || {
        let mut child = launcher.spawn(&spec, isolation, streams)?;
        if !watch(&watched, &child) {
            child.kill();
        }
        let exit = child.wait();
        drop(needs);
        exit
    });
    let end = Box::pin(async move {
        // Kept here, so that whoever drops the future ends the process.
        let _kill_on_drop = kill_on_drop;
        let exit = joined(thread.await)?;
        Ok(described(&exit))
    });
    Ok(Running { stdout: readable(stdout)?, stderr: readable(stderr)?, end })
}

fn readable(pipe: PipeReader) -> Result<Output> {
    let receiver = pipe::Receiver::from_owned_fd(OwnedFd::from(pipe));
    Ok(Box::new(receiver.cannot(|| "read what go says")?))
}

fn described(exit: &Exit) -> Option<String> {
    match exit {
        Exit::Code(0) => None,
        Exit::Code(code) => Some(format!("exit status: {code}")),
        Exit::Signal(number) => Some(format!("signal: {number}")),
        Exit::NotFound(why) | Exit::NotExecutable(why) => Some(why.clone()),
        Exit::TimedOut => Some("its time was over".to_owned()),
    }
}

/// The state of a process that is started on one thread and ended from another.
#[derive(Default)]
enum Life {
    #[default]
    Starting,
    Running(Signaller),
    Unwanted,
}

/// Lets the process be ended from elsewhere; false if that has been done.
fn watch(life: &Mutex<Life>, child: &Child) -> bool {
    let mut life = life.lock().unwrap_or_else(PoisonError::into_inner);
    match *life {
        Life::Unwanted => false,
        Life::Starting | Life::Running(_) => {
            *life = Life::Running(child.signaller());
            true
        }
    }
}

/// Ends the process when it is dropped; after the end nothing happens.
#[derive(Default)]
struct KillOnDrop(Arc<Mutex<Life>>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let mut life = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Life::Running(signaller) = std::mem::replace(&mut *life, Life::Unwanted) {
            signaller.signal(rustix::process::Signal::KILL.as_raw());
        }
    }
}
