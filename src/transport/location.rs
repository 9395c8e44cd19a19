//! Places: how people write where an image is, or where it should go.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};
use crate::oci::Reference;

/// A place that holds images.
///
/// ```text
/// place   = reference                        an image in a registry
///         | "docker://" reference            the same
///         | "store:" [ reference ]           the local store
///         | "oci:" path [ ":" tag ]          an image layout, a folder
///         | "oci-archive:" path [ ":" tag ]  an image layout in a tar file
///         | "docker-archive:" path [ ":" reference ]
///         | "docker:" [ reference ]          the store of docker
///         | "podman:" [ reference ]          the store of podman
/// path    = text up to the first colon; the colon of a drive (`C:\…`, `C:/…`) belongs to it;
///           "-" is standard input or output
/// tag     = the entry's name in the layout: `v1`, `localhost:5000/app:v1`, or a digest
/// ```
///
/// So a path cannot hold a colon, and everything behind the first one is the tag, whatever colons
/// it has. Docker's own image is `docker.io/docker`, or `docker://docker`: `docker:24` is an image
/// named 24 in the store of docker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A repository in a registry.
    Registry(Reference),
    /// The local store; without a name, whatever the image is called.
    Store(Option<Reference>),
    /// An image layout in a folder.
    Layout {
        /// The folder.
        folder: PathBuf,
        /// Which entry of the layout.
        tag: Option<RefName>,
    },
    /// An image layout in a tar file.
    OciArchive {
        /// The file.
        file: PathBuf,
        /// Which entry of the layout.
        tag: Option<RefName>,
    },
    /// A tar file such as `docker save` writes.
    DockerArchive {
        /// The file.
        file: PathBuf,
        /// Which image of the archive.
        name: Option<Reference>,
    },
    /// The store of another engine.
    Engine {
        /// The engine.
        engine: ContainerEngine,
        /// The name that the image has there.
        name: Option<Reference>,
    },
}

/// Another engine on this machine, reached through its own command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerEngine {
    /// `docker`.
    Docker,
    /// `podman`.
    Podman,
}

impl ContainerEngine {
    /// The engine's command.
    pub fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

/// The name of an entry in an image layout, the annotation `org.opencontainers.image.ref.name`.
///
/// Visible ASCII characters without spaces. By custom a tag, but a full name stands there too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefName(Box<str>);

impl RefName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a registry's name may begin with.
const REGISTRY: &str = "docker://";

/// The words that a place may begin with.
const SCHEMES: [&str; 7] =
    [REGISTRY, "store:", "oci:", "oci-archive:", "docker-archive:", "docker:", "podman:"];

/// What other tools call our schemes.
const FOREIGN: [(&str, &str); 8] = [
    ("containers-storage", "podman:"),
    ("docker-daemon", "docker:"),
    ("http", "docker://"),
    ("https", "docker://"),
    ("layout", "oci:"),
    ("oci-dir", "oci:"),
    ("oci-layout", "oci:"),
    ("tarball", "docker-archive:"),
];

impl Location {
    /// Whether a text says itself that a registry is meant, and no image of that name that is somewhere else.
    pub fn names_registry(text: &str) -> bool {
        text.starts_with(REGISTRY)
    }

    /// The file that is written whole, where the place is one.
    pub fn archive(&self) -> Option<&Path> {
        match self {
            Self::OciArchive { file, .. } | Self::DockerArchive { file, .. }
                if !is_stream(file) =>
            {
                Some(file)
            }
            _ => None,
        }
    }

    /// The image name that the place is written with, where it has one.
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Registry(name) => Some(name),
            Self::Store(name) | Self::DockerArchive { name, .. } | Self::Engine { name, .. } => {
                name.as_ref()
            }
            Self::Layout { .. } | Self::OciArchive { .. } => None,
        }
    }

    /// The same place with its path taken as relative to `folder`.
    #[must_use]
    pub fn in_folder(self, folder: &Path) -> Self {
        let join = |path: PathBuf| if is_stream(&path) { path } else { folder.join(path) };
        match self {
            Self::Layout { folder, tag } => Self::Layout { folder: join(folder), tag },
            Self::OciArchive { file, tag } => Self::OciArchive { file: join(file), tag },
            Self::DockerArchive { file, name } => Self::DockerArchive { file: join(file), name },
            other => other,
        }
    }

    /// Whether the place is standard input or output.
    pub fn is_stream(&self) -> bool {
        match self {
            Self::OciArchive { file, .. } | Self::DockerArchive { file, .. } => is_stream(file),
            _ => false,
        }
    }
}

