//! Blob uploads: sessions with an offset, and a state that is valid once.

use bytes::Bytes;
use gondola::oci::{Digest, Hasher};

use super::fault::Answer;
use super::quirks::{Location, Mount};
use super::state::{Call, State, Target};

/// An upload that has begun.
pub(super) struct Upload {
    repository: String,
    bytes: Vec<u8>,
    state: u64,
    /// Whether a chunk came that was shorter than the registry allows but for the last.
    short_chunk: bool,
}

impl State {
    pub fn open_upload(&mut self, call: &Call, repository: &str) -> Answer {
        if let Some(answer) = self.mount(call, repository) {
            return answer;
        }
        if let Some(digest) = call.value("digest")
            && call.value("mount").is_none()
        {
            let digest = digest.to_owned();
            return self.store(repository.to_owned(), call.body.clone(), &digest);
        }
        let id = format!("upload-{}", self.next());
        let repository = repository.to_owned();
        let upload = Upload { repository, bytes: Vec::new(), state: 0, short_chunk: false };
        self.uploads.insert(id.clone(), upload);
        let minimum = self.quirks.chunk_minimum;
        let answer = self.accepted(202, call, &id);
        match minimum {
            Some(minimum) => answer.header("OCI-Chunk-Min-Length", minimum.to_string()),
            None => answer,
        }
    }

    fn mount(&mut self, call: &Call, repository: &str) -> Option<Answer> {
        let digest = call.value("mount")?;
        let from = call.value("from")?;
        match self.quirks.mount {
            Mount::Upload => None,
            Mount::Status(401) => {
                let answer = Answer::error(401, "UNAUTHORIZED", "no access to the source");
                Some(answer.header("WWW-Authenticate", "Basic realm=\"elsewhere\""))
            }
            Mount::Status(status) => Some(Answer::error(status, "DENIED", "no mounts here")),
            Mount::Works => {
                let bytes = self.blobs.get(&(from.to_owned(), digest.to_owned()))?.clone();
                self.blobs.insert((repository.to_owned(), digest.to_owned()), bytes);
                Some(created(repository, "blobs", digest))
            }
        }
    }

    pub fn upload_status(&mut self, call: &Call, id: &str) -> Answer {
        // Any state that the session ever had will do: this is how a client finds the newest.
        if !self.uploads.contains_key(id) {
            return Answer::error(404, "BLOB_UPLOAD_UNKNOWN", "no such upload");
        }
        self.accepted(204, call, id)
    }

    pub fn patch_upload(&mut self, call: &Call, id: &str) -> Answer {
        if let Some((limit, status)) = self.quirks.patch_cap
            && call.body.len() > limit
        {
            return Answer::error(status, "SIZE_INVALID", "the chunk is too large");
        }
        match self.append(call, id) {
            Ok(()) => self.accepted(202, call, id),
            Err(answer) => answer,
        }
    }

    pub fn finish_upload(&mut self, call: &Call, id: &str) -> Answer {
        if let Some((limit, status)) = self.quirks.put_cap
            && call.body.len() > limit
        {
            return Answer::error(status, "SIZE_INVALID", "the blob is too large");
        }
        let Some(digest) = call.value("digest").map(str::to_owned) else {
            return Answer::error(400, "DIGEST_INVALID", "no digest");
        };
        let appended =
            if call.body.is_empty() { self.current(call, id) } else { self.append(call, id) };
        if let Err(answer) = appended {
            return answer;
        }
        let upload = self.uploads.remove(id).expect("checked to be there");
        self.store(upload.repository, upload.bytes.into(), &digest)
    }

    pub fn cancel_upload(&mut self, id: &str) -> Answer {
        self.uploads.remove(id);
        Answer::status(204)
    }

    /// A request whose connection broke: what came of an upload is kept, or its session ends.
    pub fn broken(&mut self, call: &Call) {
        let Target::Upload(_, id) = call.target() else { return };
        if self.quirks.sessions_die {
            self.uploads.remove(id);
        } else if let Some(upload) = self.uploads.get_mut(id) {
            upload.bytes.extend_from_slice(&call.body);
        }
    }

    /// Checks that the session is there and that the state in the address is its newest.
    fn current(&mut self, call: &Call, id: &str) -> Result<(), Answer> {
        let unknown = |why: &str| Answer::error(404, "BLOB_UPLOAD_UNKNOWN", why);
        let upload = self.uploads.get(id).ok_or_else(|| unknown("no such upload"))?;
        match call.value("_state") {
            Some(state) if state == upload.state.to_string() => Ok(()),
            Some(_) => Err(unknown("the state is stale")),
            None => Err(unknown("the address lost its query")),
        }
    }

    fn append(&mut self, call: &Call, id: &str) -> Result<(), Answer> {
        self.current(call, id)?;
        let (minimum, last_wins) = (self.quirks.chunk_minimum, self.quirks.last_chunk_wins);
        let upload = self.uploads.get_mut(id).expect("checked to be there");
        if upload.short_chunk {
            return Err(Answer::error(400, "SIZE_INVALID", "an earlier chunk was too short"));
        }
        let offset = upload.bytes.len();
        let starts = call.header("content-range").map_or(Some(0), |range| {
            range.split_once('-').and_then(|(start, _)| start.parse().ok())
        });
        if starts != Some(offset) && !last_wins {
            let have = offset.saturating_sub(1);
            return Err(Answer::error(416, "RANGE_INVALID", "not the next bytes")
                .header("Range", format!("0-{have}")));
        }
        upload.short_chunk = minimum.is_some_and(|minimum| call.body.len() < minimum);
        if last_wins {
            upload.bytes.clear();
        }
        upload.bytes.extend_from_slice(&call.body);
        Ok(())
    }

    /// An answer about a session that goes on: its next address and how far it is.
    fn accepted(&mut self, status: u16, call: &Call, id: &str) -> Answer {
        let state = self.next();
        let upload = self.uploads.get_mut(id).expect("the session goes on");
        upload.state = state;
        let end = upload.bytes.len().saturating_sub(1);
        let path = format!("/v2/{}/blobs/uploads/{id}?_state={state}", upload.repository);
        let answer = Answer::status(status).header("Range", format!("0-{end}"));
        let beside = if call.method == "POST" {
            format!("{id}?_state={state}")
        } else {
            format!("?_state={state}")
        };
        match &self.quirks.location {
            Location::Absolute => answer.header("Location", format!("{}{path}", self.base)),
            Location::Path => answer.header("Location", path),
            Location::Relative => answer.header("Location", beside),
            Location::At(origin) => answer.header("Location", format!("{origin}{path}")),
            Location::Missing => answer,
        }
    }

    fn store(&mut self, repository: String, bytes: Bytes, digest: &str) -> Answer {
        let Ok(expected) = digest.parse::<Digest>() else {
            return Answer::error(400, "DIGEST_INVALID", "not a digest");
        };
        let mut hasher = Hasher::like(&expected);
        hasher.update(&bytes);
        if hasher.finish() != expected && !self.quirks.last_chunk_wins {
            return Answer::error(400, "DIGEST_INVALID", "the content has another digest");
        }
        let answer = created(&repository, "blobs", digest);
        self.blobs.insert((repository, digest.to_owned()), bytes);
        answer
    }
}

/// What is answered when something has its place.
pub(super) fn created(repository: &str, kind: &str, name: &str) -> Answer {
    Answer::status(201)
        .header("Location", format!("/v2/{repository}/{kind}/{name}"))
        .header("Docker-Content-Digest", name)
}
