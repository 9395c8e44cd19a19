//! `gondola kaniko`: builds as kaniko's executor does, by its flags.

use std::path::{Path, PathBuf};

use fs_err as fs;
use tempfile::TempDir;

use crate::cli::dockerfile;
use crate::cli::kaniko::{
    ContextChoice, KanikoArgs, Purpose, Registries, SecretChoice, Translation, translate,
};
use crate::cli::proxies;
use crate::cli::sandbox::SandboxArgs;
use crate::cli::session::{Session, print_lines};
use crate::dockerfile::build::{
    CachePolicy, ContextSource, FileSource, Job, SecretSource, StatedPlatform,
};
use crate::dockerfile::context::GitSource;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::golang;
use crate::oci::PlatformSet;
use crate::pipeline::{self, BuildContext, DockerfileRequest, KanikoFiles, Outputs};
use crate::registry::{Client, Mirrors};
use crate::sandbox::{Network, Rung};
use crate::secret;
use crate::transport::Location;

pub(in crate::cli) async fn run(
    session: &Session,
    args: KanikoArgs,
    rung: Option<Rung>,
) -> Result<()> {
    let build = translate(&args, &session.environment.variables)?;
    for note in &build.notes {
        session.reporter.warn(note);
    }
    let certificates = certificates(&build.registries)?;
    let engine = engine(session, &build.registries, certificates.path())?;
    let request = request(session, &build)?;
    let isolation = dockerfile::isolation(session, &SandboxArgs::default(), rung)?;
    if build.purpose == Purpose::Check {
        return pipeline::check_dockerfile(&engine, request).await;
    }
    let folder = &session.environment.folder;
    let tar = build.files.tar.clone().map(|file| Location::DockerArchive { file, name: None });
    let layout = build.files.layout.clone().map(|folder| Location::Layout { folder, tag: None });
    let places = tar.into_iter().chain(layout).map(|place| place.in_folder(folder));
    let outputs = Outputs {
        push: build.push,
        immutable_tags: build.immutable_tags,
        places: places.collect(),
        kaniko: result_files(session, &build)?,
        ..Outputs::default()
    };
    let keep = session.environment.store_keep()?;
    let published = pipeline::build_dockerfile(&engine, isolation, request, &outputs).await?;
    session.keep_store_within(keep);
    session.view.close();
    print_lines(published.iter().map(|image| &image.pinned))
}

/// A folder like docker's `certs.d` with what was named for single registries.
fn certificates(registries: &Registries) -> Result<TempDir> {
    let all = tempfile::tempdir().cannot(|| "make a folder for certificates")?;
    let put = |host: &str, file: &Path, name: &str| -> Result<()> {
        let folder = all.path().join(host);
        fs::create_dir_all(&folder).cannot(|| "keep a certificate")?;
        fs::copy(file, folder.join(name)).cannot(|| format!("use the certificate for {host}"))?;
        Ok(())
    };
    for (host, file) in &registries.certificates {
        put(host, file, "ca.crt")?;
    }
    for (host, files) in &registries.client_certificates {
        put(host, &files.certificate, "client.cert")?;
        put(host, &files.key, "client.key")?;
    }
    Ok(all)
}

fn engine(session: &Session, registries: &Registries, certificates: &Path) -> Result<BuildContext> {
    let mut engine = session.build_context()?;
    let mut options = session.registry_options()?;
    options.insecure.extend(registries.insecure.iter().cloned());
    if registries.insecure_pull {
        options.insecure.push("*".to_owned());
    }
    options.certificate_dirs.insert(0, certificates.to_owned());
    options.mirrors = Mirrors::parse(&registries.mirrors)?.over(options.mirrors);
    if let Some(attempts) = registries.attempts {
        options.retry.attempts = attempts;
    }
    engine.transport.client = Client::new(options)?;
    Ok(engine)
}

