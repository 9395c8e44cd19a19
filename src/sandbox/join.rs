//! Runs a further program in a sandbox that runs already, from any process of the same user.
//!
//! ```text
//!   Launcher::join ── Request::Join ──► the sandbox's helper, at Spec::control
//!        │        ◄── Place, namespaces ──┘
//!        └─ Job, streams, namespaces ──► a helper of its own ── enters, forks ──► the program
//! ```
//!
//! Process 1 hides its namespaces from everyone; its helper has them open from before.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use super::channel::{self, Job};
use super::connect;
use super::error::{At as _, Attempt, Fault, Stage};
use super::identity::IdMap;
use super::limit::Limit;
use super::rung::Rung;
use super::spawn::{Child, Launcher, Streams};
use super::spec::{LowPorts, Network, Root, Spec};
use super::tty::WindowSize;
use crate::error::{Cannot as _, Error, ErrorKind, Result};

/// A further program for a sandbox.
#[derive(Clone, Debug)]
pub struct Join {
    /// The socket that the sandbox was started with, [`Spec::control`].
    pub control: PathBuf,
    /// The program and its arguments, as in [`Spec::argv`].
    pub argv: Vec<String>,
    /// Its environment, as in [`Spec::env`].
    pub env: BTreeMap<String, String>,
    /// Its working directory.
    pub cwd: String,
    /// Who it runs as, as in [`Spec::user`].
    pub user: String,
    /// A terminal of this size in place of the standard streams.
    pub terminal: Option<WindowSize>,
}

impl Launcher {
    /// Starts a further program in a running sandbox, confined as the first one. It ends with this
    /// process and with the sandbox; processes that it leaves behind end with the sandbox.
    ///
    /// Works on every rung with namespaces. On [`Rung::NsSubuid`] call it from outside a range of ids
    /// (see [`Self::enter_id_range`]): the sandbox's own is entered.
    pub fn join(&self, join: &Join, streams: Streams) -> Result<Child> {
        let action = || format!("run in the sandbox at {}", join.control.display());
        let answered = match ask(&join.control) {
            Err(error) if connect::is_gone(&error) => None,
            result => result.cannot(action)?,
        };
        let (place, namespaces) = answered
            .ok_or_else(|| Error::new(ErrorKind::NotFound, action()).because("it has ended"))?;
        let mut spec = Spec::new(Root::Folder("/".into()), &join.argv);
        spec.env.clone_from(&join.env);
        spec.cwd.clone_from(&join.cwd);
        spec.user.clone_from(&join.user);
        spec.terminal = join.terminal;
        spec.hostname = place.hostname;
        spec.network = place.network;
        spec.low_ports = place.low_ports;
        spec.limits = place.limits;
        let job = Job {
            spec,
            rung: place.rung,
            id_map: place.id_map,
            proot: None,
            ways_out: Vec::new(),
            rehearsal: false,
            joins: true,
        };
        self.start(&job, streams, &namespaces).map_err(Fault::into_error).cannot(action)
    }
}

/// What another process may ask of a helper.
#[derive(Serialize, Deserialize)]
pub(super) enum Request {
    /// The namespaces, for a further program.
    Join,
    /// A connection to a port.
    Connect(u16),
}

/// What a further program has to know; the namespaces come along.
#[derive(Serialize, Deserialize)]
struct Place {
    rung: Rung,
    id_map: IdMap,
    network: Network,
    low_ports: LowPorts,
    hostname: String,
    #[serde(default)]
    limits: Vec<Limit>,
}

fn ask(control: &Path) -> io::Result<Option<(Place, Vec<OwnedFd>)>> {
    let socket = connect_to(control)?;
    channel::send(&socket, &Request::Join, &[])?;
    channel::receive(&socket)
}

/// Connects to a helper's socket. A path of any length will do.
pub(super) fn connect_to(control: &Path) -> io::Result<UnixStream> {
    let (folder, name) = open_parent(control)?;
    UnixStream::connect(short_name(&folder, name))
}

fn open_parent(path: &Path) -> io::Result<(File, &std::ffi::OsStr)> {
    let none = || io::Error::from(io::ErrorKind::InvalidInput);
    let folder = fs_err::File::open(path.parent().ok_or_else(none)?)?;
    Ok((folder.into_parts().0, path.file_name().ok_or_else(none)?))
}

/// The address of a socket holds 108 bytes.
fn short_name(folder: &File, name: &std::ffi::OsStr) -> PathBuf {
    let number = std::os::fd::AsRawFd::as_raw_fd(folder);
    Path::new(&format!("/proc/self/fd/{number}")).join(name)
}

