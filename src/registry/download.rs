//! Downloads that no registry protocol is spoken for.

use std::io::Write;

use reqwest::header::{ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, LAST_MODIFIED, LOCATION};
use reqwest::{Method, StatusCode, Url};

use super::Client;
use super::failure::{self, Failure, Outcome};
use super::host_name::authority;
use super::payload::Payload;
use super::response::{Origin, Response};
use super::sender::Sender;
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::secret;

/// How many redirects are followed.
const MOST_REDIRECTS: usize = 10;

/// What a server said of what it sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Downloaded {
    /// What names this version of the file.
    pub etag: Option<String>,
    /// When the file was modified, as the header has it.
    pub last_modified: Option<String>,
}

impl Client {
    /// Downloads a file from any server by http or https, redirects followed, without credentials. Silent
    /// servers, broken connections and answers that are temporary are dealt with as a registry's.
    ///
    /// Each attempt writes into a sink of its own, which `begin` opens. With the etag of a version that the
    /// caller has, a server may say that it is the same: then there is no sink.
    pub async fn download<W: Write + Send>(
        &self,
        url: &str,
        etag: Option<&str>,
        mut begin: impl FnMut() -> Result<W> + Send,
    ) -> Result<(Downloaded, Option<W>)> {
        let action = || format!("download {}", secret::address(url));
        let url: Url = url.parse().map_err(|error| {
            Error::new(ErrorKind::Usage, action()).because(format!("it is no address: {error}"))
        })?;
        let sender = self.exchange().sender();
        let mut attempt = 1;
        loop {
            let failure = match download_once(sender, url.clone(), etag, &mut begin).await {
                Ok(downloaded) => return Ok(downloaded),
                Err(failure) => failure,
            };
            if !sender.may_repeat(&failure, attempt) {
                return Err(told(failure, action()));
            }
            sender.pause(attempt, &failure).await;
            attempt += 1;
        }
    }
}

/// The failure of a server that is no registry, and that nobody logs in to.
fn told(failure: Failure, action: String) -> Error {
    let Failure::Refused(refusal) = &failure else { return failure.into_error(action) };
    let error = Error::new(ErrorKind::Network, action)
        .because(format!("the server answered {}", refusal.status));
    match refusal.retry_after.and_then(|asked| jiff::SignedDuration::try_from(asked).ok()) {
        Some(asked) if !asked.is_zero() => error.hint(format!("try again in {asked:#}")),
        _ => error,
    }
}

async fn download_once<W: Write + Send>(
    sender: &Sender,
    mut url: Url,
    etag: Option<&str>,
    begin: &mut (impl FnMut() -> Result<W> + Send),
) -> Outcome<(Downloaded, Option<W>)> {
    let failed = |why: String| Error::new(ErrorKind::Network, "follow it").because(why);
    for _ in 0..=MOST_REDIRECTS {
        let mut answer = ask(sender, &url, etag).await?;
        let header = |name| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let said = Downloaded { etag: header(ETAG), last_modified: header(LAST_MODIFIED) };
        if answer.status() == StatusCode::NOT_MODIFIED {
            return Ok((said, None));
        }
        if answer.status().is_redirection() {
            let location = header(LOCATION).unwrap_or_default();
            let next = url.join(&location).map_err(|error| failed(error.to_string()))?;
            if url.scheme() == "https" && next.scheme() != "https" {
                let next = secret::address(next.as_str());
                return Err(failed(format!("it leads to {next}, which is not secure")).into());
            }
            answer.discard().await;
            url = next;
            continue;
        }
        if !answer.status().is_success() {
            return Err(answer.refuse().await);
        }
        let mut sink = begin()?;
        while let Some(chunk) = answer.chunk().await? {
            sink.write_all(&chunk).cannot(|| "keep what was downloaded")?;
        }
        return Ok((said, Some(sink)));
    }
    Err(failed(format!("it leads through more than {MOST_REDIRECTS} others")).into())
}

async fn ask(sender: &Sender, url: &Url, etag: Option<&str>) -> Outcome<Response> {
    let host = authority(url);
    sender.check_online(&host)?;
    let mut headers = HeaderMap::new();
    if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
        headers.insert(IF_NONE_MATCH, etag);
    }
    let raw = sender.send_one(url, &Method::GET, headers, &Payload::Empty).await?;
    let request = failure::describe(&Method::GET, url);
    let origin = Origin { request, registry: host.into(), from_registry: true };
    Ok(sender.answered(raw, origin))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Give, Got, Server, client};
    use bytes::Bytes;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn give(status: u16, body: &'static [u8]) -> Give {
        (status, Vec::new(), Bytes::from_static(body))
    }

    #[tokio::test]
    async fn a_download_is_repeated_as_long_as_a_server_may_do_better() {
        for (statuses, expect) in [
            (&[503, 200][..], Ok(2)),
            (&[429, 500, 200], Ok(3)),
            (&[503, 503, 503, 200], Err("the server answered 503 Service Unavailable")),
            (&[404, 200], Err("the server answered 404 Not Found")),
        ] {
            let count = AtomicUsize::new(0);
            let answers = statuses.to_vec();
            let server = Server::start(move |_: &Got, _: &str| {
                give(answers[count.fetch_add(1, Ordering::Relaxed)], b"file")
            })
            .await;
            let url = format!("http://u:pw@{}/f?token=hunter2", server.address);
            let outcome = client().download(&url, None, || Ok(Vec::new())).await;
            match (outcome, expect) {
                (Ok((_, sink)), Ok(times)) => {
                    assert_eq!(sink.unwrap(), b"file");
                    assert_eq!(server.lines().len(), times, "{statuses:?}");
                }
                (Err(error), Err(why)) => {
                    let error = error.to_string();
                    assert!(error.contains(why), "{error}");
                    assert!(!error.contains("hunter2") && !error.contains("pw"), "{error}");
                }
                (outcome, expect) => panic!("{statuses:?}: {outcome:?}, expected {expect:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_did_not_change_is_not_sent_and_redirects_are_followed() {
        let server = Server::start(|got: &Got, base: &str| match got.line.as_str() {
            "GET /a" => {
                (302, vec![("location", format!("{base}/b?signature=hunter2"))], Bytes::new())
            }
            _ if got.header("if-none-match") == "\"1\"" => give(304, b""),
            _ => (200, vec![("etag", "\"1\"".to_owned())], Bytes::from_static(b"x")),
        })
        .await;
        let url = format!("http://{}/a", server.address);
        let (said, sink) = client().download(&url, None, || Ok(Vec::new())).await.unwrap();
        assert_eq!((said.etag.as_deref(), sink), (Some("\"1\""), Some(b"x".to_vec())));
        let again = client().download(&url, said.etag.as_deref(), || Ok(Vec::new())).await;
        assert_eq!(again.unwrap().1, None);
        let loops = Server::start(|_: &Got, base: &str| {
            (302, vec![("location", format!("{base}/?signature=hunter2"))], Bytes::new())
        })
        .await;
        let url = format!("http://{}/a", loops.address);
        let error = client().download(&url, None, || Ok(Vec::new())).await.unwrap_err().to_string();
        assert!(error.contains("more than 10 others") && !error.contains("hunter2"), "{error}");
    }
}
