//! Faults that others met with tools of this kind: each test is one that a user reported, and its
//! neighbours.

#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod contexts;
mod notes;
mod offline;
mod origin;
mod transfers;
mod waiting;
