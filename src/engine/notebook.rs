//! What a step was made of, and why it is executed: what differs from the nearest time before.
//!
//! ```text
//! records/step-materials/…   what it was made of the last few times, see [`Notes`], by its place and
//!                            instruction
//! records/step-materials/<hash of the place and the number>   which instructions were there
//! ```
//! No value of an argument or variable and no content of a file is kept, but hashes of notes. Names and
//! paths are kept as they are. The records say nothing of what a step comes out as, and nothing is looked
//! up by them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::execute::Inputs;
use super::op::{Action, ExecOp, MountKind, Op};
use super::read_file::ReadFile;
use crate::error::Result;
use crate::oci::Digest;
use crate::progress::{Nearness, changes, nearest};
use crate::store::{Notes, Store};

/// The kind of the store's records that hold materials.
const RECORDS: &str = "step-materials";
/// A step that reads more files than this is explained without their names.
pub(super) const MOST_FILES: usize = 20_000;
/// How many instructions are remembered that were at one number of a stage.
const MOST_INSTRUCTIONS: usize = 4;

/// Where in a build a step is: what stays the same when its own text or files change.
#[derive(Clone, Debug)]
pub struct Place {
    /// The build, the stage and the platform.
    pub stage: String,
    /// The step's number in the stage.
    pub number: usize,
    /// The instruction as it is written.
    pub written: String,
}

/// What a step was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepMaterials {
    /// The key of the files that it worked on.
    base: String,
    /// The manifest of the image at the bottom of them.
    image: Option<Digest>,
    /// What the op says, by what it is called.
    fields: BTreeMap<String, String>,
    /// The files that it read, where they are few enough to be named.
    #[serde(with = "lines")]
    files: Option<BTreeMap<String, String>>,
    /// What stands for all that it read.
    read: String,
}

/// Names and hashes as one text, `HASH NAME//HASH NAME`: no path has two slashes in a row. There may
/// be thousands, and one text is written many times as fast.
mod lines {
    use std::collections::BTreeMap;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    const BETWEEN: &str = "//";

    #[expect(clippy::ref_option, reason = "serde asks for this form")]
    pub(super) fn serialize<S: Serializer>(
        files: &Option<BTreeMap<String, String>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let text = files.as_ref().map(|files| {
            let lines: Vec<String> =
                files.iter().map(|(name, hash)| format!("{hash} {name}")).collect();
            lines.join(BETWEEN)
        });
        text.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<BTreeMap<String, String>>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
        let lines = text.split(BETWEEN).filter(|line| !line.is_empty());
        let files = lines.map(|line| {
            let (hash, name) = line.split_once(' ')?;
            Some((name.to_owned(), hash.to_owned()))
        });
        let files: Option<_> = files.collect();
        files.map(Some).ok_or_else(|| D::Error::custom("a line has no name"))
    }
}

/// Which instructions were at a place, the last one first: the keys of their materials.
#[derive(Default, Serialize, Deserialize)]
struct Written {
    keys: Vec<String>,
}

/// The materials of earlier builds.
pub(super) struct Notebook {
    store: Store,
    notes: Notes,
}

/// What was read for an op, as far as it was looked at.
#[derive(Default)]
pub(super) struct Read {
    /// What stands for it, in the order in which the op names it.
    pub digests: Vec<Vec<u8>>,
    /// The files, where they are few enough to be named.
    pub files: Option<Vec<ReadFile>>,
}

impl Notebook {
    /// Opens the notebook of a store.
    pub(super) fn open(store: &Store) -> Result<Self> {
        Ok(Self { store: store.clone(), notes: Notes::open(store, RECORDS)? })
    }

    /// What an op is made of; nothing that was read where that was not looked at.
    pub(super) fn materials(&self, op: &Op, inputs: &Inputs, read: Option<Read>) -> StepMaterials {
        let fields = fields(op).into_iter();
        let named = |file: ReadFile| {
            let content = file.content.as_ref().map_or(&[][..], |hash| hash.as_slice());
            let hash = self.notes.hash(&[&file.state, content]);
            (file.path, hash)
        };
        let is_read = read.is_some();
        let Read { digests, files } = read.unwrap_or_default();
        let all: Vec<&[u8]> = digests.iter().map(Vec::as_slice).collect();
        let value = |value: String| self.notes.hash(&[value.as_bytes()]);
        StepMaterials {
            base: op.base.clone(),
            image: inputs.base.base.as_ref().map(|image| image.manifest.digest().clone()),
            fields: fields.map(|(name, text)| (name, value(text))).collect(),
            files: files.map(|files| files.into_iter().map(named).collect()),
            read: if is_read { self.notes.hash(&all) } else { String::new() },
        }
    }

