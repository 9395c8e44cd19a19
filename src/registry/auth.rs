//! Showing a registry who asks: what it demands, and the tokens that it gave.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{HeaderValue, WWW_AUTHENTICATE};
use tokio::sync::OnceCell;

use super::challenge::{self, Challenge};
use super::credentials::Credentials;
use super::failure::{Failure, Outcome};
use super::identity::Login;
use super::request::Request;
use super::response::Response;
use super::scopes::{ScopeRequest, Scopes};
use super::sender::{Endpoint, Sender};
use super::token::{self, Token};
use crate::error::{Error, ErrorKind, Result};

/// The answer of a token's giver is not larger than this.
const LARGEST_TOKEN: u64 = 64 * 1024;

/// What one registry demands, and the tokens it gave; each is asked for once at a time.
#[derive(Default)]
pub(super) struct Authenticator {
    /// Known after the first challenge.
    challenge: Mutex<Option<Challenge>>,
    /// Set when the registry was asked at its root, `/v2/`, whether it wants to know who asks.
    pub(super) root_asked: OnceCell<()>,
    tokens: Mutex<BTreeMap<Key, Arc<Slot>>>,
}

/// Tokens are told apart by whose repository's credentials they were asked for with, and by what
/// they allow.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    path: String,
    scopes: Scopes,
}

/// Holds one token. Whoever asks for it holds the lock meanwhile, and the others wait.
type Slot = tokio::sync::Mutex<Option<Token>>;

/// Everything that it takes to ask for a token.
#[derive(Clone, Copy)]
pub(super) struct TokenClient<'a> {
    pub sender: &'a Sender,
    pub credentials: &'a Credentials,
    pub to: &'a Endpoint,
}

impl Authenticator {
    fn challenge(&self) -> MutexGuard<'_, Option<Challenge>> {
        self.challenge.lock().expect("no holder of this lock panics")
    }

    fn tokens(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<Slot>>> {
        self.tokens.lock().expect("no holder of this lock panics")
    }

    /// The header to send; none where the registry has not asked for any, or there is nothing to
    /// show.
    pub(super) async fn header(
        &self,
        token_client: TokenClient<'_>,
        need: &ScopeRequest,
    ) -> Outcome<Option<HeaderValue>> {
        let challenge = self.challenge().clone();
        match challenge {
            None => Ok(None),
            Some(Challenge::Basic) => Ok(self.basic(token_client, need).await?),
            Some(Challenge::Bearer { realm, service, .. }) => {
                self.token(token_client, &realm, service.as_deref(), need).await.map(Some)
            }
        }
    }

    /// Takes in the challenge of an answer; gives what the request needs by that.
    pub(super) fn challenged(
        &self,
        answer: &Response,
        need: &ScopeRequest,
    ) -> Outcome<ScopeRequest> {
        let values = answer.headers().get_all(WWW_AUTHENTICATE);
        let texts = values.iter().filter_map(|value| value.to_str().ok());
        let mut need = need.clone();
        let challenge = match challenge::choose(answer.url(), texts) {
            Ok(challenge) => challenge,
            // Some registries challenge the first request only.
            Err(_)
                if self.challenge().is_some()
                    && !answer.headers().contains_key(WWW_AUTHENTICATE) =>
            {
                return Ok(need);
            }
            Err(why) => {
                let what = format!("authenticate to {}", answer.registry());
                return Err(Error::new(ErrorKind::Denied, what).because(why).into());
            }
        };
        if let Challenge::Bearer { scope: Some(scope), .. } = &challenge {
            need.scopes = need.scopes.and(Scopes::parse(scope));
        }
        *self.challenge() = Some(challenge);
        Ok(need)
    }

    /// Forgets the token that was turned down, and what credential helpers said.
    pub(super) async fn forget(&self, token_client: TokenClient<'_>, turned_down: &HeaderValue) {
        token_client.credentials.forget().await;
        let slots: Vec<Arc<Slot>> = self.tokens().values().cloned().collect();
        for slot in slots {
            let mut held = slot.lock().await;
            // Somebody else may have fetched a new one meanwhile.
            if held.as_ref().is_some_and(|token| token.header == turned_down) {
                *held = None;
            }
        }
    }

    async fn basic(
        &self,
        token_client: TokenClient<'_>,
        need: &ScopeRequest,
    ) -> Result<Option<HeaderValue>> {
        match token_client.credentials.find(&token_client.to.name, &need.path).await?.login {
            Login::Password { user, password } => basic(&user, password.reveal()).map(Some),
            Login::RegistryToken(token) => token::bearer(token.reveal()).map(Some),
            Login::IdentityToken(_) | Login::Anonymous => Ok(None),
        }
    }

    async fn token(
        &self,
        token_client: TokenClient<'_>,
        realm: &Url,
        service: Option<&str>,
        need: &ScopeRequest,
    ) -> Outcome<HeaderValue> {
        let lasts = |token: &&Token| token.lasts(Instant::now(), need.lasting);
        let key = Key { path: need.path.clone(), scopes: need.scopes.clone() };
        for slot in self.wider(&key) {
            // A wider token that could not be had says nothing about this one.
            if let Some(token) = slot.lock().await.as_ref().filter(lasts) {
                return Ok(token.header.clone());
            }
        }
        let slot = self.tokens().entry(key).or_default().clone();
        let mut held = slot.lock().await;
        if let Some(token) = held.as_ref().filter(lasts) {
            return Ok(token.header.clone());
        }
        let token = fetch(token_client, realm, service, need).await?;
        let header = token.header.clone();
        *held = Some(token);
        Ok(header)
    }

    /// The slots of tokens that allow all that `key` does, and more, for the same resources.
    ///
    /// A token for several repositories serves the mount that it was made for and nothing else:
    /// registries differ in what they make of it.
    fn wider(&self, key: &Key) -> Vec<Arc<Slot>> {
        let tokens = self.tokens();
        let wider = tokens.iter().filter(|(other, _)| {
            other.path == key.path
                && other.scopes != key.scopes
                && other.scopes.len() == key.scopes.len()
                && other.scopes.covers(&key.scopes)
        });
        wider.map(|(_, slot)| slot.clone()).collect()
    }
}

