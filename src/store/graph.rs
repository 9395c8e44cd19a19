//! Which blobs refer to which: the way from names to everything that they need.

use std::collections::BTreeSet;
use std::io::{self, Read};

use serde_json::Value;

use super::{Store, absent_as_none};
use crate::oci::{Digest, LARGEST_DOCUMENT};

/// Everything that can be reached from `roots` by manifests and indexes that are here.
///
/// The roots and what they refer to are part of the answer whether they are here or not.
pub(super) fn reachable(
    store: &Store,
    roots: impl IntoIterator<Item = Digest>,
) -> io::Result<BTreeSet<Digest>> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<Digest> = roots.into_iter().collect();
    while let Some(digest) = next.pop() {
        if reached.contains(&digest) {
            continue;
        }
        next.extend(references(store, &digest)?.into_iter().flatten());
        reached.insert(digest);
    }
    Ok(reached)
}

/// What a manifest or index refers to; `None` where the blob is neither, or is not here.
///
/// A blob is known by its content, because whoever looked it up may not have known its type.
pub(super) fn references(store: &Store, digest: &Digest) -> io::Result<Option<Vec<Digest>>> {
    let Some(mut file) = absent_as_none(fs_err::File::open(store.blob_path(digest)))? else {
        return Ok(None);
    };
    let size = file.metadata()?.len();
    let mut first = [0];
    if size > LARGEST_DOCUMENT || file.read(&mut first)? == 0 || first != *b"{" {
        return Ok(None);
    }
    let mut bytes = first.to_vec();
    file.take(LARGEST_DOCUMENT).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes).ok().and_then(|value| references_in(&value)))
}

fn references_in(document: &Value) -> Option<Vec<Digest>> {
    document.get("schemaVersion")?;
    let lists = ["manifests", "layers", "blobs"].map(|key| document.get(key));
    let listed = lists.into_iter().flatten().filter_map(Value::as_array).flatten();
    let all = listed.chain(document.get("config"));
    let digests = all.filter_map(|descriptor| descriptor.get("digest")?.as_str()?.parse().ok());
    Some(digests.collect())
}

/// Every digest that stands anywhere in `text`.
pub(super) fn mentioned_in(text: &str) -> Vec<Digest> {
    let starts = text.match_indices("sha256:").map(|(at, prefix)| (at, prefix.len() + 64));
    let starts =
        starts.chain(text.match_indices("sha512:").map(|(at, prefix)| (at, prefix.len() + 128)));
    starts.filter_map(|(at, length)| text.get(at..at + length)?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn digests_are_found_wherever_they_are_mentioned() {
        let [a, b] = [Digest::of(b"a"), Digest::of(b"b")];
        let text = format!(r#"{{"x":["ghcr.io/a/b@{a}"],"{b}":1,"sha256:short":"sha256:"}}"#);
        assert_eq!(mentioned_in(&text), [a, b]);
    }

    #[test]
    fn only_manifests_and_indexes_refer_to_anything() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|x| Digest::of(x));
        for (document, expect) in [
            (
                json!({"schemaVersion": 2, "config": {"digest": a}, "layers": [{"digest": b}, {"digest": c}]}),
                Some(vec![b.clone(), c.clone(), a.clone()]),
            ),
            (
                json!({"schemaVersion": 2, "manifests": [{"digest": a}, {"digest": "?"}, 7]}),
                Some(vec![a.clone()]),
            ),
            (json!({"schemaVersion": 2, "manifests": null}), Some(vec![])),
            (json!({"config": {"digest": a}}), None),
            (json!({"config": {"Env": []}, "rootfs": {"diff_ids": [a]}}), None),
        ] {
            assert_eq!(references_in(&document), expect, "{document}");
        }
    }
}
