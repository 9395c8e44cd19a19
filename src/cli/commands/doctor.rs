//! `gondola doctor`: which ways of isolating a process work here, why the others do not, and what
//! to do about it.

use std::io::Write;
use std::path::Path;

use crate::error::{Cannot as _, Result};
use crate::sandbox::{Finding, Launcher, ProbeOptions, probe};

/// Tries every rung of the sandbox once, in `folder`, and writes what came of it to `out`: a table
/// for people, or JSON.
pub fn run(launcher: &Launcher, folder: &Path, json: bool, out: &mut dyn Write) -> Result<()> {
    let findings = probe(&ProbeOptions { launcher, folder })?;
    let text = if json {
        let mut text = serde_json::to_string_pretty(&findings).cannot(|| "write the findings")?;
        text.push('\n');
        text
    } else {
        let rows: String = findings.0.iter().map(row).collect();
        format!("{rows}\n{}\n", findings.summary())
    };
    out.write_all(text.as_bytes()).cannot(|| "write the findings")
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
