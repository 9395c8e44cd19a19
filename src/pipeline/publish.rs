//! Sending what was built where it should go, and writing down what it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::materials::MaterialsSource;
use super::{BuildContext, Built};
use crate::disk::{ResultFile, WrittenResult};
use crate::engine::Materials;
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::image::TaggedArtifact;
use crate::layer::Encoding;
use crate::oci::{Reference, canonical_json};
use crate::registry::Access;
use crate::transport::{self, Location};

/// Where built images go, and which files describe them.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// Whether each name is pushed to its registry.
    pub push: bool,
    /// What a tag means that its registry does not let move.
    pub immutable_tags: ImmutableTags,
    /// Layouts, archives and other engines.
    pub places: Vec<Location>,
    /// A file for the digests alone, one on a line.
    pub iidfile: Option<PathBuf>,
    /// A JSON file that describes each image as buildx does.
    pub metadata_file: Option<PathBuf>,
    /// A file for the pinned references, one on a line.
    pub image_refs: Option<PathBuf>,
    /// Files as kaniko writes them.
    pub kaniko: KanikoFiles,
}

/// The files in which kaniko says what an image is called.
#[derive(Clone, Debug, Default)]
pub struct KanikoFiles {
    /// For the digest alone, without an end of line.
    pub digest: Option<PathBuf>,
    /// For each `REPOSITORY@DIGEST`, one on a line.
    pub names: Option<PathBuf>,
    /// For each `REPOSITORY:TAG@DIGEST`, one on a line.
    pub tagged_names: Option<PathBuf>,
}

/// What comes of a push to a tag that stands for another image and must not be moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImmutableTags {
    /// It fails.
    #[default]
    Fail,
    /// The tag stays as it is, with a warning.
    Keep,
}

/// An image where it can be found.
#[derive(Clone, Debug)]
pub struct Published {
    /// The name pinned by digest.
    pub pinned: Reference,
    materials: MaterialsSource,
}

impl Published {
    /// What it was made of. Files that say so are read now: nobody waits for them who does not ask.
    pub fn materials(&self) -> Materials {
        self.materials.read()
    }
}

