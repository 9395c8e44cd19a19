//! `--chown` and `USER`: names and numbers, looked up in a file system's own lists.

use std::fmt::Write as _;

use crate::engine::files::{Files, LastLink, resolve};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::layer::EntryKind;

/// Lists of users are longer than this in no image.
const LONGEST_LIST: u64 = 16 << 20;

/// Who files belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

/// Says who `user[:group]` is. A name's group is the one in `/etc/passwd`; a number alone is also the
/// group's number.
pub fn owner(text: &str, files: &dyn Files) -> Result<Owner> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let mut found = user_of(user, files)?;
    if let Some(group) = group {
        found.gid = match group.parse() {
            Ok(gid) => gid,
            Err(_) => number(files, "etc/group", group, "group")?[0],
        };
    }
    Ok(found)
}

fn user_of(user: &str, files: &dyn Files) -> Result<Owner> {
    if user.is_empty() {
        return Ok(Owner::default());
    }
    if let Ok(uid) = user.parse() {
        return Ok(Owner { uid, gid: uid });
    }
    let numbers = number(files, "etc/passwd", user, "user")?;
    Ok(Owner { uid: numbers[0], gid: numbers[1] })
}

/// The third and fourth field of the line that begins with a name.
fn number(files: &dyn Files, path: &str, name: &str, kind: &str) -> Result<[u32; 2]> {
    let unknown = || Error::new(ErrorKind::NotFound, format!("find the {kind} {name}"));
    let Some(list) = read(files, path)? else {
        return Err(unknown().because(format!("there is no /{path}")).hint("write a number"));
    };
    let mut names = String::new();
    for line in list.lines() {
        let mut fields = line.split(':');
        let found = fields.next().unwrap_or_default();
        if found == name {
            let mut numbers = fields.skip(1).map(|field| field.trim().parse().ok());
            let first = numbers.next().flatten();
            let first = first
                .ok_or_else(|| unknown().because(format!("its line in /{path} has no number")))?;
            return Ok([first, numbers.next().flatten().unwrap_or(first)]);
        }
        // Writing to a string cannot fail.
        let _ = write!(names, " {found}");
    }
    Err(unknown().because(format!("/{path} has only{names}")))
}

fn read(files: &dyn Files, path: &str) -> Result<Option<String>> {
    let Some(found) = resolve(files, path.as_bytes(), LastLink::Follow)? else { return Ok(None) };
    let EntryKind::File(content) = &found.node.entry.kind else { return Ok(None) };
    if content.size() > LONGEST_LIST {
        let size = content.size();
        return Err(Error::new(ErrorKind::Invalid, format!("read /{path}"))
            .because(format!("it has {size} bytes, at most {LONGEST_LIST} are taken")));
    }
    files.bring(&found.node.entry)?;
    let bytes = content.bytes().cannot(|| "look for a user")?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::files::TreeFiles;
    use crate::layer::{Entry, Tree};

    fn lists() -> TreeFiles {
        let mut tree = Tree::new();
        let passwd = "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home:/bin/sh\n";
        let file = |text: &str| Entry::file(text.to_owned(), 0o644);
        tree.insert_with_parents("etc/passwd".parse().unwrap(), file(passwd)).unwrap();
        tree.insert("etc/group".parse().unwrap(), file("root:x:0:\nweb:x:33:app\n")).unwrap();
        TreeFiles::new(tree)
    }

    #[test]
    fn names_and_numbers_say_who() {
        for (text, uid, gid) in [
            ("app", 1000, 1001),
            ("app:web", 1000, 33),
            ("app:7", 1000, 7),
            ("12", 12, 12),
            ("12:34", 12, 34),
            ("12:web", 12, 33),
            ("root", 0, 0),
            ("app:", 1000, 1001),
        ] {
            assert_eq!(owner(text, &lists()).unwrap(), Owner { uid, gid }, "{text}");
        }
        let error = owner("nobody", &lists()).unwrap_err().to_string();
        assert_eq!(error, "cannot find the user nobody: /etc/passwd has only root app");
        assert!(owner("app:nogroup", &lists()).is_err());
        let error = owner("app", &TreeFiles::default()).unwrap_err().to_string();
        assert!(error.contains("there is no /etc/passwd"), "{error}");
    }
}
