//! What runs in a container, and how: written once, when the container is made.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::plan::NetworkChoice;
use super::ports::Published;
use super::signal::StopSignal;
use crate::oci::Digest;
use crate::sandbox::{Isolation, Spec};

/// What runs in a container, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// What the image was called, or where it was.
    pub image: String,
    /// The image's manifest; a plain folder has none.
    pub digest: Option<Digest>,
    /// When the container was made.
    pub created: Timestamp,
    /// How its processes are isolated.
    #[serde(rename = "rung")]
    pub isolation: Isolation,
    /// Its program, root file system, mounts and the rest.
    pub spec: Spec,
    /// Which network it has.
    pub network: NetworkChoice,
    /// Ports that are asked for; see [`super::Running`] for those that it has.
    pub ports: Vec<Published>,
    /// Ports that the image says its program listens on, `8080/tcp`.
    pub exposed: Vec<String>,
    /// How the program is asked to end.
    pub stop_signal: StopSignal,
    /// How long it may take to; without a limit it is never killed.
    pub stop_timeout: Option<Duration>,
    /// Whether its standard input stays open.
    pub input: bool,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Whether it is removed once it has ended.
    pub remove: bool,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}
