//! Kaniko's habits: its flags, what each of them does here, and the request that they come to.

mod cache;
mod context;
mod credentials;
mod flags;
mod layers;
pub mod push;
mod registries;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use self::context::ContextChoice;
pub use self::credentials::CredentialPlaces;
pub use self::flags::KanikoArgs;
pub use self::registries::Registries;
use super::input;
use crate::cli::environment::Environment;
use crate::cli::flags::table::{self, Effect, Flag, FrontEnd};
use crate::cli::flags::typed::Noted;
use crate::cli::flags::{self as grammars, pair};
use crate::cli::output::ProgressMode;
use crate::cli::proxies;
use crate::cli::session::Session;
use crate::dockerfile::convert::{CacheRepository, ContextSource, FileSource, Recipe};
use crate::engine::OnFailure;
use crate::error::{Error, ErrorKind, Result};
use crate::golang;
use crate::layer::Encoding;
use crate::literal;
use crate::oci::{MediaType, Platform, PlatformSet, Reference};
use crate::pipeline::{
    Caches, DockerfileSource, ImmutableTags, KanikoFiles, Outputs, Packaging, Request, Source,
};
use crate::sandbox::{IsolationRequest, Network};
use crate::secret;
use crate::store::CacheScope;
use crate::transport::Location;

/// A build as kaniko's flags describe it.
#[derive(Debug)]
pub struct KanikoBuild {
    /// The build.
    pub request: Request,
    /// Whether the image is built, or only said how.
    pub purpose: Purpose,
    /// How registries are spoken to.
    pub registries: Registries,
    /// Where credentials are looked for.
    pub credentials: CredentialPlaces,
    /// What to tell the user, a line each.
    pub notes: Vec<String>,
}

/// What the flags are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To build the image.
    Build,
    /// To say what would be done, `--dryrun`.
    Plan,
}

/// How much is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct Log {
    /// Errors and warnings only.
    quiet: bool,
    /// As JSON.
    json: bool,
    /// In lines without escape codes.
    plain: bool,
    /// Also why steps are executed.
    explains: bool,
    /// With the date and the time of the day.
    dated: bool,
}

/// What is used of earlier builds where nothing is said.
const UNUSED: &str = "without --cache=true no results of earlier builds are used";
/// Why steps need no other way to find changes.
const NO_SCAN: &str = "changes are read from the file system's own record, nothing is scanned";
/// Why nothing must be cleaned.
const OWN_FOLDERS: &str = "the build happens in folders of its own, which always go";

const fn all(name: &'static str) -> Flag {
    Flag::new(name, Effect::Applies)
}

/// A flag that only kaniko's own design needs.
const fn ignored(name: &'static str, why: &'static str) -> Flag {
    Flag::new(name, Effect::Ignored(why))
}

/// What each flag does.
pub static FLAGS: [Flag; 68] = [
    all("words"),
    all("cache"),
    Flag::new("cache-copy-layers", Effect::AppliesWith("cache", UNUSED)),
    Flag::new("cache-run-layers", Effect::AppliesWith("cache", UNUSED)),
    ignored("compressed-caching", "memory does not grow with the layers"),
    ignored("cleanup", OWN_FOLDERS),
    ignored("pre-cleanup", OWN_FOLDERS),
    all("dryrun"),
    ignored("force", "building outside of a container is what gondola does"),
    ignored("force-build-metadata", "metadata is always kept"),
    all("ignore-var-run"),
    all("whitelist-var-run"),
    all("insecure"),
    all("insecure-pull"),
    all("log-timestamp"),
    Flag::new(
        "materialize",
        Effect::Refused(
            "the build does not touch this file system",
            "write --oci-layout-path DIR, and unpack it where you want the files",
        ),
    ),
    all("no-push"),
    all("no-push-cache"),
    all("no-shared-caches"),
    ignored("preserve-context", "the build does not touch the context"),
    all("push-ignore-immutable-tag-errors"),
    all("reproducible"),
    all("single-snapshot"),
    all("skip-default-registry-fallback"),
    ignored("skip-push-permission-check", "the push itself finds out"),
    all("skip-tls-verify"),
    all("skip-tls-verify-pull"),
    ignored("skip-unused-stages", "stages that are not needed are never built"),
    ignored("use-new-run", NO_SCAN),
    all("bucket"),
    ignored("cache-dir", "base images are kept in the folder that --store names"),
    Flag::new("cache-repo", Effect::AppliesWith("cache", UNUSED)),
    all("cache-scope"),
    Flag::new("cache-ttl", Effect::AppliesWith("cache", UNUSED)),
    all("compression"),
    all("compression-level"),
    all("context"),
    all("context-sub-path"),
    all("custom-platform"),
    all("digest-file"),
    all("dockerfile"),
    all("image-download-retry"),
    all("image-format"),
    ignored("image-fs-extract-retry", "unpacking a verified layer again changes nothing"),
    all("image-name-with-digest-file"),
    all("image-name-tag-with-digest-file"),
    all("kaniko-dir"),
    all("log-format"),
    all("oci-layout-path"),
    all("push-retry"),
    ignored("snapshot-mode", NO_SCAN),
    all("tar-path"),
    all("verbosity"),
    all("annotation"),
    all("build-arg"),
    all("credential-helpers"),
    all("destination"),
    all("git"),
    all("ignore-path"),
    all("insecure-registry"),
    all("label"),
    all("registry-certificate"),
    all("registry-client-cert"),
    all("registry-map"),
    all("registry-mirror"),
    all("secret"),
    all("skip-tls-verify-registry"),
    all("target"),
];

