//! Flags that other tools have for lists, images and the store.

use super::{LISTS, Words, words};

/// In front of the command.
const IN_FRONT: &[&str] = &[""];

/// docker's, podman's, skopeo's and crane's.
pub(super) const FLAGS: &[Words] = &[
    // docker's lists
    words(
        LISTS,
        "--format",
        "the output has a form for people, and JSON",
        "write --json, and choose with jq",
    ),
    words(
        &["images"],
        "--filter",
        "the output is filtered by others",
        "name a part of the image's name",
    ),
    words(
        &["ps"],
        "--filter",
        "the output is filtered by others",
        "write --json, and choose with jq",
    ),
    words(&["images"], "-f", "the output is filtered by others", "name a part of the image's name"),
    words(
        &["ps"],
        "-f -l --latest -n --last -s --size --sort --external --ns --namespace --pod --noheading --sync --watch",
        "the output is filtered by others",
        "write --json, and choose with jq",
    ),
    words(
        &["images"],
        "-a --all --tree --sort --history --noheading",
        "all images are listed; --digests writes whole digests",
        "leave it out",
    ),
    words(
        &["inspect"],
        "-f --type -s --size",
        "it shows images alone",
        "write --json, and choose with jq",
    ),
    words(&["stats"], "-a --no-trunc", "all that run are listed", "leave it out"),
    words(
        &["rmi"],
        "-f --force --no-prune",
        "removing a name never fails because of a container",
        "leave it out; gondola cache prune frees the content",
    ),
    words(
        &["push", "pull"],
        "-a --all-tags",
        "names are pushed and pulled one by one",
        "name each: gondola push NAME:TAG…",
    ),
    words(
        &["push", "pull"],
        "--disable-content-trust",
        "no signatures are looked at",
        "leave it out; a name with @sha256:… pins an image",
    ),
    words(
        &["pull", "push", "copy", "inspect"],
        "--policy --insecure-policy --registries.d --sign-by --remove-signatures --sign-by-sigstore --sign-by-sigstore-private-key --sign-passphrase-file --sign-identity",
        "no signatures are looked at, and nothing is kept from being asked for",
        "leave it out; gondola run --pull WHEN says when an image is pulled",
    ),
    words(
        &["pull", "copy", "inspect"],
        "--arch --os --variant --override-arch --override-os --override-variant",
        "the system and the architecture are said together",
        "write --platform OS/ARCHITECTURE[/VARIANT]",
    ),
    words(
        &["copy"],
        "-a --all --multi-arch",
        "all platforms of an image are copied, unless --platform names some",
        "leave it out",
    ),
    words(
        &["push"],
        "--platform",
        "an image is pushed with all the platforms that it has here",
        "gondola copy --platform LIST store:NAME NAME",
    ),
    words(
        &["pull", "push", "copy", "inspect"],
        "--retry --retry-delay --retry-times --command-timeout",
        "requests are sent again by themselves where that helps",
        "leave it out",
    ),
    words(&["push", "copy"], "--digestfile", "the digest is what is printed", "write > FILE"),
    words(
        &["push", "copy"],
        "-f --format --compression-format --compression-level --force-compression --dest-compress --dest-compress-format --dest-compress-level --dest-decompress --dest-force-compress-format --preserve-digests",
        "what is copied keeps its bytes and its digest",
        "leave it out",
    ),
    words(
        &["pull", "push", "copy"],
        "--encryption-key --decryption-key --encrypt-layer",
        "layers are not encrypted",
        "leave it out",
    ),
    words(
        &["copy"],
        "--additional-tag",
        "several destinations get the same image",
        "name each: gondola copy FROM TO TO",
    ),
    words(&["copy"], "--image-parallel-copies", "it is spelled otherwise here", "write --jobs N"),
    words(
        &["copy", "inspect"],
        "--src-daemon-host --dest-daemon-host --daemon-host --src-shared-blob-dir --dest-shared-blob-dir --shared-blob-dir --dest-oci-accept-uncompressed-layers --dest-precompute-digests",
        "places say all of themselves",
        "leave it out",
    ),
    words(
        &["inspect"],
        "--raw --config -n --no-tags --no-trunc",
        "an image is shown as a whole",
        "write --json, and choose with jq",
    ),
    words(
        &["build", "push", "pull", "copy", "inspect"],
        "--insecure --plain-http",
        "it is said of one registry",
        "write --insecure-registry HOST",
    ),
    words(
        &["login"],
        "--get-login --tls-verify-skip --secret -v --verbose",
        "only names and passwords are stored",
        "gondola login --username NAME --password-stdin REGISTRY",
    ),
    words(&["logout"], "-a --all", "registries are named one by one", "gondola logout REGISTRY"),
    words(
        &["logs"],
        "--color --names -l --latest --no-trunc",
        "the output of one container is shown as it is",
        "gondola logs NAME",
    ),
    words(
        &["stats"],
        "-i --interval --no-reset --all",
        "all that run are listed",
        "leave it out; --no-stream shows them once",
    ),
    words(&["logs"], "--details", "there is no more to show", "leave it out"),
    words(&["cache"], "-f --force", "nobody is asked before", "leave it out"),
    words(
        &["cache"],
        "--keep-storage --max-used-space --min-free-space --reserved-space",
        "there is one bound",
        "write --keep SIZE",
    ),
    words(
        &["cache"],
        "--filter --until",
        "what goes is chosen by its age and size",
        "write --older-than TIME, or --keep SIZE",
    ),
    words(&["cache"], "--format", "the output has a form for people, and JSON", "write --json"),
    words(
        &["cache"],
        "--volumes",
        "what containers have of their own goes with them",
        "gondola rm NAME",
    ),
    // Docker's own, in front of its commands or behind them.
    words(
        &[],
        "-H --host --tls --tlscacert --tlscert --tlskey --tlsverify --log-level",
        "there is no daemon to reach",
        "leave it out; --progress says how much is shown",
    ),
    words(
        IN_FRONT,
        "-D --debug --verbose --trace",
        "errors are told whole, and steps as they go",
        "write --progress plain, or --progress json",
    ),
    // podman's, buildah's and skopeo's.
    words(
        IN_FRONT,
        "--root --runroot --storage-driver --storage-opt --tmpdir",
        "one folder holds everything",
        "write --store FOLDER, or set GONDOLA_HOME; TMPDIR is for what is temporary",
    ),
    words(
        IN_FRONT,
        "--policy --insecure-policy --registries.d --registries-conf",
        "no policy decides which images may be used",
        "leave it out",
    ),
    words(
        IN_FRONT,
        "--override-os --override-arch --override-variant",
        "a platform is one word",
        "write --platform OS/ARCHITECTURE behind the command",
    ),
    // crane's and ko's.
    words(
        IN_FRONT,
        "--insecure --allow-nondistributable-artifacts",
        "a registry without certificates is named",
        "write --insecure-registry HOST[:PORT]",
    ),
];
