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
pub mod images;
pub mod inspect;
pub mod login;
pub mod logout;
pub mod pull;
pub mod push;
pub mod rmi;
pub mod tag;
pub mod version;
