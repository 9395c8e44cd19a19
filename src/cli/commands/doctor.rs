//! `gondola doctor`: which ways of isolating a process work here, why the others do not, and what
//! to do about it.

use super::Runs;
use crate::sandbox::Isolation;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use tempfile::TempDir;

use crate::cli::session::{Session, print};
use crate::disk::room_near;
use crate::error::{Cannot as _, Result};
use crate::sandbox::{Finding, Launcher, ProbeOptions, probe};
use crate::store::Store;

/// Arguments of `gondola doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A store that cannot be used.
#[derive(Serialize)]
struct NoStore {
    /// Where it is, or was to be; nothing says where if no folder could be found for it.
    store: Option<PathBuf>,
    works: bool,
    reason: String,
    fix: &'static str,
}

/// What is built here, of all that was found.
#[derive(Serialize)]
struct Verdict {
    /// One line for people.
    summary: String,
    /// What executes steps of Dockerfiles, where something does.
    steps: Option<Isolation>,
}

/// What to do about a store that cannot be used.
const STORE_FIX: &str = "set GONDOLA_HOME, or --store, to a folder that can be written to";

impl Runs for DoctorArgs {
    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        run(session, &self)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Tries every isolation of the sandbox once, in the store's folder; where there is none yet, in a temporary
/// one beside where it would be, and where there can be none, in one elsewhere.
fn run(session: &Session, args: &DoctorArgs) -> Result<()> {
    let launcher = Launcher::new(session.environment.get("PATH").unwrap_or_default());
    // One that can only be read has no room for root file systems.
    let room = session.global.store_folder(&session.environment).and_then(|folder| room(&folder));
    let temporary = room.is_err().then(tempfile::tempdir).transpose();
    let temporary = temporary.cannot(|| "make a folder to try the sandbox in")?;
    let folder = match (&room, &temporary) {
        (Ok(Room::Store(store)), _) => store.root(),
        (Ok(Room::Beside(folder)), _) | (Err(_), Some(folder)) => folder.path(),
        (Err(_), None) => unreachable!("one is made where there is no store"),
    };
    let findings = probe(&ProbeOptions { launcher: &launcher, folder })?;
    let no_store = room.err().map(|error| NoStore {
        store: session.global.store_folder(&session.environment).ok(),
        works: false,
        reason: error.to_string(),
        fix: STORE_FIX,
    });
    if args.json {
        let action = || "write the findings";
        let mut all = Vec::new();
        for finding in &findings.0 {
            all.push(serde_json::to_value(finding).cannot(action)?);
        }
        if let Some(no_store) = &no_store {
            all.push(serde_json::to_value(no_store).cannot(action)?);
        }
        let verdict = Verdict { summary: findings.verdict(), steps: findings.of_steps() };
        all.push(serde_json::to_value(verdict).cannot(action)?);
        let text = serde_json::to_string_pretty(&all).cannot(action)?;
        return print(&format!("{text}\n"));
    }
    let rows: String = findings.0.iter().map(row).collect();
    let store = no_store.as_ref().map(store_row).unwrap_or_default();
    print(&format!("{rows}{store}\n{}\n", findings.verdict()))
}

/// Where the sandbox is tried.
enum Room {
    /// In the store.
    Store(Store),
    /// On its file system: there is no store yet.
    Beside(TempDir),
}

/// Room on the file system of a store, which is not made. Errs where it could not be written to.
fn room(folder: &Path) -> Result<Room> {
    let store = Store::open_as_it_is(folder)?;
    if store.is_there()? {
        return store.lease().map(|_| Room::Store(store));
    }
    let room = room_near(folder).cannot(|| format!("write to the store {}", folder.display()));
    room.map(Room::Beside).map_err(|error| error.hint(STORE_FIX))
}

/// As [`row`], for the store.
fn store_row(found: &NoStore) -> String {
    let folder = found.store.as_ref().map(|folder| folder.display().to_string());
    let folder = folder.unwrap_or_else(|| "no folder for it".to_owned());
    let blank = "";
    format!(
        "{:<12} {:<6} {folder}\n{blank:20}{}\n{blank:20}fix: {}\n",
        "store", "no", found.reason, found.fix
    )
}

/// One isolation: its state and what runs there, and below it the reason and the fix.
fn row(finding: &Finding) -> String {
    let state = if finding.works { "works" } else { "no" };
    let mut text =
        format!("{:<12} {state:<6} {}\n", finding.isolation.as_str(), finding.isolation.runs());
    if let Some(reason) = &finding.reason {
        text = format!("{text}{:20}{reason}\n", "");
    }
    if let Some(fix) = &finding.fix {
        text = format!("{text}{:20}fix: {fix}\n", "");
    }
    text
}