impl Outputs {
    /// Asks the registries that will be pushed to for access, while other work goes on.
    pub(super) fn ask_for_access<'a>(
        &self,
        context: &BuildContext,
        tags: impl IntoIterator<Item = &'a String>,
    ) -> JoinSet<Result<()>> {
        let mut asking = JoinSet::new();
        if !self.push {
            return asking;
        }
        // Names with a placeholder are known later; their registry mostly is one of these.
        let named = tags.into_iter().filter_map(|tag| tag.parse::<Reference>().ok());
        let repositories: BTreeSet<_> = named.map(|name| name.repository().clone()).collect();
        for repository in repositories {
            let client = context.transport.client.clone();
            asking.spawn(async move { client.warm_up(&repository, Access::Push).await });
        }
        asking
    }

    /// Refuses to push an image that nothing names: its registry would be a guess.
    pub(super) fn check_name(&self, name: &str, tags: &[String]) -> Result<()> {
        if !self.push || !tags.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Usage, format!("push {name}"))
            .because("no name says which registry it goes to")
            .hint(format!("add --tag REGISTRY/{name}")))
    }

    /// Refuses places that cannot take layers as they would be compressed.
    pub(super) fn check_compression(&self, encodings: &[Encoding]) -> Result<()> {
        encodings.iter().try_for_each(|encoding| {
            let compression = encoding.compression();
            self.places.iter().try_for_each(|at| transport::check_compression(at, compression))
        })
    }

    /// Finds out before anything is built whether places and files can be written, and takes away what an
    /// earlier build wrote there: after a failure it must not be taken for this one's.
    pub(super) fn check(&self) -> Result<()> {
        self.check_with(ResultFile::check)?;
        for path in self.files() {
            if fs_err::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
                fs_err::remove_file(path).cannot(|| "remove what an earlier build wrote")?;
            }
        }
        Ok(())
    }

    /// Finds out whether places and files can be written, and touches none.
    pub(super) fn look(&self) -> Result<()> {
        self.check_with(ResultFile::look)
    }

    /// Refuses two results that would be written to one file, of which the later would be all that is left.
    ///
    /// `page` is a further file that somebody else writes.
    pub fn check_apart(&self, page: Option<&Path>) -> Result<()> {
        let archives = self.places.iter().filter_map(Location::archive);
        let mut taken: Vec<(PathBuf, &str)> = Vec::new();
        let all = self.described_files().into_iter().filter_map(|(what, path)| Some((what, path?)));
        let all = all.chain(archives.map(|path| ("archive", path)));
        for (what, path) in all.chain(page.map(|path| ("page of --timings", path))) {
            let same = same_file(path);
            // What is written to a device or a pipe takes nothing away.
            if fs_err::metadata(path).is_ok_and(|found| !found.is_file()) {
                continue;
            }
            if let Some((_, other)) = taken.iter().find(|(taken, _)| *taken == same) {
                let action = format!("write the {what} to {}", path.display());
                return Err(Error::new(ErrorKind::Usage, action)
                    .because(format!("the {other} is written there, too"))
                    .hint("name another file for one of them"));
            }
            taken.push((same, what));
        }
        Ok(())
    }

    fn check_with(&self, check: fn(&Path) -> std::io::Result<()>) -> Result<()> {
        self.check_apart(None)?;
        self.places.iter().try_for_each(transport::check)?;
        for path in self.files() {
            check_file_with(path, check)?;
        }
        Ok(())
    }

    /// Sends `built` to every place, the local store where no other is named.
    ///
    /// What can fail without a trace comes first: files are written beside their places, and layouts and archives moved into
    /// place, before the first tag on a registry moves.
    pub(super) async fn publish(
        &self,
        context: &BuildContext,
        built: &[Built],
    ) -> Result<Vec<Published>> {
        let named: Vec<TaggedArtifact> = built.iter().map(Built::named).collect();
        let descriptions = self.write_descriptions(built)?;
        let is_registry = |place: &&Location| matches!(place, Location::Registry(_));
        let (last, first): (Vec<_>, Vec<_>) = self.places.iter().partition(is_registry);
        for place in first.into_iter().chain(last) {
            transport::write(place, &named, &context.transport).await?;
        }
        if self.push {
            push(&named, self.immutable_tags, &context.transport).await?;
        }
        if !self.push && self.places.is_empty() {
            transport::write(&Location::Store(None), &named, &context.transport).await?;
        }
        // What was begun while layers were made, and is not needed, leaves nothing behind.
        context.transport.client.end_early().await;
        for (path, file) in descriptions {
            file.show().cannot(|| format!("write {}", path.display()))?;
        }
        let published = built.iter().filter_map(|built| {
            Some(Published { pinned: built.pinned()?, materials: built.materials.clone() })
        });
        Ok(published.collect())
    }

    /// Whether anything is written where the user said: on this machine, outside of the store.
    pub(super) fn writes_files(&self) -> bool {
        !self.places.is_empty() || self.files().next().is_some()
    }

    /// The files that describe what was built.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.described_files().into_iter().filter_map(|(_, path)| path)
    }

    /// The same, with what each of them holds.
    fn described_files(&self) -> [(&'static str, Option<&Path>); 6] {
        let KanikoFiles { digest, names, tagged_names } = &self.kaniko;
        [
            ("digest", &self.iidfile),
            ("metadata", &self.metadata_file),
            ("pinned reference", &self.image_refs),
            ("digest", digest),
            ("name with the digest", names),
            ("name and tag with the digest", tagged_names),
        ]
        .map(|(what, path)| (what, path.as_deref()))
    }

    /// Writes the files that describe what was built, each beside its place.
    fn write_descriptions(&self, built: &[Built]) -> Result<Vec<(&Path, WrittenResult)>> {
        let digests = || lines(built.iter().map(|image| image.artifact.digest().to_string()));
        let pinned = || lines(built.iter().filter_map(Built::pinned).map(|it| it.to_string()));
        let KanikoFiles { digest, names, tagged_names } = &self.kaniko;
        let described = [
            (&self.iidfile, &digests as &dyn Fn() -> Vec<u8>),
            (&self.image_refs, &pinned),
            (&self.metadata_file, &|| canonical_json(&metadata(built))),
            (digest, &|| digests().trim_ascii_end().to_owned()),
            (names, &|| lines(built.iter().flat_map(|image| image.names(Tags::Left)))),
            (tagged_names, &|| lines(built.iter().flat_map(|image| image.names(Tags::Kept)))),
        ];
        let described =
            described.into_iter().filter_map(|(path, text)| Some((path.as_ref()?, text)));
        let written = described.map(|(path, text)| {
            let file = ResultFile::open(path).and_then(|file| file.write(text()));
            Ok((path.as_path(), file.cannot(|| format!("write {}", path.display()))?))
        });
        written.collect()
    }
}

