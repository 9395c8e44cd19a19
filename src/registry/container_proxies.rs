//! The proxies that docker's configuration names for what runs in containers: `proxies` in
//! `config.json`. Docker gives them to builds as arguments, and to containers as variables.
//!
//! ```text
//! { "proxies": { "default": { "httpProxy": "http://proxy:3128", "noProxy": "*.corp.example" },
//!                "tcp://build.corp.example:2376": { … } } }
//! ```

use std::collections::BTreeMap;

use super::credentials::docker_file;
use super::docker_config::Proxies;
use crate::error::Result;

/// The daemon that docker talks to where nothing else is said.
const USUAL_HOST: &str = "unix:///var/run/docker.sock";

/// The variables for containers, in capital letters, as the configuration of the user with this
/// environment has them. They are his own words: a password among them is meant to be passed on.
pub fn container_proxies(
    environment: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let Some(config) = docker_file(environment)? else { return Ok(BTreeMap::new()) };
    let host = environment.get("DOCKER_HOST").map(String::as_str).filter(|host| !host.is_empty());
    Ok(config.proxies_for(host.unwrap_or(USUAL_HOST)).map(Proxies::variables).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxies_are_those_of_the_daemon_or_the_default_ones() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"proxies": {
            "default": {"httpProxy": "http://me:hunter2@p:1", "noProxy": "*.corp.example"},
            "tcp://other:2376": {"httpsProxy": "http://q:2", "allProxy": "http://q:3", "ftpProxy": ""}}}"#;
        fs_err::write(folder.path().join("config.json"), text).unwrap();
        let mut environment = BTreeMap::new();
        environment.insert("DOCKER_CONFIG".to_owned(), folder.path().display().to_string());
        let found = container_proxies(&environment).unwrap();
        let shown: Vec<_> = found.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown, ["HTTP_PROXY=http://me:hunter2@p:1", "NO_PROXY=*.corp.example"]);
        environment.insert("DOCKER_HOST".to_owned(), "tcp://other:2376".to_owned());
        let found = container_proxies(&environment).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["ALL_PROXY", "HTTPS_PROXY"]);
        fs_err::write(folder.path().join("config.json"), "{").unwrap();
        assert!(container_proxies(&environment).is_err());
        environment.insert("DOCKER_CONFIG".to_owned(), "/nonexistent".to_owned());
        assert!(container_proxies(&environment).unwrap().is_empty());
    }
}
