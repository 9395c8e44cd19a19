//! Where results of steps are shared with other machines.
//!
//! A place holds one list of [`Records`] and the layers that these name. It can read and replace the
//! list as a whole, and nothing else: so [`merge`] brings changes in where others write, too. A new place
//! is a file here that implements [`Backend`].

pub mod registry;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::engine::LayerRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::Digest;

/// A list has at most so many records: the least recently used go first.
pub const MOST_RECORDS: usize = 2000;
/// A record that nobody used for so long goes, in seconds.
pub const LONGEST_UNUSED: i64 = 90 * DAY;
/// A use is noted anew after so long.
const USE_NOTED: i64 = 7 * DAY;
const DAY: i64 = 24 * 60 * 60;
/// Keys that look at no files which lead to one record.
const MOST_ASKED: usize = 8;

/// How often changes are brought in again because others wrote at the same time.
const MOST_ATTEMPTS: u32 = 8;
/// The longest pause in which another writer may come to its end.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// What is known of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The step's key.
    pub key: String,
    /// Keys that look at no files and lead to it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub asked: BTreeSet<String>,
    /// When it was executed, as histories write it.
    pub created: String,
    /// When it really was executed, in seconds since 1970.
    pub executed: i64,
    /// When it was last used, about, likewise.
    pub used: i64,
    /// What it added.
    pub layer: LayerRecord,
    /// Which results of programs it was made of: whoever has others must not use it. Steps that were made
    /// of none, or by earlier versions, do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_of: Option<String>,
}

impl Record {
    /// Says what is wrong with a record of somebody else.
    fn check(&self) -> Result<(), &'static str> {
        let media_type = &self.layer.media_type;
        if media_type.layer_compression().is_none() || media_type.is_foreign_layer() {
            return Err("its layer is of no type of layers");
        }
        if self.created.parse::<jiff::Timestamp>().is_err() {
            return Err("its time is none");
        }
        Ok(())
    }
}

/// What a place holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    by_key: BTreeMap<String, Record>,
    asked: BTreeMap<String, String>,
}

/// The form of the list.
const VERSION: u32 = 1;

/// How a list is written.
#[derive(Serialize, Deserialize)]
struct List {
    version: u32,
    records: Vec<Record>,
}

/// What is read of a list of whatever version.
#[derive(Deserialize)]
struct AnyList {
    version: serde_json::Value,
}

/// Why what is in the place of a list is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoList {
    /// It is broken: another may take its place.
    Broken(String),
    /// It is of a form that this program does not know, such as a newer one: it stays as it is.
    Unknown(String),
}

impl Records {
    /// Reads a list; says why it is none. Records with something wrong are told to `refuse` and left out.
    pub fn read(bytes: &[u8], refuse: &mut dyn FnMut(&str, &str)) -> Result<Self, NoList> {
        let broken = |error: serde_json::Error| NoList::Broken(error.to_string());
        // First the version alone: a newer list may have other records.
        let AnyList { version } = serde_json::from_slice(bytes).map_err(broken)?;
        if version != VERSION {
            let why = format!("its version is {version}, expected {VERSION}");
            return Err(NoList::Unknown(why));
        }
        let list: List = serde_json::from_slice(bytes).map_err(broken)?;
        let mut records = Self::default();
        for record in list.records {
            match record.check() {
                Ok(()) => records.insert(record),
                Err(why) => refuse(&record.key, why),
            }
        }
        Ok(records)
    }

    /// Writes the list: equal records give equal bytes.
    pub fn write(&self) -> Vec<u8> {
        let list = List { version: VERSION, records: self.by_key.values().cloned().collect() };
        serde_json::to_vec(&list).expect("a list has text and numbers only")
    }

    /// The step with a key.
    pub fn get(&self, key: &str) -> Option<&Record> {
        self.by_key.get(key)
    }