fn basic(user: &str, password: &str) -> Result<HeaderValue> {
    token::sensitive(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// Asks the realm for a token.
async fn fetch(
    token_client: TokenClient<'_>,
    realm: &Url,
    service: Option<&str>,
    need: &ScopeRequest,
) -> Outcome<Token> {
    let found = token_client.credentials.find(&token_client.to.name, &need.path).await?;
    let outcome = async {
        let (request, header) = match &found.login {
            Login::RegistryToken(token) => return Ok(Token::given(token)?),
            Login::IdentityToken(identity) => {
                let request = token::post(realm, service, &need.scopes, identity);
                match ask(token_client, &request, None).await {
                    // Not every giver knows this way of asking.
                    Err(failure) if matches!(failure.status(), Some(404 | 405)) => {}
                    outcome => return outcome,
                }
                let request = token::get(realm, service, &need.scopes, &found.login);
                (request, Some(basic("", identity.reveal())?))
            }
            Login::Password { user, password } => {
                let request = token::get(realm, service, &need.scopes, &found.login);
                (request, Some(basic(user, password.reveal())?))
            }
            Login::Anonymous => (token::get(realm, service, &need.scopes, &found.login), None),
        };
        let outcome = ask(token_client, &request, header.as_ref()).await;
        let is_refused = |failure: &Failure| matches!(failure.status(), Some(401 | 403));
        if found.of_job && outcome.as_ref().is_err_and(is_refused) {
            // What a job has is not meant for every repository, and most of what is pulled is public.
            let request = token::get(realm, service, &need.scopes, &Login::Anonymous);
            return ask(token_client, &request, None).await.or(outcome);
        }
        outcome
    };
    outcome.await.map_err(|failure| explain(failure, token_client, found.note.clone(), need))
}

async fn ask(
    token_client: TokenClient<'_>,
    request: &Request,
    header: Option<&HeaderValue>,
) -> Outcome<Token> {
    let answer = token_client.sender.send(token_client.to, request, header).await?;
    let mut answer = answer.expect(&[200]).await?;
    Ok(token::read(&answer.body(LARGEST_TOKEN).await?)?)
}

/// Says that it is the token that could not be had.
fn explain(
    mut failure: Failure,
    token_client: TokenClient<'_>,
    note: Option<String>,
    need: &ScopeRequest,
) -> Failure {
    if let Failure::Refused(refusal) = &mut failure {
        refusal.note = note;
        if refusal.status.as_u16() == 400 {
            // Givers that do not like what they are asked for say 400 or 401 as they please.
            refusal.status = reqwest::StatusCode::UNAUTHORIZED;
        }
    }
    let temporary = failure.is_temporary();
    if temporary {
        return failure;
    }
    let scopes = need.scopes.texts().join(" ");
    let what = match scopes.as_str() {
        "" => format!("get a token for {}", token_client.to.name),
        scopes => format!("get a token for {scopes} of {}", token_client.to.name),
    };
    failure.into_error(what).into()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Give, Got, Server, client};
    use super::super::{Access, Client, Options};
    use super::*;
    use crate::oci::{Digest, MediaType};
    use bytes::Bytes;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn give(status: u16, body: &str) -> Give {
        (status, Vec::new(), Bytes::copy_from_slice(body.as_bytes()))
    }

    fn challenge(value: impl Into<String>) -> Give {
        (401, vec![("www-authenticate", value.into())], Bytes::new())
    }

    fn found() -> Give {
        let headers = vec![
            ("docker-content-digest", Digest::of(b"x").to_string()),
            ("content-type", MediaType::OCI_MANIFEST.to_string()),
        ];
        (200, headers, Bytes::from_static(b"x"))
    }

    /// A registry that wants tokens; each token names what it was asked for with.
    fn token_registry(got: &Got, base: &str) -> Give {
        if let Some(query) = got.line.strip_prefix("GET /token?") {
            let who = got.header("authorization").replace(' ', "-");
            return give(200, &format!(r#"{{"token":"{}.{who}"}}"#, query.replace('&', ".")));
        }
        if got.header("authorization").is_empty() {
            let scope = "repository:a:pull";
            return challenge(format!(
                r#"Bearer realm="{base}/token",service="s",scope="{scope}""#
            ));
        }
        found()
    }

    async fn resolve(client: &Client, server: &Server, name: &str) -> Result<()> {
        client.resolve(&server.reference(name)).await.map(|_| ())
    }

    #[tokio::test]
    async fn a_token_is_asked_for_once_and_used_again() {
        let server = Server::start(token_registry).await;
        let client = client();
        resolve(&client, &server, "a:1").await.unwrap();
        resolve(&client, &server, "a:2").await.unwrap();
        resolve(&client, &server, "b:1").await.unwrap();
        assert_eq!(
            server.lines(),
            [
                "HEAD /v2/a/manifests/1",
                "GET /token?service=s&scope=repository%3Aa%3Apull",
                "HEAD /v2/a/manifests/1",
                "HEAD /v2/a/manifests/2",
                "GET /token?service=s&scope=repository%3Ab%3Apull",
                "HEAD /v2/b/manifests/1",
            ]
        );
    }

    #[tokio::test]
    async fn many_at_once_ask_for_one_token() {
        let server = Server::start(token_registry).await;
        let client = client();
        let repository = server.repository("a");
        client.warm_up(&repository, Access::Push).await.unwrap();
        let digest = Digest::of(b"x");
        let (one, two, three) = tokio::join!(
            resolve(&client, &server, "a:1"),
            client.has_blob(&repository, &digest),
            client.warm_up(&repository, Access::Pull),
        );
        assert!(one.is_ok() && two.is_ok() && three.is_ok());
        let tokens: Vec<String> =
            server.lines().into_iter().filter(|line| line.contains("/token")).collect();
        // The token for pushing serves all of them.
        assert_eq!(tokens, ["GET /token?service=s&scope=repository%3Aa%3Apull%2Cpush"]);
        assert_eq!(server.lines().len(), 4);
    }

    #[tokio::test]
    async fn passwords_go_to_the_realm_and_not_to_the_registry() {
        let server = Server::start(token_registry).await;
        resolve(&server.client_as("me", "pw"), &server, "a:1").await.unwrap();
        let sent: Vec<String> =
            server.got().iter().map(|got| got.header("authorization").to_owned()).collect();
        assert_eq!(sent[1], "Basic bWU6cHc=");
        assert!(sent[2].starts_with("Bearer account=me.service=s.scope="), "{}", sent[2]);
    }

    #[tokio::test]
    async fn an_identity_token_is_traded_and_old_givers_are_asked_the_old_way() {
        for knows_post in [true, false] {
            let server = Server::start(move |got: &Got, base: &str| match got.line.as_str() {
                "POST /token" if knows_post => {
                    assert!(got.body.starts_with(b"grant_type=refresh_token&"));
                    assert!(got.body.ends_with(b"&refresh_token=id"));
                    give(200, r#"{"access_token":"t"}"#)
                }
                "POST /token" => give(405, ""),
                _ => token_registry(got, base),
            })
            .await;
            let client = server.client_as("<token>", "id");
            resolve(&client, &server, "a:1").await.unwrap();
            let got = server.got();
            let asked: Vec<&str> = got.iter().map(|got| &got.line[..4]).collect();
            if knows_post {
                assert_eq!(asked, ["HEAD", "POST", "HEAD"]);
            } else {
                assert_eq!(asked, ["HEAD", "POST", "GET ", "HEAD"]);
                assert_eq!(got[2].header("authorization"), "Basic Omlk");
            }
        }
    }

    #[tokio::test]
    async fn basic_credentials_are_sent_unasked_once_they_were_asked_for() {
        let server = Server::start(|got: &Got, _: &str| match got.header("authorization") {
            "Basic bWU6cHc=" => found(),
            _ => challenge("Basic realm=x"),
        })
        .await;
        let client = server.client_as("me", "pw");
        resolve(&client, &server, "a:1").await.unwrap();
        resolve(&client, &server, "a:2").await.unwrap();
        assert_eq!(server.lines().len(), 3);
        for client in [server.client_as("me", "hunter2"), super::super::testing::client()] {
            let error = resolve(&client, &server, "a:1").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied);
            assert!(error.to_string().contains("answered 401"), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_token_that_is_turned_down_is_replaced_once() {
        for (status, body) in [
            (401, ""),
            (
                400,
                r#"{"errors":[{"code":"DENIED","message":"Your Authorization Token has expired."}]}"#,
            ),
            (403, r#"{"errors":[{"code":"DENIED","message":"token expired"}]}"#),
        ] {
            let tokens = AtomicUsize::new(0);
            let server = Server::start(move |got: &Got, base: &str| {
                if got.line.starts_with("GET /token") {
                    let number = tokens.fetch_add(1, Ordering::Relaxed);
                    return give(200, &format!(r#"{{"token":"t{number}"}}"#));
                }
                match (got.header("authorization"), got.line.as_str()) {
                    ("Bearer t0", "GET /v2/a/manifests/2") => give(status, body),
                    ("Bearer t0" | "Bearer t1", _) => found(),
                    _ => challenge(format!(r#"Bearer realm="{base}/token""#)),
                }
            })
            .await;
            let client = client();
            resolve(&client, &server, "a:1").await.unwrap();
            // The document is no manifest: what counts is that it was given.
            let error = client.manifest(&server.reference("a:2")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            let last: Vec<String> = server.lines().split_off(3);
            assert_eq!(
                last,
                [
                    "GET /v2/a/manifests/2",
                    "GET /token?scope=repository%3Aa%3Apull",
                    "GET /v2/a/manifests/2"
                ],
                "{status}"
            );
        }
    }

    #[tokio::test]
    async fn denial_says_what_and_how_to_go_on() {
        let server = Server::start(|got: &Got, base: &str| match &got.line[..4] {
            "GET " => give(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"who?"}]}"#),
            _ => challenge(format!(r#"Bearer realm="{base}/token?secret=1""#)),
        })
        .await;
        let error = resolve(&client(), &server, "a:1").await.unwrap_err();
        let address = server.address;
        assert_eq!(
            error.to_string(),
            format!(
                "cannot resolve {address}/a:1: cannot get a token for repository:a:pull of {address}: \
                 the registry answered 401 UNAUTHORIZED (who?) to GET /token; hint: gondola login {address}"
            )
        );
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(client().tag_digest(&server.reference("a:1")).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_a_job_has_is_no_worse_than_nothing() {
        for is_public in [true, false] {
            let server = Server::start(move |got: &Got, base: &str| {
                let stranger = got.header("authorization").is_empty();
                match got.line.starts_with("GET /token") {
                    true if stranger && is_public => give(200, r#"{"token":"t"}"#),
                    true => give(403, r#"{"errors":[{"code":"DENIED","message":"denied"}]}"#),
                    false if got.header("authorization") == "Bearer t" => found(),
                    false => challenge(format!(r#"Bearer realm="{base}/token""#)),
                }
            })
            .await;
            let address = server.address.to_string();
            let variables = [
                ("CI_REGISTRY", address.as_str()),
                ("CI_REGISTRY_USER", "me"),
                ("CI_REGISTRY_PASSWORD", "hunter2"),
            ];
            let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let credentials = Credentials::from_environment(&BTreeMap::from(variables));
            let client = Client::new(Options { credentials, ..Options::default() }).unwrap();
            let outcome = resolve(&client, &server, "a:1").await;
            if is_public {
                outcome.unwrap();
            } else {
                let text = outcome.unwrap_err().to_string();
                assert!(text.contains("CI_REGISTRY_USER and CI_REGISTRY_PASSWORD"), "{text}");
                assert!(!text.contains("hunter2"), "{text}");
            }
        }
    }

    #[tokio::test]
    async fn a_realm_that_cannot_be_asked_is_denial() {
        let server = Server::start(|_: &Got, _: &str| challenge("Bearer realm=\"null://x\"")).await;
        let error = resolve(&client(), &server, "a:1").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains("scheme null"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_without_end_is_not_read_to_its_end() {
        let server = Server::start(|got: &Got, base: &str| match &got.line[..4] {
            "GET " => give(200, &" ".repeat(70_000)),
            _ => challenge(format!(r#"Bearer realm="{base}/token""#)),
        })
        .await;
        let error = resolve(&client(), &server, "a:1").await.unwrap_err();
        assert!(error.to_string().contains("more than 65536 bytes"), "{error}");
    }

    #[tokio::test]
    async fn logging_in_is_tried_with_the_credentials_given() {
        let server = Server::start(|got: &Got, base: &str| {
            let right = got.header("authorization") == "Basic bWU6cHc=";
            match got.line.as_str() {
                "GET /token?account=me" if right => give(200, r#"{"token":"t"}"#),
                line if line.starts_with("GET /token") => give(401, ""),
                _ if got.header("authorization") == "Bearer t" => give(200, "{}"),
                _ => challenge(format!(r#"Bearer realm="{base}/token""#)),
            }
        })
        .await;
        let registry = server.address.to_string();
        let verify = async |password: &str| {
            let login = Login::new("me".to_owned(), crate::registry::Secret::new(password));
            super::super::login::verify(&Options::default(), &registry, &login).await
        };
        verify("pw").await.unwrap();
        let error = verify("hunter2").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(
            error
                .to_string()
                .ends_with("hint: check the user name and the password or token that were given"),
            "{error}"
        );
    }
}
