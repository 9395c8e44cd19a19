//! Finding out what a build reads, while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::disk;
use crate::error::Result;
use crate::golang::Builder;
use crate::golang::documents::LARGEST;
use crate::golang::flags::Visibility;
use crate::golang::modfile::{replacing_folders, used_folders};
use crate::golang::packages::{Package, Question, explain, parse};
use crate::golang::scope::{absolute, fixed_part, is_wildcard};
use crate::oci::Platform;

use super::folder::{Folder, Lone, Rules, Sealed, UNEMBEDDABLE};
use super::sources::Sources;
use super::stat::{Kind, OpenFolder, StartedAt};
use super::users::{Needs, Node};
use super::{FORMAT, Record, Settled, matches};

/// Which folders and files a build reads, without their states.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    worthless: Option<String>,
    is_partial: bool,
    packages: Vec<Package>,
    folders: BTreeMap<PathBuf, Rules>,
    sealed: BTreeMap<PathBuf, Seal>,
    lone: BTreeSet<PathBuf>,
    embeds: BTreeSet<(PathBuf, String)>,
    /// The folders of main modules and of modules that replace others.
    modules: BTreeSet<PathBuf>,
    walks: BTreeSet<PathBuf>,
    needs: Needs,
    /// Whether a workspace is in force, so that one walk goes through several modules.
    has_workspace: bool,
    /// Whether the toolchain's files cannot differ while its identity is the same.
    is_toolchain_pinned: bool,
}

/// How a folder of other people's files is watched.
#[derive(Clone, Debug, Default)]
struct Seal {
    files: BTreeSet<String>,
    /// Only the go command writes there, and only once: a change while it ran was its own.
    is_module_cache: bool,
}

/// What `go list -deps` says of a package.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Dependency {
    import_path: String,
    imports: Vec<String>,
    dir: PathBuf,
    root: PathBuf,
    standard: bool,
    module: Option<Module>,
    embed_patterns: Vec<String>,
    #[serde(flatten)]
    files: Files,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Module {
    version: String,
    dir: PathBuf,
    main: bool,
    replace: Option<Box<Module>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the names of the go command")]
struct Files {
    #[serde(rename = "GoFiles")]
    go_files: Vec<String>,
    #[serde(rename = "CgoFiles")]
    cgo_files: Vec<String>,
    #[serde(rename = "CFiles")]
    c_files: Vec<String>,
    #[serde(rename = "CXXFiles")]
    cxx_files: Vec<String>,
    #[serde(rename = "MFiles")]
    m_files: Vec<String>,
    #[serde(rename = "HFiles")]
    h_files: Vec<String>,
    #[serde(rename = "FFiles")]
    f_files: Vec<String>,
    #[serde(rename = "SFiles")]
    s_files: Vec<String>,
    #[serde(rename = "SwigFiles")]
    swig_files: Vec<String>,
    #[serde(rename = "SwigCXXFiles")]
    swig_cxx_files: Vec<String>,
    #[serde(rename = "SysoFiles")]
    syso_files: Vec<String>,
    #[serde(rename = "EmbedFiles")]
    embed_files: Vec<String>,
}

const FIELDS: &str = "-json=ImportPath,Imports,Dir,Root,Standard,Module,EmbedPatterns,GoFiles,\
                      CgoFiles,CFiles,CXXFiles,MFiles,HFiles,FFiles,SFiles,SwigFiles,SwigCXXFiles,\
                      SysoFiles,EmbedFiles";

impl Builder {
    /// Finds out which folders and files the build of `packages` reads, on all of `platforms`.
    ///
    /// `dir` and `patterns` are those by which [`Builder::list`] found the packages. May run
    /// beside a build.
    pub async fn trace(
        &self,
        dir: &Path,
        patterns: &[String],
        packages: &[Package],
        platforms: &[Platform],
    ) -> Result<Trace> {
        let mut traces = Vec::new();
        for platform in platforms {
            traces.push(self.trace_sources(packages, platform).await?);
        }
        self.complete(traces, dir, patterns, packages)
    }

    /// Finds out what compilers read in a build of `packages` for one platform.
    pub(in crate::golang) async fn trace_sources(
        &self,
        packages: &[Package],
        platform: &Platform,
    ) -> Result<Trace> {
        let mut trace =
            Trace { is_toolchain_pinned: self.toolchain.is_pinned(), ..Trace::default() };
        let dependencies = self.dependencies(packages, platform).await?;
        // The standard library needs nothing else.
        let others = dependencies.iter().filter(|dependency| !dependency.standard);
        let nodes: Vec<Node<'_>> = others.map(Dependency::node).collect();
        trace.needs = Needs::of(packages, &nodes);
        for dependency in dependencies {
            trace.add(dependency);
        }
        Ok(trace)
    }

    /// Joins what was found out of the build of `packages` for each platform, with all that decides
    /// which packages there are.
    pub fn complete(
        &self,
        traces: Vec<Trace>,
        dir: &Path,
        patterns: &[String],
        packages: &[Package],
    ) -> Result<Trace> {
        let mut trace = Trace {
            packages: packages.to_vec(),
            is_toolchain_pinned: self.toolchain.is_pinned(),
            ..Trace::default()
        };
        match self.flags.visibility() {
            Visibility::Listed => {}
            Visibility::Partial => trace.is_partial = true,
            Visibility::None => {
                let why = "the flags bring in files that cannot be listed".to_owned();
                return Ok(Trace { worthless: Some(why), ..trace });
            }
        }
        if self.variable("GOTOOLCHAIN").is_some_and(|chosen| chosen.contains("path")) {
            trace.worthless = Some("PATH is searched for another version of Go".to_owned());
            return Ok(trace);
        }
        for other in traces {
            trace.merge(other);
        }
        if !trace.is_toolchain_pinned {
            trace.add_toolchain(self.toolchain.root());
            trace.add_program(self.toolchain.program());
        }
        let questions = self.questions(dir, patterns)?;
        trace.add_places(dir, patterns, &questions, self.variable("GOWORK"));
        Ok(trace)
    }

    /// Everything that packages are made of, themselves included.
    async fn dependencies(
        &self,
        packages: &[Package],
        platform: &Platform,
    ) -> Result<Vec<Dependency>> {
        let mut by_workdir: BTreeMap<&Path, Vec<String>> = BTreeMap::new();
        for package in packages {
            by_workdir.entry(&package.workdir).or_default().extend_from_slice(package.arguments());
        }
        let mut dependencies = Vec::new();
        for (workdir, import_paths) in by_workdir {
            let mut arguments = vec!["list".to_owned(), "-deps".to_owned(), FIELDS.to_owned()];
            arguments.extend(self.flags.arguments());
            arguments.push("--".to_owned());
            arguments.extend(import_paths);
            let output = self.go(workdir, &arguments, platform).await?;
            if !output.success {
                let action = format!("list what is compiled for {platform}");
                return Err(explain(action, &output.stderr));
            }
            dependencies.extend(parse(&output.stdout)?);
        }
        Ok(dependencies)
    }
}

impl Dependency {
    fn node(&self) -> Node<'_> {
        Node { import_path: &self.import_path, folder: &self.dir, imports: &self.imports }
    }
}