    /// The step that came out of a key that looks at no files.
    pub fn get_asked(&self, asked: &str) -> Option<&Record> {
        self.by_key.get(self.asked.get(asked)?)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The layers that records name, each once.
    pub fn layers(&self) -> BTreeMap<&Digest, &LayerRecord> {
        self.by_key.values().map(|record| (&record.layer.digest, &record.layer)).collect()
    }

    fn insert(&mut self, record: Record) {
        for asked in &record.asked {
            let before = self.asked.insert(asked.clone(), record.key.clone());
            // What it led to before must not claim it: a list says so step by step, in any order.
            if let Some(before) = before.filter(|before| *before != record.key)
                && let Some(other) = self.by_key.get_mut(&before)
            {
                other.asked.remove(asked);
            }
        }
        self.by_key.insert(record.key.clone(), record);
    }

    fn retain(&mut self, stays: impl Fn(&Record) -> bool) {
        self.by_key.retain(|_, record| stays(record));
        self.asked.retain(|_, key| self.by_key.contains_key(key));
    }

    /// Drops what is too old or too much.
    fn bound(&mut self, now: i64) {
        self.retain(|record| now.saturating_sub(record.used) <= LONGEST_UNUSED);
        if self.len() <= MOST_RECORDS {
            return;
        }
        let mut uses: Vec<(i64, String)> =
            self.by_key.values().map(|record| (record.used, record.key.clone())).collect();
        uses.sort();
        let gone = uses.len() - MOST_RECORDS;
        let gone: BTreeSet<String> = uses.into_iter().take(gone).map(|(_, key)| key).collect();
        self.retain(|record| !gone.contains(&record.key));
    }
}

/// What a build has to add to a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Steps that were executed.
    executed: BTreeMap<String, Record>,
    /// Keys that look at no files, and the keys of the steps that came out.
    asked: BTreeMap<String, String>,
    /// Steps whose results were used, and when.
    used: BTreeMap<String, i64>,
    /// Steps whose layers cannot be used, and these.
    broken: BTreeMap<String, Digest>,
}

impl Changes {
    /// That a step was executed.
    pub fn add_executed(&mut self, record: Record) {
        self.executed.insert(record.key.clone(), record);
    }

    /// That a key that looks at no files leads to a step.
    pub fn add_asked(&mut self, asked: &str, key: &str) {
        self.asked.insert(asked.to_owned(), key.to_owned());
    }

    /// That a result was used, where that was not noted lately.
    pub fn add_used(&mut self, record: &Record, now: i64) {
        if now.saturating_sub(record.used) > USE_NOTED {
            self.used.insert(record.key.clone(), now);
        }
    }

    /// That the layer of a step cannot be used.
    pub fn add_broken(&mut self, record: &Record) {
        self.broken.insert(record.key.clone(), record.layer.digest.clone());
    }

    /// Whether there is nothing to add.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Brings the changes into a list.
    pub fn apply(&self, records: &mut Records, now: i64) {
        records.retain(|record| self.broken.get(&record.key) != Some(&record.layer.digest));
        for ours in self.executed.values() {
            let mut record = ours.clone();
            if let Some(there) = records.get(&ours.key) {
                // Another machine may have executed it later.
                if there.executed > ours.executed {
                    record = there.clone();
                }
                record.asked.extend(there.asked.iter().cloned());
            }
            records.insert(record);
        }
        for (asked, key) in &self.asked {
            if let Some(mut record) = records.get(key).cloned() {
                if record.asked.len() >= MOST_ASKED {
                    record.asked.clear();
                    records.asked.retain(|_, of| of != key);
                }
                record.asked.insert(asked.clone());
                records.insert(record);
            }
        }
        for (key, used) in &self.used {
            if let Some(record) = records.by_key.get_mut(key) {
                record.used = record.used.max(*used);
            }
        }
        records.bound(now);
    }

    /// Steps whose layers are not there are not told of.
    fn drop_layers(&mut self, lost: &BTreeSet<Digest>) {
        self.executed.retain(|_, record| !lost.contains(&record.layer.digest));
    }

    /// A number that differs between builds, so that those which wrote at once do not do so again.
    fn number(&self) -> u32 {
        let mut hasher = blake3::Hasher::new();
        self.executed.iter().for_each(|(key, record)| {
            hasher.update(key.as_bytes()).update(record.layer.digest.as_str().as_bytes());
        });
        u32::from(hasher.finalize().as_bytes()[0])
    }
}

/// A place for records and layers.
pub trait Backend: Send + Sync {
    /// What messages call it.
    fn display_name(&self) -> String;

    /// The list as it is now; an empty one where there is none yet. Errs with [`ErrorKind::Corrupt`] or
    /// [`ErrorKind::Invalid`] where a broken one is there, and with [`ErrorKind::Unsupported`] where what
    /// is there is something else, or newer.
    fn read(&self) -> BoxFuture<'_, Result<Records>>;

    /// Puts another list in its place. All layers that it names must be there.
    fn replace<'a>(&'a self, records: &'a Records) -> BoxFuture<'a, Result<()>>;

    /// Brings a layer into the store, and makes sure that it is what it is said to be.
    fn fetch<'a>(&'a self, layer: &'a LayerRecord) -> BoxFuture<'a, Result<()>>;

    /// Puts a layer of the store there.
    fn put_layer<'a>(&'a self, layer: &'a LayerRecord) -> BoxFuture<'a, Result<()>>;

    /// Whether a layer is there.
    fn has_layer<'a>(&'a self, layer: &'a LayerRecord) -> BoxFuture<'a, Result<bool>>;
}

