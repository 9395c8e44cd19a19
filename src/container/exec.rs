//! Runs further programs in a container that runs.

use std::collections::BTreeMap;

use super::entry::{Seen, Status};
use super::streams::{Attachment, Plumbing, Wanted};
use super::supervise::{Program, Supervisor, listen_to_signals};
use super::terminal;
use crate::error::{Error, ErrorKind, Result};
use crate::sandbox::{Child, Exit, Join, Streams, WindowSize};

/// A further program.
#[derive(Clone, Debug, Default)]
pub struct Further {
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
    pub async fn exec(&self, seen: &Seen, further: &Further) -> Result<Exit> {
        let name = seen.container.name();
        if !matches!(seen.status, Status::Running(_)) {
            return Err(Error::new(ErrorKind::NotFound, format!("run in container {name}"))
                .because(format!("it is {}", seen.status.as_str()))
                .hint(format!("gondola restart {name}")));
        }
        let (attachment, input) = (Attachment::Foreground, further.input);
        let wanted = Wanted { attachment, input, terminal: further.terminal };
        let signals = listen_to_signals()?;
        let (streams, plumbing) = Plumbing::new(wanted)?;
        let size = further.terminal.then(terminal::current_size);
        let mut child = self.enter(seen, further, (streams, size))?;
        if let Some(Exit::NotFound(_) | Exit::NotExecutable(_)) = child.exit() {
            return child.wait();
        }
        Program::new(child, plumbing, (wanted, None))?.attend(signals).await
    }

    fn enter(
        &self,
        seen: &Seen,
        further: &Further,
        (streams, terminal): (Streams, Option<WindowSize>),
    ) -> Result<Child> {
        let mut spec = seen.config.spec.clone();
        spec.argv.clone_from(&further.argv);
        for (name, value) in &further.env {
            match value {
                Some(value) => spec.env.insert(name.clone(), value.clone()),
                None => spec.env.remove(name),
            };
        }
        spec.cwd = further.workdir.clone().unwrap_or(spec.cwd);
        spec.user = further.user.clone().unwrap_or(spec.user);
        spec.terminal = terminal;
        if !seen.config.rung.has_namespaces() {
            // There is nothing to enter but the same files.
            spec.control = None;
            return self.launcher.spawn(&spec, seen.config.rung, streams);
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
