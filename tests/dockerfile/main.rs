//! `gondola build` of Dockerfiles, through the program.

#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod bench;
mod cache;
mod contexts;
mod failures;
mod files;
mod remote_cache;
mod steps;
