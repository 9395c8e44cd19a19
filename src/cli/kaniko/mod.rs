//! Kaniko's habits: its flags, read as what gondola builds.
//!
//! `flags` is what may be typed; [`translate`] says what it means, and makes one note of each
//! flag that only kaniko's own design needs. Nothing here reads a file or asks a registry.

mod cache;
mod flags;
mod registries;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use self::flags::KanikoArgs;
pub use self::registries::{ClientCertificate, Registries};
use super::flags::pair;
use super::output::ProgressMode;
use crate::dockerfile::build::CacheRepository;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::Encoding;
use crate::literal;
use crate::oci::{MediaType, Platform, Reference};
use crate::pipeline::ImmutableTags;
use crate::secret;

/// Where kaniko looks for the context when nothing is said.
const DEFAULT_CONTEXT: &str = "/workspace/";

/// A build as kaniko's flags describe it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Translation {
    /// The Dockerfile: a path here, or else in the context.
    pub dockerfile: String,
    /// The context.
    pub context: ContextChoice,
    /// The stage to build.
    pub target: Option<String>,
    /// Values of `ARG`s.
    pub arguments: BTreeMap<String, String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// Secrets by their names.
    pub secrets: BTreeMap<String, SecretChoice>,
    /// The platform, unless it is this machine's.
    pub platform: Option<Platform>,
    /// Names of the image.
    pub destinations: Vec<Reference>,
    /// Whether it is pushed to them.
    pub push: bool,
    /// Files and folders that are written.
    pub files: ResultFiles,
    /// How layers are compressed.
    pub encoding: Option<Encoding>,
    /// The media type of its manifest, unless it is that of the base.
    pub family: Option<MediaType>,
    /// What a tag means that must not be moved.
    pub immutable_tags: ImmutableTags,
    /// Whether the image is to be the same whenever it is built.
    pub reproducible: bool,
    /// Whether results of earlier builds are used.
    pub use_cache: bool,
    /// Whose caches steps use, where that was said.
    pub cache_scope: Option<String>,
    /// Whether caches are used that are not found by their content.
    pub shares_caches: bool,
    /// Where results of steps are shared with other machines.
    pub cache: Option<CacheRepository>,
    /// Whether the image is built, or only its Dockerfile checked.
    pub purpose: Purpose,
    /// How registries are spoken to.
    pub registries: Registries,
    /// How much is shown.
    pub log: Log,
    /// What to tell the user, a line each.
    pub notes: Vec<String>,
}

/// What the flags are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To build the image.
    Build,
    /// To check the Dockerfile, `--dryrun`.
    Check,
}

/// Where the context is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextChoice {
    /// A folder, `folder/sub path`.
    Folder(PathBuf),
    /// A tar archive, perhaps compressed, and a folder in it.
    Archive(PathBuf, Option<String>),
    /// The same from stdin.
    Stdin(Option<String>),
    /// A git repository as docker writes it: `remote#reference:folder`.
    Git(String),
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretChoice {
    /// A file.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
}

/// What is written besides the push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResultFiles {
    /// An archive for `docker load`.
    pub tar: Option<PathBuf>,
    /// A folder with an OCI layout.
    pub layout: Option<PathBuf>,
    /// The digest.
    pub digest: Option<PathBuf>,
    /// `name@digest` of every destination, a line each.
    pub names: Option<PathBuf>,
    /// `name:tag@digest` of every destination, a line each.
    pub tagged_names: Option<PathBuf>,
}

/// How much is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Errors and warnings only.
    pub quiet: bool,
    /// As JSON.
    pub json: bool,
}

