//! `gondola build` of Dockerfiles, through the program.

#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod agent;
mod arguments;
mod bench;
mod cache;
mod checks;
mod contexts;
mod dry_run;
mod endings;
mod explain;
mod failures;
mod files;
mod foreign;
mod network;
mod ops;
mod races;
mod remote_cache;
mod scopes;
mod shell;
mod steps;
mod versions;
