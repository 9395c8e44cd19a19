//! Registries: nothing is moved that need not be, and tags come last.

use gondola::error::ErrorKind;
use gondola::image::{Artifact, BlobLocation};
use gondola::oci::PlatformSet;
use gondola::progress::Outcome;
use gondola::transport::{fetch_blobs, push};

use super::bench::{
    Bench, assert_same, assert_says, broken, image, index, index_with_others, named, run,
};
use super::support::{
    Change, Fault, FaultServer, Logged, Quirks, Registry, Rule, need, program, run as succeed,
};

const SENT: Outcome = Outcome::Done;
const EXISTS: Outcome = Outcome::Skipped("exists");
const MOUNTED: Outcome = Outcome::Skipped("mounted");

/// How many blobs were downloaded.
fn downloads(registry: &Registry) -> usize {
    let is_download =
        |line: &&Logged| line.method == "GET" && line.path.contains("/blobs/") && line.status < 300;
    registry.log().iter().filter(is_download).count()
}

#[test]
fn an_artifact_is_the_same_after_a_way_through_a_registry() {
    let registry = need!(Registry::plain());
    for (name, original) in [
        ("index", index()),
        ("image", Artifact::Image(image("linux/arm/v7", "one"))),
        ("others", index_with_others()),
    ] {
        let (bench, other) = (Bench::new(), Bench::new());
        let place = registry.image(&format!("{name}:v1"));
        bench.write(&place, &[named(original.clone(), &["ignored"])]).unwrap();
        // A store of its own: nothing is known there.
        let found = other.read(&place, "all").unwrap();
        assert!(found.blobs().iter().skip(1).any(|blob| blob.remote().is_some()));
        other.write("store:x", &[named(found, &[])]).unwrap();
        assert_same(&other.read("store:x", "all").unwrap(), &original);
        other
            .write("oci-archive:x.tar", &[named(bench.read(&place, "all").unwrap(), &[])])
            .unwrap();
        assert_same(&other.read("oci-archive:x.tar", "all").unwrap(), &original);
    }
}

#[test]
fn a_push_of_what_is_there_asks_once_for_each_tag() {
    let registry = need!(Registry::plain());
    let bench = Bench::new();
    let images = [named(index(), &[&registry.image("app:v1"), &registry.image("app:v2")])];
    run(push(&images, &bench.context)).unwrap();
    assert_eq!(registry.uploads(), 5);
    let before = registry.log().len();
    run(push(&images, &Bench::new().context)).unwrap();
    let after: Vec<_> = registry.log().split_off(before);
    let asked: Vec<_> = after.iter().map(|line| (line.method.as_str(), line.status)).collect();
    assert_eq!(asked, [("HEAD", 200); 2], "{after:?}");
}

#[test]
fn a_tag_that_moves_sends_only_what_is_new() {
    let registry = need!(Registry::plain());
    let name = registry.image("app:v1");
    for (content, sent, there) in [("one", 3, 0), ("two", 2, 1), ("one", 0, 3)] {
        // Each run is a program of its own.
        let bench = Bench::new();
        let artifact = Artifact::Image(image("linux/amd64", content));
        run(push(&[named(artifact.clone(), &[&name])], &bench.context)).unwrap();
        // Beside the blobs: the look at the tag, and the manifest.
        assert_eq!(bench.events.take(&SENT), sent + 2, "{content}");
        assert_eq!(bench.events.take(&EXISTS), there, "{content}");
        assert_same(&pulled(&bench, &name), &artifact);
    }
}

/// Everything behind a name, brought into the store.
fn pulled(bench: &Bench, name: &str) -> Artifact {
    let mut artifact = bench.read(name, "all").unwrap();
    run(fetch_blobs(&mut artifact, &bench.context)).unwrap();
    artifact
}

#[test]
fn an_image_of_the_same_registry_is_mounted_unseen() {
    let registry = need!(Registry::plain());
    let (from, to) = (registry.image("base:v1"), registry.image("team/copy:v2"));
    Bench::new().write(&from, &[named(index(), &[])]).unwrap();
    let before = registry.uploads();
    let bench = Bench::new();
    let artifact = bench.read(&from, "all").unwrap();
    let fetched = downloads(&registry);
    bench.write(&to, &[named(artifact, &[])]).unwrap();
    assert_eq!(registry.uploads(), before);
    // The configs were read; the layers were not.
    assert_eq!((fetched, downloads(&registry)), (2, 2));
    // Layers are mounted. The configs, which are here anyway, are sent or mounted as the client likes.
    assert!(bench.events.take(&MOUNTED) >= 3);
    assert_same(&pulled(&Bench::new(), &to), &index());
}

#[test]
fn several_repositories_of_a_registry_get_one_upload() {
    let registry = need!(Registry::plain());
    let names = ["a:v1", "b:v1", "c/d:v1"].map(|name| registry.image(name));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    run(push(&[named(index(), &names)], &Bench::new().context)).unwrap();
    assert_eq!(registry.uploads(), 5);
    for name in names {
        assert_same(&pulled(&Bench::new(), name), &index());
    }
}

