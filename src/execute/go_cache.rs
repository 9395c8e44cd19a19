//! Caches that steps get without asking.
//!
//! Steps of images that carry Go see the folders of Go's build cache and module cache as they were
//! left by the step before, of this build or an earlier one. Go keys what it caches by content, so
//! nothing else changes: what is compiled again is what changed. The caches belong to no layer, and
//! are not mounted where that would hide something that is needed:
//!
//! - `--no-go-cache`, or the file mounts something there itself;
//! - the image has files there: they were put there on purpose;
//! - a later `COPY --from` takes files from there;
//! - the image that is built runs `go` when it starts.
//!
//! They are mounted aside, and symbolic links lead there from where Go looks: a step may remove them,
//! as `rm -rf ~/.cache` and `go clean -modcache` do, which could not remove what is mounted on.
//!
//! What writes to them decides what later steps compile, so each scope has its own, see
//! [`crate::store::CacheScope`]. A ref that is not protected sees the default branch's below its own,
//! where that can be mounted. Results of steps that had a cache are found within the scope alone:
//! otherwise a build could leave a wrong result under the key of a step of another scope. What a step
//! that fails wrote stays in the caches of its own scope alone.
//!
//! A step that downloads modules leaves them in the cache alone. When they are gone from there, and a
//! later step fails, it may be for that: then it is executed again, see [`lost`].
//!
//! The go command's own telemetry goes nowhere for the same steps.
//!
//! Packages that apt downloads are not kept: of an archive that is there already apt compares the size
//! with that in its index, and not the hash, so whoever can write to such a cache chooses what others
//! install as root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Executor;
use super::files::Wanted;
use super::levels::{self, Opened};
use super::mounts::{self, Mounted};
use crate::blocking::blocking_or;
use crate::cache::mounts::{self as cache_mounts, Modules};
use crate::context::copy;
use crate::engine::files::{Files, Found, LastLink, locate, resolve};
use crate::engine::op::{Access as Owner, ExecOp, Sharing};
use crate::engine::{Inputs, Snapshot};
use crate::error::Result;
use crate::glob;
use crate::layer::EntryKind;
use crate::rootfs::{LINKED, Link, Unpacker};
use crate::sandbox::{Access, Changes, Durability, Isolation, Mount, Secret};
use crate::store::{CacheScope, ScopeName};

/// Where apt's own settings of a step are.
const APT_CONFIG: &str = "/run/gondola/apt.conf";
/// The name of Go's module cache.
const MODULES: &str = "go-mod";

/// Mounts what a step can use, unless it has mounted something there itself.
pub(super) async fn mount(
    executor: &Executor,
    unpacker: &Unpacker,
    (op, inputs): (&ExecOp, &Inputs),
    mounted: &mut Mounted,
) -> Result<()> {
    let step = Step::of(executor, unpacker, (op, inputs)).await?;
    let own = blocking_or(move || step.mounts()).await?;
    mounted.mounts.extend(own.mounts);
    mounted.links.extend(own.links);
    mounted.modules = own.modules;
    mounted.go = own.go;
    mounted.with_caches = own.with_caches;
    mounted.variables.extend(own.variables);
    mounted.guards.extend(own.guards);
    if mounted.with_caches && compiles_all(&op.argv) {
        executor.note_once(
            "go build -a compiles everything each time, whatever is in Go's cache; without -a only what \
             changed is compiled",
        );
    }
    Ok(())
}

/// Where a step has Go's caches, by their kinds: that of packages, and that of modules.
pub(super) async fn folders(
    executor: &Executor,
    (op, inputs): (&ExecOp, &Inputs),
) -> Result<Vec<(&'static str, String)>> {
    let unpacker = executor.unpacker(Isolation::Toolchain);
    let step = Step::of(executor, &unpacker, (op, inputs)).await?;
    blocking_or(move || step.go_folders()).await
}

/// Whether a command has the go command pass over its cache.
fn compiles_all(argv: &[String]) -> bool {
    let mut commands = argv.iter().flat_map(|text| text.split(['&', ';', '|', '\n']));
    commands.any(|command| {
        let words: Vec<&str> = command.split_whitespace().collect();
        let is_build = |pair: &[&str]| {
            pair[0].rsplit('/').next() == Some("go")
                && matches!(pair[1], "build" | "install" | "test")
        };
        let at = words.windows(2).position(is_build);
        at.is_some_and(|at| words[at + 2..].iter().any(|word| matches!(*word, "-a" | "-a=true")))
    })
}

