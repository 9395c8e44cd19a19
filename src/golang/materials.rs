//! What programs were compiled of the last few times, and why they are compiled: what differs from the
//! nearest of these.
//!
//! Values of flags and variables are kept as hashes of notes, see [`Notes`]; names, versions, digests and
//! paths as they are. Nothing is looked up by it but explanations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Builder;
use super::flags::BuildFlags;
use super::freshness::{ChangedOthers, Documents, Inventory, Record, StartedAt};
use super::packages::Package;
use crate::error::Result;
use crate::oci::{Digest, Platform};
use crate::progress::{Nearness, changes, nearest};
use crate::store::{Notes, Store};

/// The kind of the store's records that hold materials.
const RECORDS: &str = "program-materials";

/// What is said of a package of which nothing changed, while something of others did.
const WITH_OTHERS: &str = "nothing it is made of changed, and it is compiled together with others";

/// What fields of packages begin with.
const PACKAGE: &str = "the package ";

/// What is said of programs that an earlier build made of the same.
const SAME: &str =
    "nothing it is made of differs from an earlier build, but its program was not kept";

/// What some packages are compiled of, beside what they read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    /// The version of Go.
    version: String,
    /// The image that Go is from.
    image: Option<Digest>,
    /// Flags, variables and the like, by what they are called.
    fields: BTreeMap<String, String>,
}

/// What some packages were compiled of.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Materials {
    asked: Asked,
    read: Inventory,
}

/// Packages that are compiled together, and how.
pub(super) struct Compilation<'a> {
    pub builder: &'a Builder,
    pub packages: &'a [Package],
    pub platforms: &'a [Platform],
    /// The folder that is built.
    pub folder: &'a Path,
    /// Whose programs are kept.
    pub scope: &'a str,
}

/// Takes note of what was compiled.
pub(super) fn keep(store: &Store, of: &Compilation<'_>, read: &Record) -> Result<()> {
    let Some(first) = of.packages.first() else { return Ok(()) };
    let notes = Notes::open(store, RECORDS)?;
    let materials = Materials { asked: of.asked(&notes), read: Inventory::of(read) };
    notes.keep(&of.place(&notes, first), &materials)
}

/// What a look at the record of the last build found.
#[derive(Default)]
pub(super) struct Found {
    /// What is said of all packages.
    pub of_all: Vec<String>,
    /// Folders of others that changed.
    pub others: ChangedOthers,
}

/// Why packages that are compiled together are.
pub struct Reasons {
    found: Found,
    nearest: Option<Compared>,
    /// The folder that is built.
    folder: PathBuf,
}

/// What an earlier build was made of, beside what this one is.
struct Compared {
    age: usize,
    before: Materials,
    now: Materials,
}

impl Reasons {
    /// Those that are known without a look at earlier builds.
    pub(super) fn of_all(found: Vec<String>) -> Self {
        Self::found(Found { of_all: found, ..Found::default() })
    }

    fn found(found: Found) -> Self {
        Self { found, nearest: None, folder: PathBuf::new() }
    }

    /// Why one of the packages is compiled.
    pub fn of(&self, package: &Package) -> Vec<String> {
        let Found { of_all, others } = &self.found;
        let Some(Compared { age, before, now }) = &self.nearest else { return of_all.clone() };
        // Where modules moved, that says it.
        let tells_of_others = !others.are_none() && before.read.modules() == now.read.modules();
        if now.differences(before, &self.folder, None).is_empty() && !tells_of_others {
            // It differs in what is not compared.
            return if *age == 0 { of_all.clone() } else { vec![SAME.to_owned()] };
        }
        let mut own = now.differences(before, &self.folder, Some(&package.import_path));
        let others = others.first_for(&package.import_path).filter(|_| tells_of_others);
        own.extend(others.map(str::to_owned));
        if own.is_empty() { vec![WITH_OTHERS.to_owned()] } else { own }
    }
}

