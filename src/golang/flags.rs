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

    /// With what further flags say of tags and tools beside the options that have a place for it: both count,
    /// where `go build` would take the later alone.
    ///
    /// # Errors
    /// Where the two cannot both count: one says the opposite of the other, or has patterns of packages.
    pub fn gathered(mut self) -> Result<Self> {
        self.check_defaults()?;
        let mut words = std::mem::take(&mut self.flags).into_iter();
        while let Some(word) = words.next() {
            let name = flag_name(&word).unwrap_or_default().to_owned();
            if !TAKEN_TOGETHER.contains(&name.as_str()) || self.says_nothing_of(&name) {
                self.flags.push(word);
                continue;
            }
            let value = match word.split_once('=') {
                Some((_, value)) => value.to_owned(),
                None => words.next().unwrap_or_default(),
            };
            self.add(&name, value)?;
        }
        self.gcflags = by_pattern(&self.gcflags);
        self.asmflags = by_pattern(&self.asmflags);
        Ok(self)
    }

    /// Whether an option of its own says nothing of what a flag of `go build` says.
    fn says_nothing_of(&self, name: &str) -> bool {
        match name {
            "tags" => self.tags.is_empty(),
            "ldflags" => self.ldflags.is_empty(),
            "gcflags" => self.gcflags.is_empty(),
            "asmflags" => self.asmflags.is_empty(),
            "mod" => self.mod_mode.is_none(),
            _ => !self.vcs_stamp,
        }
    }

    /// Adds what a flag of `go build` says to the option of its own.
    fn add(&mut self, name: &str, value: String) -> Result<()> {
        let twice = |own: &str| {
            Error::new(ErrorKind::Usage, format!("pass \"-{name}={value}\" to go build"))
                .because(format!("{own} is there, too, and go build takes one of them alone"))
                .hint("write one of the two")
        };
        match name {
            "tags" => {
                let tags = value.split([',', ' ']).filter(|tag| !tag.is_empty());
                self.tags.extend(tags.map(str::to_owned));
            }
            // Joined they would be one text, in which a pattern stands in front alone.
            "ldflags" if pattern(&value).is_some() => return Err(twice("--ldflags")),
            "ldflags" => self.ldflags.push(value),
            "gcflags" => self.gcflags.push(value),
            "asmflags" => self.asmflags.push(value),
            "mod" if self.mod_mode.is_none_or(|mode| mode.as_str() != value) => {
                return Err(twice("--mod"));
            }
            "buildvcs" if !is_true(&value) => return Err(twice("--vcs-stamp")),
            _ => {}
        }
        Ok(())
    }

    /// Refuses a variable of defaults that says what an option says, too: the option would be all that counts.
    fn check_defaults(&self) -> Result<()> {
        let defaults = self.env.get("GOFLAGS").map(String::as_str).unwrap_or_default();
        let names = defaults.split_whitespace().filter_map(flag_name);
        let mut twice =
            names.filter(|name| TAKEN_TOGETHER.contains(name) && !self.says_nothing_of(name));
        match twice.next() {
            Some(name) => Err(Error::new(ErrorKind::Usage, "set GOFLAGS for go build")
                .because(format!(
                    "-{name} is in it, and a flag or gondola.yaml says the same, which alone counts"
                ))
                .hint("write all of it in one place")),
            None => Ok(()),
        }
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

/// Flags of `go build` that options of their own say, too.
const TAKEN_TOGETHER: [&str; 6] = ["tags", "ldflags", "gcflags", "asmflags", "mod", "buildvcs"];

/// The pattern of packages that flags for a tool begin with, if any: `all` of `all=-N -l`.
fn pattern(flags: &str) -> Option<&str> {
    let (pattern, _) = flags.split_once('=')?;
    (!pattern.trim_start().starts_with('-')).then_some(pattern)
}

/// One text for each pattern of packages, in which all of its flags stand: of several texts for a package
/// `go build` takes the last alone. A pattern stands where it stood last.
fn by_pattern(all: &[String]) -> Vec<String> {
    let mut joined: Vec<(Option<&str>, String)> = Vec::new();
    for flags in all {
        let own = pattern(flags);
        let earlier = joined.iter().position(|(other, _)| *other == own);
        let text = match earlier.map(|at| joined.remove(at).1) {
            Some(text) => {
                let more = own.map_or(flags.as_str(), |own| &flags[own.len() + 1..]);
                format!("{text} {more}")
            }
            None => flags.clone(),
        };
        joined.push((own, text));
    }
    joined.into_iter().map(|(_, text)| text).collect()
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
    fn what_is_said_in_two_ways_adds_up() {
        let all = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let flags = |words: &[&str]| BuildFlags { flags: all(words), ..BuildFlags::default() };
        let tags = BuildFlags { tags: all(&["y"]), ..flags(&["-tags=x,z", "-v", "--tags", "w"]) };
        let found = tags.gathered().unwrap();
        assert_eq!((found.tags, found.flags), (all(&["y", "x", "z", "w"]), all(&["-v"])));
        let linked = BuildFlags { ldflags: all(&["-s"]), ..flags(&["-ldflags=-w"]) };
        assert_eq!(linked.gathered().unwrap().ldflags, all(&["-s", "-w"]));
        let compiled = BuildFlags {
            gcflags: all(&["-N", "all=-S", "-l"]),
            ..flags(&["-gcflags=all=-m", "-asmflags=-D"])
        };
        let found = compiled.gathered().unwrap();
        assert_eq!(found.gcflags, all(&["-N -l", "all=-S -m"]));
        assert_eq!((found.asmflags, found.flags), (all(&[]), all(&["-asmflags=-D"])));
        // What is said once stays as it was typed.
        for words in [&["-tags", "x"][..], &["-ldflags=all=-s"], &["-mod=mod"], &["-buildvcs=auto"]]
        {
            assert_eq!(flags(words).gathered().unwrap(), flags(words));
        }
    }

    #[test]
    fn what_cannot_add_up_is_refused() {
        let flags =
            |word: &str| BuildFlags { flags: vec![word.to_owned()], ..BuildFlags::default() };
        let goflags = BTreeMap::from([("GOFLAGS".to_owned(), "-v -tags=x".to_owned())]);
        for (flags, why) in [
            (
                BuildFlags { ldflags: vec!["-s".to_owned()], ..flags("-ldflags=all=-w") },
                "pass \"-ldflags=all=-w\" to go build: --ldflags is there, too",
            ),
            (
                BuildFlags { mod_mode: Some(ModuleMode::Vendor), ..flags("-mod=mod") },
                "pass \"-mod=mod\" to go build: --mod is there, too",
            ),
            (
                BuildFlags { vcs_stamp: true, ..flags("-buildvcs=false") },
                "pass \"-buildvcs=false\" to go build: --vcs-stamp is there, too",
            ),
            (
                BuildFlags { tags: vec!["y".to_owned()], env: goflags, ..BuildFlags::default() },
                "set GOFLAGS for go build: -tags is in it",
            ),
        ] {
            let error = flags.gathered().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().starts_with(&format!("cannot {why}")), "{error}");
        }
        let same = BuildFlags { mod_mode: Some(ModuleMode::Vendor), ..flags("-mod=vendor") };
        assert_eq!(same.gathered().unwrap().flags, [""; 0]);
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
