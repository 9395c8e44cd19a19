//! `gondola.yaml`: what the command line says, kept in the project.
//!
//! ```yaml
//! base: static
//! platforms: [linux/amd64, linux/arm64]
//! tags: ["ghcr.io/acme/{name}:v1"]
//! compression: gzip:6
//!
//! go:
//!   toolchain: golang:1.27
//!   ldflags: -s -w
//!   tags: [netgo]
//!   env: {GOAMD64: v2}
//!
//! image:
//!   env: {TZ: UTC}
//!   ports: [8080]
//!   labels: {team: shop}
//!   add: ["config/app.toml:/etc/app.toml:0644"]
//!
//! builds:
//!   - package: ./cmd/api
//!     image:
//!       cmd: [serve]
//!   - name: tools
//!     bins: [./cmd/migrate, ./cmd/seed]
//!     base: gcr.io/distroless/base-debian12
//! ```
//!
//! Three rules hold for every key. A list of one can be written as its one text. A key without a
//! value counts as absent. Where the same key is set at several places, the command line wins over
//! an entry of `builds`, and that over the top level: a text or list replaces the one below it,
//! maps are joined name by name.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::values;
use crate::golang::ModuleMode;
use crate::layer::Encoding;
use crate::oci::PlatformSet;

/// A whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GondolaYaml {
    /// What holds for every image, unless an entry of [`Self::builds`] says otherwise.
    pub settings: Settings,
    /// `builds`: the images to make when the command line names no package, and what is special
    /// about single packages when it does.
    pub builds: Vec<Build>,
}

/// An entry of `builds`: one image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// `package`: the main package of the image, or `bins`: the packages whose binaries share the
    /// image, the first being the entrypoint. Exactly one of the two keys is there.
    packages: Vec<String>,
    /// `name`: the image's short name instead of its first binary's.
    pub name: Option<String>,
    /// What differs from the top level.
    pub settings: Settings,
}

/// What can be said at the top level and again in an entry of `builds`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `base`: `static` (built in), `scratch`, or any image: `gcr.io/distroless/base`,
    /// `oci:DIR`, `oci-archive:FILE`.
    pub base: Option<String>,
    /// `platforms`: a list such as `[linux/amd64, linux/arm/v7]`, or `all` that the base offers.
    pub platforms: Option<PlatformSet>,
    /// `tags`: the image's names; `{name}` stands for its short name.
    pub tags: Option<Vec<String>>,
    /// `compression`: `gzip`, `gzip:1` to `gzip:9`, `zstd`, `zstd:1` to `zstd:19`, or `none`.
    pub compression: Option<Encoding>,
    /// `gzip-single-member`: writes gzip layers as one member, for old readers; slower.
    pub gzip_single_member: Option<bool>,
    /// `go`: how programs are compiled.
    pub go: Go,
    /// `image`: what the image holds besides, and how it runs.
    pub image: Image,
}

/// The section `go`: how programs are compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Go {
    /// `toolchain`: the Go to compile with, as for `--go`: `auto`, `host`, an image, or the path of a
    /// program.
    #[serde(deserialize_with = "values::text")]
    pub toolchain: Option<String>,
    /// `image`: the image that `auto` takes where this machine has no Go that is new enough;
    /// `{version}` in it stands for the version that `go.mod` asks for.
    #[serde(deserialize_with = "values::text")]
    pub image: Option<String>,
    /// `flags`: further flags of `go build`, one per item.
    #[serde(deserialize_with = "values::texts")]
    pub flags: Option<Vec<String>>,
    /// `ldflags`: flags for the linker, joined by spaces.
    #[serde(deserialize_with = "values::texts")]
    pub ldflags: Option<Vec<String>>,
    /// `gcflags`: arguments of `-gcflags`, such as `all=-N -l`.
    #[serde(deserialize_with = "values::texts")]
    pub gcflags: Option<Vec<String>>,
    /// `asmflags`: arguments of `-asmflags`.
    #[serde(deserialize_with = "values::texts")]
    pub asmflags: Option<Vec<String>>,
    /// `tags`: build tags, as a list or in one text between commas.
    #[serde(deserialize_with = "values::build_tags")]
    pub tags: Option<Vec<String>>,
    /// `env`: variables for `go build`, such as `GOAMD64`.
    #[serde(deserialize_with = "values::pairs")]
    pub env: BTreeMap<String, String>,
    /// `cgo`: whether C code is compiled in; needs a C compiler for each platform.
    pub cgo: Option<bool>,
    /// `vcs-stamp`: whether programs carry the revision that they were built from.
    pub vcs_stamp: Option<bool>,
    /// `mod`: where modules come from: `mod`, `readonly` or `vendor`.
    #[serde(rename = "mod")]
    pub module_mode: Option<ModuleMode>,
}

