//! A failure inside the helper, in a form that crosses the pipe and still says at which step.

use std::io;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// Why a program of somebody else does not run on the host's files.
pub const NO_LANDLOCK: &str =
    "this kernel has no Landlock, without which it would have all rights of this user";
/// What to do about that.
pub const NO_LANDLOCK_FIX: &str =
    "use Linux 5.13 or newer with Landlock on, or --sandbox toolchain, which runs it all the same";

/// The step of entering a sandbox that failed. The probe explains a missing isolation by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// Starting the helper and talking to it.
    Helper,
    /// Creating namespaces.
    Namespaces,
    /// Filling in which user ids exist.
    IdMap,
    /// Mounting the layers over each other.
    Overlay,
    /// Any other mount, and the change of root.
    Mounts,
    /// Finding the user that the image names.
    User,
    /// Opening a terminal.
    Terminal,
    /// Dropping rights.
    Privileges,
    /// Setting the limits that the caller asked for.
    Limits,
    /// Leading out of a network.
    Network,
    /// Confining a process to a few of the host's files.
    Confinement,
    /// What the caller asked for cannot be had on this isolation.
    Request,
}

/// What failed, where and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Fault {
    pub(super) stage: Stage,
    /// Completes "cannot …".
    pub(super) action: String,
    pub(super) reason: String,
    pub(super) errno: Option<i32>,
}

/// A result whose error is a [`Fault`].
pub(super) type Attempt<T> = Result<T, Fault>;

impl Fault {
    /// Makes a fault that is no failed system call.
    pub(super) fn new(stage: Stage, action: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { stage, action: action.into(), reason: reason.into(), errno: None }
    }

    /// Whether it is a failure of the isolation itself: not of what was to be run, mounted or found.
    pub(super) fn is_of_isolation(&self) -> bool {
        match self.stage {
            Stage::Namespaces | Stage::IdMap | Stage::Overlay | Stage::Privileges => true,
            // A mount that is missing fails in another way.
            Stage::Mounts => self.errno == Some(libc::EPERM),
            Stage::Helper
            | Stage::User
            | Stage::Terminal
            | Stage::Limits
            | Stage::Network
            | Stage::Confinement
            | Stage::Request => false,
        }
    }

    /// Whether it will fail again as long as nothing changes: not one of a machine that is busy or full.
    pub(super) fn lasts(&self) -> bool {
        const PASSING: [i32; 9] = [
            libc::EAGAIN,
            libc::ENOMEM,
            libc::ENOSPC,
            libc::EDQUOT,
            libc::EMFILE,
            libc::ENFILE,
            libc::EINTR,
            libc::EBUSY,
            libc::EIO,
        ];
        match self.errno {
            Some(number) => !PASSING.contains(&number),
            None => self.stage != Stage::Helper,
        }
    }

    /// The error that the caller sees.
    pub(super) fn into_error(self) -> Error {
        let kind = match (self.stage, self.errno) {
            (Stage::Request | Stage::Network | Stage::Confinement, _) => ErrorKind::Unsupported,
            (Stage::User, None) => ErrorKind::NotFound,
            (_, Some(libc::EPERM | libc::EACCES)) => ErrorKind::Denied,
            _ => ErrorKind::Io,
        };
        let error = Error::new(kind, self.action).because(self.reason);
        if self.stage == Stage::Confinement { error.hint(NO_LANDLOCK_FIX) } else { error }
    }
}

/// Adds the step and the action to a failed system call.
pub(super) trait At<T> {
    /// Wraps the error, if any, as "cannot `action`" at `stage`.
    fn at<S: Into<String>>(self, stage: Stage, action: impl FnOnce() -> S) -> Attempt<T>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at<S: Into<String>>(self, stage: Stage, action: impl FnOnce() -> S) -> Attempt<T> {
        self.map_err(|error| {
            let error = error.into();
            let (reason, errno) = (plain(&error), error.raw_os_error());
            Fault { stage, action: action().into(), reason, errno }
        })
    }
}

/// The system's words for an error: lower case, without Rust's "(os error 1)".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fault_of_the_isolation_is_one_and_a_busy_machine_is_no_reason_for_ever() {
        let fault = |stage, errno: i32| {
            let failed = Err::<(), _>(io::Error::from_raw_os_error(errno));
            failed.at(stage, || "do it").unwrap_err()
        };
        let cases = [
            (fault(Stage::Namespaces, libc::EPERM), true, true),
            (fault(Stage::Namespaces, libc::EAGAIN), true, false),
            (fault(Stage::Mounts, libc::EPERM), true, true),
            (fault(Stage::Mounts, libc::ENOENT), false, true),
            (fault(Stage::Limits, libc::EPERM), false, true),
            (fault(Stage::User, libc::ENOENT), false, true),
            (Fault::new(Stage::IdMap, "map user ids", "no range"), true, true),
            (Fault::new(Stage::Helper, "try it", "it ended"), false, false),
        ];
        for (fault, of_isolation, lasts) in cases {
            assert_eq!(
                (fault.is_of_isolation(), fault.lasts()),
                (of_isolation, lasts),
                "{fault:?}"
            );
        }
    }

    #[test]
    fn a_fault_becomes_an_error_that_names_the_action_and_the_systems_reason() {
        let refused = Err::<(), _>(io::Error::from_raw_os_error(libc::EPERM));
        let fault = refused.at(Stage::Overlay, || "mount the layers").unwrap_err();
        let error = fault.into_error();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(error.to_string(), "cannot mount the layers: operation not permitted");
    }
}