/// A file as it is the same under each of its names.
fn same_file(path: &Path) -> PathBuf {
    if let Ok(found) = fs_err::canonicalize(path) {
        return found;
    }
    // It is not there yet, and its folder is.
    let folder = path.parent().and_then(|folder| fs_err::canonicalize(folder).ok());
    match (folder, path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// Pushes images under all of their names.
pub async fn push(
    images: &[TaggedArtifact],
    immutable_tags: ImmutableTags,
    context: &transport::Context,
) -> Result<()> {
    if immutable_tags == ImmutableTags::Fail {
        return transport::push(images, context).await;
    }
    for image in images {
        for name in &image.references {
            let one = TaggedArtifact { references: vec![name.clone()], ..image.clone() };
            match transport::push(&[one], context).await {
                Err(error) if is_immutable(&error) => {
                    context.reporter.warn(format!("{name} stays as it is: {error}"));
                }
                pushed => pushed?,
            }
        }
    }
    Ok(())
}

/// Finds out whether a file for a result can be written. A place that can never be one is wrong usage.
pub fn check_file(path: &Path) -> Result<()> {
    check_file_with(path, ResultFile::check)
}

fn check_file_with(path: &Path, check: fn(&Path) -> std::io::Result<()>) -> Result<()> {
    let action = || format!("write {}", path.display());
    let wrong = |why: &str| Error::new(ErrorKind::Usage, action()).because(why);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        return Err(wrong("its folder does not exist"));
    }
    if path.is_dir() {
        return Err(wrong("it is a folder, expected a file"));
    }
    check(path).cannot(action)
}

/// Whether names that are pinned by a digest keep their tags.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tags {
    Kept,
    Left,
}

impl Built {
    /// The artifact with its names, as transports take it.
    fn named(&self) -> TaggedArtifact {
        TaggedArtifact { artifact: self.artifact.clone(), references: self.references.clone() }
    }

    /// The first name, pinned by digest.
    fn pinned(&self) -> Option<Reference> {
        Some(self.references.first()?.with_digest(self.artifact.digest().clone()))
    }

    /// All names, pinned by digest.
    fn names(&self, tags: Tags) -> impl Iterator<Item = String> {
        let digest = self.artifact.digest();
        self.references.iter().map(move |name| match name.tag().filter(|_| tags == Tags::Kept) {
            Some(tag) => format!("{}:{tag}@{digest}", name.repository()),
            None => format!("{}@{digest}", name.repository()),
        })
    }

    fn metadata(&self) -> Value {
        let names: Vec<String> = self.references.iter().map(ToString::to_string).collect();
        let mut entry = json!({
            "containerimage.digest": self.artifact.digest(),
            "containerimage.descriptor": self.artifact.descriptor(),
            "image.name": names.join(","),
        });
        if let Some(image) = self.artifact.as_image() {
            entry["containerimage.config.digest"] = json!(image.config.digest());
        }
        entry
    }
}

/// Whether a registry says that a tag must not be moved. There is no code for that: each has a
/// status of its own, and all of them have the word.
fn is_immutable(error: &Error) -> bool {
    error.to_string().to_ascii_lowercase().contains("immutab")
}

/// One image: its entry. Several: an object that holds each under its short name.
fn metadata(built: &[Built]) -> Value {
    match built {
        [one] => one.metadata(),
        many => {
            let entries = many.iter().map(|image| (image.name.clone(), image.metadata()));
            Value::Object(entries.collect::<Map<_, _>>())
        }
    }
}

fn lines(lines: impl Iterator<Item = String>) -> Vec<u8> {
    lines.map(|line| line + "\n").collect::<String>().into_bytes()
}
