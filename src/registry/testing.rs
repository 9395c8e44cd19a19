//! A small server for the tests of this module: every request is noted, a closure answers.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::failure::RegistryError;
use super::{Client, Credentials, Login, Options, RetryPolicy, Secret};
use crate::oci::{Reference, Repository};

/// A request as the server got it.
#[derive(Clone, Debug)]
pub(super) struct Got {
    /// `GET /v2/a/b?c=d`
    pub line: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    /// A header as text; empty where there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The status of an answer that never comes.
pub(super) const NO_ANSWER: u16 = 0;

/// An answer: status, headers, body.
pub(super) type Give = (u16, Vec<(&'static str, String)>, Bytes);

/// A running server, which ends with the test's runtime.
pub(super) struct Server {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Server {
    /// Starts a server; `answer` is given the requests, and its own base address.
    pub(super) async fn start(answer: impl Fn(&Got, &str) -> Give + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let base = format!("http://{address}");
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let (log, answer) = (got.clone(), Arc::new(answer));
        let handle = move |request: Request<Incoming>| {
            let (log, answer, base) = (log.clone(), answer.clone(), base.clone());
            async move {
                let (parts, body) = request.into_parts();
                let line = format!("{} {}", parts.method, parts.uri);
                let body = body.collect().await?.to_bytes();
                let got = Got { line, headers: parts.headers, body };
                log.lock().unwrap().push(got.clone());
                let (status, headers, body) = answer(&got, &base);
                if status == NO_ANSWER {
                    std::future::pending::<()>().await;
                }
                let mut response = Response::new(Full::new(body));
                *response.status_mut() = status.try_into().unwrap();
                for (name, value) in headers {
                    response.headers_mut().append(name, HeaderValue::try_from(value).unwrap());
                }
                Ok::<_, hyper::Error>(response)
            }
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service_fn(handle.clone());
                let builder = hyper::server::conn::http1::Builder::new();
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, got }
    }

    /// The requests so far.
    pub(super) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// The request lines so far.
    pub(super) fn lines(&self) -> Vec<String> {
        self.got().into_iter().map(|got| got.line).collect()
    }

    pub(super) fn repository(&self, path: &str) -> Repository {
        format!("{}/{path}", self.address).parse().unwrap()
    }

    pub(super) fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.address).parse().unwrap()
    }

    /// A client with a password for this server.
    pub(super) fn client_as(&self, user: &str, password: &str) -> Client {
        let login = Login::new(user.to_owned(), Secret::new(password));
        let credentials = Credentials::anonymous().with(&self.address.to_string(), login);
        Client::new(Options { credentials, ..options() }).unwrap()
    }
}

/// Options with which nothing is waited for long.
pub(super) fn options() -> Options {
    let pause = Duration::from_millis(1);
    let retry = RetryPolicy { attempts: 3, first_pause: pause, longest_pause: pause };
    Options { retry, ..Options::default() }
}

/// A client without credentials.
pub(super) fn client() -> Client {
    Client::new(options()).unwrap()
}

/// An answer of a registry that says no, and nothing else.
pub(super) fn refused(status: u16) -> RegistryError {
    RegistryError {
        status: status.try_into().unwrap(),
        problems: Vec::new(),
        request: "POST /v2/a/b/blobs/uploads/".to_owned(),
        host: "ghcr.io".to_owned(),
        in_place_of: None,
        retry_after: None,
        note: None,
        allowance: None,
    }
}

/// Writes a program into `folder`.
///
/// Another process writes it: a file that a test beside this one, forking at the wrong moment,
/// still holds open for writing cannot be executed.
pub(super) fn program(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    let status = std::process::Command::new("sh")
        .args(["-c", r#"printf '#!/bin/sh\n%s\n' "$2" > "$1"; chmod 755 "$1""#, "sh"])
        .args([path.as_os_str(), script.as_ref()])
        .status();
    assert!(status.unwrap().success());
}
