//! What users of the go command and of ko are used to, and what does not count here: one note each, with
//! what to write instead. Values are not shown.

use std::path::Path;

use super::{BuildArgs, settings_file};
use crate::cli::environment::Environment;
use crate::oci::Platform;
use crate::pipeline::{Programs, Settings};

/// Variables by which the go command is told what to build, and what says the same here.
const VARIABLES: [(&str, &str); 9] = [
    ("GOOS", "--platform OS/ARCHITECTURE"),
    ("GOARCH", "--platform linux/ARCHITECTURE"),
    ("GOARM", "--platform linux/arm/vN"),
    ("GOAMD64", "--platform linux/amd64/vN, or --go-env GOAMD64"),
    ("GOARM64", "--go-env GOARM64=…"),
    ("GO386", "--go-env GO386=…"),
    ("GOEXPERIMENT", "--go-env GOEXPERIMENT=…"),
    ("CGO_ENABLED", "--cgo"),
    ("GOFLAGS", "--go-flag FLAG, --build-tags or --mod"),
];

/// What is said of the things that do not count.
pub(super) fn notes(
    args: &BuildArgs,
    environment: &Environment,
    programs: &Programs,
) -> Vec<String> {
    let is_in_file = |name: &str| {
        programs.targets.iter().any(|target| target.settings.go.env.contains_key(name))
    };
    let unused =
        |(name, _): &&(&str, &str)| is_unused(name, args, environment) && !is_in_file(name);
    let mut notes: Vec<String> = VARIABLES.iter().filter(unused).map(note).collect();
    let file = environment.folder.join(".ko.yaml");
    if file.is_file() && args.prebuilt.is_empty() {
        notes.push(
            ".ko.yaml is not read: what it says goes into gondola.yaml, or on the command line"
                .to_owned(),
        );
    }
    notes.extend(other_settings(args, &environment.folder));
    let overrides = programs.overrides.iter().map(|entry| &entry.settings);
    let settings = programs.targets.iter().map(|target| &target.settings).chain(overrides);
    if settings.into_iter().any(has_template) {
        notes.push(
            "flags of the compiler have {{…}} or ${…}, which goes into the program as it is; have the shell \
             fill it in: --ldflags \"-X main.version=$(git describe --tags)\""
                .to_owned(),
        );
    }
    notes
}

/// What is said of settings here where those of the folder that is built go before them.
fn other_settings(args: &BuildArgs, here: &Path) -> Option<String> {
    let read = settings_file::of(args, here).filter(|file| !file.is_named)?;
    let other = settings_file::found_here(here)?;
    let followed = |path: &Path| fs_err::canonicalize(path).ok();
    if followed(&other.path) == followed(&read.path) {
        return None;
    }
    Some(format!("{} here is not read: {} goes before it", other.shown, read.shown))
}

fn note((name, instead): &(&str, &str)) -> String {
    format!("{name} of the environment changes nothing here; write {instead}")
}

fn is_unused(name: &str, args: &BuildArgs, environment: &Environment) -> bool {
    let Some(value) = environment.get(name) else { return false };
    let is_typed = args.go.go_env.iter().any(|typed| typed.split('=').next() == Some(name));
    let has_platform = !args.result.platform.is_empty() || !args.prebuilt.is_empty();
    let host = Platform::host();
    !is_typed
        && match name {
            "GOOS" => !has_platform && value != host.os,
            "GOARCH" => !has_platform && value != host.architecture,
            "GOARM" => !has_platform && host.architecture == "arm",
            "GOAMD64" => value != "v1",
            "CGO_ENABLED" => value == "1" && !args.go.cgo,
            "GOFLAGS" => args.go.go_flag.is_empty(),
            _ => true,
        }
}

/// Whether flags have what ko fills in.
fn has_template(settings: &Settings) -> bool {
    let go = &settings.go;
    let all = [&go.ldflags, &go.gcflags, &go.asmflags, &go.flags].into_iter().flatten();
    all.into_iter().any(|text| text.contains("{{") || text.contains("${"))
}
