//! From what was typed, and what `gondola.yaml` says, to what a build is asked for.
//!
//! The command line is read into the same form as the file, and laid over it.

use std::path::Path;

use super::settings_file::{self, SettingsFile};
use super::{BuildArgs, GoArgs, ImageArgs, platform};
use crate::cli::environment::Environment;
use crate::cli::flags::pair;
use crate::config::{self, GondolaYaml};
use crate::container::StopSignal;
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::golang::BuildFlags;
use crate::layer::Encoding;
use crate::oci::{Platform, PlatformSet, name_template};
use crate::pipeline::{
    BaseChoice, Grouping, ImageSettings, Override, Packaging, Prebuilt, Programs, Settings, Target,
    ToolchainChoice,
};
use crate::transport::Location;

/// Whether a base is looked up by its name.
pub fn asks_for_a_base(programs: &Programs) -> bool {
    let named = |base: &BaseChoice| {
        matches!(base, BaseChoice::Image(Location::Registry(_) | Location::Store(_)))
    };
    programs.targets.iter().any(|target| named(&target.settings.base))
}

/// The programs that `args` name.
pub fn programs(args: &BuildArgs, environment: &Environment) -> Result<Programs> {
    let file = read_file(args, &environment.folder)?;
    let typed = typed(args)?;
    let settings_of = |build: Option<&config::Build>| {
        let mut all = typed.clone();
        if let Some(build) = build {
            all = all.over(build.settings.clone());
        }
        let name = build.and_then(|build| build.name.clone());
        let all = all.over(file.settings.clone());
        check_members(all.compression, args.image.gzip_single_member, "--gzip-single-member")?;
        settings(all, name, &environment.folder)
    };
    let nothing_named = args.packages.is_empty() && args.bin.is_empty() && args.prebuilt.is_empty();
    let targets = if nothing_named && !file.builds.is_empty() {
        let target = |build: &config::Build| Ok(target_of_build(build, settings_of(Some(build))?));
        file.builds.iter().map(target).collect::<Result<_>>()?
    } else {
        vec![target_of_arguments(args, settings_of(None)?, &environment.folder)?]
    };
    let single = file.builds.iter().filter(|build| build.packages().len() == 1);
    let overrides = single.map(|build| {
        let package = build.packages()[0].clone();
        Ok(Override { package, settings: settings_of(Some(build))? })
    });
    Ok(Programs {
        folder: environment.folder.clone(),
        targets,
        overrides: overrides.collect::<Result<_>>()?,
        created: environment.source_date_epoch()?,
    })
}

/// Reads the file with settings, if one holds for what was typed.
fn read_file(args: &BuildArgs, here: &Path) -> Result<GondolaYaml> {
    let Some(found) = settings_file::of(args, here) else { return Ok(GondolaYaml::default()) };
    found.check()?;
    let mut file = read_consistent(&found.path)?;
    // What the file names lies beside it, and it may be elsewhere.
    let builds = file.builds.iter_mut().map(|build| &mut build.settings);
    for settings in builds.chain([&mut file.settings]) {
        for addition in settings.image.add.iter_mut().flatten() {
            *addition = found.resolve(addition);
        }
        if !found.is_named {
            move_places(settings, &found);
        }
    }
    let packages = file.builds.iter_mut().flat_map(config::Build::packages_mut);
    for package in packages.filter(|package| !found.is_named && found.is_path(package)) {
        *package = found.resolve(package);
    }
    Ok(file)
}

/// Writes where a base and a Go are, as it is from where the command line is typed.
fn move_places(settings: &mut config::Settings, file: &SettingsFile) {
    for text in [&mut settings.base, &mut settings.go.toolchain].into_iter().flatten() {
        if let Some((scheme, path)) = text.split_once(':')
            && PLACES_OF_FILES.contains(&scheme)
            && path != "-"
        {
            *text = format!("{scheme}:{}", file.resolve(path));
        }
    }
    let program = settings.go.toolchain.as_mut();
    if let Some(program) = program.filter(|text| text.contains('/') && file.is_path(text)) {
        *program = file.resolve(program);
    }
}

/// What an image in a file or folder of this machine begins with.
const PLACES_OF_FILES: [&str; 3] = ["oci", "oci-archive", "docker-archive"];

