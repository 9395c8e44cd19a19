//! Programs without a module.
//!
//! Since Go 1.16 `go build` refuses a folder that belongs to no module, and every beginner's tutorial has
//! one. With `GO111MODULE=auto` Go builds it as it did before, and everything that has a `go.mod` as it
//! does now. Where there is no Go file there is nothing to build, and `go list -m` or `go env GOMOD` answer
//! what they answer elsewhere.

use std::sync::Arc;

use super::Executor;
use super::files::Wanted;
use super::go_cache::{has_go, text};
use crate::blocking::blocking_or;
use crate::engine::Inputs;
use crate::engine::files::{Files, LastLink, locate, resolve};
use crate::engine::op::{ExecOp, MountKind};
use crate::error::Result;
use crate::glob;

/// What makes a folder and all below it a module, or several.
const FILES: [&str; 2] = ["go.mod", "go.work"];
/// The variable, also in files of settings.
const MODE: &str = "GO111MODULE";
/// The settings that come with Go.
const OF_GO: &str = "usr/local/go/go.env";

/// A place where files of elsewhere are seen.
struct Bind {
    target: String,
    source: String,
    files: Arc<dyn Files>,
}

/// Whether a program runs in an image that carries Go, in a folder of no module, and nothing in the files
/// says what is to be done about that.
pub(super) async fn are_optional(
    executor: &Executor,
    op: &ExecOp,
    inputs: &Inputs,
) -> Result<bool> {
    let files = executor.files(&inputs.base, Wanted::Root).await?;
    let mut binds = Vec::new();
    for mount in &op.mounts {
        if let MountKind::Bind { from, source } = &mount.kind {
            let files = executor.files_of(inputs.get(from)?, Wanted::Root).await?;
            binds.push(Bind { target: mount.target.clone(), source: source.clone(), files });
        }
    }
    let (folder, variables) = (op.folder.clone(), op.environment.clone());
    blocking_or(move || {
        let value = |name: &str| variables.iter().find(|(own, _)| own == name).map(|(_, it)| it);
        Ok(has_go(files.as_ref(), |name| value(name).is_some())?
            && holds_go(files.as_ref(), &binds, &folder)?
            && !is_in_module(files.as_ref(), &binds, &folder)?
            && !is_set(files.as_ref(), OF_GO)?
            && !is_set(files.as_ref(), &own_settings(&value))?)
    })
    .await
}

/// Where `go env -w` writes, for a step without a user's own home.
fn own_settings<'a>(value: &impl Fn(&str) -> Option<&'a String>) -> String {
    match (value("GOENV"), value("XDG_CONFIG_HOME"), value("HOME")) {
        (Some(file), _, _) => file.clone(),
        (None, Some(folder), _) => format!("{folder}/go/env"),
        (None, None, Some(home)) => format!("{home}/.config/go/env"),
        (None, None, None) => "root/.config/go/env".to_owned(),
    }
}

/// Whether a file of settings has the variable.
fn is_set(files: &dyn Files, path: &str) -> Result<bool> {
    let found = resolve(files, path.as_bytes(), LastLink::Follow)?;
    let text = found.map(|found| text(files, &found)).transpose()?.flatten().unwrap_or_default();
    let sets =
        |line: &str| line.trim_start().strip_prefix(MODE).is_some_and(|it| it.starts_with('='));
    Ok(text.lines().any(sets))
}

