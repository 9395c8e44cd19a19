//! `gondola kaniko`: builds as kaniko's executor does, by its flags.

use std::path::Path;
use std::process::ExitCode;

use fs_err as fs;
use tempfile::TempDir;

use super::Runs;
use crate::cli::args::GlobalArgs;
use crate::cli::dialect::kaniko::{self, CredentialPlaces, KanikoArgs, Purpose, Registries};
use crate::cli::environment::Environment;
use crate::cli::flags::typed::Noted;
use crate::cli::id_range::{Need, of_root};
use crate::cli::limits;
use crate::cli::output::{ProgressMode, plan};
use crate::cli::session::{Session, check_stdout, print, print_lines};
use crate::error::{Cannot as _, ErrorKind, Result};
use crate::image::TaggedArtifact;
use crate::oci::PlatformSet;
use crate::pipeline::{self, BuildContext, KanikoFiles};
use crate::registry::{Client, check_authority, check_client_certificate};
use crate::sandbox::{Isolation, IsolationRequest};
use crate::transport;

impl Runs for Noted<KanikoArgs> {
    fn need(&self, _: &GlobalArgs, environment: &Environment) -> Result<Need> {
        // What is wrong with the flags is told later.
        let builds = self.args.words.is_empty() && self.args.dryrun != Some(true);
        let executes = builds && kaniko::check(self, environment).is_ok();
        Ok(if executes {
            Need::Perhaps(IsolationRequest::default(), of_root())
        } else {
            Need::Nothing
        })
    }

    fn progress(&self, otherwise: ProgressMode) -> ProgressMode {
        kaniko::progress(&self.args, otherwise)
    }

    fn run(self: Box<Self>, session: &Session, isolation: Option<Isolation>) -> Result<ExitCode> {
        let done = if self.args.words.is_empty() {
            session.wait(build(session, *self, isolation))
        } else {
            session.wait(push(session, *self))
        };
        let Err(error) = done else { return done };
        let ErrorKind::Exited(code) = error.kind() else { return Err(error) };
        // As kaniko does, it ends as the step did.
        session.view.close();
        session.view.fail(&limits::explain(error));
        Ok(ExitCode::from(code))
    }
}

async fn build(
    session: &Session,
    args: Noted<KanikoArgs>,
    isolation: Option<Isolation>,
) -> Result<()> {
    let keep = session.environment.store_keep()?;
    check_stdout()?;
    if args.args.dryrun == Some(true) {
        session.leave_store()?;
    }
    let build = kaniko::read(session, &args)?;
    for note in &build.notes {
        session.reporter.warn(note);
    }
    let certificates = certificates(&build.registries)?;
    let engine = BuildContext {
        transport: transport(
            session,
            (&build.registries, &build.credentials),
            certificates.as_ref(),
        )?,
        ..session.build_context()?
    };
    if build.purpose == Purpose::Plan {
        let plan = pipeline::dry_run(&engine, build.request).await?;
        session.view.close();
        return print(&plan::text(&plan));
    }
    make_folders(&build.request.outputs.kaniko)?;
    let published = pipeline::build(&engine, build.request, isolation).await?;
    session.keep_store_within(keep);
    session.view.close();
    print_lines(published.iter().map(|image| &image.pinned))
}

/// Pushes an image that was built before.
async fn push(session: &Session, args: Noted<KanikoArgs>) -> Result<()> {
    check_stdout()?;
    let push = kaniko::push::read(session, &args)?;
    let certificates = certificates(&push.registries)?;
    let context = transport(session, (&push.registries, &push.credentials), certificates.as_ref())?;
    let artifact = transport::read(&push.image, &PlatformSet::All, &context).await?;
    let digest = artifact.digest().clone();
    let named = TaggedArtifact { artifact, references: push.destinations.clone() };
    pipeline::push(&[named], push.immutable_tags, &context).await?;
    session.view.close();
    print_lines(push.destinations.iter().map(|name| name.with_digest(digest.clone())))
}

/// Makes the folders of files that say what the image is called, as kaniko does.
fn make_folders(files: &KanikoFiles) -> Result<()> {
    let all = [&files.digest, &files.names, &files.tagged_names];
    for path in all.into_iter().flatten() {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).cannot(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}

/// A folder like docker's `certs.d` with what was named for single registries.
fn certificates(registries: &Registries) -> Result<Option<TempDir>> {
    if registries.certificates.is_empty() && registries.client_certificates.is_empty() {
        return Ok(None);
    }
    let all = tempfile::tempdir().cannot(|| "make a folder for certificates")?;
    let put = |host: &str, file: &Path, name: &str| -> Result<()> {
        let folder = all.path().join(host);
        fs::create_dir_all(&folder).cannot(|| "keep a certificate")?;
        fs::copy(file, folder.join(name)).cannot(|| format!("use the certificate for {host}"))?;
        Ok(())
    };
    for (host, file) in &registries.certificates {
        // What is wrong with a file is said of the user's own, and not of its copy.
        check_authority(file)?;
        put(host, file, "ca.crt")?;
    }
    for (host, files) in &registries.client_certificates {
        check_client_certificate(&files.certificate, &files.key)?;
        put(host, &files.certificate, "client.cert")?;
        put(host, &files.key, "client.key")?;
    }
    Ok(Some(all))
}

/// The store, and a client that speaks to registries as kaniko's flags say.
fn transport(
    session: &Session,
    (registries, places): (&Registries, &CredentialPlaces),
    certificates: Option<&TempDir>,
) -> Result<transport::Context> {
    let mut options = session.registry_options()?;
    options.credentials = places.credentials(&session.environment.variables);
    options.insecure.extend(registries.insecure.iter().cloned());
    if registries.insecure_pull {
        options.insecure.push("*".to_owned());
    }
    options.certificate_dirs.splice(0..0, certificates.map(|folder| folder.path().to_owned()));
    options.mirrors = registries.mirrors.clone().over(options.mirrors);
    if let Some(attempts) = registries.attempts {
        options.retry.attempts = attempts;
    }
    Ok(transport::Context { client: Client::new(options)?, ..session.transport()? })
}
