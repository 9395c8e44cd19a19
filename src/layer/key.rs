//! Finding a layer that was made before, without making it again.

use blake3::Hasher;

use super::header::type_flag;
use super::{Content, Encoding, Entry, EntryKind, FORMAT, Tree, TreePath};
use crate::error::Result;

/// The key of the layer that [`write()`](super::write()) would make: equal keys mean equal bytes.
///
/// Covers [`FORMAT`], the encoding, each entry and the contents of files, which are read for it where
/// their hashes are not known. Files are pinned: no layer with other contents can be made of `tree`
/// afterwards. The key is a BLAKE3 hash in hexadecimal, for use on this machine alone.
pub fn content_key(tree: &mut Tree, encoding: &Encoding) -> Result<String> {
    tree.check_links()?;
    tree.pin()?;
    let mut key = Key { hasher: Hasher::new() };
    key.number(FORMAT.into());
    key.bytes(encoding.to_string().as_bytes());
    key.number(u64::from(matches!(encoding, Encoding::Gzip { single_member: true, .. })));
    key.number(tree.len() as u64);
    for (path, entry) in &*tree {
        key.entry(&path, &entry)?;
    }
    Ok(key.hasher.finalize().to_hex().to_string())
}

/// Takes fields one after the other, each with its length, so that no two lists look the same.
struct Key {
    hasher: Hasher,
}

impl Key {
    fn number(&mut self, number: u64) {
        self.hasher.update(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.hasher.update(bytes);
    }

    fn entry(&mut self, path: &TreePath, entry: &Entry) -> Result<()> {
        self.bytes(path.as_bytes());
        for number in [entry.mode, entry.uid, entry.gid] {
            self.number(number.into());
        }
        self.hasher.update(&entry.mtime.to_le_bytes());
        self.number(entry.xattrs.len() as u64);
        for (name, value) in &entry.xattrs {
            self.bytes(name.as_bytes());
            self.bytes(value);
        }
        self.kind(&entry.kind)
    }

    fn kind(&mut self, kind: &EntryKind) -> Result<()> {
        self.number(type_flag(kind).into());
        match kind {
            EntryKind::File(content) => self.content(content)?,
            EntryKind::HardLink(target) => self.bytes(target.as_bytes()),
            EntryKind::Symlink(target) => self.bytes(target),
            EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                self.number((*major).into());
                self.number((*minor).into());
            }
            EntryKind::Directory | EntryKind::Fifo => {}
        }
        Ok(())
    }

    fn content(&mut self, content: &Content) -> Result<()> {
        self.number(content.size());
        self.hasher.update(&content.hash()?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn whatever_differs_gives_another_key() {
        let file = || Entry::file("ab", 0o644);
        let with_xattr = |name: &str, value: &str| {
            let mut entry = file();
            entry.xattrs.insert(name.to_owned(), value.into());
            entry
        };
        let device = |kind: fn(u32, u32) -> EntryKind| Entry::new(kind(1, 2), 0o644);
        let trees: [&[(&str, Entry)]; 17] = [
            &[],
            &[("a", file())],
            &[("b", file())],
            &[("a", file()), ("b", file())],
            &[("a", Entry::file("a", 0o644)), ("b", file())],
            &[("a", Entry::file("aa", 0o644))],
            &[("a", Entry::file("ab", 0o600))],
            &[("a", file().owned_by(1, 0))],
            &[("a", file().owned_by(0, 1))],
            &[("a", file().modified(1))],
            &[("a", with_xattr("user.a", "bc"))],
            &[("a", with_xattr("user.ab", "c"))],
            &[("a", Entry::directory(0o644))],
            &[("a", Entry::new(EntryKind::Symlink(b"ab".into()), 0o644))],
            &[("a", Entry::new(EntryKind::Fifo, 0o644))],
            &[("a", device(|major, minor| EntryKind::CharDevice { major, minor }))],
            &[("a", device(|minor, major| EntryKind::CharDevice { major, minor }))],
        ];
        let encodings = ["none", "gzip:1", "gzip:2", "zstd:1"].map(|text| text.parse().unwrap());
        let single = Encoding::default().in_single_member();
        let mut keys = BTreeSet::new();
        for entries in trees {
            let mut tree = Tree::new();
            for (path, entry) in entries {
                tree.insert(path.parse().unwrap(), entry.clone()).unwrap();
            }
            for encoding in encodings.iter().chain([&single]) {
                keys.insert(content_key(&mut tree, encoding).unwrap());
            }
        }
        assert_eq!(keys.len(), trees.len() * 5);
    }

    #[test]
    fn the_key_does_not_depend_on_the_order_of_insertion() {
        let key = |names: [&str; 3]| {
            let mut tree = Tree::new();
            for name in names {
                tree.insert_with_parents(name.parse().unwrap(), Entry::file("", 0o644)).unwrap();
            }
            content_key(&mut tree, &Encoding::default()).unwrap()
        };
        assert_eq!(key(["a/b", "a/c", "d"]), key(["d", "a/c", "a/b"]));
    }
}
