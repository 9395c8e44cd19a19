//! Caches that steps get without asking.
//!
//! Steps of images that carry Go see the folders of Go's build cache and module cache as they were
//! left by the step before, of this build or an earlier one. Go keys what it caches by content, so
//! nothing else changes: what is compiled again is what changed. The caches belong to no layer, and
//! are left alone where somebody would miss them:
//!
//! - `--no-go-cache`, or the file mounts something there itself;
//! - the image has files there: they were put there on purpose;
//! - a later `COPY --from` takes files from there;
//! - the image that is built runs `go` when it starts.
//!
//! They are mounted aside, and symbolic links lead there from where Go looks: a step may remove them,
//! as `rm -rf ~/.cache` and `go clean -modcache` do, which could not remove what is mounted on.
//!
//! Whoever may write to them decides what later steps compile, so each scope has its own, see
//! [`crate::store::CacheScope`]. A ref that is not protected sees the default branch's below its own,
//! where that can be mounted. Results of steps that had a cache are found by the scope alone, or
//! somebody could leave a wrong one under the key of another one's step. A step that fails leaves what
//! it wrote in the caches of its own scope; nothing else gets anything of it.
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

use super::kept::{self, Modules};
use super::levels::{self, Opened};
use super::mounts::{self, Prepared};
use super::shop::blocking;
use super::stage::Stage;
use crate::dockerfile::config;
use crate::dockerfile::copy;
use crate::dockerfile::files::{Files, LastLink, locate, resolve};
use crate::dockerfile::instruction::{CommandLine, Kind};
use crate::dockerfile::parse::mount::{Access as Owner, Sharing};
use crate::dockerfile::source::Span;
use crate::dockerfile::{Diagnostic, Origin};
use crate::error::Result;
use crate::layer::EntryKind;
use crate::rootfs::{LINKED, Link, Unpacker};
use crate::sandbox::{Access, Changes, Durability, Mount, Secret};
use crate::store::{CacheScope, ScopeName};

/// Programs whose start needs what was downloaded or compiled during the build.
const RUNS_GO: [&str; 8] = ["go", "air", "dlv", "gow", "reflex", "realize", "fresh", "modd"];
/// Where apt's own settings of a step are.
const APT_CONFIG: &str = "/run/gondola/apt.conf";
/// The name of Go's module cache.
const MODULES: &str = "go-mod";

/// The paths that later steps read from a stage, so that no cache may hide them.
pub(super) fn reads(stage: &Stage<'_>) -> Vec<String> {
    let build = stage.build;
    let mut reads = Vec::new();
    for (index, other) in build.common.file.stages.iter().enumerate() {
        for instruction in &other.instructions {
            for (from, paths) in sources(&instruction.kind) {
                let origin: Result<Origin, Diagnostic> =
                    build.graph.from(index, &from, Span::default());
                let takes = matches!(origin, Ok(Origin::Stage(source)) if is_on(stage, source));
                if takes {
                    reads.extend(paths);
                }
            }
        }
    }
    if is_on(stage, build.target) && starts_go(stage) {
        reads.push("/".to_owned());
    }
    reads.sort();
    reads.dedup();
    reads
}

/// Whether a stage has the files of this one: it is the same, or built on it.
fn is_on(stage: &Stage<'_>, other: usize) -> bool {
    let mut at = other;
    loop {
        if at == stage.index {
            return true;
        }
        match stage.build.graph.nodes()[at].base {
            Origin::Stage(below) => at = below,
            _ => return false,
        }
    }
}

