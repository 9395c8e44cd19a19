//! Who a program runs as: `USER` against the image's `passwd` and `group`, and the ids that a user
//! namespace holds.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{Attempt, Fault, Stage};

/// The ids and home folder that `USER` stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Supplementary groups. The first one above is among them, as in every container of docker's.
    pub(super) groups: Vec<u32>,
    pub(super) home: Option<String>,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Looks up `USER` as an image says it: empty, `name`, `uid`, and each with `:group`.
///
/// A number needs no entry; a name does. A group given explicitly replaces those that list the user.
pub(super) fn resolve(user: &str, passwd: &str, group: &str) -> Attempt<Identity> {
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let account = accounts(passwd)
        .find(|account| account.name == user)
        .or_else(|| accounts(passwd).find(|account| Ok(account.uid) == user.parse()));
    let uid = match (&account, user.parse()) {
        (Some(account), _) => account.uid,
        (None, Ok(uid)) if uid <= MAX_ID => uid,
        _ => return Err(missing("user", user, "/etc/passwd")),
    };
    let home = account.as_ref().map(|account| account.home.to_owned());
    if let Some(wanted) = wanted_group {
        let gid = find_group(wanted, group)?;
        return Ok(Identity { uid, gid, groups: vec![gid], home });
    }
    let gid = account.as_ref().map_or(0, |account| account.gid);
    let lists = |member: &Group<'_>| {
        account.as_ref().is_some_and(|account| member.members.split(',').any(|m| m == account.name))
    };
    let further = groups(group).filter(lists).map(|group| group.gid);
    let groups = std::iter::once(gid).chain(further.filter(|further| *further != gid)).collect();
    Ok(Identity { uid, gid, groups, home })
}

/// The largest id that the kernel takes; one more means "unchanged".
const MAX_ID: u32 = u32::MAX - 1;

fn find_group(wanted: &str, group: &str) -> Attempt<u32> {
    if let Some(found) = groups(group).find(|candidate| candidate.name == wanted) {
        return Ok(found.gid);
    }
    let number = wanted.parse().ok().filter(|gid| *gid <= MAX_ID);
    number.ok_or_else(|| missing("group", wanted, "/etc/group"))
}

fn missing(kind: &str, name: &str, file: &str) -> Fault {
    let reason = format!("the image has no such {kind} in {file}");
    Fault::new(Stage::User, format!("run as {kind} {name:?}"), reason)
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let home = fields.nth(1).unwrap_or("/");
        Some(Account { name, uid, gid, home })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let gid = fields.next()?.parse().ok()?;
        Some(Group { name, gid, members: fields.next().unwrap_or("") })
    })
}

/// Which ids a user namespace holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum IdMap {
    /// There is no user namespace.
    None,
    /// The caller's own id, as root.
    Single,
    /// The caller's own user namespace, which holds a range.
    Inherited,
    /// The caller's own id as root, and ranges from 1 on, by way of set-uid programs.
    Ranges { newuidmap: PathBuf, newgidmap: PathBuf, uids: Vec<Range>, gids: Vec<Range> },
}

/// A block of the host's ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Range {
    pub(super) start: u32,
    pub(super) count: u32,
}

/// The arguments of `newuidmap` after the process id: `inside outside count` for each block.
pub(super) fn map_arguments(own: u32, ranges: &[Range]) -> Vec<String> {
    let mut words = vec!["0".to_owned(), own.to_string(), "1".to_owned()];
    let mut inside: u32 = 1;
    for range in ranges {
        // The kernel has no id above this; a file that names more is cut short.
        let count = range.count.min(u32::MAX - inside);
        if count == 0 {
            break;
        }
        words.extend([inside.to_string(), range.start.to_string(), count.to_string()]);
        inside += count;
    }
    words
}

/// The blocks that `/etc/subuid` or `/etc/subgid` gives a user, named or numbered.
pub(super) fn subordinate_ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    let number = uid.to_string();
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let range =
            Range { start: fields.next()?.parse().ok()?, count: fields.next()?.parse().ok()? };
        (Some(owner) == name || owner == number).then_some(range)
    });
    lines.filter(|range| range.count > 0).collect()
}

/// The name of a user in the text of a `passwd` file.
pub(super) fn user_name(passwd: &str, uid: u32) -> Option<String> {
    accounts(passwd).find(|account| account.uid == uid).map(|account| account.name.to_owned())
}

/// Finds a program in the folders of `path`, as a shell does.
pub(super) fn find_program(name: &str, path: &str) -> Option<PathBuf> {
    let folders = path.split(':').filter(|folder| folder.starts_with('/'));
    let mut candidates = folders.map(|folder| Path::new(folder).join(name));
    candidates.find(|candidate| {
        candidate.is_file() && rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        app:x:1000:1000::/home/app:/bin/sh\n\
        42:x:7:7::/odd:/bin/sh\nbroken\n:::\n";
    const GROUP: &str = "root:x:0:\napp:x:1000:\naudio:x:29:root,app\nwheel:x:10:app\n";

    #[test]
    fn a_user_is_found_as_docker_finds_it() {
        let cases = [
            ("", 0, 0, &[0, 29][..], Some("/root")),
            ("app", 1000, 1000, &[1000, 29, 10], Some("/home/app")),
            ("1000", 1000, 1000, &[1000, 29, 10], Some("/home/app")),
            ("app:audio", 1000, 29, &[29], Some("/home/app")),
            ("app:5000", 1000, 5000, &[5000], Some("/home/app")),
            ("65532", 65532, 0, &[0], None),
            ("65532:65532", 65532, 65532, &[65532], None),
            ("42", 7, 7, &[7], Some("/odd")),
        ];
        for (user, uid, gid, groups, home) in cases {
            let found = resolve(user, PASSWD, GROUP).unwrap();
            let home = home.map(str::to_owned);
            assert_eq!(found, Identity { uid, gid, groups: groups.to_vec(), home }, "{user}");
        }
    }

    #[test]
    fn a_name_without_an_entry_is_refused() {
        for user in ["nobody", "app:staff", "-1", "4294967295", "app:4294967295"] {
            let fault = resolve(user, PASSWD, GROUP).unwrap_err();
            assert!(fault.reason.starts_with("the image has no such"), "{user}");
        }
    }

    #[test]
    fn subordinate_ranges_are_found_by_name_and_by_number() {
        let text = "me:100000:65536\nyou:200000:65536\n1000:300000:10\nme:1:0\nme:x:y\n";
        let ranges = subordinate_ranges(text, Some("me"), 1000);
        let expected =
            [Range { start: 100_000, count: 65536 }, Range { start: 300_000, count: 10 }];
        assert_eq!(ranges, expected);
        assert_eq!(
            map_arguments(1000, &ranges).join(" "),
            "0 1000 1 1 100000 65536 65537 300000 10"
        );
    }
}
