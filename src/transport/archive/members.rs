//! What is in an archive, and where.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::layer::{ListedEntry, ListedKind};
use crate::oci::Digest;

/// More members than any archive of images has.
const MOST_MEMBERS: usize = 200_000;

/// A member of an archive.
#[derive(Clone, Debug)]
pub(super) enum Member {
    /// A part of the archive's own file.
    Slice {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        size: u64,
    },
    /// A small file of an archive that had to be unpacked.
    InMemory(Bytes),
    /// A large one, which is in the store under this digest, and its size.
    Stored(Digest, u64),
    /// Another member's name.
    Link(String),
}

/// Members while they are listed.
#[derive(Default)]
pub(super) struct Members {
    found: BTreeMap<String, Member>,
    count: usize,
}

impl Members {
    /// Looks at the next entry: the name of a file whose content comes next, or `None` for what
    /// has no content.
    pub(super) fn begin(&mut self, entry: &ListedEntry) -> Result<Option<String>> {
        self.count += 1;
        if self.count > MOST_MEMBERS {
            return Err(of_member(ErrorKind::Invalid, entry)
                .because(format!("there are more than {MOST_MEMBERS}")));
        }
        if entry.sparse {
            return Err(of_member(ErrorKind::Unsupported, entry).because("it is a sparse file"));
        }
        let outside = |why| of_member(ErrorKind::Invalid, entry).because(why);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let name = normalize("", &text(&entry.path))
            .ok_or_else(|| outside("its name leads out of the archive"))?;
        let (folder, target) = match &entry.kind {
            ListedKind::File => return Ok(Some(name)),
            ListedKind::Symlink(target) => (name.rsplit_once('/').map_or("", |(f, _)| f), target),
            ListedKind::HardLink(target) => ("", target),
            _ => return Ok(None),
        };
        let target = normalize(folder, &text(target))
            .ok_or_else(|| outside("it is a link out of the archive"))?;
        self.put(name, Member::Link(target));
        Ok(None)
    }

    /// Takes a member; a later one of the same name counts.
    pub(super) fn put(&mut self, name: String, member: Member) {
        self.found.insert(name, member);
    }

    /// Ends the list. An archive without a file holds no image.
    pub(super) fn finish(self) -> Result<BTreeMap<String, Member>> {
        if self.found.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "list its members").because("it has none"));
        }
        Ok(self.found)
    }
}

/// The path `name`, taken as relative to `folder`, without `.` and `..`; `None` where it leads out.
fn normalize(folder: &str, name: &str) -> Option<String> {
    if name.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

pub(super) fn of_member(kind: ErrorKind, entry: &ListedEntry) -> Error {
    let name = String::from_utf8_lossy(&entry.path);
    Error::new(kind, format!("read member {}", name.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_names_stay_inside_the_archive() {
        for (folder, name, expect) in [
            ("", "./a//b/", Some("a/b")),
            ("a", "../b/layer.tar", Some("b/layer.tar")),
            ("a/b", "../../c", Some("c")),
            ("a", "../../etc/passwd", None),
            ("", "/etc/passwd", None),
            ("", "..", None),
            ("", ".", Some("")),
        ] {
            assert_eq!(normalize(folder, name).as_deref(), expect, "{folder} {name}");
        }
    }
}
