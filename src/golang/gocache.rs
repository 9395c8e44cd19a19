//! Keeping wrong results out of a build cache (GOCACHE).
//!
//! ```text
//! XX/HEX-a                          what the go command wrote: an action, and which output it has
//! gondola/SECONDS-NANOSECONDS-NAME  a build that began then; locked while it runs. Holds which
//!                                   sources it reads, once that is known
//! gondola/new-NAME                  one that has no lock yet
//! gondola/purged                    ctime = when actions were last removed
//! ```
//! The go command names an action by hashes of its sources, and the compiler reads these later. If
//! one was saved in between, the cache has new output under the old name, also for other folders
//! with equal sources, and for good. (So it is with `go` alone.) A build that finds a source changed
//! since its beginning therefore removes every action that was written since then, and is repeated.
//!
//! Others may use such an action before it is removed. So a build that ends also looks at the
//! sources of those that run beside it, and waits for one whose sources changed; if actions were
//! removed since it began, it is repeated itself. What a killed build left is judged by the next
//! one. The go command takes an action that vanishes for one that was never there.
//!
//! What a plain `go build` writes beside this goes unseen, and so do caches that a program keeps
//! (`GOCACHEPROG`).

use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err::{File, OpenOptions};
use serde::{Deserialize, Serialize};

use super::Builder;
use super::freshness::{Before, Sources, StartedAt};
use crate::cache::gocache::OWN;
use crate::clock::Clock;
use crate::error::{Cannot, Result};

const PURGED: &str = "purged";

/// How often a build looks whether another one has come to its end.
const INTERVAL: Duration = Duration::from_millis(10);

/// A tick of the clock that stamps files is at most 10 ms, and this together is longer.
const WAITS: usize = 8;
const WAIT: Duration = Duration::from_millis(2);

/// An action is a line of this form and length: `v1 HEX HEX SIZE NANOSECONDS`.
const LONGEST_ACTION: u64 = 256;

/// The go command sets the time of an action that it uses, if that is older than an hour. One that
/// says that it was written longer ago than this before a build is not from that build.
const USED_AGAIN: i128 = 30 * 60 * 1_000_000_000;

/// A time of the cache's file system, in nanoseconds since 1970.
type Time = i128;

/// A build that may write to a build cache.
#[derive(Debug)]
pub(super) struct Ongoing {
    cache: PathBuf,
    path: PathBuf,
    began: Time,
    /// Locked.
    file: File,
}

/// What is in the file of a build.
#[derive(Serialize, Deserialize)]
struct Note {
    since: (i64, i64),
    is_kernels: bool,
    sources: Sources,
}

/// How another build stands.
enum Verdict {
    /// What it wrote is right.
    Harmless,
    /// Its sources changed.
    Harmful,
    /// Its sources are not known.
    Unknown,
}

impl Builder {
    /// The build cache of the go command, if that is a folder.
    pub(super) fn build_cache(&self) -> Option<PathBuf> {
        let absolute = |path: &str| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
        let folder = match (self.variable("GOCACHE"), self.variable("XDG_CACHE_HOME")) {
            (Some(folder), _) => return absolute(folder),
            (None, Some(folder)) => absolute(folder)?,
            (None, None) => absolute(self.variable("HOME")?)?.join(".cache"),
        };
        Some(folder.join("go-build"))
    }

    /// Whether a program keeps what is compiled, of which nothing can be removed.
    pub(super) fn has_cache_program(&self) -> bool {
        self.variable("GOCACHEPROG").is_some()
    }
}

impl Ongoing {
    /// Notes that a build begins, and clears away what killed ones left. None where nothing can be
    /// written or locked: then the go command writes nothing either, or nothing can be done about it.
    pub(super) fn begin(cache: &Path) -> Option<Self> {
        let own = cache.join(OWN);
        fs_err::create_dir_all(&own).ok()?;
        for (path, began) in others(&own) {
            if let Some(_lock) = lock_if_dead(&path) {
                if !matches!(verdict(&path), Verdict::Harmless) {
                    purge(cache, began).ok()?;
                }
                let _ = fs_err::remove_file(&path);
            }
        }
        for _ in 0..WAITS {
            let ongoing = Self::note_beginning(cache, &own)?;
            if last_purge(&own) < ongoing.began {
                return Some(ongoing);
            }
            // In the same tick it would look as if something had been removed meanwhile.
            ongoing.end();
            std::thread::sleep(WAIT);
        }
        Self::note_beginning(cache, &own)
    }

    fn note_beginning(cache: &Path, own: &Path) -> Option<Self> {
        let new = tempfile::Builder::new().prefix("new-").tempfile_in(own).ok()?;
        new.as_file().try_lock().ok()?;
        let stamp = new.as_file().metadata().ok()?;
        let name = new.path().file_name()?.to_str()?.strip_prefix("new-")?;
        let path = own.join(format!("{}-{}-{name}", stamp.ctime(), stamp.ctime_nsec()));
        let file = new.persist_noclobber(&path).ok()?;
        let began = time(stamp.ctime(), stamp.ctime_nsec());
        let file = File::from_parts(file, path.clone());
        Some(Self { cache: cache.to_owned(), path, began, file })
    }

