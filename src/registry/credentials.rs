//! Who the user is to a registry, and where that is written down.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{Mutex, OnceCell};

use super::Secret;
use super::docker_config::{DockerConfig, Lookup};
use super::helper::Helper;
use super::host_variables;
use super::identity::Login;
use crate::disk;
use crate::error::{Error, ErrorKind, Result};

/// A file of credentials is not larger than this.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// All the places where credentials are looked for, in this order:
///
/// 1. what was given with [`Credentials::with`],
/// 2. `DOCKER_AUTH_CONFIG`, which holds a configuration itself,
/// 3. `$DOCKER_CONFIG/config.json`, then `~/.docker/config.json`,
/// 4. `$REGISTRY_AUTH_FILE`, `$XDG_RUNTIME_DIR/containers/auth.json`,
///    `~/.config/containers/auth.json`,
/// 5. variables that have the registry's name in theirs, and helpers, where that was asked for
///    ([`Credentials::with_variables`], [`Credentials::with_helper`]),
/// 6. the variables that GitHub and GitLab set in their jobs.
///
/// Files are read when the first registry asks for credentials, and once.
#[derive(Clone, Default)]
pub struct Credentials {
    given: Vec<(String, Login)>,
    /// What the names of variables begin with that have a registry's name in theirs.
    prefix: Option<&'static str>,
    /// Helpers, and the domains of registries that they are for.
    asked_helpers: Vec<(&'static str, &'static [&'static str])>,
    environment: BTreeMap<String, String>,
    known: Arc<Sources>,
}

#[derive(Debug, Default)]
struct Sources {
    files: OnceCell<Vec<Source>>,
    /// What helpers said, by program and server.
    helpers: Mutex<BTreeMap<(String, String), Option<Login>>>,
}

/// A configuration, and the name of where it is from.
#[derive(Debug)]
struct Source {
    name: String,
    config: DockerConfig,
}

/// What was found, and what went wrong on the way.
#[derive(Clone, Debug)]
pub(super) struct FoundLogin {
    pub login: Login,
    /// What the user should know when access is denied, such as why a place that should have had
    /// credentials did not.
    pub note: Option<String>,
    /// Whether these credentials are the job's own, which the user did not choose. They may be meant for
    /// something else, and a registry may allow more without them.
    pub of_job: bool,
}

impl fmt::Debug for Credentials {
    /// Leaves out the environment, which holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("given", &self.given).finish_non_exhaustive()
    }
}

impl Credentials {
    /// No credentials at all.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Looks in all the places that `environment` names.
    pub fn from_environment(environment: &BTreeMap<String, String>) -> Self {
        Self { environment: environment.clone(), ..Self::default() }
    }

    /// Adds credentials for one registry, `name[:port]`, that go before all others.
    #[must_use]
    pub fn with(mut self, registry: &str, login: Login) -> Self {
        self.given.push((super::docker_config::normalized(registry), login));
        self
    }

    /// Looks into variables whose names are made of `prefix` and the registry's name, too.
    #[must_use]
    pub fn with_variables(self, prefix: &'static str) -> Self {
        Self { prefix: Some(prefix), ..self }
    }

