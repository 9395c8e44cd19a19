//! The one engine under both front ends: looks steps up, has each executed once, and packs what it
//! made.
//!
//! ```text
//!   front end           engine                                                      executor
//!   instruction ─► Op ─► definition ─► read inputs ─► key ─► known? ── yes ─► StepOutput
//!   package            (known before    (Execute)             │                  ▲
//!                       files are read)                       └ no ─► execute ───┤ packed while the
//!                                                                     (Execute)  │ next are executed
//!                                                                     Executed ──┘
//! ```
//! An [`Op`] is one step as data: a command, or a change of files. It has no path of this
//! machine: folders are called `local:context` or `local:NAME`, secrets and agents have ids, and the
//! files of other steps and images are named by their keys. What the names stand for is in a table
//! beside it, which is never written anywhere. So an op can be kept, compared with an earlier one,
//! executed again, or executed elsewhere.
//!
//! An op has two names. Its *definition* is known before any file is read: all that the op says, and
//! the names of what it works on and reads. Its *key* is known once the inputs are read: the
//! definition's fields and the digests of what was read. Equal keys mean equal results. An op that
//! reads no files has one name for both. Where the definition of a copy decides, it leads to the key
//! that an earlier build found, and nothing is unpacked to find it again.
//!
//! Programs do not always come out the same. Where one is executed whose result was known before, only
//! an equal layer leads to what was made of the earlier one, and copies out of it are known by their
//! content alone. And a result says which results of programs it was made of: where another build executed
//! one of these again it is not found. So one image has one version of a step.
//!
//! The graph grows while it is solved: an instruction becomes an op when the configuration of its base
//! is known, for that decides on its user, its folder and its variables.
//!
//! The engine knows neither Go nor Dockerfiles nor sandboxes. Whoever starts a build hands in what
//! reads inputs and executes: see [`Execute`].

mod backend;
mod basis;
mod cancel;
mod execute;
pub mod files;
mod key;
pub mod materials;
mod notebook;
pub mod op;
mod output;
mod pack;
mod read_file;
mod snapshot;
mod solve;

pub use backend::{Backend, Entry};
pub use basis::Basis;
pub use cancel::CancelToken;
pub use execute::{
    Execute, InPart, Inputs, OnFailure, OpError, Part, Prepared, Provider, Run, SecretSource, Table,
};
pub use materials::Materials;
pub use notebook::Place;
pub use op::{Op, StepKind};
pub use output::{Executed, Guard, NotPacked, Packing, StepOutput};
pub use pack::{Follow, Follower, LayerRecord, Making, Packer, Reuse};
pub use read_file::ReadFile;
pub use snapshot::Snapshot;
pub use solve::{Fate, PlannedStep, Planner, SolveOptions, Solver, Step};
