//! Base images: the one image of a base that a platform needs, and what is noted of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BaseChoice, BuildContext, ProgramRequest, Settings};
use crate::engine::materials::BaseImage;
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Artifact, Draft, Image, static_base};
use crate::oci::{Digest, Platform, PlatformSet, Reference, annotation};
use crate::progress::{Explanation, Origin, TaskKind};
use crate::transport::{self, Location};

/// The kind of the store's records that say what the base of a build was.
const RECORDS: &str = "program-base";

/// What a base was.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    digest: Digest,
    /// Its name, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// The bases of a build, each looked up once.
#[derive(Default)]
pub(super) struct Bases(Vec<(BaseChoice, Base)>);

impl Bases {
    /// Looks up the bases that say which platforms there are to build for.
    pub(super) async fn find_those_that_offer_platforms(
        &mut self,
        context: &BuildContext,
        request: &ProgramRequest,
    ) -> Result<()> {
        let overrides = request.programs.overrides.iter().map(|entry| &entry.settings);
        let all = request.programs.targets.iter().map(|target| &target.settings).chain(overrides);
        let needed = all.filter(|settings| {
            needs_base_for_platforms(&settings.base, settings.packaging.platforms.as_ref())
        });
        self.find(context, needed).await
    }

    /// Looks up the bases that are not known yet.
    pub(super) async fn find(
        &mut self,
        context: &BuildContext,
        settings: impl Iterator<Item = &Settings>,
    ) -> Result<()> {
        let mut wanted: Vec<(&BaseChoice, PlatformSet)> = Vec::new();
        for settings in settings {
            let (choice, platforms) = (&settings.base, needed(settings, context));
            if self.0.iter().any(|(known, _)| known == choice) {
                continue;
            }
            match wanted.iter_mut().find(|(other, _)| *other == choice) {
                None => wanted.push((choice, platforms)),
                Some((_, other)) if *other == platforms => {}
                Some((_, other)) => *other = PlatformSet::All,
            }
        }
        let found = wanted.iter().map(|(choice, platforms)| Base::find(context, choice, platforms));
        let found = futures_util::future::try_join_all(found).await?;
        self.0.extend(wanted.into_iter().map(|(choice, _)| choice.clone()).zip(found));
        Ok(())
    }

    /// Tells how each base was found, and whether it is the one of the build before.
    pub(super) fn explain(&self, context: &BuildContext) {
        for found in self.found() {
            let origin = match found.place {
                Location::Registry(_) => Origin::Registry,
                Location::Store(_) => Origin::Store,
                // It is where it was said to be.
                _ => continue,
            };
            let name = format!("{}, which is {}", found.place, found.artifact.digest());
            let (kind, now) = (TaskKind::Resolve, found.artifact.digest());
            let why = match context.transport.store.get_record::<Seen>(RECORDS, &found.key) {
                Some(before) if before.digest != *now => {
                    format!("it moved from {} to {now}", before.digest)
                }
                Some(_) => "it is the one of the build before".to_owned(),
                None => "it is used for the first time".to_owned(),
            };
            let why = vec![why];
            context.transport.reporter.explain(Explanation { kind, name, origin, why });
        }
    }

    /// Takes note of what each base is, for the explanations of the next build. Nothing that goes wrong
    /// with it matters to this one.
    pub(super) fn note(&self, context: &BuildContext) {
        for found in self.found() {
            let name = found.place.reference().map(Reference::familiar);
            let seen = Seen { digest: found.artifact.digest().clone(), name };
            let store = &context.transport.store;
            if store.get_record(RECORDS, &found.key).as_ref() != Some(&seen) {
                let _ = store.put_record(RECORDS, &found.key, &seen);
            }
        }
    }

    fn found(&self) -> impl Iterator<Item = &FoundBase> {
        self.0.iter().filter_map(|(_, base)| match base {
            Base::Found(found) => Some(&**found),
            Base::Static | Base::Scratch => None,
        })
    }

    /// Those that are images, as the engine says it.
    pub(super) fn images(&self) -> impl Iterator<Item = BaseImage> {
        self.0.iter().filter_map(|(_, base)| base.image())
    }

