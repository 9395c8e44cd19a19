//! What images were made of, as the engine says it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::base::Base;
use crate::engine::Materials;
use crate::engine::materials::{BaseImage, GO_CACHES, Revision, Toolchain, ToolchainOrigin};
use crate::golang::plan::ImagePlan;
use crate::golang::{self, Checkout, Package, Toolchains};
use crate::oci::Digest;

/// The file beside `go.mod` that fixes all modules that one needs.
const SUMS: &str = "go.sum";

/// The name of the folder of Go packages.
const SOURCES: &str = "local:src";

/// What an image was made of, or where that is read from when somebody asks.
#[derive(Clone, Debug)]
pub(super) enum MaterialsSource {
    /// It is known.
    Known(Materials),
    /// The image is of Go packages or of prebuilt programs.
    Programs(Box<ProgramSources>),
}

/// Where the materials of programs are read from.
#[derive(Clone, Debug)]
pub(super) struct ProgramSources {
    base: Option<BaseImage>,
    packages: Vec<Package>,
    toolchain: Option<Toolchain>,
    checkout: Option<Arc<Checkout>>,
    /// What stands for the sources of all packages that were compiled together; found out while
    /// images are on their way.
    sources: Arc<OnceLock<String>>,
}

impl MaterialsSource {
    /// Where the materials of a plan's image are.
    pub(super) fn of(image_plan: &ImagePlan, base: &Base, toolchains: &Toolchains) -> Self {
        let packages = image_plan.binaries.packages().to_vec();
        let settings = &image_plan.settings;
        let find = || toolchain(toolchains.get(&settings.toolchain, &settings.go));
        Self::Programs(Box::new(ProgramSources {
            base: base.image(),
            toolchain: (!packages.is_empty()).then(find),
            packages,
            checkout: image_plan.checkout.clone(),
            sources: Arc::default(),
        }))
    }

    /// With what stands for the sources, once that is known.
    pub(super) fn set_sources(&self, digest: Option<String>) {
        if let (Self::Programs(sources), Some(digest)) = (self, digest) {
            // Whoever has it set does so once.
            let _ = sources.sources.set(digest);
        }
    }

    /// What the image was made of. Files may be read for it.
    pub(super) fn read(&self) -> Materials {
        let sources = match self {
            Self::Known(materials) => return materials.clone(),
            Self::Programs(sources) => sources,
        };
        let mut materials = Materials {
            bases: sources.base.iter().cloned().collect(),
            toolchain: sources.toolchain.clone(),
            contexts: sources
                .sources
                .get()
                .map(|it| (SOURCES.to_owned(), it.clone()))
                .into_iter()
                .collect(),
            modules: modules(&sources.packages),
            ..Materials::default()
        };
        if !sources.packages.is_empty() {
            materials.revision = sources.checkout.as_deref().map(revision_of);
            materials.caches.insert(GO_CACHES.to_owned());
        }
        materials
    }
}

/// What a folder has checked out.
pub(super) fn revision(folder: &Path) -> Option<Revision> {
    golang::checkout(folder).as_ref().map(revision_of)
}

fn revision_of(checkout: &Checkout) -> Revision {
    Revision { source: checkout.source.clone(), revision: checkout.revision.clone() }
}

fn toolchain(found: &golang::Toolchain) -> Toolchain {
    let host = || {
        let name = found.program().file_name().unwrap_or_default();
        ToolchainOrigin::Host(name.to_string_lossy().into_owned())
    };
    let origin = found.image().cloned().map_or_else(host, ToolchainOrigin::Image);
    Toolchain { version: found.version().to_owned(), origin }
}

/// The modules of packages. One without a `go.sum` needs no other.
fn modules(packages: &[Package]) -> BTreeMap<String, Option<Digest>> {
    let mut all = BTreeMap::new();
    for package in packages {
        if let Some(module) = &package.module {
            all.entry(module.clone()).or_insert_with(|| sums(&package.workdir));
        }
    }
    all
}

fn sums(folder: &Path) -> Option<Digest> {
    let found = folder.ancestors().find(|folder| folder.join("go.mod").is_file())?;
    fs_err::read(found.join(SUMS)).ok().map(|bytes| Digest::of(&bytes))
}
