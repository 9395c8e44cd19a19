//! A look at the programs of an image before it is made: whether they can start on its base.

use super::BuildContext;
use super::assemble::{Parts, added_files};
use super::base::Base;
use super::base_files::BaseFiles;
use crate::blocking::joined;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::golang::go_build::ImageBinary;
use crate::image::program::{Elf, Program};
use crate::image::static_base;
use crate::oci::Platform;

/// What a program needs of the image beside itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Needs {
    /// The loader of an ELF file, or the interpreter of a script.
    starter: String,
    libraries: Vec<String>,
}

/// Refuses programs that no machine of the platform starts, and warns of those that lack something.
///
/// The base is looked into only for a program that needs something of it: most need nothing.
pub(super) async fn check(context: &BuildContext, parts: &Parts) -> Result<()> {
    // What other systems start is theirs to say.
    if parts.platform.os != "linux" {
        return Ok(());
    }
    let mut needs = Vec::new();
    for binary in &parts.binaries {
        if let Some(own) = look_at(context, binary, &parts.platform)? {
            needs.push((binary, own));
        }
    }
    if needs.is_empty() {
        return Ok(());
    }
    let files = files_of(context, parts).await?;
    for (binary, needs) in needs {
        if let Some(lack) = needs.lack(&files) {
            let base = parts.base.name();
            context.transport.reporter.warn(format!(
                "{} will not start: it needs {lack}, which the base {base} does not have; build it with CGO_ENABLED=0, link it statically, or name another --base",
                binary.name
            ));
        }
    }
    Ok(())
}

/// What a program needs; `None` where that is nothing.
pub(super) fn look_at(
    context: &BuildContext,
    binary: &ImageBinary,
    platform: &Platform,
) -> Result<Option<Needs>> {
    let action = || format!("pack {} for {platform}", binary.path.display());
    let file = crate::disk::open(&binary.path).cannot(action)?;
    let found = Program::read(file).cannot(action)?;
    match found {
        Program::Elf(elf) if elf.runs_on(platform) => Ok(Needs::of(elf)),
        Program::Elf(elf) => Err(foreign(&action(), platform, &elf.to_string())
            .hint(format!("--prebuilt linux/{elf}=FILE says what it is for"))),
        Program::Foreign(form) => Err(foreign(&action(), platform, form)),
        Program::Script { interpreter } => {
            Ok(Some(Needs { starter: interpreter, libraries: Vec::new() }))
        }
        Program::Unknown => {
            context.transport.reporter.warn(format!(
                "{} is no program that Linux starts: neither ELF nor a script that begins with #!",
                binary.name
            ));
            Ok(None)
        }
    }
}

fn foreign(action: &str, platform: &Platform, found: &str) -> Error {
    let expected = &platform.architecture;
    Error::new(ErrorKind::Usage, action)
        .because(format!("it is a program for another machine: found {found}, expected {expected}"))
}

/// The files of the base, and those that are added to it.
async fn files_of(context: &BuildContext, parts: &Parts) -> Result<BaseFiles> {
    let mut files = match &parts.base {
        Base::Scratch => BaseFiles::default(),
        Base::Static => BaseFiles::of_tree(&static_base::tree(parts.created)),
        Base::Found(base) => BaseFiles::of_image(context, base.image_for(&parts.platform)?).await?,
    };
    let parts = parts.clone();
    let added = tokio::task::spawn_blocking(move || added_files(&parts));
    files.add(&BaseFiles::of_tree(&joined(added.await)?));
    Ok(files)
}

impl Needs {
    fn of(elf: Elf) -> Option<Self> {
        let Elf { loader, libraries, .. } = elf;
        // Without a loader nobody looks for libraries: a static program that can be put anywhere.
        Some(Self { starter: loader?, libraries })
    }

    /// What of this is not among `files`, in words.
    fn lack(&self, files: &BaseFiles) -> Option<String> {
        if !files.have(&self.starter) {
            return Some(self.starter.clone());
        }
        let is_missing = |name: &&String| !files.have_library(name);
        let missing: Vec<&str> =
            self.libraries.iter().filter(is_missing).map(String::as_str).collect();
        (!missing.is_empty()).then(|| missing.join(", "))
    }
}
