//! One `go build` per platform.
//!
//! The folder for programs holds
//! ```text
//! kept/KEY.lock             held while a process builds what KEY stands for
//! kept/KEY/PACKAGE/NAME     the last program of a package; go leaves it alone if it is current
//! run-XXXXXX/N/NAME         hard links to them that belong to one process
//! ```
//! where KEY stands for the folder, platform and flags. `go` only ever writes below `run-XXXXXX`,
//! and its output is renamed into `kept`: a program in there is whole, and what one process packs
//! is what it built, whatever others build meanwhile.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::error::{Cannot, Error, Result};
use crate::oci::Platform;
use crate::progress::TaskKind;

use super::Builder;
use super::packages::{Package, explain};

/// How often a process looks whether another one is done with the same programs.
const LOCK_INTERVAL: Duration = Duration::from_millis(15);

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
    /// By what each is found again by [`Builder::recall`], in the same order.
    pub programs: Vec<Program>,
    _folder: TempDir,
}

/// A kept program, and the state by which it is known to be still the same.
///
/// A program is only ever replaced as a whole, by a new file; so its inode and time tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    place: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Program {
    /// The state of `file`, which is kept at `place`.
    fn read(place: &Path, file: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let found = fs_err::metadata(file)?;
        Ok(Self {
            place: place.to_owned(),
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }
}

impl Builder {
    /// Compiles packages for a platform, with one `go build` for all that share a module and have
    /// different names.
    ///
    /// Errs with the compiler's own words.
    pub async fn compile(&self, packages: &[Package], platform: &Platform) -> Result<Built> {
        self.flags.validate()?;
        fs_err::create_dir_all(&self.out_dir).cannot(|| "make the folder for programs")?;
        let folder = self.run_folder()?;
        let mut made_at = vec![None; packages.len()];
        for (number, group) in groups(packages).into_iter().enumerate() {
            let folder = folder.path().join(number.to_string());
            let members: Vec<&Package> = group.iter().map(|&index| &packages[index]).collect();
            let made = self.compile_group(&members, platform, &folder).await?;
            for (index, made) in group.into_iter().zip(made) {
                made_at[index] = Some(made);
            }
        }
        let (mut binaries, mut programs) = (Vec::new(), Vec::new());
        for (package, made) in packages.iter().zip(made_at) {
            let (path, place) = made.expect("every package is in one group");
            let program = Program::read(&place, &path).cannot(|| "find the compiled program")?;
            binaries.push(Binary { package: package.clone(), path, size: program.size });
            programs.push(program);
        }
        Ok(Built { binaries, programs, _folder: folder })
    }

    /// Finds the programs of an earlier [`Builder::compile`] where each is still the same.
    pub fn recall(&self, packages: &[Package], programs: &[Program]) -> Option<Built> {
        if packages.len() != programs.len() {
            return None;
        }
        let folder = self.run_folder().ok()?;
        let mut binaries = Vec::new();
        for (number, (package, program)) in packages.iter().zip(programs).enumerate() {
            // The link is made first: what it leads to cannot be replaced any more.
            let path = folder.path().join(number.to_string());
            fs_err::hard_link(&program.place, &path).ok()?;
            if Program::read(&program.place, &path).ok()? != *program {
                return None;
            }
            binaries.push(Binary { package: package.clone(), path, size: program.size });
        }
        Some(Built { binaries, programs: programs.to_vec(), _folder: folder })
    }

    /// Makes a folder that belongs to this process.
    fn run_folder(&self) -> Result<TempDir> {
        tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(&self.out_dir)
            .cannot(|| format!("make a folder in {}", self.out_dir.display()))
    }

    /// Compiles packages of one module whose programs have different names into a new folder.
    ///
    /// Gives where each program is, and where it is kept.
    async fn compile_group(
        &self,
        packages: &[&Package],
        platform: &Platform,
        folder: &Path,
    ) -> Result<Vec<(PathBuf, PathBuf)>> {
        let workdir = &packages[0].workdir;
        let names: Vec<String> =
            packages.iter().map(|package| program_file(package, platform)).collect();
        let shown: Vec<&str> = packages.iter().map(|package| package.program_name()).collect();
        let task = format!("{} for {platform}", shown.join(", "));
        let task = self.reporter.start(TaskKind::Compile, task, None);

        let key = self.key(workdir, platform)?;
        let kept = self.out_dir.join("kept").join(&key);
        fs_err::create_dir_all(&kept).cannot(|| "make the folder for programs")?;
        fs_err::create_dir(folder).cannot(|| "make the folder for programs")?;
        let _lock = lock(&kept.with_extension("lock")).await?;
        let places: Vec<PathBuf> = packages
            .iter()
            .zip(&names)
            .map(|(package, name)| kept.join(short_hash(&package.import_path)).join(name))
            .collect();
        for (place, name) in places.iter().zip(&names) {
            // Without an old program, go links a new one.
            let _ = link_or_copy(place, &folder.join(name));
        }
        self.go_build(packages, platform, folder).await?;
        let made: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
        for (place, made) in places.iter().zip(&made) {
            keep(made, place).cannot(|| format!("keep the program {}", place.display()))?;
        }
        task.done();
        Ok(made.into_iter().zip(places).collect())
    }

    async fn go_build(
        &self,
        packages: &[&Package],
        platform: &Platform,
        folder: &Path,
    ) -> Result<()> {
        let environment = self.toolchain.environment(&self.flags, platform)?;
        let mut arguments = vec!["build".to_owned(), "-o".to_owned()];
        arguments.push(format!("{}/", folder.display()));
        arguments.extend(self.flags.arguments());
        arguments.push("--".to_owned());
        arguments.extend(packages.iter().map(|package| package.import_path.clone()));
        let output = self.go(&packages[0].workdir, &arguments, &environment).await?;
        if !output.success {
            return Err(cannot_compile(packages, platform, &output.stderr));
        }
        if !output.stderr.is_empty() {
            self.reporter.warn(output.stderr);
        }
        Ok(())
    }

    /// Names all that a build depends on apart from files: whoever asks the same of the same
    /// toolchain has the same key, and may use a record of [`super::Inputs`] kept under it.
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
        Ok(short_hash(&format!("{}\0{flags}", workdir.display())))
    }
}

