//! Flags of kaniko that cannot be together, or come to nothing, as gondola's own words have it.

use super::tests::{read, refused};
use super::*;
use crate::cli::dialect::tests::{Typed, session, typed};

#[test]
fn options_of_git_beside_another_context_come_to_nothing_and_a_word_says_so() {
    let error = refused(&["--no-push", "-c", ".", "--git", "foo=secret"]);
    assert!(error.contains("--git foo=…: ") && !error.contains("secret"), "{error}");
    for (context, notes) in [(".", 1), ("tar://a.tar", 1), ("git://x.test/a", 0)] {
        let build = read(&["--no-push", "-c", context, "--git=branch=x"]);
        assert_eq!(build.notes.len(), notes, "{context}: {:?}", build.notes);
        let said = |note: &String| note.starts_with("--git is accepted and has no effect: ");
        assert!(build.notes.iter().all(said), "{:?}", build.notes);
    }
}

#[test]
fn flags_that_exclude_each_other_are_refused() {
    let expected = "cannot use --cache-scope with --no-shared-caches: no caches are shared then; hint: \
                    leave one of them out";
    assert_eq!(refused(&["--no-push", "--cache-scope=x", "--no-shared-caches"]), expected);
    read(&["--no-push", "--cache-scope=", "--no-shared-caches"]);
    read(&["--no-push", "--cache-scope=x", "--no-shared-caches=false"]);
}

#[test]
fn a_push_without_a_network_is_refused_before_anything_is_built() {
    let mut session = session(Environment::with(&[]));
    session.global.offline = true;
    let said = |words: &[&str]| {
        let Typed::Kaniko(args) = typed("kaniko", words).unwrap() else {
            unreachable!("asked for")
        };
        let error = match words {
            ["push", ..] => super::push::read(&session, &args).err(),
            _ => super::read(&session, &args).err(),
        };
        error.map(|error| (error.kind(), error.to_string()))
    };
    for words in [&["-d", "r.test/x"][..], &["push", "a.tar", "-d", "r.test/x"]] {
        let (kind, text) = said(words).unwrap();
        assert_eq!(kind, ErrorKind::Usage, "{text}");
        assert!(text.starts_with("cannot use --destination with --offline: "), "{text}");
    }
    assert_eq!(said(&["-d", "r.test/x", "--no-push"]), None);
}
