//! The documents that the go command reads before anything else: it waits for ever for what a named
//! pipe would say, and reads a device until there is no memory left.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::modfile::used_folders;
use crate::disk;
use crate::error::{Cannot as _, Result};

/// No `go.mod`, `go.sum` or `go.work` comes near.
pub(super) const LARGEST: u64 = 16 << 20;
/// Nor does a `modules.txt` of vendored modules.
const LARGEST_LIST: u64 = 64 << 20;

/// The ends of file names that `go build` sorts into its lists.
const SOURCE_ENDS: [&str; 20] = [
    "go", "c", "cc", "cpp", "cxx", "m", "h", "hh", "hpp", "hxx", "f", "F", "for", "f90", "s", "S",
    "sx", "swig", "swigcxx", "syso",
];

/// The profile that a main package is optimised by, if it has one.
pub(super) const PROFILE: &str = "default.pgo";

/// Refuses documents that are no files or far too long, of the module and the workspace that a folder
/// belongs to. `workspace` is `GOWORK`.
pub(super) fn check(folder: &Path, workspace: Option<&str>) -> Result<()> {
    let module = above(folder, "go.mod");
    let workspace = match workspace {
        None => above(folder, "go.work"),
        Some("off") => None,
        Some(file) => Some(PathBuf::from(file)),
    };
    let mut folders: Vec<PathBuf> = Vec::new();
    if let Some(file) = &workspace {
        check_file(file, LARGEST)?;
        check_file(&file.with_extension("work.sum"), LARGEST)?;
        let text = disk::read_text(file, LARGEST).unwrap_or_default();
        let beside = file.parent().unwrap_or(Path::new("/"));
        folders.push(beside.to_owned());
        folders.extend(used_folders(&text).iter().map(|used| beside.join(used)));
    }
    folders.extend(module.as_deref().and_then(Path::parent).map(Path::to_owned));
    for folder in folders {
        check_file(&folder.join("go.mod"), LARGEST)?;
        check_file(&folder.join("go.sum"), LARGEST)?;
        check_file(&folder.join("vendor/modules.txt"), LARGEST_LIST)?;
    }
    Ok(())
}

/// Refuses what stands in the place of the `go.mod` that a folder belongs to.
pub(super) fn check_module(folder: &Path) -> Result<()> {
    above(folder, "go.mod").map_or(Ok(()), |file| check_file(&file, LARGEST))
}

/// Refuses sources that are no files, in the folders of a module that the go command looks into. It
/// opens whatever has the name of one.
pub(super) fn check_sources(module: &Path) -> Result<()> {
    let mut folders = vec![module.to_owned()];
    while let Some(folder) = folders.pop() {
        // Whatever cannot be read is for the go command to tell.
        for entry in fs_err::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let name = entry.file_name();
            if kind.is_dir() {
                let is_left_out = name.as_bytes().starts_with(b".") || name == "testdata";
                folders.extend((!is_left_out).then(|| entry.path()));
            } else if !kind.is_file() && is_source(&name.to_string_lossy()) {
                check_source(&entry.path())?;
            }
        }
    }
    Ok(())
}

/// Whether a name is that of a source file of a package. Tests are: `go build` looks at their
/// package clauses and imports too.
pub(super) fn is_source(name: &str) -> bool {
    let Some((_, end)) = name.rsplit_once('.') else { return false };
    !name.starts_with(['.', '_']) && (SOURCE_ENDS.contains(&end) || name == PROFILE)
}

fn check_source(path: &Path) -> Result<()> {
    // A folder may have the name of a source, and be one by a link.
    match fs_err::metadata(path) {
        Ok(found) if !found.is_dir() => {
            disk::expect_regular(&found, u64::MAX).cannot(|| format!("read {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The nearest thing of a name that is no folder, as the go command looks for it.
fn above(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut places = folder.ancestors().map(|parent| parent.join(name));
    places.find(|place| fs_err::metadata(place).is_ok_and(|found| !found.is_dir()))
}

fn check_file(path: &Path, limit: u64) -> Result<()> {
    // Whatever else is wrong with it, the go command says it better.
    match fs_err::metadata(path) {
        Ok(found) => {
            disk::expect_regular(&found, limit).cannot(|| format!("read {}", path.display()))
        }
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_that_never_end_are_refused_wherever_they_are() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        for folder in ["cmd/app", ".git", "testdata", "folder.go"] {
            fs_err::create_dir_all(at(folder)).unwrap();
        }
        for name in [".git/x.go", "testdata/x.go", "cmd/pipe", "cmd/x.txt"] {
            rustix::fs::mkfifoat(rustix::fs::CWD, at(name), rustix::fs::Mode::RUSR).unwrap();
        }
        std::os::unix::fs::symlink("folder.go", at("link.go")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling.go")).unwrap();
        check_sources(base.path()).unwrap();
        for (name, target, what) in [
            ("cmd/app/main.go", "../pipe", "a named pipe"),
            ("cmd/app/code.s", "/dev/zero", "a device"),
        ] {
            std::os::unix::fs::symlink(target, at(name)).unwrap();
            let error = check_sources(base.path()).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(what), "{error}");
            fs_err::remove_file(at(name)).unwrap();
        }
    }

    #[test]
    fn documents_of_module_and_workspace_are_looked_at() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        fs_err::create_dir_all(at("m/cmd")).unwrap();
        fs_err::create_dir_all(at("used")).unwrap();
        fs_err::write(at("m/go.mod"), "module m\n").unwrap();
        fs_err::write(at("go.work"), "go 1.21\nuse ./m\nuse ./used\n").unwrap();
        let folder = at("m/cmd");
        check(&folder, None).unwrap();
        for (name, outside) in [("m/go.sum", false), ("go.work.sum", true), ("used/go.mod", true)] {
            rustix::fs::mkfifoat(rustix::fs::CWD, at(name), rustix::fs::Mode::RUSR).unwrap();
            let error = check(&folder, None).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("named pipe"), "{error}");
            assert_eq!(check(&folder, Some("off")).is_ok(), outside, "{name}");
            fs_err::remove_file(at(name)).unwrap();
        }
        fs_err::remove_file(at("m/go.mod")).unwrap();
        fs_err::File::create(at("m/go.mod")).unwrap().set_len(LARGEST + 1).unwrap();
        let error = check(&folder, Some("off")).unwrap_err().to_string();
        assert!(error.contains("16777217 bytes"), "{error}");
    }
}
