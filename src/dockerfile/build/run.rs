//! `RUN`: executes a command in a sandbox on a fork of the stage's files.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::caches;
use super::cancel::{CancelToken, Waiting};
use super::job::{Chosen, Job, StepKind};
use super::mounts::{self, Mounts, Prepared};
use super::shell::{self, Failed, FirstFailed};
use super::shop::{self, blocking};
use super::stage::{Failure, Stage, ended};
use crate::dockerfile::Diagnostic;
use crate::dockerfile::config;
use crate::dockerfile::instruction::{CommandLine, Instruction, Run, RunNetwork, Security};
use crate::dockerfile::scope;
use crate::engine::{Executed, Guard, Key};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::progress::{Task, TaskKind};
use crate::rootfs::Fork;
use crate::sandbox::{Access, Exit, LowPorts, Network, Spec, Streams, Stub};
use crate::store::Store;

/// Where a heredoc that begins with `#!` appears, as in BuildKit.
const SCRIPTS: &str = "/dev/pipes";
/// How many of its last lines a failed command is quoted with.
const QUOTED_LINES: usize = 20;
/// A line that never ends is cut here.
const LONGEST_LINE: u64 = 64 << 10;

/// A command after all that can be said without executing it.
struct Command {
    argv: Vec<String>,
    /// A script to make: its name and text.
    script: Option<(String, String)>,
    network: Network,
    environment: Vec<(String, String)>,
}

/// Executes `RUN`.
pub(super) async fn execute(
    stage: &mut Stage<'_>,
    instruction: &Instruction,
    run: &Run,
) -> Result<(), Failure> {
    refuse(run)?;
    let command = command(stage, run);
    let text = history(stage, &command);
    let job = stage.build.common.job.clone();
    let environment = command.environment.iter().flat_map(|(name, value)| [name, value]);
    let hosts = job.hosts.iter().map(|(name, address)| format!("{name} {address}"));
    let script = command.script.as_ref().map(|(_, text)| text);
    let go_reads = caches::reads(stage);
    let key = stage
        .key("run")
        .list(&command.argv)
        .optional(script)
        .list(environment)
        .text(&stage.config.config.working_dir)
        .text(&stage.config.config.user)
        .text(format!("{:?}", command.network))
        .list(hosts)
        .number(u64::from(job.go_cache))
        .list(&go_reads);
    let key = bounds(&job, key);
    let (mounts, key) = mounts::describe(stage, &run.mounts, key).await?;
    let (key, mounts_cached) = (key.finish(), mounts.have_cached());
    let shop = &stage.build.common.shop;
    let label = stage.label(instruction);
    let task = shop.tools.transport.reporter.start(TaskKind::Step, label, None);
    let task = Arc::new(task);
    let waiting = Waiting::new(&task);
    let begun = Begun { task: task.clone(), cancel: waiting.cancel() };
    let execute = || in_sandbox(stage, &key, command, mounts, begun);
    let mut wanted = stage.wanted(key.clone(), StepKind::Run);
    wanted.on_cached |= mounts_cached;
    let outcome = shop.step(&wanted, execute).await;
    waiting.finish();
    let (step, origin) = outcome?;
    if let Some(task) = Arc::into_inner(task) {
        ended(task, origin);
    }
    stage.add(step, text);
    Ok(())
}

/// Adds how far a step is let to its key, where that was asked for.
fn bounds(job: &Job, key: Key) -> Key {
    let key = match job.shared_memory_bytes {
        Some(bytes) => key.text("shared memory").number(bytes),
        None => key,
    };
    job.limits.iter().fold(key, |key, limit| key.text(limit.to_string()))
}

fn refuse(run: &Run) -> Result<(), Failure> {
    if let Security::Insecure(span) = run.security {
        return Err(Diagnostic::error(span, "steps cannot have all rights")
            .label("gondola has none to give: it runs without root")
            .into());
    }
    if let Some(device) = run.devices.first() {
        return Err(Diagnostic::error(device.span, "steps cannot have devices of the host").into());
    }
    Ok(())
}

