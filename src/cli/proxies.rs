//! Proxies for what runs in containers: the steps of builds, and containers.
//!
//! What was typed comes first, then docker's configuration, and for builds the environment. An address
//! with a password that stands there for this program, and not for whatever a build executes, is passed
//! on only where that was asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::session::Session;
use crate::registry::container_proxies;

/// Variables that say how the network is reached, in capital letters.
const NAMES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// The arguments of a build that name proxies: those in docker's configuration, and those of the
/// environment without a password. `typed` are the arguments that were.
pub(super) fn for_build(session: &Session, typed: &[String]) -> BTreeMap<String, String> {
    // A name alone stands for the variable, where there is one.
    let has_value = |text: &&str| text.contains('=') || session.environment.get(text).is_some();
    let typed = names(typed.iter().map(String::as_str).filter(has_value));
    let configured = configured(session, &typed);
    let mut kept = Vec::new();
    let mut found = of_environment(session);
    found.retain(|name, value| {
        let upper = name.to_ascii_uppercase();
        if typed.contains(&upper) || configured.contains_key(&upper) {
            return false;
        }
        let passes = upper == "NO_PROXY" || !value.contains('@');
        if !passes {
            kept.push(name.clone());
        }
        passes
    });
    if !kept.is_empty() {
        session.reporter.note(note(&kept));
    }
    found.extend(configured);
    found
}

/// All that the environment says of proxies, passwords or not.
pub(super) fn of_environment(session: &Session) -> BTreeMap<String, String> {
    let spellings = NAMES.iter().flat_map(|name| [(*name).to_owned(), name.to_ascii_lowercase()]);
    let value = |name: &String| session.environment.get(name).map(str::to_owned);
    spellings.filter_map(|name| Some((name.clone(), value(&name)?))).collect()
}

/// The variables of a container that name proxies, both spellings, beside those that were typed.
pub(super) fn for_container(
    session: &Session,
    typed: &BTreeMap<String, Option<String>>,
) -> BTreeMap<String, Option<String>> {
    let configured = configured(session, &names(typed.keys().map(String::as_str)));
    configured.into_iter().map(|(name, value)| (name, Some(value))).collect()
}

/// What docker's configuration says of those that were not typed, in both spellings.
fn configured(session: &Session, typed: &BTreeSet<String>) -> BTreeMap<String, String> {
    let found = container_proxies(&session.environment.variables).unwrap_or_else(|error| {
        session.reporter.warn(format!("no proxy is taken from docker's configuration: {error}"));
        BTreeMap::new()
    });
    let found = found.into_iter().filter(|(name, _)| !typed.contains(name));
    found
        .flat_map(|(name, value)| [(name.to_ascii_lowercase(), value.clone()), (name, value)])
        .collect()
}

/// The names of `NAME` and `NAME=value`, in capital letters.
fn names<'a>(typed: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    typed.filter_map(|text| text.split('=').next()).map(str::to_ascii_uppercase).collect()
}

fn note(kept: &[String]) -> String {
    let flags: Vec<_> = kept.iter().map(|name| format!("--build-arg {name}")).collect();
    let (hold, them) = if kept.len() == 1 { ("holds", "it") } else { ("hold", "them") };
    format!(
        "{} {hold} a password, and RUN does not see {them}; to pass {them} on: {}",
        kept.join(" and "),
        flags.join(" ")
    )
}
