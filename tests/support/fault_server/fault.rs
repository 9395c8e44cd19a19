//! What goes wrong: answers, and faults that meet single requests.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;

/// A whole answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

/// What happens to one request instead of, or besides, its proper answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The request is read and has no effect; this is the answer.
    Answer(Answer),
    /// This is the answer after so many bytes of the request's body, the rest of which stays unread.
    AnswerAfter(usize, Answer),
    /// The connection closes after so many bytes of the request's body. An upload keeps them.
    CutRequest(usize),
    /// The proper answer's body breaks off after so many bytes.
    CutAnswer(usize),
    /// The request has its effect, and the connection closes without an answer.
    Lose,
    /// Nothing is ever answered.
    Stall,
    /// The proper answer comes in pieces of so many bytes with a pause between them.
    Drip(usize, Duration),
    /// The proper answer comes, changed.
    Change(Vec<Change>),
    /// The request's token stops being valid. With 401 a challenge comes along.
    Expire(u16),
}

/// A change to an answer.
#[derive(Clone, Debug)]
pub enum Change {
    Status(u16),
    /// Sets a header, or adds it.
    Header(&'static str, String),
    Without(&'static str),
    Body(Bytes),
    /// The body, shortened, with the length that it now has.
    Shorten(usize),
    /// Another byte at this place.
    Flip(usize),
    /// `Content-Encoding: gzip`, asked for or not.
    Gzip,
}

/// A fault, and the requests that it meets.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) fault: Fault,
    pub(super) spare: usize,
    pub(super) times: usize,
}

impl Rule {
    /// Meets the next request of a method whose path and query contain a text.
    pub fn new(method: &str, path: &str, fault: Fault) -> Self {
        let method = method.parse().expect("a method");
        Self { method, path: path.to_owned(), fault, spare: 0, times: 1 }
    }

    /// Meets so many requests.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Meets every request.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(usize::MAX)
    }

    /// Lets so many matching requests pass first.
    #[must_use]
    pub fn after(mut self, requests: usize) -> Self {
        self.spare = requests;
        self
    }

    /// Whether the rule meets this request; counts it.
    pub(super) fn meets(&mut self, method: &Method, path: &str) -> bool {
        if self.times == 0 || self.method != *method || !path.contains(&self.path) {
            return false;
        }
        if self.spare > 0 {
            self.spare -= 1;
            return false;
        }
        self.times = self.times.saturating_sub(usize::from(self.times != usize::MAX));
        true
    }
}

impl Answer {
    /// An answer without a body.
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// An answer in the form that the protocol gives errors.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({"errors": [{"code": code, "message": message}]});
        Self::status(status).header("Content-Type", "application/json").body(body.to_string())
    }

    /// The page that a proxy in between answers with.
    pub fn html(status: u16) -> Self {
        let page = format!("<html><head><title>{status}</title></head><body>nginx</body></html>");
        Self::status(status).header("Content-Type", "text/html").body(page)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn change(&mut self, change: &Change) {
        match change {
            Change::Status(status) => self.status = *status,
            Change::Header(name, value) => {
                self.remove(name);
                self.headers.push(((*name).to_owned(), value.clone()));
            }
            Change::Without(name) => self.remove(name),
            Change::Body(body) => self.body = body.clone(),
            Change::Shorten(length) => self.body.truncate(*length),
            Change::Flip(at) => {
                let mut bytes = self.body.to_vec();
                if let Some(byte) = bytes.get_mut(*at) {
                    *byte ^= 1;
                }
                self.body = bytes.into();
            }
            Change::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                std::io::Write::write_all(&mut encoder, &self.body).unwrap();
                self.body = encoder.finish().unwrap().into();
                self.headers.push(("Content-Encoding".to_owned(), "gzip".to_owned()));
            }
        }
    }

    fn remove(&mut self, name: &str) {
        self.headers.retain(|(present, _)| !present.eq_ignore_ascii_case(name));
    }
}
