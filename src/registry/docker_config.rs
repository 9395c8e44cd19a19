//! The file in which docker, podman and others keep credentials: its form, and looking things up.
//!
//! ```text
//! { "auths": { "https://index.docker.io/v1/": { "auth": "<base64 of user:password>" },
//!              "ghcr.io/owner": { "identitytoken": "…" } },
//!   "credHelpers": { "gcr.io": "gcloud" },
//!   "credsStore": "desktop" }
//! ```

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::Secret;
use super::identity::Login;
use crate::oci::docker_hub;

/// People write the padding, or do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The part of the file that is about credentials and proxies.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DockerConfig {
    auths: Option<BTreeMap<String, Option<Entry>>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
    proxies: Option<BTreeMap<String, Proxies>>,
}

/// What is kept for one registry, or for a part of one. `Debug` is absent: these are secrets.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry(***)")
    }
}

/// The proxies for one daemon. `Debug` is absent: addresses may hold passwords.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Proxies {
    #[serde(rename = "httpProxy")]
    http: String,
    #[serde(rename = "httpsProxy")]
    https: String,
    /// Hosts that are reached without one.
    #[serde(rename = "noProxy")]
    except: String,
    #[serde(rename = "ftpProxy")]
    ftp: String,
    #[serde(rename = "allProxy")]
    all: String,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proxies(***)")
    }
}

/// What the file says about a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Nothing.
    Nothing,
    /// These credentials.
    Login(Login),
    /// The program `docker-credential-<name>` knows, under the name `server`; where it does not, these
    /// credentials stand in the file.
    Helper { name: String, server: String, written: Option<Login> },
}

impl DockerConfig {
    /// Looks up a repository as docker does: `credHelpers` first, then `credsStore`, and what is written
    /// in `auths` where there is no program, or it has nothing. An entry there may be older than what
    /// the program keeps.
    ///
    /// The error says what is wrong with the entry.
    pub(super) fn find(&self, registry: &str, path: &str) -> Result<Lookup, String> {
        let written = self
            .entry(registry, path)
            .map(|(key, entry)| entry.login().map_err(|why| format!("the entry of {key} {why}")));
        match (self.helper(registry), written) {
            (Some(name), written) => Ok(Lookup::Helper {
                name: name.to_owned(),
                server: server_key(registry).to_owned(),
                written: written.and_then(Result::ok),
            }),
            (None, Some(written)) => written.map(Lookup::Login),
            (None, None) => Ok(Lookup::Nothing),
        }
    }

    /// The entry with the longest key that the repository lies under. Empty entries, which docker
    /// leaves where a helper holds the credentials, do not count.
    fn entry(&self, registry: &str, path: &str) -> Option<(&str, &Entry)> {
        let full = format!("{registry}/{path}");
        let fits = |key: &str| {
            let rest = full.strip_prefix(&normalized(key));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let entries = self.auths.iter().flatten().filter_map(|(key, entry)| {
            let entry = entry.as_ref().filter(|entry| !entry.is_empty())?;
            fits(key).then_some((key.as_str(), entry))
        });
        entries.max_by_key(|(key, _)| normalized(key).len())
    }

    /// The proxies of containers on a daemon, else those of every one.
    pub(super) fn proxies_for(&self, host: &str) -> Option<&Proxies> {
        let all = self.proxies.as_ref()?;
        all.get(host).or_else(|| all.get("default"))
    }

    /// The program that keeps the credentials of a registry, where there is one.
    pub(super) fn helper(&self, registry: &str) -> Option<&str> {
        let helpers = self.cred_helpers.iter().flatten();
        let own = helpers.into_iter().find(|(key, _)| normalized(key) == registry);
        let name = own.map(|(_, name)| name.as_str()).or(self.creds_store.as_deref());
        name.filter(|name| !name.is_empty())
    }
}

impl Proxies {
    /// The variables that they stand for, in capital letters.
    pub(super) fn variables(&self) -> BTreeMap<String, String> {
        let named = [
            ("HTTP_PROXY", &self.http),
            ("HTTPS_PROXY", &self.https),
            ("NO_PROXY", &self.except),
            ("FTP_PROXY", &self.ftp),
            ("ALL_PROXY", &self.all),
        ];
        let set = named.into_iter().filter(|(_, value)| !value.is_empty());
        set.map(|(name, value)| (name.to_owned(), value.clone())).collect()
    }
}

impl Entry {
    fn is_empty(&self) -> bool {
        let Self { auth, username, password, identitytoken, registrytoken } = self;
        let texts = [auth, username, password, identitytoken, registrytoken];
        texts.into_iter().flatten().all(String::is_empty)
    }

