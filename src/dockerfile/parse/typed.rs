//! From statements to typed instructions.

use crate::error::nearest;
use std::time::Duration;

use super::flags::{Flags, Takes};
use super::statement::{Arguments, KEYWORDS, Statement, split_pair};
use super::transfer;
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::instruction::{
    Alias, ArgDefinition, CommandLine, From, HealthTiming, Healthcheck, Instruction, Kind, Onbuild,
    Pair, Run, RunNetwork, Security,
};
use crate::dockerfile::mount::MountFlag;
use crate::dockerfile::source::{Span, Word};
use crate::literal::go_duration;

/// A statement as the instruction that it is.
pub(super) enum Typed {
    From(From),
    Instruction(Instruction),
}

pub(super) fn typed(statement: Statement) -> Result<Typed, Diagnostic> {
    if statement.name() == "FROM" {
        return from(statement).map(Typed::From);
    }
    instruction(statement).map(Typed::Instruction)
}

fn instruction(statement: Statement) -> Result<Instruction, Diagnostic> {
    let kind = kind(&statement)?;
    let Statement { keyword, code, span, comments, .. } = statement;
    Ok(Instruction { span, keyword, code, comments, kind })
}

fn kind(statement: &Statement) -> Result<Kind, Diagnostic> {
    let name = statement.name();
    Ok(match name.as_str() {
        "ADD" => Kind::Add(transfer::add(statement)?),
        "COPY" => Kind::Copy(transfer::copy(statement)?),
        "RUN" => Kind::Run(run(statement)?),
        "HEALTHCHECK" => Kind::Healthcheck(healthcheck(statement)?),
        "ONBUILD" => Kind::Onbuild(onbuild(statement)?),
        "ARG" | "CMD" | "ENTRYPOINT" | "ENV" | "EXPOSE" | "LABEL" | "MAINTAINER" | "SHELL"
        | "STOPSIGNAL" | "USER" | "VOLUME" | "WORKDIR" => {
            Flags::parse(&name, &statement.flags, &[])?;
            plain(&name, statement)?
        }
        _ => return Err(unknown(statement)),
    })
}

/// Instructions that have no flags.
fn plain(name: &str, statement: &Statement) -> Result<Kind, Diagnostic> {
    Ok(match name {
        "ARG" => Kind::Arg(definitions(statement)?),
        "CMD" => Kind::Cmd(command_line(&statement.arguments, statement)),
        "ENTRYPOINT" => Kind::Entrypoint(command_line(&statement.arguments, statement)),
        "ENV" => Kind::Env(pairs(statement)?),
        "LABEL" => Kind::Label(pairs(statement)?),
        "EXPOSE" => Kind::Expose(words(statement)?),
        "VOLUME" => Kind::Volume(volumes(statement)?),
        "SHELL" => Kind::Shell(shell(statement)?),
        "MAINTAINER" => Kind::Maintainer(text(statement)?),
        "STOPSIGNAL" => Kind::StopSignal(text(statement)?),
        "USER" => Kind::User(text(statement)?),
        _ => Kind::Workdir(text(statement)?),
    })
}

fn unknown(statement: &Statement) -> Diagnostic {
    let keyword = &statement.keyword;
    let error =
        Diagnostic::error(keyword.span, format!("there is no instruction {}", keyword.text));
    match nearest(&keyword.text, KEYWORDS) {
        Some(nearest) => error.label(format!("did you mean {nearest}?")),
        None => error.label("expected an instruction").help(
            "a line that continues the one before needs an escape at the end of that one; \
             lines of a script need a heredoc, RUN <<EOF",
        ),
    }
}

/// Right after the keyword, for what is missing there.
fn missing(statement: &Statement, message: impl std::fmt::Display) -> Diagnostic {
    let message = format!("{} {message}", statement.name());
    Diagnostic::error(statement.keyword.span, message)
}

fn text(statement: &Statement) -> Result<Word, Diagnostic> {
    match &statement.arguments {
        Arguments::Text(word) => Ok(word.clone()),
        _ => Err(missing(statement, "needs an argument")),
    }
}

fn words(statement: &Statement) -> Result<Vec<Word>, Diagnostic> {
    match &statement.arguments {
        Arguments::Words(words) | Arguments::Json(words) if !words.is_empty() => Ok(words.clone()),
        _ => Err(missing(statement, "needs at least one argument")),
    }
}

