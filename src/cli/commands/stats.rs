//! `gondola stats`.

use super::Runs;
use crate::sandbox::Isolation;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::output::human;
use crate::cli::session::{Session, print};
use crate::container::{ContainerInfo, Containers, Sample, Usage, machine_bytes};
use crate::error::Result;

/// Arguments of `gondola stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Containers to show [default: all running ones]
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Print one result and exit
    #[arg(long)]
    no_stream: bool,
    /// Print JSON, one array for each result
    #[arg(long)]
    json: bool,
}

/// The time over which processor use is measured, and shown anew.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same where one result is asked for.
const GLANCE: Duration = Duration::from_millis(250);

/// Puts the cursor to the top of the screen and clears it.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

impl Runs for StatsArgs {
    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        run(session, &self)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn run(session: &Session, args: &StatsArgs) -> Result<()> {
    let containers = session.containers()?;
    let redraw = !args.no_stream && !args.json && std::io::stdout().is_terminal();
    let mut before = look(&containers, &args.containers)?;
    loop {
        // Time that goes by is what is measured.
        std::thread::sleep(if args.no_stream { GLANCE } else { INTERVAL });
        let now = look(&containers, &args.containers)?;
        let rows: Vec<Row> = now.iter().filter_map(|now| row(&before, now)).collect();
        let text = if args.json { json_text(&rows) } else { table(&rows) };
        print(&format!("{}{text}", if redraw { CLEAR } else { "" }))?;
        if args.no_stream {
            return Ok(());
        }
        before = now;
    }
}

/// A container and what its processes had taken.
type Look = (ContainerInfo, Sample);

struct Row<'a> {
    seen: &'a ContainerInfo,
    usage: Usage,
}

fn look(containers: &Containers, names: &[String]) -> Result<Vec<Look>> {
    let seen = if names.is_empty() {
        containers.list()?
    } else {
        names.iter().map(|name| containers.find(name)).collect::<Result<_>>()?
    };
    let mut all = Vec::new();
    for seen in seen {
        if let Some(sample) = Sample::take(&seen)? {
            all.push((seen, sample));
        }
    }
    Ok(all)
}

fn row<'a>(before: &[Look], (seen, sample): &'a Look) -> Option<Row<'a>> {
    let same = |(other, _): &&Look| other.container.id() == seen.container.id();
    let (_, earlier) = before.iter().find(same)?;
    Some(Row { seen, usage: sample.since(earlier) })
}

fn memory_percent(usage: &Usage, machine: u64) -> f64 {
    let part = |bytes: u64| f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX));
    if machine == 0 { 0.0 } else { 100.0 * part(usage.resident_bytes) / part(machine) }
}

fn table(rows: &[Row<'_>]) -> String {
    let head = ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "PIDS"];
    let machine = machine_bytes();
    let mut cells = vec![head.map(str::to_owned)];
    cells.extend(rows.iter().map(|Row { seen, usage }| {
        let (used, all) = (human::bytes(usage.resident_bytes), human::bytes(machine));
        [
            seen.container.id().short().to_owned(),
            seen.container.name().to_owned(),
            format!("{:.2}%", usage.processor_percent),
            format!("{used} / {all}"),
            format!("{:.2}%", memory_percent(usage, machine)),
            usage.processes.to_string(),
        ]
    }));
    human::columns(&cells)
}

fn json_text(rows: &[Row<'_>]) -> String {
    let machine = machine_bytes();
    let rows = rows.iter().map(|Row { seen, usage }| {
        json!({
            "id": seen.container.id().as_str(),
            "name": seen.container.name(),
            "cpuPercent": usage.processor_percent,
            "memoryBytes": usage.resident_bytes,
            "memoryLimitBytes": machine,
            "memoryPercent": memory_percent(usage, machine),
            "pids": usage.processes,
        })
    });
    format!("{}\n", Value::Array(rows.collect()))
}
