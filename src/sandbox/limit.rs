//! Limits of resources, as `--ulimit` names them.

use std::fmt;
use std::str::FromStr;

use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};

use super::error::{At as _, Attempt, Stage};
use crate::error::{Error, ErrorKind, Result};

/// Docker's names. The time that a process may run on real-time terms is not among them: by it the
/// fakeroot knows its threads.
const RESOURCES: [(&str, Resource); 14] = [
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// How much of something each process may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// A name of [`RESOURCES`].
    resource: String,
    /// What is enforced; `None` is no limit.
    soft: Option<u64>,
    /// How far the process may raise that.
    hard: Option<u64>,
}

impl Limit {
    /// What is limited, by its name.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// Limits this process and all that it starts.
    pub(super) fn apply(&self) -> Attempt<()> {
        let action = || format!("limit {self}");
        let known = RESOURCES.iter().find(|(name, _)| *name == self.resource);
        let (_, resource) = known.expect("a name is checked when it is read");
        let limit = Rlimit { current: self.soft, maximum: self.hard };
        rustix::process::setrlimit(*resource, limit).at(Stage::Limits, action)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |limit: Option<u64>| limit.map_or(-1, u64::cast_signed);
        write!(f, "{}={}:{}", self.resource, number(self.soft), number(self.hard))
    }
}

impl FromStr for Limit {
    type Err = Error;

    /// Reads `NAME=SOFT[:HARD]`; -1 is no limit.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: String| {
            Error::new(ErrorKind::Usage, format!("set the limit \"{}\"", text.escape_debug()))
                .because(why)
        };
        let (name, values) = text.split_once('=').ok_or_else(|| {
            wrong("expected NAME=SOFT[:HARD], such as nofile=1024:4096".to_owned())
        })?;
        if !RESOURCES.iter().any(|(known, _)| *known == name) {
            let known: Vec<&str> = RESOURCES.iter().map(|(name, _)| *name).collect();
            return Err(wrong(format!("expected one of {}", known.join(", "))));
        }
        let read = |value: &str| match value {
            "-1" => Ok(None),
            value => value
                .parse()
                .map(Some)
                .map_err(|_| wrong(format!("\"{}\" is no number, nor -1", value.escape_debug()))),
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (read(soft)?, read(hard)?);
        if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
            return Err(wrong("the soft limit is above the hard one".to_owned()));
        }
        Ok(Self { resource: name.to_owned(), soft, hard })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_docker_reads_them() {
        for (text, expected) in [
            ("nofile=1024", "nofile=1024:1024"),
            ("nofile=1024:4096", "nofile=1024:4096"),
            ("core=-1", "core=-1:-1"),
            ("stack=8192:-1", "stack=8192:-1"),
        ] {
            assert_eq!(text.parse::<Limit>().unwrap().to_string(), expected);
        }
        for (text, said) in [
            ("nofile", "NAME=SOFT"),
            ("files=3", "one of core"),
            ("rttime=3", "one of core"),
            ("nofile=x", "\"x\" is no number"),
            ("nofile=2:1", "above the hard one"),
            ("nofile=-1:5", "above the hard one"),
        ] {
            let error = text.parse::<Limit>().unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
