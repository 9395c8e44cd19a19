//! What a client is told about the world it works in.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Credentials, Mirrors, RetryPolicy};
use crate::error::Result;
use crate::progress::Reporter;

/// How a [`Client`](super::Client) behaves. The default suits an anonymous user with no settings.
#[derive(Clone)]
pub struct Options {
    /// Who the user is.
    pub credentials: Credentials,
    /// Hosts, `name[:port]`, that may be spoken to without verification and without TLS; `*` is
    /// every host.
    pub insecure: Vec<String>,
    /// Folders like docker's `certs.d`: certificates by host and port.
    pub certificate_dirs: Vec<PathBuf>,
    /// The environment: proxies and certificate files are named there.
    pub environment: BTreeMap<String, String>,
    /// Where else to pull from.
    pub mirrors: Mirrors,
    /// How many blobs move at once to or from one host; at least 1.
    pub jobs: usize,
    /// Uploads go in chunks of this many bytes instead of in one piece.
    pub chunk_size: Option<u64>,
    /// When and how often a failed request is repeated.
    pub retry: RetryPolicy,
    /// How long a silent peer is waited for.
    pub timeouts: Timeouts,
    /// Whether no connection may be opened.
    pub offline: bool,
    /// Who is told of long waits, and of mirrors that are out of reach.
    pub reporter: Reporter,
}

/// How long a silent peer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For the next bytes of an answer, or for the peer to take the next bytes of a body.
    pub idle: Duration,
    /// For the beginning of an answer, once the request is sent.
    pub answer: Duration,
    /// For a registry that takes nothing more, and gives no answer, of a blob that was sent while it was
    /// made: then it is sent the usual way. Counted from the blob's end.
    pub early: Duration,
    /// For all that it takes until a mirror answers.
    pub mirror: Duration,
    /// Until somebody is told who is waited for.
    pub patience: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            idle: Duration::from_mins(1),
            answer: Duration::from_mins(3),
            early: Duration::from_secs(5),
            mirror: Duration::from_secs(10),
            patience: Duration::from_secs(3),
        }
    }
}

impl fmt::Debug for Options {
    /// Leaves out the environment, which holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("insecure", &self.insecure)
            .field("certificate_dirs", &self.certificate_dirs)
            .field("mirrors", &self.mirrors)
            .field("jobs", &self.jobs)
            .field("chunk_size", &self.chunk_size)
            .field("retry", &self.retry)
            .field("timeouts", &self.timeouts)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            credentials: Credentials::anonymous(),
            insecure: Vec::new(),
            certificate_dirs: Vec::new(),
            environment: BTreeMap::new(),
            mirrors: Mirrors::default(),
            jobs: 4,
            chunk_size: None,
            retry: RetryPolicy::default(),
            timeouts: Timeouts::default(),
            offline: false,
            reporter: Reporter::silent(),
        }
    }
}

impl Options {
    /// What a user with this environment expects: the credentials, certificates, proxies and mirrors
    /// that docker and podman would use.
    pub fn from_environment(environment: &BTreeMap<String, String>) -> Result<Self> {
        let mut certificate_dirs =
            vec![PathBuf::from("/etc/docker/certs.d"), PathBuf::from("/etc/containers/certs.d")];
        if let Some(home) = environment.get("HOME").filter(|home| !home.is_empty()) {
            let config = Path::new(home).join(".config");
            certificate_dirs.push(config.join("docker/certs.d"));
            certificate_dirs.push(config.join("containers/certs.d"));
        }
        Ok(Self {
            credentials: Credentials::from_environment(environment),
            certificate_dirs,
            environment: environment.clone(),
            mirrors: Mirrors::from_environment(environment)?,
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Login, Secret};
    use super::*;

    #[test]
    fn no_secret_is_printed() {
        let variables = ["DOCKER_AUTH_CONFIG", "GITHUB_TOKEN", "HTTPS_PROXY"];
        let environment = variables.map(|name| (name.to_owned(), "hunter2".to_owned()));
        let environment = BTreeMap::from(environment);
        let login = Login::new("me".to_owned(), Secret::new("hunter2"));
        let credentials = Credentials::from_environment(&environment).with("ghcr.io", login);
        let shown = format!("{credentials:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        let shown = format!("{:?}", Options { credentials, environment, ..Options::default() });
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
