//! What the caller and its helper say to each other.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::exit::Exit;
use super::identity::IdMap;
use super::isolation::Isolation;
use super::spec::Spec;
use super::stub::Stub;
use super::way_out::Program;

/// The name under which the own binary is re-executed.
pub(super) const HELPER: &str = "gondola-sandbox-helper";

/// The argument that makes the own binary check how it is run, for the probe of `proot`.
pub(super) const SELF_TEST: &str = "gondola-sandbox-self-test";

/// The exit code of a helper that could not take out what it had put into the root file system.
pub(super) const NOT_TAKEN_OUT: u8 = 77;

/// The three standard streams of the program.
pub(super) type StreamFds = [OwnedFd; 3];

/// What a helper is told to do: the first message to it, with the three standard streams.
#[derive(Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) spec: Spec,
    pub(super) isolation: Isolation,
    pub(super) id_map: IdMap,
    /// The `proot` program, on that isolation.
    pub(super) proot: Option<std::path::PathBuf>,
    /// What may lead out of a private network, the first that works.
    #[serde(default)]
    pub(super) ways_out: Vec<Program>,
    /// Do everything up to the program's start, and leave it there.
    pub(super) rehearsal: bool,
    /// Enter a running sandbox, whose namespaces come after the streams.
    pub(super) joins: bool,
    /// The folder that the helper went to, where process 1 cannot get there by itself.
    #[serde(skip)]
    pub(super) approached: Option<std::path::PathBuf>,
}

/// Later messages to the helper.
#[derive(Serialize, Deserialize)]
pub(super) enum Order {
    /// Pass this signal to the program; SIGKILL ends everything in the sandbox.
    Signal(i32),
    /// Connect to this port of the sandbox's network. The socket for the answer comes along.
    Connect(u16),
}

/// Messages from the helper.
#[derive(Serialize, Deserialize)]
pub(super) enum Report {
    /// Process 1 was started; its id in the caller's numbering.
    Started { pid: i32 },
    /// The program runs. A terminal's controlling side comes along, if one was asked for.
    Running { stubs: Vec<Stub> },
    /// The sandbox could not be entered.
    Failed(Fault),
    /// The program ended.
    Ended(Exit),
}
