//! What images of Go packages were made of, as the engine says it.

use std::collections::BTreeMap;
use std::path::Path;

use super::base::Base;
use crate::engine::Materials;
use crate::engine::materials::{GO_CACHES, Revision, Toolchain, ToolchainOrigin};
use crate::golang::plan::ImagePlan;
use crate::golang::{self, Package, Toolchains};
use crate::oci::Digest;

/// The file beside `go.mod` that fixes all modules that one needs.
const SUMS: &str = "go.sum";

/// What the image of a plan is made of.
pub(super) fn materials(image_plan: &ImagePlan, base: &Base, toolchains: &Toolchains) -> Materials {
    let packages = image_plan.binaries.packages();
    let mut materials = Materials {
        bases: base.image().into_iter().collect(),
        modules: modules(packages),
        ..Materials::default()
    };
    if let Some(first) = packages.first() {
        let settings = &image_plan.settings;
        let found = toolchains.get(&settings.toolchain, &settings.go);
        materials.toolchain = Some(toolchain(found));
        materials.revision = revision(&first.folder);
        materials.caches.insert(GO_CACHES.to_owned());
    }
    materials
}

/// What a folder has checked out.
pub(super) fn revision(folder: &Path) -> Option<Revision> {
    let golang::Checkout { revision, source, .. } = golang::checkout(folder)?;
    Some(Revision { source, revision })
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
