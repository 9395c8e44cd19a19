//! The same image in every place, and choosing platforms.

use std::collections::BTreeMap;

use gondola::error::ErrorKind;
use gondola::image::{Artifact, Image};
use gondola::oci::{Document, Index, MediaType};
use gondola::transport::find_in_store;

use super::bench::{Bench, assert_same, assert_says, image, index, index_with_others, named};

#[test]
fn an_artifact_is_the_same_after_a_way_through_every_local_place() {
    for original in [index(), Artifact::Image(image("linux/arm/v7", "one")), index_with_others()] {
        let bench = Bench::new();
        let mut artifact = original.clone();
        for place in [
            "oci:layout:v1",
            "oci-archive:oci.tar:v1",
            "store:app",
            "docker-archive:docker.tar:ghcr.io/a/app:v2",
            "oci-archive:nameless.tar",
            "oci:layout:localhost:5000/app:v1",
        ] {
            bench.write(place, &[named(artifact, &[])]).unwrap();
            artifact = bench.read(place, "all").unwrap();
            assert_same(&artifact, &original);
        }
    }
}

/// An index in an index, as some builders nest them.
fn nested() -> Artifact {
    let (inner, lone) = (index(), Artifact::Image(image("linux/s390x", "z")));
    let entries = vec![inner.descriptor().clone(), lone.descriptor().clone()];
    let document = Document::new(MediaType::OCI_INDEX, Index::new(entries));
    Artifact::Index { document, children: vec![inner, lone] }
}

fn platforms(artifact: &Artifact) -> Vec<String> {
    artifact.images().into_iter().map(|image| image.platform().to_string()).collect()
}

#[test]
fn one_platform_is_its_image() {
    let bench = Bench::new();
    for (name, artifact) in
        [("flat", index()), ("nested", nested()), ("mixed", index_with_others())]
    {
        bench.write(&format!("store:{name}"), &[named(artifact.clone(), &[])]).unwrap();
        let found = bench.read(&format!("store:{name}"), "linux/amd64").unwrap();
        let expect = artifact.image_for(&"linux/amd64".parse().unwrap()).unwrap();
        assert_eq!(
            found.as_image().map(|image| image.manifest.bytes()),
            Some(expect.manifest.bytes())
        );
    }
    // A platform that no index names is that of the config.
    let found = bench.read("store:nested", "linux/s390x").unwrap();
    assert_eq!(platforms(&found), ["linux/s390x"]);
}

#[test]
fn several_platforms_are_an_index_in_their_order() {
    let bench = Bench::new();
    let whole = Artifact::index(
        ["linux/amd64", "linux/arm64", "linux/arm/v7"].map(|p| image(p, p)).into(),
        BTreeMap::from([("note".to_owned(), "kept".to_owned())]),
    );
    bench.write("oci:layout", &[named(whole.clone(), &[])]).unwrap();
    for (wanted, expect) in [
        ("linux/arm/v7,linux/amd64", vec!["linux/arm/v7", "linux/amd64"]),
        ("linux/arm64/v8,linux/arm", vec!["linux/arm64", "linux/arm/v7"]),
    ] {
        let found = bench.read("oci:layout", wanted).unwrap();
        assert_eq!(platforms(&found), expect);
        let Artifact::Index { document, .. } = &found else { panic!("no index") };
        assert_eq!(document.value().annotations["note"], "kept");
        let listed = document.value().manifests.iter().map(|entry| entry.platform.clone().unwrap());
        assert_eq!(listed.map(|p| p.to_string()).collect::<Vec<_>>(), expect);
        bench.write("oci-archive:subset.tar", &[named(found.clone(), &[])]).unwrap();
        assert_same(&bench.read("oci-archive:subset.tar", "all").unwrap(), &found);
    }
    let all = bench.read("oci:layout", "linux/amd64,linux/arm64,linux/arm/v7").unwrap();
    assert_eq!(all.document_bytes(), whole.document_bytes());
}

