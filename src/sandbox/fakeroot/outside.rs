//! A fakeroot for a sandbox whose `/proc` is the outer one, as the kernel has it in containers that hide
//! parts of theirs: process 1 finds no process by its number there. So a child of the helper answers, which
//! has the outer numbers, and the user namespace and the mounts of the sandbox.
//!
//! ```text
//!   helper ── who the program is? ◄── process 1, once it knows its /proc
//!     └─ fork ──► child: enters the namespaces, answers ◄── the program's listener
//! ```

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::process::{Pid, Signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::super::channel;
use super::super::error::{At as _, Attempt, Stage};
use super::super::identity::Identity;
use super::super::kernel::{self, Fork};
use super::super::privileges;
use super::super::protocol::Job;
use super::ids::{Credentials, Registry, Triple};
use super::table::Table;
use super::{CAPABILITIES, Fakeroot};

const ACTION: &str = "record the owners of files";

/// Ids as they cross the socket: the user, the group, and further groups.
type Ids = (u32, u32, Vec<u32>);

/// Asks the helper to answer for a program that begins as somebody.
pub(super) fn ask(outside: &UnixStream, identity: &Identity) -> Attempt<()> {
    let ids: Ids = (identity.uid, identity.gid, identity.groups.clone());
    channel::send(outside, &ids, &[]).at(Stage::Privileges, || ACTION)
}

/// What a child of the helper needs to answer.
pub(in super::super) struct Outside {
    /// Leads to process 1, and later to the program.
    near: UnixStream,
    /// Of the users first, then of the mounts.
    namespaces: [OwnedFd; 2],
}

impl Outside {
    /// Opens what process 1 hides later.
    pub(in super::super) fn prepare(near: UnixStream, pid: Pid) -> Attempt<Self> {
        let open = |name: &str| {
            let path = format!("/proc/{}/ns/{name}", pid.as_raw_nonzero());
            let file = fs_err::File::open(path).at(Stage::Privileges, || ACTION)?;
            Ok(OwnedFd::from(file.into_parts().0))
        };
        Ok(Self { near, namespaces: [open("user")?, open("mnt")?] })
    }

    /// Waits until process 1 knows its `/proc`, and starts a child that answers where that is needed.
    /// Process 1 goes on meanwhile.
    pub(in super::super) fn start(self, job: &Job) -> Attempt<Option<Pid>> {
        let action = || ACTION;
        let asked = channel::receive::<Ids>(&self.near).at(Stage::Privileges, action)?;
        let Some((ids, _)) = asked else { return Ok(None) };
        let table = Table::open(job)?;
        match kernel::fork_into(0).at(Stage::Privileges, action)? {
            Fork::Parent(child) => Ok(Some(child)),
            Fork::Child => {
                // Whoever is not answered sees that nobody is there.
                let code = i32::from(self.answer(ids, table).is_err());
                std::process::exit(code);
            }
        }
    }

    fn answer(self, (uid, gid, groups): Ids, table: Table) -> Attempt<()> {
        let action = || ACTION;
        let Self { near, namespaces: [users, mounts] } = self;
        for (namespace, kind) in
            [(users, LinkNameSpaceType::User), (mounts, LinkNameSpaceType::Mount)]
        {
            move_into_link_name_space(namespace.as_fd(), Some(kind))
                .at(Stage::Privileges, action)?;
        }
        // After the change of rights, which would clear it.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .at(Stage::Privileges, action)?;
        // What is made in a program's place gets the modes that it asks for.
        rustix::process::umask(Mode::empty());
        privileges::forbid_new_privileges()?;
        let registry = registry_of(uid, gid, groups);
        let attached = channel::receive::<()>(&near).at(Stage::Privileges, action)?;
        if let Some(listener) = attached.and_then(|((), mut fds)| fds.pop()) {
            privileges::keep_capabilities(CAPABILITIES)?;
            let listener = Arc::new(listener);
            Fakeroot { listener, registry, table, changed_roots: false }.serve();
        }
        Ok(())
    }
}

/// A registry in which everybody begins as somebody.
pub(super) fn registry_of(uid: u32, gid: u32, mut further: Vec<u32>) -> Registry {
    further.sort_unstable();
    let (users, groups) = (Triple::all(uid), Triple::all(gid));
    Registry::new(Credentials { users, groups, further })
}
