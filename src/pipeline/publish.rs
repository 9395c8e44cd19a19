//! Sending what was built where it should go, and writing down what it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::{BuildContext, Built};
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::image::TaggedArtifact;
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The name pinned by digest.
    pub pinned: Reference,
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

    /// Finds out before anything is built whether places and files can be written, and takes away what an
    /// earlier build wrote there: whoever reads them after a failure must not take it for ours.
    pub(super) fn check(&self) -> Result<()> {
        self.places.iter().try_for_each(transport::check)?;
        for path in [&self.iidfile, &self.metadata_file, &self.image_refs].into_iter().flatten() {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if !folder.is_none_or(std::path::Path::is_dir) {
                return Err(Error::new(ErrorKind::Usage, format!("write {}", path.display()))
                    .because("its folder does not exist"));
            }
            if fs_err::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
                fs_err::remove_file(path).cannot(|| "remove what an earlier build wrote")?;
            }
        }
        Ok(())
    }

    /// Sends `built` to every place, the local store where no other is named.
    ///
    /// What can fail without a trace comes first: files are written and moved into place before
    /// the first tag on a registry moves.
    pub(super) async fn publish(
        &self,
        context: &BuildContext,
        built: &[Built],
    ) -> Result<Vec<Published>> {
        let named: Vec<TaggedArtifact> = built.iter().map(Built::named).collect();
        for place in &self.places {
            transport::write(place, &named, &context.transport).await?;
        }
        if self.push {
            self.push_all(&named, context).await?;
        }
        if !self.push && self.places.is_empty() {
            transport::write(&Location::Store(None), &named, &context.transport).await?;
        }
        self.describe(built)?;
        Ok(built.iter().filter_map(Built::pinned).map(|pinned| Published { pinned }).collect())
    }

    async fn push_all(&self, images: &[TaggedArtifact], context: &BuildContext) -> Result<()> {
        if self.immutable_tags == ImmutableTags::Fail {
            return transport::push(images, &context.transport).await;
        }
        for image in images {
            for name in &image.references {
                let one = TaggedArtifact { references: vec![name.clone()], ..image.clone() };
                match transport::push(&[one], &context.transport).await {
                    Err(error) if is_immutable(&error) => {
                        context.transport.reporter.warn(format!("{name} stays as it is: {error}"));
                    }
                    pushed => pushed?,
                }
            }
        }
        Ok(())
    }

    fn describe(&self, built: &[Built]) -> Result<()> {
        if let Some(path) = &self.iidfile {
            write_lines(path, built.iter().map(|image| image.artifact.digest().to_string()))?;
        }
        if let Some(path) = &self.image_refs {
            let pinned = built.iter().filter_map(Built::pinned);
            write_lines(path, pinned.map(|reference| reference.to_string()))?;
        }
        if let Some(path) = &self.metadata_file {
            let bytes = canonical_json(&metadata(built));
            replace(path, &bytes)?;
        }
        Ok(())
    }
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

fn write_lines(path: &Path, lines: impl Iterator<Item = String>) -> Result<()> {
    let text: String = lines.map(|line| line + "\n").collect();
    replace(path, text.as_bytes())
}

/// Writes a file whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let action = || format!("write {}", path.display());
    let mut file = crate::disk::Unfinished::beside(path, 0o666).cannot(action)?;
    std::io::Write::write_all(&mut file, bytes).cannot(action)?;
    file.persist(path).cannot(action)
}