impl Trace {
    /// Takes in what another build reads.
    pub(in crate::golang) fn merge(&mut self, other: Self) {
        for (path, rules) in other.folders {
            self.watch(&path, rules);
        }
        for (path, other) in other.sealed {
            let seal = self.sealed.entry(path).or_default();
            seal.is_module_cache |= other.is_module_cache;
            seal.files.extend(other.files);
        }
        self.lone.extend(other.lone);
        self.embeds.extend(other.embeds);
        self.modules.extend(other.modules);
        self.needs.merge(other.needs);
    }

    /// The files that compilers read.
    pub(in crate::golang) fn sources(&self) -> io::Result<Sources> {
        let mut all = self.clone();
        for (folder, pattern) in std::mem::take(&mut all.embeds) {
            all.expand(&folder, &pattern)?;
        }
        let folders = all.folders.into_iter().filter(|(_, rules)| rules.are_read()).collect();
        // Only the go command writes there, and only once, maybe in this very build.
        let sealed = all.sealed.into_iter().filter(|(_, seal)| !seal.is_module_cache);
        let sealed = sealed.map(|(path, seal)| (path, seal.files.into_iter().collect())).collect();
        Ok(Sources { folders, sealed, ..Sources::default() })
    }

    fn add(&mut self, dependency: Dependency) {
        if dependency.dir.as_os_str().is_empty() {
            return;
        }
        if dependency.standard && self.is_toolchain_pinned {
            return;
        }
        if dependency.standard {
            self.add_toolchain(&dependency.root);
            return self.seal(&dependency.dir, dependency.files, false);
        }
        let module = dependency.module.unwrap_or_default();
        let source = module.replace.as_deref().unwrap_or(&module);
        let is_local = module.main || source.version.is_empty();
        if !is_local {
            // A vendored package's module has no folder of its own.
            let is_module_cache = !source.dir.as_os_str().is_empty();
            return self.seal(&dependency.dir, dependency.files, is_module_cache);
        }
        if !source.dir.as_os_str().is_empty() {
            self.modules.insert(source.dir.clone());
        }
        let rules = Rules { sources: true, compiled: true, ..Rules::default() };
        self.watch(&dependency.dir, rules);
        self.add_markers(&dependency.dir, "go.mod");
        let embeds = dependency.embed_patterns.into_iter();
        self.embeds.extend(embeds.map(|pattern| (dependency.dir.clone(), pattern)));
    }