/// Reads a file, unless it asks for what cannot be together.
fn read_consistent(path: &Path) -> Result<GondolaYaml> {
    let file = config::read(path)?;
    let all = file.builds.iter().map(|build| &build.settings).chain([&file.settings]);
    for settings in all {
        let is_single = settings.gzip_single_member == Some(true);
        check_members(settings.compression, is_single, "gzip-single-member")
            .cannot(|| format!("read {}", path.display()))?;
    }
    Ok(file)
}

/// The names that were typed, each of which makes one.
pub fn typed_names(args: &BuildArgs) -> Result<Vec<String>> {
    args.result.tag.iter().try_for_each(|name| name_template::check(name))?;
    Ok(args.result.tag.clone())
}

/// How layers are compressed, by what was typed alone.
pub fn typed_encoding(args: &ImageArgs) -> Result<Encoding> {
    let compression = args.compression.as_deref().map(str::parse).transpose()?;
    check_members(compression, args.gzip_single_member, "--gzip-single-member")?;
    let encoding: Encoding = compression.unwrap_or_default();
    Ok(if args.gzip_single_member { encoding.in_single_member() } else { encoding })
}

/// Refuses to ask for one member of what has none: `what` asks for it beside this compression.
fn check_members(compression: Option<Encoding>, is_single: bool, what: &str) -> Result<()> {
    match compression {
        Some(Encoding::Gzip { .. }) | None => Ok(()),
        Some(_) if !is_single => Ok(()),
        Some(other) => Err(Error::new(ErrorKind::Usage, format!("use {what}"))
            .because(format!("compression is {other}, and only layers of gzip have members"))
            .hint("leave one of the two out")),
    }
}

/// What was typed, in the form of the file.
fn typed(args: &BuildArgs) -> Result<config::Settings> {
    let compression = args.image.compression.as_deref().map(str::parse).transpose()?;
    Ok(config::Settings {
        base: args.image.base.clone(),
        platforms: platform::joined(&args.result.platform),
        tags: listed(&typed_names(args)?),
        compression,
        gzip_single_member: args.image.gzip_single_member.then_some(true),
        go: typed_go(&args.go)?,
        image: typed_image(&args.image)?,
    })
}

fn typed_go(args: &GoArgs) -> Result<config::Go> {
    let env = pair::set_variables("--go-env", &args.go_env)?;
    if args.cgo && env.get("CGO_ENABLED").is_some_and(|value| value == "0") {
        return Err(Error::new(ErrorKind::Usage, "use --cgo with --go-env CGO_ENABLED=0")
            .because("one says the opposite of the other")
            .hint("leave one of the two out"));
    }
    Ok(config::Go {
        toolchain: args.toolchain.clone(),
        image: None,
        flags: listed(&args.go_flag),
        ldflags: listed(&args.ldflags),
        gcflags: listed(&args.gcflags),
        asmflags: listed(&args.asmflags),
        tags: listed(&args.build_tags),
        env,
        cgo: args.cgo.then_some(true),
        vcs_stamp: args.vcs_stamp.then_some(true),
        module_mode: args.mod_mode,
    })
}

fn typed_image(args: &ImageArgs) -> Result<config::Image> {
    let command =
        |option, text: &Option<String>| text.as_deref().map(|text| words(option, text)).transpose();
    Ok(config::Image {
        entrypoint: command("--entrypoint", &args.entrypoint)?,
        cmd: command("--cmd", &args.cmd)?,
        env: pair::set_variables("--env", &args.env)?,
        user: args.user.clone(),
        workdir: args.workdir.clone(),
        ports: listed(&args.port),
        labels: pair::labels("--label", &args.label)?,
        annotations: pair::with_values("--annotation", &args.annotation)?,
        revision: args.revision.then_some(true),
        stop_signal: args.stop_signal.clone().map(signal).transpose()?,
        volumes: listed(&args.volume),
        add: listed(&args.add),
    })
}

/// A signal that there is, as it is written.
fn signal(text: String) -> Result<String> {
    text.parse::<StopSignal>().cannot(|| "use --stop-signal")?;
    Ok(text)
}

