//! One `go build` per platform.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::cache::programs::note_use_of;
use crate::error::{Cannot, Error, Result};
use crate::oci::Platform;
use crate::progress::TaskKind;

use super::Builder;
use super::attempt::Group;
use super::command::Output;
use super::freshness::{Record, Sources, StartedAt, Trace};
use super::packages::{Package, explain};
use super::programs::{Kept, Program, Run};

/// A compiled program.
#[derive(Clone, Debug)]
pub struct Binary {
    /// What it was compiled from.
    pub package: Package,
    /// Where it is, for as long as the [`Built`] lives that it came with.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
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
    _run: Run,
}

/// What is known from an earlier build of what a compilation reads.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub(super) sources: Sources,
    pub(super) since: StartedAt,
}

impl Recorded {
    /// What `inputs` say, which were [`Record::check`]ed after `since` and not found stale.
    pub fn new(inputs: &Record, since: StartedAt) -> Self {
        Self { sources: inputs.sources(), since }
    }
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
        for (number, group) in groups(packages).into_iter().enumerate() {
            let folder = run.folder(number)?;
            let members: Vec<&Package> = group.iter().map(|&index| &packages[index]).collect();
            let members = Group { packages: &members, platform, folder: &folder };
            let (of_group, trace) = self.compile_group(&members, recorded).await?;
            traces.extend(trace);
            for (index, of_package) in group.into_iter().zip(of_group) {
                made[index] = Some(of_package);
            }
        }
        let (mut binaries, mut programs) = (Vec::new(), Vec::new());
        for (package, made) in packages.iter().zip(made) {
            let (path, program) = made.expect("every package is in one group");
            binaries.push(Binary { package: package.clone(), path, size: program.size() });
            programs.push(program);
        }
        Ok(Built { binaries, programs, traces, _run: run })
    }

    /// Finds the programs of an earlier [`Builder::compile`] where each is still the same.
    pub fn reuse(&self, packages: &[Package], programs: &[Program]) -> Option<Built> {
        if packages.len() != programs.len() {
            return None;
        }
        let run = Run::begin(&self.out_dir).ok()?;
        let mut binaries = Vec::new();
        for (number, (package, program)) in packages.iter().zip(programs).enumerate() {
            let path = program.borrow_into(&run.folder(number).ok()?)?;
            binaries.push(Binary { package: package.clone(), path, size: program.size() });
        }
        if let (Some(program), Some(now)) = (programs.first(), run.began()) {
            note_use_of(program.place(), now);
        }
        let (programs, traces) = (programs.to_vec(), Vec::new());
        Some(Built { binaries, programs, traces, _run: run })
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
        let shown = shown(packages, Package::program_name, "programs");
        let task = format!("{shown} for {platform}");
        let task = self.reporter.start(TaskKind::Compile, task, None);

        let kept = Kept::open(&self.out_dir, &self.key(workdir, platform)?).await?;
        let names = packages.iter().map(|package| program_file(package, platform));
        let made: Vec<PathBuf> = names.map(|name| folder.join(name)).collect();
        let lend = || {
            for (package, made) in packages.iter().zip(&made) {
                kept.lend(&package.import_path, made);
            }
        };
        let trace = self.compile_until_settled(group, recorded, lend).await?;
        let keep = |(package, made): (&&Package, PathBuf)| {
            let program = kept.keep(&package.import_path, &made)?;
            Ok((made, program))
        };
        let made = packages.iter().zip(made).map(keep).collect::<Result<_>>()?;
        task.done();
        Ok((made, trace))
    }

    /// Runs `go build` once. A locked file stays locked for as long.
    pub(super) async fn go_build(&self, group: &Group<'_>, lock: Option<&File>) -> Result<Output> {
        let mut arguments = vec!["build".to_owned(), "-o".to_owned()];
        arguments.push(format!("{}/", group.folder.display()));
        arguments.extend(self.flags.arguments());
        arguments.push("--".to_owned());
        arguments.extend(group.packages.iter().map(|package| package.import_path.clone()));
        self.go_locked(&group.packages[0].workdir, &arguments, group.platform, lock).await
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

fn program_file(package: &Package, platform: &Platform) -> String {
    let end = if platform.os == "windows" { ".exe" } else { "" };
    format!("{}{end}", package.program_name())
}

/// Splits packages into groups of one folder without equal names, as indices into `packages`.
fn groups(packages: &[Package]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, package) in packages.iter().enumerate() {
        let accepts = |group: &&mut Vec<usize>| {
            group.iter().all(|&other| {
                let other = &packages[other];
                other.workdir == package.workdir && other.program_name() != package.program_name()
            })
        };
        match groups.iter_mut().find(accepts) {
            Some(group) => group.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups
}

/// Names the packages, or counts them if there are many.
fn shown(packages: &[&Package], name: fn(&Package) -> &str, many: &str) -> String {
    let names: Vec<&str> = packages.iter().map(|package| name(package)).collect();
    if names.len() > 4 { format!("{} {many}", names.len()) } else { names.join(", ") }
}

impl Group<'_> {
    /// What is being done, for an error.
    pub(super) fn action(&self) -> String {
        let what = shown(self.packages, |package| &package.import_path, "packages");
        format!("compile {what} for {}", self.platform)
    }

    /// That the compiler complained.
    pub(super) fn failure(&self, said: &str) -> Error {
        // The compiler heads each list of complaints with the package they are about.
        let said = if said.contains('\n') { format!("\n{said}") } else { said.to_owned() };
        explain(self.action(), &said)
    }
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
