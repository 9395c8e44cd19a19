//! A token server for docker-registry: signed tokens, as its "token" mode demands them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use fs_err as fs;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Response};
use serde_json::{Value, json};

use super::http::HttpServer;
use super::need::{Need, program, run};

/// The user that every protected test server knows.
pub const USER: &str = "gondola";
/// That user's password.
pub const PASSWORD: &str = "correct horse battery staple";
/// What the token server gives for `offline_token=true`, and takes as a refresh token.
const IDENTITY: &str = "an identity token";

/// A running token server. The user may pull and push everywhere, anybody else may pull.
pub struct TokenServer {
    server: HttpServer,
    issuer: Arc<Issuer>,
}

/// One request that the token server had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `GET`, or `POST` for a refresh token.
    pub method: String,
    /// The scopes asked for, `repository:app:pull,push`.
    pub scopes: Vec<String>,
    /// Whether the user named themselves.
    pub known: bool,
}

struct Issuer {
    key: PathBuf,
    certificate: PathBuf,
    asked: Mutex<Vec<Asked>>,
}

impl TokenServer {
    /// Makes a signing key in `folder` and starts.
    pub fn start(folder: &Path) -> Need<Self> {
        let openssl = program("openssl")?;
        let (key, certificate) = (folder.join("issuer.key"), folder.join("issuer.crt"));
        let (key_text, certificate_text) = (key.to_str().unwrap(), certificate.to_str().unwrap());
        let make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"];
        let files = ["-subj", "/CN=gondola test issuer", "-keyout", key_text];
        run(openssl, &[make.as_slice(), &files, &["-out", certificate_text]].concat());
        let issuer = Arc::new(Issuer { key, certificate, asked: Mutex::default() });
        let shared = Arc::clone(&issuer);
        let server = HttpServer::start(None, move |request| {
            let issuer = Arc::clone(&shared);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
                let query = match parts.method {
                    Method::POST => body,
                    _ => Bytes::from(parts.uri.query().unwrap_or_default().to_owned()),
                };
                let authorization = parts.headers.get("authorization");
                let authorization = authorization.and_then(|value| value.to_str().ok());
                let (status, answer) = issuer.answer(&parts.method, &query, authorization);
                let body = Full::new(Bytes::from(answer.to_string()));
                Ok(Response::builder()
                    .status(status)
                    .body(body.map_err(|e| match e {}).boxed_unsync())
                    .unwrap())
            }
        });
        Ok(Self { server, issuer })
    }

    /// The address that a registry names in its challenges.
    pub fn realm(&self) -> String {
        format!("http://{}/token", self.server.address())
    }

    /// The certificate that a registry must trust.
    pub fn certificate(&self) -> &Path {
        &self.issuer.certificate
    }

    /// Every request until now.
    pub fn asked(&self) -> Vec<Asked> {
        self.issuer.asked.lock().unwrap().clone()
    }
}

impl Issuer {
    fn answer(&self, method: &Method, form: &[u8], authorization: Option<&str>) -> (u16, Value) {
        let fields: Vec<_> = url::form_urlencoded::parse(form).into_owned().collect();
        let value = |name: &str| {
            fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
        };
        let named = authorization.map(|header| header == basic(USER, PASSWORD));
        let refreshed = value("refresh_token").map(|token| token == IDENTITY);
        let typed = value("password").map(|password| password == PASSWORD);
        let known = named.or(refreshed).or(typed);
        let scopes = fields.iter().filter(|(key, _)| key == "scope");
        let scopes: Vec<_> =
            scopes.flat_map(|(_, value)| value.split(' ')).map(str::to_owned).collect();
        self.asked.lock().unwrap().push(Asked {
            method: method.to_string(),
            scopes: scopes.clone(),
            known: known == Some(true),
        });
        if known == Some(false) {
            let error = json!({"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]});
            return (401, error);
        }
        let service = value("service").unwrap_or_default();
        let token = self.sign(&claims(service, &scopes, known.is_some()));
        let mut answer = json!({"token": token, "access_token": token, "expires_in": 300});
        if value("offline_token") == Some("true") || value("access_type") == Some("offline") {
            answer["refresh_token"] = IDENTITY.into();
        }
        (200, answer)
    }

    /// A JSON web token by RS256, whose header carries the certificate.
    fn sign(&self, claims: &Value) -> String {
        let certificate = fs::read_to_string(&self.certificate).unwrap();
        let der: String = certificate.lines().filter(|line| !line.starts_with('-')).collect();
        let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [der]});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let mut openssl = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(&self.key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = openssl.stdin.take().expect("piped");
        std::io::Write::write_all(&mut input, signed.as_bytes()).unwrap();
        drop(input);
        let signature = openssl.wait_with_output().unwrap().stdout;
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What a token says: each scope as asked for, without `push` for a stranger.
fn claims(service: &str, scopes: &[String], known: bool) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let access: Vec<_> = scopes
        .iter()
        .filter_map(|scope| {
            let (kind, rest) = scope.split_once(':')?;
            let (name, actions) = rest.rsplit_once(':')?;
            let actions: Vec<_> =
                actions.split(',').filter(|action| known || *action == "pull").collect();
            Some(json!({"type": kind, "name": name, "actions": actions}))
        })
        .collect();
    json!({
        "iss": "gondola-test", "sub": if known { USER } else { "" }, "aud": service, "jti": "1",
        "nbf": now - 10, "iat": now - 10, "exp": now + 300, "access": access,
    })
}

/// The `Authorization` header of a user and a password.
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