/// Whether the flags can be meant, as far as that is known before anything is opened.
pub fn check(build: &Noted<KanikoArgs>, environment: &Environment) -> Result<()> {
    let (args, variables) = (&build.args, &environment.variables);
    table::check(&FLAGS, &build.typed, FrontEnd::Dockerfile)?;
    let (push, destinations) = pushed_to(args, variables)?;
    cache::translate(args, &destinations, push)?;
    packaging(args, &destinations)?;
    layers::translate(args)?;
    scope(args, environment)?;
    context::choose(args, variables).map(|_| ())
}

/// Whether the image is pushed, and what it is called.
fn pushed_to(
    args: &KanikoArgs,
    variables: &BTreeMap<String, String>,
) -> Result<(bool, Vec<Reference>)> {
    let push = !no_push(args, variables)?;
    let destinations = destinations(args)?;
    if push && destinations.is_empty() {
        return Err(usage("push the image", "no --destination says where to")
            .hint("add --destination NAME, or --no-push"));
    }
    Ok((push, destinations))
}

/// Says what kaniko's flags ask for.
pub fn read(session: &Session, build: &Noted<KanikoArgs>) -> Result<KanikoBuild> {
    let (args, variables) = (&build.args, &session.environment.variables);
    let mut notes = table::check(&FLAGS, &build.typed, FrontEnd::Dockerfile)?;
    let (push, destinations) = pushed_to(args, variables)?;
    input::refuse_offline(
        session,
        &[("--destination", push)],
        "add --no-push, or leave --offline out",
    )?;
    notes.extend(without_git(build, &context::choose(args, variables)?));
    let cache = cache::translate(args, &destinations, push)?;
    let hosts = destinations.iter().filter(|_| push).map(Reference::registry);
    let cache_host = cache.as_ref().map(|cache| cache.repository.registry());
    let pushed: Vec<&str> = hosts.chain(cache_host).collect();
    let registries = registries::translate(args, variables, &pushed)?;
    let credentials = credentials::translate(args, &session.environment)?;
    let Log { explains, .. } = log(args)?;
    let outputs = outputs(args, push, &destinations, &session.environment)?;
    let source = source(session, args, (&destinations, cache))?;
    let scope = scope(args, &session.environment)?;
    let mut request = Request {
        source: Source::Dockerfile(Box::new(source)),
        caches: Caches {
            off: args.cache != Some(true),
            off_by: Some("no --cache"),
            longest_age: Some(cache::longest_age(args)?),
            pull: true,
            explain: explains,
            scope,
            are_shared: are_shared(args),
        },
        isolation: IsolationRequest::default(),
        outputs,
    };
    let purpose = if args.dryrun == Some(true) { Purpose::Plan } else { Purpose::Build };
    if purpose == Purpose::Plan {
        notes.extend(unwritten(&request.outputs));
        // Their folders would be made, and are not.
        request.outputs.kaniko = KanikoFiles::default();
    }
    Ok(KanikoBuild { request, purpose, registries, credentials, notes })
}

