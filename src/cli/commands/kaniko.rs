//! `gondola kaniko`: builds as kaniko's executor does, by its flags.

use std::path::Path;
use std::process::ExitCode;

use fs_err as fs;
use tempfile::TempDir;

use super::Runs;
use crate::cli::args::GlobalArgs;
use crate::cli::dialect::kaniko::{self, KanikoArgs, Purpose, Registries};
use crate::cli::environment::Environment;
use crate::cli::flags::typed::Noted;
use crate::cli::id_range::{Need, of_root};
use crate::cli::output::ProgressMode;
use crate::cli::session::{Session, print_lines};
use crate::error::{Cannot as _, Result};
use crate::pipeline::{self, BuildContext, KanikoFiles};
use crate::registry::Client;
use crate::sandbox::{Isolation, IsolationRequest};

impl Runs for Noted<KanikoArgs> {
    fn need(&self, _: &GlobalArgs, environment: &Environment) -> Result<Need> {
        // What is wrong with the flags is told later.
        let executes = self.args.dryrun != Some(true) && kaniko::check(self, environment).is_ok();
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
        session.wait(build(session, *self, isolation))
    }
}

async fn build(
    session: &Session,
    args: Noted<KanikoArgs>,
    isolation: Option<Isolation>,
) -> Result<()> {
    let build = kaniko::read(session, &args)?;
    for note in &build.notes {
        session.reporter.warn(note);
    }
    let certificates = certificates(&build.registries)?;
    let engine = engine(session, &build.registries, certificates.path())?;
    if build.purpose == Purpose::Check {
        return pipeline::check(&engine, build.request).await;
    }
    make_folders(&build.request.outputs.kaniko)?;
    let keep = session.environment.store_keep()?;
    let published = pipeline::build(&engine, build.request, isolation).await?;
    session.keep_store_within(keep);
    session.view.close();
    print_lines(published.iter().map(|image| &image.pinned))
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
    options.mirrors = registries.mirrors.clone().over(options.mirrors);
    if let Some(attempts) = registries.attempts {
        options.retry.attempts = attempts;
    }
    engine.transport.client = Client::new(options)?;
    Ok(engine)
}