    fn seal(&mut self, folder: &Path, files: Files, is_module_cache: bool) {
        // A package has no files of its own if all are embedded; its folder counts even so.
        self.sealed.entry(folder.to_owned()).or_default().is_module_cache = is_module_cache;
        for name in files.into_names() {
            let (inside, name) = name.rsplit_once('/').unwrap_or((".", &name));
            let seal = self.sealed.entry(absolute(folder, inside)).or_default();
            seal.is_module_cache = is_module_cache;
            seal.files.insert(name.to_owned());
        }
    }

    fn watch(&mut self, folder: &Path, rules: Rules) {
        self.folders.entry(folder.to_owned()).or_default().merge(rules);
    }

    /// Takes in the tools and settings of a Go installation.
    fn add_toolchain(&mut self, root: &Path) {
        if !self.lone.insert(root.join("VERSION")) {
            return;
        }
        self.lone.insert(root.join("go.env"));
        let tools = fs_err::read_dir(root.join("pkg/tool")).into_iter().flatten();
        let tools = tools.filter_map(io::Result::ok).map(|entry| entry.path());
        for folder in tools.chain([root.join("pkg/include")]) {
            let names = OpenFolder::open(&folder)
                .and_then(|open| open.names(|_, kind| kind != Kind::Folder))
                .unwrap_or_default();
            if !names.is_empty() {
                let seal = self.sealed.entry(folder).or_default();
                seal.files.extend(names.into_iter().map(|name| name.name));
            }
        }
        self.add_program(&root.join("bin/go"));
    }

    fn add_program(&mut self, program: &Path) {
        if let (Some(folder), Some(name)) = (program.parent(), program.file_name())
            && let Some(name) = name.to_str()
            && program.is_file()
        {
            self.sealed.entry(folder.to_owned()).or_default().files.insert(name.to_owned());
        }
    }

    /// Takes in every file of a name in a folder and those above, up to the one that counts.
    fn add_markers(&mut self, folder: &Path, name: &str) -> Option<PathBuf> {
        for parent in folder.ancestors() {
            let marker = parent.join(name);
            let exists = marker.is_file();
            self.lone.insert(marker.clone());
            if exists {
                return Some(marker);
            }
        }
        None
    }

    /// Takes in what decides how the patterns of a command line are understood.
    fn add_places(
        &mut self,
        dir: &Path,
        patterns: &[String],
        questions: &[Question],
        workspace: Option<&str>,
    ) {
        let mut places = vec![dir.to_owned()];
        places.extend(patterns.iter().map(|pattern| {
            absolute(dir, fixed_part(pattern.strip_prefix("ko://").unwrap_or(pattern)))
        }));
        places.extend(questions.iter().map(|question| question.workdir.clone()));
        for place in places {
            if !place.exists() {
                // The pattern is an import path, until there is a folder of that name.
                self.lone.insert(place.clone());
            }
            if let Some(file) = self.add_markers(&place, "go.mod") {
                self.modules.extend(file.parent().map(Path::to_owned));
            }
            let file = match workspace {
                None => self.add_markers(&place, "go.work"),
                Some("off") => None,
                Some(file) => Some(PathBuf::from(file)),
            };
            if let Some(file) = file {
                self.add_workspace(&file);
            }
        }
        for folder in self.modules.clone() {
            self.add_module(&folder);
        }
        let wildcards = questions.iter().flat_map(|question| {
            question.patterns.iter().map(move |pattern| (&question.workdir, pattern))
        });
        for (workdir, pattern) in wildcards.filter(|(_, pattern)| is_wildcard(pattern)) {
            if pattern.starts_with(['.', '/']) {
                self.walks.insert(absolute(workdir, fixed_part(pattern)));
            } else {
                self.walks.extend(self.modules.iter().cloned());
            }
        }
    }

    fn add_workspace(&mut self, file: &Path) {
        self.has_workspace = true;
        self.lone.extend([file.to_owned(), file.with_extension("work.sum")]);
        let Some(folder) = file.parent() else { return };
        self.lone.insert(folder.join("vendor/modules.txt"));
        let text = disk::read_text(file, LARGEST).unwrap_or_default();
        for used in used_folders(&text) {
            self.modules.insert(absolute(folder, &used));
        }
        self.add_replacements(folder, &text);
    }

