//! `gondola build`.

use std::process::ExitCode;

use super::Runs;
use crate::cli::args::GlobalArgs;
use crate::cli::dialect::gondola::{self, BuildArgs};
use crate::cli::environment::Environment;
use crate::cli::flags::table::FrontEnd;
use crate::cli::flags::typed::Noted;
use crate::cli::id_range::{Need, of_root};
use crate::cli::output::plan;
use crate::cli::session::{Session, check_stdout, check_streams, print, print_lines};
use crate::error::Result;
use crate::pipeline;
use crate::sandbox::{Isolation, Preference};
use crate::transport::Location;

impl Runs for Noted<BuildArgs> {
    /// A build with a Dockerfile needs what its steps do. One of Go packages says later what it needs,
    /// unless it is to be in a range of ids.
    fn need(&self, _: &GlobalArgs, environment: &Environment) -> Result<Need> {
        let request = self.args.sandbox.request()?;
        // What is wrong with the flags is told before anything is tried.
        let front_end = gondola::chosen(self, &environment.folder)?;
        let is_dockerfile = front_end == FrontEnd::Dockerfile;
        let executes = !self.args.dockerfile.check && !self.args.result.dry_run;
        Ok(if !executes {
            Need::Nothing
        } else if is_dockerfile {
            Need::Perhaps(request, of_root())
        } else if request.preference == Preference::Only(Isolation::NsSubuid) {
            Need::IdRange
        } else {
            Need::Nothing
        })
    }

    fn run(self: Box<Self>, session: &Session, isolation: Option<Isolation>) -> Result<ExitCode> {
        session.wait(build(session, *self, isolation))
    }
}

async fn build(
    session: &Session,
    build: Noted<BuildArgs>,
    isolation: Option<Isolation>,
) -> Result<()> {
    let args = &build.args;
    check_streams(&args.result.output)?;
    check_stdout()?;
    // Before anything is built: bad input changes nothing.
    let keep = session.environment.store_keep()?;
    if args.result.dry_run {
        session.leave_store()?;
    }
    if let Some(path) = &args.result.timings {
        pipeline::check_file(&session.environment.resolve(path))?;
    }
    let asked = gondola::read(session, &build)?;
    let page = args.result.timings.as_ref().map(|page| session.environment.resolve(page));
    asked.request.outputs.check_apart(page.as_deref())?;
    if args.dockerfile.check {
        // Bases that it asks for are kept where others are kept already.
        session.reading_store()?;
    }
    let engine = session.build_context()?;
    for note in &asked.notes {
        session.reporter.warn(note);
    }
    if let Some(note) = &asked.choice.note {
        session.reporter.note(note);
    }
    if args.dockerfile.check {
        return pipeline::check(&engine, asked.request).await;
    }
    if args.result.dry_run {
        let plan = pipeline::dry_run(&engine, asked.request).await?;
        session.view.close();
        return print(&if args.result.json { plan::json(&plan) } else { plan::text(&plan) });
    }
    let preference = asked.request.isolation.preference;
    let published = pipeline::build(&engine, asked.request, isolation).await;
    if let Some(path) = &args.result.timings {
        // The page is of most use when a build took long to fail.
        session.write_timings(&session.environment.resolve(path))?;
    }
    let published = published.map_err(|error| match isolation {
        Some(_) => error,
        None => asked.choice.explain(error, preference),
    })?;
    session.keep_store_within(keep);
    if args.result.output.iter().any(Location::is_stream) {
        return Ok(());
    }
    session.view.close();
    print_lines(published.iter().map(|image| &image.pinned))
}
