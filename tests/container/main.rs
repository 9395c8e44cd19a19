//! `gondola run` and its family, through the program: as root, as a user without ranges of ids, and as
//! root in a container. What runs is Debian's static busybox in an image of a test's own.

#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../support/mod.rs"]
mod support;

mod background;
mod earlier;
mod endings;
mod names;
mod network;
mod running;
mod terminal;
mod world;
