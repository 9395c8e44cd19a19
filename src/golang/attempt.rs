//! Compiles again where a source changed while it was compiled.
//!
//! A `go build` counts if no source changed since before it began. Otherwise what it wrote to the
//! build cache is removed (see [`super::gocache`]), with the program, and it is repeated.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use super::Builder;
use super::command::Output;
use super::compile::program_file;
use super::freshness::{Before, Recorded, Sources, StartedAt, Trace};
use super::gocache::Ongoing;
use super::group::Group;
use super::packages::Package;
use crate::blocking::blocking;
use crate::clock::Clock;
use crate::error::{Cannot, Error, Result};

/// How often a compilation is repeated because a source changed.
const REPEATS: usize = 2;

/// How often it is repeated because other builds had sources that changed.
const REPEATS_FOR_OTHERS: usize = 20;

/// How long sources may take to come to rest before a repetition. The clock of a file server may be
/// behind for that long.
const REST: Duration = Duration::from_millis(2_100);

/// How often they are looked at meanwhile.
const INTERVAL: Duration = Duration::from_millis(20);

/// One `go build` that has ended.
struct Ran {
    /// Before it began.
    since: StartedAt,
    output: Output,
    /// What it read, and how that was found out if nothing was known.
    found: Result<(Sources, Option<Trace>)>,
    before: Before,
}

/// What became of one `go build`.
enum Outcome {
    /// Its programs are right. Holds what was found out of its sources, if nothing was known.
    Right(Option<Trace>),
    /// A source changed.
    Changed(PathBuf, Sources),
    /// A folder of others was another one already: what go read is not known.
    Outdated,
    /// Another build's sources changed, and what that one compiled may have been used here.
    OthersChanged,
    /// Its sources could not be listed.
    Unlisted(Error),
}

impl Builder {
    /// Compiles until the programs are what the sources say. `lend` puts older programs in their
    /// place.
    pub(super) async fn compile_until_settled(
        &self,
        group: &Group<'_>,
        mut recorded: Option<&Recorded>,
        lend: impl Fn(),
    ) -> Result<Option<Trace>> {
        let mut builder = self.with_room(recorded);
        let mut before = Before::default();
        let (mut repeats, mut for_others) = (0, 0);
        loop {
            lend();
            let fault = match builder.attempt(group, recorded.take(), &before).await? {
                Outcome::Right(trace) => return Ok(trace),
                Outcome::Outdated => {
                    group.remove_programs()?;
                    continue;
                }
                Outcome::OthersChanged if for_others < REPEATS_FOR_OTHERS => {
                    for_others += 1;
                    None
                }
                Outcome::OthersChanged => {
                    Some(group.fault("other builds' sources change all the time"))
                }
                Outcome::Unlisted(error) => Some(error),
                Outcome::Changed(path, sources) => {
                    let path = path.display();
                    self.reporter
                        .note(format!("{path} changed while it was compiled: compiling again"));
                    before = builder.rest(&sources).await?;
                    Some(group.fault(&format!("{path} changed each time while it was compiled")))
                }
            };
            group.remove_programs()?;
            if let Some(fault) = fault {
                if repeats == REPEATS {
                    return Err(fault);
                }
                repeats += 1;
            }
            if builder.has_cache_program() {
                builder.flags.env.insert("GOCACHEPROG".to_owned(), String::new());
                self.reporter.warn(
                    "the cache of GOCACHEPROG may have a wrong result now, as after \"go build\": clear it",
                );
            }
        }
    }

