//! HTTP clients, one for each way of making a connection, built when first needed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;

use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Client, Url};

use super::{Timeouts, tls};
use crate::error::{Error, ErrorKind, Result};

/// How many connections to one host are kept for later.
const IDLE_CONNECTIONS: usize = 16;

/// Gives the HTTP client that suits an address.
pub(super) struct Connections {
    timeouts: Timeouts,
    clients: Mutex<BTreeMap<Route, Client>>,
}

/// What distinguishes one HTTP client from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Route {
    direct: bool,
    trust: tls::Trust,
}

impl Connections {
    pub(super) fn new(timeouts: Timeouts) -> Self {
        Self { timeouts, clients: Mutex::default() }
    }

    /// The client for `url`.
    pub(super) fn client(&self, url: &Url) -> Result<Client> {
        let trust = match url.scheme() {
            "https" => tls::Trust::Public,
            _ => tls::Trust::Nobody,
        };
        let route = Route { direct: is_loopback(url), trust };
        let mut clients = self.clients.lock().expect("no holder of this lock panics");
        if let Some(client) = clients.get(&route) {
            return Ok(client.clone());
        }
        let client = self.build(&route)?;
        clients.insert(route, client.clone());
        Ok(client)
    }

    fn build(&self, route: &Route) -> Result<Client> {
        // Proxies, redirects and compression are decided here and nowhere else.
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let builder = Client::builder()
            .user_agent(concat!("gondola/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .http1_only()
            .connect_timeout(self.timeouts.connect)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .tls_backend_preconfigured(tls::config(&route.trust)?);
        builder.build().map_err(|error| {
            Error::new(ErrorKind::Network, "set up the HTTP client").caused_by(error.without_url())
        })
    }
}

/// Whether a host, with or without a port, is this machine by its name or address.
pub(super) fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(is_loopback_host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_by_name_and_address() {
        for (host, expect) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("app.localhost:80", true),
            ("127.0.0.1", true),
            ("127.9.9.9:5000", true),
            ("[::1]:5000", true),
            ("[::2]:5000", false),
            ("ghcr.io", false),
            ("localhost.example.com", false),
            ("10.0.0.1:5000", false),
        ] {
            assert_eq!(is_loopback_host(host), expect, "{host}");
        }
    }
}