#[test]
fn a_copy_to_another_registry_moves_what_is_missing_once() {
    let (from, to) = (need!(Registry::plain()), need!(Registry::plain()));
    Bench::new().write(&from.image("app:v1"), &[named(index(), &[])]).unwrap();
    let bench = Bench::new();
    let artifact = bench.read(&from.image("app:v1"), "all").unwrap();
    let configs = downloads(&from);
    let names = [to.image("x:v1"), to.image("y:v1")];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    run(push(&[named(artifact.clone(), &names)], &bench.context)).unwrap();
    assert_eq!((downloads(&from) - configs, to.uploads()), (3, 5));
    assert_same(&pulled(&Bench::new(), &to.image("y:v1")), &index());
    // With everything there, a fresh program moves no blob at all.
    let fresh = Bench::new();
    let artifact = fresh.read(&from.image("app:v1"), "all").unwrap();
    let before = downloads(&from);
    run(push(&[named(artifact, &[&to.image("x:v2")])], &fresh.context)).unwrap();
    assert_eq!((downloads(&from), to.uploads()), (before, 5));
    assert_eq!(to.tags("x"), ["v1", "v2"]);
}

#[test]
fn a_push_that_fails_leaves_no_tag_anywhere() {
    let registry = need!(Registry::plain());
    let bench = Bench::new();
    let names = ["good:v1", "bad:v1"].map(|name| registry.image(name));
    let images = [named(index(), &[&names[0]]), named(broken("linux/amd64"), &[&names[1]])];
    let error = assert_says(run(push(&images, &bench.context)), &["push blob sha256:", "bad"]);
    assert_ne!(error.kind(), ErrorKind::Network);
    assert!(registry.tags("good").is_empty() && registry.tags("bad").is_empty());
    let nameless = run(push(&[named(index(), &[])], &bench.context));
    assert_says(nameless, &["push sha256:", "it has no name"]);
    let wrong = format!("{}@sha256:{}", registry.image("app:v1"), "0".repeat(64));
    let wrong = run(push(&[named(index(), &[&names[0], &wrong])], &bench.context));
    assert_says(wrong, &["the image's digest is"]);
    assert!(registry.tags("good").is_empty());
}

#[test]
fn a_name_with_a_digest_is_pushed_as_what_it_says() {
    let registry = need!(Registry::plain());
    let digest = index().digest().clone();
    let (both, bare) = (registry.image("both:v1"), registry.image("bare"));
    let names = [format!("{both}@{digest}"), format!("{bare}@{digest}")];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    run(push(&[named(index(), &names)], &Bench::new().context)).unwrap();
    assert_eq!(registry.tags("both"), ["v1"]);
    assert!(registry.tags("bare").is_empty());
    for name in [both, format!("{bare}@{digest}")] {
        assert_same(&pulled(&Bench::new(), &name), &index());
    }
}