/// Whether a folder itself holds a file of Go, its own or one that is mounted there.
fn holds_go(files: &dyn Files, binds: &[Bind], folder: &str) -> Result<bool> {
    let real = locate(files, folder.as_bytes(), LastLink::Follow)?;
    let real = real.map_or_else(|| "/".to_owned(), |path| format!("/{path}"));
    for folder in [glob::in_folder("/", folder), real] {
        let folder = folder.trim_end_matches('/');
        for bind in binds {
            let target = bind.target.trim_end_matches('/');
            let is_file_there = target
                .rsplit_once('/')
                .is_some_and(|(above, name)| above == folder && is_go(name.as_bytes()));
            if is_file_there && is_file(bind.files.as_ref(), &bind.source)? {
                return Ok(true);
            }
            if let Some(rest) = folder.strip_prefix(target)
                && (rest.is_empty() || rest.starts_with('/'))
                && has_go_file(bind.files.as_ref(), &format!("{}{rest}", bind.source))?
            {
                return Ok(true);
            }
        }
        if has_go_file(files, folder)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_go_file(files: &dyn Files, folder: &str) -> Result<bool> {
    let Some(found) = resolve(files, folder.as_bytes(), LastLink::Follow)? else {
        return Ok(false);
    };
    if !found.node.entry.is_directory() {
        return Ok(false);
    }
    let children = files.children(found.path.as_ref())?;
    Ok(children.iter().any(|(name, node)| is_go(name) && !node.entry.is_directory()))
}

fn is_go(name: &[u8]) -> bool {
    name.ends_with(b".go")
}

/// Whether a folder, or one that it is in, as it is written or as its links lead, holds what makes a module.
fn is_in_module(files: &dyn Files, binds: &[Bind], folder: &str) -> Result<bool> {
    let real = locate(files, folder.as_bytes(), LastLink::Follow)?;
    let real = real.map_or_else(|| "/".to_owned(), |path| format!("/{path}"));
    for begin in [glob::in_folder("/", folder), real] {
        let mut folder = begin.trim_end_matches('/');
        loop {
            for name in FILES {
                if is_there(files, binds, &format!("{folder}/{name}"))? {
                    return Ok(true);
                }
            }
            let Some((above, _)) = folder.rsplit_once('/') else { break };
            folder = above;
        }
    }
    Ok(false)
}

fn is_there(files: &dyn Files, binds: &[Bind], path: &str) -> Result<bool> {
    for bind in binds {
        let target = bind.target.trim_end_matches('/');
        if let Some(rest) = path.strip_prefix(target)
            && (rest.is_empty() || rest.starts_with('/'))
            && is_file(bind.files.as_ref(), &format!("{}{rest}", bind.source))?
        {
            return Ok(true);
        }
    }
    is_file(files, path)
}

fn is_file(files: &dyn Files, path: &str) -> Result<bool> {
    let found = resolve(files, path.as_bytes(), LastLink::Follow)?;
    Ok(found.is_some_and(|found| !found.node.entry.is_directory()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::files::tests::files;
    use crate::layer::Entry;

    fn file(text: &'static str) -> Entry {
        Entry::file(text, 0o644)
    }

    #[test]
    fn a_module_is_at_or_above_a_folder_or_mounted_there() {
        let image = files(&[
            ("app/cmd/x", Entry::directory(0o755)),
            ("mod/go.mod", file("module m\n")),
            ("mod/cmd/x", Entry::directory(0o755)),
            ("work/go.work", file("go 1.26\n")),
            ("work/a", Entry::directory(0o755)),
            ("link", Entry::symlink("mod/cmd")),
            ("odd/go.mod", Entry::directory(0o755)),
        ]);
        let context: Arc<dyn Files> =
            Arc::new(files(&[("go.mod", file("module c\n")), ("sub/main.go", file(""))]));
        let bind = |target: &str, source: &str| {
            let (target, source) = (target.to_owned(), source.to_owned());
            vec![Bind { target, source, files: context.clone() }]
        };
        for (folder, binds, expected) in [
            ("/app", vec![], false),
            ("/app/cmd/x", vec![], false),
            ("", vec![], false),
            ("/", vec![], false),
            ("/nowhere/yet", vec![], false),
            ("/odd", vec![], false),
            ("/mod", vec![], true),
            ("/mod/cmd/x/", vec![], true),
            ("/work/a", vec![], true),
            ("/link", vec![], true),
            ("/link/x", vec![], true),
            ("/app", bind("/app", "/"), true),
            ("/app/cmd", bind("/app/", "."), true),
            ("/app/cmd/x", bind("/app/go.mod", "/go.mod"), true),
            ("/app", bind("/app/cmd", "/"), false),
            ("/app", bind("/app", "/sub"), false),
            ("/application", bind("/app", "/"), false),
        ] {
            assert_eq!(is_in_module(&image, &binds, folder).unwrap(), expected, "{folder}");
        }
    }

    #[test]
    fn a_folder_holds_go_where_a_file_of_it_lies_or_is_mounted() {
        let image = files(&[
            ("app/main.go", file("package main\n")),
            ("app/data/x.txt", file("")),
            ("odd/x.go", Entry::directory(0o755)),
            ("link", Entry::symlink("app")),
        ]);
        let context: Arc<dyn Files> =
            Arc::new(files(&[("main.go", file("")), ("sub/x.txt", file(""))]));
        let bind = |target: &str, source: &str| {
            let (target, source) = (target.to_owned(), source.to_owned());
            vec![Bind { target, source, files: context.clone() }]
        };
        for (folder, binds, expected) in [
            ("/app", vec![], true),
            ("/app/", vec![], true),
            ("/link", vec![], true),
            ("/app/data", vec![], false),
            ("/odd", vec![], false),
            ("/", vec![], false),
            ("", vec![], false),
            ("/nowhere", vec![], false),
            ("/src", bind("/src", "/"), true),
            ("/src", bind("/src/", "."), true),
            ("/src/sub", bind("/src", "/"), false),
            ("/src", bind("/src/a.go", "/main.go"), true),
            ("/", bind("/a.go", "/main.go"), true),
            ("/src", bind("/src/a.go", "/sub"), false),
            ("/source", bind("/src", "/"), false),
        ] {
            assert_eq!(holds_go(&image, &binds, folder).unwrap(), expected, "{folder}");
        }
    }

    #[test]
    fn settings_of_go_count() {
        let image = files(&[
            ("on", file("GOPROXY=off\nGO111MODULE=on\n")),
            ("other", file("#GO111MODULE=on\nXGO111MODULE=on\nGO111MODULES=1\n")),
        ]);
        for (path, expected) in [("on", true), ("/other", false), ("none", false)] {
            assert_eq!(is_set(&image, path).unwrap(), expected, "{path}");
        }
    }
}