    fn login(&self) -> Result<Login, String> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Login::RegistryToken(Secret::new(token)));
        }
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Login::IdentityToken(Secret::new(token)));
        }
        if let Some(auth) = given(&self.auth) {
            return decode(&auth);
        }
        match (given(&self.username), given(&self.password)) {
            (Some(user), Some(password)) => Ok(Login::new(user, Secret::new(password))),
            _ => Err("has a user name or a password, but not both".to_owned()),
        }
    }
}

/// Decodes `user:password`. The password may have further colons.
fn decode(auth: &str) -> Result<Login, String> {
    let bytes = BASE64.decode(auth.trim()).map_err(|_| "is not base64".to_owned())?;
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    let (user, password) = text.split_once(':').ok_or("has no colon between user and password")?;
    // Old versions of docker pad with NUL.
    let password = password.trim_end_matches('\0');
    Ok(Login::new(user.to_owned(), Secret::new(password)))
}

/// Encodes `user:password`.
pub(super) fn encode(user: &str, password: &Secret) -> String {
    BASE64.encode(format!("{user}:{}", password.reveal()))
}

/// What keys and helpers call a registry.
pub(super) fn server_key(registry: &str) -> &str {
    if registry == docker_hub::NAME { docker_hub::CREDENTIALS_KEY } else { registry }
}