/// Takes note of a step that may have put modules into the cache, and says once that they are not in
/// the image, where they would be by the letter of the file.
pub(super) fn filled(executor: &Executor, op: &ExecOp, modules: &Modules, key: &str) -> Result<()> {
    let has_modules = cache_mounts::note_step(modules, key)?;
    if has_modules && op.caches.in_image {
        executor.note_once(
            "Go's caches are no part of the image; if it compiles when it runs, build with --no-go-cache",
        );
    }
    Ok(())
}

/// The steps below whose modules are not in the cache: they were executed with another one, or with
/// this one before it was emptied.
pub(super) fn lost(base: &Snapshot, modules: &Modules) -> Vec<String> {
    let there = cache_mounts::steps_of(modules);
    let below = base.steps.iter().map(|step| step.key.clone());
    below.filter(|key| !there.contains(key)).collect()
}

/// What must be known of a step to find out which caches it can use.
struct Step {
    user: String,
    reads: Vec<String>,
    taken: Vec<String>,
    scope: CacheScope,
    /// Where the caches are.
    folder: PathBuf,
    base: String,
    platform: String,
    go: bool,
    variables: BTreeMap<String, String>,
    unpacker: Unpacker,
    files: Arc<dyn Files>,
}

impl Step {
    async fn of(
        executor: &Executor,
        unpacker: &Unpacker,
        (op, inputs): (&ExecOp, &Inputs),
    ) -> Result<Self> {
        let files = executor.files(&inputs.base, Wanted::Root).await?;
        let unpacker = unpacker.clone();
        let caches = executor.caches(&inputs.table);
        Ok(Self {
            user: op.user.clone(),
            reads: op.caches.read_later.clone(),
            taken: op.mounts.iter().map(|mount| mount.target.clone()).collect(),
            scope: caches.scope.clone(),
            folder: caches.of_scope(unpacker.isolation)?,
            base: inputs.base.up_to(0).key,
            platform: op.platform.to_string(),
            go: op.caches.wanted,
            variables: op.environment.iter().cloned().collect(),
            unpacker,
            files,
        })
    }

    fn mounts(&self) -> Result<Mounted> {
        let mut mounted = Mounted::default();
        if self.go && self.has_go()? {
            for (name, target) in self.go_folders()? {
                if self.is_free(&target)? {
                    self.cache(name, &target, &mut mounted)?;
                }
            }
            self.telemetry(&mut mounted)?;
        }
        self.apt(&mut mounted)?;
        Ok(mounted)
    }

    fn has_go(&self) -> Result<bool> {
        has_go(self.files.as_ref(), |name| self.variables.contains_key(name))
    }

    fn exists(&self, path: &str) -> Result<bool> {
        Ok(resolve(self.files.as_ref(), path.as_bytes(), LastLink::Follow)?.is_some())
    }

    /// The folders of Go's caches for the step's user.
    fn go_folders(&self) -> Result<Vec<(&'static str, String)>> {
        let set = |name: &str| self.variables.get(name).filter(|value| value.starts_with('/'));
        let home = self.home()?;
        let cache = match (set("GOCACHE"), set("XDG_CACHE_HOME")) {
            (Some(folder), _) => folder.clone(),
            (None, Some(folder)) => format!("{folder}/go-build"),
            (None, None) => format!("{home}/.cache/go-build"),
        };
        let first = |list: &String| list.split(':').next().unwrap_or_default().to_owned();
        let modules = match (set("GOMODCACHE"), set("GOPATH").map(first)) {
            (Some(folder), _) => folder.clone(),
            (None, Some(folder)) => format!("{folder}/pkg/mod"),
            (None, None) => format!("{home}/go/pkg/mod"),
        };
        let all = [("go-build", cache), (MODULES, modules)];
        Ok(all.into_iter().map(|(name, path)| (name, glob::in_folder("/", &path))).collect())
    }

    fn home(&self) -> Result<String> {
        if let Some(home) = self.variables.get("HOME") {
            return Ok(home.clone());
        }
        let user = self.user.split(':').next().unwrap_or_default();
        let list = resolve(self.files.as_ref(), b"etc/passwd", LastLink::Follow)?;
        let list = list.map(|found| text(self.files.as_ref(), &found)).transpose()?;
        let list = list.flatten().unwrap_or_default();
        let named = |line: &&str| {
            let mut fields = line.split(':');
            let name = fields.next().unwrap_or_default();
            let number = fields.nth(1).unwrap_or_default();
            name == user || number == user || (user.is_empty() && number == "0")
        };
        let home = list.lines().find(named).and_then(|line| line.split(':').nth(5));
        Ok(home.filter(|home| home.starts_with('/')).unwrap_or("/").to_owned())
    }

