//! Git repositories as contexts and sources, through the machine's own `git`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;

use crate::error::{Cannot as _, Error, ErrorKind, Result, nearest};
use crate::literal;
use crate::secret::{self, Secret};

/// A repository, and which of its trees is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitSource {
    /// What `git` is told to fetch from.
    pub remote: String,
    /// A branch, tag or commit; the remote's default branch where there is none.
    pub reference: Option<String>,
    /// The commit that the reference must stand for, or its beginning.
    pub commit: Option<String>,
    /// A folder in it.
    pub folder: Option<String>,
    /// Whether its history is there, in `.git`, where the address says that.
    pub keep_git_dir: Option<bool>,
    /// Whether its submodules are fetched, where the address says that.
    pub submodules: Option<bool>,
    /// User and password, where they stand elsewhere than in the address.
    pub login: Option<(String, Secret)>,
    /// How much of the history is fetched.
    pub history: FetchedHistory,
    /// Whether the server's certificate is not looked at.
    pub unverified: bool,
    /// What is wrong with the query of its address.
    wrong: Option<String>,
}

/// How much of a repository's history is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FetchedHistory {
    /// As little as the server can give.
    #[default]
    Least,
    /// So many commits, if the server can give a part.
    Commits(u32),
    /// All of it, with tags.
    All,
}

/// What the query of an address can say.
const KEYS: [&str; 8] =
    ["ref", "branch", "tag", "commit", "checksum", "subdir", "keep-git-dir", "submodules"];

/// A checked-out commit. It vanishes when it is dropped.
pub struct Checkout {
    /// The commit's hash.
    pub commit: String,
    /// When it was made, in seconds since 1970: the time of its files.
    pub time: i64,
    root: PathBuf,
    _scratch: TempDir,
}

impl Checkout {
    /// The folder that is meant.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl GitSource {
    /// The default branch of a repository, whole.
    pub fn new(remote: String) -> Self {
        Self {
            remote,
            reference: None,
            commit: None,
            folder: None,
            keep_git_dir: None,
            submodules: None,
            login: None,
            history: FetchedHistory::Least,
            unverified: false,
            wrong: None,
        }
    }

