//! Logging in and out: docker's configuration, changed without losing anything in it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::Client;
use super::credentials::{self, Credentials};
use super::docker_config::{self, DockerConfig, normalized, server_key};
use super::helper::Helper;
use super::identity::Login;
use super::request::{Request, Target};
use super::{Options, Secret};
use crate::disk::{self, Unfinished};
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::oci::Repository;

const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// Where credentials were put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredIn {
    /// In this file, readable for the user alone but not encrypted.
    File(PathBuf),
    /// With the program of this name.
    Helper(String),
}

/// Reads the name of a registry as people type it: `ghcr.io`, `https://ghcr.io/`, `docker.io`.
pub fn registry_name(text: &str) -> Result<String> {
    let name = normalized(text);
    // A registry's name is whatever may stand before a repository.
    match format!("{name}/x").parse::<Repository>() {
        Ok(repository) if repository.registry() == name => Ok(name),
        _ => Err(Error::new(ErrorKind::Usage, format!("use \"{}\"", text.escape_debug()))
            .because("it is no name of a registry")
            .hint("write a host such as ghcr.io or registry.example.com:5000")),
    }
}

/// Tries whether a registry takes the credentials.
pub async fn verify(options: &Options, registry: &str, login: &Login) -> Result<()> {
    let credentials = Credentials::anonymous().with(registry, login.clone());
    let client = Client::new(Options { credentials, ..options.clone() })?;
    let ping = Request::new(Method::GET, Target::Path("/v2/".to_owned()));
    let outcome = async { client.send_to(registry, &ping).await?.expect(&[200]).await };
    let answer =
        outcome.await.map_err(|failure| failure.into_error(format!("log in to {registry}")))?;
    answer.discard().await;
    Ok(())
}

/// Keeps credentials where docker looks for them: with the helper that its configuration names for
/// the registry, else in the configuration itself.
pub async fn store(
    environment: &BTreeMap<String, String>,
    registry: &str,
    login: &Login,
) -> Result<StoredIn> {
    let path = config_path(environment)?;
    let (mut document, config) = read(&path)?;
    let server = server_key(registry);
    if let Some(name) = config.helper(registry) {
        let (user, secret) = user_and_secret(login)?;
        Helper::new(name, environment)?.store(server, user, secret).await?;
        // The empty entry tells docker that there is something with the helper.
        set_entry(&mut document, registry, json!({}), &path)?;
        write(&path, &document)?;
        return Ok(StoredIn::Helper(format!("docker-credential-{name}")));
    }
    let entry = match login {
        Login::Password { user, password } => {
            json!({ "auth": docker_config::encode(user, password) })
        }
        Login::IdentityToken(token) => json!({ "identitytoken": token.reveal() }),
        Login::RegistryToken(token) => json!({ "registrytoken": token.reveal() }),
        Login::Anonymous => return Err(nothing_to_keep()),
    };
    set_entry(&mut document, registry, entry, &path)?;
    write(&path, &document)?;
    Ok(StoredIn::File(path))
}

/// Removes the credentials for a registry; gives whether there were any.
pub async fn erase(environment: &BTreeMap<String, String>, registry: &str) -> Result<bool> {
    let path = config_path(environment)?;
    let (mut document, config) = read(&path)?;
    let mut found = false;
    if let Some(name) = config.helper(registry) {
        let helper = Helper::new(name, environment)?;
        let server = server_key(registry);
        found = helper.get(server).await?.is_some();
        if found {
            helper.erase(server).await?;
        }
    }
    if remove_entries(&mut document, registry) {
        write(&path, &document)?;
        found = true;
    }
    Ok(found)
}

fn user_and_secret(login: &Login) -> Result<(&str, &Secret)> {
    match login {
        Login::Password { user, password } => Ok((user, password)),
        Login::IdentityToken(token) => Ok(("<token>", token)),
        Login::RegistryToken(_) | Login::Anonymous => Err(nothing_to_keep()),
    }
}

fn nothing_to_keep() -> Error {
    Error::new(ErrorKind::Usage, "log in").because("there is no user name and password to keep")
}

