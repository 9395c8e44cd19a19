//! `COPY` and `ADD` as ops.

use std::collections::BTreeMap;

use super::converted::{Converted, Spans};
use super::failure::{At as _, Failure};
use super::stage::Stage;
use crate::context::copy::Chmod;
use crate::context::download::is_remote;
use crate::dockerfile::Diagnostic;
use crate::dockerfile::config;
use crate::dockerfile::instruction::{Add, Copy, Transfer};
use crate::dockerfile::source::{Span, Word};
use crate::engine::op::{Action, AddOp, CopyOp};
use crate::secret;

/// Makes an op of `COPY`.
pub(super) async fn copy(stage: &Stage<'_>, copy: &Copy) -> Result<Converted, Failure> {
    let transfer = &copy.transfer;
    let places = expanded(stage, transfer)?;
    if let Some((url, span)) = places.into_iter().find(|(source, _)| is_remote(source)) {
        return Err(Diagnostic::error(
            span,
            format!("COPY takes files, and {} is an address", secret::address(&url)),
        )
        .label("ADD takes addresses")
        .into());
    }
    let from = copy.from.as_ref().map(|from| (from.as_str(), from.span));
    let mut converted = convert(stage, "COPY", transfer, from).await?;
    if let Action::Copy(op) = &mut converted.action {
        op.parents = copy.parents;
        converted.text = text("COPY", &transfer_destination(stage, transfer)?, op);
    }
    Ok(converted)
}

/// Makes an op of `ADD`.
pub(super) async fn add(stage: &Stage<'_>, add: &Add) -> Result<Converted, Failure> {
    let checksum = add.checksum.as_ref().map(|word| stage.scope.expand(word)).transpose()?;
    let checksum = checksum.filter(|text| !text.is_empty());
    let mut converted = convert(stage, "ADD", &add.transfer, None).await?;
    if let Action::Copy(op) = &mut converted.action {
        if checksum.is_some() && !(op.sources.len() == 1 && is_remote(&op.sources[0])) {
            let span = span_of(add.checksum.as_ref());
            let message = "--checksum goes with one address or repository";
            return Err(Diagnostic::error(span, message).into());
        }
        let keep_git_dir = add.keep_git_dir == Some(true);
        op.add = Some(AddOp { unpack: add.unpack, keep_git_dir, checksum });
    }
    Ok(converted)
}

/// The sources, each with where it is written.
fn expanded(stage: &Stage<'_>, transfer: &Transfer) -> Result<Vec<(String, Span)>, Failure> {
    let spans = transfer.paths.iter().map(|word| word.span);
    Ok(stage.scope.expand_all(&transfer.paths)?.into_iter().zip(spans).collect())
}

fn transfer_destination(stage: &Stage<'_>, transfer: &Transfer) -> Result<String, Failure> {
    Ok(stage.scope.expand(&transfer.destination)?)
}

async fn convert(
    stage: &Stage<'_>,
    verb: &'static str,
    transfer: &Transfer,
    from: Option<(&str, Span)>,
) -> Result<Converted, Failure> {
    let scope = &stage.scope;
    let expand = |word: &Option<_>| word.as_ref().map(|word| scope.expand(word)).transpose();
    let inline = transfer
        .inline
        .iter()
        .map(|heredoc| Ok::<_, Failure>((heredoc.name.clone(), scope.inline_file(heredoc)?)));
    let destination = transfer_destination(stage, transfer)?;
    let mode = expand(&transfer.chmod)?.filter(|text| !text.is_empty());
    let chmod = mode.as_deref().map(str::parse::<Chmod>).transpose();
    chmod.at(span_of(transfer.chmod.as_ref()))?;
    let (sources, places) = expanded(stage, transfer)?.into_iter().unzip();
    let owner = expand(&transfer.chown)?.filter(|text| !text.is_empty());
    let excludes = scope.expand_all(&transfer.excludes)?;
    let inline = inline.collect::<Result<_, _>>()?;
    let (from, provider) = stage.build.provider(stage.index, from).await?;
    let op = CopyOp {
        add: None,
        from: from.clone(),
        sources,
        inline,
        path: config::destination(&stage.config.config.working_dir, &destination),
        owner,
        mode,
        excludes,
        parents: false,
        link: transfer.link,
        written: written(verb, transfer),
    };
    let spans = Spans {
        sources: places,
        excludes: span_of(transfer.excludes.first()),
        destination: transfer.destination.span,
        owner: span_of(transfer.chown.as_ref()),
        mode: span_of(transfer.chmod.as_ref()),
        ..Spans::default()
    };
    Ok(Converted {
        text: text(verb, &destination, &op),
        action: Action::Copy(Box::new(op)),
        files: BTreeMap::from([(from, provider)]),
        variables: Vec::new(),
        alternative_note: None,
        spans,
    })
}

fn span_of(word: Option<&Word>) -> Span {
    word.map(|word| word.span).unwrap_or_default()
}

/// As warnings quote it, without values of variables.
fn written(verb: &str, transfer: &Transfer) -> String {
    let sources = transfer.paths.iter().map(|word| secret::addresses(&word.text));
    let sources: Vec<String> = sources.collect();
    format!("{verb} {} {}", sources.join(" "), transfer.destination.text)
}

/// What the history says.
fn text(verb: &str, destination: &str, op: &CopyOp) -> String {
    let mut text = verb.to_owned();
    if op.parents {
        text.push_str(" --parents");
    }
    for (flag, value) in [("chown", &op.owner), ("chmod", &op.mode)] {
        if let Some(value) = value {
            text = format!("{text} --{flag}={value}");
        }
    }
    for source in &op.sources {
        text = format!("{text} {source}");
    }
    for (name, _) in &op.inline {
        text = format!("{text} <<{name}");
    }
    format!("{text} {destination} # buildkit")
}
