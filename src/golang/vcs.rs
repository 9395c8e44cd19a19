//! Which revision of which repository a folder holds, read from git's files.
//!
//! Nothing here is worth failing a build for, so whatever cannot be read is not there. Whether
//! files differ from the revision is not found out: that would take reading all of them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::scope::absolute;
use crate::disk;

/// Configuration files and references are small.
const FILE_LIMIT: u64 = 1 << 20;

/// The packed references of the largest repositories.
const PACKED_LIMIT: u64 = 256 << 20;

/// References may lead to references, but not for long.
const SYMBOLIC_DEPTH: usize = 5;

/// A folder under version control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkout {
    /// The commit that is checked out, in hexadecimal.
    pub revision: String,
    /// The web address of the repository, without credentials, if it has a remote one.
    pub source: Option<String>,
    /// The folder that the repository's paths are relative to.
    pub root: PathBuf,
}

/// Finds the repository that a folder belongs to, and its revision.
pub fn checkout(dir: &Path) -> Option<Checkout> {
    dir.ancestors().find_map(|root| Some((root, git_folder(root)?))).and_then(read_checkout)
}

/// The repositories of several folders, each of which is looked at once.
#[derive(Default)]
pub(super) struct Checkouts(BTreeMap<PathBuf, Option<Arc<Checkout>>>);

impl Checkouts {
    /// The same as [`checkout()`].
    pub(super) fn of(&mut self, dir: &Path) -> Option<Arc<Checkout>> {
        let mut passed = Vec::new();
        let mut found = None;
        for root in dir.ancestors() {
            if let Some(known) = self.0.get(root) {
                found.clone_from(known);
                break;
            }
            passed.push(root);
            if let Some(git) = git_folder(root) {
                found = read_checkout((root, git)).map(Arc::new);
                break;
            }
        }
        self.0.extend(passed.into_iter().map(|root| (root.to_owned(), found.clone())));
        found
    }
}

/// What the repository in a folder has checked out, by its `.git`.
fn read_checkout((root, git): (&Path, PathBuf)) -> Option<Checkout> {
    let common = match read_line(&git.join("commondir")) {
        Some(folder) => absolute(&git, &folder),
        None => git.clone(),
    };
    let head = read_line(&git.join("HEAD"))?;
    let revision = resolve(&head, &git, &common)?;
    let config = read(&common.join("config")).unwrap_or_default();
    let source = remote_url(&config).and_then(|url| web_address(&url));
    Some(Checkout { revision, source, root: root.to_owned() })
}

/// The folder behind `.git`, which in worktrees and submodules is a file that names it.
fn git_folder(root: &Path) -> Option<PathBuf> {
    let git = root.join(".git");
    if git.is_dir() {
        // A folder that merely has the name is passed over, as git does.
        return git.join("HEAD").is_file().then_some(git);
    }
    let text = read_line(&git)?;
    Some(absolute(root, text.strip_prefix("gitdir:")?.trim()))
}

/// Follows a reference to its commit.
fn resolve(head: &str, git: &Path, common: &Path) -> Option<String> {
    let mut value = head.to_owned();
    for _ in 0..SYMBOLIC_DEPTH {
        let Some(name) = value.strip_prefix("ref:") else {
            let is_commit = matches!(value.len(), 40 | 64)
                && value.bytes().all(|byte| byte.is_ascii_hexdigit());
            return is_commit.then(|| value.to_ascii_lowercase());
        };
        let name = name.trim();
        if !name.starts_with("refs/") || name.split('/').any(|part| part == "..") {
            return None;
        }
        value = read_line(&git.join(name))
            .or_else(|| read_line(&common.join(name)))
            .or_else(|| packed(&common.join("packed-refs"), name))?;
    }
    None
}

/// Looks a reference up in lines of `commit name`.
fn packed(path: &Path, name: &str) -> Option<String> {
    let file = disk::open(path).ok()?;
    let lines = BufReader::new(file.take(PACKED_LIMIT)).lines();
    lines.map_while(Result::ok).find_map(|line| {
        let (commit, found) = line.split_once(' ')?;
        (found == name).then(|| commit.to_owned())
    })
}

fn read(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    disk::open(path).ok()?.take(FILE_LIMIT).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn read_line(path: &Path) -> Option<String> {
    let text = read(path)?;
    text.lines().next().map(|line| line.trim().to_owned())
}

/// The address of the remote `origin`, or of the first one.
fn remote_url(config: &str) -> Option<String> {
    let mut remote = None;
    let mut found: Option<(String, String)> = None;
    for line in config.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.split(']').next().unwrap_or_default();
            let name = section.strip_prefix("remote").map(|name| name.trim().trim_matches('"'));
            remote = name.map(str::to_owned);
        } else if let Some(remote) = &remote
            && let Some((key, value)) = line.split_once('=')
            && key.trim().eq_ignore_ascii_case("url")
        {
            let value = value.trim().trim_matches('"').to_owned();
            let better = found.as_ref().is_none_or(|(name, _)| name != "origin");
            if found.is_none() || (remote == "origin" && better) {
                found = Some((remote.clone(), value));
            }
        }
    }
    found.map(|(_, url)| url)
}

