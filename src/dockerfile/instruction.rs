//! The instructions of a Dockerfile, typed. Words stay as they were written until they are
//! executed: expansion needs the values that the steps before have set.

use std::time::Duration;

use super::mount::MountFlag;
use super::source::{Source, Span, Word};

/// A parsed Dockerfile.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    /// The text that all spans point into.
    pub source: Source,
    /// What the comments at the very top ask for.
    pub directives: Directives,
    /// The `ARG`s before the first `FROM`: visible in `FROM` lines only.
    pub globals: Vec<GlobalArg>,
    /// The stages, in order.
    pub stages: Vec<Stage>,
    /// Continuations that go on over empty lines, for the linter.
    pub empty_continuations: Vec<Span>,
}

/// An `ARG` before the first `FROM`.
#[derive(Clone, Debug)]
pub struct GlobalArg {
    /// The whole instruction.
    pub span: Span,
    /// The keyword as it was written.
    pub keyword: Word,
    /// The comments right above.
    pub comments: Vec<Word>,
    /// What it defines.
    pub definitions: Vec<ArgDefinition>,
}

/// The parser directives: `# name=value` lines at the very top of the file.
#[derive(Clone, Debug)]
pub struct Directives {
    /// What continues lines and escapes characters: a backslash or a backquote.
    pub escape: char,
    /// The frontend image that was asked for.
    pub syntax: Option<Word>,
    /// What the linter shall skip, and whether its warnings are errors.
    pub check: Option<Word>,
}

impl Default for Directives {
    fn default() -> Self {
        Self { escape: '\\', syntax: None, check: None }
    }
}

/// A stage: a `FROM` line and what follows it.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The `FROM` line.
    pub from: From,
    /// The instructions, in order.
    pub instructions: Vec<Instruction>,
}

/// A `FROM` line.
#[derive(Clone, Debug)]
pub struct From {
    /// The whole line.
    pub span: Span,
    /// The keyword as it was written.
    pub keyword: Word,
    /// The line with its continuations joined.
    pub code: String,
    /// The comments right above.
    pub comments: Vec<Word>,
    /// The base: a stage, a named context, an image or `scratch`.
    pub base: Word,
    /// The platform that the base is wanted for.
    pub platform: Option<Word>,
    /// The word `AS` and the name, as written.
    pub alias: Option<Alias>,
}

/// The name of a stage.
#[derive(Clone, Debug)]
pub struct Alias {
    /// The word `AS` as written.
    pub keyword: Word,
    /// The name as written; names are compared in lower case.
    pub name: Word,
}

/// An instruction of a stage.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// The whole instruction with its heredocs.
    pub span: Span,
    /// The keyword as it was written.
    pub keyword: Word,
    /// The instruction with its continuations joined, without heredoc bodies: what history shows.
    pub code: String,
    /// The comments right above.
    pub comments: Vec<Word>,
    /// What it does.
    pub kind: Kind,
}

impl Instruction {
    /// Its first line, without what continues it: where a message points that is about all of it.
    pub fn first_line(&self, source: &Source) -> Span {
        let text = source.slice(self.span);
        let line = text.lines().next().unwrap_or_default();
        Span::new(self.span.start, self.span.start + line.trim_end().len())
    }
}

/// What an instruction does.
#[derive(Clone, Debug)]
pub enum Kind {
    /// `ADD`
    Add(Add),
    /// `ARG`
    Arg(Vec<ArgDefinition>),
    /// `CMD`
    Cmd(CommandLine),
    /// `COPY`
    Copy(Copy),
    /// `ENTRYPOINT`
    Entrypoint(CommandLine),
    /// `ENV`
    Env(Vec<Pair>),
    /// `EXPOSE`: ports and ranges, each with an optional protocol.
    Expose(Vec<Word>),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `LABEL`
    Label(Vec<Pair>),
    /// `MAINTAINER`
    Maintainer(Word),
    /// `ONBUILD`
    Onbuild(Onbuild),
    /// `RUN`
    Run(Run),
    /// `SHELL`
    Shell(Vec<Word>),
    /// `STOPSIGNAL`
    StopSignal(Word),
    /// `USER`
    User(Word),
    /// `VOLUME`
    Volume(Vec<Word>),
    /// `WORKDIR`
    Workdir(Word),
}

/// A key and its value of `ENV` or `LABEL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The key, to be expanded.
    pub key: Word,
    /// The value, to be expanded.
    pub value: Word,
    /// Written in the legacy form, `ENV key value`.
    pub legacy: bool,
}

