//! `gondola start`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Args;

use super::Runs;
use super::run::{report, shim_arguments, supervisor};
use crate::cli::args::GlobalArgs;
use crate::cli::environment::Environment;
use crate::cli::id_range::Need;
use crate::cli::session::{Session, print_lines};
use crate::container::{Attachment, ContainerInfo, start_detached};
use crate::error::{Error, ErrorKind, Result};
use crate::sandbox::{Exit, Isolation};

/// Arguments of `gondola start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Containers to start; one that is running goes on
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Show the program's output, and end with its exit code
    #[arg(short, long)]
    attach: bool,
    /// Also give it this command's input, if it was run with -i
    #[arg(short, long)]
    interactive: bool,
}

impl StartArgs {
    /// What of the program's streams comes here; nothing for one that runs in the background.
    fn attachment(&self) -> Option<Attachment> {
        match (self.attach, self.interactive) {
            (_, true) => Some(Attachment::Foreground),
            (true, false) => Some(Attachment::Output),
            (false, false) => None,
        }
    }
}

impl Runs for StartArgs {
    fn need(&self, global: &GlobalArgs, environment: &Environment) -> Result<Need> {
        Need::of_containers(&self.containers, global, environment)
    }

    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        let containers = session.containers()?;
        // A name that is wrong is told before anything is started.
        let seen: Vec<ContainerInfo> =
            self.containers.iter().map(|name| containers.find(name)).collect::<Result<_>>()?;
        match (self.attachment(), &seen[..]) {
            (None, seen) => start_all(session, seen, &self.containers),
            (Some(attachment), [only]) => session.finish(attend(session, only, attachment)),
            (Some(_), _) => Err(Error::new(ErrorKind::Usage, "attach to several containers")
                .because("their output would be mixed")
                .hint("leave --attach and --interactive out, or name one container")),
        }
    }
}

/// Starts containers in the background; their files are as they left them.
///
/// One that cannot be started keeps no other from it.
fn start_all(session: &Session, seen: &[ContainerInfo], names: &[String]) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let mut begun = BTreeSet::new();
    for (seen, name) in seen.iter().zip(names) {
        let is_idle = !seen.status.is_alive() && begun.insert(seen.container.id().as_str());
        match if is_idle { begin(session, seen) } else { Ok(None) } {
            Ok(None) => print_lines([name])?,
            Ok(Some(exit)) => code = report(session, name, &exit, None),
            Err(error) if names.len() == 1 => return Err(error),
            Err(error) => {
                session.view.fail(&error);
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Starts a container in the background; answers how it ended where it did not even begin.
fn begin(session: &Session, seen: &ContainerInfo) -> Result<Option<Exit>> {
    let locked = seen.container.claim()?;
    let arguments = shim_arguments(session, seen.container.id().as_str())?;
    start_detached(&locked, &arguments)
}

/// Starts a container and stays with it to its end.
async fn attend(
    session: &Session,
    seen: &ContainerInfo,
    attachment: Attachment,
) -> Result<ExitCode> {
    let name = seen.container.name().to_owned();
    if seen.status.is_alive() {
        return Err(Error::new(ErrorKind::Usage, format!("attach to container {name}"))
            .because("it runs already, and nobody can join it")
            .hint(format!("gondola logs -f {name}, or gondola exec -it {name} sh")));
    }
    let locked = seen.container.claim()?;
    session.view.close();
    let exit = supervisor(session).run(locked, attachment, || ()).await?;
    Ok(report(session, &name, &exit, None))
}
