//! Records: kept by kind and key.

use super::*;

#[test]
fn records_are_found_by_kind_and_key() {
    let place = place();
    place.store.put_record("layer", "k", &json!({"a": 1})).unwrap();
    place.store.put_record("layer", "k2", &"other").unwrap();
    place.store.put_record("base", "k", &7).unwrap();
    place.store.put_record("base", "k", &8).unwrap();
    let other = place.other();
    assert_eq!(other.get_record("layer", "k"), Some(json!({"a": 1})));
    assert_eq!(other.get_record("layer", "k2"), Some("other".to_owned()));
    assert_eq!(other.get_record("base", "k"), Some(8));
    assert_eq!(other.get_record::<u32>("base", "k2"), None);
    assert_eq!(other.get_record::<u32>("none", "k"), None);
}

#[test]
fn a_broken_record_counts_as_absent() {
    let place = place();
    place.store.put_record("kind", "key", &1).unwrap();
    place.store.put_record("kind", "other", &2).unwrap();
    let folder = place.root().join("gondola/records/kind");
    let paths: Vec<_> =
        fs_err::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let whole: Vec<Vec<u8>> = paths.iter().map(|path| fs_err::read(path).unwrap()).collect();
    assert_eq!(place.store.get_record::<String>("kind", "key"), None, "another type");
    for broken in [&b""[..], b"{", b"\0\0\0", b"null", &whole[0][..9]] {
        for path in &paths {
            fs_err::write(path, broken).unwrap();
        }
        assert_eq!(place.store.get_record::<u32>("kind", "key"), None);
    }
    fs_err::write(&paths[0], &whole[1]).unwrap();
    fs_err::write(&paths[1], &whole[0]).unwrap();
    assert_eq!(place.store.get_record::<u32>("kind", "key"), None, "another key's");
    place.store.put_record("kind", "key", &3).unwrap();
    assert_eq!(place.store.get_record("kind", "key"), Some(3));
}

#[test]
fn a_kind_is_one_word() {
    let place = place();
    for kind in ["", "..", "a/b", "A", "a b"] {
        assert!(place.store.put_record(kind, "k", &1).is_err(), "{kind}");
        assert_eq!(place.store.get_record::<u32>(kind, "k"), None);
    }
}
