//! One `go build` per platform.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::blocking::blocking;
use crate::cache::programs::note_use_of;
use crate::error::{Cannot, Result};
use crate::layer::ContentHash;
use crate::oci::Platform;
use crate::progress::TaskKind;

use super::Builder;
use super::freshness::{Recorded, Trace};
use super::group::{Group, display};
use super::packages::Package;
use super::programs::{LastPrograms, Program, Run};

/// A compiled program.
#[derive(Clone, Debug)]
pub struct Binary {
    /// What it was compiled from.
    pub package: Package,
    /// Where it is, for as long as the [`Built`] lives that it came with.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// The hash of its bytes, where that is known.
    pub contents: Option<ContentHash>,
}

/// The programs of one platform, in the order of their packages. Dropping it removes them.
#[derive(Debug)]
pub struct Built {
    /// The programs.
    pub binaries: Vec<Binary>,
    /// By what each is found again by [`Builder::reuse`], in the same order.
    pub programs: Vec<Program>,
    /// What was found out of their sources meanwhile; one for each `go build` that no record told of
    /// its sources.
    pub traces: Vec<Trace>,
    /// Whether the traces tell of the sources of all of them: each `go build` has one.
    pub(super) is_traced: bool,
    _run: Run,
}

impl Builder {
    /// Compiles packages for a platform, with one `go build` for all that share a module and have
    /// different names.
    ///
    /// The programs are made of the sources as they are when it ends: if a source changes
    /// meanwhile, it is done again. Errs with the compiler's own words, or with the name of a source
    /// that changes all the time.
    pub async fn compile(&self, packages: &[Package], platform: &Platform) -> Result<Built> {
        self.compile_recorded(packages, platform, None).await
    }

    /// The same; where a record tells what is read, `go` is not asked for that.
    pub async fn compile_recorded(
        &self,
        packages: &[Package],
        platform: &Platform,
        recorded: Option<&Recorded>,
    ) -> Result<Built> {
        self.flags.validate()?;
        let run = Run::begin(&self.out_dir)?;
        let (mut made, mut traces) = (vec![None; packages.len()], Vec::new());
        let mut is_traced = true;
        for (number, group) in groups(packages).into_iter().enumerate() {
            let folder = run.folder(number)?;
            let members: Vec<&Package> = group.iter().map(|&index| &packages[index]).collect();
            let members = Group { packages: &members, platform, folder: &folder };
            let (of_group, trace) = self.compile_group(&members, recorded).await?;
            is_traced &= trace.is_some();
            traces.extend(trace);
            for (index, of_package) in group.into_iter().zip(of_group) {
                made[index] = Some(of_package);
            }
        }
        let (mut binaries, mut programs) = (Vec::new(), Vec::new());
        for (package, made) in packages.iter().zip(made) {
            let (path, program) = made.expect("every package is in one group");
            let contents = Some(program.contents());
            binaries.push(Binary {
                package: package.clone(),
                path,
                size: program.size(),
                contents,
            });
            programs.push(program);
        }
        Ok(Built { binaries, programs, traces, is_traced, _run: run })
    }

    /// Finds the programs of an earlier [`Builder::compile`] where each is still the same.
    pub fn reuse(&self, packages: &[Package], programs: &[Program]) -> Option<Built> {
        if packages.len() != programs.len() {
            return None;
        }
        let run = Run::begin(&self.out_dir).ok()?;
        let mut binaries = Vec::new();
        // A folder for each program of a name.
        let (mut folders, mut seen) = (Vec::new(), BTreeMap::new());
        for (package, program) in packages.iter().zip(programs) {
            let number: &mut usize = seen.entry(program.place().file_name()?).or_default();
            if *number == folders.len() {
                folders.push(run.folder(*number).ok()?);
            }
            let (path, contents) = program.borrow_into(&folders[*number])?;
            *number += 1;
            binaries.push(Binary {
                package: package.clone(),
                path,
                size: program.size(),
                contents,
            });
        }
        if let (Some(program), Some(now)) = (programs.first(), run.began()) {
            note_use_of(program.place(), now);
        }
        let (programs, traces) = (programs.to_vec(), Vec::new());
        Some(Built { binaries, programs, traces, is_traced: false, _run: run })
    }

    /// Whether [`Builder::reuse`] would find the programs of an earlier compilation. Touches nothing.
    pub fn has(&self, packages: &[Package], programs: &[Program]) -> bool {
        packages.len() == programs.len() && programs.iter().all(Program::is_there)
    }

