//! Where files come from that are in no image: a build's context, and `--build-context`.

use std::path::{Path, PathBuf};

use super::refuse;
use crate::context::GitSource;
use crate::dockerfile::convert::{ContextSource, NamedContext};
use crate::error::{Error, Result};
use crate::secret;
use crate::transport::Location;

/// Prefixes of places that hold images.
const IMAGES: [&str; 4] = ["oci:", "oci-archive:", "docker-archive:", "store:"];

/// Reads a context that is no standard input: a repository, an address, an archive or a folder.
pub fn parse(text: &str, folder: &Path) -> ContextSource {
    if let Some(git) = GitSource::parse(text) {
        return ContextSource::Git(git);
    }
    if is_address(text) {
        return ContextSource::Address(text.to_owned());
    }
    let path = folder.join(text);
    if path.is_file() { archive(path) } else { ContextSource::Folder(path) }
}

/// Whether a context is somewhere else than on this machine's disk.
pub fn is_remote(text: &str) -> bool {
    text == "-" || is_address(text) || GitSource::parse(text).is_some()
}

/// Reads `NAME=PLACE`.
pub fn named(text: &str, folder: &Path) -> Result<(String, NamedContext)> {
    let (name, place) = text.split_once('=').ok_or_else(|| wrong(text))?;
    if name.is_empty() || place.is_empty() {
        return Err(wrong(text));
    }
    let meaning = if let Some(image) = place.strip_prefix("docker-image://") {
        NamedContext::Image(Location::Registry(image.parse()?))
    } else if let Some(layout) = place.strip_prefix("oci-layout://") {
        let layout = layout.replace('@', ":");
        NamedContext::Image(format!("oci:{layout}").parse::<Location>()?.in_folder(folder))
    } else if IMAGES.iter().any(|scheme| place.starts_with(scheme)) {
        NamedContext::Image(place.parse::<Location>()?.in_folder(folder))
    } else {
        NamedContext::Files(parse(place, folder))
    };
    Ok((name.to_owned(), meaning))
}

fn wrong(text: &str) -> Error {
    refuse(&format!("--build-context {}", secret::addresses(text)), "expected NAME=PLACE")
}

fn is_address(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// All of an archive.
fn archive(file: PathBuf) -> ContextSource {
    let name = file.display().to_string();
    ContextSource::Archive { file, name, folder: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_repositories_addresses_archives_or_folders() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.tar");
        fs_err::write(&file, "").unwrap();
        let read = |text: &str| parse(text, folder.path());
        assert_eq!(read("."), ContextSource::Folder(folder.path().join(".")));
        assert_eq!(read("c.tar"), archive(file.clone()));
        let address = "https://host.test/c.tar.gz";
        assert_eq!(read(address), ContextSource::Address(address.to_owned()));
        assert!(matches!(read("https://host.test/a.git#main"), ContextSource::Git(_)));
        for (text, expected) in
            [("-", true), (address, true), ("https://host.test/a.git", true), ("c.tar", false)]
        {
            assert_eq!(is_remote(text), expected, "{text}");
        }
    }

    #[test]
    fn named_contexts_are_images_or_files() {
        let folder = Path::new("/work");
        let image = |text: &str| NamedContext::Image(text.parse::<Location>().unwrap());
        for (text, expected) in [
            ("base=docker-image://acme/base:1", image("acme/base:1")),
            ("base=oci-layout:///images@v1", image("oci:/images:v1")),
            ("base=oci:/images", image("oci:/images")),
            ("base=docker-archive:/a.tar", image("docker-archive:/a.tar")),
            ("base=src", NamedContext::Files(ContextSource::Folder("/work/src".into()))),
        ] {
            assert_eq!(named(text, folder).unwrap(), ("base".to_owned(), expected), "{text}");
        }
        for bad in ["", "base", "base=", "=src"] {
            let error = named(bad, folder).unwrap_err().to_string();
            assert!(error.ends_with("expected NAME=PLACE"), "{error}");
        }
    }
}
