//! The flags of `go build`, and the environment that its result depends on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::oci::Platform;

/// The options of a build, apart from what is built and for which platform.
///
/// Everything here but `jobs` can change the program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildFlags {
    /// Build tags.
    pub tags: Vec<String>,
    /// Pieces of one `-ldflags` argument, joined by spaces.
    pub ldflags: Vec<String>,
    /// `-gcflags` arguments, each with its own package pattern if any (`all=-N -l`).
    pub gcflags: Vec<String>,
    /// `-asmflags` arguments, like `gcflags`.
    pub asmflags: Vec<String>,
    /// Further flags of `go build`, word by word. They come last and so win.
    pub flags: Vec<String>,
    /// Environment variables for `go`, over all that gondola sets.
    pub env: BTreeMap<String, String>,
    /// Whether C code is compiled in (`CGO_ENABLED=1`).
    pub cgo: bool,
    /// Whether the race detector is compiled in; needs `cgo`.
    pub race: bool,
    /// Whether the program carries the revision that it was built from.
    pub vcs_stamp: bool,
    /// Where modules come from, if not where the go command would take them from by itself.
    pub mod_mode: Option<ModuleMode>,
    /// How many compilers run at once; the number of processors, if not given.
    #[serde(skip)]
    pub jobs: Option<usize>,
}

/// The `-mod` flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleMode {
    /// `go.mod` may be updated.
    Mod,
    /// `go.mod` must be complete.
    Readonly,
    /// Dependencies come from the vendor folder.
    Vendor,
}

impl ModuleMode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Mod => "mod",
            Self::Readonly => "readonly",
            Self::Vendor => "vendor",
        }
    }
}

/// Flags of `go build` that would put its result, or its folder, elsewhere.
const RESERVED: [&str; 4] = ["o", "C", "n", "json"];

/// Flags that bring in nothing beside the packages, and those of [`PARTIAL`].
const KNOWN: [&str; 24] = [
    "a",
    "asan",
    "asmflags",
    "buildmode",
    "buildvcs",
    "cover",
    "covermode",
    "coverpkg",
    "gcflags",
    "installsuffix",
    "ldflags",
    "mod",
    "modcacherw",
    "msan",
    "p",
    "pgo",
    "race",
    "tags",
    "toolexec",
    "trimpath",
    "v",
    "work",
    "x",
    "linkshared",
];

/// Flags that bring in other things, but no other packages.
const PARTIAL: [&str; 5] = ["buildvcs", "linkshared", "pgo", "toolexec", "a"];

/// How much of what a build reads can be listed beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visibility {
    /// All of it.
    Listed,
    /// All that decides which packages there are. A VCS stamp, a C compiler or a wrapper around
    /// the tools has a say in the program too.
    Partial,
    /// A flag may do anything.
    None,
}

impl BuildFlags {
    /// Whether other programs than Go's own take part: a C compiler, or git for the VCS stamp.
    pub fn needs_other_programs(&self) -> bool {
        self.uses_host_compiler() || self.vcs_stamp
    }

    /// Whether the result may depend on the machine's C compiler, headers and libraries.
    pub fn uses_host_compiler(&self) -> bool {
        let enabled = match self.env.get("CGO_ENABLED") {
            Some(value) => value != "0",
            None => self.cgo,
        };
        let texts = || self.ldflags.iter().chain(&self.flags);
        enabled || texts().any(|text| text.contains("linkmode") || text.contains("-extld"))
    }

    /// Refuses what would put the program elsewhere or build it for something else.
    pub(super) fn validate(&self) -> Result<()> {
        for flag in &self.flags {
            let name = flag_name(flag);
            if name.is_some_and(|name| RESERVED.contains(&name)) {
                return Err(Error::new(ErrorKind::Usage, format!("pass \"{flag}\" to go build"))
                    .because("gondola chooses where and how the program is written"));
            }
            if name == Some("trimpath")
                && flag.split_once('=').is_some_and(|(_, value)| !is_true(value))
            {
                return Err(Error::new(ErrorKind::Usage, format!("pass \"{flag}\" to go build"))
                    .because("paths of this machine are taken out of programs always"));
            }
        }
        for key in ["GOOS", "GOARCH"] {
            if self.env.contains_key(key) {
                return Err(Error::new(ErrorKind::Usage, format!("set {key} for go build"))
                    .because("the platform decides it")
                    .hint("use --platform os/architecture"));
            }
        }
        Ok(())
    }

