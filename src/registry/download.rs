//! Downloads that no registry protocol is spoken for.

use std::io::Write;

use reqwest::header::{ETAG, IF_NONE_MATCH, LAST_MODIFIED, LOCATION};
use reqwest::{StatusCode, Url};

use super::Client;
use super::connections::Connections;
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
    /// Whether nothing was sent, because the file is the one that the caller has.
    pub unchanged: bool,
}

impl Client {
    /// Downloads a file from any server by http or https, redirects followed, without credentials.
    ///
    /// With the etag of a version that the caller has, a server may say that it is the same: then
    /// `sink` gets nothing.
    pub async fn download(
        &self,
        url: &str,
        etag: Option<&str>,
        sink: &mut (dyn Write + Send),
    ) -> Result<Downloaded> {
        let action = || format!("download {}", secret::address(url));
        let failed = |why: String| Error::new(ErrorKind::Network, action()).because(why);
        let mut url: Url = url.parse().map_err(|error| {
            Error::new(ErrorKind::Usage, action()).because(format!("it is no address: {error}"))
        })?;
        let connections = Connections::new(self.options());
        for _ in 0..=MOST_REDIRECTS {
            let mut request = connections.client(&url)?.get(url.clone());
            if let Some(etag) = etag {
                request = request.header(IF_NONE_MATCH, etag);
            }
            let mut answer = request.send().await.map_err(|error| {
                Error::new(ErrorKind::Network, action()).caused_by(error.without_url())
            })?;
            let header = |name| {
                let value = answer.headers().get(name)?;
                value.to_str().ok().map(str::to_owned)
            };
            let said = Downloaded {
                etag: header(ETAG),
                last_modified: header(LAST_MODIFIED),
                unchanged: answer.status() == StatusCode::NOT_MODIFIED,
            };
            if said.unchanged {
                return Ok(said);
            }
            if answer.status().is_redirection() {
                let location = header(LOCATION).unwrap_or_default();
                let next = url.join(&location).map_err(|error| failed(error.to_string()))?;
                if url.scheme() == "https" && next.scheme() != "https" {
                    return Err(failed(format!(
                        "it leads to {}, which is not secure",
                        secret::address(next.as_str())
                    )));
                }
                url = next;
                continue;
            }
            if !answer.status().is_success() {
                return Err(failed(format!("the server answered {}", answer.status())));
            }
            while let Some(chunk) = answer.chunk().await.map_err(|error| {
                Error::new(ErrorKind::Network, action()).caused_by(error.without_url())
            })? {
                sink.write_all(&chunk).cannot(action)?;
            }
            return Ok(said);
        }
        Err(failed(format!("it leads through more than {MOST_REDIRECTS} others")))
    }
}