/// Whether a path stands for standard input or output.
pub(super) fn is_stream(path: &Path) -> bool {
    path == Path::new("-")
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(name) = text.strip_prefix(REGISTRY) {
            return Ok(Self::Registry(name.parse()?));
        }
        if let Some((why, hint)) = other_spelling(text) {
            return Err(unreadable(text, why).hint(hint));
        }
        let Some((scheme, rest)) = text.split_once(':') else {
            return Ok(Self::Registry(text.parse()?));
        };
        match scheme {
            "store" => Ok(Self::Store(optional(rest)?)),
            "docker" => Ok(Self::Engine { engine: ContainerEngine::Docker, name: optional(rest)? }),
            "podman" => Ok(Self::Engine { engine: ContainerEngine::Podman, name: optional(rest)? }),
            "oci" => {
                let (folder, tag) = split_path(text, rest)?;
                Ok(Self::Layout { folder, tag: ref_name(text, tag)? })
            }
            "oci-archive" => {
                let (file, tag) = split_path(text, rest)?;
                Ok(Self::OciArchive { file, tag: ref_name(text, tag)? })
            }
            "docker-archive" => {
                let (file, name) = split_path(text, rest)?;
                Ok(Self::DockerArchive { file, name: name.map(str::parse).transpose()? })
            }
            _ => reference_or_scheme(text, scheme, rest),
        }
    }
}

/// What no name of an image looks like: docker's ways to name an output, and paths. Says why, and what to
/// write instead.
fn other_spelling(text: &str) -> Option<(&'static str, &'static str)> {
    const DOCKERS: &str = "that is how docker writes outputs";
    let first = text.split(',').next().unwrap_or_default();
    let kind = first.strip_prefix("type=");
    if kind.is_some() || first.starts_with("dest=") {
        return Some(match kind {
            Some("docker") => (DOCKERS, "write docker-archive:FILE, or docker: for an engine"),
            Some("oci") => (DOCKERS, "write oci-archive:FILE or oci:FOLDER"),
            Some("image" | "registry") => (DOCKERS, "name the image by --tag, and add --push"),
            _ => (
                DOCKERS,
                "files are not taken out of images: oci:FOLDER and oci-archive:FILE hold whole ones",
            ),
        });
    }
    let is_path = text.starts_with(['/', '~', '.']) || text.ends_with('/');
    match text {
        "-" => Some(("it names no form", "write docker-archive:- or oci-archive:-")),
        _ if is_path => Some((
            "it is a path without its form",
            "write oci:FOLDER, oci-archive:FILE or docker-archive:FILE",
        )),
        _ => None,
    }
}

fn optional(name: &str) -> Result<Option<Reference>> {
    if name.is_empty() { Ok(None) } else { name.parse().map(Some) }
}

/// Splits `path[:tag]`.
fn split_path<'a>(whole: &str, rest: &'a str) -> Result<(PathBuf, Option<&'a str>)> {
    let begin = if has_drive(rest) { 2 } else { 0 };
    let (path, tag) = match rest[begin..].split_once(':') {
        Some((path, tag)) => (&rest[..begin + path.len()], Some(tag)),
        None => (rest, None),
    };
    if path.is_empty() {
        return Err(unreadable(whole, "the path is empty"));
    }
    if tag == Some("") {
        return Err(unreadable(whole, "the tag after the path is empty"));
    }
    Ok((PathBuf::from(path), tag))
}

/// Whether a path begins as `C:\` or `C:/` does.
fn has_drive(path: &str) -> bool {
    matches!(path.as_bytes(), [letter, b':', b'\\' | b'/', ..] if letter.is_ascii_alphabetic())
}

fn ref_name(whole: &str, tag: Option<&str>) -> Result<Option<RefName>> {
    let Some(tag) = tag else { return Ok(None) };
    match tag.chars().find(|c| !c.is_ascii_graphic()) {
        Some(bad) => Err(unreadable(whole, &format!("the tag has the character {bad:?}"))),
        None => Ok(Some(RefName(tag.into()))),
    }
}

/// Tells an image name with a tag or port from a scheme that there is not.
fn reference_or_scheme(text: &str, scheme: &str, rest: &str) -> Result<Location> {
    let parsed = text.parse::<Reference>();
    let word = scheme.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    let near = nearest(scheme);
    // `docker-archiv:app.tar` is a valid image name, but nobody means it.
    let misspelt = near.is_some() && scheme.contains('-');
    let path_like = rest.starts_with(['/', '.', '~']);
    if word && (misspelt || parsed.is_err() && (path_like || near.is_some())) {
        return Err(unknown_scheme(text, scheme, near));
    }
    Ok(Location::Registry(parsed?))
}

/// The scheme that was meant.
fn nearest(scheme: &str) -> Option<&'static str> {
    if let Some((_, ours)) = FOREIGN.iter().find(|(foreign, _)| *foreign == scheme) {
        return Some(ours);
    }
    let known = SCHEMES.iter().map(|known| {
        let name = known.trim_end_matches(['/', ':']);
        (strsim::damerau_levenshtein(scheme, name), *known)
    });
    let (distance, known) = known.min()?;
    (distance <= 2 && distance < known.len() / 2).then_some(known)
}

fn unknown_scheme(text: &str, scheme: &str, near: Option<&str>) -> Error {
    let known = SCHEMES.join(", ");
    let error = unreadable(text, &format!("\"{scheme}:\" is none of {known}, or an image name"));
    match near {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error,
    }
}