/// Says what kaniko's flags ask for. `variables` is the environment.
pub fn translate(args: &KanikoArgs, variables: &BTreeMap<String, String>) -> Result<Translation> {
    let mut notes = notes(args);
    let push = !no_push(args, variables)?;
    let destinations = destinations(args)?;
    if push && destinations.is_empty() {
        return Err(usage("push the image", "no --destination says where to")
            .hint("add --destination NAME, or --no-push"));
    }
    let files = result_files(args)?;
    if destinations.is_empty() && (files.names.is_some() || files.tagged_names.is_some()) {
        return Err(usage("write the image's name", "no --destination gives it one"));
    }
    let dockerfile = args.dockerfile.clone().unwrap_or_else(|| "Dockerfile".to_owned());
    if dockerfile.contains("://") {
        let shown = secret::address(&dockerfile);
        return Err(usage(format!("read {shown}"), "it is no file of this machine")
            .hint("download it first, and name the file"));
    }
    if args.target.len() > 1 {
        notes.push(format!(
            "--target: the stage {} is built, the others only as far as it needs them",
            args.target[0]
        ));
    }
    let cache = cache::translate(args, &destinations, push)?;
    let pushed_to = destinations.iter().filter(|_| push).map(Reference::registry);
    let cache_host = cache.as_ref().map(|cache| cache.repository.registry());
    let pushed: Vec<&str> = pushed_to.chain(cache_host).collect();
    Ok(Translation {
        dockerfile,
        context: context(args, variables)?,
        target: args.target.first().filter(|target| !target.is_empty()).cloned(),
        arguments: arguments(&args.build_arg, variables)?,
        labels: pair::labels("--label", &args.label)?,
        annotations: pair::with_values("--annotation", &args.annotation)?,
        secrets: args.secret.iter().map(|text| secret(text)).collect::<Result<_>>()?,
        platform: args
            .custom_platform
            .as_deref()
            .filter(|text| !text.is_empty())
            .map(str::parse)
            .transpose()?,
        registries: registries::translate(args, variables, &pushed)?,
        cache,
        destinations,
        push,
        files,
        encoding: encoding(args)?,
        family: match args.image_format.as_deref() {
            Some("oci") => Some(MediaType::OCI_MANIFEST),
            Some("docker") => Some(MediaType::DOCKER_MANIFEST),
            _ => None,
        },
        immutable_tags: match args.push_ignore_immutable_tag_errors {
            Some(true) => ImmutableTags::Keep,
            _ => ImmutableTags::Fail,
        },
        reproducible: args.reproducible.unwrap_or(false),
        use_cache: args.cache.unwrap_or(true),
        cache_scope: args.cache_scope.clone().filter(|name| !name.is_empty()),
        shares_caches: !args.no_shared_caches.unwrap_or(false),
        purpose: if args.dryrun == Some(true) { Purpose::Check } else { Purpose::Build },
        log: log(args)?,
        notes,
    })
}

fn usage(action: impl Into<String>, reason: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Usage, action).because(reason)
}

fn no_push(args: &KanikoArgs, variables: &BTreeMap<String, String>) -> Result<bool> {
    match variables.get("KANIKO_NO_PUSH").filter(|value| !value.is_empty()) {
        None => Ok(args.no_push.unwrap_or(false)),
        Some(value) => literal::boolean(value).map_err(|why| usage("use KANIKO_NO_PUSH", why)),
    }
}

fn destinations(args: &KanikoArgs) -> Result<Vec<Reference>> {
    args.destination.iter().map(|name| name.parse()).collect()
}

/// A path that was given, and is one.
fn path(flag: &str, value: Option<&String>) -> Result<Option<PathBuf>> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    if value.contains("://") {
        let shown = secret::address(value);
        return Err(usage(format!("write {flag} {shown}"), "it is no file of this machine")
            .hint(format!("write a file, and upload it: curl --upload-file FILE {shown}")));
    }
    Ok(Some(PathBuf::from(value)))
}

