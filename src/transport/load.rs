//! Other engines: their own `load` reads an archive from a pipe.

use std::process::Stdio;

use tokio::process::{Child, Command};

use super::archive;
use super::export::Export;
use super::watch::blocking;
use super::{ContainerEngine, Context};
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::progress::Task;

/// Streams an archive into `docker load` or `podman load`.
pub(super) async fn load(
    engine: ContainerEngine,
    export: Export,
    task: Task,
    context: &Context,
) -> Result<()> {
    let program = engine.program();
    let has_zstd = export.has_zstd_layer();
    let mut child = start(engine)?;
    let input = child.stdin.take().expect("the pipe was asked for");
    // Written on a thread of its own, so the pipe must block.
    let input = input.into_owned_fd().cannot(|| format!("write to {program} load"))?;
    let written = blocking(move |watch| {
        let progress = |bytes| {
            task.advance(bytes);
            watch.check()
        };
        let written = archive::to_writer(&export, std::fs::File::from(input), &progress);
        Ok((written, task))
    });
    // Dropped in this order: a thread that waits for the engine ends with it.
    let (ended, written) = tokio::join!(child.wait_with_output(), written);
    let output = ended.cannot(|| format!("wait for {program} load"))?;
    let (written, task) = written?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said =
            if said.trim().is_empty() { output.status.to_string() } else { said.trim().to_owned() };
        let error =
            Error::new(ErrorKind::Program, format!("load the image into {program}")).because(said);
        return Err(match engine {
            ContainerEngine::Docker if has_zstd => {
                error.hint("docker before 23 needs --compression gzip")
            }
            _ => error,
        });
    }
    written.cannot(|| format!("load the image into {program}"))?;
    task.done();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        context.reporter.note(format!("{program}: {line}"));
    }
    Ok(())
}

fn start(engine: ContainerEngine) -> Result<Child> {
    let program = engine.program();
    let mut command = Command::new(program);
    command.arg("load").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|error| {
        let failed = Error::new(ErrorKind::Program, format!("start {program} load"));
        match error.kind() {
            std::io::ErrorKind::NotFound => failed
                .because(format!("there is no program {program} on PATH"))
                .hint(format!("install {program}, or write docker-archive:FILE")),
            _ => failed.caused_by(error),
        }
    })
}
