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
use rustix::thread::CapabilitySet;

use super::error::{At as _, Attempt, Stage};
use super::helper::write_id_map;
use super::kernel::{self, Signals};
use super::rung::Rung;
use super::spawn::Launcher;
use crate::error::{Cannot as _, Result};

/// The name under which the own binary is started again. The last part is what its help shows.
pub(super) const MARK: &str = "/gondola-id-range/gondola";

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
    /// [`Rung::NsSubuid`] needs for unpacking, packing and removing files with owners.
    ///
    /// `None` means that this process is inside: go on. Else the helper's binary was run inside with
    /// `arguments` and this process's streams, folder and environment, has ended, and left this exit
    /// code to end with. Blocks; call it before any thread is started.
    pub fn enter_id_range(&self, arguments: &[OsString]) -> Result<Option<ExitCode>> {
        if holds_id_range() {
            return Ok(None);
        }
        let code = self.run_inside(arguments);
        let code = code.map_err(|fault| self.note(Rung::NsSubuid, fault).into_error());
        code.map(Some).cannot(|| format!("enter the sandbox {}", Rung::NsSubuid))
    }

    fn run_inside(&self, arguments: &[OsString]) -> Attempt<ExitCode> {
        let action = || format!("start {} again", self.helper().display());
        let map = self.subordinate_ids()?;
        let signals = Signals::block(&WATCHED).at(Stage::Helper, action)?;
        let mut command = Command::new(self.helper());
        let child = command.arg0(MARK).args(arguments).spawn().at(Stage::Helper, action)?;
        let pid = Pid::from_child(&child);
        let let_in = wait_for_stop(pid)
            .and_then(|()| write_id_map(pid, &map))
            .and_then(|()| kill_process(pid, Signal::CONT).at(Stage::Helper, action));
        if let Err(fault) = let_in {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
            return Err(fault);
        }
        Ok(watch(pid, &signals))
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

/// Whether this process may mount and change owners within a user namespace that holds a range.
pub(super) fn holds_id_range() -> bool {
    let may_mount = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
    let map = |file| fs_err::read_to_string(file).unwrap_or_default();
    let holds = |text: &str| is_within_user_namespace(text) && mapped_ids(text) > 1;
    may_mount && holds(&map("/proc/self/uid_map")) && holds(&map("/proc/self/gid_map"))
}

/// Whether this process is in a user namespace other than the machine's first one.
pub(super) fn is_in_user_namespace() -> bool {
    let map = fs_err::read_to_string("/proc/self/uid_map").unwrap_or_default();
    is_within_user_namespace(&map)
}

/// The first user namespace maps every id to itself. A kernel without any has no map.
fn is_within_user_namespace(map: &str) -> bool {
    let all = ["0", "0", "4294967295"];
    !map.trim().is_empty() && !map.split_whitespace().eq(all)
}

fn mapped_ids(map: &str) -> u64 {
    let counts = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    counts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_map_tells_where_a_process_is() {
        let cases = [
            ("         0          0 4294967295\n", false, 4_294_967_295),
            ("         0       1000          1\n", true, 1),
            ("         0       1000          1\n         1     100000      65536\n", true, 65537),
            ("", false, 0),
        ];
        for (map, within, count) in cases {
            assert_eq!((is_within_user_namespace(map), mapped_ids(map)), (within, count), "{map}");
        }
    }
}