/// Brings changes into the list of a place in which others may write at the same time.
///
/// A list is read, changed and written as a whole; whoever read it before that and writes it after that
/// takes the changes away again. So it is read again when such a writer has come to its end: that takes
/// about as long as it took here. What is missing then is added once more.
pub async fn merge(backend: &dyn Backend, mut changes: Changes, now: i64) -> Result<()> {
    for attempt in 1..=MOST_ATTEMPTS {
        let began = tokio::time::Instant::now();
        let before = read_or_empty(backend).await?;
        let mut after = before.clone();
        changes.apply(&mut after, now);
        if after == before {
            return Ok(());
        }
        if let Err(error) = backend.replace(&after).await {
            // A registry may have lost layers of others, and takes no list that names them.
            let lost = lost_layers(backend, &after).await;
            if lost.is_empty() {
                return Err(error);
            }
            changes.drop_layers(&lost);
            after.retain(|record| !lost.contains(&record.layer.digest));
            backend.replace(&after).await?;
        }
        let pause = began.elapsed() * (2 + attempt) + began.elapsed() * changes.number() / 128;
        tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
    }
    Ok(())
}

/// A broken list is none. What is something else stays, and is the error.
async fn read_or_empty(backend: &dyn Backend) -> Result<Records> {
    match backend.read().await {
        Err(error) if is_wrong(&error) => Ok(Records::default()),
        read => read,
    }
}

/// Whether what is there is broken, and not out of reach.
pub fn is_wrong(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid)
}

/// Whether what is there is something else than a list of ours, which must stay as it is.
pub fn is_unknown(error: &Error) -> bool {
    error.kind() == ErrorKind::Unsupported
}

