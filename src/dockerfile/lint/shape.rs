//! Rules about how the file is written.

use std::collections::BTreeSet;

use super::{Findings, Rule};
use crate::dockerfile::instruction::{Dockerfile, From, Instruction, Kind, Pair, Stage};
use crate::dockerfile::source::{Span, Word};

pub(super) fn check(file: &Dockerfile, findings: &mut Findings) {
    for span in &file.empty_continuations {
        let help = "take the empty line out, or the escape at the end of the line before it";
        let message = "an empty line within an instruction will become an error";
        findings.at(&[]).warn(Rule::NoEmptyContinuation, *span, message, help);
    }
    for argument in &file.globals {
        let names: Vec<_> = argument.definitions.iter().map(|one| one.name.as_str()).collect();
        description("ARG", &names, &argument.comments, argument.span, findings);
    }
    stage_names(file, findings);
    casing(&file.stages, findings);
    for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
        written(instruction, findings);
    }
}

fn stage_names(file: &Dockerfile, findings: &mut Findings) {
    let mut known = BTreeSet::new();
    for From { keyword, comments, alias, span, .. } in file.stages.iter().map(|stage| &stage.from) {
        let Some(alias) = alias else { continue };
        let name = alias.name.text.to_lowercase();
        let mut at = findings.at(comments);
        if alias.name.text != name {
            let message = format!("the stage name {} is not in lower case", alias.name.text);
            at.warn(Rule::StageNameCasing, alias.name.span, message, &format!("write {name}"));
        }
        let expected = match Case::of(&keyword.text) {
            Case::Lower => Some(alias.keyword.text.to_lowercase()),
            Case::Upper => Some(alias.keyword.text.to_uppercase()),
            Case::Mixed => None,
        };
        if let Some(expected) = expected.filter(|expected| *expected != alias.keyword.text) {
            let message =
                format!("{} and {} are not in one case", keyword.text, alias.keyword.text);
            at.warn(Rule::FromAsCasing, alias.keyword.span, message, &format!("write {expected}"));
        }
        if matches!(name.as_str(), "context" | "scratch") {
            let message = format!("the name {name} has a meaning of its own");
            at.warn(Rule::ReservedStageName, alias.name.span, message, "choose another name");
        }
        if !known.insert(name.clone()) {
            let message = format!("there is a stage {name} above already");
            let help = "stages below mean this one; choose another name";
            at.warn(Rule::DuplicateStageName, alias.name.span, message, help);
        }
        description("FROM", &[name.as_str()], comments, *span, findings);
    }
}

/// How a keyword is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Lower,
    Upper,
    Mixed,
}

impl Case {
    fn of(keyword: &str) -> Self {
        if keyword == keyword.to_lowercase() {
            Self::Lower
        } else if keyword == keyword.to_uppercase() {
            Self::Upper
        } else {
            Self::Mixed
        }
    }
}

fn casing(stages: &[Stage], findings: &mut Findings) {
    let keywords: Vec<(&Word, &[Word])> = stages
        .iter()
        .flat_map(|stage| {
            let instructions = stage.instructions.iter();
            std::iter::once((&stage.from.keyword, stage.from.comments.as_slice()))
                .chain(instructions.map(|one| (&one.keyword, one.comments.as_slice())))
        })
        .collect();
    let count = |case| keywords.iter().filter(|(word, _)| Case::of(&word.text) == case).count();
    let (majority, name) = if count(Case::Lower) > count(Case::Upper) {
        (Case::Lower, "lower")
    } else {
        (Case::Upper, "upper")
    };
    for (word, comments) in keywords {
        if Case::of(&word.text) != majority {
            let message = format!("{} is not in {name} case, as most keywords are", word.text);
            findings.at(comments).warn(Rule::ConsistentInstructionCasing, word.span, message, "");
        }
    }
}

fn written(instruction: &Instruction, findings: &mut Findings) {
    let mut at = findings.at(&instruction.comments);
    match &instruction.kind {
        Kind::Maintainer(_) => {
            let message = "MAINTAINER is deprecated";
            let help = "write LABEL org.opencontainers.image.authors=\"…\"";
            at.warn(Rule::MaintainerDeprecated, instruction.keyword.span, message, help);
        }
        Kind::Env(pairs) | Kind::Label(pairs) => {
            for Pair { key, value, .. } in pairs.iter().filter(|pair| pair.legacy) {
                let keyword = &instruction.keyword.text;
                let message = format!("{keyword} name value is the legacy form");
                let help = format!("write {keyword} {}=…, with quotes around spaces", key.text);
                at.warn(Rule::LegacyKeyValueFormat, key.span.to(value.span), message, &help);
            }
        }
        Kind::Arg(definitions) => {
            let names: Vec<_> = definitions.iter().map(|one| one.name.as_str()).collect();
            description("ARG", &names, &instruction.comments, instruction.span, findings);
        }
        _ => {}
    }
}

/// The comment right above describes what is defined: `# name description`.
fn description(
    keyword: &str,
    names: &[&str],
    comments: &[Word],
    span: Span,
    findings: &mut Findings,
) {
    let (Some(last), Some(first)) = (comments.last(), names.first()) else { return };
    if names.contains(&last.text.split(' ').next().unwrap_or_default()) {
        return;
    }
    let name = if names.len() == 1 { first } else { "<name>" };
    let message = format!("the comment does not describe what this {keyword} defines");
    let help = format!("write \"# {name} description\", or put an empty comment in between");
    findings.at(comments).warn(Rule::InvalidDefinitionDescription, span, message, &help);
}