    /// Whether `go.mod` may be updated.
    pub(super) fn may_edit_modules(&self) -> bool {
        let last = self.flags.iter().rev().find_map(|word| {
            let (name, value) = word.split_once('=')?;
            (flag_name(name) == Some("mod")).then_some(value)
        });
        last.map_or(self.mod_mode == Some(ModuleMode::Mod), |mode| mode == "mod")
    }

    /// How much of what a build reads can be listed beforehand.
    pub(super) fn visibility(&self) -> Visibility {
        let names = || self.flags.iter().filter_map(|word| flag_name(word));
        if self.env.contains_key("GOFLAGS") || names().any(|name| !KNOWN.contains(&name)) {
            return Visibility::None;
        }
        let partial = self.vcs_stamp
            || self.uses_host_compiler()
            || names().any(|name| PARTIAL.contains(&name));
        if partial { Visibility::Partial } else { Visibility::Listed }
    }

    /// The files that flags name and compilers read, with those that an overlay puts in the place
    /// of others.
    pub(super) fn named_files(&self, workdir: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for (index, word) in self.flags.iter().enumerate() {
            let Some(name @ ("pgo" | "overlay")) = flag_name(word) else { continue };
            let value = word.split_once('=').map(|(_, value)| value);
            let Some(value) = value.or(self.flags.get(index + 1).map(String::as_str)) else {
                continue;
            };
            let path = workdir.join(value);
            if name == "overlay" {
                files.extend(replacements(&path).iter().map(|file| workdir.join(file)));
            }
            files.push(path);
        }
        files
    }

    /// The arguments that `go build` and `go list` share, in which the later wins.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["-trimpath".to_owned(), format!("-buildvcs={}", self.vcs_stamp)];
        if let Some(mode) = self.mod_mode {
            arguments.push(format!("-mod={}", mode.as_str()));
        }
        if !self.tags.is_empty() {
            arguments.push(format!("-tags={}", self.tags.join(",")));
        }
        if self.race {
            arguments.push("-race".to_owned());
        }
        if !self.ldflags.is_empty() {
            arguments.push(format!("-ldflags={}", self.ldflags.join(" ")));
        }
        arguments.extend(self.gcflags.iter().map(|flags| format!("-gcflags={flags}")));
        arguments.extend(self.asmflags.iter().map(|flags| format!("-asmflags={flags}")));
        arguments.extend(self.jobs.map(|jobs| format!("-p={jobs}")));
        arguments.extend(self.flags.iter().cloned());
        arguments
    }

    /// The variables that choose the platform and shut out the machine's own habits.
    pub(super) fn environment(&self, platform: &Platform) -> Result<BTreeMap<String, String>> {
        let mut environment = BTreeMap::from([
            ("GOOS".to_owned(), platform.os.clone()),
            ("GOARCH".to_owned(), platform.architecture.clone()),
            ("CGO_ENABLED".to_owned(), if self.cgo { "1" } else { "0" }.to_owned()),
            // The user's file of defaults is read by gondola, which passes on what does not
            // change the program.
            ("GOENV".to_owned(), "off".to_owned()),
            // Not empty: an empty value would let the toolchain's own default file decide.
            ("GOFLAGS".to_owned(), "-trimpath".to_owned()),
        ]);
        if let Some((key, value)) = instruction_set(platform)? {
            environment.insert(key.to_owned(), value);
        }
        environment.extend(self.env.clone());
        Ok(environment)
    }
}

