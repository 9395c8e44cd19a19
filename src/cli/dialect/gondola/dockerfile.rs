//! `gondola build` of a Dockerfile: what was typed, and what it means.

use std::collections::BTreeMap;
use std::path::Path;

use super::{BuildArgs, platform};
use crate::cli::dialect::input;
use crate::cli::flags::{self, context, pair};
use crate::cli::proxies;
use crate::cli::session::Session;
use crate::dockerfile::convert::{CacheRepository, ContextSource, FileSource, LayerChoice, Recipe};
use crate::engine::OnFailure;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::golang;
use crate::pipeline::{DockerfileSource, Packaging};
use crate::sandbox::Network;
use crate::secret;

/// Names of Dockerfiles that are found without being named.
pub const USUAL_NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];

/// The Dockerfile, and what it is built with.
pub fn source(session: &Session, args: &BuildArgs) -> Result<DockerfileSource> {
    let environment = &session.environment;
    let own = &args.dockerfile;
    let (context, file) = context_and_file(session, args)?;
    let named = own.build_context.iter().map(|text| context::named(text, &environment.folder));
    let agents = own.ssh.iter().map(|text| flags::ssh::parse(environment, text));
    let arguments = arguments(session, &own.build_arg)?;
    let name = golang::image_name(name(&context).as_deref().unwrap_or("app"));
    let recipe = Recipe {
        file,
        context,
        contexts: named.collect::<Result<_>>()?,
        target: own.target.clone(),
        also: Vec::new(),
        epoch: input::epoch(&arguments)?,
        arguments,
        secrets: flags::secret::all(environment, &session.reporter, &own.secret)?,
        agents: agents.collect::<Result<_>>()?,
        hosts: own.add_host.iter().map(|text| flags::host::parse(text)).collect::<Result<_>>()?,
        network: network(own.network.as_deref())?,
        limits: own.ulimit.clone(),
        // As for docker, none is the usual size.
        shared_memory_bytes: own.shm_size.filter(|bytes| *bytes > 0),
        go_cache: !own.no_go_cache,
        now: input::now(environment),
        manifest_format: None,
        layers: LayerChoice::default(),
        on_failure: if own.shell_on_failure {
            OnFailure::Shell
        } else {
            OnFailure::End(Some("--shell-on-failure opens a shell where it failed"))
        },
    };
    Ok(DockerfileSource {
        recipe,
        execute_in: own.no_cache_filter.iter().map(|name| name.to_lowercase()).collect(),
        cache: own.cache_repo.as_deref().map(cache_repository).transpose()?,
        name,
        packaging: packaging(args)?,
    })
}

/// What was typed of the image that is no business of the file.
fn packaging(args: &BuildArgs) -> Result<Packaging> {
    Ok(Packaging {
        platforms: platform::joined(&args.result.platform),
        tags: super::packages::typed_names(args)?,
        encoding: super::packages::typed_encoding(&args.image)?,
        labels: pair::labels("--label", &args.image.label)?,
        annotations: pair::with_values("--annotation", &args.image.annotation)?,
    })
}

/// What an image is called where nothing names it.
fn name(context: &ContextSource) -> Option<String> {
    match context {
        ContextSource::Folder(folder) => {
            let whole = fs_err::canonicalize(folder).unwrap_or_else(|_| folder.clone());
            whole.file_name().map(|name| name.to_string_lossy().into_owned())
        }
        ContextSource::Git(git) => {
            let path = git.remote.trim_end_matches('/').trim_end_matches(".git");
            path.rsplit(['/', ':']).next().map(str::to_owned)
        }
        ContextSource::Archive { .. } | ContextSource::Address(_) | ContextSource::Empty => None,
    }
}

fn context_and_file(session: &Session, args: &BuildArgs) -> Result<(ContextSource, FileSource)> {
    let folder = &session.environment.folder;
    let context = match args.packages.as_slice() {
        [] => ".",
        [only] => only.as_str(),
        [_, other, ..] => {
            let other = match other.split_once('=') {
                Some(_) => secret::pair(other),
                None => secret::addresses(other),
            };
            return Err(Error::new(ErrorKind::Usage, format!("use {other}"))
                .because("a Dockerfile has one context"));
        }
    };
    let file = args.dockerfile.file.as_deref();
    let from_stdin = file == Some(Path::new("-"));
    if context == "-" {
        if from_stdin {
            return Err(Error::new(ErrorKind::Usage, "read both from standard input")
                .because("it cannot be the Dockerfile and the context at once"));
        }
        return input::context_of_stdin(session, file);
    }
    let context = context::parse(context, folder);
    if !matches!(context, ContextSource::Folder(_)) {
        return Ok((context, input::in_context(file)?));
    }
    let file = match file {
        Some(_) if from_stdin => FileSource::Text(input::read_stdin()?),
        Some(path) => FileSource::Path(folder.join(path)),
        None => FileSource::InContext(String::new()),
    };
    Ok((context, file))
}

/// What ARGs get: what was typed, proxies, and the time that everything gets.
fn arguments(session: &Session, typed: &[String]) -> Result<BTreeMap<String, String>> {
    let mut arguments = input::with_epoch(session, proxies::for_build(session, typed));
    let typed = pair::variables("--build-arg", typed, &session.environment.variables)?;
    arguments.extend(typed.into_iter().filter_map(|(name, value)| Some((name, value?))));
    Ok(arguments)
}

fn cache_repository(text: &str) -> Result<CacheRepository> {
    text.parse().map(CacheRepository::new).cannot(|| format!("use --cache-repo {text}"))
}

fn network(text: Option<&str>) -> Result<Network> {
    match text {
        None | Some("default" | "host") => Ok(Network::Host),
        Some("none") => Ok(Network::None),
        Some("private") => Ok(Network::Private),
        Some(other) => Err(Error::new(ErrorKind::Usage, format!("use --network {other}"))
            .because("expected host, none or private")),
    }
}