fn listed(items: &[String]) -> Option<Vec<String>> {
    (!items.is_empty()).then(|| items.to_vec())
}

/// Reads a command: a JSON array of words, or one word.
fn words(option: &str, text: &str) -> Result<Vec<String>> {
    if !text.trim_start().starts_with('[') {
        return Ok(if text.is_empty() { Vec::new() } else { vec![text.to_owned()] });
    }
    serde_json::from_str(text).map_err(|error| {
        Error::new(ErrorKind::Usage, format!("use {option}"))
            .caused_by(error)
            .hint("write a JSON array of strings, such as [\"/app\", \"--port\", \"8080\"]")
    })
}

/// What the settings mean, with the defaults where they are silent.
fn settings(mut given: config::Settings, name: Option<String>, folder: &Path) -> Result<Settings> {
    let mut encoding = given.compression.unwrap_or_default();
    if given.gzip_single_member == Some(true) {
        encoding = encoding.in_single_member();
    }
    Ok(Settings {
        base: given.base.as_deref().map_or(Ok(BaseChoice::Static), base_choice)?,
        packaging: Packaging {
            platforms: given.platforms,
            tags: given.tags.unwrap_or_default(),
            encoding,
            labels: std::mem::take(&mut given.image.labels),
            annotations: std::mem::take(&mut given.image.annotations),
        },
        toolchain: toolchain_choice(&given.go, folder)?,
        go: build_flags(given.go)?,
        image: image_settings(given.image, name)?,
    })
}

fn build_flags(given: config::Go) -> Result<BuildFlags> {
    pair::check_names("go: env", &given.env)?;
    let flags = BuildFlags {
        tags: given.tags.unwrap_or_default(),
        ldflags: given.ldflags.unwrap_or_default(),
        gcflags: given.gcflags.unwrap_or_default(),
        asmflags: given.asmflags.unwrap_or_default(),
        flags: given.flags.unwrap_or_default(),
        env: given.env,
        cgo: given.cgo.unwrap_or(false),
        vcs_stamp: given.vcs_stamp.unwrap_or(false),
        mod_mode: given.module_mode,
        ..BuildFlags::default()
    };
    flags.gathered()
}

/// What a flag says, read as the configuration file's texts are.
fn read_all(
    flag: &str,
    texts: Option<Vec<String>>,
    read: fn(String) -> std::result::Result<String, String>,
) -> Result<Vec<String>> {
    let all =
        texts.unwrap_or_default().into_iter().map(read).collect::<std::result::Result<_, _>>();
    all.map_err(|wrong: String| Error::new(ErrorKind::Usage, format!("use {flag}")).because(wrong))
}

fn image_settings(given: config::Image, name: Option<String>) -> Result<ImageSettings> {
    pair::check_names("env", &given.env)?;
    let assets = given.add.unwrap_or_default();
    Ok(ImageSettings {
        name,
        entrypoint: given.entrypoint,
        cmd: given.cmd,
        env: given.env,
        user: given.user,
        workdir: given.workdir,
        ports: read_all("--port", given.ports, config::read_port)?,
        volumes: read_all("--volume", given.volumes, config::read_folder)?,
        stop_signal: given.stop_signal,
        revision: given.revision.unwrap_or(false),
        assets: assets.iter().map(|text| text.parse()).collect::<Result<_>>()?,
    })
}

/// Reads `static`, `scratch`, or where an image is.
fn base_choice(text: &str) -> Result<BaseChoice> {
    match text {
        "static" => Ok(BaseChoice::Static),
        "scratch" => Ok(BaseChoice::Scratch),
        _ => text.parse().map(BaseChoice::Image),
    }
}

/// Reads `auto`, `host`, the path of a program, or where an image is.
///
/// A path is what begins with a slash or a dot, and what is there as a file.
fn toolchain_choice(given: &config::Go, folder: &Path) -> Result<ToolchainChoice> {
    let text = given.toolchain.as_deref().unwrap_or("auto");
    let is_path = text.starts_with(['/', '.']) || text.contains('/') && folder.join(text).is_file();
    Ok(match text {
        "auto" => ToolchainChoice::Auto { image: given.image.clone() },
        "host" => ToolchainChoice::Host,
        _ if is_path => ToolchainChoice::Program(folder.join(text)),
        _ => {
            let place: Location = text.parse().cannot(|| format!("use --go {text}"))?;
            ToolchainChoice::Image(place.in_folder(folder))
        }
    })
}

