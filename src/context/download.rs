//! Files from servers: what `ADD` and contexts name by an address.

use serde::{Deserialize, Serialize};

use crate::blocking::blocking;
use crate::context::GitSource;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::Digest;
use crate::secret;
use crate::transport;

/// The kind of the store's records that hold what was downloaded.
const DOWNLOADS: &str = "download";
/// What a file is called whose address does not say.
const UNNAMED: &str = "__unnamed__";

/// What was downloaded from an address. Its content is in the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Download {
    /// The content.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    etag: Option<String>,
    /// When it was modified, in seconds since 1970.
    pub modified: i64,
}

/// Downloads a file, unless the one that was downloaded before is still the same.
///
/// A digest that is wanted needs nobody's word: what has it is not asked for again.
pub(crate) async fn download(
    transport: &transport::Context,
    url: &str,
    wanted: Option<&Digest>,
) -> Result<Download> {
    match known(transport, url) {
        Some(known) if wanted == Some(&known.digest) || transport.client.is_offline() => Ok(known),
        known => fetch(transport, url, known).await,
    }
}

/// What was downloaded from an address before, if it is here still.
fn known(transport: &transport::Context, url: &str) -> Option<Download> {
    let store = &transport.store;
    let known: Option<Download> = store.get_record(DOWNLOADS, url);
    known.filter(|known| store.has(&known.digest).is_ok_and(|size| size == Some(known.size)))
}

/// Whether an address was downloaded before, so that no connection is needed for what it gave then.
pub(crate) fn is_here(transport: &transport::Context, url: &str) -> bool {
    known(transport, url).is_some()
}

async fn fetch(
    transport: &transport::Context,
    url: &str,
    known: Option<Download>,
) -> Result<Download> {
    let etag = known.as_ref().and_then(|known| known.etag.clone());
    let begin = || transport.store.ingest();
    let (said, ingest) = transport.client.download(url, etag.as_deref(), begin).await?;
    let ingest = match (ingest, known) {
        (Some(ingest), _) => ingest,
        (None, Some(known)) => return Ok(known),
        (None, None) => {
            let action = format!("download {}", secret::address(url));
            return Err(Error::new(ErrorKind::Invalid, action)
                .because("the server says that nothing changed, and was not asked that"));
        }
    };
    let descriptor = blocking(move || ingest.commit(None)).await?;
    let modified = said.last_modified.as_deref().and_then(http_date).unwrap_or_default();
    let (digest, size) = descriptor;
    let download = Download { digest, size, etag: said.etag, modified };
    transport.store.put_record(DOWNLOADS, url, &download)?;
    Ok(download)
}

/// Seconds since 1970 of a date as HTTP writes it.
fn http_date(text: &str) -> Option<i64> {
    let time = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(time.timestamp().as_second())
}

/// The name that a file from a server gets in a folder: the last part of the address's path that is
/// not empty, as BuildKit takes it.
pub(crate) fn file_name(url: &str) -> String {
    let url = url::Url::parse(url).ok();
    let path = url.as_ref().map_or("", url::Url::path);
    let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    match path.trim_end_matches('/').rsplit('/').next() {
        None | Some("" | "." | "..") => UNNAMED.to_owned(),
        Some(name) => name.to_owned(),
    }
}

/// Whether a source is no file of the context.
pub(crate) fn is_remote(source: &str) -> bool {
    source.starts_with("http://")
        || source.starts_with("https://")
        || GitSource::parse(source).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_their_files_and_dates_are_read() {
        for (url, expected) in [
            ("https://example.com/a/b.tar.gz?x=1", "b.tar.gz"),
            ("https://example.com/l/", "l"),
            ("https://example.com/l//?x=/y", "l"),
            ("https://example.com/a%20b%2Fc%zz", "c%zz"),
            ("https://example.com/a%20b+c", "a b+c"),
            ("https://example.com/", UNNAMED),
            ("https://example.com//", UNNAMED),
            ("https://example.com", UNNAMED),
            ("https://example.com/a%2F..", UNNAMED),
        ] {
            assert_eq!(file_name(url), expected, "{url}");
        }
        assert_eq!(http_date("Thu, 01 Jan 1970 00:01:00 GMT"), Some(60));
        assert_eq!(http_date("yesterday"), None);
    }

    #[test]
    fn remote_sources_are_told_by_their_form() {
        for (source, expected) in [
            ("https://example.com/a", true),
            ("git@example.com:a/b", true),
            ("a/b.git", false),
            ("./http", false),
        ] {
            assert_eq!(is_remote(source), expected, "{source}");
        }
    }
}
