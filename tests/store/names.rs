//! Names: one descriptor per name in `index.json`.

use std::process::Command;

use super::*;

fn list(store: &Store) -> Vec<(String, Digest)> {
    let names = store.names().unwrap().into_iter();
    names.map(|(name, descriptor)| (name.familiar(), descriptor.digest)).collect()
}

#[test]
fn names_are_found_by_other_processes() {
    let place = place();
    let [manifest, ..] = image(&place.store, "a");
    place.store.set_names(&[(name("hello"), manifest.clone())]).unwrap();
    let found = place.other().resolve(&name("docker.io/library/hello:latest")).unwrap();
    assert_eq!(found, Some(manifest));
}

#[test]
fn a_name_moves_and_the_others_stay() {
    let place = place();
    let [[a, ..], [b, ..]] = [image(&place.store, "a"), image(&place.store, "b")];
    let given = [(name("x:2"), a.clone()), (name("x:1"), a.clone()), (name("y"), a.clone())];
    place.store.set_names(&given).unwrap();
    place.store.set_names(&[(name("x:1"), b.clone())]).unwrap();
    let expect = [("x:1", &b), ("x:2", &a), ("y:latest", &a)];
    assert_eq!(list(&place.store), expect.map(|(n, d)| (n.to_owned(), d.digest.clone())));
    let removed = place.store.remove_names(&[name("x:2"), name("z")]).unwrap();
    assert_eq!(removed, [(name("x:2"), a.clone())]);
    assert_eq!(place.store.resolve(&name("x:2")).unwrap(), None);
    assert_eq!(list(&place.store).len(), 2);
}

#[test]
fn a_digest_finds_any_name_in_its_repository() {
    let place = place();
    let [a, ..] = image(&place.store, "a");
    place.store.set_names(&[(name("ghcr.io/o/x:v1"), a.clone())]).unwrap();
    let other = Digest::of(b"other");
    for (wanted, found) in [
        (format!("ghcr.io/o/x@{}", a.digest), true),
        (format!("ghcr.io/o/x:v9@{}", a.digest), true),
        (format!("ghcr.io/o/y@{}", a.digest), false),
        (format!("ghcr.io/o/x:v1@{other}"), false),
        ("ghcr.io/o/x:v2".to_owned(), false),
    ] {
        let expect = found.then(|| a.clone());
        assert_eq!(place.store.resolve(&name(&wanted)).unwrap(), expect, "{wanted}");
    }
}

