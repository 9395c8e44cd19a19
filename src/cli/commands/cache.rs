//! `gondola cache`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use super::Runs;
use crate::cli::args::GlobalArgs;
use crate::cli::environment::Environment;
use crate::cli::id_range::Need;
use crate::sandbox::Isolation;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::cache::{self, CACHES, Describer, Entry, Policy, Pruned, Usage, View};
use crate::cli::output::human;
use crate::cli::session::{Session, print};
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

/// Arguments of `gondola cache`.
#[derive(Debug, Args)]
pub struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// Show disk usage: what is kept, its size and its last use
    ///
    /// Sizes are the lengths of files. A file with several names counts once; what the file system adds to
    /// fill its blocks does not count. Containers and named images are listed too: `gondola rm` and
    /// `gondola rmi` remove them. Of a container's files, those count that you may read the folder of.
    Du {
        /// Show each entry, and the image, step, mount or folder that it belongs to
        #[arg(short, long)]
        verbose: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove unused data; never what a named image, a container or a running build needs
    Prune(PruneArgs),
    /// Check the digest of every blob
    Verify,
}

#[derive(Debug, Args)]
struct PruneArgs {
    /// Remove only what was not used for this long, such as 30m, 12h or 7d
    #[arg(long, value_name = "TIME", value_parser = crate::literal::duration)]
    older_than: Option<Duration>,
    /// Remove the least recently used first, until this much is left, such as 500MB or 10GB
    #[arg(long, value_name = "SIZE", value_parser = crate::literal::size)]
    keep: Option<u64>,
    /// Also remove caches and unnamed images, not only what nothing can find again
    #[arg(short, long)]
    all: bool,
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Runs for CacheArgs {
    /// What is only counted is seen with the same rights as what is removed: else less would be counted.
    fn need(&self, global: &GlobalArgs, environment: &Environment) -> Result<Need> {
        match self.command {
            CacheCommand::Verify => Ok(Need::Nothing),
            _ => Need::of_store_files(global, environment),
        }
    }

    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        session.wait(async { run(session, &self) })
    }
}

fn run(session: &Session, args: &CacheArgs) -> Result<()> {
    match &args.command {
        CacheCommand::Du { verbose, json } => du(session, *verbose, *json),
        CacheCommand::Prune(args) => prune(session, args),
        CacheCommand::Verify => verify(session),
    }
}

fn du(session: &Session, is_verbose: bool, as_json: bool) -> Result<()> {
    let store = session.store()?;
    let view = View::take(&store)?;
    let entries = is_verbose.then(|| described(&store, &view)).transpose()?;
    let of_others = view.entries().iter().filter(|entry| cache::is_of_others(&entry.path));
    tell_of_others(session, &Usage::of(of_others), "are there");
    if as_json {
        let document = DiskUsage::of(&store, &view, entries);
        return print(&format!("{}\n", serde_json::to_string(&document).unwrap_or_default()));
    }
    let now = session.environment.now;
    match entries {
        Some(entries) => print(&human::columns(&rows_of_entries(&entries, now))),
        None => print(&human::columns(&rows(&view, now))),
    }
}

/// What `cache du --json` writes. The version goes up when a field changes its meaning or goes.
#[derive(Serialize)]
struct DiskUsage {
    version: u32,
    /// The store's folder.
    path: String,
    /// All bytes.
    bytes: u64,
    /// The bytes that `cache prune --all` may free when nothing is in use.
    reclaimable: u64,
    /// By the names of the caches.
    #[serde(flatten)]
    caches: BTreeMap<&'static str, CacheUsage>,
    /// With `--verbose`: the least recently used last.
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<Vec<EntryUsage>>,
}

#[derive(Serialize)]
struct CacheUsage {
    /// How many entries: blobs, records, folders, files.
    count: u64,
    bytes: u64,
    /// As RFC 3339 has it; absent where there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<String>,
}

/// Entries of one cache that are the same thing to people.
#[derive(Serialize)]
struct EntryUsage {
    cache: &'static str,
    what: String,
    count: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<String>,
    #[serde(skip)]
    used: Option<SystemTime>,
}

impl DiskUsage {
    fn of(store: &Store, view: &View, entries: Option<Vec<EntryUsage>>) -> Self {
        let caches = CACHES.iter().map(|cache| {
            let Usage { count, bytes, last_used } = cache.usage(view);
            (cache.name(), CacheUsage { count, bytes, last_used: last_used.and_then(time) })
        });
        Self {
            version: 2,
            path: store.root().display().to_string(),
            bytes: Usage::of(view.entries()).bytes,
            reclaimable: reclaimable(view),
            caches: caches.collect(),
            entries,
        }
    }
}

fn reclaimable(view: &View) -> u64 {
    use crate::store::Standing;
    let can_go = |entry: &&Entry| {
        matches!(entry.standing, Standing::Garbage | Standing::Useful)
            && !cache::is_of_others(&entry.path)
    };
    Usage::of(view.entries().iter().filter(can_go)).bytes
}

