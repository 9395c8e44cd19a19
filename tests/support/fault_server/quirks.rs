//! What is always so: the peculiarities of registries that exist.

/// How a registry differs from one that does everything the protocol describes.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Quirks {
    /// Who may do what.
    pub auth: Auth,
    /// What a request without `Authorization` is answered in the place of a challenge, which comes
    /// at `/v2/` alone.
    pub hides_with: Option<u16>,
    /// Whether `Docker-Content-Digest` comes with `HEAD` answers.
    pub digest_on_head: bool,
    /// Whether `Docker-Content-Digest` comes with `GET` and `PUT` answers.
    pub digest_on_get: bool,
    /// Whether `Range` is honoured; otherwise the answer is 200 with everything.
    pub ranges: bool,
    /// Whether `Content-Range` names another place than the one the bytes are from.
    pub wrong_content_range: bool,
    /// The form of `Location`.
    pub location: Location,
    /// What a mount is answered.
    pub mount: Mount,
    /// Bytes that a `PATCH` may carry, and the answer to more.
    pub patch_cap: Option<(usize, u16)>,
    /// Bytes that a blob's `PUT` may carry, and the answer to more.
    pub put_cap: Option<(usize, u16)>,
    /// Whether an upload holds only what its last request carried, whatever its digest.
    pub last_chunk_wins: bool,
    /// `OCI-Chunk-Min-Length`; a shorter chunk that is not the last is refused.
    pub chunk_minimum: Option<usize>,
    /// Whether a connection that breaks ends the upload session.
    pub sessions_die: bool,
    /// Where blobs are: another origin, `http://127.0.0.1:1234`.
    pub blobs_at: Option<String>,
    /// Whether a request with `Authorization` is refused, as object stores do.
    pub refuses_authorization: bool,
    /// Whether a cookie is handed out, and a write with that cookie refused.
    pub csrf: bool,
    /// Whether there is a referrers API, and `OCI-Subject` in the answer to a push.
    pub referrers: bool,
    /// Entries on a page of tags or referrers.
    pub page: Option<usize>,
    /// Whether a tag that points elsewhere already cannot be moved.
    pub immutable_tags: bool,
    /// Repositories of which `HEAD` of a missing manifest is answered 403.
    pub forbids_missing: bool,
    /// Whether the digest of a pushed manifest must be among the references pushed before.
    pub checks_references: bool,
}

impl Default for Quirks {
    fn default() -> Self {
        Self {
            auth: Auth::Open,
            hides_with: None,
            digest_on_head: true,
            digest_on_get: true,
            ranges: true,
            wrong_content_range: false,
            location: Location::Absolute,
            mount: Mount::Works,
            patch_cap: None,
            put_cap: None,
            last_chunk_wins: false,
            chunk_minimum: None,
            sessions_die: false,
            blobs_at: None,
            refuses_authorization: false,
            csrf: false,
            referrers: true,
            page: None,
            immutable_tags: false,
            forbids_missing: false,
            checks_references: true,
        }
    }
}

/// The form of the `Location` of an upload. Each carries a state in its query that is valid once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// With scheme and host.
    Absolute,
    /// A path from the root.
    Path,
    /// A path beside the one asked for.
    Relative,
    /// There is none.
    Missing,
    /// At another origin, `http://127.0.0.1:1234`.
    At(String),
}

/// What the request to mount a blob of another repository is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// 201 where the blob is there, else 202.
    Works,
    /// 202: upload it yourself.
    Upload,
    /// An error.
    Status(u16),
}

/// Who may use the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Anybody.
    Open,
    /// The user, with basic authentication.
    Basic,
    /// Holders of a token for the repository.
    Token(TokenAuth),
}

/// How tokens are asked for and given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenAuth {
    /// The realm of challenges; the registry's own `/token` by default.
    pub realm: Option<String>,
    /// Put before the challenge in the same header, `Negotiate, `.
    pub challenges_before: String,
    /// Further `WWW-Authenticate` headers, which come first.
    pub other_challenges: Vec<String>,
    /// Whether strangers get tokens that pull.
    pub anonymous_pull: bool,
    /// Which of the scopes asked for a token honours.
    pub honours: Scopes,
    /// Repositories that nobody may read; a token request that names one is answered 403.
    pub unreadable: Vec<String>,
    /// How many requests a token is good for.
    pub uses: Option<usize>,
    /// What a request with a token that is no longer good is answered; no challenge but with 401.
    pub expired_status: u16,
    /// The field of the answer that holds the token.
    pub field: &'static str,
    /// What a refresh token is answered where `POST` is not known.
    pub post_status: Option<u16>,
    /// Whether the token is looked at only when the whole body was read.
    pub checks_after_body: bool,
}

/// Which of several scopes a token honours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scopes {
    All,
    First,
}

impl Default for TokenAuth {
    fn default() -> Self {
        Self {
            realm: None,
            challenges_before: String::new(),
            other_challenges: Vec::new(),
            anonymous_pull: false,
            honours: Scopes::All,
            unreadable: Vec::new(),
            uses: None,
            expired_status: 401,
            field: "token",
            post_status: None,
            checks_after_body: false,
        }
    }
}