    /// Compiles packages of one module whose programs have different names into a new folder.
    ///
    /// Gives where each program is, and by what it is found again.
    async fn compile_group(
        &self,
        group: &Group<'_>,
        recorded: Option<&Recorded>,
    ) -> Result<(Vec<(PathBuf, Program)>, Option<Trace>)> {
        let Group { packages, platform, folder } = *group;
        let workdir = &packages[0].workdir;
        let shown = display(packages, Package::program_name, "programs");
        let task = format!("{shown} for {platform}");
        let task = self.reporter.start(TaskKind::Compile, task, None);

        let last = LastPrograms::open(&self.out_dir, &self.key(workdir, platform)?).await?;
        let names = packages.iter().map(|package| program_file(package, platform));
        let made: Vec<PathBuf> = names.map(|name| folder.join(name)).collect();
        let lend = || {
            for (package, made) in packages.iter().zip(&made) {
                last.restore(&package.import_path, made);
            }
        };
        let trace = self.compile_until_settled(group, recorded, lend).await?;
        let import_paths = packages.iter().map(|package| package.import_path.clone());
        let made: Vec<(String, PathBuf)> = import_paths.zip(made).collect();
        let before = recorded.map(|recorded| recorded.programs.clone()).unwrap_or_default();
        let keep = move |(import_path, made): (String, PathBuf)| {
            let program = last.save(&import_path, &made, &before)?;
            Ok((made, program))
        };
        // Programs are read for their hashes.
        let made = blocking(move || made.into_iter().map(keep).collect::<Result<_>>()).await?;
        task.done();
        Ok((made, trace))
    }

    /// Names all that a build depends on apart from files: whoever asks the same of the same
    /// toolchain has the same key, and may use a record of [`super::Record`] kept under it.
    pub fn request_key(&self, dir: &Path, patterns: &[String], platforms: &[Platform]) -> String {
        let toolchain = self.toolchain.identity(&self.flags);
        let asked = (toolchain, &self.flags, dir, patterns, platforms);
        let text = serde_json::to_vec(&asked)
            // A folder whose name is not UTF-8 has no JSON.
            .unwrap_or_else(|_| format!("{asked:?}").into_bytes());
        blake3::hash(&text).to_hex().to_string()
    }

    /// Names the programs that a folder, a platform and flags give, whatever their sources are.
    fn key(&self, workdir: &Path, platform: &Platform) -> Result<String> {
        let flags = serde_json::to_string(&(&self.flags, platform))
            .cannot(|| "write the build flags as JSON")?;
        Ok(format!("{}\0{flags}", workdir.display()))
    }
}

pub(super) fn program_file(package: &Package, platform: &Platform) -> String {
    let end = if platform.os == "windows" { ".exe" } else { "" };
    format!("{}{end}", package.program_name())
}

/// Splits packages into groups of one folder without equal names, as indices into `packages`.
fn groups(packages: &[Package]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(Vec<usize>, BTreeSet<&str>)> = Vec::new();
    for (index, package) in packages.iter().enumerate() {
        let name = package.program_name();
        let accepts = |(group, names): &&mut (Vec<usize>, BTreeSet<&str>)| {
            let first = &packages[group[0]];
            first.files.is_empty()
                && package.files.is_empty()
                && first.workdir == package.workdir
                && !names.contains(name)
        };
        match groups.iter_mut().find(accepts) {
            Some((group, names)) => {
                group.push(index);
                names.insert(name);
            }
            None => groups.push((vec![index], BTreeSet::from([name]))),
        }
    }
    groups.into_iter().map(|(group, _)| group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(workdir: &str, import_path: &str) -> Package {
        Package {
            import_path: import_path.to_owned(),
            folder: PathBuf::from(workdir).join(import_path),
            workdir: workdir.into(),
            module: None,
            files: Vec::new(),
        }
    }

    #[test]
    fn packages_share_a_build_unless_their_names_collide_or_their_modules_differ() {
        let packages = [
            package("/m", "m/cmd/server"),
            package("/m", "m/cmd/client"),
            package("/m", "m/tools/server"),
            package("/other", "other/agent"),
            package("/m", "m/x/server/v2"),
            package("/m", "m/tools/lint"),
        ];
        assert_eq!(groups(&packages), [vec![0, 1, 5], vec![2], vec![3], vec![4]]);
    }
}