fn volumes(statement: &Statement) -> Result<Vec<Word>, Diagnostic> {
    let mut words = words(statement)?;
    for word in &mut words {
        word.text = word.text.trim().to_owned();
        if word.text.is_empty() {
            return Err(Diagnostic::error(word.span, "a volume's path cannot be empty"));
        }
    }
    Ok(words)
}

fn pairs(statement: &Statement) -> Result<Vec<Pair>, Diagnostic> {
    let Arguments::Pairs(pairs) = &statement.arguments else {
        return Err(missing(statement, "needs at least one name=value"));
    };
    match pairs.iter().find(|pair| pair.key.text.is_empty()) {
        Some(pair) => Err(blank_name(statement, pair.key.span.to(pair.value.span))),
        None => Ok(pairs.clone()),
    }
}

fn blank_name(statement: &Statement, span: Span) -> Diagnostic {
    Diagnostic::error(span, format!("a name of {} is empty", statement.name()))
        .label("expected name=value")
}

fn definitions(statement: &Statement) -> Result<Vec<ArgDefinition>, Diagnostic> {
    let definition = |word: Word| match split_pair(&word) {
        Some((name, _)) if name.text.is_empty() => Err(blank_name(statement, word.span)),
        Some((name, default)) => Ok(ArgDefinition { name, default: Some(default) }),
        None => Ok(ArgDefinition { name: word, default: None }),
    };
    words(statement)?.into_iter().map(definition).collect()
}

fn command_line(arguments: &Arguments, statement: &Statement) -> CommandLine {
    match arguments {
        Arguments::Json(words) => CommandLine::Exec(words.clone()),
        Arguments::Text(text) => CommandLine::Shell(text.clone()),
        _ => {
            let end = statement.keyword.span.end;
            CommandLine::Shell(Word::new("", Span::new(end, end)))
        }
    }
}

fn shell(statement: &Statement) -> Result<Vec<Word>, Diagnostic> {
    match &statement.arguments {
        Arguments::Json(words) if !words.is_empty() => Ok(words.clone()),
        Arguments::Text(text) => {
            Err(Diagnostic::error(text.span, "SHELL takes the JSON form only")
                .label("expected [\"program\", \"argument\"]"))
        }
        _ => Err(missing(statement, "needs at least one argument")),
    }
}

fn from(statement: Statement) -> Result<From, Diagnostic> {
    let flags = Flags::parse("FROM", &statement.flags, &[("platform", Takes::Value)])?;
    let mut words = words(&statement)?.into_iter();
    let base = words.next().expect("there is at least one");
    let alias = match (words.next(), words.next(), words.next()) {
        (None, ..) => None,
        (Some(keyword), Some(name), None) if keyword.text.eq_ignore_ascii_case("as") => {
            Some(Alias { keyword, name: stage_name(name)? })
        }
        (Some(extra), ..) => {
            return Err(Diagnostic::error(extra.span, "FROM takes one argument or three")
                .label("expected AS and a name, or nothing"));
        }
    };
    let platform = flags.value("platform");
    let Statement { keyword, code, span, comments, .. } = statement;
    Ok(From { span, keyword, code, comments, base, platform, alias })
}

fn stage_name(name: Word) -> Result<Word, Diagnostic> {
    let lower = name.text.to_lowercase();
    let fits = lower.starts_with(|c: char| c.is_ascii_lowercase())
        && lower
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
    if fits {
        return Ok(name);
    }
    let message = format!("\"{}\" cannot name a stage", name.text);
    Err(Diagnostic::error(name.span, message)
        .label("expected a letter, then letters, digits, '-', '_' and '.'"))
}

fn run(statement: &Statement) -> Result<Run, Diagnostic> {
    let known = [
        ("mount", Takes::Values),
        ("network", Takes::Value),
        ("security", Takes::Value),
        ("device", Takes::Values),
    ];
    let flags = Flags::parse("RUN", &statement.flags, &known)?;
    let mounts: Result<_, _> = flags.values("mount").map(MountFlag::parse).collect();
    let network = match flags.value("network") {
        None => RunNetwork::Default,
        Some(word) => match word.as_str() {
            "default" => RunNetwork::Default,
            "none" => RunNetwork::None,
            "host" => RunNetwork::Host,
            _ => return Err(wrong_choice("network", &word, &["default", "none", "host"])),
        },
    };
    let security = match flags.value("security") {
        None => Security::Sandbox,
        Some(word) => match word.as_str() {
            "sandbox" => Security::Sandbox,
            "insecure" => Security::Insecure(word.span),
            _ => return Err(wrong_choice("security", &word, &["sandbox", "insecure"])),
        },
    };
    Ok(Run {
        command: command_line(&statement.arguments, statement),
        heredocs: statement.heredocs.clone(),
        mounts: mounts?,
        network,
        security,
        devices: flags.values("device").cloned().collect(),
    })
}

