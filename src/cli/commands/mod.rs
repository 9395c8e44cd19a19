//! One file per command: its arguments, and what it does with them.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "help texts put into brackets what may be left out"
)]

pub mod build;
pub mod cache;
pub mod completions;
pub mod copy;
pub mod doctor;
pub mod exec;
pub mod images;
pub mod inspect;
pub mod kaniko;
pub mod login;
pub mod logout;
pub mod logs;
pub mod ps;
pub mod pull;
pub mod push;
pub mod restart;
pub mod rm;
pub mod rmi;
pub mod run;
pub mod shim;
pub mod stats;
pub mod stop;
pub mod tag;
pub mod version;