fn result_files(args: &KanikoArgs) -> Result<ResultFiles> {
    let format = args.image_format.as_deref().unwrap_or_default();
    let tar = path("--tar-path", args.tar_path.as_ref())?;
    match format {
        "" | "docker" | "oci" => {}
        _ => return Err(usage(format!("use --image-format {format}"), "expected docker or oci")),
    }
    if tar.is_some() && format == "oci" {
        return Err(usage(
            "write --tar-path as an OCI image",
            "the archive is one for docker load",
        )
        .hint("--oci-layout-path writes an OCI image"));
    }
    Ok(ResultFiles {
        tar,
        layout: path("--oci-layout-path", args.oci_layout_path.as_ref())?,
        digest: path("--digest-file", args.digest_file.as_ref())?,
        names: path("--image-name-with-digest-file", args.image_name_with_digest_file.as_ref())?,
        tagged_names: path(
            "--image-name-tag-with-digest-file",
            args.image_name_tag_with_digest_file.as_ref(),
        )?,
    })
}

fn context(args: &KanikoArgs, variables: &BTreeMap<String, String>) -> Result<ContextChoice> {
    let sub_path = args.context_sub_path.clone().filter(|path| !path.is_empty());
    let bucket = args.bucket.as_ref().filter(|bucket| !bucket.is_empty());
    let given = args.context.as_deref().filter(|text| !text.is_empty());
    let bucket =
        bucket.map(
            |bucket| if bucket.contains("://") { bucket.clone() } else { format!("gs://{bucket}") },
        );
    let text = given.or(bucket.as_deref()).unwrap_or(DEFAULT_CONTEXT);
    let folder = |path: &str| {
        let path = PathBuf::from(path);
        ContextChoice::Folder(match &sub_path {
            Some(below) => path.join(below.trim_start_matches('/')),
            None => path,
        })
    };
    let Some((scheme, rest)) = text.split_once("://") else { return Ok(folder(text)) };
    match scheme {
        "dir" => Ok(folder(rest)),
        "tar" if rest == "stdin" => Ok(ContextChoice::Stdin(sub_path)),
        "tar" => Ok(ContextChoice::Archive(PathBuf::from(rest), sub_path)),
        "git" => git(args, variables, rest, sub_path),
        _ => Err(remote_context(scheme, text)),
    }
}

/// `host/repository#reference#commit`, fetched over https unless `GIT_PULL_METHOD` says http.
fn git(
    args: &KanikoArgs,
    variables: &BTreeMap<String, String>,
    rest: &str,
    sub_path: Option<String>,
) -> Result<ContextChoice> {
    let mut branch = None;
    for option in &args.git {
        match option.split_once('=') {
            Some(("branch", value)) => branch = Some(value.to_owned()),
            Some(("single-branch" | "depth" | "recurse-submodules", _)) => {}
            Some(("insecure-skip-tls", value)) if literal::boolean(value) == Ok(false) => {}
            Some(("insecure-skip-tls", _)) => {
                return Err(usage(
                    "fetch the context without checking certificates",
                    "git decides that",
                )
                .hint("set GIT_SSL_NO_VERIFY=1"));
            }
            _ => {
                let option = option.split('=').next().unwrap_or_default();
                return Err(usage(format!("use --git {option}"), "git contexts have no such option")
                    .hint("expected branch=, single-branch=, depth=, recurse-submodules=, insecure-skip-tls="));
            }
        }
    }
    let method = match variables.get("GIT_PULL_METHOD").map(String::as_str) {
        Some("http") => "http",
        _ => "https",
    };
    let mut parts = rest.split('#');
    let place = parts.next().unwrap_or_default();
    // The commit, if there is one, says all.
    let reference = parts.rfind(|part| !part.is_empty()).map(str::to_owned).or(branch);
    let fragment = match (reference, sub_path) {
        (None, None) => String::new(),
        (reference, None) => format!("#{}", reference.unwrap_or_default()),
        (reference, Some(folder)) => format!("#{}:{folder}", reference.unwrap_or_default()),
    };
    // Without the ending, a web address could be an archive.
    let place = place.strip_suffix(".git").unwrap_or(place);
    Ok(ContextChoice::Git(format!("{method}://{place}.git{fragment}")))
}

