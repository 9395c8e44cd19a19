//! `RUN` as an op: the command, its mounts, and what else it sees.

use std::collections::BTreeMap;

use super::converted::{Converted, Spans};
use super::failure::Failure;
use super::reads;
use super::stage::Stage;
use crate::dockerfile::Diagnostic;
use crate::dockerfile::config;
use crate::dockerfile::instruction::{CommandLine, Kind, Run, RunNetwork, Security};
use crate::dockerfile::mount::{self, MountFlag, SecretMount};
use crate::dockerfile::scope;
use crate::dockerfile::source::Span;
use crate::engine::Provider;
use crate::engine::op::{
    self, Access, Action, Alternative, ExecOp, Input, Mount, MountKind, Script, Sharing,
    UnaskedCaches,
};
use crate::glob;
use crate::oci::ContainerConfig;
use crate::sandbox::Network;

/// Where a heredoc that begins with `#!` appears, as in BuildKit.
const SCRIPTS: &str = "/dev/pipes";
/// The variable that says whether Go wants a module.
const MODULE_MODE: &str = "GO111MODULE";
/// Where secrets appear.
const SECRETS: &str = "/run/secrets";

/// Makes an op of `RUN`.
pub(super) async fn exec(stage: &Stage<'_>, run: &Run) -> Result<Converted, Failure> {
    refuse(run)?;
    let (argv, script) = command(stage, run);
    let text = history(stage, &argv);
    let Mounts { list: mounts, files, spans } = describe(stage, &run.mounts).await?;
    let job = &stage.build.common.job;
    let caches = UnaskedCaches {
        wanted: job.recipe.go_cache,
        read_later: reads::reads(stage),
        in_image: reads::is_on(stage, stage.build.target),
    };
    let container = &stage.config.config;
    let alternative = without_module(stage);
    let alternative_note = alternative.as_ref().and_then(|_| note(stage, &argv, script.as_ref()));
    let op = ExecOp {
        argv,
        script,
        environment: stage.scope.run_environment().to_vec(),
        folder: container.working_dir.clone(),
        user: container.user.clone(),
        network: network(stage, run),
        hosts: job.recipe.hosts.clone(),
        shared_memory_bytes: job.recipe.shared_memory_bytes,
        limits: job.recipe.limits.iter().map(ToString::to_string).collect(),
        mounts,
        alternative,
        caches,
        platform: stage.platform.clone(),
        shell: shell(container),
    };
    let variables = stage.scope.proxy_environment(&stage.build.inputs);
    let spans = Spans { mounts: spans, ..Spans::default() };
    let action = Action::Exec(Box::new(op));
    Ok(Converted { action, files, variables, alternative_note, text, spans })
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

fn network(stage: &Stage<'_>, run: &Run) -> op::Network {
    match run.network {
        RunNetwork::None => op::Network::None,
        RunNetwork::Host => op::Network::Host,
        RunNetwork::Default => match stage.build.common.job.recipe.network {
            Network::Host => op::Network::Host,
            Network::None => op::Network::None,
            Network::Private => op::Network::Private,
        },
    }
}

fn command(stage: &Stage<'_>, run: &Run) -> (Vec<String>, Option<Script>) {
    let mut script = None;
    let argv = match &run.command {
        CommandLine::Exec(words) => words.iter().map(|word| word.text.clone()).collect(),
        CommandLine::Shell(text) => {
            let text = match run.heredocs.as_slice() {
                [] => text.text.clone(),
                [only] if is_heredoc_alone(&text.text) => {
                    let content = only.content();
                    if content.starts_with("#!") {
                        script = Some(Script { name: only.name.clone(), text: content });
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
    (argv, script)
}

/// What a step of an image with Go gets where no `go.mod` is there: Go builds the folder all the same. It
/// is nothing where the file or the base says how modules are used.
fn without_module(stage: &Stage<'_>) -> Option<Alternative> {
    let is_set = stage.scope.run_environment().iter().any(|(name, _)| name == MODULE_MODE);
    let written = stage.build.common.file.stages.iter().flat_map(|stage| &stage.instructions);
    let mut all = written.chain(stage.build.triggers());
    let is_named = all.any(|instruction| match &instruction.kind {
        Kind::Run(run) => {
            instruction.code.contains(MODULE_MODE)
                || run.heredocs.iter().any(|heredoc| heredoc.body.contains(MODULE_MODE))
        }
        _ => false,
    });
    let alternative = || Alternative { name: MODULE_MODE.to_owned(), value: "auto".to_owned() };
    (!is_set && !is_named).then(alternative)
}

/// What is said where a command got that which may run Go.
fn note(stage: &Stage<'_>, argv: &[String], script: Option<&Script>) -> Option<String> {
    let mut texts = argv.iter().chain(script.map(|script| &script.text));
    let folder = match stage.config.config.working_dir.as_str() {
        "" => "/",
        folder => folder,
    };
    texts.any(|text| names_go(text)).then(|| {
        format!(
            "no go.mod is in {folder} or above it: steps without one get {MODULE_MODE}=auto and build \
             there all the same, which Docker's do not; \"go mod init NAME\" makes one"
        )
    })
}

/// Whether a command has the word `go`, or one that may lead to it.
fn names_go(text: &str) -> bool {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
    let mut words = text.split(|letter| !is_word(letter));
    words.any(|word| matches!(word.rsplit('/').next(), Some("go" | "make")))
}

/// Whether a command is `<<NAME` and nothing else.
fn is_heredoc_alone(text: &str) -> bool {
    let text = text.trim();
    text.starts_with("<<") && !text.contains(char::is_whitespace)
}

/// What the history says: the `ARG`s in force, then the command.
fn history(stage: &Stage<'_>, argv: &[String]) -> String {
    let declared = stage.scope.declared();
    let mut words = Vec::new();
    if !declared.is_empty() {
        words.push(format!("|{}", declared.len()));
        let shown = |(name, value): &(String, String)| {
            format!("{name}={}", scope::shown_value(name, value))
        };
        words.extend(declared.iter().map(shown));
    }
    words.extend(argv.iter().cloned());
    format!("RUN {} # buildkit", words.join(" "))
}

/// A stage's shell, without the options that make it run one command.
fn shell(config: &ContainerConfig) -> Vec<String> {
    let words = config::in_shell(config, "");
    words.into_iter().take_while(|word| !word.is_empty() && !word.starts_with('-')).collect()
}

/// The mounts of a step.
#[derive(Default)]
struct Mounts {
    list: Vec<Mount>,
    files: BTreeMap<Input, Provider>,
    spans: Vec<Span>,
}

/// Resolves the mounts of a step.
async fn describe(stage: &Stage<'_>, flags: &[MountFlag]) -> Result<Mounts, Failure> {
    let mut all = Mounts::default();
    for (number, flag) in flags.iter().enumerate() {
        let mount = stage.scope.mount(flag)?;
        let target = target(stage, &mount, number);
        let from = match &mount.kind {
            mount::MountKind::Bind { from, .. } => Some(from.as_deref()),
            mount::MountKind::Cache(cache) => cache.from.as_deref().map(Some),
            _ => None,
        };
        let span = flag.value.span;
        let input = match from {
            Some(from) => {
                let from = from.map(|name| (name, span));
                let (input, provider) = stage.build.provider(stage.index, from).await?;
                all.files.insert(input.clone(), provider);
                Some(input)
            }
            None => None,
        };
        let Some(kind) = kind(&mount.kind, input) else { continue };
        all.list.push(Mount { target, read_only: mount.read_only, kind });
        all.spans.push(span);
    }
    Ok(all)
}

/// What a mount shows, as an op says it; `input` is what it names.
fn kind(kind: &mount::MountKind, input: Option<Input>) -> Option<MountKind> {
    let all = |source: &Option<String>| source.clone().unwrap_or_else(|| "/".to_owned());
    Some(match kind {
        mount::MountKind::Bind { source, .. } => {
            MountKind::Bind { from: input?, source: all(source) }
        }
        mount::MountKind::Cache(cache) => MountKind::Cache {
            id: cache.id.clone(),
            sharing: sharing(cache.sharing),
            seed: input.map(|input| (input, all(&cache.source))),
            access: access(cache.access),
        },
        mount::MountKind::Tmpfs { size } => MountKind::Tmpfs(*size),
        mount::MountKind::Secret(secret) => MountKind::Secret {
            id: secret.id.clone(),
            variable: secret.variable.clone(),
            is_file: secret.variable.is_none() || secret.file.is_some(),
            required: secret.required,
            access: access(secret.access),
        },
        mount::MountKind::Ssh { id, required, access: of } => {
            MountKind::Agent { id: id.clone(), required: *required, access: access(*of) }
        }
    })
}

fn sharing(sharing: mount::Sharing) -> Sharing {
    match sharing {
        mount::Sharing::Shared => Sharing::Shared,
        mount::Sharing::Private => Sharing::Private,
        mount::Sharing::Locked => Sharing::Locked,
    }
}

fn access(access: mount::Access) -> Access {
    Access { mode: access.mode, uid: access.uid, gid: access.gid }
}

fn target(stage: &Stage<'_>, mount: &mount::Mount, number: usize) -> String {
    let folder = &stage.config.config.working_dir;
    match (&mount.target, &mount.kind) {
        (Some(target), _) => glob::in_folder(folder, target),
        (None, mount::MountKind::Secret(SecretMount { file: Some(file), .. })) => {
            glob::in_folder(folder, file)
        }
        (None, mount::MountKind::Secret(secret)) => format!("{SECRETS}/{}", secret.id),
        (None, mount::MountKind::Ssh { .. }) => format!("/run/buildkit/ssh_agent.{number}"),
        (None, _) => glob::in_folder(folder, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{ImageConfig, Platform};

    #[test]
    fn a_heredoc_alone_is_told_from_one_in_a_command() {
        for (text, expected) in
            [("<<EOF", true), (" <<-'E' ", true), ("cat <<EOF", false), ("<<A <<B", false)]
        {
            assert_eq!(is_heredoc_alone(text), expected, "{text}");
        }
    }

    #[test]
    fn a_command_that_may_run_go_is_told() {
        for (text, expected) in [
            ("go build -o main .", true),
            ("cd x&&/usr/local/go/bin/go vet", true),
            ("make all", true),
            ("apt-get install -y golang-go", false),
            ("echo good.go", false),
        ] {
            assert_eq!(names_go(text), expected, "{text}");
        }
    }

    #[test]
    fn the_shell_is_that_of_the_stage() {
        let mut image = ImageConfig::empty(Platform::host());
        assert_eq!(shell(&image.config), ["/bin/sh"]);
        for (words, expected) in [
            (&["/bin/bash", "-o", "pipefail", "-c"][..], &["/bin/bash"][..]),
            (&["/bin/busybox", "sh", "-c"], &["/bin/busybox", "sh"]),
        ] {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            config::shell(&mut image, &words);
            assert_eq!(shell(&image.config), expected);
        }
    }
}