    async fn attempt(
        &self,
        group: &Group<'_>,
        recorded: Option<&Recorded>,
        before: &Before,
    ) -> Result<Outcome> {
        let ongoing = self.build_cache().and_then(|cache| Ongoing::begin(&cache));
        let Ran { since, output, found, before } = match recorded {
            Some(Recorded { sources, since, others, .. }) => {
                let sources = self.with_named_files(sources.clone(), group);
                note(ongoing.as_ref(), &sources, since)?;
                let before = sources.before();
                let others = others.clone();
                let (output, are_unchanged) = tokio::join!(
                    self.go_build(group, lock(ongoing.as_ref())),
                    blocking(move || Ok(others.are_unchanged())),
                );
                let output = output?;
                if !are_unchanged? {
                    ongoing.map(Ongoing::purge).transpose()?;
                    return Ok(Outcome::Outdated);
                }
                Ran { since: *since, output, found: Ok((sources, None)), before }
            }
            None => self.traced_build(group, ongoing.as_ref(), before).await?,
        };
        let (sources, trace) = match found {
            Ok(found) => found,
            Err(error) => {
                // Where packages cannot be listed, hardly anything was compiled.
                ongoing.map(Ongoing::purge).transpose()?;
                let said = |output: Output| group.failure(&output.stderr);
                return if output.success {
                    Ok(Outcome::Unlisted(error))
                } else {
                    Err(said(output))
                };
            }
        };
        if let Some(path) = sources.changed_since(&since, &before) {
            ongoing.map(Ongoing::purge).transpose()?;
            return Ok(Outcome::Changed(path, sources));
        }
        let is_right = match ongoing {
            Some(ongoing) => ongoing.end_beside_others().await,
            None => true,
        };
        if !output.success {
            return Err(group.failure(&output.stderr));
        }
        if !is_right {
            return Ok(Outcome::OthersChanged);
        }
        if !output.stderr.is_empty() {
            self.reporter.warn(output.stderr);
        }
        Ok(Outcome::Right(trace))
    }

    /// Runs `go build` once. A locked file stays locked for as long.
    async fn go_build(&self, group: &Group<'_>, lock: Option<&File>) -> Result<Output> {
        let mut arguments = vec!["build".to_owned(), "-o".to_owned()];
        // A package of files has no name for the go command.
        arguments.push(match group.packages {
            [only] if !only.files.is_empty() => {
                let program = program_file(only, group.platform);
                group.folder.join(program).display().to_string()
            }
            _ => format!("{}/", group.folder.display()),
        });
        arguments.extend(self.flags.arguments());
        arguments.push("--".to_owned());
        arguments.extend(group.packages.iter().flat_map(|package| package.arguments()).cloned());
        self.go_locked(&group.packages[0].workdir, &arguments, group.platform, lock).await
    }

    /// Builds while it finds out what is read; first finds it out where contents from before the
    /// build are needed.
    async fn traced_build(
        &self,
        group: &Group<'_>,
        ongoing: Option<&Ongoing>,
        before: &Before,
    ) -> Result<Ran> {
        let since = StartedAt::now(&self.out_dir)?;
        let find = async {
            let packages: Vec<Package> = group.packages.iter().copied().cloned().collect();
            let trace = self.trace_sources(&packages, group.platform).await?;
            let sources = trace.sources().cannot(|| "list what is compiled")?;
            let sources = self.with_named_files(sources, group);
            note(ongoing, &sources, &since)?;
            Ok((sources, Some(trace)))
        };
        if Clock::of_path(&group.packages[0].workdir) == Clock::Foreign {
            let found = find.await;
            let before = found.as_ref().map(|(sources, _)| sources.before()).unwrap_or_default();
            let output = self.go_build(group, lock(ongoing)).await?;
            return Ok(Ran { since, output, found, before });
        }
        let (output, found) = tokio::join!(self.go_build(group, lock(ongoing)), find);
        Ok(Ran { since, output: output?, found, before: before.clone() })
    }

    fn with_named_files(&self, mut sources: Sources, group: &Group<'_>) -> Sources {
        sources.add_files(self.flags.named_files(&group.packages[0].workdir));
        sources
    }

    /// Waits until nothing has changed for a while, but not for long; looks at the folders then.
    async fn rest(&self, sources: &Sources) -> Result<Before> {
        let mut left = REST;
        loop {
            let before = sources.before();
            let now = StartedAt::now(&self.out_dir)?;
            if left.is_zero() || sources.changed_since(&now, &before).is_none() {
                return Ok(before);
            }
            left = left.saturating_sub(INTERVAL);
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

fn note(ongoing: Option<&Ongoing>, sources: &Sources, since: &StartedAt) -> Result<()> {
    ongoing.map_or(Ok(()), |ongoing| ongoing.note(sources, since))
}

fn lock(ongoing: Option<&Ongoing>) -> Option<&File> {
    ongoing.map(Ongoing::lock)
}