    /// A base that was looked up.
    pub(super) fn get(&self, choice: &BaseChoice) -> &Base {
        let found = self.0.iter().find(|(known, _)| known == choice);
        &found.expect("all bases were looked up before the first is asked for").1
    }

    /// The platforms to build for, for which the base needs to be known only where it decides.
    pub(super) fn platforms(&self, settings: &Settings, host: &Platform) -> Vec<Platform> {
        let wanted = settings.packaging.platforms.as_ref();
        match self.0.iter().find(|(known, _)| *known == settings.base) {
            Some((_, base)) => base.platforms(wanted, host),
            None => Base::Static.platforms(wanted, host),
        }
    }
}

/// A base, looked up once for all platforms that are built.
#[derive(Clone, Debug)]
pub(super) enum Base {
    /// The built-in base, made anew for each platform from what is compiled in.
    Static,
    /// Nothing.
    Scratch,
    /// An image that was found.
    Found(Box<FoundBase>),
}

/// A base image that came from a registry, a layout or an archive.
#[derive(Clone, Debug)]
pub(super) struct FoundBase {
    place: Location,
    artifact: Artifact,
    /// What is asked for: an image, or an index of images.
    key: String,
}

/// The platforms for which the built-in base, or none, is offered under `--platform all`.
///
/// These are the Linux ports of Go that Docker publishes images for.
const EVERY_PLATFORM: [&str; 8] = [
    "linux/386",
    "linux/amd64",
    "linux/arm/v6",
    "linux/arm/v7",
    "linux/arm64",
    "linux/ppc64le",
    "linux/riscv64",
    "linux/s390x",
];

/// The part of a base that must be known: its one image for one platform, or else all of it, for
/// an index names its base by the base's index.
fn needed(settings: &Settings, context: &BuildContext) -> PlatformSet {
    match &settings.packaging.platforms {
        None => PlatformSet::Listed(vec![context.transport.host.clone()]),
        Some(PlatformSet::Listed(listed)) if listed.len() == 1 => {
            PlatformSet::Listed(listed.clone())
        }
        Some(_) => PlatformSet::All,
    }
}

/// Whether images are made for a platform that a base offers, where it was not asked for by name.
fn is_built_for(platform: &Platform) -> bool {
    !platform.is_unknown() && platform.os == "linux"
}

impl Base {
    /// The platforms that are on offer, and that `all` passes over.
    fn passed_over(&self) -> Vec<String> {
        let Self::Found(base) = self else { return Vec::new() };
        let offered = base.artifact.images().into_iter().map(Image::platform);
        let other = offered.filter(|platform| platform.os != "linux" && !platform.is_unknown());
        other.map(Platform::to_string).collect()
    }

    /// What it is and is called, where it is an image.
    pub(super) fn image(&self) -> Option<BaseImage> {
        let Self::Found(found) = self else { return None };
        let name = match &found.place {
            Location::Registry(name) | Location::Store(Some(name)) => Some(name.familiar()),
            _ => None,
        };
        Some(BaseImage { name, digest: found.artifact.digest().clone() })
    }

    /// Looks `choice` up. Only documents are fetched; layers stay where they are.
    async fn find(
        context: &BuildContext,
        choice: &BaseChoice,
        platforms: &PlatformSet,
    ) -> Result<Self> {
        let place = match choice {
            BaseChoice::Static => return Ok(Self::Static),
            BaseChoice::Scratch => return Ok(Self::Scratch),
            BaseChoice::Image(place) => place.clone(),
        };
        let task = context.transport.reporter.start(TaskKind::Resolve, place.to_string(), None);
        let artifact = transport::read(&place, platforms, &context.transport).await?;
        task.done();
        let key = format!("{place} {platforms:?}");
        let found = Self::Found(Box::new(FoundBase { place, artifact, key }));
        let passed_over = found.passed_over();
        if *platforms == PlatformSet::All && !passed_over.is_empty() {
            context.transport.reporter.note(format!(
                "nothing is built for {}, which the base offers, too",
                passed_over.join(", ")
            ));
        }
        Ok(found)
    }

