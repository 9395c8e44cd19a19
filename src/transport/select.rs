//! Choosing platforms of an artifact.

use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind, Result};
use crate::image::{Artifact, Image, TaggedArtifact};
use crate::oci::{Descriptor, Document, Index, Platform, PlatformSet};

/// An image of an artifact, or an entry that stands for one.
struct Offer<'a> {
    platform: Platform,
    /// How the index lists it; for a lone image, its own descriptor.
    entry: Descriptor,
    image: Option<&'a Image>,
}

/// Takes the platforms that are wanted: all of it, one image, or an index over several.
///
/// An index that holds exactly the wanted images in the wanted order is kept as it is. `name` is
/// what the artifact is called in messages.
pub(super) fn select(artifact: Artifact, wanted: &PlatformSet, name: &str) -> Result<Artifact> {
    let PlatformSet::Listed(listed) = wanted else { return Ok(artifact) };
    let offers = offers(&artifact);
    let mut seen = BTreeSet::new();
    let mut chosen = Vec::new();
    for platform in listed {
        let (entry, image) = choose(&offers, platform, name)?;
        if seen.insert(entry.digest.clone()) {
            chosen.push((entry, image));
        }
    }
    match &artifact {
        Artifact::Index { document, .. } if chosen.len() > 1 => {
            let same = document.value().manifests.iter().map(|entry| &entry.digest);
            if same.eq(chosen.iter().map(|(entry, _)| &entry.digest)) {
                return Ok(artifact);
            }
            Ok(subset(document, chosen))
        }
        _ => {
            let (_, image) = chosen.into_iter().next().expect("lists of platforms are not empty");
            Ok(Artifact::Image(image))
        }
    }
}

/// [`select`] for several artifacts.
pub(super) fn select_each(
    images: Vec<TaggedArtifact>,
    wanted: &PlatformSet,
    name: &str,
) -> Result<Vec<TaggedArtifact>> {
    let selected = images.into_iter().map(|TaggedArtifact { artifact, references }| {
        Ok(TaggedArtifact { artifact: select(artifact, wanted, name)?, references })
    });
    selected.collect()
}

/// The platforms that there are, without what is no image.
fn offers(artifact: &Artifact) -> Vec<Offer<'_>> {
    match artifact {
        Artifact::Other { .. } => Vec::new(),
        Artifact::Image(image) => vec![offer(image.manifest.descriptor(), image)],
        Artifact::Index { document, children } => {
            let entries = document.value().manifests.iter();
            entries.flat_map(|entry| offers_of_entry(entry, children)).collect()
        }
    }
}

fn offers_of_entry<'a>(entry: &Descriptor, children: &'a [Artifact]) -> Vec<Offer<'a>> {
    let child = children.iter().find(|child| *child.digest() == entry.digest);
    match (child, &entry.platform) {
        (Some(Artifact::Image(image)), _) => vec![offer(entry, image)],
        (Some(other), _) => offers(other),
        (None, Some(platform)) if !platform.is_unknown() => {
            vec![Offer { platform: platform.clone(), entry: entry.clone(), image: None }]
        }
        (None, _) => Vec::new(),
    }
}

/// The index's word on the platform counts: old configs lack the variant.
fn offer<'a>(entry: &Descriptor, image: &'a Image) -> Offer<'a> {
    let platform = entry.platform.clone().unwrap_or_else(|| image.platform().clone());
    let entry = Descriptor { platform: Some(platform.clone()), ..entry.clone() };
    Offer { platform, entry, image: Some(image) }
}

fn choose(offers: &[Offer<'_>], wanted: &Platform, name: &str) -> Result<(Descriptor, Image)> {
    let found = offers.iter().find_map(|offer| match offer.image {
        Some(image) if offer.platform.satisfies(wanted) => {
            Some((offer.entry.clone(), image.clone()))
        }
        _ => None,
    });
    found.ok_or_else(|| {
        let names: Vec<String> = offers.iter().map(|offer| offer.platform.to_string()).collect();
        let error = Error::new(ErrorKind::NotFound, format!("read {name} for {wanted}"));
        if names.is_empty() {
            return error.because("it holds no image");
        }
        let error = error.because(format!("it is for {}", names.join(", ")));
        let wanted = wanted.to_string();
        match names.iter().max_by(|a, b| likeness(a, &wanted).total_cmp(&likeness(b, &wanted))) {
            Some(nearest) => error.hint(format!("the nearest is --platform {nearest}")),
            None => error,
        }
    })
}

/// Platforms of one system and architecture are near, whatever the rest says.
fn likeness(offered: &str, wanted: &str) -> f64 {
    let base = |name: &str| name.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
    let same = if base(offered) == base(wanted) { 1.0 } else { 0.0 };
    same + strsim::jaro_winkler(offered, wanted)
}

/// An index that is like `whole` but for its entries.
fn subset(whole: &Document<Index>, chosen: Vec<(Descriptor, Image)>) -> Artifact {
    let (entries, images): (Vec<_>, Vec<_>) = chosen.into_iter().unzip();
    let index = Index { manifests: entries, ..whole.value().clone() };
    let document = Document::new(whole.media_type().clone(), index);
    Artifact::Index { document, children: images.into_iter().map(Artifact::Image).collect() }
}