fn remote_context(scheme: &str, text: &str) -> Error {
    let text = secret::address(text);
    let fetch = match scheme {
        "s3" => format!("aws s3 cp {text} -"),
        "gs" => format!("gsutil cat {text}"),
        "http" | "https" => format!("curl -fsSL {text}"),
        _ => {
            let error = usage(format!("use the context {text}"), format!("{scheme}:// is unknown"));
            return error.hint("expected a folder, dir://, tar://, git:// or tar://stdin");
        }
    };
    let reason = "gondola has no client for object storage";
    let reason = if scheme.starts_with("http") { "it is not fetched from the web" } else { reason };
    Error::new(ErrorKind::Unsupported, format!("use the context {text}"))
        .because(reason)
        .hint(format!("{fetch} | gondola kaniko --context tar://stdin …"))
}

/// Values of `ARG`s; a name alone takes its value from the environment, and is empty without one.
fn arguments(
    given: &[String],
    variables: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let read = pair::variables("--build-arg", given, variables)?;
    Ok(read.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect())
}

/// `id=NAME[,type=file|env][,src=FILE][,env=VARIABLE]`; without a source, a variable or file of
/// the secret's own name.
fn secret(text: &str) -> Result<(String, SecretChoice)> {
    let wrong = |why: &str| {
        usage("use --secret", why).hint("write id=NAME,src=FILE or id=NAME,env=VARIABLE")
    };
    let (mut id, mut kind, mut file, mut variable) = (None, None, None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("id", value)) => id = Some(value),
            Some(("type", value @ ("file" | "env"))) => kind = Some(value),
            Some(("src" | "source", value)) => file = Some(value),
            Some(("env", value)) => variable = Some(value),
            _ => return Err(wrong("it has a part that secrets do not have")),
        }
    }
    let Some(id) = id.filter(|id| !id.is_empty()) else { return Err(wrong("it has no id")) };
    let choice = match (kind, file, variable) {
        (_, Some(_), Some(_)) => return Err(wrong("it has both a file and a variable")),
        (Some("env"), file, variable) => {
            SecretChoice::Variable(variable.or(file).unwrap_or(id).to_owned())
        }
        (_, None, Some(variable)) => SecretChoice::Variable(variable.to_owned()),
        (_, file, None) => SecretChoice::File(PathBuf::from(file.unwrap_or(id))),
    };
    Ok((id.to_owned(), choice))
}

fn encoding(args: &KanikoArgs) -> Result<Option<Encoding>> {
    let level = args.compression_level.as_deref().filter(|level| !matches!(*level, "" | "-1"));
    let name = match args.compression.as_deref().unwrap_or_default() {
        "" if level.is_none() => return Ok(None),
        "" => "gzip",
        name @ ("gzip" | "zstd") => name,
        name => return Err(usage(format!("use --compression {name}"), "expected gzip or zstd")),
    };
    if name == "zstd" && (args.tar_path.is_some() || args.image_format.as_deref() == Some("docker"))
    {
        return Err(usage("compress with zstd", "images of docker's own format cannot have it")
            .hint("write --oci-layout-path, or take --compression=gzip"));
    }
    match level {
        Some(level) => format!("{name}:{level}").parse().map(Some),
        None => name.parse().map(Some),
    }
}

/// How progress is shown, if kaniko's flags say so; wrong ones are reported with the others.
pub fn progress(args: &KanikoArgs, otherwise: ProgressMode) -> ProgressMode {
    match log(args) {
        Ok(Log { quiet: true, .. }) => ProgressMode::Quiet,
        Ok(Log { json: true, .. }) => ProgressMode::Json,
        _ => otherwise,
    }
}

fn log(args: &KanikoArgs) -> Result<Log> {
    let quiet = match args.verbosity.as_deref().unwrap_or("info") {
        "trace" | "debug" | "info" => false,
        "warn" | "warning" | "error" | "fatal" | "panic" => true,
        other => {
            return Err(usage(format!("use --verbosity {other}"), "there is no such level")
                .hint("expected trace, debug, info, warn, error, fatal or panic"));
        }
    };
    let json = match args.log_format.as_deref().unwrap_or("color") {
        "text" | "color" => false,
        "json" => true,
        other => {
            return Err(usage(format!("use --log-format {other}"), "expected text, color or json"));
        }
    };
    Ok(Log { quiet, json })
}