    fn add_module(&mut self, folder: &Path) {
        let file = folder.join("go.mod");
        self.lone.extend([folder.join("go.sum"), folder.join("vendor/modules.txt")]);
        let text = disk::read_text(&file, LARGEST).unwrap_or_default();
        self.lone.insert(file);
        self.add_replacements(folder, &text);
    }

    fn add_replacements(&mut self, folder: &Path, text: &str) {
        for target in replacing_folders(text) {
            self.lone.insert(absolute(folder, &target).join("go.mod"));
        }
    }

    /// Takes the states of all that was found.
    pub(super) fn record(mut self, since: &StartedAt) -> io::Result<Record> {
        for walk in std::mem::take(&mut self.walks) {
            self.walk(&walk, true)?;
        }
        for (folder, pattern) in std::mem::take(&mut self.embeds) {
            self.expand(&folder, &pattern)?;
        }
        let mut settled = Settled::new(since);
        let mut folders = Vec::with_capacity(self.folders.len());
        for (path, rules) in self.folders {
            let is_read = rules.are_read();
            let folder = settled.take(&path, Folder::read(&path, rules, since))?;
            let users = is_read.then(|| self.needs.users(&path, &self.packages)).flatten();
            folders.push(folder.used_by(users));
        }
        let mut lone = Vec::with_capacity(self.lone.len());
        for path in self.lone {
            lone.push(settled.take(&path, Lone::read(&path, since))?);
        }
        let mut sealed = Vec::with_capacity(self.sealed.len());
        for (path, seal) in self.sealed {
            let read = Sealed::read(&path, seal.files.into_iter().collect(), since)?;
            let read = if seal.is_module_cache {
                // A change is the go command's own.
                read.0
            } else {
                settled.take(&path, Ok(read))?
            };
            sealed.push(read.used_by(self.needs.users(&path, &self.packages)));
        }
        Ok(Record {
            format: FORMAT,
            worthless: self.worthless.or(settled.worthless),
            is_partial: self.is_partial,
            packages: self.packages,
            lone,
            folders,
            sealed,
        })
    }

    /// Watches a folder in which `...` looks for packages, and those below it.
    fn walk(&mut self, folder: &Path, is_top: bool) -> io::Result<()> {
        let module_file = folder.join("go.mod");
        if !is_top && !self.has_workspace && module_file.is_file() {
            self.lone.insert(module_file);
            return Ok(());
        }
        let rules = Rules { sources: true, walked: true, ..Rules::default() };
        let names = OpenFolder::open(folder)?.names(|name, kind| rules.matter(name, kind))?;
        self.watch(folder, rules);
        for name in names.into_iter().filter(|name| name.kind == Kind::Folder) {
            self.walk(&folder.join(name.name), false)?;
        }
        Ok(())
    }

    /// Watches every folder that can hold something that a `//go:embed` pattern matches.
    fn expand(&mut self, folder: &Path, pattern: &str) -> io::Result<()> {
        let (hidden, pattern) = match pattern.strip_prefix("all:") {
            Some(pattern) => (true, pattern),
            None => (false, pattern),
        };
        let mut reached = vec![folder.to_owned()];
        for element in pattern.split('/') {
            let mut next = Vec::new();
            for folder in reached {
                let globs = vec![element.to_owned()];
                self.watch(&folder, Rules { globs, ..Rules::default() });
                next.extend(folders_in(&folder, |name| matches(element, name))?);
            }
            reached = next;
        }
        reached.iter().try_for_each(|folder| self.embed(folder, hidden))
    }

    fn embed(&mut self, folder: &Path, hidden: bool) -> io::Result<()> {
        self.watch(folder, Rules { embedded: Some(hidden), ..Rules::default() });
        let below = folders_in(folder, |name| hidden || !name.starts_with(['.', '_']))?;
        below.iter().try_for_each(|folder| self.embed(folder, hidden))
    }
}

/// The folders in a folder that may be embedded and that `wanted` accepts.
fn folders_in(folder: &Path, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let embeddable =
        |name: &str, kind| kind == Kind::Folder && !UNEMBEDDABLE.contains(&name) && wanted(name);
    let names = OpenFolder::open(folder)?.names(embeddable)?;
    Ok(names.into_iter().map(|name| folder.join(name.name)).collect())
}

impl Files {
    fn into_names(self) -> impl Iterator<Item = String> {
        [
            self.go_files,
            self.cgo_files,
            self.c_files,
            self.cxx_files,
            self.m_files,
            self.h_files,
            self.f_files,
            self.s_files,
            self.swig_files,
            self.swig_cxx_files,
            self.syso_files,
            self.embed_files,
        ]
        .into_iter()
        .flatten()
    }
}
