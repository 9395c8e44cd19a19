//! From a request to published images: joins the front ends with bases, registries and outputs.
//!
//! Parts that do not need each other run side by side. Nothing is published before everything is built
//! (a registry may have layers by then that nothing names, see `early_push`), and the error of a registry that refuses access comes while the compiler still works.

mod assemble;
mod base;
mod base_files;
mod compatibility;
mod dockerfile;
pub mod documents;
mod dry_run;
mod early_push;
mod materials;
mod offline;
mod planned;
mod programs;
mod publish;
mod request;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use dry_run::plan as dry_run;
pub use publish::{ImmutableTags, KanikoFiles, Outputs, Published, check_file, push};
pub use request::{
    BaseChoice, Caches, DockerfileSource, Grouping, ImageSettings, Override, Packaging, Prebuilt,
    Programs, Request, Settings, Source, Target, ToolchainChoice,
};

use crate::error::{Error, ErrorKind, Result};
use crate::golang::Tools;
use crate::golang::request::ProgramRequest;
use crate::image::Artifact;
use crate::oci::Reference;
use crate::sandbox::{Isolation, Launcher};
use crate::transport::Context;
use materials::MaterialsSource;

/// What every build has at its disposal.
#[derive(Clone)]
pub struct BuildContext {
    /// The store, the registry client, and the reader of progress.
    pub transport: Context,
    /// The environment variables that builds may look at.
    pub variables: BTreeMap<String, String>,
    /// The folder that keeps programs between runs, with a folder for each scope.
    pub programs: PathBuf,
    /// What starts sandboxes.
    pub launcher: Launcher,
    /// How many things can usefully run at once.
    pub cores: usize,
}

impl BuildContext {
    /// What a build of Go packages uses of it, with the folder that keeps its programs.
    fn go_tools(&self, programs: PathBuf) -> Tools {
        let Self { transport, variables, launcher, cores, .. } = self.clone();
        Tools { transport, variables, programs, launcher, cores }
    }
}

/// One image, for every platform that was asked for.
#[derive(Clone, Debug)]
struct Built {
    name: String,
    artifact: Artifact,
    references: Vec<Reference>,
    /// What it was made of.
    materials: MaterialsSource,
}

/// Builds every image that `request` asks for, and sends each where it says. `chosen` is how steps are
/// isolated, where that is known.
pub async fn build(
    context: &BuildContext,
    request: Request,
    chosen: Option<Isolation>,
) -> Result<Vec<Published>> {
    let Request { source, caches, isolation, outputs } = request;
    outputs.check_compression(&source.encodings())?;
    outputs.check()?;
    match source {
        Source::GoPackages(programs) | Source::Prebuilt(programs) => {
            let request = ProgramRequest::new(programs, caches, isolation);
            context.transport.store.make_if_writable()?;
            programs::build(context, &request, &outputs).await
        }
        Source::Dockerfile(source) => {
            let asked = (&*source, &caches);
            dockerfile::check_isolation(context, (isolation, chosen), asked, &outputs).await?;
            let executor = dockerfile::executor(context, isolation, chosen);
            Box::pin(dockerfile::build(context, executor, (*source, caches), &outputs)).await
        }
    }
}

/// Looks for problems of a Dockerfile without building it; reports each, and errs if one of them
/// would keep it from building.
pub async fn check(context: &BuildContext, request: Request) -> Result<()> {
    match request.source {
        Source::Dockerfile(source) => {
            dockerfile::check(context, (*source, request.caches), &request.outputs).await
        }
        Source::GoPackages(_) | Source::Prebuilt(_) => {
            Err(Error::new(ErrorKind::Usage, "check what is built")
                .because("only Dockerfiles can be checked"))
        }
    }
}
