//! Root of CRI-O's and OpenShift's pods: without the right to change the root directory, to make devices
//! and to map root's id.

use std::os::unix::fs::PermissionsExt as _;

use super::pod::{Pod, layers};
use super::support::{Busybox, Need, Registry, need};

/// What CRI-O leaves to a container's root.
const CRI_O: [&str; 10] = [
    "--cap-drop=ALL",
    "--cap-add=CHOWN",
    "--cap-add=DAC_OVERRIDE",
    "--cap-add=FSETID",
    "--cap-add=FOWNER",
    "--cap-add=SETGID",
    "--cap-add=SETUID",
    "--cap-add=SETPCAP",
    "--cap-add=NET_BIND_SERVICE",
    "--cap-add=KILL",
];

/// CRI-O's own profile of system calls allows user namespaces, as this does.
const WITH_NAMESPACES: &str = "--security-opt=seccomp=unconfined";

/// The profile that podman and CRI-O share.
const OF_CONTAINERS: &str = "/usr/share/containers/seccomp.json";

/// Where root's store is: on no layers.
const VOLUME: &str = "--volume=/root/.local/share";

/// Files of several owners, several users, what only root may read, and every kind of mount.
const FILE: &str = "FROM busybox AS first\nRUN id -u >/who && mkdir -p /d/e && chown app:web /d && stat -c '%u %g' /d >/seen\n\
    COPY --chown=app own /d/own\nRUN stat -c '%u %g %a' /d/own >>/seen\n\
    FROM first\nRUN --mount=type=cache,target=/c --mount=type=secret,id=token,uid=1000 \\\n  \
    --mount=type=bind,from=first,source=/d,target=/b --mount=type=tmpfs,target=/t \\\n  \
    cat /run/secrets/token /b/own >/t/x && cp /t/x /c/x && wc -c /c/x >/sizes\n\
    USER app\nRUN id -u >/d/mine && echo error >/dev/stderr\n";

fn prepared() -> Need<(Registry, Pod)> {
    let registry = Registry::plain()?;
    let pod = Pod::new(registry.host())?;
    Busybox::default()
        .push(&pod.sandbox.path("base"), &registry.image("library/busybox:latest"))?;
    pod.write("Dockerfile", FILE);
    let own = pod.write("own", "root's alone\n");
    fs_err::set_permissions(&own, std::fs::Permissions::from_mode(0o600)).unwrap();
    let token = pod.sandbox.write("token", "hunter2\n");
    fs_err::set_permissions(token, std::fs::Permissions::from_mode(0o600)).unwrap();
    Ok((registry, pod))
}

#[test]
fn root_that_may_map_no_ids_builds_as_another_user() {
    let (_registry, pod) = need!(prepared());
    let secret = ["--secret", "id=token,src=token"];
    let outside = pod.built_outside(&secret);
    let mut profiles = vec![WITH_NAMESPACES.to_owned()];
    if std::path::Path::new(OF_CONTAINERS).exists() {
        profiles.push(format!("--security-opt=seccomp={OF_CONTAINERS}"));
    }
    for profile in &profiles {
        for (isolation, volumes) in [("ns", &[VOLUME][..]), ("ns-copy", &[])] {
            let options = [&CRI_O[..], &[profile.as_str()], volumes].concat();
            let (found, summary) = pod.doctor(&options, isolation);
            assert_eq!(found["works"], true, "{profile} {found}");
            assert!(found["reason"].as_str().unwrap().starts_with("as user 65533: "), "{found}");
            let expected = format!("steps by {isolation}: everything");
            assert!(summary.contains(&expected), "{profile} {summary}");
            let (run, image) = pod.built(&options, &secret);
            run.says("user 65533's");
            assert_eq!(layers(&image), layers(&outside), "{profile} {isolation}");
        }
    }
}

/// The store may be there already, made by root for himself.
#[test]
fn what_root_has_in_the_store_is_the_other_users_as_well() {
    let (registry, pod) = need!(prepared());
    let volume = format!("--volume={}:/root/.local/share", pod.sandbox.path("kept").display());
    let options = [&CRI_O[..], &[WITH_NAMESPACES, &volume]].concat();
    let name = registry.image("library/busybox:latest");
    pod.gondola(&options, &["pull", &name]).success();
    let (_, image) = pod.built(&options, &["--secret", "id=token,src=token"]);
    let again = pod.gondola(&options, &["run", "--rm", "--pull=never", &name, "id", "-u"]);
    assert_eq!(again.success().stdout, "0\n");
    assert_eq!(image.config["config"]["User"], "app");
    pod.gondola(&options, &["cache", "prune", "--all"]).success();
}

#[test]
fn where_no_user_may_have_a_namespace_the_reason_is_the_profile_and_its_fix_helps() {
    let (_registry, pod) = need!(prepared());
    let words = pod.build("oci:out:t", &["--secret", "id=token,src=token"]);
    let refused = pod.gondola(&CRI_O, &words).code(1);
    let refused = refused.says("user namespaces are blocked by a system-call filter");
    let words: Vec<&str> = refused
        .stderr
        .split("docker run ")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .split(' ')
        .collect();
    let (found, _) = pod.doctor(&CRI_O, "in-container");
    assert_eq!(found["reason"], "root of this container lacks CAP_MKNOD and CAP_SYS_CHROOT");
    pod.built(&[&CRI_O[..], &words].concat(), &["--secret", "id=token,src=token"]);
}
