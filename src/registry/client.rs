//! The client: what is shared by all requests, and the hosts that were met.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use reqwest::Method;

use super::exchange::{Exchange, Host};
use super::failure::Outcome;
use super::known_blobs::KnownBlobs;
use super::payload::Buffers;
use super::request::{Request, Target};
use super::scopes::need;
use super::unreachable::Unreachable;
use super::{Access, Options, response::Response};
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
    known_blobs: KnownBlobs,
    unreachable: Unreachable,
}

impl Client {
    /// Makes a client. Nothing is asked, read or connected to before the first request.
    pub fn new(mut options: Options) -> Result<Self> {
        options.insecure.extend(options.mirrors.insecure_hosts());
        let exchange = Exchange::new(&options);
        let (buffers, hosts, known_blobs, unreachable) = Default::default();
        let shared = Shared { options, exchange, buffers, hosts, known_blobs, unreachable };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Makes sure that a token for `access` is at hand before it is needed.
    pub async fn warm_up(&self, repository: &Repository, access: Access) -> Result<()> {
        let host = self.host(repository);
        let outcome = self.exchange().warm_up(&host, &need(repository, access)).await;
        outcome.map_err(|failure| failure.into_error(format!("open {repository}")))
    }

    /// Whether it opens no connection.
    pub fn is_offline(&self) -> bool {
        self.options().offline
    }

    pub(super) fn unreachable(&self) -> &Unreachable {
        &self.shared.unreachable
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

    pub(super) fn known_blobs(&self) -> &KnownBlobs {
        &self.shared.known_blobs
    }

    /// What is known about the host of a repository.
    pub(super) fn host(&self, repository: &Repository) -> Arc<Host> {
        self.host_named(repository.registry())
    }

    fn host_named(&self, name: &str) -> Arc<Host> {
        let mut hosts = self.shared.hosts.lock().expect("no holder of this lock panics");
        if let Some(host) = hosts.get(name) {
            return host.clone();
        }
        let host = Arc::new(Host::new(name, self.options()));
        hosts.insert(name.to_owned(), host.clone());
        host
    }

    /// Sends a request and gives its answer, whatever that says.
    pub(super) async fn send(
        &self,
        repository: &Repository,
        request: &Request,
    ) -> Outcome<Response> {
        self.send_to(repository.registry(), request).await
    }

    /// Sends a request that belongs to no repository.
    pub(super) async fn send_to(&self, registry: &str, request: &Request) -> Outcome<Response> {
        // It is large, and part of every future in which something is asked.
        Box::pin(self.exchange().send(&self.host_named(registry), request)).await
    }
}

/// A request to `/v2/<repository>/<rest>`.
pub(super) fn request(method: Method, repository: &Repository, rest: &str) -> Request {
    let access = match method {
        Method::GET | Method::HEAD => Access::Pull,
        _ => Access::Push,
    };
    let path = format!("/v2/{}/{rest}", repository.path());
    Request::new(method, Target::Path(path)).need(need(repository, access))
}
