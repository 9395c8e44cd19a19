//! Runs a process in a root file system, or confined on the host's, without root and without a
//! daemon: the crate's only unsafe code.
//!
//! ```text
//!   caller ── socket ──► helper ── clone ──► init, process 1 ── fork ──► the program
//!   Launcher, Child      writes id maps,     mounts, changes the        drops rights, execs
//!                        keeps the time      root, reaps, forwards
//! ```
//!
//! The helper is the own binary, re-executed, because a threaded process cannot enter a user
//! namespace: [`reexec`] is the first call of `main`. Its configuration and the program's standard
//! streams come over a socket, never through arguments or the environment. When the caller's end of
//! the socket closes the helper kills process 1, and with it the kernel kills whatever the program
//! left behind.
//!
//! What holds on every isolation: no new privileges, at most the capabilities that Docker gives (on the
//! host's network without that to listen in on it), the system calls that Docker's default profile
//! allows, no open file but the three standard streams.
//! What holds on the host's own files: a process reads, writes and executes what it is shown alone, and makes
//! no socket but those of the internet (with the host's network): neither an abstract one nor one that has a
//! path. Without Landlock none is started, unless the caller accepts that. Landlock knows no rule for the
//! modes, owners, times and attributes of files: a process that is to change none of its own is kept from all of
//! them but times.
//! What holds with namespaces on top: no file of the host but the root file system and the mounts
//! that were asked for; masked `/proc`; no host process seen or signalled; no abstract socket of
//! the host reached (with the host's network this needs Landlock, Linux 6.12).
//!
//! Where a user has one id, the calls about owners and users are answered by a fakeroot, so that
//! package managers work and a layer gets the owners that they want; `apt` needs no setting for it.
//! Where he has a range of ids, a command runs as its root from the beginning:
//! [`Launcher::enter_id_range`].
//!
//! Absent on purpose: cgroups (never required), and 32-bit system calls (a program that makes one
//! is killed).

mod advice;
mod channel;
mod choose;
mod closed_stdout;
mod connect;
mod connector;
mod control;
mod error;
mod exit;
mod file_size;
mod helper;
mod hosts_files;
mod id_map;
mod id_range;
mod identity;
mod init;
mod join;
mod kernel;
mod kernel_path;
mod limit;
mod memory_file;
mod privileges;

mod exec;
mod fakeroot;
mod isolation;
mod mounts;
mod notify;
mod other_user;
pub mod owner;
mod path;
mod path_call;
mod probe;
mod procfs;
mod protocol;
mod reach;
mod root;
mod seccomp;
mod spawn;
mod spec;
mod staging;
mod stub;
mod syscalls;
mod trials;
mod tty;
mod user_namespace;
mod way_out;
mod whiteout;

pub use choose::{Chooser, Files, IsolationRequest, Needs, Preference};
pub use closed_stdout::stdout_was_closed;
pub use connector::Connector;
pub use error::{NO_LANDLOCK, NO_LANDLOCK_FIX};
pub use exit::Exit;
pub use file_size::survive_file_size_limit;
pub use helper::reexec;
pub use hosts_files::{FOR_PROGRAMS, FOR_THE_NETWORK};
pub use isolation::Isolation;
pub use join::Join;
pub use limit::Limit;
pub use other_user::other_user;
pub use privileges::can_confine_files;
pub use probe::{Finding, Findings, ProbeOptions, probe};
pub use spawn::{Child, Launcher, Signaller, Streams, keep_descriptors};
pub use spec::{
    Access, Changes, Durability, Lifetime, LowPorts, Mount, Network, Root, Secret, Spec, Unconfined,
};
pub use stub::Stub;
pub use tty::{RawMode, WindowSize, relay, window_size};
pub use whiteout::make_whiteout;