/// The socket at which a helper hears of other processes.
pub(super) struct ControlSocket {
    listener: UnixListener,
    folder: File,
    name: std::ffi::OsString,
    namespaces: Vec<OwnedFd>,
    place: Place,
}

/// The namespaces in the order in which they are entered: the first gives the right to the others,
/// and after the last `/proc` is another one.
const NAMESPACES: [&str; 6] = ["user", "pid", "ipc", "uts", "net", "mnt"];

/// How long another process may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(1);

impl ControlSocket {
    /// Opens the socket, in place of one that a killed helper left.
    pub(super) fn open(path: &Path, job: &Job) -> Attempt<Self> {
        let action = || format!("listen at {}", path.display());
        let (folder, name) = open_parent(path).at(Stage::Helper, action)?;
        let address = short_name(&folder, name);
        match fs_err::remove_file(&address) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).at(Stage::Helper, action);
            }
            _ => {}
        }
        let listener = UnixListener::bind(&address).at(Stage::Helper, action)?;
        listener.set_nonblocking(true).at(Stage::Helper, action)?;
        let place = Place {
            rung: job.rung,
            id_map: job.id_map.clone(),
            network: job.spec.network,
            low_ports: job.spec.low_ports,
            hostname: job.spec.hostname.clone(),
            limits: job.spec.limits.clone(),
        };
        Ok(Self { listener, folder, name: name.to_owned(), namespaces: Vec::new(), place })
    }

    /// Opens the namespaces of process 1, which is not hidden yet.
    pub(super) fn open_namespaces(&mut self, pid: Pid) -> Attempt<()> {
        let open = |name| {
            let path = format!("/proc/{}/ns/{name}", pid.as_raw_nonzero());
            let file = fs_err::File::open(path).at(Stage::Helper, || "open the namespaces")?;
            Ok(OwnedFd::from(file.into_parts().0))
        };
        self.namespaces = NAMESPACES.into_iter().map(open).collect::<Attempt<_>>()?;
        Ok(())
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Serves whoever waits. `requests` leads to process 1, where that one is in another network.
    pub(super) fn serve(&self, requests: Option<&UnixStream>) {
        while let Ok((caller, _)) = self.listener.accept() {
            // One that says nothing, or has gone, gets nothing.
            let _ = self.answer(&caller, requests);
        }
    }

    /// Removes the socket. Its copy in process 1 goes without a word.
    pub(super) fn close(self) {
        // One that is gone already is no harm.
        let _ = fs_err::remove_file(short_name(&self.folder, &self.name));
    }

    fn answer(&self, caller: &UnixStream, requests: Option<&UnixStream>) -> io::Result<()> {
        let peer = rustix::net::sockopt::socket_peercred(caller)?;
        if peer.uid != rustix::process::geteuid() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        caller.set_nonblocking(false)?;
        caller.set_read_timeout(Some(PATIENCE))?;
        match channel::receive(caller)? {
            Some((Request::Join, _)) => {
                let fds: Vec<BorrowedFd<'_>> =
                    self.namespaces.iter().map(|fd| fd.as_fd()).collect();
                channel::send(caller, &self.place, &fds)
            }
            Some((Request::Connect(port), _)) => {
                serve_connect_request(port, caller, requests);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Has a connection opened where the network is the sandbox's.
pub(super) fn serve_connect_request(port: u16, reply: &UnixStream, requests: Option<&UnixStream>) {
    match requests {
        Some(requests) => {
            // Process 1 may have ended just now.
            let _ = channel::send(requests, &connect::ConnectRequest { port }, &[reply.as_fd()]);
        }
        None => connect::serve(port, reply),
    }
}

/// Enters the namespaces of another sandbox. Processes started from now on are in all of them.
pub(super) fn enter(namespaces: &[OwnedFd]) -> Attempt<()> {
    let action = || "enter the sandbox";
    if namespaces.is_empty() {
        let reason = "it has no namespaces; start it anew on the same files";
        return Err(Fault::new(Stage::Request, action(), reason));
    }
    for (fd, name) in namespaces.iter().zip(NAMESPACES) {
        let wanted = rustix::fs::fstat(fd).at(Stage::Namespaces, action)?;
        let own = format!("/proc/self/ns/{name}");
        let own = rustix::fs::stat(own).at(Stage::Namespaces, action)?;
        // The host's network, for one: nobody enters where he is, nor has the right to.
        if (own.st_dev, own.st_ino) != (wanted.st_dev, wanted.st_ino) {
            move_into_link_name_space(fd.as_fd(), None::<LinkNameSpaceType>)
                .at(Stage::Namespaces, action)?;
        }
    }
    Ok(())
}
