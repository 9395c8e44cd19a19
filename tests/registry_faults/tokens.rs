//! Credentials and tokens, as registries ask for them.

use std::time::Duration;

use futures_util::future::join_all;
use gondola::error::ErrorKind;
use gondola::oci::{Digest, MediaType};
use gondola::registry::{Access, Client, Credentials, Login, Options, Pushed, Secret};

use crate::support::client::{
    client, client_of_user, client_with_password, impatient, layer, manifest_of, noise, pull, push,
    push_or_mount, reference, repository,
};
use crate::support::{
    Answer, Auth, Fault, FaultServer, PASSWORD, Quirks, Rule, Scopes, Seen, TokenAuth,
};

/// A registry with tokens that has one blob and one tag in `app`.
fn registry(tokens: TokenAuth) -> FaultServer {
    let server = FaultServer::start(Quirks { auth: Auth::Token(tokens), ..Quirks::default() });
    server.put_blob("app", noise(1000));
    server.put_manifest("app", "v1", MediaType::OCI_MANIFEST.as_str(), manifest_of(b"{}"));
    server
}

/// Pulls the blob as the user.
async fn user_pulls(server: &FaultServer) -> gondola::error::Result<Digest> {
    let client = client_of_user(&server.host());
    pull(&client, &repository(&server.host(), "app"), &layer(&noise(1000))).await
}

fn token_requests(server: &FaultServer) -> Vec<Seen> {
    server.requests().into_iter().filter(|it| it.path == "/token").collect()
}

#[tokio::test]
async fn one_token_serves_many_requests() {
    let server = registry(TokenAuth::default());
    let blobs: Vec<_> = (1..9).map(|n| noise(n * 100)).collect();
    for bytes in &blobs {
        server.put_blob("app", bytes.clone());
    }
    let client = client_of_user(&server.host());
    let from = repository(&server.host(), "app");
    let described: Vec<_> = blobs.iter().map(|bytes| layer(bytes)).collect();
    for pulled in join_all(described.iter().map(|blob| pull(&client, &from, blob))).await {
        pulled.unwrap();
    }
    assert_eq!(token_requests(&server).len(), 1);
    assert_eq!(token_requests(&server)[0].query["scope"], "repository:app:pull");
    assert_eq!(token_requests(&server)[0].query["service"], "test");
}