    /// Reads what names a repository as docker knows it: `git://`, `ssh://`, `git@host:path`,
    /// `https://….git`, `github.com/…`, each with `#reference:folder` behind it. `None` for anything
    /// else.
    pub fn parse(text: &str) -> Option<Self> {
        let (place, fragment) = match text.split_once('#') {
            Some((place, fragment)) => (place, Some(fragment)),
            None => (text, None),
        };
        let (place, query) = match place.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (place, None),
        };
        let is_web = place.starts_with("https://") || place.starts_with("http://");
        let remote = if let Some(rest) = place.strip_prefix("github.com/") {
            format!("https://github.com/{rest}")
        } else if is_web && place.trim_end_matches('/').strip_suffix(".git").is_some()
            || ["git://", "ssh://", "git@"].iter().any(|begin| place.starts_with(begin))
        {
            place.to_owned()
        } else {
            return None;
        };
        let (reference, folder) = fragment.map_or((None, None), |fragment| {
            let (reference, folder) = fragment.split_once(':').unwrap_or((fragment, ""));
            (some(reference), some(folder))
        });
        let mut source = Self { reference, folder, ..Self::new(remote) };
        source.wrong = source.read_query(query.unwrap_or_default()).err();
        Some(source)
    }

    /// Reads the query as BuildKit does: a key that is unknown, or says another thing than the
    /// fragment, is wrong.
    fn read_query(&mut self, query: &str) -> std::result::Result<(), String> {
        let mut seen = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if seen.contains(&key) {
                return Err(format!("its query says {key} twice"));
            }
            seen.push(key);
            let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
            match key {
                "ref" => set(&mut self.reference, key, value.to_string())?,
                "branch" => set(&mut self.reference, key, prefixed(BRANCHES, &value))?,
                "tag" => set(&mut self.reference, key, prefixed(TAGS, &value))?,
                "commit" | "checksum" => set(&mut self.commit, key, value.to_string())?,
                "subdir" => set(&mut self.folder, key, value.to_string())?,
                "keep-git-dir" => self.keep_git_dir = Some(switch(key, &value)?),
                "submodules" => self.submodules = Some(switch(key, &value)?),
                other => return Err(unknown(other)),
            }
        }
        Ok(())
    }

    /// Checks the tree out, with its submodules unless the address says otherwise, and with its history
    /// where the caller or the address asks for it.
    ///
    /// `variables` is the environment that `git` gets: its credentials are found through it.
    pub async fn check_out(
        &self,
        variables: &std::collections::BTreeMap<String, String>,
        keep_history: bool,
    ) -> Result<Checkout> {
        let refuse = |why| {
            Err(Error::new(ErrorKind::Usage, format!("fetch {}", self.display_name())).because(why))
        };
        if let Some(why) = &self.wrong {
            return refuse(why.clone());
        }
        let wanted = self.reference.as_deref().or(self.commit.as_deref()).unwrap_or("HEAD");
        if wanted.starts_with('-') {
            return refuse(format!("{wanted} is no name of a branch, tag or commit"));
        }
        let scratch = tempfile::tempdir().cannot(|| "make a folder for a checkout")?;
        let private = tempfile::tempdir().cannot(|| "make a folder for a checkout")?;
        let (remote, settings) = match self.access(private.path()) {
            Some(access) => {
                let (remote, settings) = access.keep(private.path())?;
                (remote, Some(settings))
            }
            None => (self.remote.clone(), None),
        };
        let git = Git { folder: scratch.path().join("tree"), settings, variables, source: self };
        fs_err::create_dir(&git.folder).cannot(|| "make a folder for a checkout")?;
        git.run(&["init", "--quiet", "."]).await?;
        git.run(&["remote", "add", "origin", &remote]).await?;
        let head = git.fetch(wanted).await?;
        git.run(&["-c", "advice.detachedHead=false", "checkout", "--quiet", head]).await?;
        let commit = git.run(&["rev-parse", "HEAD"]).await?.trim().to_owned();
        if let Some(expected) = self.commit.as_ref().filter(|start| !commit.starts_with(*start)) {
            let action = format!("fetch {}", self.display_name());
            return Err(Error::new(ErrorKind::Corrupt, action)
                .because(format!("{wanted} is commit {commit}, expected {expected}")));
        }
        if self.submodules != Some(false) {
            let update = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"];
            git.run(&update).await?;
        }
        let time = git.run(&["log", "-1", "--format=%ct"]).await?;
        let time = time.trim().parse().unwrap_or_default();
        if !keep_history && self.keep_git_dir != Some(true) {
            fs_err::remove_dir_all(git.folder.join(".git")).cannot(|| "tidy up a checkout")?;
        }
        let root = self.root_in(&git.folder)?;
        Ok(Checkout { commit, time, root, _scratch: scratch })
    }

    /// Gives `git` the user and password of a web address as a helper that git asks: so they are in no
    /// command line and not in the repository's folder, and git sends them to no other host that the
    /// address leads to.
    fn access(&self, folder: &Path) -> Option<Access> {
        let mut url = url::Url::parse(&self.remote).ok()?;
        let is_web = matches!(url.scheme(), "http" | "https");
        if let Some((user, password)) = self.login.as_ref().filter(|_| is_web) {
            // Neither can fail for an address with a host.
            let _ = url.set_username(user);
            let _ = url.set_password(Some(password.reveal()));
        }
        let asked = self.login.is_some();
        if !is_web || url.username().is_empty() && url.password().is_none() {
            return None;
        }
        let origin = url.origin().ascii_serialization();
        let user = percent_encoding::percent_decode_str(url.username()).decode_utf8_lossy();
        let mut settings = format!("[credential \"{origin}\"]\n\tusername = {}\n", quoted(&user));
        let mut login = None;
        // An empty one is one, too, where it was given: a token in the place of a user has no password.
        if let Some(password) = url.password().or(asked.then_some("")) {
            let file = folder.join(LOGIN).display().to_string().replace('\'', "'\\''");
            let helper = quoted(&format!("store --file='{file}'"));
            // The empty one forgets the user's own, which would be told the password, too.
            let _ = write!(settings, "\thelper =\n\thelper = {helper}\n");
            let (scheme, host) = origin.split_once("://")?;
            login = Some(format!("{scheme}://{}:{password}@{host}\n", url.username()));
        }
        // Neither can fail for an address with a host.
        let _ = url.set_password(None);
        let _ = url.set_username("");
        Some(Access { remote: url.to_string(), settings, login })
    }

    fn root_in(&self, checkout: &Path) -> Result<PathBuf> {
        let Some(folder) = &self.folder else { return Ok(checkout.to_owned()) };
        let refuse = |why: &str| {
            Error::new(ErrorKind::NotFound, format!("use {folder} of {}", self.display_name()))
                .because(why)
        };
        let root = fs_err::canonicalize(checkout.join(folder.trim_start_matches('/')));
        let root = root.map_err(|_| refuse("there is no such folder"))?;
        let whole = fs_err::canonicalize(checkout).cannot(|| "use a checkout")?;
        if !root.starts_with(&whole) || !root.is_dir() {
            return Err(refuse("it is no folder of the repository"));
        }
        Ok(root)
    }

    /// The remote as messages show it.
    pub fn display_name(&self) -> String {
        secret::address(&self.remote)
    }
}