#[test]
fn one_platform_costs_no_request_for_the_others() {
    let registry = need!(Registry::plain());
    let name = registry.image("app:v1");
    Bench::new().write(&name, &[named(index_with_others(), &[])]).unwrap();
    let before = registry.log().len();
    let found = Bench::new().read(&name, "linux/amd64").unwrap();
    assert!(found.as_image().is_some());
    let asked = registry.log().split_off(before);
    // The tag, the index, the image, the chart that names no platform, the config.
    assert_eq!(asked.len(), 5, "{asked:?}");
    let error = assert_says(
        Bench::new().read(&name, "linux/arm64"),
        &[&name, "for linux/arm64", "it is for linux/amd64", "hint"],
    );
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn documents_are_fetched_once_and_pinned_ones_need_no_network_again() {
    let registry = need!(Registry::plain());
    let bench = Bench::new();
    Bench::new().write(&registry.image("app:v1"), &[named(index(), &[])]).unwrap();
    let first = bench.read(&registry.image("app:v1"), "all").unwrap();
    let before = registry.log().len();
    let again = bench.read(&registry.image("app:v1"), "all").unwrap();
    assert_eq!(registry.log().len(), before + 1, "one look at the tag");
    let pinned = format!("{}@{}", registry.image("app"), first.digest());
    drop(registry);
    let offline = bench.read(&pinned, "linux/arm64,linux/amd64").unwrap();
    assert_eq!(offline.images().len(), 2);
    assert_eq!(again.document_bytes(), first.document_bytes());
}

#[test]
fn each_digest_is_brought_once_and_none_that_is_here() {
    let registry = need!(Registry::plain());
    let name = registry.image("app:v1");
    Bench::new().write(&name, &[named(index(), &[])]).unwrap();
    let bench = Bench::new();
    let mut artifact = bench.read(&name, "all").unwrap();
    let before = downloads(&registry);
    run(fetch_blobs(&mut artifact, &bench.context)).unwrap();
    // Two images share one of their two layers.
    assert_eq!((bench.events.take(&SENT), bench.events.take(&EXISTS)), (3, 0));
    assert!(artifact.blobs().iter().all(|blob| blob.remote().is_none()));
    let mut again = bench.read(&name, "all").unwrap();
    run(fetch_blobs(&mut again, &bench.context)).unwrap();
    assert_eq!((bench.events.take(&SENT), bench.events.take(&EXISTS)), (0, 3));
    assert_eq!(downloads(&registry) - before, 3);
    assert_same(&again, &index());
}

#[test]
fn a_layer_that_the_registry_lost_fails_the_pull_and_names_nothing() {
    let registry = need!(Registry::plain());
    let name = registry.image("app:v1");
    Bench::new().write(&name, &[named(index(), &[])]).unwrap();
    let artifact = index();
    let layer = &artifact.images()[1].layers[0].descriptor.digest;
    fs_err::remove_file(registry.blob_file(layer)).unwrap();
    for place in ["store:x", "oci:out", "docker-archive:out.tar:x"] {
        let bench = Bench::new();
        let found = bench.read(&name, "all").unwrap();
        let written = bench.write(place, &[named(found, &["x"])]);
        assert_says(written, &["pull blob", layer.as_str(), "404"]);
        assert_eq!(bench.listing(), [""; 0], "{place}");
        assert!(bench.context.store.names().unwrap().is_empty());
    }
}

#[test]
fn a_blob_that_turned_bad_in_the_store_is_taken_away() {
    let registry = need!(Registry::plain());
    let bench = Bench::new();
    bench.write("store:x", &[named(index(), &[])]).unwrap();
    let artifact = bench.read("store:x", "all").unwrap();
    let layer = artifact.images()[0].layers[0].descriptor.clone();
    let BlobLocation::File(path) = &artifact.images()[0].layers[0].source else {
        panic!("no file")
    };
    fs_err::write(path, vec![0; usize::try_from(layer.size).unwrap()]).unwrap();
    let pushed = run(push(&[named(artifact, &[&registry.image("x")])], &bench.context));
    let error =
        assert_says(pushed, &["the store's copy of", layer.digest.as_str(), "run the same again"]);
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(bench.context.store.has(&layer.digest).unwrap(), None);
    assert!(registry.tags("x").is_empty());
}

#[test]
fn skopeo_reads_what_was_pushed_and_we_what_it_pushes() {
    let (registry, skopeo) = (need!(Registry::plain()), need!(program("skopeo")));
    let bench = Bench::new();
    let (ours, theirs) = (registry.image("ours:v1"), registry.image("theirs:v1"));
    bench.write(&ours, &[named(index(), &[])]).unwrap();
    let [from, to] = [&ours, &theirs].map(|name| format!("docker://{name}"));
    let raw = succeed(&skopeo, &["inspect", "--raw", "--tls-verify=false", &from]);
    assert_eq!(raw.as_bytes(), &index().document_bytes()[..]);
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    let docker = [
        ["copy", "-q", "--format", "v2s2", "--override-arch", "amd64"].as_slice(),
        &insecure,
        &[&from, &to],
    ];
    succeed(&skopeo, &docker.concat());
    // Docker's own types come and go unchanged.
    let found = pulled(&bench, &theirs);
    let image = found.as_image().unwrap();
    assert!(image.manifest.media_type().is_docker() && image.config.media_type().is_docker());
    bench.write("oci-archive:x.tar", &[named(found.clone(), &["x"])]).unwrap();
    assert_same(&bench.read("oci-archive:x.tar", "all").unwrap(), &found);
    let set: PlatformSet = "linux/amd64,linux/arm64".parse().unwrap();
    let place = bench.place(&theirs);
    let read = run(gondola::transport::read(&place, &set, &bench.context));
    assert_says(read, &["for linux/arm64", "it is for linux/amd64"]);
}

#[test]
fn what_a_head_says_beside_the_digest_does_not_count() {
    let without = |name| Change::Without(name);
    let says = |name, text: &str| Change::Header(name, text.to_owned());
    for change in [
        says("Content-Length", "0"),
        says("Content-Length", "578000"),
        says("Transfer-Encoding", "chunked"),
        without("Docker-Content-Digest"),
        without("Content-Type"),
        says("Content-Type", "application/octet-stream"),
        says("Content-Type", "application/vnd.docker.distribution.manifest.list.v2+json"),
        says("Content-Type", "application/vnd.oci.image.manifest.v1+json"),
    ] {
        for original in [index(), Artifact::Image(image("linux/amd64", "one"))] {
            let server = FaultServer::start(Quirks::default());
            let place = server.image("app:v1");
            Bench::new().write(&place, &[named(original.clone(), &[])]).unwrap();
            let fault = Fault::Change(vec![change.clone()]);
            server.inject(Rule::new("HEAD", "/manifests/", fault).always());
            server.forget();
            let bench = Bench::new();
            let found = bench.read(&place, "all").unwrap_or_else(|e| panic!("{change:?}: {e}"));
            assert_eq!(found.documents(), original.documents(), "{change:?}");
            // Each document is fetched once.
            let fetched = server.seen("GET", "/manifests/").len();
            assert_eq!(fetched, original.documents().len(), "{change:?}");
            let again = bench.read(&place, "all").unwrap_or_else(|e| panic!("{change:?}: {e}"));
            assert_eq!(again.documents(), original.documents(), "{change:?}");
        }
    }
}