    /// The platforms to build for: those wanted, or those on offer.
    pub(super) fn platforms(&self, wanted: Option<&PlatformSet>, host: &Platform) -> Vec<Platform> {
        match (wanted, self) {
            (None, _) => vec![host.clone()],
            (Some(PlatformSet::Listed(listed)), _) => listed.clone(),
            (Some(PlatformSet::All), Self::Found(base)) => {
                let offered = base.artifact.images().into_iter().map(|i| i.platform().clone());
                offered.filter(is_built_for).collect()
            }
            (Some(PlatformSet::All), Self::Static | Self::Scratch) => {
                let parse = |name: &str| name.parse().expect("written in this file");
                EVERY_PLATFORM.map(parse).into()
            }
        }
    }

    /// The manifest for `platform`, where it is an image.
    pub(super) fn manifest_for(&self, platform: &Platform) -> Result<Option<&Digest>> {
        match self {
            Self::Static | Self::Scratch => Ok(None),
            Self::Found(base) => Ok(Some(base.image_for(platform)?.manifest.digest())),
        }
    }

    /// Starts an image for `platform` on this base.
    pub(super) fn draft(
        &self,
        platform: &Platform,
        create_static: impl FnOnce() -> Result<Draft>,
    ) -> Result<Draft> {
        match self {
            Self::Scratch => Ok(Draft::scratch(platform.clone())),
            Self::Static => create_static(),
            Self::Found(base) => {
                let image = base.image_for(platform)?;
                let mut draft = Draft::from_base(image);
                for (key, value) in base.annotations(image.manifest.digest()) {
                    draft.annotate(key, value);
                }
                Ok(draft)
            }
        }
    }

    /// The annotations for an index over images of this base.
    pub(super) fn index_annotations(&self) -> BTreeMap<String, String> {
        match self {
            Self::Found(base) => base.annotations(base.artifact.digest()),
            Self::Static | Self::Scratch => BTreeMap::new(),
        }
    }

    /// How the base is called in history entries.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Static => "static".to_owned(),
            Self::Scratch => "scratch".to_owned(),
            // A path would tie the digest to this machine.
            Self::Found(base) => base.name().unwrap_or_else(|| "a local image".to_owned()),
        }
    }
}

impl FoundBase {
    /// The image's name without its digest, where it has a name that means the same elsewhere.
    fn name(&self) -> Option<String> {
        let reference = self.place.reference()?;
        let tagged = reference.without_digest().map(|name| name.to_string());
        Some(tagged.unwrap_or_else(|| reference.repository().to_string()))
    }

    /// The image of the base for a platform.
    pub(super) fn image_for(&self, platform: &Platform) -> Result<&Image> {
        self.artifact.image_for(platform).ok_or_else(|| {
            let offered = self.artifact.images().into_iter().map(Image::platform);
            let offered: Vec<String> =
                offered.filter(|p| !p.is_unknown()).map(ToString::to_string).collect();
            Error::new(ErrorKind::NotFound, format!("build on {} for {platform}", self.place))
                .because(format!(
                    "the base has no image for {platform}, but for {}",
                    offered.join(", ")
                ))
                .hint("choose --platform from these, or another --base")
        })
    }

    /// What the OCI specification has images say of their base.
    fn annotations(&self, digest: &Digest) -> BTreeMap<String, String> {
        let mut annotations = BTreeMap::new();
        if let Some(name) = self.name() {
            annotations.insert(annotation::ANNOTATION_BASE_IMAGE_NAME.to_owned(), name);
        }
        annotations.insert(annotation::ANNOTATION_BASE_IMAGE_DIGEST.to_owned(), digest.to_string());
        annotations
    }
}

/// Whether the platforms to build for are known only once the base is.
fn needs_base_for_platforms(base: &BaseChoice, wanted: Option<&PlatformSet>) -> bool {
    matches!(base, BaseChoice::Image(_)) && wanted == Some(&PlatformSet::All)
}

/// The configuration of the built-in base.
pub(super) fn static_draft(platform: &Platform) -> Result<Draft> {
    let mut draft = Draft::scratch(platform.clone());
    *draft.container() = static_base::config(platform)?;
    Ok(draft)
}
