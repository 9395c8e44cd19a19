//! What registries do wrong, and what the client makes of it: each case is one that a real registry,
//! proxy or network showed.

#![cfg(test)]

mod pulls;
mod pushes;
mod questions;
mod redirects;
mod tls;
mod tokens;
mod uploads;

#[path = "../support/mod.rs"]
mod support;