fn short_hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
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

fn cannot_compile(packages: &[&Package], platform: &Platform, said: &str) -> Error {
    let names: Vec<&str> = packages.iter().map(|package| package.import_path.as_str()).collect();
    let what = match names[..] {
        [one] => one.to_owned(),
        // The compiler heads each list of complaints with the package they are about.
        _ if names.len() > 3 => format!("{} packages", names.len()),
        _ => names.join(", "),
    };
    let said = if said.contains('\n') { format!("\n{said}") } else { said.to_owned() };
    explain(format!("compile {what} for {platform}"), &said)
}

/// Waits until no other process builds the same programs.
///
/// The lock saves work and guards nothing, so a file system that has no locks does without.
async fn lock(path: &Path) -> Result<Option<fs_err::File>> {
    let file = fs_err::OpenOptions::new().create(true).append(true).open(path);
    let file = file.cannot(|| "lock the folder for programs")?;
    loop {
        match file.file().try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_INTERVAL).await,
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
}

/// Gives a file a second name, or a copy where the file system has no such thing.
fn link_or_copy(from: &Path, to: &Path) -> std::io::Result<()> {
    match fs_err::hard_link(from, to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            fs_err::copy(from, to).map(|_| ())
        }
        result => result,
    }
}

/// Makes a program the kept one of its package.
fn keep(made: &Path, place: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let new = fs_err::metadata(made)?;
    if fs_err::metadata(place).is_ok_and(|old| (old.dev(), old.ino()) == (new.dev(), new.ino())) {
        return Ok(());
    }
    let folder = place.parent().expect("a kept program is in a folder");
    fs_err::create_dir_all(folder)?;
    let temporary = tempfile::tempdir_in(folder)?;
    let link = temporary.path().join("program");
    link_or_copy(made, &link)?;
    fs_err::rename(link, place)
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
