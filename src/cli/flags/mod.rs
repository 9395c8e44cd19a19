//! Flags: the grammars of their values, each once, with docker's rules; and words that other tools have.
//!
//! What each flag does, by what is built or run, stands in one table: [`rows`]; words that other tools have and
//! gondola has not, in [`foreign`].
//!
//! | flag | written as | here |
//! |---|---|---|
//! | `--secret` | `id=NAME[,type=file\|env][,src=FILE][,env=VARIABLE]` | [`secret`] |
//! | `--ssh` | `NAME[=SOCKET]` | [`ssh`] |
//! | `--label`, `--env`, `--build-arg` and the like | `NAME=VALUE`, `NAME` | [`pair`] |
//! | `--add-host` | `NAME:IP`, `NAME=IP` | [`host`] |
//! | a context, `--build-context` | a folder, an archive, an address, a repository | [`context`] |
//! | `--platform` | `linux/amd64,linux/arm64`, `all` | [`crate::oci::PlatformSet`] |
//! | `--output` | `KIND:PATH` | [`crate::transport::Location`] |
//! | sizes, durations, switches | `64m`, `1h30m`, `true` | [`crate::literal`] |

pub(super) mod context;
pub(super) mod foreign;
pub(super) mod host;
pub(super) mod pair;
pub(super) mod platform;
pub(super) mod registry;
pub(super) mod rows;
pub(super) mod secret;
pub(super) mod spelling;
pub(super) mod ssh;
pub(super) mod switch;
pub(super) mod table;
pub(super) mod typed;

use crate::error::{Error, ErrorKind};

/// Refuses a flag's value.
fn refuse(flag: &str, reason: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Usage, format!("use {flag}")).because(reason)
}