async fn lost_layers(backend: &dyn Backend, records: &Records) -> BTreeSet<Digest> {
    let mut lost = BTreeSet::new();
    for (digest, layer) in records.layers() {
        if matches!(backend.has_layer(layer).await, Ok(false)) {
            lost.insert(digest.clone());
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;
    use std::sync::Mutex;

    const NOW: i64 = 1_800_000_000;

    fn record(key: &str) -> Record {
        Record {
            key: key.to_owned(),
            asked: BTreeSet::new(),
            created: "2026-01-02T03:04:05Z".to_owned(),
            executed: NOW,
            used: NOW,
            layer: LayerRecord {
                media_type: MediaType::OCI_LAYER_GZIP,
                digest: Digest::of(key.as_bytes()),
                size: 5,
                diff_id: Digest::of(b"archive"),
            },
            made_of: None,
        }
    }

    fn changes(keys: &[&str]) -> Changes {
        let mut changes = Changes::default();
        for key in keys {
            changes.add_executed(record(key));
        }
        changes
    }

    #[test]
    fn lists_come_back_as_they_were_and_wrong_records_are_left_out() {
        let mut records = Records::default();
        let mut with_alias = record("a");
        with_alias.asked.insert("asked".to_owned());
        records.insert(with_alias.clone());
        records.insert(record("b"));
        let bytes = records.write();
        let mut refused = Vec::new();
        let mut refuse = |key: &str, why: &str| refused.push(format!("{key}: {why}"));
        assert_eq!(Records::read(&bytes, &mut refuse), Ok(records.clone()));
        assert_eq!(records.get_asked("asked"), Some(&with_alias));
        let text = String::from_utf8(bytes).unwrap();
        let wrong = text.replacen("2026-01-02T03:04:05Z", "soon", 1);
        assert_eq!(Records::read(wrong.as_bytes(), &mut refuse).unwrap().len(), 1);
        let wrong = text.replacen("layer.v1.tar+gzip", "else", 1);
        assert_eq!(Records::read(wrong.as_bytes(), &mut refuse).unwrap().len(), 1);
        assert_eq!(refused, ["a: its time is none", "a: its layer is of no type of layers"]);
        let newer = text.replacen("\"version\":1", "\"version\":2", 1);
        let other = newer.replace("\"records\":[", "\"steps\":[");
        for newer in [newer, other] {
            let why = "its version is 2, expected 1".to_owned();
            let read = Records::read(newer.as_bytes(), &mut |_, _| {});
            assert_eq!(read, Err(NoList::Unknown(why)));
        }
        let broken = Records::read(b"{\"records\":[]}", &mut |_, _| {});
        assert!(matches!(broken, Err(NoList::Broken(_))), "{broken:?}");
    }

    #[test]
    fn a_list_is_bounded_in_age_and_number_and_a_use_makes_young_again() {
        let mut records = Records::default();
        for number in 0..i64::try_from(MOST_RECORDS).unwrap() + 5 {
            records.insert(Record { used: NOW - number, ..record(&number.to_string()) });
        }
        let old = Record { used: NOW - LONGEST_UNUSED - 1, ..record("old") };
        records.insert(old.clone());
        let mut kept = records.clone();
        let mut changes = Changes::default();
        changes.add_used(&old, NOW);
        changes.add_used(&record("0"), NOW);
        assert_eq!(changes.used.len(), 1, "a use that was noted lately is not noted again");
        changes.apply(&mut kept, NOW);
        assert_eq!(kept.len(), MOST_RECORDS);
        assert!(kept.get("old").is_some() && kept.get("0").is_some());
        assert!(kept.get(&(MOST_RECORDS + 4).to_string()).is_none());
        records.bound(NOW);
        assert!(records.get("old").is_none());
    }

    #[test]
    fn what_was_executed_last_counts_and_broken_layers_go() {
        let mut records = Records::default();
        records.insert(Record { executed: NOW + 10, ..record("later") });
        records.insert(record("broken"));
        let mut repaired = changes(&["later", "new"]);
        repaired.add_broken(&record("broken"));
        repaired.add_asked("asked", "new");
        repaired.apply(&mut records, NOW);
        assert_eq!(records.get("later").unwrap().executed, NOW + 10);
        assert!(records.get("broken").is_none());
        assert_eq!(records.get_asked("asked").unwrap().key, "new");
        let mut other = record("broken");
        other.layer.digest = Digest::of(b"another");
        records.insert(other);
        repaired.apply(&mut records, NOW);
        assert!(records.get("broken").is_some(), "it was made again by somebody else");
    }

    /// A place in memory. After each read another writer replaces the list by what it read before.
    #[derive(Default)]
    struct Contended {
        list: Mutex<Records>,
        others: Mutex<Vec<Changes>>,
        lost: BTreeSet<Digest>,
        is_unreadable: Option<ErrorKind>,
    }

    impl Backend for Contended {
        fn display_name(&self) -> String {
            "memory".to_owned()
        }

        fn read(&self) -> BoxFuture<'_, Result<Records>> {
            let list = self.list.lock().unwrap().clone();
            let error = self.is_unreadable.map(|kind| Error::new(kind, "read the list"));
            Box::pin(async move { error.map_or(Ok(list), Err) })
        }

        fn replace<'a>(&'a self, records: &'a Records) -> BoxFuture<'a, Result<()>> {
            let is_refused = records.layers().keys().any(|digest| self.lost.contains(*digest));
            if !is_refused {
                let mut list = self.list.lock().unwrap();
                // It has read the list before ours is there, and writes after us.
                let before = list.clone();
                *list = records.clone();
                if let Some(other) = self.others.lock().unwrap().pop() {
                    *list = before;
                    other.apply(&mut list, NOW);
                }
            }
            let failed = Error::new(ErrorKind::Io, "replace the list");
            Box::pin(async move { if is_refused { Err(failed) } else { Ok(()) } })
        }

        fn fetch<'a>(&'a self, _: &'a LayerRecord) -> BoxFuture<'a, Result<()>> {
            Box::pin(async { Ok(()) })
        }

        fn put_layer<'a>(&'a self, _: &'a LayerRecord) -> BoxFuture<'a, Result<()>> {
            Box::pin(async { Ok(()) })
        }

        fn has_layer<'a>(&'a self, layer: &'a LayerRecord) -> BoxFuture<'a, Result<bool>> {
            let is_there = !self.lost.contains(&layer.digest);
            Box::pin(async move { Ok(is_there) })
        }
    }

    #[tokio::test]
    async fn what_another_writer_takes_away_is_added_again() {
        let backend = Contended::default();
        *backend.others.lock().unwrap() = vec![changes(&["y"]), changes(&["x"])];
        merge(&backend, changes(&["a", "b"]), NOW).await.unwrap();
        let list = backend.list.lock().unwrap();
        let keys: Vec<&String> = list.by_key.keys().collect();
        assert_eq!(keys, ["a", "b", "x", "y"]);
    }

    #[tokio::test]
    async fn records_whose_layers_are_lost_are_dropped_and_the_others_stay() {
        let mut backend = Contended::default();
        backend.list.lock().unwrap().insert(record("lost"));
        backend.lost.insert(Digest::of(b"lost"));
        merge(&backend, changes(&["a"]), NOW).await.unwrap();
        let list = backend.list.lock().unwrap();
        assert!(list.get("a").is_some() && list.get("lost").is_none());
    }

    #[tokio::test]
    async fn a_broken_list_is_replaced_and_what_is_something_else_stays() {
        for (kind, is_replaced) in [
            (ErrorKind::Corrupt, true),
            (ErrorKind::Invalid, true),
            (ErrorKind::Unsupported, false),
            (ErrorKind::Denied, false),
        ] {
            let backend = Contended { is_unreadable: Some(kind), ..Contended::default() };
            let merged = merge(&backend, changes(&["a"]), NOW).await;
            assert_eq!(merged.is_ok(), is_replaced, "{kind:?}");
            let is_there = backend.list.lock().unwrap().get("a").is_some();
            assert_eq!(is_there, is_replaced, "{kind:?}");
        }
    }
}