fn wrong_choice(flag: &str, word: &Word, choices: &[&'static str]) -> Diagnostic {
    let error = Diagnostic::error(word.span, format!("\"{}\" is no value for --{flag}", word.text));
    match nearest(&word.text, choices.iter().copied()) {
        Some(nearest) => error.label(format!("did you mean {nearest}?")),
        None => error.label(format!("expected one of {}", choices.join(", "))),
    }
}

fn healthcheck(statement: &Statement) -> Result<Healthcheck, Diagnostic> {
    let Arguments::Health(kind, command) = &statement.arguments else {
        return Err(missing(statement, "needs CMD or NONE"));
    };
    let known = ["interval", "timeout", "start-period", "start-interval", "retries"];
    let flags =
        Flags::parse("HEALTHCHECK", &statement.flags, &known.map(|name| (name, Takes::Value)))?;
    match kind.text.to_ascii_uppercase().as_str() {
        "NONE" if statement.flags.is_empty() => match command.as_ref() {
            Arguments::None => Ok(Healthcheck::None),
            _ => Err(Diagnostic::error(kind.span, "HEALTHCHECK NONE takes no arguments")),
        },
        "NONE" => Err(Diagnostic::error(kind.span, "HEALTHCHECK NONE takes no flags")),
        "CMD" => {
            let command = match command_line(command, statement) {
                CommandLine::Shell(text) if text.text.is_empty() => None,
                CommandLine::Exec(words) if words.is_empty() => None,
                command => Some(command),
            };
            let Some(command) = command else {
                return Err(Diagnostic::error(kind.span, "HEALTHCHECK CMD needs a command"));
            };
            Ok(Healthcheck::Command { command, timing: timing(&flags)? })
        }
        _ => Err(Diagnostic::error(kind.span, format!("HEALTHCHECK has no type {}", kind.text))
            .label("expected CMD or NONE; flags stand before it")),
    }
}

fn timing(flags: &Flags) -> Result<HealthTiming, Diagnostic> {
    let interval = |name| flags.value(name).map(|word| duration(&word)).transpose();
    let retries = flags.value("retries").filter(|word| !word.text.is_empty());
    let retries = retries.map(|word| {
        let number = word.text.strip_prefix('+').unwrap_or(&word.text).parse::<i32>().ok();
        number.and_then(|number| u32::try_from(number).ok()).ok_or_else(|| {
            Diagnostic::error(word.span, format!("\"{}\" is no number of retries", word.text))
                .label("expected a whole number from 0 on")
        })
    });
    Ok(HealthTiming {
        interval: interval("interval")?.flatten(),
        timeout: interval("timeout")?.flatten(),
        start_period: interval("start-period")?.flatten(),
        start_interval: interval("start-interval")?.flatten(),
        retries: retries.transpose()?,
    })
}

/// A duration as Go writes it, `1m30s`; nothing and zero are the engine's default.
fn duration(word: &Word) -> Result<Option<Duration>, Diagnostic> {
    if word.text.is_empty() {
        return Ok(None);
    }
    let Some(duration) = go_duration(&word.text) else {
        return Err(Diagnostic::error(word.span, format!("\"{}\" is no duration", word.text))
            .label("expected a number with a unit: 30s, 1m30s, 500ms"));
    };
    if duration.is_zero() {
        return Ok(None);
    }
    if duration < Duration::from_millis(1) {
        return Err(Diagnostic::error(word.span, "the duration is too short")
            .label("expected at least 1ms, or 0 for the default"));
    }
    Ok(Some(duration))
}

fn onbuild(statement: &Statement) -> Result<Onbuild, Diagnostic> {
    Flags::parse("ONBUILD", &statement.flags, &[])?;
    let Arguments::Nested(nested) = &statement.arguments else {
        return Err(missing(statement, "needs an instruction"));
    };
    let name = nested.name();
    if matches!(name.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
        let message = format!("{name} cannot follow ONBUILD");
        return Err(
            Diagnostic::error(nested.keyword.span, message).label("expected another instruction")
        );
    }
    let mut trigger = nested.code.clone();
    for heredoc in &statement.heredocs {
        trigger.push('\n');
        trigger.push_str(&heredoc.body);
        trigger.push_str(&heredoc.name);
    }
    let instruction = Box::new(instruction(nested.as_ref().clone())?);
    Ok(Onbuild { trigger, instruction })
}
