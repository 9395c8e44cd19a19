//! `gondola ps`.

use super::Runs;
use crate::sandbox::Isolation;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::environment;
use crate::cli::output::human;
use crate::cli::session::{Session, print, print_lines};
use crate::container::{ContainerInfo, NetworkChoice, Status};
use crate::error::Result;

/// Arguments of `gondola ps`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct PsArgs {
    /// Show all containers, not only running ones
    #[arg(short, long)]
    all: bool,
    /// Print ids only, one on a line
    #[arg(short, long, alias = "ids", conflicts_with = "json")]
    quiet: bool,
    /// Print JSON, one array
    #[arg(long)]
    json: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    no_trunc: bool,
}

/// The most that a table shows of a command.
const LONGEST_COMMAND: usize = 20;

impl Runs for PsArgs {
    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        run(session, &self)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn run(session: &Session, args: &PsArgs) -> Result<()> {
    let mut seen = session.containers()?.list()?;
    seen.retain(|seen| args.all || seen.status.is_alive());
    if args.json {
        let rows: Vec<Value> = seen.iter().map(to_json).collect();
        return print(&format!("{}\n", Value::Array(rows)));
    }
    if args.quiet || session.global.quiet {
        return print_lines(seen.iter().map(|seen| id(seen, args.no_trunc)));
    }
    print(&table(&seen, args.no_trunc, environment::clock()))
}

fn id(seen: &ContainerInfo, whole: bool) -> &str {
    let id = seen.container.id();
    if whole { id.as_str() } else { id.short() }
}

fn table(seen: &[ContainerInfo], whole: bool, now: Timestamp) -> String {
    let head = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];
    let mut cells = vec![head.map(str::to_owned)];
    cells.extend(seen.iter().map(|seen| {
        [
            id(seen, whole).to_owned(),
            human::line(&seen.config.image).into_owned(),
            command(&seen.config.spec.argv, whole),
            format!("{} ago", human::about(between(seen.config.created, now))),
            status(&seen.status, now),
            ports(seen).join(", "),
            seen.container.name().to_owned(),
        ]
    }));
    human::columns(&cells)
}

fn command(argv: &[String], whole: bool) -> String {
    let text = argv.join(" ");
    let text = human::line(&text);
    if whole || text.chars().count() <= LONGEST_COMMAND {
        return format!("\"{text}\"");
    }
    format!("\"{}…\"", text.chars().take(LONGEST_COMMAND - 1).collect::<String>())
}

fn status(status: &Status, now: Timestamp) -> String {
    let ago = |time| human::about(between(time, now));
    match status {
        Status::Created => "Created".to_owned(),
        Status::Starting => "Starting".to_owned(),
        Status::Running(running) => format!("Up {}", ago(running.started)),
        Status::Exited(exited) => format!("Exited ({}) {} ago", exited.code, ago(exited.finished)),
        Status::Dead(_) => "Dead".to_owned(),
    }
}

fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    // A clock that was set back in between makes it no time at all.
    later.duration_since(earlier).try_into().unwrap_or(Duration::ZERO)
}

/// Published ports, and those that are open to nobody: on the host's network all are its own.
fn ports(seen: &ContainerInfo) -> Vec<String> {
    let published = match &seen.status {
        Status::Running(running) => &running.ports[..],
        _ => &[],
    };
    let mut shown: Vec<String> = published.iter().map(ToString::to_string).collect();
    if seen.config.network != NetworkChoice::Host && seen.status.is_alive() {
        let open = |port: &&String| {
            published.iter().all(|published| format!("{}/tcp", published.container) != **port)
        };
        shown.extend(seen.config.exposed.iter().filter(open).cloned());
    }
    shown
}

fn to_json(seen: &ContainerInfo) -> Value {
    let (mut started, mut finished, mut code) = (None, None, None);
    match &seen.status {
        Status::Created | Status::Starting => {}
        Status::Running(running) => started = Some(running.started),
        Status::Dead(since) => started = Some(*since),
        Status::Exited(exited) => {
            (started, finished, code) =
                (Some(exited.started), Some(exited.finished), Some(exited.code));
        }
    }
    json!({
        "id": seen.container.id().as_str(),
        "name": seen.container.name(),
        "image": seen.config.image,
        "digest": seen.config.digest,
        "command": seen.config.spec.argv,
        "status": seen.status.as_str(),
        "exitCode": code,
        "created": seen.config.created.to_string(),
        "started": started.map(|time| time.to_string()),
        "finished": finished.map(|time| time.to_string()),
        "ports": ports(seen),
        "sandbox": seen.config.isolation,
        "labels": seen.config.labels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_and_long_ones_shortened() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(command(&words("/app serve"), false), "\"/app serve\"");
        assert_eq!(
            command(&words("/usr/local/bin/app --serve"), false),
            "\"/usr/local/bin/app …\""
        );
        let whole = "\"/usr/local/bin/app --serve\"";
        assert_eq!(command(&words("/usr/local/bin/app --serve"), true), whole);
    }
}