/// The files that an overlay has; one that cannot be read is for the go command to complain about.
fn replacements(overlay: &Path) -> Vec<String> {
    #[derive(Deserialize)]
    struct Overlay {
        #[serde(rename = "Replace", default)]
        replace: BTreeMap<String, String>,
    }
    let text = fs_err::read(overlay).unwrap_or_default();
    let overlay = serde_json::from_slice::<Overlay>(&text);
    overlay.map(|overlay| overlay.replace.into_values().collect()).unwrap_or_default()
}

/// The name of `-name`, `--name` or `-name=value`; none for a word that is a value.
pub(super) fn flag_name(word: &str) -> Option<&str> {
    let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    Some(name.split_once('=').map_or(name, |(name, _)| name))
}

/// The variable that fixes the instruction set, at its lowest where the platform does not say.
fn instruction_set(platform: &Platform) -> Result<Option<(&'static str, String)>> {
    let (key, lowest, known): (&str, &str, &[&str]) = match platform.architecture.as_str() {
        "amd64" => ("GOAMD64", "v1", &["v1", "v2", "v3", "v4"]),
        "386" => ("GO386", "sse2", &["sse2", "softfloat"]),
        "arm" => ("GOARM", "7", &["5", "6", "7"]),
        "arm64" => ("GOARM64", "v8.0", &[]),
        "mips" | "mipsle" => ("GOMIPS", "hardfloat", &["hardfloat", "softfloat"]),
        "mips64" | "mips64le" => ("GOMIPS64", "hardfloat", &["hardfloat", "softfloat"]),
        "ppc64" | "ppc64le" => ("GOPPC64", "power8", &["power8", "power9", "power10"]),
        "riscv64" => ("GORISCV64", "rva20u64", &["rva20u64", "rva22u64", "rva23u64"]),
        _ => match &platform.variant {
            None => return Ok(None),
            Some(_) => return Err(unknown_variant(platform, "it has no variants")),
        },
    };
    let Some(variant) = platform.variant.as_deref() else {
        return Ok(Some((key, lowest.to_owned())));
    };
    let value = match key {
        "GOARM" => variant.trim_start_matches('v').to_owned(),
        "GOARM64" => arm64_version(variant).ok_or_else(|| {
            unknown_variant(platform, "expected v8, v9 or one of them with a minor version")
        })?,
        _ => variant.to_owned(),
    };
    if key != "GOARM64" && !known.contains(&value.as_str()) {
        let expected = format!("Go knows {} for it", known.join(", "));
        return Err(unknown_variant(platform, &expected));
    }
    Ok(Some((key, value)))
}

/// `v8.0` for `v8`, `v9.2` for `9.2`; none for what is not a version of the architecture.
fn arm64_version(variant: &str) -> Option<String> {
    let version = variant.strip_prefix('v').unwrap_or(variant);
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    let is_minor = minor.len() == 1 && minor.bytes().all(|b| b.is_ascii_digit());
    (matches!(major, "8" | "9") && is_minor).then(|| format!("v{major}.{minor}"))
}

fn unknown_variant(platform: &Platform, why: &str) -> Error {
    let variant = platform.variant.as_deref().unwrap_or_default();
    Error::new(ErrorKind::Usage, format!("compile for {platform}"))
        .because(format!("unknown variant \"{variant}\" of {}: {why}", platform.architecture))
}

