//! Runs further programs in a container that runs.

use std::collections::BTreeMap;

use super::entry::{ContainerInfo, Status};
use super::streams::{Attachment, ProgramStreams, StreamOptions};
use super::supervise::{Program, Supervisor, listen_to_signals};
use super::terminal;
use crate::error::{Error, ErrorKind, Result};
use crate::sandbox::{Child, Exit, Join, Streams, WindowSize};

/// A further program.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Variables on top of the container's; `None` takes one away.
    pub env: BTreeMap<String, Option<String>>,
    /// The working folder, instead of the container's.
    pub workdir: Option<String>,
    /// The user, instead of the container's.
    pub user: Option<String>,
    /// Whether its standard input is this process's.
    pub input: bool,
    /// Whether it has a terminal.
    pub terminal: bool,
}

impl Supervisor {
    /// Runs a further program in a container, and waits for its end. Signals to this process go to it.
    pub async fn exec(&self, seen: &ContainerInfo, request: &ExecRequest) -> Result<Exit> {
        let name = seen.container.name();
        if !matches!(seen.status, Status::Running(_)) {
            return Err(Error::new(ErrorKind::NotFound, format!("run in container {name}"))
                .because(format!("it is {}", seen.status.as_str()))
                .hint(format!("gondola restart {name}")));
        }
        let (attachment, input) = (Attachment::Foreground, request.input);
        let wanted = StreamOptions { attachment, input, terminal: request.terminal };
        let signals = listen_to_signals()?;
        let (streams, ours) = ProgramStreams::new(wanted)?;
        let size = request.terminal.then(terminal::current_size);
        let mut child = self.enter(seen, request, (streams, size))?;
        if let Some(Exit::NotFound(_) | Exit::NotExecutable(_)) = child.exit() {
            return child.wait();
        }
        Program::new(child, ours, (wanted, None))?.attend(signals).await
    }

    fn enter(
        &self,
        seen: &ContainerInfo,
        request: &ExecRequest,
        (streams, terminal): (Streams, Option<WindowSize>),
    ) -> Result<Child> {
        let mut spec = seen.config.spec.clone();
        spec.argv.clone_from(&request.argv);
        for (name, value) in &request.env {
            match value {
                Some(value) => spec.env.insert(name.clone(), value.clone()),
                None => spec.env.remove(name),
            };
        }
        spec.cwd = request.workdir.clone().unwrap_or(spec.cwd);
        spec.user = request.user.clone().unwrap_or(spec.user);
        spec.terminal = terminal;
        if !seen.config.isolation.has_namespaces() {
            // There is nothing to enter but the same files.
            spec.control = None;
            return self.launcher.spawn(&spec, seen.config.isolation, streams);
        }
        let control = seen.container.control_path();
        let join = Join {
            control,
            argv: spec.argv,
            env: spec.env,
            cwd: spec.cwd,
            user: spec.user,
            terminal,
        };
        self.launcher.join(&join, streams)
    }
}