/// The file in which `git` finds a user and a password.
const LOGIN: &str = "login";

/// A remote without user and password, and what tells `git` of them.
struct Access {
    remote: String,
    /// Lines of git's configuration.
    settings: String,
    /// What [`LOGIN`] has.
    login: Option<String>,
}

impl Access {
    /// Writes what `git` reads; answers the remote, and the file of settings.
    fn keep(self, folder: &Path) -> Result<(String, PathBuf)> {
        let action = || "make a folder for a checkout";
        let settings = folder.join("settings");
        fs_err::write(&settings, self.settings).cannot(action)?;
        if let Some(login) = self.login {
            fs_err::write(folder.join(LOGIN), login).cannot(action)?;
        }
        Ok((self.remote, settings))
    }
}

/// A value of git's configuration.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

/// How the full names of branches and tags begin.
const BRANCHES: &str = "refs/heads/";
const TAGS: &str = "refs/tags/";

fn prefixed(kind: &str, name: &str) -> String {
    if name.is_empty() || name.starts_with(kind) {
        name.to_owned()
    } else {
        format!("{kind}{name}")
    }
}

/// Takes the value of a key of a query, which must not say another thing than what is known.
fn set(known: &mut Option<String>, key: &str, value: String) -> std::result::Result<(), String> {
    if value.is_empty() {
        return Err(format!("its query says nothing for {key}"));
    }
    match known {
        Some(known) if *known != value => {
            Err(format!("{key} of its query is {value}, and elsewhere in it stands {known}"))
        }
        _ => {
            *known = Some(value);
            Ok(())
        }
    }
}

/// A key without a value asks for what it names.
fn switch(key: &str, value: &str) -> std::result::Result<bool, String> {
    if value.is_empty() {
        return Ok(true);
    }
    literal::boolean(value)
        .map_err(|_| format!("{key} of its query is {value}, expected true or false"))
}