fn request(session: &Session, build: &Translation) -> Result<DockerfileRequest> {
    let environment = &session.environment;
    let context = context(session, &build.context)?;
    let name = match &context {
        ContextSource::Folder(folder) => folder.file_name(),
        _ => None,
    };
    let name = name.map_or_else(|| "app".to_owned(), |name| name.to_string_lossy().into_owned());
    let now = environment.now.duration_since(std::time::UNIX_EPOCH);
    // As kaniko's own steps do, these see all that it sees of proxies.
    let mut arguments = dockerfile::with_epoch(session, proxies::of_environment(session));
    arguments.extend(build.arguments.clone());
    let epoch = dockerfile::epoch(&arguments)?.or(build.reproducible.then_some(0));
    let secrets =
        build.secrets.iter().map(|(id, choice)| Ok((id.clone(), secret(session, choice)?)));
    let job = Job {
        file: file(session, &context, &build.dockerfile),
        context,
        contexts: std::collections::BTreeMap::new(),
        target: build.target.clone(),
        arguments,
        secrets: secrets.collect::<Result<_>>()?,
        agents: std::collections::BTreeMap::new(),
        labels: build.labels.clone(),
        annotations: build.annotations.clone(),
        hosts: Vec::new(),
        network: Network::Host,
        limits: Vec::new(),
        shared_memory_bytes: None,
        cache: CachePolicy {
            off: !build.use_cache,
            repository: build.cache.clone(),
            ..CachePolicy::default()
        },
        go_cache: true,
        scope: environment.cache_scope(build.cache_scope.as_deref())?,
        shares_caches: build.shares_caches,
        epoch,
        now: now.ok().and_then(|time| i64::try_from(time.as_secs()).ok()).unwrap_or_default(),
        encoding: build.encoding.unwrap_or_default(),
        family: build.family.clone(),
        stated: StatedPlatform::of(build.platform.as_ref()),
        shell_on_failure: false,
        explain: false,
        is_kept_here: !build.push || build.files.tar.is_some() || build.files.layout.is_some(),
    };
    Ok(DockerfileRequest {
        job,
        platforms: build.platform.clone().map(|platform| PlatformSet::Listed(vec![platform])),
        name: golang::image_name(&name),
        tags: build.destinations.iter().map(ToString::to_string).collect(),
    })
}

fn context(session: &Session, choice: &ContextChoice) -> Result<ContextSource> {
    match choice {
        ContextChoice::Folder(folder) => {
            Ok(ContextSource::Folder(session.environment.resolve(folder)))
        }
        ContextChoice::Archive(file, folder) => {
            let file = session.environment.resolve(file);
            let name = file.display().to_string();
            Ok(ContextSource::Archive { file, name, folder: folder.clone() })
        }
        ContextChoice::Stdin(folder) => match dockerfile::context_of_stdin(session, None)? {
            (ContextSource::Archive { file, name, .. }, _) => {
                Ok(ContextSource::Archive { file, name, folder: folder.clone() })
            }
            _ => Err(Error::new(ErrorKind::Invalid, "read the context from standard input")
                .because("it is no tar archive")),
        },
        ContextChoice::Git(text) => {
            GitSource::parse(text).map(ContextSource::Git).ok_or_else(|| {
                Error::new(ErrorKind::Usage, format!("use {}", secret::address(text)))
                    .because("it is no git repository")
            })
        }
    }
}

/// A Dockerfile of this machine, or else one of the context.
fn file(session: &Session, context: &ContextSource, name: &str) -> FileSource {
    let here = session.environment.resolve(name);
    match context {
        _ if here.is_file() => FileSource::Path(here),
        ContextSource::Folder(folder) => FileSource::Path(folder.join(name)),
        _ => FileSource::InContext(name.to_owned()),
    }
}

fn secret(session: &Session, choice: &SecretChoice) -> Result<SecretSource> {
    match choice {
        SecretChoice::File(file) => Ok(SecretSource::File(session.environment.resolve(file))),
        SecretChoice::Variable(name) => {
            let value = session.environment.variables.get(name).cloned();
            value.map(SecretSource::Value).ok_or_else(|| {
                Error::new(ErrorKind::Usage, "use --secret")
                    .because(format!("the variable {name} is not set"))
            })
        }
    }
}

/// The files that say what the image is called; folders on the way are made, as kaniko makes them.
fn result_files(session: &Session, build: &Translation) -> Result<KanikoFiles> {
    let resolve = |path: &Option<PathBuf>| -> Result<Option<PathBuf>> {
        let Some(path) = path else { return Ok(None) };
        let path = session.environment.resolve(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).cannot(|| format!("write {}", path.display()))?;
        }
        Ok(Some(path))
    };
    Ok(KanikoFiles {
        digest: resolve(&build.files.digest)?,
        names: resolve(&build.files.names)?,
        tagged_names: resolve(&build.files.tagged_names)?,
    })
}
