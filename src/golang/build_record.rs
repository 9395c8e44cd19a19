//! Records of earlier builds: packages that did not change are not compiled again, and not even listed.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::compile::Built;
use super::freshness::{ChangedOthers, Check, Record, Recorded, StartedAt, Trace};
use super::materials::{self, Compilation, Found, Reasons};
use super::packages::Package;
use super::programs::Program;
use super::request::ProgramRequest;
use super::{Builder, Tools};
use crate::error::Result;
use crate::oci::Platform;
use crate::store::{ScopeName, Store};

/// The kind of the store's records that hold a [`BuildRecord`].
const RECORDS: &str = "build";

/// A tick of the clock that stamps files is at most 10 ms, and this together is longer.
const WAITS: usize = 8;
const WAIT: Duration = Duration::from_millis(2);

/// What is remembered of a build.
#[derive(Serialize, Deserialize)]
struct BuildRecord {
    inputs: Record,
    /// The packages that each list of patterns stands for.
    packages: Vec<Vec<Package>>,
    /// The programs of each platform, one for each package of `inputs`.
    programs: Vec<(Platform, Vec<Program>)>,
}

/// Packages that are compiled with the same flags for the same platforms, and what is known of
/// them before anything is built.
pub(super) struct Freshness {
    pub builder: Builder,
    pub platforms: Vec<Platform>,
    /// Lists of patterns, one for each target.
    patterns: Vec<Vec<String>>,
    key: Option<String>,
    /// Nothing that changes after this moment is missed.
    since: StartedAt,
    known: Status,
    /// Whether there is a record of an earlier build, whatever it is worth.
    has_record: bool,
    /// What an earlier build read, where that says nothing any more but why programs are compiled.
    outdated: Option<Record>,
    /// Why the programs are compiled, where they are.
    why: Vec<String>,
    traces: Vec<Trace>,
    /// Whether the traces tell of everything that was made.
    is_traced: bool,
    made: Vec<(Platform, Vec<Program>)>,
}

enum Status {
    /// A build would give what is kept.
    Programs(BuildRecord),
    /// The same, but the record is to be renewed.
    Renew(BuildRecord),
    /// The packages are the same; they must be compiled.
    Packages(BuildRecord),
    /// Nothing.
    Nothing,
}

impl Freshness {
    /// Remembers an earlier build of the same, if it still says anything.
    pub(super) fn look_up(
        tools: &Tools,
        request: &ProgramRequest,
        builder: Builder,
        patterns: Vec<Vec<String>>,
        platforms: Vec<Platform>,
    ) -> Result<Self> {
        // An empty pattern is none of Go's, so it can separate lists.
        let key = builder.request_key(
            &request.programs.folder,
            &patterns.join(&String::new()),
            &platforms,
        );
        // What a scope that ends with the build knows is gone with its programs.
        let key = request.scope.name().map(|scope| format!("{key} in {scope}"));
        let store = &tools.transport.store;
        let known = key.as_ref().filter(|_| !request.caches.off);
        let record = known.and_then(|key| store.get_record::<BuildRecord>(RECORDS, key));
        let mut since = StartedAt::now(&builder.out_dir)?;
        let (mut why, has_record, mut outdated) = (Vec::new(), record.is_some(), None);
        let known = match record {
            None if !request.caches.off => {
                why.push("it is compiled for the first time".to_owned());
                Status::Nothing
            }
            None => {
                why.push("--no-cache".to_owned());
                Status::Nothing
            }
            Some(record) => match check(&record.inputs, &builder, &mut since)? {
                Check::Current => Status::Programs(record),
                Check::Touched => Status::Renew(record),
                Check::ContentsOnly(paths) => {
                    why.extend(paths.iter().map(|path| changed(path, &request.programs.folder)));
                    Status::Packages(record)
                }
                Check::Stale(what) => {
                    why.push(what);
                    outdated = Some(record.inputs);
                    Status::Nothing
                }
            },
        };
        Ok(Self {
            builder,
            platforms,
            patterns,
            key,
            since,
            known,
            has_record,
            outdated,
            why,
            traces: Vec::new(),
            is_traced: true,
            made: Vec::new(),
        })
    }

    /// Whether the same was built before, here.
    pub(super) fn has_record(&self) -> bool {
        self.has_record
    }

    /// The packages that each list of patterns stands for; `go` is asked only where it must be.
    pub(super) async fn packages(&self, request: &ProgramRequest) -> Result<Vec<Vec<Package>>> {
        if let Status::Programs(record) | Status::Renew(record) | Status::Packages(record) =
            &self.known
        {
            return Ok(record.packages.clone());
        }
        let platform = self.platforms.first().expect("there is a platform to build for");
        let lists = self
            .patterns
            .iter()
            .map(|list| self.builder.list(&request.programs.folder, list, platform));
        futures_util::future::try_join_all(lists).await
    }

    /// Why `packages` are compiled: what differs from the nearest earlier build, where one is known.
    pub(super) fn why(
        &self,
        store: &Store,
        request: &ProgramRequest,
        packages: &[Package],
    ) -> Reasons {
        let found = match &self.why[..] {
            [] => vec!["what was kept of it is gone".to_owned()],
            why => why.to_owned(),
        };
        if request.caches.off {
            return Reasons::of_all(found);
        }
        let last = match &self.known {
            Status::Programs(record) | Status::Renew(record) | Status::Packages(record) => {
                Some(&record.inputs)
            }
            Status::Nothing => self.outdated.as_ref(),
        };
        let others = last.map(ChangedOthers::since).unwrap_or_default();
        let found = Found { of_all: found, others };
        materials::why(store, &self.compilation(request, packages), &self.since, found)
    }

