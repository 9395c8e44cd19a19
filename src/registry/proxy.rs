//! Proxies, as the environment names them.

use std::collections::BTreeMap;

use reqwest::{NoProxy, Proxy};

use crate::error::{Error, ErrorKind, Result};

/// The proxies for addresses that are not this machine's own.
///
/// The variables are those that curl and Go read, in lower or upper case: `https_proxy`,
/// `http_proxy`, `all_proxy`, `no_proxy`.
pub(super) fn proxies(environment: &BTreeMap<String, String>) -> Result<Vec<Proxy>> {
    let none =
        || variable(environment, "no_proxy").and_then(|(_, list)| NoProxy::from_string(list));
    let mut proxies = Vec::new();
    for (name, scheme) in [("https_proxy", Proxy::https as fn(_) -> _), ("http_proxy", Proxy::http)]
    {
        let found = variable(environment, name).or_else(|| variable(environment, "all_proxy"));
        let Some((name, address)) = found else { continue };
        // The address may hold a password: neither it nor the parser's error is shown.
        let proxy = scheme(address).map_err(|_| {
            Error::new(ErrorKind::Usage, format!("use the proxy that {name} names"))
                .because("it is no http or https address")
                .hint("write http://host:port")
        })?;
        proxies.push(proxy.no_proxy(none()));
    }
    Ok(proxies)
}

fn variable<'a>(
    environment: &'a BTreeMap<String, String>,
    name: &str,
) -> Option<(String, &'a str)> {
    let names = [name.to_owned(), name.to_ascii_uppercase()];
    names.into_iter().find_map(|name| {
        let value = environment.get(&name).map(|text| text.trim()).filter(|text| !text.is_empty());
        value.map(|value| (name, value))
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Got, Server, options};
    use super::super::{Client, Options};
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn wrong_addresses_are_named_by_their_variable_and_not_quoted() {
        for bad in ["http://", "http://user:hunter2@[::g]:1"] {
            let error = proxies(&environment(&[("HTTPS_PROXY", bad)])).unwrap_err().to_string();
            assert!(error.contains("HTTPS_PROXY") && !error.contains("hunter2"), "{error}");
        }
        assert_eq!(
            proxies(&environment(&[("http_proxy", " "), ("NO_PROXY", "*")])).unwrap().len(),
            0
        );
        assert_eq!(proxies(&environment(&[("ALL_PROXY", "proxy:3128")])).unwrap().len(), 2);
    }

    #[tokio::test]
    async fn other_hosts_go_through_the_proxy_and_this_machine_does_not() {
        let proxy = Server::start(|_: &Got, _: &str| (404, Vec::new(), bytes::Bytes::new())).await;
        let direct = Server::start(|_: &Got, _: &str| (404, Vec::new(), bytes::Bytes::new())).await;
        let address = format!("http://me:pw@{}", proxy.address);
        let environment = environment(&[
            ("HTTP_PROXY", &address),
            ("https_proxy", &address),
            ("no_proxy", "private.test"),
        ]);
        let insecure = vec!["registry.test:5000".to_owned()];
        let client = Client::new(Options { insecure, environment, ..options() }).unwrap();
        let ask = async |name: &str| client.resolve(&name.parse().unwrap()).await.unwrap_err();
        ask("registry.test:5000/a:1").await;
        ask(&direct.reference("a:1").to_string()).await;
        let lines = proxy.lines();
        assert_eq!(lines.first().unwrap(), "CONNECT registry.test:5000");
        let asked = "HEAD http://registry.test:5000/v2/a/manifests/1".to_owned();
        assert!(lines.contains(&asked), "{lines:?}");
        assert_eq!(proxy.got().last().unwrap().header("proxy-authorization"), "Basic bWU6cHc=");
        assert_eq!(direct.lines().first().unwrap(), "HEAD /v2/a/manifests/1");
        let before = proxy.lines().len();
        let error = ask("private.test/a:1").await.to_string();
        assert_eq!(proxy.lines().len(), before);
        assert!(!error.contains("pw"), "{error}");
    }
}