    /// Says why a step is executed that is made of `now`, going by the nearest one before it: of the same
    /// instruction, or else of what was in its place.
    pub(super) fn why(&self, place: &Place, now: &StepMaterials) -> Vec<String> {
        let nearest = |earlier| nearest(earlier, |before| now.nearness(before));
        if let Some(before) = nearest(self.notes.at(&self.key(place))) {
            return now.differences(&before);
        }
        let others = self.written(place).keys;
        let others = others.iter().flat_map(|key| self.notes.at(key)).collect();
        match nearest(others) {
            Some(before) => {
                let mut all = now.differences(&before);
                all.insert(0, "the instruction is another one".to_owned());
                all.retain(|why| why != LOST);
                all
            }
            None => vec!["it is executed for the first time".to_owned()],
        }
    }

    /// Takes note of what a step is made of.
    pub(super) fn keep(&self, place: &Place, now: &StepMaterials) -> Result<()> {
        let key = self.key(place);
        self.notes.keep(&key, now)?;
        let mut keys = self.written(place).keys;
        if keys.first() == Some(&key) {
            return Ok(());
        }
        keys.retain(|other| *other != key);
        keys.insert(0, key);
        keys.truncate(MOST_INSTRUCTIONS);
        self.store.put_record(RECORDS, &self.number_key(place), &Written { keys })
    }

    fn written(&self, place: &Place) -> Written {
        self.store.get_record(RECORDS, &self.number_key(place)).unwrap_or_default()
    }

    /// Instructions and addresses of contexts may hold passwords: keys are hashes of them.
    fn key(&self, place: &Place) -> String {
        self.notes.hash(&[b"instruction", place.stage.as_bytes(), place.written.as_bytes()])
    }

    fn number_key(&self, place: &Place) -> String {
        self.notes.hash(&[b"number", place.stage.as_bytes(), &place.number.to_le_bytes()])
    }
}

/// Why a step is executed whose files are not told apart.
const UNNAMED: &str = "what it reads changed";
/// Why a step is executed that is made of the same as before.
pub(super) const LOST: &str = "nothing it is made of changed, but its result is not in the store";

impl StepMaterials {
    /// How near this is to another time.
    fn nearness(&self, before: &Self) -> Nearness {
        let of_base = Nearness::default().and(self.base == before.base);
        let of_fields = of_base.and_of(&before.fields, &self.fields);
        match (&before.files, &self.files) {
            (Some(before), Some(now)) => of_fields.and_of(before, now),
            _ => of_fields.and(self.read == before.read),
        }
    }

    /// What differs from another time, for people.
    fn differences(&self, before: &Self) -> Vec<String> {
        let mut all = Vec::new();
        match (&before.image, &self.image) {
            (Some(from), Some(to)) if from != to => {
                all.push(format!("the base moved from {from} to {to}"));
            }
            _ if self.base != before.base => all.push("a step below it changed".to_owned()),
            _ => {}
        }
        all.extend(changes(&before.fields, &self.fields));
        let named = match (&before.files, &self.files) {
            (Some(before), Some(now)) => changes(before, now),
            _ => Vec::new(),
        };
        let was_read = !self.read.is_empty() && !before.read.is_empty();
        if named.is_empty() && was_read && self.read != before.read {
            let is_named = before.files.is_some() && self.files.is_some();
            let unnamed = format!("{UNNAMED}: of more than {MOST_FILES} files no names are kept");
            all.push(if is_named { UNNAMED.to_owned() } else { unnamed });
        }
        all.extend(named);
        if all.is_empty() {
            all.push(LOST.to_owned());
        }
        all
    }
}