/// Says why packages are compiled. `found` is what a look at the record of the last build found.
pub(super) fn why(store: &Store, of: &Compilation<'_>, since: &StartedAt, found: Found) -> Reasons {
    let (Some(first), Ok(notes)) = (of.packages.first(), Notes::open(store, RECORDS)) else {
        return Reasons::found(found);
    };
    let earlier: Vec<Materials> = notes.at(&of.place(&notes, first));
    let asked = of.asked(&notes);
    let compared = earlier.into_iter().enumerate().map(|(age, before)| {
        let now = Materials { asked: asked.clone(), read: before.read.now(since) };
        Compared { age, before, now }
    });
    let nearness = |of_one: &Compared| of_one.now.nearness(&of_one.before, of.folder);
    Reasons { found, nearest: nearest(compared.collect(), nearness), folder: of.folder.to_owned() }
}

impl Compilation<'_> {
    fn place(&self, notes: &Notes, first: &Package) -> String {
        let folder = self.folder.as_os_str().as_encoded_bytes();
        notes.hash(&[folder, self.scope.as_bytes(), first.import_path.as_bytes()])
    }

    fn asked(&self, notes: &Notes) -> Asked {
        let Builder { toolchain, flags, .. } = self.builder;
        let mut fields = BTreeMap::new();
        let mut add = |name: String, value: &str| {
            fields.insert(name, notes.hash(&[value.as_bytes()]));
        };
        for package in self.packages {
            add(format!("{PACKAGE}{}", package.import_path), "");
        }
        for platform in self.platforms {
            add(format!("the platform {platform}"), "");
        }
        for (name, value) in named_flags(flags) {
            add(name, &value);
        }
        for (name, value) in toolchain.named_variables(flags) {
            add(format!("the variable {name}"), &value);
        }
        add(INSTALLATION.to_owned(), &toolchain.identity(flags));
        let (version, image) = (toolchain.version().to_owned(), toolchain.image().cloned());
        Asked { version, image, fields }
    }
}

/// What stands for all of a toolchain: it is told of where nothing else of it differs.
const INSTALLATION: &str = "the installation of Go";

/// Flags by what people call them.
fn named_flags(flags: &BuildFlags) -> BTreeMap<String, String> {
    let BuildFlags { tags, ldflags, gcflags, asmflags, flags: others, .. } = flags;
    let mut all = BTreeMap::new();
    let mut add = |name: String, value: String| {
        let known: &mut String = all.entry(name).or_default();
        known.push('\0');
        known.push_str(&value);
    };
    for tag in tags {
        add(format!("the build tag {tag}"), String::new());
    }
    for (name, values) in [("--ldflags", ldflags), ("--gcflags", gcflags), ("--asmflags", asmflags)]
    {
        for value in values {
            add(name.to_owned(), value.clone());
        }
    }
    let mut last = "a further flag".to_owned();
    for word in others {
        if let Some(name) = super::flags::flag_name(word) {
            last = format!("the flag -{name}");
        }
        add(last.clone(), word.clone());
    }
    for (name, value) in &flags.env {
        add(format!("the variable {name}"), value.clone());
    }
    for (name, is_on) in
        [("--cgo", flags.cgo), ("-race", flags.race), ("--vcs-stamp", flags.vcs_stamp)]
    {
        if is_on {
            add(name.to_owned(), String::new());
        }
    }
    if let Some(mode) = flags.mod_mode {
        add("--mod".to_owned(), format!("{mode:?}"));
    }
    all
}

