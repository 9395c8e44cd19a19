//! Servers that are silent, busy or gone: who is waited for is told, and not for ever.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gondola::progress::{Event, Progress, Reporter};
use gondola::registry::{Client, MirrorRule, Mirrors, Options, Timeouts};

use super::support::client::{impatient, layer, manifest_of, noise, pull, reference, repository};
use super::support::{Answer, Fault, FaultServer, Quirks, Rule};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What people are told.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Progress for Told {
    fn event(&self, event: Event) {
        if let Event::Note(text) | Event::Warning(text) = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

/// Options with which waits are told of at once.
fn watched() -> (Arc<Told>, Options) {
    let told = Arc::new(Told::default());
    let timeouts = Timeouts {
        patience: Duration::from_millis(50),
        mirror: Duration::from_millis(300),
        ..impatient().timeouts
    };
    let reporter = Reporter::new(told.clone());
    (told, Options { timeouts, reporter, ..impatient() })
}

#[tokio::test]
async fn a_server_that_never_answers_is_named_and_asked_no_more_than_twice() {
    let server = FaultServer::start(Quirks::default());
    server.put_manifest("app", "v1", MANIFEST, manifest_of(b"{}"));
    for method in ["HEAD", "GET"] {
        server.inject(Rule::new(method, "/manifests/", Fault::Stall).always());
    }
    let (told, options) = watched();
    let client = Client::new(options).unwrap();
    let error = client.resolve(&reference(&server.host(), "app:v1")).await.unwrap_err().to_string();
    assert!(error.contains("did not answer HEAD /v2/app/manifests/v1 in time"), "{error}");
    let lines = told.lines();
    let line =
        format!("waiting for {}: no answer to HEAD /v2/app/manifests/v1 for 1 s", server.host());
    assert_eq!(lines, [line]);
    assert_eq!(server.seen("HEAD", "/manifests/").len(), 2);
}

#[tokio::test]
async fn a_body_that_stops_is_told_of_too_and_a_quick_answer_is_not() {
    let server = FaultServer::start(Quirks::default());
    let bytes = noise(4000);
    server.put_blob("app", bytes.clone());
    let (told, options) = watched();
    let client = Client::new(options).unwrap();
    let from = repository(&server.host(), "app");
    pull(&client, &from, &layer(&bytes)).await.unwrap();
    assert_eq!(told.lines(), [""; 0]);
    server.inject(Rule::new("GET", "/blobs/", Fault::Drip(2000, Duration::from_millis(300))));
    pull(&client, &from, &layer(&bytes)).await.unwrap();
    let lines = told.lines();
    assert!(lines.len() == 1 && lines[0].starts_with("waiting for "), "{lines:?}");
}

#[tokio::test]
async fn a_pause_that_a_server_asks_for_is_told_and_a_long_one_is_not_made() {
    for (after, answered, said) in [("1", true, true), ("3600", false, false)] {
        let server = FaultServer::start(Quirks::default());
        server.put_manifest("app", "v1", MANIFEST, manifest_of(b"{}"));
        let busy = Answer::status(429)
            .header("Retry-After", after)
            .header("RateLimit-Limit", "100;w=21600")
            .header("RateLimit-Remaining", "0;w=21600");
        server.inject(Rule::new("GET", "/manifests/", Fault::Answer(busy)).times(1));
        let (told, options) = watched();
        let client = Client::new(options).unwrap();
        let outcome = client.manifest(&reference(&server.host(), "app:v1")).await;
        assert_eq!(outcome.is_ok(), answered, "{after}");
        let pause = told.lines().iter().any(|line| line.contains("asks for a pause, 1 s"));
        assert_eq!(pause, said, "{:?}", told.lines());
        if let Err(error) = outcome {
            let error = error.to_string();
            assert!(error.contains("0 of 100 pulls are left, counted over 6h"), "{error}");
            assert!(error.contains("try again in 1h"), "{error}");
        }
    }
}

/// Rules by which a mirror is asked before a server.
fn mirrored(server: &FaultServer, mirror: &str) -> Mirrors {
    let rule = MirrorRule {
        prefix: server.host(),
        location: server.host(),
        mirrors: vec![mirror.to_owned()],
    };
    Mirrors::listed([rule]).unwrap()
}

#[tokio::test]
async fn a_mirror_that_does_not_answer_is_asked_once_and_told_of_once() {
    let server = FaultServer::start(Quirks::default());
    server.put_manifest("app", "v1", MANIFEST, manifest_of(b"{}"));
    let blobs = [noise(900), noise(1000)];
    for bytes in &blobs {
        server.put_blob("app", bytes.clone());
    }
    let silent = FaultServer::start(Quirks::default());
    for method in ["HEAD", "GET"] {
        silent.inject(Rule::new(method, "/v2/", Fault::Stall).always());
    }
    // Nobody listens on port 1.
    for (mirror, asked) in [(silent.host(), true), ("127.0.0.1:1".to_owned(), false)] {
        let (told, options) = watched();
        let mirrors = mirrored(&server, &mirror);
        let client = Client::new(Options { mirrors, ..options }).unwrap();
        client.manifest(&reference(&server.host(), "app:v1")).await.unwrap();
        client.resolve(&reference(&server.host(), "app:v1")).await.unwrap();
        for bytes in &blobs {
            pull(&client, &repository(&server.host(), "app"), &layer(bytes)).await.unwrap();
        }
        let warned = told.lines();
        let says = format!("the mirror {mirror} is not asked again in this run: ");
        assert_eq!(warned.iter().filter(|line| line.starts_with(&says)).count(), 1, "{warned:?}");
        if asked {
            assert_eq!(silent.seen("GET", "/v2/").len() + silent.seen("HEAD", "/v2/").len(), 1);
        }
    }
}

#[tokio::test]
async fn a_mirror_that_lacks_something_is_asked_again_and_nothing_is_said() {
    let server = FaultServer::start(Quirks::default());
    server.put_manifest("app", "v1", MANIFEST, manifest_of(b"{}"));
    let mirror = FaultServer::start(Quirks::default());
    let (told, options) = watched();
    let mirrors = mirrored(&server, &mirror.host());
    let client = Client::new(Options { mirrors, ..options }).unwrap();
    for _ in 0..2 {
        client.manifest(&reference(&server.host(), "app:v1")).await.unwrap();
    }
    assert_eq!(mirror.seen("GET", "/manifests/").len(), 2);
    assert_eq!(told.lines(), [""; 0]);
}