    fn compilation<'a>(
        &'a self,
        request: &'a ProgramRequest,
        packages: &'a [Package],
    ) -> Compilation<'a> {
        Compilation {
            builder: &self.builder,
            packages,
            platforms: &self.platforms,
            folder: &request.programs.folder,
            scope: request.scope.name().map_or("", ScopeName::as_str),
        }
    }

    /// What is known of what the compilation of `packages` reads.
    pub(super) fn recorded(&self, packages: &[Package], platform: &Platform) -> Option<Recorded> {
        let (Status::Programs(record) | Status::Renew(record) | Status::Packages(record)) =
            &self.known
        else {
            return None;
        };
        let is_of_these = record.inputs.packages() == packages;
        let programs = record.programs.iter().find(|(of, _)| of == platform);
        let programs = programs.map(|(_, programs)| &programs[..]).unwrap_or_default();
        is_of_these.then(|| Recorded::new(&record.inputs, self.since, programs))
    }

    /// The kept programs of `packages`, where a build would give nothing else.
    pub(super) fn programs(&self, packages: &[Package], platform: &Platform) -> Option<Built> {
        self.builder.reuse(packages, self.kept(packages, platform)?)
    }

    /// Whether [`Self::programs`] would find some. Touches nothing.
    pub(super) fn has_programs(&self, packages: &[Package], platform: &Platform) -> bool {
        let kept = self.kept(packages, platform);
        kept.is_some_and(|programs| self.builder.has(packages, programs))
    }

    fn kept(&self, packages: &[Package], platform: &Platform) -> Option<&[Program]> {
        let (Status::Programs(record) | Status::Renew(record)) = &self.known else { return None };
        if record.inputs.packages() != packages {
            return None;
        }
        let (_, programs) = record.programs.iter().find(|(of, _)| of == platform)?;
        Some(programs)
    }

    /// Takes note of what was compiled, or found, for a platform.
    pub(super) fn take(&mut self, platform: &Platform, built: &Built) {
        self.made.push((platform.clone(), built.programs.clone()));
        self.traces.extend_from_slice(&built.traces);
        self.is_traced &= built.is_traced;
    }

    /// Keeps what the next build can use. A failure costs that build time and nothing else.
    ///
    /// Answers what stands for the sources, where that is known.
    pub(super) fn keep(
        mut self,
        tools: &Tools,
        request: &ProgramRequest,
        packages: &[Vec<Package>],
    ) -> Option<String> {
        let folder = &request.programs.folder;
        if let Status::Programs(record) = &self.known {
            return record.inputs.digest_of_sources(folder);
        }
        let key = self.key.take().filter(|_| self.made.len() == self.platforms.len())?;
        self.record(tools, request, packages, &key).unwrap_or_else(|error| {
            tools.transport.reporter.note(format!("the next build will ask go again: {error}"));
            None
        })
    }

    fn record(
        &mut self,
        tools: &Tools,
        request: &ProgramRequest,
        packages: &[Vec<Package>],
        key: &str,
    ) -> Result<Option<String>> {
        let inputs = match &self.known {
            // Where go was asked anew, such as after a change of a vendored module, what was known says less.
            Status::Renew(record) | Status::Packages(record) if !self.is_traced => {
                match record.inputs.refreshed(&self.since) {
                    Some(inputs) => inputs,
                    // What was known did not hold until the end; the next build finds out.
                    None => return Ok(None),
                }
            }
            Status::Programs(_) => return Ok(None),
            Status::Renew(_) | Status::Packages(_) | Status::Nothing => {
                let (traces, patterns) = (std::mem::take(&mut self.traces), self.patterns.concat());
                let folder = &request.programs.folder;
                let packages = distinct(packages);
                let trace = self.builder.complete(traces, folder, &patterns, &packages)?;
                Record::of(trace, &self.since)?
            }
        };
        let sources = inputs.digest_of_sources(&request.programs.folder);
        // Nothing that goes wrong with explanations matters to the build.
        let store = &tools.transport.store;
        let _ = materials::keep(store, &self.compilation(request, &distinct(packages)), &inputs);
        let record = BuildRecord {
            inputs,
            packages: packages.to_vec(),
            programs: std::mem::take(&mut self.made),
        };
        tools.transport.store.put_record(RECORDS, key, &record)?;
        Ok(sources)
    }
}

/// That a file changed, by its path in the folder that is built.
fn changed(path: &Path, folder: &Path) -> String {
    format!("{} changed", path.strip_prefix(folder).unwrap_or(path).display())
}

/// Checks a record, after `since`. A file that was saved just now is waited for until the clock has
/// moved on: else it would seem to change while it is compiled.
fn check(inputs: &Record, builder: &Builder, since: &mut StartedAt) -> Result<Check> {
    for _ in 0..WAITS {
        match inputs.check_before_compiling() {
            Check::ContentsOnly(paths) if paths.iter().any(|path| since.is_not_after(path)) => {}
            found => return Ok(found),
        }
        std::thread::sleep(WAIT);
        *since = StartedAt::now(&builder.out_dir)?;
    }
    Ok(inputs.check_before_compiling())
}

/// Every package once, in the order in which lists name them.
pub(super) fn distinct(lists: &[Vec<Package>]) -> Vec<Package> {
    let mut seen = BTreeSet::new();
    let all = lists.iter().flatten().filter(|package| seen.insert(*package));
    all.cloned().collect()
}