/// The section `image`: what the image holds besides, and how it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Image {
    /// `entrypoint`: the program and its fixed arguments, instead of the binary.
    #[serde(deserialize_with = "values::texts")]
    pub entrypoint: Option<Vec<String>>,
    /// `cmd`: the default arguments.
    #[serde(deserialize_with = "values::texts")]
    pub cmd: Option<Vec<String>>,
    /// `env`: variables on top of the base's.
    #[serde(deserialize_with = "values::pairs")]
    pub env: BTreeMap<String, String>,
    /// `user`: `USER[:GROUP]`, names or numbers, instead of the base's.
    #[serde(deserialize_with = "values::text")]
    pub user: Option<String>,
    /// `workdir`: the working folder, absolute, instead of the base's.
    #[serde(deserialize_with = "values::folder")]
    pub workdir: Option<String>,
    /// `ports`: ports that the program listens on, `8080` or `53/udp`; kept as `8080/tcp`.
    #[serde(deserialize_with = "values::ports")]
    pub ports: Option<Vec<String>>,
    /// `labels`: labels in the image's configuration.
    #[serde(deserialize_with = "values::pairs")]
    pub labels: BTreeMap<String, String>,
    /// `annotations`: annotations on manifests and the index; an empty value takes away one that gondola
    /// makes.
    #[serde(deserialize_with = "values::pairs")]
    pub annotations: BTreeMap<String, String>,
    /// `revision`: whether an annotation names the commit that is checked out.
    pub revision: Option<bool>,
    /// `stop-signal`: the signal that asks the program to end.
    #[serde(deserialize_with = "values::signal")]
    pub stop_signal: Option<String>,
    /// `volumes`: folders, absolute, that hold data of their own.
    #[serde(deserialize_with = "values::folders")]
    pub volumes: Option<Vec<String>>,
    /// `add`: files and folders to put into the image, `SRC:DST[:MODE]`, sources relative to the
    /// file's folder.
    #[serde(deserialize_with = "values::additions")]
    pub add: Option<Vec<String>>,
}

/// Declares a struct with the keys of [`Settings`] and further ones: serde cannot both flatten a
/// struct and refuse unknown keys.
macro_rules! keys_with_settings {
    ($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* }) => {
        #[derive(Default, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
        struct $name {
            $($(#[$attribute])* $field: $type,)*
            #[serde(deserialize_with = "values::text")]
            base: Option<String>,
            #[serde(deserialize_with = "values::platforms")]
            platforms: Option<PlatformSet>,
            #[serde(deserialize_with = "values::tags")]
            tags: Option<Vec<String>>,
            #[serde(deserialize_with = "values::compression")]
            compression: Option<Encoding>,
            gzip_single_member: Option<bool>,
            #[serde(deserialize_with = "values::section")]
            go: Go,
            #[serde(deserialize_with = "values::section")]
            image: Image,
        }

        impl $name {
            fn settings(&mut self) -> Settings {
                Settings {
                    base: self.base.take(),
                    platforms: self.platforms.take(),
                    tags: self.tags.take(),
                    compression: self.compression.take(),
                    gzip_single_member: self.gzip_single_member.take(),
                    go: std::mem::take(&mut self.go),
                    image: std::mem::take(&mut self.image),
                }
            }
        }
    };
}

keys_with_settings!(FileKeys {
    #[serde(deserialize_with = "values::section")]
    builds: Vec<Build>,
});

keys_with_settings!(BuildKeys {
    #[serde(deserialize_with = "values::text")]
    package: Option<String>,
    #[serde(deserialize_with = "values::names")]
    bins: Option<Vec<String>>,
    #[serde(deserialize_with = "values::text")]
    name: Option<String>,
});

impl<'de> Deserialize<'de> for GondolaYaml {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut keys = FileKeys::deserialize(from)?;
        Ok(Self { settings: keys.settings(), builds: keys.builds })
    }
}

impl<'de> Deserialize<'de> for Build {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut keys = BuildKeys::deserialize(from)?;
        let settings = keys.settings();
        let packages = match (keys.package, keys.bins) {
            (Some(package), None) => vec![package],
            (None, Some(bins)) if !bins.is_empty() => bins,
            (None, Some(_)) => return Err(D::Error::custom("the list of bins is empty")),
            (Some(_), Some(_)) => {
                return Err(D::Error::custom("a build has a package or bins, not both"));
            }
            (None, None) => {
                return Err(D::Error::custom("the build has no package and no bins"));
            }
        };
        Ok(Self { packages, name: keys.name, settings })
    }
}

impl Build {
    /// The packages whose binaries are in the image, the entrypoint's first; at least one.
    pub fn packages(&self) -> &[String] {
        &self.packages
    }

    /// The same, to be written as they are from another folder.
    pub fn packages_mut(&mut self) -> &mut [String] {
        &mut self.packages
    }
}

impl Settings {
    /// These settings, and where they are silent those `below`.
    #[must_use]
    pub fn over(self, below: Settings) -> Settings {
        Settings {
            base: self.base.or(below.base),
            platforms: self.platforms.or(below.platforms),
            tags: self.tags.or(below.tags),
            compression: self.compression.or(below.compression),
            gzip_single_member: self.gzip_single_member.or(below.gzip_single_member),
            go: self.go.over(below.go),
            image: self.image.over(below.image),
        }
    }
}

impl Go {
    fn over(self, below: Go) -> Go {
        Go {
            toolchain: self.toolchain.or(below.toolchain),
            image: self.image.or(below.image),
            flags: self.flags.or(below.flags),
            ldflags: self.ldflags.or(below.ldflags),
            gcflags: self.gcflags.or(below.gcflags),
            asmflags: self.asmflags.or(below.asmflags),
            tags: self.tags.or(below.tags),
            env: joined(self.env, below.env),
            cgo: self.cgo.or(below.cgo),
            vcs_stamp: self.vcs_stamp.or(below.vcs_stamp),
            module_mode: self.module_mode.or(below.module_mode),
        }
    }
}

impl Image {
    fn over(self, below: Image) -> Image {
        Image {
            entrypoint: self.entrypoint.or(below.entrypoint),
            cmd: self.cmd.or(below.cmd),
            env: joined(self.env, below.env),
            user: self.user.or(below.user),
            workdir: self.workdir.or(below.workdir),
            ports: self.ports.or(below.ports),
            labels: joined(self.labels, below.labels),
            annotations: joined(self.annotations, below.annotations),
            revision: self.revision.or(below.revision),
            stop_signal: self.stop_signal.or(below.stop_signal),
            volumes: self.volumes.or(below.volumes),
            add: self.add.or(below.add),
        }
    }
}

fn joined(
    above: BTreeMap<String, String>,
    mut below: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    below.extend(above);
    below
}
