//! Blobs: stored, read back, and noticed when they are broken.

use super::*;

#[test]
fn what_was_stored_is_read_back() {
    let place = place();
    let mut ingest = place.store.ingest().unwrap();
    ingest.write_all(b"hello ").unwrap();
    ingest.write_all(b"world").unwrap();
    let (digest, size) = ingest.commit(None).unwrap();
    assert_eq!((digest.clone(), size), (Digest::of(b"hello world"), 11));
    let descriptor = Descriptor::new(MediaType::OCI_LAYER, digest.clone(), size);
    assert_eq!(place.other().read(&descriptor, 11).unwrap(), "hello world");
    assert_eq!(place.store.has(&digest).unwrap(), Some(11));
    assert_eq!(place.store.has(&Digest::of(b"other")).unwrap(), None);
    assert!(place.store.holds(&descriptor).unwrap());
    assert!(!place.store.holds(&Descriptor { size: 12, ..descriptor }).unwrap());
}

#[test]
fn the_store_is_for_its_owner_alone() {
    let place = place();
    place.store.put(b"x").unwrap();
    for folder in ["", "blobs", "blobs/sha256", "gondola", "gondola/work"] {
        let mode = fs_err::metadata(place.root().join(folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
}

#[test]
fn content_that_differs_from_what_was_expected_is_not_stored() {
    let expected = Descriptor::of(MediaType::OCI_LAYER, b"hello");
    for (bytes, found) in [(&b"hellO"[..], "digest sha256:"), (b"hell", "4 bytes, expected 5")] {
        let place = place();
        let mut ingest = place.store.ingest().unwrap();
        ingest.write_all(bytes).unwrap();
        let error = ingest.commit(Some(&expected)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(found), "{error}");
        assert_eq!(files_below(&place.root().join("blobs")), 0);
    }
}

#[test]
fn a_writer_may_bring_the_digest_but_not_another_size() {
    let place = place();
    let digest = Digest::of(b"hello");
    for (size, good) in [(4, false), (5, true)] {
        let mut ingest = place.store.ingest_unhashed().unwrap();
        ingest.write_all(b"hello").unwrap();
        assert_eq!(ingest.commit_as(&digest, size).is_ok(), good, "{size}");
        assert_eq!(place.holds(&digest), good);
    }
    let mut hashed = place.store.ingest().unwrap();
    hashed.write_all(b"jello").unwrap();
    assert_eq!(hashed.commit_as(&digest, 5).unwrap_err().kind(), ErrorKind::Corrupt);
    let mut unhashed = place.store.ingest_unhashed().unwrap();
    unhashed.write_all(b"late").unwrap();
    assert_eq!(unhashed.commit(None).unwrap(), (Digest::of(b"late"), 4));
}

#[test]
fn sha512_content_is_stored_and_verified_as_such() {
    let place = place();
    let hello = "sha512:9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca7\
                 2323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043";
    let expected = Descriptor::new(MediaType::OCI_LAYER, hello.parse().unwrap(), 5);
    let mut ingest = place.store.ingest().unwrap();
    ingest.write_all(b"hello").unwrap();
    ingest.commit(Some(&expected)).unwrap();
    assert_eq!(place.store.read(&expected, 5).unwrap(), "hello");
    let verification = place.store.verify().unwrap();
    assert!(verification.is_clean() && verification.scanned.count == 1);
}

#[test]
fn an_abandoned_ingest_leaves_nothing() {
    let place = place();
    let mut ingest = place.store.ingest().unwrap();
    ingest.write_all(&[7; 100]).unwrap();
    assert_eq!(usage(&place.store, "temporary").bytes, 100);
    drop(ingest);
    assert_eq!(bytes_of_all(&place.store), 0);
}

#[test]
fn the_end_of_a_process_leaves_no_work_folder() {
    let place = place();
    place.store.put(b"x").unwrap();
    assert_eq!(fs_err::read_dir(place.root().join("gondola/work")).unwrap().count(), 1);
    let lease = place.store.lease().unwrap();
    let place = place.restart();
    assert_eq!(fs_err::read_dir(place.root().join("gondola/work")).unwrap().count(), 1);
    drop(lease);
    assert_eq!(fs_err::read_dir(place.root().join("gondola/work")).unwrap().count(), 0);
}

#[test]
fn more_than_the_limit_is_not_read() {
    let place = place();
    let descriptor = put(&place.store, MediaType::OCI_CONFIG, b"hello");
    let error = place.store.read(&descriptor, 4).unwrap_err();
    assert!(error.to_string().contains("5 bytes, at most 4"), "{error}");
}

#[test]
fn a_missing_blob_is_an_error_with_the_next_move() {
    let place = place();
    let absent = Descriptor::of(MediaType::OCI_CONFIG, b"absent");
    for error in
        [place.store.read(&absent, 100).unwrap_err(), place.store.open_blob(&absent).unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let text = error.to_string();
        assert!(text.contains(absent.digest.as_str()) && text.contains("hint: "), "{text}");
    }
}

#[test]
fn a_corrupt_blob_is_noticed_on_read_removed_and_stored_anew() {
    for (what, broken) in [("flipped", &b"hellO"[..]), ("short", b"hel"), ("torn", b"\0\0\0\0\0")] {
        let place = place();
        let hello = put(&place.store, MediaType::OCI_LAYER, b"hello");
        place.overwrite(&hello.digest, broken);
        let corrupt = place.store.verify().unwrap().corrupt;
        assert_eq!(corrupt, std::slice::from_ref(&hello.digest), "{what}");
        let error = place.store.read(&hello, 5).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
        assert!(error.to_string().contains("hint: run the command again"), "{error}");
        assert_eq!(place.store.has(&hello.digest).unwrap(), None, "{what}");
        put(&place.store, MediaType::OCI_LAYER, b"hello");
        assert_eq!(place.store.read(&hello, 5).unwrap(), "hello", "{what}");
    }
}

#[test]
fn a_corrupt_blob_is_noticed_before_the_end_of_a_stream() {
    let place = place();
    let hello = put(&place.store, MediaType::OCI_LAYER, b"hello");
    let mut reader = place.store.open_blob(&hello).unwrap();
    place.overwrite(&hello.digest, b"hellO");
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(!place.holds(&hello.digest));
}

#[test]
fn storing_again_replaces_a_corrupt_blob_unread() {
    let place = place();
    let hello = put(&place.store, MediaType::OCI_LAYER, b"hello");
    place.overwrite(&hello.digest, b"hellO");
    put(&place.store, MediaType::OCI_LAYER, b"hello");
    assert!(place.store.verify().unwrap().is_clean());
    place.overwrite(&hello.digest, b"hellO");
    let mut ingest = place.store.ingest().unwrap();
    ingest.write_all(b"hello").unwrap();
    ingest.commit(Some(&hello)).unwrap();
    assert!(place.store.verify().unwrap().is_clean());
}

#[test]
fn a_wrong_descriptor_does_not_cost_a_good_blob() {
    let place = place();
    let hello = put(&place.store, MediaType::OCI_LAYER, b"hello");
    let wrong = Descriptor { size: 6, ..hello.clone() };
    let error = place.store.read(&wrong, 100).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("5 bytes, but its descriptor says 6"), "{error}");
    assert!(!place.store.discard_if_corrupt(&hello.digest).unwrap());
    assert_eq!(place.store.read(&hello, 5).unwrap(), "hello");
}
