//! One request to one registry, with what the registry demands of the one who asks.

use std::sync::atomic::AtomicBool;

use reqwest::header::{HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode};
use tokio::sync::Semaphore;

use super::auth::{Authenticator, TokenClient};
use super::failure::{Failure, Outcome};
use super::request::{Request, Target};
use super::response::Response;
use super::scopes::ScopeRequest;
use super::sender::{Endpoint, Sender};
use super::upload_strategy::KnownStrategy;
use super::{Credentials, Options};

/// A registry, and what was learned about it.
pub(super) struct Host {
    pub endpoint: Endpoint,
    /// Bounds how many blobs move at once.
    pub blobs: Semaphore,
    pub auth: Authenticator,
    /// How blobs are sent to it.
    pub strategy: KnownStrategy,
    /// Whether it refused a body whose length was not said before.
    pub refuses_streams: AtomicBool,
}

impl Host {
    pub(super) fn new(name: &str, options: &Options) -> Self {
        Self {
            endpoint: Endpoint::new(name, options),
            blobs: Semaphore::new(options.jobs.max(1)),
            auth: Authenticator::default(),
            strategy: KnownStrategy::default(),
            refuses_streams: AtomicBool::new(false),
        }
    }
}

/// Sends requests, and shows registries who asks where they want to know.
pub(super) struct Exchange {
    sender: Sender,
    credentials: Credentials,
}

impl Exchange {
    pub(super) fn new(options: &Options) -> Self {
        Self { sender: Sender::new(options), credentials: options.credentials.clone() }
    }

    /// What sends without showing anything.
    pub(super) fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Sends a request, with what the registry demands, and gives the answer, whatever it says.
    ///
    /// Answers that are temporary by their status, and broken connections, are repeated here where
    /// the request allows it, and are failures in the end. So is a refusal for want of credentials.
    pub(super) async fn send(&self, host: &Host, request: &Request) -> Outcome<Response> {
        let mut attempt = 1;
        loop {
            let outcome = self.send_authorized(host, request).await;
            if let Some(answer) = self.sender.answer_or_retry(request, outcome, &mut attempt).await
            {
                return answer;
            }
        }
    }

    /// Finds out what a registry demands and gets what `need` takes, before it is needed.
    pub(super) async fn warm_up(&self, host: &Host, need: &ScopeRequest) -> Outcome<()> {
        if !host.endpoint.has_answered() {
            self.ask_at_root(host, need).await?;
        }
        host.auth.header(self.token_client(host), need).await.map(|_| ())
    }

    /// Asks a registry at its root, once, whether it wants to know who asks.
    async fn ask_at_root(&self, host: &Host, need: &ScopeRequest) -> Outcome<()> {
        let ask = async || -> Outcome<()> {
            let root = Request::new(Method::GET, Target::Path("/v2/".to_owned()));
            let answer = self.sender.send(&host.endpoint, &root, None).await?;
            if answer.status() == StatusCode::UNAUTHORIZED && answer.is_from_registry() {
                host.auth.challenged(&answer, need)?;
            }
            answer.discard().await;
            Ok(())
        };
        host.auth.root_asked.get_or_try_init(ask).await.copied()
    }

    /// What to show a registry that turned a stranger away without a challenge: some hide what they
    /// have, and challenge at their root alone.
    async fn introduction(
        &self,
        host: &Host,
        need: &ScopeRequest,
        answer: &Response,
    ) -> Outcome<Option<HeaderValue>> {
        let is_denial = answer.status() == StatusCode::UNAUTHORIZED;
        if !is_denial && !self.credentials.may_have(&host.endpoint.name, &need.path).await {
            return Ok(None);
        }
        // Where the root says nothing, the answer that is here stands.
        if self.ask_at_root(host, need).await.is_err() {
            return Ok(None);
        }
        host.auth.header(self.token_client(host), need).await
    }

    fn token_client<'a>(&'a self, host: &'a Host) -> TokenClient<'a> {
        TokenClient { sender: &self.sender, credentials: &self.credentials, to: &host.endpoint }
    }

    /// Sends a request with what is known to be demanded, and once more when more is demanded.
    async fn send_authorized(&self, host: &Host, request: &Request) -> Outcome<Response> {
        let token_client = self.token_client(host);
        let mut shown = host.auth.header(token_client, &request.need).await?;
        let mut answer = self.sender.send_once(&host.endpoint, request, shown.as_ref()).await?;
        if shown.is_none() && turns_strangers_away(&answer) {
            shown = self.introduction(host, &request.need, &answer).await?;
            if shown.is_some() {
                answer.discard().await;
                answer = self.sender.send_once(&host.endpoint, request, shown.as_ref()).await?;
            }
        }
        let status = answer.status().as_u16();
        let may_be_expired = shown.is_some() && matches!(status, 400 | 403);
        if !answer.is_from_registry() || (status != 401 && !may_be_expired) {
            return Ok(answer);
        }
        let (need, failure) = if status == 401 {
            let need = host.auth.challenged(&answer, &request.need)?;
            (need, answer.refuse().await)
        } else {
            (request.need.clone(), answer.refuse().await)
        };
        // The answer to a HEAD has no body that could say what is wrong.
        let untold = status == 400 && request.method == Method::HEAD;
        let is_final = status != 401 && !untold;
        if matches!(&failure, Failure::Refused(refusal) if is_final && !refusal.says_expired()) {
            return Err(failure);
        }
        if let Some(shown) = &shown {
            host.auth.forget(token_client, shown).await;
        }
        match host.auth.header(token_client, &need).await? {
            Some(better) if shown.as_ref() != Some(&better) => {
                let answer = self.sender.send_once(&host.endpoint, request, Some(&better)).await?;
                match answer.status() {
                    StatusCode::UNAUTHORIZED => self.note(host, &need, answer.refuse().await).await,
                    _ => Ok(answer),
                }
            }
            _ => self.note(host, &need, failure).await,
        }
    }

    /// Adds to a refusal what went wrong with the search for credentials.
    async fn note(
        &self,
        host: &Host,
        need: &ScopeRequest,
        mut failure: Failure,
    ) -> Outcome<Response> {
        if let Failure::Refused(refusal) = &mut failure {
            refusal.note = self.credentials.find(&host.endpoint.name, &need.path).await?.note;
        }
        Err(failure)
    }
}

/// Whether an answer without a challenge may be what strangers get.
fn turns_strangers_away(answer: &Response) -> bool {
    let is_silent = !answer.headers().contains_key(WWW_AUTHENTICATE);
    answer.is_from_registry() && is_silent && matches!(answer.status().as_u16(), 401 | 403 | 404)
}
