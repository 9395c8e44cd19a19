//! Image names: registry, repository, tag, digest.

use std::fmt;
use std::str::FromStr;

use super::Digest;
use super::docker_hub;
use crate::error::{Error, ErrorKind, Result};
use crate::secret;

const LONGEST_REPOSITORY: usize = 255;
const LONGEST_TAG: usize = 128;

/// A registry host and a repository on it, such as `ghcr.io/owner/app`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    registry: Box<str>,
    path: Box<str>,
}

/// A parsed image name. At least one of tag and digest is set: a bare name means `latest`.
///
/// The rules are docker's: the first part is a host when it has a dot or a colon or is
/// `localhost`; anything else is on Docker Hub, where one-part names live under `library/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    repository: Repository,
    tag: Option<Box<str>>,
    digest: Option<Digest>,
}

impl Repository {
    /// The host, with its port where it has one; Docker Hub is `docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path on the registry, `library/golang`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Names a digest in this repository.
    pub fn at_digest(&self, digest: Digest) -> Reference {
        Reference { repository: self.clone(), tag: None, digest: Some(digest) }
    }

    /// Names a tag in this repository.
    pub fn at_tag(&self, tag: &str) -> Result<Reference> {
        check_tag(tag).map_err(|why| invalid(tag, &why))?;
        Ok(Reference { repository: self.clone(), tag: Some(tag.into()), digest: None })
    }
}

impl Reference {
    /// The registry and path.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The host, with its port where it has one.
    pub fn registry(&self) -> &str {
        &self.repository.registry
    }

    /// The tag, where one was given or implied.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What a registry is asked for: the digest where there is one, else the tag.
    pub fn selector(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => unreachable!("a reference has a tag or a digest"),
        }
    }

    /// The same tag and digest in another repository.
    #[must_use]
    pub fn in_repository(&self, repository: Repository) -> Self {
        Self { repository, ..self.clone() }
    }

    /// The same name, pinned to `digest`; the tag stays.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The name without the digest; `None` where it has no tag.
    pub fn without_digest(&self) -> Option<Self> {
        self.tag.as_ref()?;
        Some(Self { digest: None, ..self.clone() })
    }

    /// The short form that docker shows: no `docker.io/`, no `library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = docker_hub::without(&full);
        short.strip_prefix("library/").unwrap_or(short).to_owned()
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Repository {
    type Err = Error;

    /// Parses a name that has neither tag nor digest.
    fn from_str(text: &str) -> Result<Self> {
        repository(text).map_err(|why| invalid(text, &why))
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(invalid(text, "the name is empty"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (
                rest,
                Some(digest.parse::<Digest>().map_err(|_| {
                    invalid(
                        text,
                        "after \"@\" expected \"sha256:\" and 64 lower-case hexadecimal digits",
                    )
                })?),
            ),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        if let Some(tag) = tag {
            check_tag(tag).map_err(|why| invalid(text, &why))?;
        }
        let repository = repository(name).map_err(|why| invalid(text, &why))?;
        let tag = match (tag, &digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag,
        };
        Ok(Self { repository, tag: tag.map(Into::into), digest })
    }
}

/// Reads a repository; where it is none, says which part of it is wrong.
fn repository(text: &str) -> Result<Repository, String> {
    let (registry, path) = split_registry(text);
    let path = match registry {
        docker_hub::NAME if !path.contains('/') => format!("library/{path}"),
        _ => path.to_owned(),
    };
    check_registry(registry)?;
    check_path(&path)?;
    Ok(Repository { registry: registry.into(), path: path.into() })
}

pub(super) fn invalid(text: &str, why: &str) -> Error {
    let shown = secret::addresses(text);
    Error::new(ErrorKind::Usage, format!("read image name \"{}\"", shown.escape_debug()))
        .because(why)
        .hint("write [registry/]repository[:tag][@sha256:…]")
}

/// The last colon separates a tag, unless a slash follows it: then it belongs to a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') && !tag.contains(']') => (name, Some(tag)),
        _ => (text, None),
    }
}

fn split_registry(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            (docker_hub::canonical(first), rest)
        }
        _ => (docker_hub::NAME, text),
    }
}

fn check_registry(registry: &str) -> Result<(), String> {
    let (host, port) = match registry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(format!("\"[{address}]\" is no IPv6 address"));
            }
            ("", port.strip_prefix(':'))
        }
        None => match registry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(format!("the port of registry \"{registry}\" is no number from 0 to 65535"));
    }
    let label_is_good = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if host.is_empty() && registry.starts_with('[') || host.split('.').all(label_is_good) {
        return Ok(());
    }
    Err(format!("registry \"{registry}\" is no host name"))
}