fn are_shared(args: &KanikoArgs) -> bool {
    !args.no_shared_caches.unwrap_or(false)
}

/// Whose caches are used.
fn scope(args: &KanikoArgs, environment: &Environment) -> Result<Option<CacheScope>> {
    let name = args.cache_scope.as_deref().filter(|name| !name.is_empty());
    input::cache_scope(environment, name, are_shared(args))
}

/// What is said of `--git` where the context is no repository.
fn without_git(build: &Noted<KanikoArgs>, context: &ContextChoice) -> Option<String> {
    let is_for_nothing = build.typed.has("git") && !matches!(context, ContextChoice::Git(_));
    is_for_nothing.then(|| {
        "--git is accepted and has no effect: the context is no repository; write --context \
         git://HOST/PATH"
            .to_owned()
    })
}

/// What a dry run does not write. The words of a pipeline stay as they are for it.
fn unwritten(outputs: &Outputs) -> Option<String> {
    let KanikoFiles { digest, names, tagged_names } = &outputs.kaniko;
    let files = [
        ("--digest-file", digest),
        ("--image-name-with-digest-file", names),
        ("--image-name-tag-with-digest-file", tagged_names),
    ];
    let files = files.into_iter().filter(|(_, file)| file.is_some()).map(|(flag, _)| flag);
    let places = outputs.places.iter().map(|place| match place {
        Location::Layout { .. } => "--oci-layout-path",
        _ => "--tar-path",
    });
    let flags: Vec<&str> = places.chain(files).collect();
    let flags = flags.join(", ");
    (!flags.is_empty()).then(|| format!("--dryrun: nothing is built, so {flags} writes no file"))
}

/// The Dockerfile, and what it is built with.
fn source(
    session: &Session,
    args: &KanikoArgs,
    (destinations, cache): (&[Reference], Option<CacheRepository>),
) -> Result<DockerfileSource> {
    let environment = &session.environment;
    let dockerfile = args.dockerfile.as_deref().unwrap_or("Dockerfile");
    if dockerfile.contains("://") {
        let shown = secret::address(dockerfile);
        return Err(usage(format!("read {shown}"), "it is no file of this machine")
            .hint("download it first, and name the file"));
    }
    // As kaniko's own steps do, these see all that it sees of proxies.
    let mut arguments = input::with_epoch(session, proxies::of_environment(session));
    arguments.extend(self::arguments(&args.build_arg, &environment.variables)?);
    let secrets = grammars::secret::all(environment, &session.reporter, &args.secret)?;
    let packaging = packaging(args, destinations)?;
    let manifest_format = manifest_format(args)?;
    let layers = layers::translate(args)?;
    let mut targets = args.target.iter().filter(|target| !target.is_empty()).cloned();
    // Last, because it may read standard input.
    let context = context::choose(args, &environment.variables)?.open(session)?;
    let name = golang::image_name(&context::name(&context));
    let recipe = Recipe {
        file: file(environment, &context, dockerfile),
        context,
        contexts: BTreeMap::new(),
        target: targets.next(),
        also: targets.collect(),
        epoch: input::epoch(&arguments)?.or(args.reproducible.unwrap_or(false).then_some(0)),
        arguments,
        secrets,
        agents: BTreeMap::new(),
        hosts: Vec::new(),
        network: Network::Host,
        limits: Vec::new(),
        shared_memory_bytes: None,
        go_cache: true,
        now: input::now(environment),
        manifest_format,
        layers,
        on_failure: OnFailure::End(None),
    };
    Ok(DockerfileSource { recipe, execute_in: BTreeSet::new(), cache, name, packaging })
}

fn packaging(args: &KanikoArgs, destinations: &[Reference]) -> Result<Packaging> {
    let platform = args.custom_platform.as_deref().filter(|text| !text.is_empty());
    let platform: Option<Platform> = platform.map(str::parse).transpose()?;
    Ok(Packaging {
        platforms: platform.map(|platform| PlatformSet::Listed(vec![platform])),
        tags: destinations.iter().map(ToString::to_string).collect(),
        encoding: encoding(args)?.unwrap_or_default(),
        labels: pair::labels("--label", &args.label)?,
        annotations: pair::with_values("--annotation", &args.annotation)?,
    })
}