/// A flag without effect: whether it is given, and why it has none.
type Note = (&'static str, fn(&KanikoArgs) -> bool, &'static str);

/// Where results of steps are unless they are to be shared.
const LOCAL: &str = "without --cache=true results of steps are kept in the local store alone";

/// The flags that only kaniko's own design needs.
const NOTES: [Note; 24] = [
    (
        "--snapshot-mode",
        |a| a.snapshot_mode.is_some(),
        "changes are read from the file system's own record, nothing is scanned",
    ),
    (
        "--single-snapshot",
        |a| a.single_snapshot == Some(true),
        "every instruction keeps a layer of its own",
    ),
    (
        "--use-new-run",
        |a| a.use_new_run.is_some(),
        "changes are read from the file system's own record, nothing is scanned",
    ),
    (
        "--compressed-caching",
        |a| a.compressed_caching.is_some(),
        "memory does not grow with the layers",
    ),
    (
        "--cleanup",
        |a| a.cleanup.is_some(),
        "the build happens in folders of its own, which always go",
    ),
    ("--pre-cleanup", |a| a.pre_cleanup.is_some(), "the build happens in folders of its own"),
    (
        "--preserve-context",
        |a| a.preserve_context.is_some(),
        "the build does not touch the context",
    ),
    ("--materialize", |a| a.materialize.is_some(), "the build does not touch this file system"),
    (
        "--ignore-var-run",
        |a| a.ignore_var_run.is_some(),
        "/var/run belongs to the image, whatever is mounted here",
    ),
    (
        "--whitelist-var-run",
        |a| a.whitelist_var_run.is_some(),
        "/var/run belongs to the image, whatever is mounted here",
    ),
    (
        "--ignore-path",
        |a| !a.ignore_path.is_empty(),
        "only what a step writes comes into its layer, so the paths stay in",
    ),
    ("--force", |a| a.force.is_some(), "building outside of a container is what gondola does"),
    (
        "--kaniko-dir",
        |a| a.kaniko_dir.is_some(),
        "there is no such folder; --store names that of gondola",
    ),
    (
        "--image-fs-extract-retry",
        |a| a.image_fs_extract_retry.is_some(),
        "unpacking a verified layer again changes nothing",
    ),
    (
        "--skip-push-permission-check",
        |a| a.skip_push_permission_check.is_some(),
        "the push itself finds out",
    ),
    ("--force-build-metadata", |a| a.force_build_metadata.is_some(), "metadata is always kept"),
    (
        "--skip-unused-stages",
        |a| a.skip_unused_stages.is_some(),
        "stages that are not needed are never built",
    ),
    ("--cache-dir", |a| a.cache_dir.is_some(), "base images are kept in the local store"),
    ("--cache-repo", |a| a.cache_repo.is_some() && a.cache != Some(true), LOCAL),
    ("--cache-ttl", |a| a.cache_ttl.is_some() && a.cache != Some(true), LOCAL),
    ("--cache-copy-layers", |a| a.cache_copy_layers.is_some() && a.cache != Some(true), LOCAL),
    ("--cache-run-layers", |a| a.cache_run_layers.is_some() && a.cache != Some(true), LOCAL),
    ("--log-timestamp", |a| a.log_timestamp.is_some(), "lines carry the time since the start"),
    (
        "--credential-helpers",
        |a| !a.credential_helpers.is_empty(),
        "helpers are those that docker's config.json names",
    ),
];

/// A note for each flag that is given and changes nothing.
fn notes(args: &KanikoArgs) -> Vec<String> {
    let given = NOTES.iter().filter(|(_, given, _)| given(args));
    given.map(|(flag, _, why)| format!("{flag} is accepted and has no effect: {why}")).collect()
}

#[cfg(test)]
mod tests;
