//! `gondola doctor`: which ways of isolating a process work here, why the others do not, and what
//! to do about it.

use clap::Args;

use crate::cli::session::{Session, print};
use crate::error::{Cannot, Result};
use crate::sandbox::{Finding, Launcher, ProbeOptions, probe};

/// Arguments of `gondola doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// Tries every rung of the sandbox once, in the store's folder.
pub(in crate::cli) fn run(session: &Session, args: &DoctorArgs) -> Result<()> {
    let launcher = Launcher::new(session.environment.get("PATH").unwrap_or_default());
    let store = session.store()?;
    let findings = probe(&ProbeOptions { launcher: &launcher, folder: store.root() })?;
    if args.json {
        let text = serde_json::to_string_pretty(&findings).cannot(|| "write the findings")?;
        return print(&format!("{text}\n"));
    }
    let rows: String = findings.0.iter().map(row).collect();
    print(&format!("{rows}\n{}\n", findings.summary()))
}

/// One rung: its state and what runs there, and below it the reason and the fix.
fn row(finding: &Finding) -> String {
    let state = if finding.works { "works" } else { "no" };
    let mut text = format!("{:<10} {state:<6} {}\n", finding.rung.as_str(), finding.rung.runs());
    if let Some(reason) = &finding.reason {
        text = format!("{text}{:18}{reason}\n", "");
    }
    if let Some(fix) = &finding.fix {
        text = format!("{text}{:18}fix: {fix}\n", "");
    }
    text
}