/// Whether Go takes a word for a switch that is on.
fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_fixes_the_instruction_set() {
        for (platform, expect) in [
            ("linux/amd64", "GOAMD64=v1"),
            ("linux/amd64/v3", "GOAMD64=v3"),
            ("linux/arm", "GOARM=7"),
            ("linux/arm/v6", "GOARM=6"),
            ("linux/arm64", "GOARM64=v8.0"),
            ("linux/arm64/v8", "GOARM64=v8.0"),
            ("linux/arm64/v9", "GOARM64=v9.0"),
            ("linux/arm64/v8.2", "GOARM64=v8.2"),
            ("linux/386", "GO386=sse2"),
            ("linux/ppc64le/power9", "GOPPC64=power9"),
            ("linux/riscv64", "GORISCV64=rva20u64"),
            ("linux/mips64le/softfloat", "GOMIPS64=softfloat"),
        ] {
            let environment = BuildFlags::default().environment(&platform.parse().unwrap());
            let (key, value) = expect.split_once('=').unwrap();
            assert_eq!(environment.unwrap()[key], value, "{platform}");
        }
        for platform in ["linux/amd64/v9", "linux/arm/v4", "linux/s390x/z15", "linux/arm64/v7"] {
            let error = BuildFlags::default().environment(&platform.parse().unwrap()).unwrap_err();
            assert!(error.to_string().contains("unknown variant"), "{error}");
        }
    }

    #[test]
    fn explicit_flags_come_last_and_the_paths_are_always_trimmed() {
        let flags = BuildFlags {
            tags: vec!["a".into(), "b".into()],
            ldflags: vec!["-s".into(), "-X main.v=1,2".into()],
            gcflags: vec!["all=-N -l".into()],
            flags: vec!["-buildvcs=auto".into()],
            mod_mode: Some(ModuleMode::Vendor),
            jobs: Some(3),
            ..BuildFlags::default()
        };
        assert_eq!(
            flags.arguments(),
            [
                "-trimpath",
                "-buildvcs=false",
                "-mod=vendor",
                "-tags=a,b",
                "-ldflags=-s -X main.v=1,2",
                "-gcflags=all=-N -l",
                "-p=3",
                "-buildvcs=auto",
            ]
        );
    }

    #[test]
    fn flags_that_move_the_result_are_refused() {
        for flag in ["-o", "-o=x", "--o=x", "-C=dir", "-n", "-trimpath=false", "--trimpath=0"] {
            let flags = BuildFlags { flags: vec![flag.into()], ..BuildFlags::default() };
            assert_eq!(flags.validate().unwrap_err().kind(), ErrorKind::Usage, "{flag}");
        }
        let env = BTreeMap::from([("GOOS".to_owned(), "linux".to_owned())]);
        let flags = BuildFlags { env, ..BuildFlags::default() };
        assert!(flags.validate().unwrap_err().to_string().contains("--platform"));
    }

    #[test]
    fn what_cannot_be_listed_is_known_from_the_flags() {
        let flags = |words: &[&str]| BuildFlags {
            flags: words.iter().map(|&word| word.to_owned()).collect(),
            ..BuildFlags::default()
        };
        for (words, expect) in [
            (&[][..], Visibility::Listed),
            (&["-tags", "x", "--trimpath", "-mod=mod"], Visibility::Listed),
            (&["-toolexec=x"], Visibility::Partial),
            (&["-pgo", "x"], Visibility::Partial),
            (&["-overlay=x"], Visibility::None),
            (&["-modfile=x"], Visibility::None),
            (&["-pgo=x", "-unknown"], Visibility::None),
        ] {
            assert_eq!(flags(words).visibility(), expect, "{words:?}");
        }
        let env = |key: &str, value: &str| BuildFlags {
            env: BTreeMap::from([(key.to_owned(), value.to_owned())]),
            ..BuildFlags::default()
        };
        let external = BuildFlags { ldflags: vec!["-linkmode=external".into()], ..flags(&[]) };
        let stamped = BuildFlags { vcs_stamp: true, ..flags(&[]) };
        let cgo = BuildFlags { cgo: true, ..flags(&[]) };
        for (flags, expect) in [
            (external, Visibility::Partial),
            (stamped, Visibility::Partial),
            (cgo, Visibility::Partial),
            (env("CGO_ENABLED", "1"), Visibility::Partial),
            (env("CGO_ENABLED", "0"), Visibility::Listed),
            (env("GOFLAGS", "-overlay=x"), Visibility::None),
        ] {
            assert_eq!(flags.visibility(), expect, "{flags:?}");
        }
    }
}