fn manifest_format(args: &KanikoArgs) -> Result<Option<MediaType>> {
    match args.image_format.as_deref().unwrap_or_default() {
        "" => Ok(None),
        "oci" => Ok(Some(MediaType::OCI_MANIFEST)),
        "docker" => Ok(Some(MediaType::DOCKER_MANIFEST)),
        other => Err(usage(format!("use --image-format {other}"), "expected docker or oci")),
    }
}

/// A Dockerfile of this machine, or else one of the context.
fn file(environment: &Environment, context: &ContextSource, name: &str) -> FileSource {
    let here = environment.resolve(name);
    match context {
        _ if here.is_file() => FileSource::Path(here),
        ContextSource::Folder(folder) => FileSource::Path(folder.join(name)),
        _ => FileSource::InContext(name.to_owned()),
    }
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

fn outputs(
    args: &KanikoArgs,
    push: bool,
    destinations: &[Reference],
    environment: &Environment,
) -> Result<Outputs> {
    let at = |flag, value: &Option<String>| {
        Ok::<_, Error>(path(flag, value.as_ref())?.map(|path| environment.resolve(path)))
    };
    let tar = at("--tar-path", &args.tar_path)?;
    if tar.is_some() && args.image_format.as_deref() == Some("oci") {
        return Err(usage(
            "write --tar-path as an OCI image",
            "the archive is one for docker load",
        )
        .hint("--oci-layout-path writes an OCI image"));
    }
    let layout = at("--oci-layout-path", &args.oci_layout_path)?;
    let kaniko = KanikoFiles {
        digest: at("--digest-file", &args.digest_file)?,
        names: at("--image-name-with-digest-file", &args.image_name_with_digest_file)?,
        tagged_names: at(
            "--image-name-tag-with-digest-file",
            &args.image_name_tag_with_digest_file,
        )?,
    };
    if destinations.is_empty() && (kaniko.names.is_some() || kaniko.tagged_names.is_some()) {
        return Err(usage("write the image's name", "no --destination gives it one"));
    }
    let tar = tar.map(|file| Location::DockerArchive { file, name: None });
    let layout = layout.map(|folder| Location::Layout { folder, tag: None });
    Ok(Outputs {
        push,
        immutable_tags: immutable_tags(args),
        places: tar.into_iter().chain(layout).collect(),
        kaniko,
        ..Outputs::default()
    })
}

fn immutable_tags(args: &KanikoArgs) -> ImmutableTags {
    match args.push_ignore_immutable_tag_errors {
        Some(true) => ImmutableTags::Keep,
        _ => ImmutableTags::Fail,
    }
}

/// Values of `ARG`s; a name alone takes its value from the environment, and is empty without one.
fn arguments(
    given: &[String],
    variables: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let read = pair::variables("--build-arg", given, variables)?;
    Ok(read.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect())
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
        Ok(Log { dated: true, .. }) => ProgressMode::Dated,
        Ok(Log { plain: true, .. }) => ProgressMode::Plain,
        _ => otherwise,
    }
}

fn log(args: &KanikoArgs) -> Result<Log> {
    let (explains, quiet) = match args.verbosity.as_deref().unwrap_or("info") {
        "trace" | "debug" => (true, false),
        "info" => (false, false),
        "warn" | "warning" | "error" | "fatal" | "panic" => (false, true),
        other => {
            return Err(usage(format!("use --verbosity {other}"), "there is no such level")
                .hint("expected trace, debug, info, warn, error, fatal or panic"));
        }
    };
    let (plain, json) = match args.log_format.as_deref().unwrap_or("color") {
        "text" => (true, false),
        "color" => (false, false),
        "json" => (false, true),
        other => {
            return Err(usage(format!("use --log-format {other}"), "expected text, color or json"));
        }
    };
    Ok(Log { quiet, json, plain, explains, dated: args.log_timestamp == Some(true) })
}

#[cfg(test)]
mod refusals;
#[cfg(test)]
mod tests;