    /// Asks a helper, too, for registries in these domains.
    #[must_use]
    pub fn with_helper(mut self, name: &'static str, domains: &'static [&'static str]) -> Self {
        self.asked_helpers.push((name, domains));
        self
    }

    /// Finds the credentials for a repository. A helper that fails is no error: most of what is
    /// pulled needs no credentials.
    pub(super) async fn find(&self, registry: &str, path: &str) -> Result<FoundLogin> {
        if let Some((_, login)) = self.given.iter().rev().find(|(name, _)| name == registry) {
            let note = "check the user name and the password or token that were given".to_owned();
            return Ok(FoundLogin { login: login.clone(), note: Some(note), of_job: false });
        }
        let mut note = None;
        for source in self.files().await? {
            let found = source.config.find(registry, path).map_err(|why| {
                Error::new(ErrorKind::Invalid, format!("read credentials from {}", source.name))
                    .because(why)
            })?;
            let login = match found {
                Lookup::Nothing => continue,
                Lookup::Login(login) => Some(login),
                Lookup::Helper { name, server, written } => {
                    let found = self.ask(name, server).await.unwrap_or_else(|error| {
                        note = Some(format!("{error} ({} names it)", source.name));
                        None
                    });
                    found.or(written)
                }
            };
            if let Some(login) = login {
                return Ok(FoundLogin { login, note, of_job: false });
            }
        }
        if let Some((login, [user, password])) = self.variables_for(registry) {
            let note = Some(format!("check {user} and {password}, which were used"));
            return Ok(FoundLogin { login, note, of_job: false });
        }
        if let Some(name) = self.helper_for(registry) {
            match self.ask(name.to_owned(), registry.to_owned()).await {
                Ok(Some(login)) => return Ok(FoundLogin { login, note, of_job: false }),
                Ok(None) => {}
                Err(error) => note = Some(error.to_string()),
            }
        }
        let Some((login, names)) = job_login(&self.environment, registry) else {
            return Ok(FoundLogin { login: Login::Anonymous, note, of_job: false });
        };
        let [user, password] = names;
        let note = note.unwrap_or_else(|| {
            format!("check {user} and {password}, which were used, or: gondola login {registry}")
        });
        Ok(FoundLogin { login, note: Some(note), of_job: true })
    }

    /// Whether there may be credentials for a repository; helpers are not asked for that.
    ///
    /// The error of a file that cannot be read is shown later, when a registry asks for credentials.
    pub(super) async fn may_have(&self, registry: &str, path: &str) -> bool {
        let is_given =
            |(name, login): &(String, Login)| name == registry && *login != Login::Anonymous;
        if self.given.iter().any(is_given) || job_login(&self.environment, registry).is_some() {
            return true;
        }
        if self.variables_for(registry).is_some() || self.helper_for(registry).is_some() {
            return true;
        }
        let files = self.files().await.unwrap_or_default();
        files.iter().any(|source| {
            !matches!(source.config.find(registry, path), Ok(Lookup::Nothing) | Err(_))
        })
    }

    fn variables_for(&self, registry: &str) -> Option<(Login, [String; 2])> {
        host_variables::login(&self.environment, self.prefix?, registry)
    }

    fn helper_for(&self, registry: &str) -> Option<&'static str> {
        let is_in = |domain: &&str| {
            let before = registry.strip_suffix(*domain);
            before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
        };
        let mut all = self.asked_helpers.iter();
        all.find(|(_, domains)| domains.iter().any(is_in)).map(|(name, _)| *name)
    }

    /// Forgets what helpers said: it may have expired.
    pub(super) async fn forget(&self) {
        self.known.helpers.lock().await.clear();
    }

    /// Asks a helper, once for each server. The lock is held meanwhile: a helper may have to ask
    /// the user.
    async fn ask(&self, name: String, server: String) -> Result<Option<Login>> {
        let mut known = self.known.helpers.lock().await;
        let key = (name, server);
        if let Some(login) = known.get(&key) {
            return Ok(login.clone());
        }
        let login = Helper::new(&key.0, &self.environment)?.get(&key.1).await?;
        known.insert(key, login.clone());
        Ok(login)
    }

    async fn files(&self) -> Result<&[Source]> {
        let read = || async { read_all(&self.environment) };
        self.known.files.get_or_try_init(read).await.map(Vec::as_slice)
    }
}

fn read_all(environment: &BTreeMap<String, String>) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    if let Some(text) = environment.get("DOCKER_AUTH_CONFIG").filter(|text| !text.is_empty()) {
        let name = "DOCKER_AUTH_CONFIG".to_owned();
        let config = parse(&name, text.as_bytes())?;
        sources.push(Source { name, config });
    }
    for path in files(environment) {
        if let Some(config) = read(&path)? {
            sources.push(Source { name: path.display().to_string(), config });
        }
    }
    Ok(sources)
}