/// The web address that belongs to a remote: HTTPS, no credentials, no `.git`.
///
/// A folder of this machine has none, and neither has a host that only this machine's SSH
/// configuration knows.
fn web_address(remote: &str) -> Option<String> {
    let (scheme, authority, path) = if let Some((scheme, rest)) = remote.split_once("://") {
        let (authority, path) = rest.split_once('/')?;
        (scheme.to_ascii_lowercase(), authority, path)
    } else {
        // The short form of SSH: [user@]host:path.
        let (authority, path) = remote.split_once(':')?;
        if authority.contains('/') || !authority.contains('.') {
            return None;
        }
        ("ssh".to_owned(), authority, path)
    };
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let (scheme, host) = match scheme.as_str() {
        "http" | "https" => (scheme.as_str(), host),
        // The port is that of another protocol.
        "ssh" | "git" | "git+ssh" | "ssh+git" => ("https", host.split(':').next()?),
        _ => return None,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default().trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic()) && !text.contains('@');
    let is_address = !host.is_empty() && !path.is_empty() && plain(host) && plain(path);
    is_address.then(|| format!("{scheme}://{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_becomes_a_web_address_without_credentials() {
        for (remote, expect) in [
            ("https://github.com/a/b.git", Some("https://github.com/a/b")),
            ("https://github.com/a/b/", Some("https://github.com/a/b")),
            ("https://user:secret@github.com/a/b", Some("https://github.com/a/b")),
            ("https://x-access-token:s@cr@t@github.com/a/b.git", Some("https://github.com/a/b")),
            ("https://host:8443/a/b?token=secret#x", Some("https://host:8443/a/b")),
            ("http://host/a", Some("http://host/a")),
            ("git@github.com:a/b.git", Some("https://github.com/a/b")),
            ("github.com:a/b", Some("https://github.com/a/b")),
            ("ssh://git@host.example:2222/a/b.git", Some("https://host.example/a/b")),
            ("git://host.example/a/b", Some("https://host.example/a/b")),
            ("work:a/b", None),
            ("/srv/git/a.git", None),
            ("../a", None),
            ("file:///srv/git/a.git", None),
            ("C:\\git\\a", None),
            ("https://host", None),
            ("https://host/", None),
            ("https://host/a b", None),
            ("", None),
        ] {
            assert_eq!(web_address(remote).as_deref(), expect, "{remote}");
        }
    }

    #[test]
    fn origin_is_preferred() {
        let config = "[core]\n\tbare = false\n\turl = no\n[remote \"fork\"]\n\turl = f\n\
                      [remote \"origin\"]\n\tfetch = x\n\tURL = \"o\"\n[branch \"main\"]\n\turl = b\n";
        assert_eq!(remote_url(config).as_deref(), Some("o"));
        assert_eq!(remote_url("[remote \"fork\"]\nurl=f\n").as_deref(), Some("f"));
        assert_eq!(remote_url("[core]\nbare = true"), None);
    }

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn a_revision_is_found_in_every_layout() {
        let loose = format!("{COMMIT}\n");
        let packed = format!("# pack-refs with: peeled\n{COMMIT} refs/heads/a/b\n^{COMMIT}\n");
        let branch = "ref: refs/heads/a/b\n";
        for files in [
            &[(".git/HEAD", loose.as_str())][..],
            &[(".git/HEAD", branch), (".git/refs/heads/a/b", &loose)],
            &[(".git/HEAD", branch), (".git/packed-refs", &packed)],
            &[
                (".git", "gitdir: ../main/.git/worktrees/x\n"),
                ("../main/.git/worktrees/x/HEAD", branch),
                ("../main/.git/worktrees/x/commondir", "../..\n"),
                ("../main/.git/refs/heads/a/b", &loose),
                ("../main/.git/config", "[remote \"origin\"]\nurl = git@host.example:a/b.git\n"),
            ],
        ] {
            let prefixed: Vec<(String, &str)> =
                files.iter().map(|(path, text)| (format!("top/{path}"), *text)).collect();
            let files: Vec<(&str, &str)> = prefixed.iter().map(|(p, t)| (p.as_str(), *t)).collect();
            let folder = repository(&files);
            fs_err::create_dir_all(folder.path().join("top/deep/er")).unwrap();
            let found = checkout(&folder.path().join("top/deep/er")).unwrap();
            let mut known = Checkouts::default();
            for below in ["top/deep/er", "top/deep", "top", "top/deep/er/still"] {
                let again = known.of(&folder.path().join(below)).unwrap();
                assert_eq!(*again, found, "{below}");
            }
            assert!(known.of(folder.path()).is_none());
            assert_eq!(found.revision, COMMIT);
            assert_eq!(found.root, folder.path().join("top"));
            let has_remote = files.iter().any(|(path, _)| path.ends_with("config"));
            assert_eq!(found.source.is_some(), has_remote);
        }
    }

    #[test]
    fn what_is_no_repository_or_a_broken_one_has_no_revision() {
        for files in [
            &[(".git/HEAD", "ref: refs/heads/unborn\n")][..],
            &[(".git/HEAD", "ref: refs/../../../etc/passwd\n")],
            &[(".git/HEAD", "ref: /etc/hostname\n")],
            &[(".git/HEAD", "junk\n")],
            &[(".git/HEAD", "")],
            &[(".git/HEAD", "ref: refs/a"), (".git/refs/a", "ref: refs/a")],
            &[(".git", "gitdir: nowhere\n")],
            &[(".git", "\u{0}\u{1}")],
        ] {
            assert_eq!(checkout(repository(files).path()), None, "{files:?}");
        }
    }
}