fn time(time: SystemTime) -> Option<String> {
    let time = jiff::Timestamp::try_from(time).ok()?;
    jiff::Timestamp::from_second(time.as_second()).ok().map(|time| time.to_string())
}

/// The entries of each cache in the user's words, the last used first.
fn described(store: &Store, view: &View) -> Result<Vec<EntryUsage>> {
    let describer = Describer::new(store, view)?;
    let mut all: BTreeMap<(&str, String), Vec<&Entry>> = BTreeMap::new();
    for entry in view.entries() {
        all.entry((entry.cache, describer.describe(entry))).or_default().push(entry);
    }
    let mut entries: Vec<EntryUsage> = Vec::new();
    for ((cache, what), entries_of) in all {
        let Usage { count, bytes, last_used: used } = Usage::of(entries_of);
        entries.push(EntryUsage {
            cache,
            what,
            count,
            bytes,
            last_used: used.and_then(time),
            used,
        });
    }
    entries.sort_by(|a, b| (b.used, a.cache, &a.what).cmp(&(a.used, b.cache, &b.what)));
    Ok(entries)
}

/// The longest that a table shows of what an entry is.
const LONGEST_WHAT: usize = 60;

fn rows_of_entries(entries: &[EntryUsage], now: SystemTime) -> Vec<[String; 4]> {
    let mut rows = vec![["CACHE", "WHAT", "SIZE", "LAST USED"].map(str::to_owned)];
    for entry in entries {
        let what = human::line(&entry.what).into_owned();
        let mut short: String = what.chars().take(LONGEST_WHAT).collect();
        if short.len() < what.len() {
            short.push('…');
        }
        let (size, used) = (human::bytes(entry.bytes), ago(entry.used, now));
        rows.push([entry.cache.to_owned(), short, size, used]);
    }
    rows
}

fn rows(view: &View, now: SystemTime) -> Vec<[String; 4]> {
    let mut rows = vec![["CACHE", "COUNT", "SIZE", "LAST USED"].map(str::to_owned)];
    for cache in CACHES {
        let Usage { count, bytes, last_used } = cache.usage(view);
        let (size, used) = (human::bytes(bytes), ago(last_used, now));
        rows.push([cache.name().to_owned(), count.to_string(), size, used]);
    }
    let total = Usage::of(view.entries()).bytes;
    for (name, bytes) in [("total", total), ("reclaimable", reclaimable(view))] {
        rows.push([name.to_owned(), String::new(), human::bytes(bytes), String::new()]);
    }
    rows
}

fn ago(used: Option<SystemTime>, now: SystemTime) -> String {
    let age = used.map(|used| now.duration_since(used).unwrap_or_default());
    age.map_or_else(String::new, |age| format!("{} ago", human::about(age)))
}

/// Says what becomes of files of a range of ids where this command has no rights over them, and what to do.
fn tell_of_others(session: &Session, found: &Usage, what_of_them: &str) {
    let Some(why) = session.lacks.as_ref().filter(|_| found.count > 0) else { return };
    session.reporter.warn(format!(
        "{} entries with files of a range of ids {what_of_them}, {} as far as this user sees them: {why}; give \
         the user the range again, or have root run gondola cache prune on this store",
        found.count,
        human::bytes(found.bytes),
    ));
}

fn prune(session: &Session, args: &PruneArgs) -> Result<()> {
    let store = session.store()?;
    let policy = Policy {
        older_than: args.older_than,
        keep_bytes: args.keep,
        all: args.all,
        dry_run: args.dry_run,
    };
    let pruned = cache::prune(&store, &policy, session.environment.now)?;
    tell_of_others(session, &pruned.of_others, "stay");
    if args.json {
        let document = Removed::of(&store, &pruned, args.dry_run);
        return print(&format!("{}\n", serde_json::to_string(&document).unwrap_or_default()));
    }
    let verb = if args.dry_run { "would free" } else { "freed" };
    let (bytes, count) = (human::bytes(pruned.bytes), pruned.entries.len());
    print(&format!("{verb} {bytes} in {count} entries\n"))
}

/// What `cache prune --json` writes. The version goes up when a field changes its meaning or goes.
#[derive(Serialize)]
struct Removed {
    version: u32,
    /// The store's folder.
    path: String,
    /// Whether it would be removed, and is there still.
    dry_run: bool,
    /// How many entries.
    count: u64,
    /// The bytes that are free then.
    bytes: u64,
    /// By the names of the caches.
    #[serde(flatten)]
    caches: BTreeMap<&'static str, CacheUsage>,
}

impl Removed {
    fn of(store: &Store, pruned: &Pruned, dry_run: bool) -> Self {
        let caches = CACHES.iter().map(|cache| {
            let Usage { count, bytes, last_used } = pruned.of(cache.name());
            (cache.name(), CacheUsage { count, bytes, last_used: last_used.and_then(time) })
        });
        Self {
            version: 1,
            path: store.root().display().to_string(),
            dry_run,
            count: pruned.entries.len() as u64,
            bytes: pruned.bytes,
            caches: caches.collect(),
        }
    }
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