fn config_path(environment: &BTreeMap<String, String>) -> Result<PathBuf> {
    let folder = credentials::docker_folder(environment).ok_or_else(|| {
        Error::new(ErrorKind::Usage, "find docker's configuration")
            .because("neither DOCKER_CONFIG nor HOME is set")
    })?;
    let path = folder.join("config.json");
    // A link, from a collection of dot files say, stays a link.
    Ok(fs_err::canonicalize(&path).unwrap_or(path))
}

/// Reads the file whole, to be written back, and the part that is understood.
fn read(path: &Path) -> Result<(Map<String, Value>, DockerConfig)> {
    let action = || format!("read {}", path.display());
    let bytes = match disk::read(path, LARGEST_FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        bytes => bytes.cannot(action)?,
    };
    if bytes.trim_ascii().is_empty() {
        return Ok((Map::new(), DockerConfig::default()));
    }
    let document: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| {
        Error::new(ErrorKind::Invalid, action())
            .because(format!("it is not the JSON expected, at line {}", error.line()))
    })?;
    let config = serde_json::from_value(Value::Object(document.clone())).map_err(|_| {
        Error::new(ErrorKind::Invalid, action())
            .because("its credentials have another form than docker's")
    })?;
    Ok((document, config))
}

fn set_entry(
    document: &mut Map<String, Value>,
    registry: &str,
    entry: Value,
    path: &Path,
) -> Result<()> {
    remove_entries(document, registry);
    let auths = document.entry("auths").or_insert(Value::Null);
    if auths.is_null() {
        *auths = json!({});
    }
    let auths = auths.as_object_mut().ok_or_else(|| {
        Error::new(ErrorKind::Invalid, format!("change {}", path.display()))
            .because("its \"auths\" is no object")
    })?;
    auths.insert(server_key(registry).to_owned(), entry);
    Ok(())
}

/// Removes the entries of a registry under every form of its name; gives whether there were any.
fn remove_entries(document: &mut Map<String, Value>, registry: &str) -> bool {
    let Some(auths) = document.get_mut("auths").and_then(Value::as_object_mut) else {
        return false;
    };
    let before = auths.len();
    auths.retain(|key, _| normalized(key) != registry);
    auths.len() < before
}

