//! Lists that come in pages: the tags of a repository, and whatever else has `Link` headers.

use bytes::Bytes;
use reqwest::Url;
use serde::Deserialize;

use super::Access;
use super::client::{Client, request};
use super::failure::Outcome;
use super::location::resolve_location;
use super::request::{Request, Target};
use super::response::Response;
use super::scopes::need;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::Repository;

/// Pages are not larger than manifests.
const LARGEST_PAGE: u64 = 8 * 1024 * 1024;
/// A list has an end: this many pages are more than any repository has.
const MOST_PAGES: usize = 1000;

#[derive(Deserialize)]
struct Page {
    tags: Option<Vec<String>>,
}

impl Client {
    /// The tags on the first page, for a message; `None` where they are not to be had.
    pub(super) async fn first_tags(&self, repository: &Repository) -> Option<Vec<String>> {
        let first = request(reqwest::Method::GET, repository, "tags/list?n=1000");
        let answer = self.send(repository, &first).await.ok()?;
        let page = answer.expect(&[200]).await.ok()?.body(LARGEST_PAGE).await.ok()?;
        serde_json::from_slice::<Page>(&page).ok()?.tags
    }

    /// Lists the tags of a repository, in the registry's order.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<String>> {
        let outcome = async {
            let first = request(reqwest::Method::GET, repository, "tags/list?n=1000");
            let mut tags = Vec::new();
            for page in self.pages(repository, first).await? {
                let page: Page = serde_json::from_slice(&page).map_err(|error| {
                    Error::new(ErrorKind::Invalid, "read the list of tags").caused_by(error)
                })?;
                tags.extend(page.tags.unwrap_or_default());
            }
            Ok(tags)
        };
        outcome.await.map_err(|failure: super::failure::Failure| {
            failure.into_error(format!("list the tags of {repository}"))
        })
    }

    /// Fetches all pages of a list, following `Link` headers.
    pub(super) async fn pages(
        &self,
        repository: &Repository,
        first: Request,
    ) -> Outcome<Vec<Bytes>> {
        let mut pages = Vec::new();
        let mut request = first;
        loop {
            let mut answer = self.send(repository, &request).await?.expect(&[200]).await?;
            let next = next_page(&answer)?;
            pages.push(answer.body(LARGEST_PAGE).await?);
            let Some(next) = next else { return Ok(pages) };
            if pages.len() >= MOST_PAGES {
                let what = format!("read the answers to {}", answer.describe());
                let why = format!("there are more than {MOST_PAGES} pages");
                return Err(Error::new(ErrorKind::Invalid, what).because(why).into());
            }
            let headers = std::mem::take(&mut request.headers);
            request = Request::new(reqwest::Method::GET, Target::Url(next))
                .need(need(repository, Access::Pull));
            request.headers = headers;
        }
    }
}

/// Where an answer says that its list goes on.
fn next_page(answer: &Response) -> Outcome<Option<Url>> {
    let links = answer.headers().get_all("link");
    let texts = links.iter().filter_map(|value| value.to_str().ok());
    match texts.into_iter().find_map(next_link) {
        Some(target) => resolve_location(answer.url(), target).map(Some),
        None => Ok(None),
    }
}

/// Reads `<target>; rel="next"`, one of several perhaps.
fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    loop {
        let (target, behind) = rest.split_once('<')?.1.split_once('>')?;
        let end = behind.find('<').unwrap_or(behind.len());
        let mut parameters = behind[..end].split([';', ',']).map(str::trim);
        if parameters.any(|text| matches!(text, "rel=next" | "rel=\"next\"")) {
            return Some(target);
        }
        rest = &behind[end..];
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Got, Server, client};
    use super::*;

    #[test]
    fn the_next_page_is_found_among_links() {
        for (header, expect) in [
            (r#"</v2/a/tags/list?n=2&last=b>; rel="next""#, Some("/v2/a/tags/list?n=2&last=b")),
            ("<x>; rel=next", Some("x")),
            (r#"<p>; rel="prev", <n>; title="a"; rel="next""#, Some("n")),
            (r#"<p>; rel="prev""#, None),
            ("nothing", None),
            ("<open", None),
            ("", None),
        ] {
            assert_eq!(next_link(header), expect, "{header}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_confuses_the_search(header in r#"([<>;,"]|rel=next|[a-z ]){0,30}"#) {
            if let Some(target) = next_link(&header) {
                let quoted = format!("<{target}>");
                proptest::prop_assert!(header.contains(&quoted));
            }
        }
    }

    #[tokio::test]
    async fn tags_come_from_all_pages() {
        let server = Server::start(|got: &Got, _: &str| {
            let (link, body) = match got.line.as_str() {
                "GET /v2/a/tags/list?n=1000" => {
                    (Some("</v2/a/tags/list?n=1000&last=y>; rel=\"next\""), r#"{"tags":["x","y"]}"#)
                }
                "GET /v2/a/tags/list?n=1000&last=y" => {
                    (Some("</v2/a/tags/list?last=z>; rel=\"next\""), r#"{"name":"a","tags":["z"]}"#)
                }
                _ => (None, r#"{"tags":null}"#),
            };
            let headers = link.into_iter().map(|link| ("link", link.to_owned())).collect();
            (200, headers, Bytes::copy_from_slice(body.as_bytes()))
        })
        .await;
        assert_eq!(client().tags(&server.repository("a")).await.unwrap(), ["x", "y", "z"]);
        assert_eq!(server.lines().len(), 3);
    }

    #[tokio::test]
    async fn a_list_without_end_is_given_up() {
        let server = Server::start(|_: &Got, _: &str| {
            let link = "</v2/a/tags/list?again>; rel=\"next\"".to_owned();
            (200, vec![("link", link)], Bytes::from_static(b"{}"))
        })
        .await;
        let error = client().tags(&server.repository("a")).await.unwrap_err();
        assert!(error.to_string().contains("more than 1000 pages"), "{error}");
    }
}
