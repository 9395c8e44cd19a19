//! Images go from any place to any other, whole or not at all.

#![cfg(test)]

mod archives;
mod bench;
mod engines;
mod foreign;
mod hostile;
mod layouts;
mod places;
mod registries;

#[path = "../support/mod.rs"]
mod support;
