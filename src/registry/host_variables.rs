//! Credentials in variables that have a registry's name in theirs, as kaniko reads them:
//! `KANIKO_REGISTRY_EXAMPLE_COM_USER` and `…_PASSWORD`.

use std::collections::BTreeMap;

use super::{Login, Secret};
use crate::oci::docker_hub;

/// The name of Docker Hub that kaniko looks for.
const HUB: &str = "index.docker.io";

/// The credentials for a registry, and the variables that hold them. Those of the whole name go before
/// those of a domain that it is in.
pub(super) fn login(
    environment: &BTreeMap<String, String>,
    prefix: &str,
    registry: &str,
) -> Option<(Login, [String; 2])> {
    let registry = if docker_hub::canonical(registry) == docker_hub::NAME { HUB } else { registry };
    // No variable has a colon in its name.
    let host = registry.split_once(':').map_or(registry, |(host, _)| host);
    let whole = registry.replace(':', "_");
    [whole.as_str(), host].into_iter().flat_map(suffixes).find_map(|name| {
        let names = ["USER", "PASSWORD"].map(|what| format!("{prefix}_{name}_{what}"));
        let user = environment.get(&names[0])?;
        let password = environment.get(&names[1])?;
        let login = Login::new(user.clone(), Secret::new(password.as_str()));
        Some((login, names))
    })
}

/// `a-b.c.d` as `A_B_C_D`, `C_D`, `D`.
fn suffixes(name: &str) -> Vec<String> {
    let upper = name.to_ascii_uppercase().replace('-', "_");
    let labels: Vec<&str> = upper.split('.').collect();
    (0..labels.len()).map(|at| labels[at..].join("_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_s_variables_have_its_name_or_that_of_its_domain() {
        let pairs = [
            ("KANIKO_MY_HOST_EXAMPLE_COM_USER", "own"),
            ("KANIKO_MY_HOST_EXAMPLE_COM_PASSWORD", "p"),
            ("KANIKO_EXAMPLE_COM_USER", "domain"),
            ("KANIKO_EXAMPLE_COM_PASSWORD", "p"),
            ("KANIKO_INDEX_DOCKER_IO_USER", "hub"),
            ("KANIKO_INDEX_DOCKER_IO_PASSWORD", "p"),
            ("KANIKO_HALF_TEST_USER", "half"),
            ("KANIKO_PORT_TEST_5000_USER", "port"),
            ("KANIKO_PORT_TEST_5000_PASSWORD", ""),
        ];
        let environment = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        for (registry, expected) in [
            ("my-host.example.com", Some("own")),
            ("my-host.example.com:5000", Some("own")),
            ("other.example.com", Some("domain")),
            ("docker.io", Some("hub")),
            ("half.test", None),
            ("port.test:5000", Some("port")),
            ("port.test", None),
            ("example.org", None),
        ] {
            let user = match login(&environment, "KANIKO", registry) {
                Some((Login::Password { user, .. }, _)) => Some(user),
                _ => None,
            };
            assert_eq!(user.as_deref(), expected, "{registry}");
        }
    }
}
