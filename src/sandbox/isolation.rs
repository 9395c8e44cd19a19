//! The ladder: ways to isolate a process, from the most to the least that a machine may allow.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// Names that are still understood, and are not written any more.
const OLD_NAMES: [(&str, Isolation); 1] = [("chroot", Isolation::InContainer)];

/// A way to isolate a process. Better isolations compare as smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Real root with `CAP_SYS_ADMIN`: every namespace but the user namespace.
    NsRoot,
    /// A user namespace that holds a range of ids, given by `newuidmap`.
    NsSubuid,
    /// A user namespace that holds one id.
    Ns,
    /// Namespaces and mounts, but no overlay: the root file system is a private copy.
    NsCopy,
    /// Root of the container that this process is in: a changed root directory. No boundary. Read by its
    /// old name as well.
    #[serde(alias = "chroot")]
    InContainer,
    /// A `proot` program that pretends by tracing. No boundary.
    Proot,
    /// A process on the host's own files, confined by Landlock where the kernel has it.
    Toolchain,
}

impl Isolation {
    /// Every isolation, best first.
    pub const ALL: [Self; 7] = [
        Self::NsRoot,
        Self::NsSubuid,
        Self::Ns,
        Self::NsCopy,
        Self::InContainer,
        Self::Proot,
        Self::Toolchain,
    ];

    /// The name used on the command line and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NsRoot => "ns-root",
            Self::NsSubuid => "ns-subuid",
            Self::Ns => "ns",
            Self::NsCopy => "ns-copy",
            Self::InContainer => "in-container",
            Self::Proot => "proot",
            Self::Toolchain => "toolchain",
        }
    }

    /// What runs there, in a few words.
    pub fn runs(self) -> &'static str {
        match self {
            Self::NsRoot | Self::NsSubuid => "everything",
            Self::Ns => "everything; file owners are recorded",
            Self::NsCopy => "everything, on a copy of the root file system",
            Self::InContainer => {
                "most steps, as root of the container that gondola runs in; steps are no boundary"
            }
            Self::Proot => "most steps; not a boundary",
            Self::Toolchain => "Go packages, and go commands in RUN",
        }
    }

    /// Whether processes get their own mounts and process ids.
    pub fn has_namespaces(self) -> bool {
        matches!(self, Self::NsRoot | Self::NsSubuid | Self::Ns | Self::NsCopy)
    }

    /// Whether a root file system of layers can be mounted.
    pub fn has_overlay(self) -> bool {
        matches!(self, Self::NsRoot | Self::NsSubuid | Self::Ns)
    }

    /// Whether the isolation has a user namespace.
    pub(super) fn has_user_namespace(self) -> bool {
        matches!(self, Self::NsSubuid | Self::Ns | Self::NsCopy)
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Isolation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let current = Self::ALL.map(|isolation| (isolation.as_str(), isolation));
        let found = current.iter().chain(&OLD_NAMES).find(|(name, _)| *name == text);
        found.map(|(_, isolation)| *isolation).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Error::new(ErrorKind::Usage, format!("use sandbox {text:?}"))
                .because(format!("expected one of {names}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_name_is_read_and_not_written() {
        for (old, isolation) in OLD_NAMES {
            assert_eq!(old.parse::<Isolation>().unwrap(), isolation);
            let read: Isolation = serde_json::from_value(old.into()).unwrap();
            assert_eq!(read, isolation);
            assert_ne!(isolation.as_str(), old);
        }
    }

    #[test]
    fn every_isolation_is_found_by_its_name_and_better_ones_compare_as_smaller() {
        for isolation in Isolation::ALL {
            assert_eq!(isolation.as_str().parse::<Isolation>().unwrap(), isolation);
            assert_eq!(serde_json::to_value(isolation).unwrap(), isolation.as_str());
        }
        assert!(Isolation::ALL.is_sorted());
        let error = "jail".parse::<Isolation>().unwrap_err();
        assert!(
            error.to_string().starts_with("cannot use sandbox \"jail\": expected one of ns-root")
        );
    }
}