#[tokio::test]
async fn anybody_pulls_where_anybody_may() {
    let server = registry(TokenAuth { anonymous_pull: true, ..TokenAuth::default() });
    client().manifest(&reference(&server.host(), "app:v1")).await.unwrap();
    assert_eq!(token_requests(&server)[0].header("authorization"), None);
    let error = push(&client(), &repository(&server.host(), "app"), &noise(5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("gondola login"), "{error}");
}

#[tokio::test]
async fn the_bearer_challenge_is_found_among_others() {
    let challenges = [
        TokenAuth { challenges_before: "Negotiate, ".to_owned(), ..TokenAuth::default() },
        TokenAuth {
            challenges_before: "Digest realm=\"a, b\", nonce=\"c=\\\"d\", ".to_owned(),
            ..TokenAuth::default()
        },
        TokenAuth { other_challenges: vec!["Negotiate".to_owned()], ..TokenAuth::default() },
        TokenAuth {
            other_challenges: vec!["NTLM".to_owned(), "Custom a=b,c=\"d\"".to_owned()],
            ..TokenAuth::default()
        },
        TokenAuth { realm: Some("/token".to_owned()), ..TokenAuth::default() },
        TokenAuth { field: "access_token", ..TokenAuth::default() },
    ];
    for challenge in challenges {
        let server = registry(challenge.clone());
        let pulled = user_pulls(&server).await;
        assert_eq!(pulled.unwrap(), Digest::of(&noise(1000)), "{challenge:?}");
    }
}

#[tokio::test]
async fn a_realm_that_is_no_place_to_ask_is_refused() {
    for realm in ["null://nexus/token", "file:///etc/passwd", "http://169.254.169.254/token"] {
        let server = registry(TokenAuth { realm: Some(realm.to_owned()), ..TokenAuth::default() });
        let error = user_pulls(&server).await.expect_err(realm);
        assert!(!error.to_string().contains(PASSWORD), "{error}");
        assert_eq!(server.seen("GET", "/blobs/").len(), 1, "{realm}: {error}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_denied_at_once_and_never_shown() {
    for auth in [Auth::Basic, Auth::Token(TokenAuth::default())] {
        let server = FaultServer::start(Quirks { auth, ..Quirks::default() });
        let client = client_with_password(&server.host(), "hunter2-and-more");
        let wanted = reference(&server.host(), "app:v1");
        let error = client.manifest(&wanted).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        for shown in [format!("{error}"), format!("{error:?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert!(server.requests().len() <= 4, "{:?}", server.story());
    }
}

#[tokio::test]
async fn tokens_that_end_are_renewed() {
    let server = registry(TokenAuth::default());
    let client = client_of_user(&server.host());
    let from = repository(&server.host(), "app");
    for _ in 0..3 {
        pull(&client, &from, &layer(&noise(1000))).await.unwrap();
        server.expire_tokens();
    }
    assert_eq!(token_requests(&server).len(), 3);
}

#[tokio::test]
async fn a_token_for_one_request_is_renewed_for_each() {
    let server = registry(TokenAuth { uses: Some(1), ..TokenAuth::default() });
    let client = client_of_user(&server.host());
    push(&client, &repository(&server.host(), "app"), &noise(5000)).await.unwrap();
    assert_eq!(server.blob("app", &Digest::of(&noise(5000))), Some(noise(5000)));
}

#[tokio::test]
async fn an_expired_token_is_renewed_also_where_400_or_403_says_so() {
    for status in [401, 400, 403] {
        for method in ["HEAD", "POST", "PUT"] {
            if (method, status) == ("HEAD", 403) {
                continue; // Without a body this is what "you may not know" looks like.
            }
            let server = registry(TokenAuth::default());
            server.inject(Rule::new(method, "/v2/app/blobs/", Fault::Expire(status)));
            let client = client_of_user(&server.host());
            let to = repository(&server.host(), "app");
            client.warm_up(&to, Access::Push).await.unwrap();
            let pushed = push(&client, &to, &noise(5000)).await;
            let pushed = pushed.unwrap_or_else(|error| panic!("{method} {status}: {error}"));
            assert_eq!(pushed, Pushed::Uploaded, "{method} {status}");
            assert_eq!(server.blob("app", &Digest::of(&noise(5000))), Some(noise(5000)));
        }
    }
}

#[tokio::test]
async fn a_large_body_is_sent_again_when_the_token_ended_meanwhile() {
    let server = registry(TokenAuth { checks_after_body: true, ..TokenAuth::default() });
    server.inject(Rule::new("PUT", "/blobs/uploads/", Fault::Expire(401)));
    let bytes = noise(6 << 20);
    let client = client_of_user(&server.host());
    push(&client, &repository(&server.host(), "app"), &bytes).await.unwrap();
    assert_eq!(server.blob("app", &Digest::of(&bytes)).map(|it| it.len()), Some(6 << 20));
}

#[tokio::test]
async fn endless_challenges_end() {
    let server = registry(TokenAuth { uses: Some(0), ..TokenAuth::default() });
    let error = user_pulls(&server).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(server.requests().len() <= 6, "{}", server.requests().len());
}

#[tokio::test]
async fn a_400_that_is_not_about_the_token_is_final() {
    let server = registry(TokenAuth::default());
    let invalid = Answer::error(400, "NAME_INVALID", "invalid repository name");
    server.inject(Rule::new("GET", "/blobs/", Fault::Answer(invalid)).after(1).always());
    let error = user_pulls(&server).await.unwrap_err();
    assert!(error.to_string().contains("NAME_INVALID"), "{error}");
    assert_eq!(token_requests(&server).len(), 1);
}

#[tokio::test]
async fn a_registry_that_honours_one_of_several_scopes_is_pushed_to() {
    let server = registry(TokenAuth { honours: Scopes::First, ..TokenAuth::default() });
    let bytes = noise(2000);
    server.put_blob("team/base", bytes.clone());
    let from = repository(&server.host(), "team/base");
    let to = repository(&server.host(), "app");
    let client = client_of_user(&server.host());
    push_or_mount(&client, &to, &bytes, &[from]).await.unwrap();
    assert_eq!(server.blob("app", &Digest::of(&bytes)), Some(bytes));
}

#[tokio::test]
async fn a_mount_source_that_may_not_be_read_does_not_fail_the_push() {
    let unreadable = vec!["team/secret".to_owned()];
    let server = registry(TokenAuth { unreadable, ..TokenAuth::default() });
    let from = repository(&server.host(), "team/secret");
    let to = repository(&server.host(), "app");
    let client = client_of_user(&server.host());
    let pushed = push_or_mount(&client, &to, &noise(2000), &[from]).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded);
}

#[tokio::test]
async fn a_mount_carries_a_token_for_both_repositories() {
    let server = registry(TokenAuth::default());
    let bytes = noise(2000);
    server.put_blob("team/base", bytes.clone());
    let from = repository(&server.host(), "team/base");
    let to = repository(&server.host(), "app");
    let client = client_of_user(&server.host());
    let pushed = push_or_mount(&client, &to, &bytes, &[from]).await.unwrap();
    assert_eq!(pushed, Pushed::Mounted);
    let scopes: Vec<_> = token_requests(&server).into_iter().flat_map(|it| it.scopes).collect();
    assert!(scopes.contains(&"repository:team/base:pull".to_owned()), "{scopes:?}");
}

#[tokio::test]
async fn an_identity_token_is_traded_by_post_and_by_get_where_post_is_not_known() {
    for post_status in [None, Some(404), Some(405)] {
        let server = registry(TokenAuth { post_status, ..TokenAuth::default() });
        let login = Login::IdentityToken(Secret::new("an identity token"));
        let credentials = Credentials::anonymous().with(&server.host(), login);
        let client = Client::new(Options { credentials, ..impatient() }).unwrap();
        let from = repository(&server.host(), "app");
        let pulled = pull(&client, &from, &layer(&noise(1000))).await;
        let methods: Vec<_> = token_requests(&server).into_iter().map(|it| it.method).collect();
        if post_status.is_none() {
            assert_eq!(methods, ["POST"]);
            assert_eq!(pulled.unwrap(), Digest::of(&noise(1000)));
        } else {
            assert_eq!(methods[..2], ["POST", "GET"], "{post_status:?}: {pulled:?}");
        }
    }
}

#[tokio::test]
async fn a_token_server_that_is_busy_is_asked_again() {
    let server = registry(TokenAuth::default());
    let busy = Answer::status(503).header("Retry-After", "0");
    server.inject(Rule::new("GET", "/token", Fault::Answer(busy)).times(2));
    user_pulls(&server).await.unwrap();
}

#[tokio::test]
async fn a_token_server_that_makes_no_sense_is_named() {
    let answers = [
        Answer::html(200),
        Answer::status(200).body("{}"),
        Answer::status(200).body(format!("{{\"token\":\"{}\"}}", "x".repeat(100_000))),
        Answer::status(200).body("{\"token\":\"line\\nbreak\"}"),
        Answer::error(400, "UNSUPPORTED", "service not known"),
    ];
    for answer in answers {
        let server = registry(TokenAuth::default());
        server.inject(Rule::new("GET", "/token", Fault::Answer(answer.clone())).always());
        let error = user_pulls(&server).await.unwrap_err().to_string();
        assert!(error.contains("token") && error.contains(&server.host()), "{answer:?}: {error}");
        assert!(!error.contains("xxxx"), "{error}");
    }
}

#[tokio::test]
async fn a_token_server_that_stalls_is_left() {
    let server = registry(TokenAuth::default());
    server.inject(Rule::new("GET", "/token", Fault::Stall).always());
    let mut options = impatient();
    options.timeouts.answer = Duration::from_millis(100);
    options.retry.attempts = 2;
    let client = Client::new(options).unwrap();
    let error = client.manifest(&reference(&server.host(), "app:v1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
}

/// A registry that hides everything from strangers and challenges at `/v2/` alone.
fn hidden(auth: Auth, status: u16) -> FaultServer {
    let server = FaultServer::start(Quirks { auth, hides_with: Some(status), ..Quirks::default() });
    server.put_blob("app", noise(1000));
    server.put_blob("app", "{}");
    server.put_manifest("app", "v1", MediaType::OCI_MANIFEST.as_str(), manifest_of(b"{}"));
    server
}

#[tokio::test]
async fn a_registry_that_challenges_at_its_root_alone_is_asked_there_once() {
    for auth in [Auth::Basic, Auth::Token(TokenAuth::default())] {
        for status in [401, 403, 404] {
            let case = format!("{auth:?} {status}");
            let server = hidden(auth.clone(), status);
            let (host, app) = (server.host(), repository(&server.host(), "app"));
            let new = || client_of_user(&host);
            new().manifest(&reference(&host, "app:v1")).await.expect(&case);
            new().resolve(&reference(&host, "app:v1")).await.expect(&case);
            assert!(new().tag_digest(&reference(&host, "app:v1")).await.unwrap().is_some());
            assert_eq!(new().tags(&app).await.expect(&case), ["v1"]);
            assert!(new().has_blob(&app, &Digest::of(&noise(1000))).await.unwrap(), "{case}");
            pull(&new(), &app, &layer(&noise(1000))).await.expect(&case);
            push(&new(), &app, &noise(2000)).await.expect(&case);
            let subject = Digest::of(&manifest_of(b"{}"));
            new().referrers(&app, &subject, None).await.expect(&case);
            let (kind, bytes) = (MediaType::OCI_MANIFEST, manifest_of(b"{}"));
            new().push_manifest(&app, "v2", &kind, bytes.clone()).await.expect(&case);
            // Many requests of one client, and one look at the root.
            server.forget();
            let client = new();
            let blobs: Vec<_> = (0..4).map(|_| layer(&noise(1000))).collect();
            for pulled in join_all(blobs.iter().map(|blob| pull(&client, &app, blob))).await {
                pulled.expect(&case);
            }
            client.tags(&app).await.expect(&case);
            let roots = server.requests().iter().filter(|it| it.path == "/v2/").count();
            assert_eq!(roots, 1, "{case}");
        }
    }
}

#[tokio::test]
async fn who_has_no_credentials_does_not_ask_at_the_root() {
    let server = hidden(Auth::Basic, 404);
    let error = client().manifest(&reference(&server.host(), "app:v1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(server.requests().iter().all(|it| it.path != "/v2/"), "{:?}", server.requests());
}

#[tokio::test]
async fn what_an_open_registry_does_not_have_is_missing_also_for_who_has_credentials() {
    let server = FaultServer::start(Quirks::default());
    let client = client_of_user(&server.host());
    for _ in 0..3 {
        let error = client.manifest(&reference(&server.host(), "app:v1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    assert_eq!(server.requests().iter().filter(|it| it.path == "/v2/").count(), 1);
    assert!(server.requests().iter().all(|it| it.header("authorization").is_none()));
}

#[tokio::test]
async fn logging_in_to_a_registry_that_hides_everything_tries_the_credentials() {
    use gondola::registry::login;
    for status in [401, 403, 404] {
        let server = hidden(Auth::Basic, status);
        let verify = async |password: &str| {
            let login = Login::new(crate::support::USER.to_owned(), Secret::new(password));
            login::verify(&impatient(), &server.host(), &login).await
        };
        verify(PASSWORD).await.unwrap();
        assert_eq!(verify("wrong").await.unwrap_err().kind(), ErrorKind::Denied);
    }
}
