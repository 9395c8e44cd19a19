//! Builds as root of containers that allow little, as pods do: docker's defaults, and those of CRI-O and
//! OpenShift.

#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod agent;
mod other_user;
mod pod;
mod programs;