fn unknown(key: &str) -> String {
    let shown = key.escape_debug();
    match nearest(key, KEYS) {
        Some(near) => format!("its query has the unknown key {shown}; did you mean {near}?"),
        None => format!("its query has the unknown key {shown}, expected {}", KEYS.join(", ")),
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

struct Git<'a> {
    folder: PathBuf,
    /// What is read after the user's own configuration.
    settings: Option<PathBuf>,
    variables: &'a std::collections::BTreeMap<String, String>,
    source: &'a GitSource,
}

impl Git<'_> {
    /// Fetches what is wanted; answers the name that it has now.
    async fn fetch<'a>(&self, wanted: &'a str) -> Result<&'a str> {
        let (quiet, origin) = ("--quiet", "origin");
        // Not every server can give a part of the history, or a commit that no branch points to.
        let depth = match self.source.history {
            FetchedHistory::Least => Some("--depth=1".to_owned()),
            FetchedHistory::Commits(count) => Some(format!("--depth={count}")),
            FetchedHistory::All => Some("--tags".to_owned()),
        };
        for depth in [depth.as_deref(), None] {
            let words = ["fetch", quiet].into_iter().chain(depth).chain([origin, wanted]);
            if self.run(&words.collect::<Vec<_>>()).await.is_ok() {
                return Ok("FETCH_HEAD");
            }
        }
        let branches = "+refs/heads/*:refs/remotes/origin/*";
        self.run(&["fetch", quiet, "--tags", origin, branches]).await?;
        let commit = format!("{wanted}^{{commit}}");
        match self.run(&["rev-parse", quiet, "--verify", &commit]).await {
            Ok(_) => Ok(wanted),
            Err(_) => Err(self.absent(wanted).await),
        }
    }

    /// Says that nothing in the repository, all of which was fetched, has a name.
    async fn absent(&self, wanted: &str) -> Error {
        let action = format!("fetch {}", self.source.display_name());
        let why = format!("the repository has no branch, tag or commit {wanted}");
        let error = Error::new(ErrorKind::NotFound, action).because(why);
        let format = "--format=%(refname:lstrip=2)";
        let list = self.run(&["for-each-ref", format, "refs/tags", "refs/remotes/origin"]).await;
        let list = list.unwrap_or_default();
        let names = list.lines().map(|name| name.strip_prefix("origin/").unwrap_or(name));
        let short = [BRANCHES, TAGS].iter().find_map(|kind| wanted.strip_prefix(kind));
        match nearest(short.unwrap_or(wanted), names) {
            Some(near) => error.hint(format!("did you mean {near}?")),
            None => error,
        }
    }

    async fn run(&self, arguments: &[&str]) -> Result<String> {
        let action = || format!("fetch {}", self.source.display_name());
        let mut command = tokio::process::Command::new("git");
        if let Some(settings) = &self.settings {
            command.arg("-c").arg(format!("include.path={}", settings.display()));
        }
        command.args(arguments).current_dir(&self.folder).env_clear().envs(self.variables);
        command.env("GIT_TERMINAL_PROMPT", "0").env_remove("GIT_DIR").env_remove("GIT_WORK_TREE");
        if self.source.unverified {
            command.env("GIT_SSL_NO_VERIFY", "1");
        }
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.map_err(|error| {
            let hint = "install git: it is what fetches repositories";
            Error::new(ErrorKind::Program, action()).caused_by(error).hint(hint)
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = secret::addresses(&said);
        Err(Error::new(ErrorKind::Program, action()).because(format!(
            "git {} said: {}",
            arguments[0],
            said.trim()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_other_places() {
        for (text, remote, reference, folder) in [
            ("https://example.com/a/b.git", "https://example.com/a/b.git", None, None),
            ("https://example.com/a/b.git#v1", "https://example.com/a/b.git", Some("v1"), None),
            ("git@example.com:a/b#main:x/y", "git@example.com:a/b", Some("main"), Some("x/y")),
            ("github.com/a/b#:x", "https://github.com/a/b", None, Some("x")),
            ("git://h/a?ref=v2&subdir=s", "git://h/a", Some("v2"), Some("s")),
            ("git://h/a?tag=v2&subdir=a%2Fb", "git://h/a", Some("refs/tags/v2"), Some("a/b")),
            ("git@h:a/b?branch=main", "git@h:a/b", Some("refs/heads/main"), None),
            ("https://h/a.git?ref=v1#v1:s", "https://h/a.git", Some("v1"), Some("s")),
        ] {
            let found = GitSource::parse(text).unwrap();
            assert_eq!(found.remote, remote);
            assert_eq!(found.reference.as_deref(), reference, "{text}");
            assert_eq!(found.folder.as_deref(), folder, "{text}");
        }
        for other in [".", "/a/b.git", "https://example.com/a.tar.gz", "a.git", "-"] {
            assert_eq!(GitSource::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_query_says_what_is_fetched_and_unknown_or_double_keys_are_refused() {
        let read =
            |query: &str| GitSource::parse(&format!("https://h/a.git?{query}#main")).unwrap();
        for (query, keep, submodules) in [
            ("keep-git-dir=1", Some(true), None),
            ("keep-git-dir", Some(true), None),
            ("keep-git-dir=false&submodules=true", Some(false), Some(true)),
            ("submodules=0", None, Some(false)),
            ("", None, None),
        ] {
            let source = read(query);
            assert_eq!((source.keep_git_dir, source.submodules), (keep, submodules), "{query}");
            assert_eq!(source.wrong, None, "{query}");
        }
        assert_eq!(read("commit=0123").commit.as_deref(), Some("0123"));
        for (query, part) in [
            ("nosuch=1", "unknown key nosuch, expected ref, branch"),
            ("submodule=1", "did you mean submodules?"),
            ("keep-git-dir=maybe", "keep-git-dir of its query is maybe, expected true or false"),
            ("ref=other", "ref of its query is other, and elsewhere in it stands main"),
            ("subdir=", "says nothing for subdir"),
            ("subdir=a&subdir=a", "says subdir twice"),
        ] {
            let wrong = read(query).wrong.unwrap_or_else(|| panic!("{query}"));
            assert!(wrong.contains(part), "{query}: {wrong}");
        }
    }

    #[test]
    fn users_and_passwords_are_no_part_of_the_remote() {
        for (text, remote, settings, login) in [
            (
                "https://me:p%40w@example.com:8443/a.git",
                "https://example.com:8443/a.git",
                "[credential \"https://example.com:8443\"]\n\tusername = \"me\"\n\thelper =\n\
                 \thelper = \"store --file='/it'\\\\''s/login'\"\n",
                Some("https://me:p%40w@example.com:8443\n"),
            ),
            (
                "https://m%22e@example.com/a.git",
                "https://example.com/a.git",
                "[credential \"https://example.com\"]\n\tusername = \"m\\\"e\"\n",
                None,
            ),
        ] {
            let access = GitSource::parse(text).unwrap().access(Path::new("/it's")).unwrap();
            assert_eq!((access.remote.as_str(), access.settings.as_str()), (remote, settings));
            assert_eq!(access.login.as_deref(), login);
        }
        for text in ["https://example.com/a.git", "ssh://git@h/a.git", "git@h:a/b"] {
            assert!(GitSource::parse(text).unwrap().access(Path::new("/")).is_none(), "{text}");
        }
    }

    #[test]
    fn no_password_is_shown() {
        let source = GitSource::parse("https://me:secret@example.com/a.git").unwrap();
        assert_eq!(source.display_name(), "https://…@example.com/a.git");
    }
}
