//! `RUN --mount`: what its keys mean, and which are refused.

use super::{errors, run};
use crate::dockerfile::mount::{CacheMount, Mount, MountKind, SecretMount, Sharing};

fn mount(text: &str) -> Mount {
    let run = run(&format!("RUN --mount={text} true"));
    run.mounts[0].resolve(&mut |text| Ok(text.to_owned())).unwrap()
}

#[test]
fn mounts_have_their_types_keys_and_defaults() {
    let target = |path: &str| Some(path.to_owned());
    let bind = mount("target=/src,from=build,src=/x,rw");
    assert_eq!(bind.kind, MountKind::Bind { from: target("build"), source: target("/x") });
    assert!(!bind.read_only);
    assert_eq!(mount("type=bind").target.as_deref(), Some("."));
    assert!(mount("target=/src").read_only);
    assert!(mount("target=/src,rw=false").read_only);
    assert_eq!(
        mount("type=tmpfs,target=/t,size=1.5g").kind,
        MountKind::Tmpfs { size: Some(3 << 29) }
    );
    assert_eq!(
        mount("type=tmpfs,target=/t,size=64MiB").kind,
        MountKind::Tmpfs { size: Some(1 << 26) }
    );
    let cache = mount("type=cache,target=/root//.cache/../go/,sharing=locked,uid=7,mode=0750,ro");
    let MountKind::Cache(CacheMount { id, sharing, access, .. }) = cache.kind else { panic!() };
    assert_eq!((id.as_str(), sharing), ("/root/go", Sharing::Locked));
    assert_eq!((access.mode, access.uid, access.gid), (Some(0o750), Some(7), None));
    assert!(cache.read_only);
    let MountKind::Ssh { id, required, .. } = mount("type=ssh,required").kind else { panic!() };
    assert_eq!((id.as_str(), required), ("default", true));
}

#[test]
fn secrets_are_files_variables_or_both() {
    let cases = [
        ("id=npm", "npm", Some("/run/secrets/npm"), None),
        ("source=a/b", "a/b", Some("/run/secrets/b"), None),
        ("target=/etc/netrc", "netrc", Some("/etc/netrc"), None),
        ("id=npm,env=TOKEN", "npm", None, Some("TOKEN")),
        ("id=npm,env=TOKEN,target=/t", "npm", Some("/t"), Some("TOKEN")),
    ];
    for (text, expected_id, expected_file, expected_variable) in cases {
        let MountKind::Secret(secret) = mount(&format!("type=secret,{text}")).kind else {
            panic!()
        };
        let SecretMount { id, file, variable, required, .. } = secret;
        assert_eq!(id, expected_id, "{text}");
        assert_eq!(file.as_deref(), expected_file, "{text}");
        assert_eq!(variable.as_deref(), expected_variable, "{text}");
        assert!(!required);
    }
}

#[test]
fn values_of_mounts_are_expanded_later() {
    let run = run("RUN --mount=type=cache,id=$ID,target=$HOME/.cache,uid=$UID true");
    let resolved = run.mounts[0].resolve(&mut |text| {
        Ok(text.replace("$ID", "x").replace("$HOME", "/h").replace("$UID", "5"))
    });
    let resolved = resolved.unwrap();
    assert_eq!(resolved.target.as_deref(), Some("/h/.cache"));
    let MountKind::Cache(cache) = resolved.kind else { panic!() };
    assert_eq!((cache.id.as_str(), cache.access.uid), ("x", Some(5)));
    assert!(run.mounts[0].resolve(&mut |_| Ok("x".to_owned())).is_err());
}

#[test]
fn wrong_mounts_are_refused() {
    let cases = [
        ("type=bnid,target=/x", "there is no mount of type bnid", "did you mean bind?"),
        ("targt=/x", "a mount has no key targt", "did you mean target?"),
        ("target", "the mount's target has no value", ""),
        ("type=secret", "a secret needs an id or a target", "add id=name"),
        ("type=secret,id=a,src=b", "a secret has either an id or a source", ""),
        ("type=secret,id=a,from=b", "a mount of type secret has no key from", ""),
        ("type=cache,target=/x,size=1", "a mount of type cache has no key size", ""),
        ("target=/x,mode=755", "a mount of type bind has no key mode", ""),
        ("type=cache,target=/x,mode=9", "\"9\" is no value for the mount's mode", ""),
        (
            "type=cache,target=/x,sharing=lock",
            "a cache cannot be shared as \"lock\"",
            "did you mean locked?",
        ),
        ("type=cache,target=/x,ro=maybe", "\"maybe\" is no value for the mount's ro", ""),
        ("type=tmpfs,target=/x,size=big", "\"big\" is no value for the mount's size", ""),
        ("target=/x,from=$y", "from takes no variables", "this mount's from has one"),
    ];
    for (text, message, label) in cases {
        let found = errors(&format!("FROM a\nRUN --mount={text} true"));
        assert_eq!(found, [format!("2:13: {message}; {label}")], "{text}");
    }
}