    /// Whether a mount at `target` hides nothing that is needed.
    fn is_free(&self, target: &str) -> Result<bool> {
        let meets = |other: &str| covers(other, target) || covers(target, other);
        if self.taken.iter().any(|taken| meets(taken))
            || self.reads.iter().any(|read| may_read(read, target))
        {
            return Ok(false);
        }
        let found = resolve(self.files.as_ref(), target.as_bytes(), LastLink::Follow)?;
        let Some(found) = found else { return self.can_be_made(target) };
        Ok(found.node.entry.is_directory() && self.files.children(found.path.as_ref())?.is_empty())
    }

    /// Whether nothing is in the way of the folders that a path is in.
    fn can_be_made(&self, target: &str) -> Result<bool> {
        let files = self.files.as_ref();
        let path = locate(files, target.as_bytes(), LastLink::Follow)?;
        let mut folder = path.and_then(|path| path.parent());
        while let Some(path) = folder {
            if let Some(node) = files.node(Some(&path))? {
                return Ok(node.entry.is_directory());
            }
            folder = path.parent();
        }
        Ok(true)
    }

    /// Mounts the cache of a name, which is one for each scope, toolchain, platform and user.
    fn cache(&self, kind: &'static str, target: &str, mounted: &mut Mounted) -> Result<()> {
        let owner = copy::owner(&self.user, self.files.as_ref())?;
        let Self { base, platform, .. } = self;
        let name = |scope: &str| format!("{kind} {base} {platform} {} {scope}", owner.uid);
        let access = Owner { mode: None, uid: Some(owner.uid), gid: Some(owner.gid) };
        let create = |place: &Path| mounts::create_cache(&self.unpacker, place, access, None);
        let own = name(self.scope.name().map_or("this build", ScopeName::as_str));
        let below: Vec<String> = self.scope.below().iter().map(|s| name(s.as_str())).collect();
        let isolation = self.unpacker.isolation;
        let opened = if below.is_empty() || !isolation.has_overlay() {
            levels::open(
                &self.folder,
                (&own, mounts::sharing_on(isolation, Sharing::Shared)),
                &create,
            )?
        } else {
            levels::open_over(&self.folder, &own, &below, &create)?
        };
        let whose = self.scope.display();
        cache_mounts::write_about(&opened.place, &format!("{kind} of {whose} for {platform}"));
        let target = self.lead(kind, target, mounted)?;
        let Opened { place, files, over, held } = opened;
        let below = over.as_ref().filter(|over| over.is_cache).map(|over| over.below.clone());
        mounted.go.push((kind, files.clone()));
        if kind == MODULES {
            mounted.modules = Some(Modules { place, files: files.clone(), below });
        }
        match over {
            None => mounted.own(files, &target, Access::ReadWrite),
            Some(over) => mounted.mounts.push(Mount::Overlay {
                layers: vec![over.below],
                changes: Changes {
                    upper: files,
                    work: over.work,
                    durability: Durability::Volatile,
                },
                target,
            }),
        }
        mounted.guards.extend(held);
        mounted.with_caches = true;
        Ok(())
    }

    /// Leads from a path to what is mounted for it: answers where to mount it. That is the path itself
    /// where the image has an empty folder there.
    fn lead(&self, kind: &str, target: &str, mounted: &mut Mounted) -> Result<String> {
        let files = self.files.as_ref();
        if resolve(files, target.as_bytes(), LastLink::Follow)?.is_some() {
            return Ok(target.to_owned());
        }
        let Some(path) = locate(files, target.as_bytes(), LastLink::Follow)? else {
            return Ok(target.to_owned());
        };
        let owner = copy::owner(&self.user, files)?;
        let (uid, gid) = (owner.uid, owner.gid);
        mounted.links.push(Link { path, target: kind.to_owned(), uid, gid });
        Ok(format!("{LINKED}/{kind}"))
    }

