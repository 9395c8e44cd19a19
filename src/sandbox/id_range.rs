//! Runs the own program again as root of a user namespace that holds a range of ids, once, at the
//! start of a command: everything inside works with real owners, in plain code.
//!
//! ```text
//!   caller ── spawn ──► the own binary, under MARK ── unshare, stop ──┐
//!     │  newuidmap, newgidmap, SIGCONT ◄───────────────────────────────┘
//!     └─ passes signals on, gives its exit code       main goes on, inside
//! ```
//!
//! No variable says that a process is inside: the kernel's own map of ids does, so that nothing can
//! be faked or inherited, and `podman unshare` counts as well.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid,
};

use super::closed_stdout::stdout_was_closed;
use super::error::{At as _, Attempt, Stage};
use super::id_map::{write_id_map, write_single_map};
use super::isolation::Isolation;
use super::kernel::{self, Signals};
use super::spawn::Launcher;
use super::user_namespace::{holds_id_range, may_look_into_any_folder};
use crate::error::{Cannot as _, Result};

/// The name under which the own binary is started again. The last part is what its help shows.
pub(super) const MARK: &str = "/gondola-id-range/gondola";
/// The same where standard output was closed: what the process inherits there is not what its user gave.
pub(super) const MARK_WITHOUT_OUTPUT: &str = "/gondola-id-range/without-output/gondola";

/// What ends a program. A terminal sends the first two to everyone in the foreground, and stops and
/// continues everyone: the latter need no help.
/// The last one tells of the end.
const WATCHED: [i32; 7] = [
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCHLD,
];

impl Launcher {
    /// Makes sure that what follows runs as root of a user namespace with a range of ids, which
    /// [`Isolation::NsSubuid`] needs for unpacking, packing and removing files with owners.
    ///
    /// `None` means that this process is inside: go on. Else the helper's binary was run inside with
    /// `arguments` and this process's streams, folder and environment, has ended, and left this exit
    /// code to end with. Blocks; call it before any thread is started.
    pub fn enter_id_range(&self, arguments: &[OsString]) -> Result<Option<ExitCode>> {
        if holds_id_range() {
            return Ok(None);
        }
        let map = self.subordinate_ids();
        let code =
            map.and_then(|map| self.run_inside(arguments, &|process| write_id_map(process, &map)));
        let code = code.map_err(|fault| self.note(Isolation::NsSubuid, fault).into_error());
        code.map(Some).cannot(|| format!("enter the sandbox {}", Isolation::NsSubuid))
    }

    /// Makes sure that what follows may look into every folder of this user, also those that a step took
    /// the right away to: as the same user, in a user namespace that holds this one id.
    ///
    /// Answers like [`Self::enter_id_range`], and `None` as well where this machine has no such
    /// namespaces: what follows then sees what the user sees.
    pub fn enter_own_namespace(&self, arguments: &[OsString]) -> Option<ExitCode> {
        if may_look_into_any_folder() {
            return None;
        }
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let write_map = |process: Pid| {
            let folder = format!("/proc/{}", process.as_raw_nonzero());
            write_single_map(&folder, (uid, uid), (gid, gid))
        };
        self.run_inside(arguments, &write_map).ok()
    }

    /// Runs the program again in a user namespace of its own, whose map `write_map` writes.
    fn run_inside(
        &self,
        arguments: &[OsString],
        write_map: &dyn Fn(Pid) -> Attempt<()>,
    ) -> Attempt<ExitCode> {
        let action = || format!("start {} again", self.helper().display());
        let signals = Signals::block(&WATCHED).at(Stage::Helper, action)?;
        let entered = self.start_inside(arguments, write_map);
        if entered.is_err() {
            // This process may go on by itself.
            let _ = kernel::unblock(&WATCHED);
        }
        entered.map(|pid| watch(pid, &signals))
    }

    fn start_inside(
        &self,
        arguments: &[OsString],
        write_map: &dyn Fn(Pid) -> Attempt<()>,
    ) -> Attempt<Pid> {
        let action = || format!("start {} again", self.helper().display());
        let mut command = Command::new(self.helper());
        let mark = if stdout_was_closed() { MARK_WITHOUT_OUTPUT } else { MARK };
        let child = command.arg0(mark).args(arguments).spawn().at(Stage::Helper, action)?;
        let pid = Pid::from_child(&child);
        let let_in = wait_for_stop(pid)
            .and_then(|()| write_map(pid))
            .and_then(|()| kill_process(pid, Signal::CONT).at(Stage::Helper, action));
        if let Err(fault) = let_in {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
            return Err(fault);
        }
        Ok(pid)
    }
}

/// Waits until the process inside needs its ids.
fn wait_for_stop(pid: Pid) -> Attempt<()> {
    let action = || "create a user namespace";
    loop {
        let waited = match waitpid(Some(pid), WaitOptions::UNTRACED) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result.at(Stage::Helper, action)?,
        };
        let Some((_, status)) = waited else { continue };
        if status.stopped() {
            return Ok(());
        }
        let error = std::io::Error::from_raw_os_error(status.exit_status().unwrap_or(libc::EINTR));
        return Err(error).at(Stage::Namespaces, action);
    }
}

/// Passes signals on until the process inside ends.
fn watch(pid: Pid, signals: &Signals) -> ExitCode {
    loop {
        let mut watched = [PollFd::new(signals, PollFlags::IN)];
        // Interrupted or not, the signals say what happened.
        let _ = poll(&mut watched, None);
        while let Ok(Some(signal)) = signals.next() {
            if signal.number == libc::SIGCHLD {
                if let Ok(Some((_, status))) = waitpid(Some(pid), WaitOptions::NOHANG) {
                    return code(status);
                }
            } else if !signal.from_terminal {
                let _ = kernel::send_signal(pid, signal.number);
            }
        }
    }
}

fn code(status: WaitStatus) -> ExitCode {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, signal) => 128 + signal.unwrap_or(libc::SIGKILL),
    };
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// The part of the process inside: makes the namespace and has it filled, then comes back so that
/// `main` goes on. Returns a code to end with where that failed: the error's number.
pub(super) fn become_its_root() -> Option<ExitCode> {
    // Inherited from the process that watches for them.
    let entered = kernel::unblock(&WATCHED).and_then(|()| kernel::unshare_user()).and_then(|()| {
        // Entering hides a process from those that write its maps.
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(kill_process(rustix::process::getpid(), Signal::STOP)?)
    });
    let number = entered.err()?.raw_os_error().and_then(|number| u8::try_from(number).ok());
    Some(ExitCode::from(number.unwrap_or(u8::MAX)))
}