impl Asked {
    /// The fields that are of one package, or of all.
    fn fields_of(&self, package: Option<&str>) -> BTreeMap<String, String> {
        let is_own = |(name, _): &(&String, &String)| match (package, name.strip_prefix(PACKAGE)) {
            (Some(package), Some(path)) => package == path,
            _ => true,
        };
        let own = self.fields.iter().filter(is_own);
        own.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

impl Materials {
    fn nearness(&self, before: &Self, folder: &Path) -> Nearness {
        let files = |of: &Self| of.read.files(folder, Documents::None, None);
        let of_go = Nearness::default().and(self.asked.version == before.asked.version);
        let of_fields = of_go.and_of(&before.asked.fields, &self.asked.fields);
        of_fields.and_of(&files(before), &files(self))
    }

    /// What differs from another time, for people: for all packages, or for one.
    fn differences(&self, before: &Self, folder: &Path, package: Option<&str>) -> Vec<String> {
        let mut all = Vec::new();
        if self.asked.version != before.asked.version {
            all.push(format!("Go moved from {} to {}", before.asked.version, self.asked.version));
        }
        if let (Some(from), Some(to)) = (&before.asked.image, &self.asked.image)
            && from != to
        {
            all.push(format!("the image of Go moved from {from} to {to}"));
        }
        let fields = |of: &Self| of.asked.fields_of(package);
        let mut fields = changes(&fields(before), &fields(self));
        let of_go = format!("{INSTALLATION} ");
        if !all.is_empty() || fields.len() > 1 {
            fields.retain(|change| !change.starts_with(&of_go));
        }
        all.extend(fields);
        let moves = moves(before.read.modules(), self.read.modules());
        let without = if moves.is_empty() { Documents::None } else { Documents::OfModules };
        all.extend(moves);
        let files = |of: &Self| of.read.files(folder, without, package);
        all.extend(changes(&files(before), &files(self)));
        all
    }
}

/// Names what has another version, is new, or is gone.
fn moves(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let moved = now.iter().filter_map(|(name, to)| {
        let from = before.get(name).filter(|from| *from != to)?;
        Some(format!("{name} moved from {from} to {to}"))
    });
    let only_in = |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| {
        let names = a.iter().filter(|(name, _)| !b.contains_key(*name));
        names.map(|(name, version)| (name.clone(), version.clone())).collect::<BTreeMap<_, _>>()
    };
    let (gone, new) = (only_in(before, now), only_in(now, before));
    moved.chain(changes(&gone, &new)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_variables_have_names() {
        let flags = BuildFlags {
            tags: vec!["netgo".to_owned()],
            ldflags: vec!["-s".to_owned(), "-w".to_owned()],
            flags: ["-p", "4", "-buildmode=pie"].map(str::to_owned).into(),
            env: BTreeMap::from([("TOKEN".to_owned(), "hunter2".to_owned())]),
            cgo: true,
            ..BuildFlags::default()
        };
        let names: Vec<String> = named_flags(&flags).into_keys().collect();
        let expected = [
            "--cgo",
            "--ldflags",
            "the build tag netgo",
            "the flag -buildmode",
            "the flag -p",
            "the variable TOKEN",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn go_moves_and_its_installation_is_told_of_where_nothing_else_is() {
        let of = |version: &str, fields: &[(&str, &str)]| {
            let pairs = fields.iter().map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned()));
            let asked = Asked { version: version.to_owned(), image: None, fields: pairs.collect() };
            Materials { asked, read: Inventory::default() }
        };
        let before = of("go1.25.0", &[(INSTALLATION, "1"), ("--ldflags", "1")]);
        for (now, expected) in [
            (
                of("go1.26.0", &[(INSTALLATION, "2"), ("--ldflags", "1")]),
                "Go moved from go1.25.0 to go1.26.0",
            ),
            (
                of("go1.25.0", &[(INSTALLATION, "2"), ("--ldflags", "1")]),
                "the installation of Go changed",
            ),
            (of("go1.25.0", &[(INSTALLATION, "2"), ("--ldflags", "2")]), "--ldflags changed"),
        ] {
            assert_eq!(now.differences(&before, Path::new("/"), None), [expected]);
        }
    }

    #[test]
    fn versions_move() {
        let map = |pairs: &[(&str, &str)]| {
            let pairs =
                pairs.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned()));
            pairs.collect::<BTreeMap<_, _>>()
        };
        let before = map(&[("the module a", "v1"), ("the module b", "v1"), ("the module c", "v1")]);
        let now = map(&[("the module a", "v2"), ("the module b", "v1"), ("the module d", "v1")]);
        let expected = [
            "the module a moved from v1 to v2",
            "the module d was added",
            "the module c was removed",
        ];
        assert_eq!(moves(&before, &now), expected);
    }
}
