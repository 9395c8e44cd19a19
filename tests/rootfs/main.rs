//! Unpacking images, forking them and reading the changes, through the public surface: hostile layers
//! with something outside that they would like to reach, real layers through a real registry, and the
//! sandbox's overlays and Docker as judges of what a root file system looks like.

#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod archive;
mod forks;
mod hostile;
mod layers;
mod parts;
mod pulls;
mod users;
mod whiteouts;
mod working;
mod world;