/// One name of an `ARG` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDefinition {
    /// The name, to be expanded.
    pub name: Word,
    /// The default, to be expanded.
    pub default: Option<Word>,
}

/// The command of `RUN`, `CMD`, `ENTRYPOINT` and `HEALTHCHECK CMD`. Never expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// Text for the stage's shell; empty when nothing was written.
    Shell(Word),
    /// Arguments, the JSON form.
    Exec(Vec<Word>),
}

/// A heredoc: lines of the file that belong to the instruction above them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes; for `COPY` and `ADD` it is the name of the file.
    pub name: String,
    /// The file descriptor before `<<`; 0 when there is none.
    pub descriptor: u32,
    /// The delimiter is not quoted: `COPY` and `ADD` expand the body.
    pub expand: bool,
    /// Written `<<-`: leading tabs are taken away.
    pub strip_tabs: bool,
    /// The body as it stands in the file.
    pub body: String,
    /// Where the body stands.
    pub span: Span,
}

impl Heredoc {
    /// The body, without leading tabs if it was written `<<-`.
    pub fn content(&self) -> String {
        if !self.strip_tabs {
            return self.body.clone();
        }
        let lines = self.body.split_inclusive('\n');
        lines.map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// A `RUN` instruction.
#[derive(Clone, Debug)]
pub struct Run {
    /// The command. With heredocs, the shell form still has their `<<NAME` words.
    pub command: CommandLine,
    /// The bodies, in the order of their words.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, in order.
    pub mounts: Vec<MountFlag>,
    /// `--network`
    pub network: RunNetwork,
    /// `--security`
    pub security: Security,
    /// `--device`, in order: refused when executed.
    pub devices: Vec<Word>,
}

/// What network a `RUN` step sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunNetwork {
    /// What the build gives.
    #[default]
    Default,
    /// Only a loopback device.
    None,
    /// The host's.
    Host,
}

/// What a `RUN` step may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// What every step may.
    #[default]
    Sandbox,
    /// Everything; where it was asked for.
    Insecure(Span),
}

/// What `COPY` and `ADD` have in common.
#[derive(Clone, Debug, Default)]
pub struct Transfer {
    /// Source paths, to be expanded.
    pub paths: Vec<Word>,
    /// Heredocs as sources: files with the name of their delimiter.
    pub inline: Vec<Heredoc>,
    /// Where to, to be expanded.
    pub destination: Word,
    /// `--chown`, to be expanded.
    pub chown: Option<Word>,
    /// `--chmod`, to be expanded.
    pub chmod: Option<Word>,
    /// `--link`
    pub link: bool,
    /// `--exclude`, in order; never expanded.
    pub excludes: Vec<Word>,
}

/// A `COPY` instruction.
#[derive(Clone, Debug, Default)]
pub struct Copy {
    /// Sources, destination and the flags that `ADD` has too.
    pub transfer: Transfer,
    /// `--from`: a stage, a named context or an image. Has no variables.
    pub from: Option<Word>,
    /// `--parents`
    pub parents: bool,
}

/// An `ADD` instruction.
#[derive(Clone, Debug, Default)]
pub struct Add {
    /// Sources, destination and the flags that `COPY` has too.
    pub transfer: Transfer,
    /// `--keep-git-dir`
    pub keep_git_dir: Option<bool>,
    /// `--checksum`, to be expanded.
    pub checksum: Option<Word>,
    /// `--unpack`
    pub unpack: Option<bool>,
}

/// A `HEALTHCHECK` instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// `NONE`: the base's check is off.
    None,
    /// `CMD`
    Command {
        /// What is run.
        command: CommandLine,
        /// The flags.
        timing: HealthTiming,
    },
}

/// When a health check runs. What is `None` or zero is the engine's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthTiming {
    /// `--interval`
    pub interval: Option<Duration>,
    /// `--timeout`
    pub timeout: Option<Duration>,
    /// `--start-period`
    pub start_period: Option<Duration>,
    /// `--start-interval`
    pub start_interval: Option<Duration>,
    /// `--retries`
    pub retries: Option<u32>,
}

/// An `ONBUILD` instruction.
#[derive(Clone, Debug)]
pub struct Onbuild {
    /// The trigger as the image's config keeps it, heredocs included.
    pub trigger: String,
    /// The trigger, parsed.
    pub instruction: Box<Instruction>,
}
