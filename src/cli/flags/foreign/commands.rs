//! Commands that other tools have.

use super::{NO_DAEMON, Words, words};

pub(super) const SUBCOMMANDS: &[Words] = &[
    words(&["cache"], "ls list", "it is called du, as buildx calls it", "gondola cache du"),
    words(&["cache"], "clean clear rm", "it is called prune", "gondola cache prune"),
    words(&["cache"], "help", "every command explains itself", "gondola cache --help"),
];

pub(super) const COMMANDS: &[Words] = &[
    // docker's containers
    words(&[], "kill", "it is a way to stop", "gondola stop --time 0 NAME"),
    words(&[], "wait", "its log ends with the container", "gondola logs --follow NAME"),
    words(&[], "create", "a container is made when it is run", "gondola run --detach IMAGE"),
    words(
        &[],
        "attach",
        "a container in the background has no terminal to attach to",
        "gondola logs --follow NAME, or gondola exec -it NAME sh",
    ),
    words(
        &[],
        "pause unpause",
        "containers cannot be frozen",
        "gondola stop NAME, and gondola start NAME",
    ),
    words(
        &[],
        "rename update",
        "a container keeps what it was started with",
        "gondola rm NAME, and gondola run --name OTHER",
    ),
    words(
        &[],
        "top",
        "the container has a program for that",
        "gondola exec NAME ps, or gondola stats NAME",
    ),
    words(&[], "port", "ports stand in the list", "gondola ps"),
    words(
        &[],
        "cp",
        "files of a container are reached from inside; images are copied by \"gondola copy\"",
        "gondola exec NAME cat PATH > FILE, or gondola exec -i NAME sh -c 'cat > PATH' < FILE",
    ),
    words(
        &[],
        "diff export",
        "files of a container are reached from inside",
        "gondola exec NAME tar -c / > FILE",
    ),
    words(
        &[],
        "commit",
        "images are built, and not taken from containers",
        "write a Dockerfile, and gondola build -f Dockerfile",
    ),
    words(&[], "containers", "it is called ps, as docker calls it", "gondola ps --all"),
    words(
        &[],
        "checkpoint",
        "containers cannot be frozen",
        "gondola stop NAME, and gondola start NAME",
    ),
    words(&[], "debug", "a container has the programs of its image", "gondola exec -it NAME sh"),
    words(
        &[],
        "auto-update",
        NO_DAEMON,
        "gondola pull NAME, gondola rm --force CONTAINER, and gondola run NAME again",
    ),
    words(&[], "healthcheck", NO_DAEMON, "ask the program itself: gondola exec CONTAINER PROGRAM"),
    words(&[], "events", NO_DAEMON, "gondola ps --json, and gondola logs --follow NAME"),
    words(
        &[],
        "container",
        "its commands stand alone here",
        "gondola ps, run, logs, start, stop, restart, exec, rm or stats",
    ),
    // docker's images
    words(
        &[],
        "save",
        "archives are a destination of copies",
        "gondola copy store:NAME docker-archive:FILE",
    ),
    words(
        &[],
        "load import",
        "archives are a source of copies",
        "gondola copy docker-archive:FILE store:NAME",
    ),
    words(
        &[],
        "history",
        "layers and who made them are shown with the image",
        "gondola inspect NAME",
    ),
    words(
        &[],
        "image",
        "its commands stand alone here",
        "gondola images, pull, push, tag, rmi, inspect or copy",
    ),
    words(
        &[],
        "search catalog list-tags",
        "registries are not searched",
        "look on the registry's own page",
    ),
    words(
        &[],
        "manifest",
        "an index is an image for several platforms",
        "gondola build --platform LIST, or gondola inspect NAME",
    ),
    words(
        &[],
        "digest config",
        "an image is shown as a whole",
        "gondola inspect --json NAME, and choose with jq",
    ),
    words(&[], "sync", "images are copied one by one", "gondola copy FROM TO"),
    words(
        &[],
        "delete",
        "images of a registry are not removed",
        "gondola rmi removes names of the local store",
    ),
    words(&[], "blob layer", "a layer is shown by its files", "gondola inspect --files NAME"),
    words(
        &[],
        "validate",
        "whatever is read is checked",
        "gondola copy NAME oci:FOLDER, or gondola cache verify",
    ),
    words(
        &[],
        "standalone-sign standalone-verify sign verify",
        "images are not signed here",
        "gondola build --push prints the pinned reference to sign",
    ),
    words(&[], "cat", "files of an image are listed", "gondola inspect --files NAME"),
    words(&[], "auth", "credentials are stored by a command", "gondola login REGISTRY"),
    // docker's builds
    words(
        &[],
        "buildx builder",
        "building needs no builder",
        "gondola build, gondola cache du or gondola cache prune",
    ),
    words(&[], "bake", "one command builds one image", "gondola build, once for each"),
    words(&[], "bud", "it is called build here", "gondola build -f FILE CONTEXT"),
    words(
        &[],
        "compose stack swarm service node pod kube play generate",
        "gondola starts single containers",
        "gondola run --detach for each",
    ),
    words(
        &[],
        "append mutate flatten rebase",
        "images are built, and not changed",
        "gondola build --base IMAGE --prebuilt FILE, or a Dockerfile",
    ),
    words(
        &[],
        "from mount umount unmount unshare",
        "images are built by Dockerfiles or of Go packages",
        "gondola build",
    ),
    // docker's surroundings
    words(&[], "info", "there is no daemon to ask", "gondola doctor, or gondola version"),
    words(
        &[],
        "system",
        "the store is all that there is",
        "gondola cache du, gondola cache prune or gondola doctor",
    ),
    words(&[], "df du", "it is said of the store", "gondola cache du"),
    words(&[], "prune", "it is said of the store", "gondola cache prune"),
    words(&[], "volume volumes", "volumes have no names", "gondola run --volume FOLDER:PATH"),
    words(
        &[],
        "network networks",
        "networks have no names",
        "gondola run --network host, none or private",
    ),
    words(
        &[],
        "context machine plugin plugins trust scout secret init",
        "gondola works on this machine, without a daemon",
        "gondola doctor says what works here",
    ),
    words(&[], "help", "every command explains itself", "gondola --help, or gondola build --help"),
    // ko
    words(
        &[],
        "apply resolve",
        "references in YAML are not replaced",
        "gondola build --push prints the pinned reference to put there",
    ),
    words(&[], "deps", "the modules of a program stand in it", "go version -m PROGRAM"),
    words(
        &[],
        "executor",
        "it is called kaniko here",
        "gondola kaniko --context FOLDER --destination NAME",
    ),
];