fn command(stage: &Stage<'_>, run: &Run) -> Command {
    let mut script = None;
    let argv = match &run.command {
        CommandLine::Exec(words) => words.iter().map(|word| word.text.clone()).collect(),
        CommandLine::Shell(text) => {
            let text = match run.heredocs.as_slice() {
                [] => text.text.clone(),
                [only] if is_heredoc_alone(&text.text) => {
                    let content = only.content();
                    if content.starts_with("#!") {
                        script = Some((only.name.clone(), content));
                        format!("{SCRIPTS}/{}", only.name)
                    } else {
                        content
                    }
                }
                // The shell reads heredocs itself.
                several => several.iter().fold(text.text.clone(), |text, heredoc| {
                    format!("{text}\n{}{}", heredoc.body, heredoc.name)
                }),
            };
            config::in_shell(&stage.config.config, &text)
        }
    };
    let network = match run.network {
        RunNetwork::Default => stage.build.common.job.network,
        RunNetwork::None => Network::None,
        RunNetwork::Host => Network::Host,
    };
    Command { argv, script, network, environment: stage.scope.run_environment().to_vec() }
}

/// Whether a command is `<<NAME` and nothing else.
fn is_heredoc_alone(text: &str) -> bool {
    let text = text.trim();
    text.starts_with("<<") && !text.contains(char::is_whitespace)
}

/// What the history says: the `ARG`s in force, then the command.
fn history(stage: &Stage<'_>, command: &Command) -> String {
    let declared = stage.scope.declared();
    let mut words = Vec::new();
    if !declared.is_empty() {
        words.push(format!("|{}", declared.len()));
        let shown = |(name, value): &(String, String)| {
            format!("{name}={}", scope::shown_value(name, value))
        };
        words.extend(declared.iter().map(shown));
    }
    words.extend(command.argv.iter().cloned());
    format!("RUN {} # buildkit", words.join(" "))
}

async fn in_sandbox(
    stage: &Stage<'_>,
    key: &str,
    command: Command,
    mounts: Mounts,
    begun: Begun,
) -> Result<Executed, Failure> {
    let shop = &stage.build.common.shop;
    let workshop = shop.workshop().await?;
    let rootfs = shop.rootfs(&stage.snapshot).await?;
    let mut prepared = mounts.prepare(stage).await?;
    if let Some((name, text)) = command.script.clone() {
        let (folder, fork) = mounts::script(workshop, &name, &text)?;
        prepared.bind(folder, SCRIPTS, Access::ReadOnly);
        prepared.guards.push(Arc::new(Mutex::new(fork)));
    }
    let taken = mounts.targets().into_iter().map(str::to_owned).collect::<Vec<_>>();
    caches::mount(stage, &taken, &mut prepared).await?;
    let spec = spec(stage, command, &mut prepared);
    let host = shop.tools.host();
    let foreign = (!stage.platform.satisfies(host)).then(|| stage.platform.to_string());
    let chosen = workshop.chosen.clone();
    let guards = std::mem::take(&mut prepared.guards);
    let shell = shop.job.shell_on_failure.then(|| Shell {
        command: shell::command(&stage.config.config),
        failed: shop.failed.clone(),
    });
    let links = std::mem::take(&mut prepared.links);
    let store = shop.tools.transport.store.clone();
    let made = blocking(move || {
        begun.cancel.check()?;
        let fork = rootfs.fork()?;
        let links = fork.link(&links)?;
        let spec = Spec { root: fork.root(), ..spec };
        Execution { chosen, spec, begun, shell, foreign, links, store }.run(fork, guards)
    });
    let made = made.await;
    if let Some(modules) = &prepared.modules {
        match &made {
            Ok(_) => caches::filled(stage, modules, key)?,
            Err(_) => shop.again.note_lost(caches::lost(stage, modules)),
        }
    }
    let with_caches = prepared.with_caches;
    made.map(|made| Executed { with_caches, ..made }).map_err(Failure::from)
}

fn spec(stage: &Stage<'_>, command: Command, prepared: &mut Prepared) -> Spec {
    let job = &stage.build.common.job;
    let root = crate::sandbox::Root::Overlay { layers: Vec::new(), changes: None };
    let mut spec = Spec::new(root, command.argv);
    spec.env = command.environment.into_iter().collect::<BTreeMap<_, _>>();
    for (name, value) in stage.scope.proxy_environment(&stage.build.inputs) {
        spec.env.entry(name).or_insert(value);
    }
    spec.env.extend(std::mem::take(&mut prepared.variables));
    let folder = &stage.config.config.working_dir;
    if folder.is_empty() { "/" } else { folder }.clone_into(&mut spec.cwd);
    spec.user.clone_from(&stage.config.config.user);
    spec.mounts = std::mem::take(&mut prepared.mounts);
    spec.network = command.network;
    // A step serves nobody on this machine.
    spec.low_ports = LowPorts::Closed;
    spec.extra_hosts.clone_from(&job.hosts);
    spec.limits.clone_from(&job.limits);
    spec.shared_memory_bytes = job.shared_memory_bytes;
    "buildkitsandbox".clone_into(&mut spec.hostname);
    spec
}

