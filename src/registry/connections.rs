//! HTTP clients, one for each way of making a connection, built when first needed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Client, Url};

use super::exceptions::Exceptions;
use super::host_name::{authority, is_loopback_host};
use super::tls::{self, Trust};
use super::{Options, Timeouts, proxy};
use crate::error::{Error, ErrorKind, Result};

/// How many connections to one host are kept for later.
const IDLE_CONNECTIONS: usize = 16;

/// Gives the HTTP client that suits an address.
pub(super) struct Connections {
    timeouts: Timeouts,
    insecure: Vec<String>,
    certificate_dirs: Vec<PathBuf>,
    environment: BTreeMap<String, String>,
    exceptions: Exceptions,
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    by_route: BTreeMap<Route, Client>,
    /// By scheme, host and port: finding the route takes looks at the disk.
    by_origin: BTreeMap<(String, String), Client>,
}

/// What distinguishes one HTTP client from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Route {
    /// Whether proxies are passed by.
    direct: bool,
    trust: Trust,
}

impl Connections {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            timeouts: options.timeouts,
            insecure: options.insecure.clone(),
            certificate_dirs: options.certificate_dirs.clone(),
            environment: options.environment.clone(),
            exceptions: proxy::exceptions(&options.environment),
            clients: Mutex::default(),
        }
    }

    /// The client for `url`.
    pub(super) fn client(&self, url: &Url) -> Result<Client> {
        let origin = (url.scheme().to_owned(), authority(url));
        let mut clients = self.clients.lock().expect("no holder of this lock panics");
        if let Some(client) = clients.by_origin.get(&origin) {
            return Ok(client.clone());
        }
        let route = Route { direct: self.is_direct(url), trust: self.trust(url) };
        let client = match clients.by_route.get(&route) {
            Some(client) => client.clone(),
            None => self.build(&route)?,
        };
        clients.by_route.insert(route, client.clone());
        clients.by_origin.insert(origin, client.clone());
        Ok(client)
    }

    /// The proxy by which an address is reached, as messages name it.
    pub(super) fn proxy(&self, url: &Url) -> Option<String> {
        if self.is_direct(url) { None } else { proxy::described(&self.environment, url) }
    }

    fn is_direct(&self, url: &Url) -> bool {
        is_loopback(url) || self.exceptions.cover(url)
    }

    fn trust(&self, url: &Url) -> Trust {
        let host = authority(url);
        if url.scheme() != "https" {
            return Trust::Nobody;
        }
        if self.insecure.iter().any(|listed| *listed == host || listed == "*") {
            return Trust::Anybody;
        }
        match tls::folders_for(&self.certificate_dirs, &host) {
            folders if folders.is_empty() => Trust::Public,
            folders => Trust::Private(folders),
        }
    }

    fn build(&self, route: &Route) -> Result<Client> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        // Proxies and redirects are decided here and in the exchange, and nowhere else.
        let mut builder = Client::builder()
            .user_agent(concat!("gondola/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .http1_only()
            .connect_timeout(self.timeouts.connect)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .tls_backend_preconfigured(tls::config(&route.trust, &self.environment)?);
        if !route.direct {
            for proxy in proxy::proxies(&self.environment)? {
                builder = builder.proxy(proxy);
            }
        }
        builder.build().map_err(|error| {
            Error::new(ErrorKind::Network, "set up the HTTP client").caused_by(error.without_url())
        })
    }
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