    /// Writes down what is read in the build that began at `since`.
    pub(super) fn note(&self, sources: &Sources, since: &StartedAt) -> Result<()> {
        let (seconds, nanoseconds, clock) = since.parts();
        let note = Note {
            since: (seconds, nanoseconds),
            is_kernels: clock == Clock::Kernel,
            sources: sources.clone(),
        };
        let action = || "note what is compiled";
        // A folder whose name is not UTF-8 has no JSON: then others wait for the end.
        let Ok(mut bytes) = serde_json::to_vec(&note) else { return Ok(()) };
        // A note without this end is still being written.
        bytes.push(b'\n');
        self.file.file().write_all_at(&bytes, 0).cannot(action)
    }

    /// The locked file: the build counts as running as long as a process has it open.
    pub(super) fn lock(&self) -> &std::fs::File {
        self.file.file()
    }

    /// Removes what was written to the cache since this build began, and ends it.
    pub(super) fn purge(self) -> Result<()> {
        purge(&self.cache, self.began)?;
        self.end();
        Ok(())
    }

    /// Ends the build: what it wrote is right.
    fn end(self) {
        // A file that stays counts as that of a killed build, whose sources are looked at.
        let _ = fs_err::remove_file(&self.path);
    }

    /// Ends the build, and waits for those beside it whose sources changed. Answers whether what
    /// this one read from the cache is right.
    pub(super) async fn end_beside_others(self) -> bool {
        let (cache, began) = (self.cache.clone(), self.began);
        self.end();
        let own = cache.join(OWN);
        loop {
            let mut is_waiting = false;
            for (path, of_other) in others(&own) {
                match verdict(&path) {
                    Verdict::Harmless => {}
                    // It was killed, or it does the same now.
                    Verdict::Harmful | Verdict::Unknown => match lock_if_dead(&path) {
                        Some(_lock) if purge(&cache, of_other).is_ok() => {
                            let _ = fs_err::remove_file(&path);
                        }
                        _ => is_waiting = true,
                    },
                }
            }
            if !is_waiting {
                break;
            }
            tokio::time::sleep(INTERVAL).await;
        }
        last_purge(&own) < began
    }
}

/// When actions were last removed.
fn last_purge(own: &Path) -> Time {
    let purged = fs_err::metadata(own.join(PURGED));
    purged.map_or(Time::MIN, |found| time(found.ctime(), found.ctime_nsec()))
}

/// The builds that are noted in a folder, and when each began.
fn others(own: &Path) -> Vec<(PathBuf, Time)> {
    let entries = fs_err::read_dir(own).into_iter().flatten().filter_map(std::io::Result::ok);
    let of_name = |name: &str| {
        let (seconds, rest) = name.split_once('-')?;
        let (nanoseconds, _) = rest.split_once('-')?;
        Some(time(seconds.parse().ok()?, nanoseconds.parse().ok()?))
    };
    let build =
        |entry: fs_err::DirEntry| Some((entry.path(), of_name(entry.file_name().to_str()?)?));
    entries.filter_map(build).collect()
}

fn time(seconds: i64, nanoseconds: i64) -> Time {
    Time::from(seconds) * 1_000_000_000 + Time::from(nanoseconds)
}

/// Takes the lock of a build that was killed; none where it runs, or has come to a good end.
fn lock_if_dead(path: &Path) -> Option<File> {
    let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
    file.file().try_lock().ok()?;
    // It may have ended since it was listed.
    let (open, named) = (file.metadata().ok()?, fs_err::metadata(path).ok()?);
    (open.ino() == named.ino()).then_some(file)
}

/// Judges a build by what it noted.
fn verdict(path: &Path) -> Verdict {
    let text = match fs_err::read(path) {
        Ok(text) => text,
        // It came to a good end.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Verdict::Harmless,
        Err(_) => return Verdict::Unknown,
    };
    let Some(text) = text.strip_suffix(b"\n") else { return Verdict::Unknown };
    let Ok(note) = serde_json::from_slice::<Note>(text) else { return Verdict::Unknown };
    let clock = if note.is_kernels { Clock::Kernel } else { Clock::Foreign };
    let since = StartedAt::from_parts(note.since.0, note.since.1, clock);
    match note.sources.changed_since(&since, &Before::default()) {
        None => Verdict::Harmless,
        Some(_) => Verdict::Harmful,
    }
}

/// Removes every action that was written since `began`, and leaves word of it.
fn purge(cache: &Path, began: Time) -> Result<()> {
    let action = || format!("remove results from the build cache {}", cache.display());
    for first in 0..=255_u8 {
        let entries = match fs_err::read_dir(cache.join(format!("{first:02x}"))) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).cannot(action),
        };
        for entry in entries {
            let entry = entry.cannot(action)?;
            if !entry.file_name().as_encoded_bytes().ends_with(b"-a") {
                continue;
            }
            let Ok(found) = entry.metadata() else { continue };
            let changed = time(found.ctime(), found.ctime_nsec());
            if changed >= began && is_from_then(&entry.path(), began) {
                fs_err::remove_file(entry.path()).or_else(absent_is_fine).cannot(action)?;
            }
        }
    }
    // Not empty, or some file system would leave its time as it is.
    fs_err::write(cache.join(OWN).join(PURGED), "actions were removed\n").cannot(action)
}

fn absent_is_fine(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Whether an action that changed lately may be from a build that began then; not if it was only
/// used again.
fn is_from_then(action: &Path, began: Time) -> bool {
    let mut text = String::new();
    let read =
        File::open(action).and_then(|file| file.take(LONGEST_ACTION).read_to_string(&mut text));
    let written = text.split_whitespace().last().and_then(|number| number.parse::<Time>().ok());
    match (read, written) {
        (Ok(_), Some(written)) => written >= began - USED_AGAIN,
        _ => true,
    }
}