#[test]
fn a_pinned_name_moves_no_tag() {
    let place = place();
    let [[a, ..], [b, ..]] = [image(&place.store, "a"), image(&place.store, "b")];
    let pinned = name("x:1").with_digest(b.digest.clone());
    place.store.set_names(&[(name("x:1"), a.clone()), (pinned.clone(), b.clone())]).unwrap();
    assert_eq!(place.store.resolve(&name("x:1")).unwrap(), Some(a.clone()));
    assert_eq!(place.store.resolve(&pinned).unwrap(), Some(b));
    let error = place.store.set_names(&[(pinned, a)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[test]
fn nothing_is_named_that_is_not_here_and_then_no_name_changes() {
    let place = place();
    let [a, ..] = image(&place.store, "a");
    let absent = Descriptor::of(MediaType::OCI_MANIFEST, b"absent");
    let error = place.store.set_names(&[(name("a"), a), (name("b"), absent)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("docker.io/library/b:latest"), "{error}");
    assert!(place.store.names().unwrap().is_empty());
}

#[test]
fn a_descriptor_comes_back_as_it_was_given() {
    let place = place();
    let [mut a, ..] = image(&place.store, "a");
    a.platform = Some("linux/arm64/v8".parse().unwrap());
    a.annotations.insert("org.opencontainers.image.created".into(), "1970".into());
    a.extra.insert("data".into(), json!("e30="));
    place.store.set_names(&[(name("a"), a.clone())]).unwrap();
    assert_eq!(place.store.resolve(&name("a")).unwrap(), Some(a));
}

#[test]
fn equal_names_give_equal_bytes_and_no_change_writes_nothing() {
    let [one, two] = [place(), place()];
    for (place, order) in [(&one, ["a", "b"]), (&two, ["b", "a"])] {
        for seed in order {
            let [manifest, ..] = image(&place.store, seed);
            place.store.set_names(&[(name(seed), manifest)]).unwrap();
        }
    }
    let index = |place: &Place| place.root().join("index.json");
    assert_eq!(fs_err::read(index(&one)).unwrap(), fs_err::read(index(&two)).unwrap());
    let inode = || fs_err::metadata(index(&one)).unwrap().ino();
    let before = inode();
    let [a, ..] = image(&one.store, "a");
    one.store.set_names(&[(name("a"), a)]).unwrap();
    one.store.remove_names(&[name("absent")]).unwrap();
    assert_eq!(inode(), before);
}

#[test]
fn entries_of_other_tools_are_kept() {
    let place = place();
    let [a, ..] = image(&place.store, "a");
    let [b, ..] = image(&place.store, "b");
    let mut named = a.clone();
    named.annotations.insert("org.opencontainers.image.ref.name".into(), "theirs:1".into());
    let mut index = Index::new(vec![a.clone(), named]);
    index.annotations.insert("tool".into(), "other".into());
    fs_err::write(place.root().join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    place.store.set_names(&[(name("b"), b)]).unwrap();
    let listed: Vec<String> = list(&place.store).into_iter().map(|(name, _)| name).collect();
    assert_eq!(listed, ["b:latest", "theirs:1"]);
    place.store.remove_names(&[name("b"), name("theirs:1")]).unwrap();
    let bytes = fs_err::read(place.root().join("index.json")).unwrap();
    let left: Index = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((left.manifests, left.annotations), (vec![a.clone()], index.annotations));
    assert!(pruned(&place.restart().store, &ALL).is_disjoint(&digests([&a])));
}

#[test]
fn a_broken_index_is_told_and_never_replaced() {
    for (broken, said) in [
        (Some("{\"schemaVersion\":2,\"mani"), "EOF"),
        (Some(""), "EOF"),
        (Some("{\"schemaVersion\":3}"), "schemaVersion is 3, expected 2"),
        (None, "missing"),
    ] {
        let place = place();
        let [a, ..] = image(&place.store, "a");
        let path = place.root().join("index.json");
        match broken {
            Some(text) => fs_err::write(&path, text).unwrap(),
            None => fs_err::remove_file(&path).unwrap(),
        }
        let place = place.restart();
        for error in [
            place.store.names().unwrap_err(),
            place.store.resolve(&name("a")).unwrap_err(),
            place.store.set_names(&[(name("a"), a.clone())]).unwrap_err(),
            place.store.remove_names(&[name("a")]).unwrap_err(),
            cache::prune(&place.store, &ALL, now()).unwrap_err(),
            View::take(&place.store).map(drop).unwrap_err(),
            place.store.verify().unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            let text = error.to_string();
            assert!(text.contains(said) && text.contains("hint: put the file right"), "{text}");
        }
        assert_eq!(fs_err::read_to_string(&path).ok().as_deref(), broken);
        assert!(place.holds(&a.digest));
        // The way out that the hint gives.
        let _ = fs_err::remove_file(&path);
        fs_err::remove_file(place.root().join("oci-layout")).unwrap();
        assert!(place.other().names().unwrap().is_empty());
        assert!(place.other().has(&a.digest).unwrap().is_some());
    }
}

#[test]
fn a_broken_layout_file_is_told() {
    for (broken, said) in [
        ("", "no image layout"),
        ("{\"imageLayoutVersion\":\"2.0.0\"}", "version \"2.0.0\", expected 1.0.0"),
    ] {
        let place = place();
        fs_err::write(place.root().join("oci-layout"), broken).unwrap();
        let error = Store::open(place.root()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let text = error.to_string();
        assert!(text.contains(said) && text.contains("hint: "), "{text}");
    }
}

#[test]
fn a_name_whose_manifest_is_gone_is_found_by_the_scan() {
    let place = place();
    let [a, ..] = image(&place.store, "a");
    place.store.set_names(&[(name("a"), a.clone())]).unwrap();
    fs_err::remove_file(place.store.blob_path(&a.digest)).unwrap();
    let found = place.store.verify().unwrap();
    assert!(!found.is_clean());
    assert_eq!(digests(&found.missing), digests([&a]));
    let resolved = place.store.resolve(&name("a")).unwrap().unwrap();
    assert_eq!(place.store.read(&resolved, 1000).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn skopeo_reads_the_store_by_full_names() {
    let Ok(version) = Command::new("skopeo").arg("--version").output() else {
        println!("skipped: skopeo is not installed");
        return;
    };
    assert!(version.status.success());
    let place = place();
    for (seed, reference) in [("a", "hello"), ("b", "localhost:5000/o/hello:latest")] {
        let [manifest, ..] = image(&place.store, seed);
        place.store.set_names(&[(name(reference), manifest)]).unwrap();
    }
    for (seed, reference) in
        [("a", "docker.io/library/hello:latest"), ("b", "localhost:5000/o/hello:latest")]
    {
        let source = format!("oci:{}:{reference}", place.root().display());
        let output = Command::new("skopeo")
            .args(["inspect", "--config", &source])
            .env("XDG_RUNTIME_DIR", place.root())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let config: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(config["author"], seed);
    }
}
