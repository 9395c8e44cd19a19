//! Packages that one `go build` compiles.

use std::io;
use std::path::Path;

use super::packages::{Package, explain};
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::oci::Platform;

/// Packages that one `go build` compiles for a platform into a folder.
#[derive(Clone, Copy)]
pub(super) struct Group<'a> {
    pub packages: &'a [&'a Package],
    pub platform: &'a Platform,
    pub folder: &'a Path,
}

impl Group<'_> {
    /// That it cannot be compiled for a reason that lies in its sources.
    pub(super) fn fault(&self, why: &str) -> Error {
        Error::new(ErrorKind::Io, self.action())
            .because(why)
            .hint("build when nothing writes there")
    }

    /// Removes what was linked, or go would take it for current.
    pub(super) fn remove_programs(&self) -> Result<()> {
        let action = || "remove a program";
        for entry in fs_err::read_dir(self.folder).cannot(action)? {
            let path = entry.cannot(action)?.path();
            match fs_err::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).cannot(action);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What is being done, for an error.
    pub(super) fn action(&self) -> String {
        let what = display(self.packages, |package| &package.import_path, "packages");
        format!("compile {what} for {}", self.platform)
    }

    /// That the compiler complained.
    pub(super) fn failure(&self, said: &str) -> Error {
        // The compiler heads each list of complaints with the package they are about.
        let said = if said.contains('\n') { format!("\n{said}") } else { said.to_owned() };
        explain(self.action(), &said)
    }
}

/// Names the packages, or counts them if there are many.
pub(super) fn display(packages: &[&Package], name: fn(&Package) -> &str, many: &str) -> String {
    let names: Vec<&str> = packages.iter().map(|package| name(package)).collect();
    if names.len() > 4 { format!("{} {many}", names.len()) } else { names.join(", ") }
}