/// Where docker keeps its configuration: `$DOCKER_CONFIG`, else `~/.docker`.
pub(super) fn docker_folder(environment: &BTreeMap<String, String>) -> Option<PathBuf> {
    let set = variable(environment, "DOCKER_CONFIG").map(PathBuf::from);
    set.or_else(|| variable(environment, "HOME").map(|home| Path::new(home).join(".docker")))
}

/// What docker's own configuration says, where there is one.
pub(super) fn docker_file(environment: &BTreeMap<String, String>) -> Result<Option<DockerConfig>> {
    match docker_folder(environment) {
        Some(folder) => read(&folder.join("config.json")),
        None => Ok(None),
    }
}

fn files(environment: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let folder =
        |name: &str, rest: &str| variable(environment, name).map(|at| Path::new(at).join(rest));
    let runtime = folder("XDG_RUNTIME_DIR", "containers/auth.json").unwrap_or_else(|| {
        let user = rustix::process::getuid().as_raw();
        PathBuf::from(format!("/run/containers/{user}/auth.json"))
    });
    let config = folder("XDG_CONFIG_HOME", "containers/auth.json")
        .or_else(|| folder("HOME", ".config/containers/auth.json"));
    let all = [
        folder("DOCKER_CONFIG", "config.json"),
        folder("HOME", ".docker/config.json"),
        variable(environment, "REGISTRY_AUTH_FILE").map(PathBuf::from),
        // Without an environment nothing is looked for anywhere.
        (!environment.is_empty()).then_some(runtime),
        config,
    ];
    all.into_iter().flatten().collect()
}

fn variable<'a>(environment: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    environment.get(name).map(String::as_str).filter(|text| !text.is_empty())
}

/// Reads a file; `None` where there is none for us.
fn read(path: &Path) -> Result<Option<DockerConfig>> {
    let name = path.display().to_string();
    match disk::read(path, LARGEST_FILE) {
        Ok(bytes) => parse(&name, &bytes).map(Some),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(unreadable(&name).caused_by(error)),
    }
}

/// Another user's file (`HOME` is often root's in a container) is as good as none.
fn is_absence(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}

fn parse(name: &str, bytes: &[u8]) -> Result<DockerConfig> {
    if bytes.trim_ascii().is_empty() {
        return Ok(DockerConfig::default());
    }
    // The parser's message may quote a value: only the place is told.
    serde_json::from_slice(bytes).map_err(|error| {
        let place = format!("line {} column {}", error.line(), error.column());
        Error::new(ErrorKind::Invalid, format!("read credentials from {name}"))
            .because(format!("{place} is not what docker would write"))
    })
}

fn unreadable(name: &str) -> Error {
    Error::new(ErrorKind::Io, format!("read credentials from {name}"))
}

