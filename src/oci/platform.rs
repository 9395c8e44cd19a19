//! Platforms: operating system, architecture, variant.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Operating systems that are known by their names alone.
const SYSTEMS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];
/// Architectures that are known by their names alone.
const ARCHITECTURES: [&str; 24] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

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

    /// The same platform as containerd writes it: other names of an architecture replaced
    /// (`aarch64` is `arm64`), a variant that says no more than the architecture does left out
    /// (`arm64/v8`, `amd64/v1`), and one that is implied put in (`arm` is `arm/v7`).
    #[must_use]
    pub fn normalized(&self) -> Self {
        let architecture = self.architecture.to_ascii_lowercase();
        let (architecture, implied) = canonical_architecture(&architecture);
        let own = self.variant.as_deref().map(str::to_ascii_lowercase);
        let variant = match (architecture, implied.or(own.as_deref()).unwrap_or_default()) {
            ("arm", "" | "7") => Some("v7".to_owned()),
            ("386", _) | ("arm64", "v8" | "8" | "v8.0") | ("amd64", "v1") | (_, "") => None,
            ("arm64", "9" | "9.0" | "v9.0") => Some("v9".to_owned()),
            ("arm", number @ ("5" | "6" | "8")) => Some(format!("v{number}")),
            (_, other) => Some(other.to_owned()),
        };
        let os = canonical_system(&self.os.to_ascii_lowercase()).to_owned();
        Self { os, architecture: architecture.to_owned(), variant, ..self.clone() }
    }

    /// Whether an image for this platform will do where `wanted` is asked for.
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

    /// Parses `os/architecture[/variant][:os.version]`. An operating system alone is meant on this
    /// machine's architecture, and an architecture alone is one of Linux.
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
        let host = Self::host();
        let (os, architecture, variant) = match parts[..] {
            [os] if is_system(os) => (os, host.architecture.as_str(), None),
            [architecture] if is_architecture(architecture) => {
                (host.os.as_str(), architecture, None)
            }
            [_] => return Err(fail("it is neither an operating system nor an architecture")),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(fail("expected at most three parts between slashes")),
        };
        let architecture = architecture.to_ascii_lowercase();
        let (architecture, implied) = canonical_architecture(&architecture);
        let variant = variant.map(str::to_ascii_lowercase).or(implied.map(str::to_owned));
        let architecture = architecture.to_owned();
        let os = canonical_system(&os.to_ascii_lowercase()).to_owned();
        Ok(Self { os, architecture, variant, os_version, os_features: Vec::new() })
    }
}

fn is_system(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SYSTEMS.contains(&canonical_system(&name))
}

fn is_architecture(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ARCHITECTURES.contains(&canonical_architecture(&name).0)
}

/// Go's name for an operating system.
fn canonical_system(name: &str) -> &str {
    if name == "macos" { "darwin" } else { name }
}

/// Go's name for an architecture that other tools know by another one, with the variant that the
/// other name means.
fn canonical_architecture(name: &str) -> (&str, Option<&'static str>) {
    match name {
        "x86_64" | "x86-64" => ("amd64", None),
        "aarch64" => ("arm64", None),
        "armhf" => ("arm", Some("v7")),
        "armel" => ("arm", Some("v6")),
        "i386" => ("386", None),
        other => (other, None),
    }
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

/// The platforms that are asked for.
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
        let host = Platform::host().architecture;
        for (text, expect) in [
            ("arm64", "linux/arm64".to_owned()),
            ("X86_64", "linux/amd64".to_owned()),
            ("armel", "linux/arm/v6".to_owned()),
            ("linux", format!("linux/{host}")),
            ("macOS", format!("darwin/{host}")),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expect);
        }
        for bad in ["", "linus", "linux/", "/amd64", "a/b/c/d", "linux/am d64", "linux/amd64:"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_platform_is_written_as_containerd_does() {
        for (text, expect) in [
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/7", "linux/arm/v7"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/arm/v5", "linux/arm/v5"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/aarch64/v8.0", "linux/arm64"),
            ("linux/arm64/9.0", "linux/arm64/v9"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/x86-64/v1", "linux/amd64"),
            ("linux/amd64/V3", "linux/amd64/v3"),
            ("linux/i386/x", "linux/386"),
            ("linux/riscv64", "linux/riscv64"),
            ("linux/mips64le/softfloat", "linux/mips64le/softfloat"),
            ("macos/arm64", "darwin/arm64"),
            ("windows/amd64/v1:10.0.17763.1", "windows/amd64:10.0.17763.1"),
        ] {
            let normalized = text.parse::<Platform>().unwrap().normalized();
            assert_eq!(normalized.to_string(), expect, "{text}");
            assert_eq!(normalized.normalized(), normalized, "{text}");
        }
        // What a document holds was never parsed.
        let platform = |architecture: &str, variant: &str| Platform {
            os: "Linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: Some(variant.to_owned()),
            ..Platform::default()
        };
        assert_eq!(platform("aarch64", "").normalized().to_string(), "linux/arm64");
        assert_eq!(platform("armhf", "").normalized().to_string(), "linux/arm/v7");
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