/// A key without scheme, API version and trailing slash; all names of Docker Hub are `docker.io`.
pub(super) fn normalized(key: &str) -> String {
    let key = key.trim();
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let bare = bare.trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    let (host, path) = bare.split_once('/').map_or((bare, None), |(host, path)| (host, Some(path)));
    let host = docker_hub::canonical(host);
    path.map_or_else(|| host.to_owned(), |path| format!("{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(json: &str, repository: &str) -> String {
        let config: DockerConfig = serde_json::from_str(json).unwrap();
        let (registry, path) = repository.split_once('/').unwrap();
        match config.find(registry, path) {
            Ok(Lookup::Nothing) => "nothing".to_owned(),
            Ok(Lookup::Helper { name, server, written }) => {
                let written = if written.is_some() { ", else as written" } else { "" };
                format!("helper {name} {server}{written}")
            }
            Ok(Lookup::Login(Login::Password { user, password })) => {
                format!("{user}:{}", password.reveal())
            }
            Ok(Lookup::Login(Login::IdentityToken(token))) => {
                format!("identity {}", token.reveal())
            }
            Ok(Lookup::Login(Login::RegistryToken(token))) => {
                format!("registry {}", token.reveal())
            }
            Ok(Lookup::Login(Login::Anonymous)) => "anonymous".to_owned(),
            Err(why) => format!("error: {why}"),
        }
    }

    #[test]
    fn credentials_are_found_under_every_form_of_key() {
        // "dTpw" is "u:p".
        for (json, repository, expect) in [
            (r#"{"auths":{"ghcr.io":{"auth":"dTpw"}}}"#, "ghcr.io/a/b", "u:p"),
            (r#"{"auths":{"https://ghcr.io/":{"auth":"dTpw"}}}"#, "ghcr.io/a/b", "u:p"),
            (r#"{"auths":{"http://ghcr.io/v2/":{"auth":"dTpw"}}}"#, "ghcr.io/a/b", "u:p"),
            (
                r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#,
                "docker.io/library/x",
                "u:p",
            ),
            (r#"{"auths":{"docker.io":{"auth":"dTpw"}}}"#, "docker.io/library/x", "u:p"),
            (r#"{"auths":{"ghcr.io":{"auth":"dTpw"}}}"#, "ghcr.io:443/a/b", "nothing"),
            (r#"{"auths":{"r:5000":{"username":"u","password":"p:q"}}}"#, "r:5000/a", "u:p:q"),
            (r#"{"auths":{"r":{"auth":"dTpwOnE="}}}"#, "r/a", "u:p:q"),
            (r#"{"auths":{"r":{"auth":"dTpwOnE"}}}"#, "r/a", "u:p:q"),
            (r#"{"auths":{"r":{"auth":"PHRva2VuPjppZA=="}}}"#, "r/a", "identity id"),
            (r#"{"auths":{"r":{"auth":"dTpw","identitytoken":"i"}}}"#, "r/a", "identity i"),
            (r#"{"auths":{"r":{"registrytoken":"t"}}}"#, "r/a", "registry t"),
            ("{}", "r/a", "nothing"),
            (r#"{"auths":null,"credHelpers":null,"credsStore":""}"#, "r/a", "nothing"),
            (r#"{"auths":{"r":null}}"#, "r/a", "nothing"),
        ] {
            assert_eq!(find(json, repository), expect, "{json} {repository}");
        }
    }

    #[test]
    fn the_longest_key_wins() {
        let json =
            r#"{"auths":{"r":{"auth":"MTpw"},"r/a":{"auth":"Mjpw"},"r/a/b":{"auth":"Mzpw"}}}"#;
        for (repository, expect) in [
            ("r/x", "1:p"),
            ("r/ab", "1:p"),
            ("r/a", "2:p"),
            ("r/a/c", "2:p"),
            ("r/a/b", "3:p"),
            ("r/a/b/c", "3:p"),
        ] {
            assert_eq!(find(json, repository), expect, "{repository}");
        }
    }

    #[test]
    fn a_registrys_helper_beats_the_store_which_beats_what_is_written() {
        let json = r#"{"auths":{"a":{"auth":"dTpw"},"b":{"auth":"dTpw"},"c":{},"d":{"auth":"!"}},
                       "credHelpers":{"a":"one","docker.io":"hub"},"credsStore":"all"}"#;
        for (repository, expect) in [
            ("a/x", "helper one a, else as written"),
            ("b/x", "helper all b, else as written"),
            ("c/x", "helper all c"),
            ("d/x", "helper all d"),
            ("docker.io/x", "helper hub https://index.docker.io/v1/"),
        ] {
            assert_eq!(find(json, repository), expect, "{repository}");
        }
    }

    #[test]
    fn wrong_entries_are_named_and_not_quoted() {
        for (entry, expect) in [
            (r#"{"auth":"hunter2!"}"#, "error: the entry of r is not base64"),
            (r#"{"auth":"dQ=="}"#, "error: the entry of r has no colon between user and password"),
            (
                r#"{"username":"u"}"#,
                "error: the entry of r has a user name or a password, but not both",
            ),
        ] {
            assert_eq!(find(&format!(r#"{{"auths":{{"r":{entry}}}}}"#), "r/a"), expect);
        }
    }

    #[test]
    fn no_secret_is_printed() {
        let config: DockerConfig =
            serde_json::from_str(r#"{"auths":{"r":{"auth":"dTpw","password":"hunter2"}}}"#)
                .unwrap();
        let shown = format!("{config:?} {:?}", config.find("r", "a"));
        assert!(!shown.contains("hunter2") && !shown.contains("dTpw"), "{shown}");
    }
}
