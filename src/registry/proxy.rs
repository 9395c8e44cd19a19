//! Proxies, as the environment names them.

use std::collections::BTreeMap;

use reqwest::{Proxy, Url};

use super::exceptions::Exceptions;
use super::host_name::authority;
use crate::error::{Error, ErrorKind, Result};

/// The proxies for addresses that are neither this machine's own nor excepted.
///
/// The variables are those that curl and Go read, in lower or upper case: `https_proxy`,
/// `http_proxy`, `all_proxy`, and `no_proxy` for [`exceptions`].
pub(super) fn proxies(environment: &BTreeMap<String, String>) -> Result<Vec<Proxy>> {
    let mut proxies = Vec::new();
    for (name, scheme) in [("https_proxy", Proxy::https as fn(_) -> _), ("http_proxy", Proxy::http)]
    {
        let Some((name, address)) = chosen(environment, name) else { continue };
        if is_socks(address) {
            return Err(Error::new(ErrorKind::Usage, format!("use the proxy that {name} names"))
                .because("it speaks SOCKS, and registries are reached through HTTP proxies alone")
                .hint(
                    "name an HTTP proxy in HTTPS_PROXY, or hosts to reach directly in NO_PROXY",
                ));
        }
        // The address may hold a password: neither it nor the parser's error is shown.
        let proxy = scheme(address).map_err(|_| {
            Error::new(ErrorKind::Usage, format!("use the proxy that {name} names"))
                .because("it is no http or https address")
                .hint("write http://host:port")
        })?;
        proxies.push(proxy);
    }
    Ok(proxies)
}

/// The hosts that are reached directly.
pub(super) fn exceptions(environment: &BTreeMap<String, String>) -> Exceptions {
    variable(environment, "no_proxy").map(|(_, list)| Exceptions::parse(list)).unwrap_or_default()
}

/// The proxy for an address, as messages name it: its variable, its host and port.
pub(super) fn described(environment: &BTreeMap<String, String>, url: &Url) -> Option<String> {
    let (name, address) = chosen(environment, &format!("{}_proxy", url.scheme()))?;
    let whole =
        if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let host = Url::parse(&whole).map(|proxy| authority(&proxy)).unwrap_or_default();
    Some(format!("{host} ({name})"))
}

fn chosen<'a>(environment: &'a BTreeMap<String, String>, name: &str) -> Option<(String, &'a str)> {
    variable(environment, name).or_else(|| variable(environment, "all_proxy"))
}

fn is_socks(address: &str) -> bool {
    address.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("socks"))
        && address.contains("://")
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
        for socks in ["socks5://me:hunter2@p:1080", "SOCKS5H://p", "socks4://p"] {
            let error = proxies(&environment(&[("ALL_PROXY", socks)])).unwrap_err().to_string();
            assert!(
                error.starts_with("cannot use the proxy that ALL_PROXY names: it speaks SOCKS")
            );
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_proxy_that_wants_a_password_is_named() {
        let refuse = |_: &Got, _: &str| (407, Vec::new(), bytes::Bytes::new());
        let proxy = Server::start(refuse).await;
        let address = format!("http://me:hunter2@{}", proxy.address);
        for insecure in [Vec::new(), vec!["registry.test:5000".to_owned()]] {
            let environment = environment(&[("http_proxy", &address), ("HTTPS_PROXY", &address)]);
            let client = Client::new(Options { insecure, environment, ..options() }).unwrap();
            let name = "registry.test:5000/a:1".parse().unwrap();
            let error = client.resolve(&name).await.unwrap_err().to_string();
            let says = format!("the proxy {} (HTTPS_PROXY) answered 407", proxy.address);
            assert!(error.contains(&says) && !error.contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_proxy_that_makes_no_connection_is_named_and_not_the_registry() {
        let deny = |_: &Got, _: &str| (502, Vec::new(), bytes::Bytes::new());
        let proxy = Server::start(deny).await;
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let gone = dead.local_addr().unwrap();
        drop(dead);
        for (address, says) in [
            (gone.to_string(), format!("the proxy {gone} (HTTPS_PROXY) refuses connections")),
            (
                "proxy.invalid:3128".to_owned(),
                "the name of the proxy proxy.invalid:3128 (HTTPS_PROXY) has no address".to_owned(),
            ),
            (
                proxy.address.to_string(),
                format!(
                    "the proxy {} (HTTPS_PROXY) makes no connection to registry.test:5000",
                    proxy.address
                ),
            ),
        ] {
            let address = format!("http://me:hunter2@{address}");
            let environment = environment(&[("HTTPS_PROXY", &address)]);
            let client = Client::new(Options { environment, ..options() }).unwrap();
            let name = "registry.test:5000/a:1".parse().unwrap();
            let error = client.resolve(&name).await.unwrap_err().to_string();
            assert!(error.contains(&says) && error.contains("NO_PROXY"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn other_hosts_go_through_the_proxy_and_this_machine_does_not() {
        let proxy = Server::start(|_: &Got, _: &str| (404, Vec::new(), bytes::Bytes::new())).await;
        let direct = Server::start(|_: &Got, _: &str| (404, Vec::new(), bytes::Bytes::new())).await;
        let address = format!("http://me:pw@{}", proxy.address);
        let environment = environment(&[
            ("HTTP_PROXY", &address),
            ("https_proxy", &address),
            ("no_proxy", "*.private.test"),
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
        let error = ask("registry.private.test/a:1").await.to_string();
        assert_eq!(proxy.lines().len(), before);
        assert!(!error.contains("pw"), "{error}");
    }
}