    /// Takes what the go command counts for its makers: it differs each time, and would make every
    /// layer another one.
    fn telemetry(&self, mounted: &mut Mounted) -> Result<()> {
        let set = self.variables.get("XDG_CONFIG_HOME").filter(|value| value.starts_with('/'));
        let folder = match set {
            Some(folder) => folder.clone(),
            None => format!("{}/.config", self.home()?),
        };
        let target = glob::in_folder("/", &format!("{folder}/go/telemetry"));
        if self.is_free(&target)? {
            let target = self.lead("go-telemetry", &target, mounted)?;
            mounted.mounts.push(Mount::Tmpfs { target, size_bytes: None, mode: 0o777 });
        }
        Ok(())
    }

    /// Settings for apt, which does not change to another user where there is only one. In a user
    /// namespace the sandbox answers for the change, and for the owners that come of it.
    fn apt(&self, mounted: &mut Mounted) -> Result<()> {
        let isolation = self.unpacker.isolation;
        let one_user =
            crate::rootfs::OwnerStorage::of(isolation) == crate::rootfs::OwnerStorage::Recorded;
        let is_root = matches!(self.user.split(':').next(), Some("" | "0" | "root"));
        if !one_user || isolation.has_namespaces() || !is_root {
            return Ok(());
        }
        if !self.exists("usr/bin/apt-get")? || self.variables.contains_key("APT_CONFIG") {
            return Ok(());
        }
        mounted.mounts.push(Mount::Secret {
            target: APT_CONFIG.to_owned(),
            content: Secret::new(*b"APT::Sandbox::User \"root\";\n"),
            mode: 0o444,
            uid: 0,
            gid: 0,
        });
        mounted.variables.push(("APT_CONFIG".to_owned(), APT_CONFIG.to_owned()));
        Ok(())
    }
}

/// Whether an image carries Go.
pub(super) fn has_go(files: &dyn Files, is_set: impl Fn(&str) -> bool) -> Result<bool> {
    if is_set("GOLANG_VERSION") {
        return Ok(true);
    }
    for program in [&b"usr/local/go/bin/go"[..], b"usr/bin/go", b"usr/lib/go/bin/go"] {
        if resolve(files, program, LastLink::Follow)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The content of a file; none of what is no file, or cannot be read.
pub(super) fn text(files: &dyn Files, found: &Found) -> Result<Option<String>> {
    let EntryKind::File(content) = &found.node.entry.kind else { return Ok(None) };
    files.bring(&found.node.entry)?;
    Ok(content.bytes().ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Whether a path is a folder or the very place of another.
fn covers(folder: &str, path: &str) -> bool {
    let folder = folder.trim_end_matches('/');
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a source as it is written may be in a folder, or hold it.
fn may_read(source: &str, folder: &str) -> bool {
    if source.contains('$') {
        let rest = source.rsplit(['}', '$']).next().unwrap_or_default();
        let is_variable = !source.trim_start_matches('$').contains(['/', '}']) || rest.is_empty();
        let names = ["GOPATH", "GOMODCACHE", "GOCACHE", "HOME"];
        return is_variable && names.iter().any(|name| source.contains(name))
            || source.contains("pkg/mod")
            || source.contains("go-build");
    }
    let plain = source.split(['*', '?', '[']).next().unwrap_or_default();
    // What stands before a wildcard in the same part says nothing.
    let is_whole = plain.len() == source.len();
    let plain =
        if is_whole { plain } else { plain.rsplit_once('/').map_or("", |(folder, _)| folder) };
    let rooted = glob::in_folder("/", plain);
    covers(&rooted, folder) || covers(folder, &rooted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_compiles_everything_is_told_by_its_words() {
        for (command, expect) in [
            ("go build -a -o x .", true),
            ("cd /x && CGO_ENABLED=0 /usr/local/go/bin/go install -a ./...", true),
            ("go build -tags a .", false),
            ("go build ./... && cp -a x y", false),
            ("go version; tar -a x", false),
            ("go", false),
            ("", false),
        ] {
            let argv = ["/bin/sh", "-c", command].map(str::to_owned);
            assert_eq!(compiles_all(&argv), expect, "{command}");
        }
    }

    #[test]
    fn sources_that_reach_into_a_cache_are_told() {
        for (source, expected) in [
            ("/go/bin/app", false),
            ("/go", true),
            ("/", true),
            (".", true),
            ("/go/pkg/mod/cache", true),
            ("go/pkg", true),
            ("/goo", false),
            ("/go/pkg/m*", true),
            ("$GOPATH", true),
            ("${GOPATH}/bin/app", false),
            ("${GOPATH}/pkg/mod", true),
            ("$APP/bin", false),
        ] {
            assert_eq!(may_read(source, "/go/pkg/mod"), expected, "{source}");
        }
    }
}