fn check_path(path: &str) -> Result<(), String> {
    if path.len() > LONGEST_REPOSITORY {
        return Err(format!(
            "the repository has {} characters, at most {LONGEST_REPOSITORY} are allowed",
            path.len()
        ));
    }
    for component in path.split('/') {
        check_component(component)?;
    }
    Ok(())
}

/// Letters and digits, separated by one dot, one or two underscores, or any number of dashes.
fn check_component(component: &str) -> Result<(), String> {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if component.is_empty() {
        return Err("a part between slashes is empty".to_owned());
    }
    if component.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(format!("\"{component}\" has upper-case letters, a repository must not"));
    }
    if let Some(bad) =
        component.chars().find(|c| !c.is_ascii() || !alnum(*c as u8) && !"._-".contains(*c))
    {
        return Err(format!("\"{component}\" has the character {bad:?}"));
    }
    let separators =
        component.split(|c: char| c.is_ascii() && alnum(c as u8)).filter(|s| !s.is_empty());
    let first_and_last = component.bytes().next().into_iter().chain(component.bytes().last());
    if !first_and_last.into_iter().all(alnum) {
        return Err(format!("\"{component}\" starts or ends with a separator"));
    }
    for separator in separators {
        let good = matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-');
        if !good {
            return Err(format!("\"{component}\" has the separator \"{separator}\""));
        }
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let good = tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if !good {
        return Err(format!(
            "tag \"{}\" has other characters than letters, digits and \"_.-\", or starts with one of \".-\"",
            tag.escape_debug()
        ));
    }
    if tag.len() > LONGEST_TAG {
        return Err(format!(
            "the tag has {} characters, at most {LONGEST_TAG} are allowed",
            tag.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_completed_as_docker_does() {
        for (text, expect) in [
            ("golang", "docker.io/library/golang:latest"),
            ("golang:1.27", "docker.io/library/golang:1.27"),
            ("owner/app", "docker.io/owner/app:latest"),
            ("docker.io/app", "docker.io/library/app:latest"),
            ("index.docker.io/owner/app", "docker.io/owner/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("ghcr.io/a/b/c__d-e.f", "ghcr.io/a/b/c__d-e.f:latest"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("[::1]/app:v1", "[::1]/app:v1"),
            ("a---b", "docker.io/library/a---b:latest"),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), expect, "{text}");
        }
    }

    #[test]
    fn a_digest_may_stand_with_or_without_a_tag() {
        let pinned: Reference = format!("ghcr.io/a/b:v1@sha256:{HEX}").parse().unwrap();
        assert_eq!((pinned.tag(), pinned.selector()), (Some("v1"), &*format!("sha256:{HEX}")));
        let bare: Reference = format!("ghcr.io/a/b@sha256:{HEX}").parse().unwrap();
        assert_eq!((bare.tag(), bare.without_digest()), (None, None));
    }

    #[test]
    fn wrong_names_are_refused_with_the_part_that_is_wrong() {
        for (text, part) in [
            ("", "empty"),
            ("App", "upper-case"),
            ("App:v1", "upper-case"),
            ("ghcr.io/a//b", "empty"),
            ("ghcr.io/", "empty"),
            ("a..b", "separator \"..\""),
            ("a___b", "separator \"___\""),
            ("-a", "starts or ends"),
            ("a_", "starts or ends"),
            ("a b", "character ' '"),
            ("ä", "character 'ä'"),
            ("a:", "tag"),
            ("a:.x", "tag"),
            (&format!("a:{}", "x".repeat(129)), "129"),
            ("a@sha256:00", "64"),
            ("ghcr.io:x/a", "port"),
            ("ghcr.io:99999/a", "port"),
            ("[::g]:5000/app", "IPv6"),
            ("a.-b.com/app", "host name"),
            (&format!("ghcr.io/{}", "x".repeat(256)), "256"),
            ("https://ghcr.io/a", ""),
        ] {
            let error = text.parse::<Reference>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(error.starts_with("cannot read image name"), "{error}");
            assert_eq!(error.matches("cannot ").count(), 1, "{error}");
        }
    }

    #[test]
    fn the_familiar_form_is_what_was_typed() {
        for text in ["golang:1.27", "owner/app:v1", "ghcr.io/a/b:v2"] {
            assert_eq!(text.parse::<Reference>().unwrap().familiar(), text);
        }
    }
}