#[test]
fn a_platform_that_is_not_on_offer_is_answered_with_those_that_are() {
    let bench = Bench::new();
    bench.write("oci:layout", &[named(index_with_others(), &[])]).unwrap();
    bench.write("oci:two", &[named(index(), &[])]).unwrap();
    bench.write("oci:other", &[named(nothing(), &[])]).unwrap();
    for (place, wanted, texts) in [
        ("oci:two", "linux/arm/v7", &["linux/arm/v7", "it is for linux/amd64, linux/arm64"][..]),
        ("oci:two", "linux/amd64/v3", &["hint: the nearest is --platform linux/amd64"]),
        ("oci:two", "linux/amd64,windows/amd64", &["for windows/amd64"]),
        ("oci:layout", "linux/arm64", &["it is for linux/amd64"]),
        ("oci:other", "linux/amd64", &["it holds no image"]),
    ] {
        let error = assert_says(bench.read(place, wanted), texts);
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}

fn nothing() -> Artifact {
    super::bench::other(MediaType::OCI_CONFIG, "application/vnd.in-toto+json", None)
}

#[test]
fn what_is_no_image_travels_with_its_subject() {
    let bench = Bench::new();
    bench.write("store:app", &[named(index_with_others(), &[])]).unwrap();
    let found = bench.read("store:app", "all").unwrap();
    let Artifact::Index { children, .. } = &found else { panic!("no index") };
    let [Artifact::Image(image), Artifact::Other { document, blobs }, Artifact::Other { .. }] =
        &children[..]
    else {
        panic!("{:?}", found.document_bytes())
    };
    let subject = document.value().subject.as_ref().unwrap();
    assert_eq!(subject.digest, *image.manifest.digest());
    assert_eq!(blobs.len(), 2);
}

#[test]
fn the_store_knows_images_by_names_and_by_the_first_digits() {
    let bench = Bench::new();
    let (one, two) = (image("linux/amd64", "one"), image("linux/amd64", "two"));
    let artifact = |image: &Image| Artifact::Image(image.clone());
    bench.write("store:", &[named(artifact(&one), &["one:v1", "ghcr.io/a/one:v2"])]).unwrap();
    bench.write("store:two", &[named(artifact(&two), &["ignored"])]).unwrap();
    let digest = one.manifest.digest();
    let pinned = format!("ghcr.io/a/one@{digest}");
    for name in ["one:v1", "ghcr.io/a/one:v2", &pinned, digest.short(), digest.as_str()] {
        let found = find_in_store(&bench.context.store, name).unwrap();
        assert_eq!(found.digest, *digest, "{name}");
    }
    let short = format!("store:{}", digest.short());
    assert_same(&bench.read(&short, "all").unwrap(), &artifact(&one));
    for (name, text) in [
        ("one:v9", "did you mean one:v1?"),
        ("twoo", "did you mean two:latest?"),
        ("ignored", "no image of this name"),
        ("ffffffff", "no image of this name"),
        ("App", "upper-case"),
    ] {
        assert_says(find_in_store(&bench.context.store, name), &[text]);
    }
}

#[test]
fn a_write_of_several_images_under_one_name_is_refused() {
    let bench = Bench::new();
    let images = [named(index(), &["a"]), named(index_with_others(), &["b"])];
    for place in [
        "store:x",
        "oci:out:v1",
        "oci-archive:out.tar:v1",
        "docker-archive:out.tar:x",
        "docker:x",
        "127.0.0.1:1/x",
    ] {
        assert_says(bench.write(place, &images), &["write 2 images", "all would be called"]);
    }
    assert_eq!(bench.listing(), [""; 0]);
}

#[test]
fn a_partial_index_is_refused_everywhere() {
    let bench = Bench::new();
    let Artifact::Index { document, mut children } = index() else { panic!("no index") };
    children.pop();
    let partial = named(Artifact::Index { document, children }, &["127.0.0.1:1/x"]);
    for place in [
        "store:x",
        "oci:out",
        "oci-archive:out.tar",
        "docker-archive:out.tar",
        "docker:",
        "127.0.0.1:1/x",
    ] {
        let written = bench.write(place, std::slice::from_ref(&partial));
        assert_says(written, &["its entry for linux/arm64 was not read"]);
    }
    assert_eq!(bench.listing(), [""; 0]);
}
