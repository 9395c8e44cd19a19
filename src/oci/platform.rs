//! Platforms: operating system, architecture, variant.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Where an image runs, such as `linux/arm/v7`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `GOOS`: linux, windows, …
    #[serde(default)]
    pub os: String,
    /// `GOARCH`: amd64, arm64, arm, …
    #[serde(default)]
    pub architecture: String,
    /// `v7` for arm, `v3` for amd64, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The Windows build, `10.0.17763.1234`.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// What the system must offer.
    #[serde(
        rename = "os.features",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "super::document::null_as_default"
    )]
    pub os_features: Vec<String>,
}

impl Platform {
    /// The platform that an image gets when nothing else is asked for: Linux on this machine's
    /// architecture.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), ..Self::default() }
    }

    /// The same platform with a variant that says no more than the architecture does left out
    /// (`arm64/v8`, `amd64/v1`) and one that is implied put in (`arm` is `arm/v7`).
    #[must_use]
    pub fn normalized(&self) -> Self {
        let variant = match (self.architecture.as_str(), self.variant.as_deref()) {
            ("arm64", Some("v8" | "8")) | ("amd64", Some("v1")) | (_, Some("")) => None,
            ("arm", None) => Some("v7".to_owned()),
            (_, other) => other.map(str::to_owned),
        };
        Self { variant, ..self.clone() }
    }

    /// Whether an image for this platform is what somebody who asks for `wanted` means.
    ///
    /// A wanted Windows version matches every revision of that build.
    pub fn satisfies(&self, wanted: &Platform) -> bool {
        let (have, want) = (self.normalized(), wanted.normalized());
        have.os == want.os
            && have.architecture == want.architecture
            && have.variant == want.variant
            && version_matches(have.os_version.as_deref(), want.os_version.as_deref())
            && want.os_features.iter().all(|feature| have.os_features.contains(feature))
    }

    /// Whether this is the `unknown/unknown` under which attestations are listed in an index.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" || self.architecture == "unknown"
    }

    /// The platform as a part of a file or task name: `linux-arm-v7`.
    pub fn slug(&self) -> String {
        self.to_string().replace(['/', ':'], "-")
    }
}

fn version_matches(have: Option<&str>, want: Option<&str>) -> bool {
    match (have, want) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(have), Some(want)) => {
            have == want || have.strip_prefix(want).is_some_and(|rest| rest.starts_with('.'))
        }
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// Parses `os/architecture[/variant][:os.version]`.
    fn from_str(text: &str) -> Result<Self> {
        let fail = |why: &str| {
            Error::new(ErrorKind::Usage, format!("read platform \"{}\"", text.escape_debug()))
                .because(why)
                .hint("write os/architecture[/variant], such as linux/amd64 or linux/arm/v7")
        };
        let (name, os_version) = match text.split_once(':') {
            Some((_, "")) => return Err(fail("the version after \":\" is empty")),
            Some((name, version)) => (name, Some(version.to_owned())),
            None => (text, None),
        };
        let parts: Vec<&str> = name.split('/').collect();
        let is_word = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if !parts.iter().all(is_word) {
            return Err(fail("a part is empty or has a character that platforms do not have"));
        }
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(fail("expected two or three parts between slashes")),
        };
        let (architecture, implied) = canonical_architecture(&architecture.to_ascii_lowercase());
        let variant = variant.map(str::to_ascii_lowercase).or(implied);
        let os = os.to_ascii_lowercase();
        Ok(Self { os, architecture, variant, os_version, os_features: Vec::new() })
    }
}

/// Go's name for an architecture that other tools know by another one.
fn canonical_architecture(name: &str) -> (String, Option<String>) {
    let (name, variant) = match name {
        "x86_64" | "x86-64" => ("amd64", None),
        "aarch64" => ("arm64", None),
        "armhf" => ("arm", Some("v7")),
        "armel" => ("arm", Some("v6")),
        "i386" => ("386", None),
        other => (other, None),
    };
    (name.to_owned(), variant.map(str::to_owned))
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        if let Some(version) = &self.os_version {
            write!(f, ":{version}")?;
        }
        Ok(())
    }
}

/// Which platforms somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlatformSet {
    /// Every platform on offer.
    All,
    /// These, in this order, without repeats.
    Listed(Vec<Platform>),
}

impl FromStr for PlatformSet {
    type Err = Error;

    /// Parses `all` or a list between commas.
    fn from_str(text: &str) -> Result<Self> {
        if text == "all" {
            return Ok(Self::All);
        }
        let mut seen = BTreeMap::new();
        let mut listed = Vec::new();
        for part in text.split(',') {
            let platform: Platform = part.trim().parse()?;
            if seen.insert(platform.normalized(), ()).is_none() {
                listed.push(platform);
            }
        }
        Ok(Self::Listed(listed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_and_written() {
        for (text, expect) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/X86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("windows/amd64:10.0.17763.1", "windows/amd64:10.0.17763.1"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expect);
        }
        for bad in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/am d64", "linux/amd64:"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn matching_follows_the_implied_variants() {
        for (have, want, expect) in [
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm/v7", "linux/arm", true),
            ("linux/arm/v6", "linux/arm", false),
            ("linux/amd64", "linux/amd64/v3", false),
            ("linux/amd64/v1", "linux/amd64", true),
            ("windows/amd64:10.0.17763.99", "windows/amd64:10.0.17763", true),
            ("windows/amd64:10.0.177630", "windows/amd64:10.0.17763", false),
            ("linux/amd64", "windows/amd64", false),
        ] {
            let (have, want): (Platform, Platform) = (have.parse().unwrap(), want.parse().unwrap());
            assert_eq!(have.satisfies(&want), expect, "{have} for {want}");
        }
    }

    #[test]
    fn a_list_has_no_repeats_and_keeps_its_order() {
        let set: PlatformSet = "linux/arm64, linux/amd64,linux/arm64/v8".parse().unwrap();
        let PlatformSet::Listed(listed) = set else { panic!("not a list") };
        let names: Vec<String> = listed.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["linux/arm64", "linux/amd64"]);
        assert_eq!("all".parse::<PlatformSet>().unwrap(), PlatformSet::All);
        assert!("linux/amd64,".parse::<PlatformSet>().is_err());
    }
}