/// What a step is known by outside.
struct Begun {
    task: Arc<Task>,
    cancel: CancelToken,
}

/// A command about to be executed.
struct Execution {
    chosen: Chosen,
    spec: Spec,
    begun: Begun,
    /// The shell that a failure ends in.
    shell: Option<Shell>,
    /// The platform of the command, where it is not this machine's.
    foreign: Option<String>,
    /// What was made in the fork to lead to mounts.
    links: Vec<Stub>,
    /// Where its files are.
    store: Store,
}

/// A shell to open if a command fails.
struct Shell {
    command: Vec<String>,
    failed: FirstFailed,
}

impl Execution {
    /// Executes it in `fork`; what `guards` hold lasts at least as long.
    fn run(mut self, fork: Fork, guards: Vec<Guard>) -> Result<Executed> {
        let action = || "run a step";
        // One pipe for both, so that what is written stays in its order.
        let (end, output) = std::io::pipe().cannot(action)?;
        let error = output.try_clone().cannot(action)?;
        let null = Streams::null()?;
        let streams = Streams { input: null.input, output: output.into(), error: error.into() };
        let mut child = self.chosen.launcher.spawn(&self.spec, self.chosen.rung, streams)?;
        self.begun.cancel.concerns(&child);
        let last = Arc::new(Mutex::new(VecDeque::new()));
        let reader = {
            let (task, last) = (self.begun.task.clone(), last.clone());
            thread::Builder::new().spawn(move || tell(end, &task, &last)).cannot(action)?
        };
        let exit = child.wait()?;
        if let Err(panic) = reader.join() {
            std::panic::resume_unwind(panic);
        }
        self.begun.cancel.check()?;
        if exit.is_success() {
            return shop::keep(fork, &[child.stubs(), &self.links].concat());
        }
        let last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let error = self.failed(&exit, &last);
        if let Some(Shell { command: shell, failed }) = self.shell.take() {
            let Self { chosen, spec, .. } = self;
            shell::keep(&failed, Failed { chosen, spec, shell, fork, guards });
        }
        Err(error)
    }

    fn failed(&self, exit: &Exit, last: &VecDeque<String>) -> Error {
        let how = match exit {
            Exit::Code(code) => format!("it ended with exit code {code}"),
            Exit::Signal(number) => format!("it was killed by signal {number}"),
            Exit::NotFound(what) => what.clone(),
            Exit::NotExecutable(why) => format!("it cannot be executed: {why}"),
            Exit::TimedOut => "its time was over".to_owned(),
        };
        let program = self.spec.argv.first().map_or("", String::as_str);
        let action = match exit {
            Exit::NotFound(_) | Exit::NotExecutable(_) => format!("run {program}"),
            _ => "execute the step".to_owned(),
        };
        let lines: Vec<&str> = last.iter().map(String::as_str).collect();
        let quoted = if lines.is_empty() {
            how
        } else {
            format!("{how}, and said last:\n  {}", lines.join("\n  "))
        };
        let error = Error::new(ErrorKind::Program, action).because(quoted);
        match (exit, &self.foreign) {
            (Exit::NotExecutable(_), Some(platform)) => error.hint(format!(
                "register an emulator of {platform} with binfmt_misc, or compile natively: \
                 FROM --platform=$BUILDPLATFORM"
            )),
            (Exit::NotFound(_), _) => error.hint("the image has no such program"),
            _ if self.store.is_full() => error.hint(format!(
                "the disk of the store is full: free some space at {} (gondola cache prune), or set \
                 GONDOLA_HOME to a folder on another disk",
                self.store.root().display()
            )),
            _ if self.shell.is_some() => error,
            _ => error.hint("--shell-on-failure opens a shell where it failed"),
        }
    }
}

/// Passes on what a command writes, line by line.
fn tell(stream: impl Read, task: &Task, last: &Mutex<VecDeque<String>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        // What cannot be read any more has ended.
        let read = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        if !read.is_ok_and(|count| count > 0) {
            return;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        // A progress bar redraws its line: only what it shows last is told.
        let text = text.rsplit('\r').next().unwrap_or_default().to_owned();
        task.line(&text);
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == QUOTED_LINES {
            last.pop_front();
        }
        last.push_back(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heredoc_alone_is_told_from_one_in_a_command() {
        for (text, expected) in
            [("<<EOF", true), (" <<-'E' ", true), ("cat <<EOF", false), ("<<A <<B", false)]
        {
            assert_eq!(is_heredoc_alone(text), expected, "{text}");
        }
    }
}