/// The credentials that a job of GitHub or GitLab has without anybody writing them down, and the
/// variables that hold them.
fn job_login(
    environment: &BTreeMap<String, String>,
    registry: &str,
) -> Option<(Login, [&'static str; 2])> {
    let get = |name| variable(environment, name);
    let login = |user: &str, password: &str| Login::new(user.to_owned(), Secret::new(password));
    if registry == "ghcr.io" {
        let names = ["GITHUB_ACTOR", "GITHUB_TOKEN"];
        return Some((login(get(names[0])?, get(names[1])?), names));
    }
    for (server, user, password) in [
        ("CI_REGISTRY", "CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD"),
        ("CI_DEPENDENCY_PROXY_SERVER", "CI_DEPENDENCY_PROXY_USER", "CI_DEPENDENCY_PROXY_PASSWORD"),
    ] {
        let names = [user, password];
        if get(server) == Some(registry)
            && let (Some(user), Some(password)) = (get(user), get(password))
        {
            return Some((login(user, password), names));
        }
    }
    if get("CI_REGISTRY") == Some(registry) {
        let login = login("gitlab-ci-token", get("CI_JOB_TOKEN")?);
        return Some((login, ["CI_REGISTRY", "CI_JOB_TOKEN"]));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name:p` as a configuration for registry `r`.
    fn config(name: &str) -> String {
        format!(r#"{{"auths":{{"r":{{"username":"{name}","password":"p"}}}}}}"#)
    }

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    async fn user(environment: &BTreeMap<String, String>, registry: &str) -> String {
        match Credentials::from_environment(environment).find(registry, "a/b").await.unwrap().login
        {
            Login::Password { user, .. } => user,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_helper_that_was_asked_for_is_asked_for_its_domains_alone() {
        let credentials = Credentials::anonymous().with_helper("gcr", &["gcr.io", "pkg.dev"]);
        for (registry, expected) in [
            ("gcr.io", Some("gcr")),
            ("eu.gcr.io", Some("gcr")),
            ("europe-docker.pkg.dev", Some("gcr")),
            ("notgcr.io", None),
            ("gcr.io.example.com", None),
        ] {
            assert_eq!(credentials.helper_for(registry), expected, "{registry}");
        }
    }

    #[tokio::test]
    async fn places_are_looked_into_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let at = |rest: &str| folder.path().join(rest).display().to_string();
        let places = [
            ("docker/config.json", "DOCKER_CONFIG", at("docker")),
            ("home/.docker/config.json", "HOME", at("home")),
            ("auth.json", "REGISTRY_AUTH_FILE", at("auth.json")),
            ("run/containers/auth.json", "XDG_RUNTIME_DIR", at("run")),
            ("home/.config/containers/auth.json", "HOME", at("home")),
        ];
        let mut all = environment(&[("DOCKER_AUTH_CONFIG", &config("variable"))]);
        for (file, variable, value) in &places {
            let path = folder.path().join(file);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, config(file)).unwrap();
            all.insert((*variable).to_owned(), value.clone());
        }
        assert_eq!(user(&all, "r").await, "variable");
        all.remove("DOCKER_AUTH_CONFIG");
        for (file, ..) in &places {
            assert_eq!(user(&all, "r").await, *file);
            fs_err::write(folder.path().join(file), "{}").unwrap();
        }
        assert_eq!(user(&all, "r").await, "Anonymous");
        let given = Credentials::from_environment(&all)
            .with("https://r/", Login::new("flag".to_owned(), Secret::new("p")));
        let login = given.find("r", "a").await.unwrap().login;
        assert_eq!(login, Login::new("flag".to_owned(), Secret::new("p")));
    }

    #[tokio::test]
    async fn jobs_have_credentials_of_their_own() {
        let all = environment(&[
            ("GITHUB_ACTOR", "octo"),
            ("GITHUB_TOKEN", "t"),
            ("CI_REGISTRY", "registry.gitlab.com"),
            ("CI_JOB_TOKEN", "t"),
            ("CI_DEPENDENCY_PROXY_SERVER", "gitlab.com:443"),
            ("CI_DEPENDENCY_PROXY_USER", "proxy"),
            ("CI_DEPENDENCY_PROXY_PASSWORD", "t"),
        ]);
        for (registry, expect) in [
            ("ghcr.io", "octo"),
            ("registry.gitlab.com", "gitlab-ci-token"),
            ("gitlab.com:443", "proxy"),
            ("docker.io", "Anonymous"),
        ] {
            assert_eq!(user(&all, registry).await, expect, "{registry}");
        }
        let mut with_user = all.clone();
        with_user.insert("CI_REGISTRY_USER".to_owned(), "deploy".to_owned());
        with_user.insert("CI_REGISTRY_PASSWORD".to_owned(), "t".to_owned());
        assert_eq!(user(&with_user, "registry.gitlab.com").await, "deploy");
        assert_eq!(user(&BTreeMap::new(), "ghcr.io").await, "Anonymous");
    }

    #[tokio::test]
    async fn a_broken_file_is_an_error_that_quotes_none_of_it() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("config.json"), r#"{"auths":{"r":{"auth":hunter2}}}"#)
            .unwrap();
        let at = folder.path().display().to_string();
        let credentials = Credentials::from_environment(&environment(&[("DOCKER_CONFIG", &at)]));
        let error = credentials.find("r", "a").await.unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains("line 1"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    fn helper(folder: &Path, name: &str, script: &str) {
        super::super::testing::program(folder, &format!("docker-credential-{name}"), script);
    }

    #[tokio::test]
    async fn what_a_store_keeps_goes_before_what_an_old_entry_says() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        helper(at, "new", "echo '{\"Username\":\"new\",\"Secret\":\"s\"}'");
        helper(at, "none", "echo 'credentials not found in native keychain'; exit 1");
        helper(at, "sick", "echo 'the key ring is locked'; exit 1");
        let path = format!("{}:/bin:/usr/bin", at.display());
        for (store, expect) in [("new", "new"), ("none", "old"), ("sick", "old"), ("gone", "old")] {
            let auths = r#"{"r":{"username":"old","password":"p"}}"#;
            let text = format!(r#"{{"auths":{auths},"credsStore":"{store}"}}"#);
            fs_err::write(at.join("config.json"), text).unwrap();
            let all = environment(&[("DOCKER_CONFIG", &at.display().to_string()), ("PATH", &path)]);
            assert_eq!(user(&all, "r").await, expect, "{store}");
        }
    }

    #[tokio::test]
    async fn helpers_are_asked_once_and_their_failures_are_noted() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let count = "read server; echo x >> \"$COUNT\"; ";
        helper(
            at,
            "good",
            &format!(
                "{count} echo '{{\"ServerURL\":\"'$server'\",\"Username\":\"u-'$server'\",\"Secret\":\"s\"}}'"
            ),
        );
        helper(at, "token", "echo '{\"Username\":\"<token>\",\"Secret\":\"id\"}'");
        helper(at, "none", "echo 'credentials not found in native keychain'; exit 1");
        helper(at, "sick", "echo 'the key ring is locked'; exit 1");
        helper(at, "mute", "echo 'no session bus' >&2; exit 1");
        helper(at, "empty", "echo 'credentials not found in native keychain' >&2; exit 1");
        helper(at, "junk", "echo hunter2; echo hunter2 >&2");
        fs_err::write(
            at.join("config.json"),
            r#"{"credHelpers":{"good":"good","docker.io":"good","token":"token","none":"none","sick":"sick","mute":"mute","empty":"empty","junk":"junk","gone":"gone","bad":"../x"}}"#,
        )
        .unwrap();
        let path = format!("{}:/bin:/usr/bin", at.display());
        let all = environment(&[
            ("DOCKER_CONFIG", &at.display().to_string()),
            ("COUNT", &at.join("count").display().to_string()),
            ("PATH", &path),
        ]);
        let credentials = Credentials::from_environment(&all);
        for (registry, login, note) in [
            ("good", Login::new("u-good".to_owned(), Secret::new("s")), None),
            ("good", Login::new("u-good".to_owned(), Secret::new("s")), None),
            (
                "docker.io",
                Login::new("u-https://index.docker.io/v1/".to_owned(), Secret::new("s")),
                None,
            ),
            ("token", Login::IdentityToken(Secret::new("id")), None),
            ("none", Login::Anonymous, None),
            ("sick", Login::Anonymous, Some("the key ring is locked")),
            ("mute", Login::Anonymous, Some("no session bus")),
            ("empty", Login::Anonymous, None),
            ("junk", Login::Anonymous, Some("not the JSON expected")),
            ("gone", Login::Anonymous, Some("no such program")),
            ("bad", Login::Anonymous, Some("no name of one")),
        ] {
            let found = credentials.find(registry, "a").await.unwrap();
            assert_eq!(found.login, login, "{registry}");
            let noted = found.note.unwrap_or_default();
            assert!(noted.contains(note.unwrap_or_default()), "{registry}: {noted}");
            assert_eq!(noted.is_empty(), note.is_none(), "{registry}: {noted}");
            assert!(!noted.contains("hunter2"), "{noted}");
        }
        assert_eq!(fs_err::read_to_string(at.join("count")).unwrap(), "x\nx\n");
    }
}