/// What an instruction copies or mounts from elsewhere.
fn sources(kind: &Kind) -> Vec<(String, Vec<String>)> {
    match kind {
        Kind::Copy(copy) => {
            let paths = copy.transfer.paths.iter().map(|path| path.text.clone()).collect();
            copy.from.iter().map(|from| (from.text.clone(), Vec::clone(&paths))).collect()
        }
        Kind::Run(run) => {
            let named = run.mounts.iter().filter_map(|flag| flag.from.clone());
            named.map(|from| (from, vec!["/".to_owned()])).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether the last command that the target's stages set runs Go.
fn starts_go(stage: &Stage<'_>) -> bool {
    let mut at = stage.build.target;
    loop {
        let own = &stage.build.common.file.stages[at].instructions;
        let commands = own.iter().filter_map(|instruction| match &instruction.kind {
            Kind::Cmd(command) | Kind::Entrypoint(command) => Some(command),
            _ => None,
        });
        if commands.into_iter().any(names_go) {
            return true;
        }
        match stage.build.graph.nodes()[at].base {
            Origin::Stage(below) => at = below,
            _ => return false,
        }
    }
}

fn names_go(command: &CommandLine) -> bool {
    let words: Vec<&str> = match command {
        CommandLine::Shell(text) => text.text.split(|c: char| !is_word(c)).collect(),
        CommandLine::Exec(words) => {
            words.iter().flat_map(|word| word.text.split(|c: char| !is_word(c))).collect()
        }
    };
    words.iter().any(|word| RUNS_GO.contains(&word.rsplit('/').next().unwrap_or(word)))
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "/._-".contains(c)
}

/// Mounts what a step can use, unless it has mounted something there itself.
pub(super) async fn mount(
    stage: &Stage<'_>,
    taken: &[String],
    prepared: &mut Prepared,
) -> Result<()> {
    let shop = &stage.build.common.shop;
    let files = shop.files(&stage.snapshot).await?;
    let unpacker = shop.workshop().await?.unpacker.clone();
    let variables: BTreeMap<String, String> =
        stage.scope.run_environment().iter().cloned().collect();
    let step = Step {
        user: stage.config.config.user.clone(),
        reads: reads(stage),
        taken: taken.to_vec(),
        scope: shop.caches.scope.clone(),
        folder: shop.caches.of_scope(unpacker.rung)?,
        base: stage.snapshot.up_to(0).key,
        platform: stage.platform.to_string(),
        go: shop.job.go_cache,
        variables,
        unpacker,
        files,
    };
    let mounted = blocking(move || step.mounts()).await?;
    prepared.mounts.extend(mounted.mounts);
    prepared.links.extend(mounted.links);
    prepared.modules = mounted.modules;
    prepared.with_caches = mounted.with_caches;
    prepared.variables.extend(mounted.variables);
    prepared.held.extend(mounted.held);
    Ok(())
}

/// Takes note of a step that may have put modules into the cache, and says once that they are not in
/// the image, where they would be by the letter of the file.
pub(super) fn filled(stage: &Stage<'_>, modules: &Modules, key: &str) -> Result<()> {
    let has_modules = kept::note_step(modules, key)?;
    let shop = &stage.build.common.shop;
    if has_modules && is_on(stage, stage.build.target) {
        shop.note_once(
            "Go's caches are no part of the image; if it compiles when it runs, build with --no-go-cache",
        );
    }
    Ok(())
}

/// The steps below whose modules are not in the cache: they were executed with another one, or with
/// this one before it was emptied. Only those count that were not executed in this build.
pub(super) fn lost(stage: &Stage<'_>, modules: &Modules) -> Vec<String> {
    let there = kept::steps_of(modules);
    let again = &stage.build.common.shop.again;
    let below = stage.snapshot.steps.iter().map(|step| step.key.clone());
    below.filter(|key| again.is_reused(key) && !there.contains(key)).collect()
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
    fn mounts(&self) -> Result<Prepared> {
        let mut prepared = Prepared::default();
        if self.go && self.has_go()? {
            for (name, target) in self.go_folders()? {
                if self.is_free(&target)? {
                    self.cache(name, &target, &mut prepared)?;
                }
            }
            self.telemetry(&mut prepared)?;
        }
        self.apt(&mut prepared)?;
        Ok(prepared)
    }

    fn has_go(&self) -> Result<bool> {
        Ok(self.variables.contains_key("GOLANG_VERSION")
            || self.exists("usr/local/go/bin/go")?
            || self.exists("usr/bin/go")?
            || self.exists("usr/lib/go/bin/go")?)
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
        Ok(all.into_iter().map(|(name, path)| (name, config::in_folder("/", &path))).collect())
    }

    fn home(&self) -> Result<String> {
        if let Some(home) = self.variables.get("HOME") {
            return Ok(home.clone());
        }
        let user = self.user.split(':').next().unwrap_or_default();
        let list = resolve(self.files.as_ref(), b"etc/passwd", LastLink::Follow)?;
        let list = list.and_then(|found| text(&found.node.entry.kind)).unwrap_or_default();
        let named = |line: &&str| {
            let mut fields = line.split(':');
            let name = fields.next().unwrap_or_default();
            let number = fields.nth(1).unwrap_or_default();
            name == user || number == user || (user.is_empty() && number == "0")
        };
        let home = list.lines().find(named).and_then(|line| line.split(':').nth(5));
        let usual = if matches!(user, "" | "0" | "root") { "/root" } else { "/" };
        Ok(home.filter(|home| home.starts_with('/')).unwrap_or(usual).to_owned())
    }

    /// Whether nobody would miss what a mount at `target` hides.
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
    fn cache(&self, kind: &str, target: &str, prepared: &mut Prepared) -> Result<()> {
        let owner = copy::owner(&self.user, self.files.as_ref())?;
        let Self { base, platform, .. } = self;
        let name = |scope: &str| format!("{kind} {base} {platform} {} {scope}", owner.uid);
        let access = Owner { mode: None, uid: Some(owner.uid), gid: Some(owner.gid) };
        let create = |place: &Path| mounts::create_cache(&self.unpacker, place, access, None);
        let own = name(self.scope.name().map_or("this build", ScopeName::as_str));
        let below: Vec<String> = self.scope.below().iter().map(|s| name(s.as_str())).collect();
        let rung = self.unpacker.rung;
        let opened = if below.is_empty() || !rung.has_overlay() {
            levels::open(&self.folder, (&own, mounts::sharing(rung, Sharing::Shared)), &create)?
        } else {
            levels::open_over(&self.folder, &own, &below, &create)?
        };
        let target = self.lead(kind, target, prepared)?;
        let Opened { place, files, over, held } = opened;
        let below = over.as_ref().filter(|over| over.is_cache).map(|over| over.below.clone());
        if kind == MODULES {
            prepared.modules = Some(Modules { place, files: files.clone(), below });
        }
        match over {
            None => prepared.own(files, &target, Access::ReadWrite),
            Some(over) => prepared.mounts.push(Mount::Overlay {
                layers: vec![over.below],
                changes: Changes {
                    upper: files,
                    work: over.work,
                    durability: Durability::Volatile,
                },
                target,
            }),
        }
        prepared.held.extend(held);
        prepared.with_caches = true;
        Ok(())
    }

    /// Leads from a path to what is mounted for it: answers where to mount it. That is the path itself
    /// where the image has an empty folder there.
    fn lead(&self, kind: &str, target: &str, prepared: &mut Prepared) -> Result<String> {
        let files = self.files.as_ref();
        if resolve(files, target.as_bytes(), LastLink::Follow)?.is_some() {
            return Ok(target.to_owned());
        }
        let Some(path) = locate(files, target.as_bytes(), LastLink::Follow)? else {
            return Ok(target.to_owned());
        };
        let owner = copy::owner(&self.user, files)?;
        let (uid, gid) = (owner.uid, owner.gid);
        prepared.links.push(Link { path, target: kind.to_owned(), uid, gid });
        Ok(format!("{LINKED}/{kind}"))
    }

    /// Takes what the go command counts for its makers: it differs each time, and would make every
    /// layer another one.
    fn telemetry(&self, prepared: &mut Prepared) -> Result<()> {
        let set = self.variables.get("XDG_CONFIG_HOME").filter(|value| value.starts_with('/'));
        let folder = match set {
            Some(folder) => folder.clone(),
            None => format!("{}/.config", self.home()?),
        };
        let target = config::in_folder("/", &format!("{folder}/go/telemetry"));
        if self.is_free(&target)? {
            let target = self.lead("go-telemetry", &target, prepared)?;
            prepared.mounts.push(Mount::Tmpfs { target, size_bytes: None, mode: 0o777 });
        }
        Ok(())
    }

    /// Settings for apt, which does not change to another user where there is only one. In a user
    /// namespace the sandbox answers for the change, and for the owners that come of it.
    fn apt(&self, prepared: &mut Prepared) -> Result<()> {
        let rung = self.unpacker.rung;
        let one_user = crate::rootfs::Form::of(rung) == crate::rootfs::Form::Recorded;
        let is_root = matches!(self.user.split(':').next(), Some("" | "0" | "root"));
        if !one_user || rung.has_namespaces() || !is_root {
            return Ok(());
        }
        if !self.exists("usr/bin/apt-get")? || self.variables.contains_key("APT_CONFIG") {
            return Ok(());
        }
        prepared.mounts.push(Mount::Secret {
            target: APT_CONFIG.to_owned(),
            content: Secret::new(*b"APT::Sandbox::User \"root\";\n"),
            mode: 0o444,
            uid: 0,
            gid: 0,
        });
        prepared.variables.push(("APT_CONFIG".to_owned(), APT_CONFIG.to_owned()));
        Ok(())
    }
}

fn text(kind: &EntryKind) -> Option<String> {
    match kind {
        EntryKind::File(content) => {
            let bytes = content.bytes().ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        _ => None,
    }
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
    let rooted = config::in_folder("/", plain);
    covers(&rooted, folder) || covers(folder, &rooted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::Span;

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

    #[test]
    fn commands_that_run_go_are_told() {
        let exec = |words: &[&str]| {
            let word = |text: &&str| crate::dockerfile::Word::new(*text, Span::default());
            CommandLine::Exec(words.iter().map(word).collect())
        };
        let shell =
            |text: &str| CommandLine::Shell(crate::dockerfile::Word::new(text, Span::default()));
        for (command, expected) in [
            (exec(&["go", "run", "."]), true),
            (exec(&["/usr/local/go/bin/go", "test"]), true),
            (exec(&["./main"]), false),
            (exec(&["/go/bin/app"]), false),
            (shell("cd x && go run ."), true),
            (shell("air -c .air.toml"), true),
            (shell("/app/golang-app"), false),
        ] {
            assert_eq!(names_go(&command), expected, "{command:?}");
        }
    }
}
