//! The socket at which a helper answers other processes of its user: one that runs a further program in
//! the sandbox, or that connects to a port of it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::channel;
use super::connect;
use super::error::{At as _, Attempt, Stage};
use super::identity::IdMap;
use super::isolation::Isolation;
use super::limit::Limit;
use super::protocol::Job;
use super::spec::{LowPorts, Network};

/// The namespaces in the order in which they are entered: the first gives the right to the others,
/// and after the last `/proc` is another one.
pub(super) const NAMESPACES: [&str; 6] = ["user", "pid", "ipc", "uts", "net", "mnt"];

/// How long another process may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(1);

/// What another process may ask of a helper.
#[derive(Serialize, Deserialize)]
pub(super) enum Request {
    /// The namespaces, for a further program.
    Join,
    /// A connection to a port.
    Connect(u16),
}

/// What a further program has to know; the namespaces come along. A container outlives the program that
/// started it, so these are words that programs of several versions say to each other.
#[derive(Serialize, Deserialize)]
pub(super) struct Place {
    #[serde(rename = "rung")]
    pub(super) isolation: Isolation,
    pub(super) id_map: IdMap,
    pub(super) network: Network,
    #[serde(default)]
    pub(super) low_ports: LowPorts,
    pub(super) hostname: String,
    #[serde(default)]
    pub(super) limits: Vec<Limit>,
}

/// Asks a helper for its namespaces; `None` where it is gone.
pub(super) fn ask(control: &Path) -> io::Result<Option<(Place, Vec<OwnedFd>)>> {
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
            isolation: job.isolation,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_of_an_earlier_version_is_understood_and_understands() {
        let said =
            r#"{"rung":"ns-root","id_map":"None","network":"Host","hostname":"1525d878e346"}"#;
        let place: Place = serde_json::from_str(said).unwrap();
        assert_eq!(place.isolation, Isolation::NsRoot);
        let says = serde_json::to_value(&place).unwrap();
        assert_eq!(says["rung"], "ns-root");
        let said: serde_json::Value = serde_json::from_str(said).unwrap();
        for (name, value) in said.as_object().unwrap() {
            assert_eq!(says[name], *value, "{name}");
        }
        let join = serde_json::to_value(Request::Join).unwrap();
        assert_eq!(
            (join, serde_json::to_value(Request::Connect(80)).unwrap()),
            ("Join".into(), serde_json::json!({"Connect": 80}))
        );
    }
}
