//! Flags that other tools have for what `gondola kaniko` does by kaniko's words.

use super::{Words, words};

const KANIKO: &[&str] = &["kaniko"];

/// docker's, buildah's and podman's, and those of kaniko's warmer.
pub(super) const FLAGS: &[Words] = &[
    words(
        KANIKO,
        "-t --tag",
        "kaniko calls a name of the image its destination",
        "write --destination NAME",
    ),
    words(
        KANIKO,
        "--push",
        "kaniko pushes whatever it builds",
        "leave it out; --no-push builds without a push",
    ),
    words(KANIKO, "--file", "kaniko names the Dockerfile in full", "write --dockerfile FILE"),
    words(
        KANIKO,
        "--platform",
        "kaniko builds for one platform",
        "write --custom-platform OS/ARCHITECTURE[/VARIANT]; gondola build --platform takes several",
    ),
    words(
        KANIKO,
        "--no-cache --no-cache-filter --layers",
        "kaniko reuses nothing unless it is told to",
        "leave it out; --cache reuses results of earlier builds",
    ),
    words(
        KANIKO,
        "--pull --pull-always --pull-never",
        "kaniko looks bases up each time",
        "leave it out",
    ),
    words(
        KANIKO,
        "--cache-from --cache-to",
        "kaniko shares results of steps through one repository",
        "write --cache --cache-repo REPOSITORY",
    ),
    words(
        KANIKO,
        "-o --output --load",
        "kaniko has a flag for each form of an output",
        "write --tar-path FILE for docker load, or --oci-layout-path DIR",
    ),
    words(KANIKO, "--iidfile", "kaniko writes the image's digest", "write --digest-file FILE"),
    words(
        KANIKO,
        "--metadata-file",
        "kaniko writes names and digests to files of their own",
        "write --digest-file FILE or --image-name-tag-with-digest-file FILE",
    ),
    words(
        KANIKO,
        "--build-context --ssh --add-host --ulimit --shm-size --network --check",
        "kaniko has no such flag",
        "gondola build has it, and builds the same Dockerfile",
    ),
    words(
        KANIKO,
        "--squash --squash-all",
        "kaniko calls it a single snapshot",
        "write --single-snapshot",
    ),
    words(
        KANIKO,
        "--timestamp --source-date-epoch",
        "kaniko sets all times to 1970",
        "write --reproducible, or --build-arg SOURCE_DATE_EPOCH=SECONDS",
    ),
    words(
        KANIKO,
        "--format",
        "kaniko calls it the image's format",
        "write --image-format docker or oci",
    ),
    words(
        KANIKO,
        "--tls-verify",
        "kaniko says for pushes and pulls apart what is not verified",
        "write --skip-tls-verify, --skip-tls-verify-pull or --skip-tls-verify-registry HOST",
    ),
    words(
        KANIKO,
        "--creds",
        "passwords on a command line can be seen by others",
        "gondola login REGISTRY, or set KANIKO_HOST_USER and KANIKO_HOST_PASSWORD",
    ),
    words(
        KANIKO,
        "--provenance --sbom --attest --builder --allow --isolation --rm --force-rm",
        "kaniko has no such flag, and makes nothing of it",
        "leave it out",
    ),
    words(
        KANIKO,
        "-m --memory --memory-swap --cpu-shares --cpu-period --cpu-quota --cpuset-cpus --cpuset-mems --cgroup-parent",
        "steps have the limits of what gondola runs in",
        "set them for the container, or the pod",
    ),
    words(
        KANIKO,
        "-i --image",
        "it is kaniko's warmer that has a list of images",
        "leave it out; bases are kept in the folder that --store names",
    ),
];