/// Replaces the file at once: whoever reads it sees the old or the new one, and only the user does.
fn write(path: &Path, document: &Map<String, Value>) -> Result<()> {
    let action = || format!("write {}", path.display());
    let folder = path.parent().expect("it ends in config.json");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).cannot(action)?;
    let mut text = serde_json::to_string_pretty(document).expect("it came from JSON");
    text.push('\n');
    let mut file = Unfinished::new_in(folder, 0o600).cannot(action)?;
    file.write_all(text.as_bytes()).cannot(action)?;
    file.file().sync_all().cannot(action)?;
    file.persist(path).cannot(action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn home(folder: &Path) -> BTreeMap<String, String> {
        BTreeMap::from([("HOME".to_owned(), folder.display().to_string())])
    }

    fn password() -> Login {
        Login::new("me".to_owned(), Secret::new("p:w"))
    }

    fn json_of(path: &Path) -> Value {
        serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn credentials_are_kept_found_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let home = home(folder.path());
        let path = folder.path().join(".docker/config.json");
        assert!(!erase(&home, "ghcr.io").await.unwrap());
        assert!(!path.exists());
        assert_eq!(
            store(&home, "ghcr.io", &password()).await.unwrap(),
            StoredIn::File(path.clone())
        );
        store(&home, "docker.io", &Login::IdentityToken(Secret::new("i"))).await.unwrap();
        let expect = json!({"auths": {
            "ghcr.io": {"auth": "bWU6cDp3"},
            "https://index.docker.io/v1/": {"identitytoken": "i"},
        }});
        assert_eq!(json_of(&path), expect);
        let found = Credentials::from_environment(&home).find("ghcr.io", "a").await.unwrap();
        assert_eq!(found.login, password());
        assert!(erase(&home, "docker.io").await.unwrap());
        assert!(erase(&home, "ghcr.io").await.unwrap());
        assert_eq!(json_of(&path), json!({"auths": {}}));
        assert!(store(&home, "ghcr.io", &Login::Anonymous).await.is_err());
    }

    #[tokio::test]
    async fn the_rest_of_the_file_stays_and_only_the_user_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("dotfiles.json");
        let link = folder.path().join(".docker/config.json");
        fs_err::create_dir(folder.path().join(".docker")).unwrap();
        let before = r#"{"currentContext":"x","proxies":{"default":{"httpProxy":"p"}},"auths":{"http://ghcr.io/v2/":{"auth":"b2xk"},"other":{"auth":"b2xk"}}}"#;
        fs_err::write(&real, before).unwrap();
        symlink(&real, &link).unwrap();
        store(&home(folder.path()), "ghcr.io", &password()).await.unwrap();
        assert!(fs_err::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs_err::metadata(&real).unwrap().mode() & 0o777, 0o600);
        let expect = json!({"currentContext": "x", "proxies": {"default": {"httpProxy": "p"}},
            "auths": {"other": {"auth": "b2xk"}, "ghcr.io": {"auth": "bWU6cDp3"}}});
        assert_eq!(json_of(&real), expect);
        let names: Vec<_> = fs_err::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 2, "a temporary file was left");
    }

    #[tokio::test]
    async fn a_file_that_is_not_understood_is_not_changed() {
        for text in ["hunter2", "[]", r#"{"auths":[]}"#, r#"{"auths":{"r":{"auth":5}}}"#] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(".docker/config.json");
            fs_err::create_dir(folder.path().join(".docker")).unwrap();
            fs_err::write(&path, text).unwrap();
            let error = store(&home(folder.path()), "ghcr.io", &password()).await.unwrap_err();
            assert!(error.to_string().contains("config.json"), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert_eq!(fs_err::read_to_string(&path).unwrap(), text);
        }
    }

    #[tokio::test]
    async fn a_helper_keeps_what_it_is_named_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let mut home = home(at);
        home.insert("PATH".to_owned(), format!("{}:/bin:/usr/bin", at.display()));
        let script = r#"case $1 in
            store) cat > "$HOME/kept";;
            get) [ -f "$HOME/kept" ] && cat "$HOME/kept" || { echo credentials not found; exit 1; };;
            erase) rm "$HOME/kept";;
            esac"#;
        super::super::testing::program(at, "docker-credential-ring", script);
        fs_err::create_dir(at.join(".docker")).unwrap();
        let path = at.join(".docker/config.json");
        fs_err::write(&path, r#"{"credHelpers":{"ghcr.io":"ring"}}"#).unwrap();
        assert!(!erase(&home, "ghcr.io").await.unwrap());
        let kept = store(&home, "ghcr.io", &password()).await.unwrap();
        assert_eq!(kept, StoredIn::Helper("docker-credential-ring".to_owned()));
        let expect = json!({"ServerURL": "ghcr.io", "Username": "me", "Secret": "p:w"});
        assert_eq!(json_of(&at.join("kept")), expect);
        assert_eq!(json_of(&path)["auths"], json!({"ghcr.io": {}}));
        let found = Credentials::from_environment(&home).find("ghcr.io", "a").await.unwrap();
        assert_eq!(found.login, password());
        assert!(erase(&home, "ghcr.io").await.unwrap());
        assert!(!at.join("kept").exists());
        assert_eq!(json_of(&path)["auths"], json!({}));
    }

    #[test]
    fn names_of_registries_are_read_as_typed() {
        for (text, expect) in [
            ("ghcr.io", Some("ghcr.io")),
            ("https://ghcr.io/", Some("ghcr.io")),
            ("https://index.docker.io/v1/", Some("docker.io")),
            ("localhost:5000", Some("localhost:5000")),
            ("localhost", Some("localhost")),
            ("[::1]:5000", Some("[::1]:5000")),
            ("ghcr.io/owner", None),
            ("hub", None),
            ("", None),
            ("a b.io", None),
        ] {
            assert_eq!(registry_name(text).ok().as_deref(), expect, "{text}");
        }
    }
}