/// What an op says, by what people call it.
fn fields(op: &Op) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut add = |name: &str, value: String| all.push((name.to_owned(), value));
    if let Some(epoch) = op.epoch {
        add("SOURCE_DATE_EPOCH", epoch.to_string());
    }
    add("the compression", op.encoding.to_string());
    match &op.action {
        Action::Exec(exec) => all.extend(exec_fields(exec)),
        Action::Copy(copy) => {
            add("the list of sources", copy.sources.join("\0"));
            add("the destination", copy.path.clone());
            add("--chown", format!("{:?}", copy.owner));
            add("--chmod", format!("{:?}", copy.mode));
            add("--exclude", copy.excludes.join("\0"));
            add("--link", copy.link.to_string());
            add("--parents", copy.parents.to_string());
            add("what ADD unpacks", format!("{:?}", copy.add.as_ref().map(|add| add.unpack)));
            for (name, text) in &copy.inline {
                all.push((format!("the text <<{name}"), text.clone()));
            }
        }
        Action::MakeFolder { path, user } => {
            add("the folder", path.clone());
            add("the user", user.clone());
        }
        Action::Take(_) => {}
    }
    all
}

fn exec_fields(exec: &ExecOp) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut add = |name: &str, value: String| all.push((name.to_owned(), value));
    add("the command", exec.argv.join("\0"));
    add("the script", exec.script.as_ref().map(|script| script.text.clone()).unwrap_or_default());
    add("the working folder", exec.folder.clone());
    add("the user", exec.user.clone());
    add("the network", format!("{:?}", exec.network));
    add("--add-host", format!("{:?}", exec.hosts));
    add("--shm-size", format!("{:?}", exec.shared_memory_bytes));
    add("--ulimit", exec.limits.join("\0"));
    add("the use of Go's caches", format!("{:?}", (exec.caches.wanted, &exec.caches.read_later)));
    for (name, value) in &exec.environment {
        all.push((format!("the argument or variable {name}"), value.clone()));
    }
    for mount in &exec.mounts {
        let what = match &mount.kind {
            MountKind::Secret { id, variable, .. } => format!("secret {id} {variable:?}"),
            kind => format!("{kind:?}"),
        };
        all.push((format!("the mount at {}", mount.target), format!("{what} {}", mount.read_only)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn materials(base: &str, fields: &[(&str, &str)], files: &[(&str, &str)]) -> StepMaterials {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned())).collect()
        };
        StepMaterials {
            base: base.to_owned(),
            image: None,
            fields: map(fields),
            files: Some(map(files)),
            read: format!("{files:?}"),
        }
    }

    #[test]
    fn what_differs_is_named() {
        let before = materials("1", &[("A", "x"), ("B", "x")], &[("a", "1"), ("b", "1")]);
        for (now, expected) in [
            (before.clone(), &[LOST][..]),
            (
                materials("2", &[("A", "x"), ("B", "x")], &[("a", "1"), ("b", "1")]),
                &["a step below it changed"],
            ),
            (
                materials("1", &[("A", "y"), ("C", "x")], &[("a", "1"), ("b", "2"), ("c", "1")]),
                &["A changed", "C was added", "B was removed", "b changed", "c was added"],
            ),
        ] {
            assert_eq!(now.differences(&before), expected);
        }
        let mut not_read = before.clone();
        (not_read.files, not_read.read) = (None, String::new());
        assert_eq!(not_read.differences(&before), [LOST]);
        let mut unnamed = before.clone();
        (unnamed.files, unnamed.read) = (None, "other".to_owned());
        let many = "what it reads changed: of more than 20000 files no names are kept";
        assert_eq!(unnamed.differences(&before), [many]);
        assert_eq!(before.differences(&unnamed), [many]);
        let mut inside = before.clone();
        inside.read = "other".to_owned();
        assert_eq!(inside.differences(&before), ["what it reads changed"]);
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let mut all = materials("1", &[("A", "x")], &[("a b/c\nd", "1"), ("é \"", "2")]);
        for files in [all.files.clone(), Some(BTreeMap::new()), None] {
            all.files = files;
            let text = serde_json::to_string(&all).unwrap();
            assert_eq!(serde_json::from_str::<StepMaterials>(&text).unwrap(), all, "{text}");
        }
    }
}
