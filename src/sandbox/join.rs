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
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::channel;
use super::control::{self, NAMESPACES};
use super::error::{At as _, Attempt, Fault, Stage};
use super::protocol::Job;
use super::spawn::{Child, Launcher, Streams};
use super::spec::{Root, Spec};
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
    /// Works on every isolation with namespaces. On [`super::Isolation::NsSubuid`] call it from outside a range of ids
    /// (see [`Self::enter_id_range`]): the sandbox's own is entered.
    pub fn join(&self, join: &Join, streams: Streams) -> Result<Child> {
        let action = || format!("run in the sandbox at {}", join.control.display());
        let answered = match control::ask(&join.control) {
            Err(error) if channel::is_gone(&error) => None,
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
            isolation: place.isolation,
            id_map: place.id_map,
            proot: None,
            ways_out: Vec::new(),
            rehearsal: false,
            joins: true,
            approached: None,
        };
        self.start(&job, streams, &namespaces).map_err(Fault::into_error).cannot(action)
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