fn unreadable(text: &str, why: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("read place \"{}\"", text.escape_debug())).because(why)
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with =
            |f: &mut fmt::Formatter<'_>, scheme, path: &Path, tag: Option<&dyn fmt::Display>| {
                write!(f, "{scheme}:{}", path.display())?;
                tag.map_or(Ok(()), |tag| write!(f, ":{tag}"))
            };
        match self {
            Self::Registry(name) => name.fmt(f),
            Self::Store(None) => f.write_str("store:"),
            Self::Store(Some(name)) => write!(f, "store:{name}"),
            Self::Layout { folder, tag } => with(f, "oci", folder, tag.as_ref().map(|t| t as _)),
            Self::OciArchive { file, tag } => {
                with(f, "oci-archive", file, tag.as_ref().map(|t| t as _))
            }
            Self::DockerArchive { file, name } => {
                with(f, "docker-archive", file, name.as_ref().map(|n| n as _))
            }
            Self::Engine { engine, name: None } => write!(f, "{}:", engine.program()),
            Self::Engine { engine, name: Some(name) } => write!(f, "{}:{name}", engine.program()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_written() {
        for (text, expect) in [
            ("golang", "docker.io/library/golang:latest"),
            ("golang:1.27", "docker.io/library/golang:1.27"),
            ("docker://golang", "docker.io/library/golang:latest"),
            ("docker://docker:24", "docker.io/library/docker:24"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("registry:2", "docker.io/library/registry:2"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("store:", "store:"),
            ("store:app", "store:docker.io/library/app:latest"),
            ("oci:out", "oci:out"),
            ("oci:/a/b c:v1", "oci:/a/b c:v1"),
            ("oci:out:localhost:5000/app:v1", "oci:out:localhost:5000/app:v1"),
            (r"oci:C:\out:v1", r"oci:C:\out:v1"),
            ("oci-archive:C:/out.tar", "oci-archive:C:/out.tar"),
            ("oci-archive:-:v1", "oci-archive:-:v1"),
            ("docker-archive:app.tar", "docker-archive:app.tar"),
            ("docker-archive:app.tar:app", "docker-archive:app.tar:docker.io/library/app:latest"),
            ("docker-archive:a.tar:[::1]:5000/b:c", "docker-archive:a.tar:[::1]:5000/b:c"),
            ("docker:", "docker:"),
            ("docker:24", "docker:docker.io/library/24:latest"),
            ("podman:ghcr.io/a/b:v1", "podman:ghcr.io/a/b:v1"),
        ] {
            let place: Location = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(place.to_string(), expect, "{text}");
            assert_eq!(expect.parse::<Location>().unwrap(), place, "{text}");
        }
    }

    #[test]
    fn wrong_places_are_refused_with_what_was_meant() {
        for (text, part) in [
            ("docker-archiv:app.tar", "did you mean docker-archive:?"),
            ("oci-archvie:app.tar", "did you mean oci-archive:?"),
            ("oci-layout:out", "did you mean oci:?"),
            ("docker-daemon:app:v1", "did you mean docker:?"),
            ("containers-storage:app", "did you mean podman:?"),
            ("https://ghcr.io/a/b", "did you mean docker://?"),
            ("ocl:./out", "did you mean oci:?"),
            ("type=docker,dest=x.tar", "write docker-archive:FILE"),
            ("type=oci,dest=x", "write oci-archive:FILE or oci:FOLDER"),
            ("type=registry", "add --push"),
            ("type=local,dest=out", "files are not taken out of images"),
            ("dest=out,type=tar", "docker writes outputs"),
            ("-", "docker-archive:- or oci-archive:-"),
            ("./out", "write oci:FOLDER"),
            ("out/", "write oci:FOLDER"),
            ("/srv/out", "write oci:FOLDER"),
            ("tar:/tmp/x", "none of docker://, store:, oci:, oci-archive:"),
            ("oci:", "path is empty"),
            ("oci::v1", "path is empty"),
            ("oci:out:", "tag after the path is empty"),
            ("oci:out:a b", "' '"),
            ("docker-archive:a.tar:A", "upper-case"),
            ("store:A", "upper-case"),
            ("golang:-x", "tag"),
            ("App:v1", "upper-case"),
            ("", "empty"),
        ] {
            let error = text.parse::<Location>().expect_err(text);
            assert!(error.to_string().contains(part), "{text}: {error}");
            assert_eq!(error.kind(), ErrorKind::Usage, "{text}");
        }
    }

    #[test]
    fn paths_are_taken_relative_to_a_folder() {
        for (text, expect) in [
            ("oci:out:v1", "oci:/work/out:v1"),
            ("oci-archive:/abs.tar", "oci-archive:/abs.tar"),
            ("docker-archive:-", "docker-archive:-"),
            ("golang", "docker.io/library/golang:latest"),
        ] {
            let place: Location = text.parse().unwrap();
            assert_eq!(place.in_folder(Path::new("/work")).to_string(), expect);
        }
    }
}