fn target_of_build(build: &config::Build, settings: Settings) -> Target {
    let patterns = build.packages().to_vec();
    let grouping = if patterns.len() > 1 { Grouping::Together } else { Grouping::Separate };
    Target { patterns, prebuilt: Vec::new(), grouping, settings }
}

fn target_of_arguments(args: &BuildArgs, mut settings: Settings, folder: &Path) -> Result<Target> {
    let prebuilt = args.prebuilt.iter().map(|text| prebuilt(text, folder));
    let prebuilt: Vec<Prebuilt> = prebuilt.collect::<Result<_>>()?;
    let platforms: Vec<Platform> = prebuilt.iter().filter_map(|p| p.platform.clone()).collect();
    if settings.packaging.platforms.is_none() && !platforms.is_empty() {
        settings.packaging.platforms = Some(PlatformSet::Listed(platforms));
    }
    let patterns = if args.bin.is_empty() { args.packages.clone() } else { args.bin.clone() };
    let together = args.one_image || !args.bin.is_empty();
    let grouping = if together { Grouping::Together } else { Grouping::Separate };
    Ok(Target { patterns, prebuilt, grouping, settings })
}

/// Reads `[PLATFORM=]FILE`.
fn prebuilt(text: &str, folder: &Path) -> Result<Prebuilt> {
    let (platform, path) = match text.split_once('=') {
        // A file whose name has an equals sign is meant when it is there.
        Some((platform, path)) if !folder.join(text).exists() => (Some(platform.parse()?), path),
        _ => (None, text),
    };
    Ok(Prebuilt { platform, path: folder.join(path) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_word_or_a_list() {
        assert_eq!(words("--cmd", "serve").unwrap(), ["serve"]);
        assert_eq!(words("--cmd", r#"["a", "b c"]"#).unwrap(), ["a", "b c"]);
        assert!(words("--cmd", "").unwrap().is_empty());
        let error = words("--cmd", "[a]").unwrap_err().to_string();
        assert!(error.contains("JSON array"), "{error}");
    }

    #[test]
    fn the_forms_of_go_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(folder.path().join("sdk/bin")).unwrap();
        fs_err::write(folder.path().join("sdk/bin/go"), "").unwrap();
        let choose = |text: Option<&str>| {
            let given = config::Go {
                toolchain: text.map(str::to_owned),
                image: Some("acme/golang".to_owned()),
                ..config::Go::default()
            };
            toolchain_choice(&given, folder.path())
        };
        let auto = ToolchainChoice::Auto { image: Some("acme/golang".to_owned()) };
        assert_eq!(choose(None).unwrap(), auto);
        assert_eq!(choose(Some("auto")).unwrap(), auto);
        assert_eq!(choose(Some("host")).unwrap(), ToolchainChoice::Host);
        for path in ["/usr/local/go/bin/go", "./go", "../go/bin/go", "sdk/bin/go"] {
            let program = ToolchainChoice::Program(folder.path().join(path));
            assert_eq!(choose(Some(path)).unwrap(), program);
        }
        for image in ["golang", "golang:1.27", "sdk/bin/gopher", "oci:bases:golang"] {
            let place = image.parse::<Location>().unwrap().in_folder(folder.path());
            assert_eq!(choose(Some(image)).unwrap(), ToolchainChoice::Image(place));
        }
        let error = choose(Some("Go:1")).unwrap_err();
        assert!(error.to_string().starts_with("cannot use --go Go:1: "), "{error}");
        assert_eq!(error.kind(), ErrorKind::Usage);
    }

    #[test]
    fn a_prebuilt_binary_may_have_a_platform() {
        let folder = Path::new("/nowhere");
        let with = prebuilt("linux/arm64=bin/app", folder).unwrap();
        assert_eq!(with.platform.unwrap().to_string(), "linux/arm64");
        assert_eq!(with.path, Path::new("/nowhere/bin/app"));
        assert_eq!(prebuilt("app", folder).unwrap().platform, None);
        assert!(prebuilt("what=app", folder).is_err());
    }
}
