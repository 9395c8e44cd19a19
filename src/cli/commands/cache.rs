//! `gondola cache`.

use super::Runs;
use crate::cli::args::GlobalArgs;
use crate::cli::environment::Environment;
use crate::cli::id_range::Need;
use crate::sandbox::Rung;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::output::human;
use crate::cli::session::{Session, print};
use crate::dockerfile;
use crate::error::{Error, ErrorKind, Result};
use crate::golang;
use crate::pipeline::{all_go_caches, programs_folder, programs_folders};
use crate::store::{PrunePolicy, Store};

/// Arguments of `gondola cache`.
#[derive(Debug, Args)]
pub struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// Show what the store holds and how large it is
    Du {
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove what no named image needs; never what a running build uses
    Prune(PruneArgs),
    /// Read every blob and check its digest
    Verify,
}

#[derive(Debug, Args)]
struct PruneArgs {
    /// Remove only what was last used longer ago than this: 30m, 12h, 7d
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    older_than: Option<Duration>,
    /// Remove the longest unused first, until this much is left: 500MB, 10GB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    keep: Option<u64>,
    /// Remove the records, kept programs, toolchains, Go caches and caches of steps as well
    #[arg(short, long)]
    all: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

impl CacheArgs {
    /// Whether something may be removed.
    fn removes(&self) -> bool {
        matches!(&self.command, CacheCommand::Prune(args) if !args.dry_run)
    }
}

impl Runs for CacheArgs {
    fn need(&self, global: &GlobalArgs, environment: &Environment) -> Result<Need> {
        if self.removes() { Need::of_removal(global, environment) } else { Ok(Need::Nothing) }
    }

    fn run(self: Box<Self>, session: &Session, _: Option<Rung>) -> Result<ExitCode> {
        session.wait(async { run(session, &self) })
    }
}

fn run(session: &Session, args: &CacheArgs) -> Result<()> {
    match &args.command {
        CacheCommand::Du { json } => du(session, *json),
        CacheCommand::Prune(args) => prune(session, args),
        CacheCommand::Verify => verify(session),
    }
}

fn du(session: &Session, as_json: bool) -> Result<()> {
    let store = session.store()?;
    let usage = store.usage()?;
    let rows = [
        ("images", usage.images),
        ("bases", usage.bases),
        ("layers", usage.layers),
        ("records", usage.records),
        ("unpacked", usage.unpacked),
        ("temporary", usage.temporary),
    ];
    let go: Vec<_> = all_go_caches(&store).iter().map(golang::Kept::sizes).collect();
    let folders = [
        ("programs", golang::programs_size(&programs_folder(&store))),
        ("go-build", go.iter().map(|sizes| sizes.build).sum()),
        ("go-modules", go.iter().map(|sizes| sizes.modules).sum()),
        ("steps", dockerfile::build::caches_size(&store)),
    ];
    if as_json {
        let mut value = json!({ "path": store.root() });
        for (class, entry) in rows {
            value[class] = json!({ "count": entry.count, "bytes": entry.bytes });
        }
        for (class, bytes) in folders {
            value[class] = json!({ "bytes": bytes });
        }
        return print(&format!("{value}\n"));
    }
    let mut cells = vec![["WHAT", "COUNT", "SIZE"].map(str::to_owned)];
    for (class, entry) in rows {
        cells.push([class.to_owned(), entry.count.to_string(), human::bytes(entry.bytes)]);
    }
    for (class, bytes) in folders {
        cells.push([class.to_owned(), String::new(), human::bytes(bytes)]);
    }
    let total = usage.bytes() + folders.iter().map(|(_, bytes)| bytes).sum::<u64>();
    cells.push(["total".to_owned(), String::new(), human::bytes(total)]);
    print(&human::columns(&cells))
}

fn prune(session: &Session, args: &PruneArgs) -> Result<()> {
    let store = session.store()?;
    let policy = PrunePolicy {
        older_than: args.older_than,
        keep_bytes: args.keep,
        all: args.all,
        dry_run: args.dry_run,
    };
    let pruned = store.prune(&policy, session.environment.now)?;
    // Without a wish for more, only what killed builds left goes.
    let limit = args.older_than.or(args.all.then_some(Duration::ZERO));
    let before = limit.and_then(|age| session.environment.now.checked_sub(age));
    let before = before.unwrap_or(UNIX_EPOCH);
    let builds = if args.dry_run { 0 } else { prune_builds(session, &store, before)? };
    let verb = if args.dry_run { "would free" } else { "freed" };
    let mut count = pruned.blobs.len() as u64 + pruned.records.count + pruned.temporary.count;
    count += pruned.unpacked.count;
    print(&format!("{verb} {} in {count} files\n", human::bytes(pruned.bytes() + builds)))
}

/// Removes what builds kept beside the store's own content; answers how many bytes that were.
fn prune_builds(session: &Session, store: &Store, before: SystemTime) -> Result<u64> {
    let mut freed = dockerfile::build::prune_caches(store, before)?;
    for programs in programs_folders(store) {
        freed += golang::prune_programs(&programs, before)?;
    }
    let mut stays = false;
    for caches in all_go_caches(store) {
        match caches.prune(before)? {
            Some(go) => freed += go,
            None => stays = true,
        }
    }
    if stays {
        session.reporter.note("Go caches stay: a build uses them");
    }
    Ok(freed)
}

fn verify(session: &Session) -> Result<()> {
    let store = session.store()?;
    let found = store.verify()?;
    if found.is_clean() {
        let (count, bytes) = (found.scanned.count, human::bytes(found.scanned.bytes));
        return print(&format!("{count} blobs, {bytes}: each has the digest that names it\n"));
    }
    let corrupt = found.corrupt.iter().map(|digest| format!("{digest} is corrupt"));
    let missing = found.missing.iter().map(|entry| format!("{} is missing", entry.digest));
    let wrong: Vec<String> = corrupt.chain(missing).collect();
    Err(Error::new(ErrorKind::Corrupt, format!("trust the store {}", store.root().display()))
        .because(wrong.join(", "))
        .hint("remove these blobs; the next build or pull brings them again"))
}

/// Reads `90s`, `30m`, `12h` or `7d`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.len() - text.chars().last().map_or(0, char::len_utf8);
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err("expected a number with s, m, h or d behind it, such as 12h".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| format!("\"{number}\" is no whole number"))?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| "too long".to_owned())
}

/// Reads `500MB` (powers of 1000), `2GiB` (powers of 1024) or plain bytes.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1000 * 1000,
        "g" | "gb" => 1000 * 1000 * 1000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err("expected a number with KB, MB or GB behind it, such as 10GB".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| format!("\"{number}\" is no whole number"))?;
    number.checked_mul(factor).ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("12h"), Ok(Duration::from_hours(12)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_hours(7 * 24)));
        for bad in ["", "h", "12", "1.5h", "-1h", "99999999999999999d", "1µ"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_decimal_unless_they_say_otherwise() {
        for (text, expect) in
            [("1", 1), ("2KB", 2000), ("1 MiB", 1 << 20), ("10GB", 10_000_000_000)]
        {
            assert_eq!(parse_size(text), Ok(expect), "{text}");
        }
        for bad in ["", "GB", "1TBB", "-1", "99999999999GB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
