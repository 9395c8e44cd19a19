//! Words that people know from other tools and that gondola does not have: each is answered with what to
//! do here, and not with whatever flag is spelled nearly like it.

use crate::error::{Error, ErrorKind};

/// Words that all want the same answer.
struct Words {
    /// Where they stand: behind one of these commands; behind any, where there is none.
    behind: &'static [&'static str],
    /// The words, between spaces.
    all: &'static str,
    /// Why there is none of them.
    why: &'static str,
    /// What to do here.
    instead: &'static str,
}

const fn words(
    behind: &'static [&'static str],
    all: &'static str,
    why: &'static str,
    instead: &'static str,
) -> Words {
    Words { behind, all, why, instead }
}

/// The error for a flag of `command` that is not gondola's, if it is another tool's.
pub fn flag(command: &str, word: &str) -> Option<Error> {
    let fits = |words: &&Words| words.behind.is_empty() || words.behind.contains(&command);
    answer(FLAGS.iter().filter(fits), word, format!("use {word}"))
}

/// The error for a command that is not gondola's, if it is another tool's.
pub fn command(word: &str) -> Option<Error> {
    answer(COMMANDS.iter(), word, format!("run \"gondola {word}\""))
}

/// The same for a word behind a command that has commands of its own.
pub fn subcommand(command: &str, word: &str) -> Option<Error> {
    let fits = |words: &&Words| words.behind.contains(&command);
    answer(SUBCOMMANDS.iter().filter(fits), word, format!("run \"gondola {command} {word}\""))
}

fn answer(
    mut table: impl Iterator<Item = &'static Words>,
    word: &str,
    action: String,
) -> Option<Error> {
    let found = table.find(|words| words.all.split(' ').any(|known| known == word))?;
    Some(Error::new(ErrorKind::Usage, action).because(found.why).hint(found.instead))
}

const BUILD: &[&str] = &["build"];
const RUN: &[&str] = &["run"];
const PROGRAMS: &[&str] = &["run", "exec"];
const LISTS: &[&str] = &["ps", "images", "stats", "inspect", "version", "logs"];

const NO_DAEMON: &str = "no daemon watches over containers";
const NO_RIGHTS: &str = "a container never has more rights than the user who started it";
const NO_GROUPS: &str = "containers are in no control group of their own";
const NAMES: &str = "--tag says all names of an image";

const FLAGS: &[Words] = &[
    // docker build and buildx
    words(
        BUILD,
        "--load",
        "an image that is built is in gondola's own store already",
        "leave it out; --output docker: loads the image into docker, --output podman: into podman",
    ),
    words(BUILD, "--builder", "there are no builders to choose from", "leave it out"),
    words(
        BUILD,
        "--allow",
        "steps need no permission for the host's network, and none gets more rights",
        "leave it out; --network says which network steps have",
    ),
    words(
        BUILD,
        "--cache-from --cache-to",
        "results of steps are shared through a repository",
        "write --cache-repo REPOSITORY, which looks up there and puts there",
    ),
    words(BUILD, "--call --print", "only checks can be asked for", "write --check"),
    words(
        BUILD,
        "--squash --squash-all",
        "each step keeps a layer of its own",
        "end the Dockerfile with FROM scratch and COPY --from=STAGE / /",
    ),
    words(
        BUILD,
        "--debug --on",
        "there is no debugger",
        "--shell-on-failure opens a shell where a step failed",
    ),
    words(BUILD, "--policy", "there are no policies", "leave it out"),
    // ko
    words(
        BUILD,
        "-B --base-import-paths -P --preserve-import-paths --bare --tag-only --tags",
        NAMES,
        "write --tag REGISTRY/{name}:TAG, where {name} is the last part of the import path",
    ),
    words(
        BUILD,
        "-L --local",
        "an image is in gondola's own store unless --push is given",
        "leave it out; --output docker: loads the image into docker",
    ),
    words(BUILD, "--tarball", "archives are outputs", "write --output docker-archive:FILE"),
    words(BUILD, "--oci-layout-path", "layouts are outputs", "write --output oci:FOLDER"),
    words(BUILD, "--sbom-dir --attest", "no attestations are made", "leave it out"),
    words(BUILD, "--image-label", "it is spelled otherwise here", "write --label NAME=VALUE"),
    words(
        BUILD,
        "--image-annotation",
        "it is spelled otherwise here",
        "write --annotation NAME=VALUE",
    ),
    words(BUILD, "--image-user", "it is spelled otherwise here", "write --user USER"),
    words(
        BUILD,
        "--disable-optimizations",
        "flags of the compiler are passed on",
        "write --gcflags \"all=-N -l\"",
    ),
    words(BUILD, "-j", "it is spelled otherwise here", "write --jobs N"),
    // buildah and podman
    words(
        BUILD,
        "--layers",
        "results of steps are always kept",
        "leave it out; --no-cache executes every step",
    ),
    words(
        BUILD,
        "--format",
        "the media types are those of the base image",
        "leave it out; gondola kaniko --image-format chooses docker's or OCI's",
    ),
    words(
        BUILD,
        "--manifest",
        "an index is an image for several platforms",
        "write --tag NAME --platform LIST",
    ),
    words(
        BUILD,
        "--ignorefile",
        "it is found by its name",
        "call it DOCKERFILE.dockerignore, or .dockerignore in the context",
    ),
    words(BUILD, "--logfile", "progress goes to stderr", "write 2>FILE"),
    words(
        BUILD,
        "--timestamp",
        "a variable says the time of an image",
        "set SOURCE_DATE_EPOCH=SECONDS",
    ),
    words(
        BUILD,
        "--http-proxy",
        "proxies without a password reach steps always",
        "write --build-arg HTTP_PROXY to pass on one with a password",
    ),
    words(
        BUILD,
        "--pull-always --pull-never",
        "it is spelled otherwise here",
        "write --pull, or leave it out",
    ),
    words(
        BUILD,
        "--from",
        "the base of a Dockerfile is replaced by its name",
        "write --build-context NAME=docker-image://IMAGE",
    ),
    words(
        BUILD,
        "--cap-add --cap-drop --device --userns --ipc --pid --uts --runtime",
        NO_RIGHTS,
        "leave it out",
    ),
    words(
        BUILD,
        "--dns --dns-search --dns-option",
        "steps ask the host's name servers",
        "--add-host names single hosts",
    ),
    // kaniko
    words(
        BUILD,
        "--destination --dockerfile --context --no-push --tar-path --digest-file --custom-platform",
        "it is a flag of kaniko's",
        "\"gondola kaniko\" takes all of them",
    ),
    words(
        &["build", "push", "pull", "copy", "inspect", "run", "login", "logout"],
        "--tls-verify --src-tls-verify --dest-tls-verify",
        "it is said of one registry",
        "write --insecure-registry HOST",
    ),
    words(
        &["build", "push", "pull", "copy", "inspect", "run"],
        "--creds --src-creds --dest-creds --username --password",
        "credentials are stored, and not typed each time",
        "gondola login REGISTRY",
    ),
    words(
        &[],
        "--authfile --cert-dir --registry-token",
        "a variable says where credentials and certificates are",
        "set REGISTRY_AUTH_FILE to a file, or DOCKER_CONFIG to a folder",
    ),
    // docker run and exec
    words(RUN, "--restart", NO_DAEMON, "a unit of systemd, or a loop, starts a program again"),
    words(
        PROGRAMS,
        "--privileged --cap-add --device --device-cgroup-rule --gpus --userns",
        NO_RIGHTS,
        "leave it out; gondola doctor says what isolation allows",
    ),
    words(
        RUN,
        "--cap-drop --security-opt --group-add --sysctl",
        "it cannot be chosen for one container",
        "leave it out; gondola doctor says how containers are isolated",
    ),
    words(
        RUN,
        "-m --memory --memory-swap --memory-reservation --cpus -c --cpu-shares --cpu-period --cpu-quota --cpuset-cpus --cpuset-mems --cgroup-parent --blkio-weight --oom-kill-disable --oom-score-adj --kernel-memory --memory-swappiness",
        NO_GROUPS,
        "--ulimit limits each process; systemd-run --scope -p MemoryMax=1G limits all of them",
    ),
    words(
        RUN,
        "--health-cmd --health-interval --health-retries --health-timeout --health-start-period --no-healthcheck",
        NO_DAEMON,
        "ask the program itself, with gondola exec",
    ),
    words(
        RUN,
        "--log-driver --log-opt",
        "the output of a container is kept in one way",
        "leave it out; gondola logs shows it",
    ),
    words(RUN, "--expose", "no other container asks which ports there are", "write --publish PORT"),
    words(
        RUN,
        "--cidfile",
        "the container's id is what --detach prints",
        "write --detach and > FILE",
    ),
    words(
        RUN,
        "--pid --ipc --uts --cgroupns",
        "the isolation says which namespaces there are",
        "leave it out; --sandbox chooses the isolation",
    ),
    words(
        RUN,
        "-a --attach --sig-proxy --detach-keys",
        "a container in the foreground has the caller's streams and signals",
        "leave it out",
    ),
    words(
        RUN,
        "--link --network-alias --ip --ip6 --mac-address --domainname",
        "containers share no network",
        "--publish opens a port, and --add-host names an address",
    ),
    words(
        RUN,
        "--dns-search --dns-option --dns-opt",
        "only name servers can be chosen",
        "write --dns IP",
    ),
    words(
        RUN,
        "--volumes-from --volume-driver",
        "volumes have no names",
        "write --volume FOLDER:PATH in both containers",
    ),
    words(
        RUN,
        "--isolation --runtime --storage-opt",
        "--sandbox says how a container is isolated",
        "leave it out; gondola doctor says what works here",
    ),
    words(
        RUN,
        "--disable-content-trust",
        "no signatures are looked at",
        "leave it out; a name with @sha256:… pins an image",
    ),
    words(
        &["exec"],
        "-d --detach",
        "what is started stays in the foreground",
        "put & behind the command",
    ),
    words(&["exec"], "--detach-keys", "there is nothing to detach from", "leave it out"),
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
        "-f -l --latest -n --last -s --size",
        "the output is filtered by others",
        "write --json, and choose with jq",
    ),
    words(
        &["images"],
        "-a --tree --no-trunc",
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
];

const SUBCOMMANDS: &[Words] = &[
    words(&["cache"], "ls list", "it is called du, as buildx calls it", "gondola cache du"),
    words(&["cache"], "clean clear rm", "it is called prune", "gondola cache prune"),
    words(&["cache"], "help", "every command explains itself", "gondola cache --help"),
];

const COMMANDS: &[Words] = &[
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{Command, CommandFactory as _};

    use super::*;
    use crate::cli::commands::Cli;

    fn program() -> Command {
        let mut program = Cli::command();
        program.build();
        program
    }

    /// Every spelling of every flag of a command.
    fn flags_of(command: &Command) -> BTreeSet<String> {
        let mut flags = BTreeSet::new();
        for argument in command.get_arguments() {
            let long = argument.get_long_and_visible_aliases().into_iter().flatten();
            let hidden = argument.get_all_aliases().into_iter().flatten();
            flags.extend(long.chain(hidden).map(|name| format!("--{name}")));
            flags.extend(
                argument.get_all_short_aliases().into_iter().flatten().map(|c| format!("-{c}")),
            );
            flags.extend(argument.get_short().map(|c| format!("-{c}")));
        }
        flags
    }

    #[test]
    fn no_word_is_one_of_ours() {
        let program = program();
        for entry in FLAGS {
            for command in program.get_subcommands() {
                if !entry.behind.is_empty() && !entry.behind.contains(&command.get_name()) {
                    continue;
                }
                // Kaniko's flags stand in a table of their own.
                if command.get_name() == "kaniko" {
                    continue;
                }
                let own = flags_of(command);
                let found = entry.all.split(' ').find(|word| own.contains(*word));
                assert_eq!(found, None, "gondola {} has it", command.get_name());
            }
        }
        let own: BTreeSet<&str> = program
            .get_subcommands()
            .flat_map(|command| [command.get_name()].into_iter().chain(command.get_all_aliases()))
            .collect();
        for word in COMMANDS.iter().flat_map(|entry| entry.all.split(' ')) {
            assert!(!own.contains(word), "{word}");
        }
    }

    #[test]
    fn each_word_has_one_answer() {
        for name in program().get_subcommands().map(Command::get_name) {
            let mut seen = BTreeSet::new();
            let behind = |entry: &&Words| entry.behind.is_empty() || entry.behind.contains(&name);
            for word in FLAGS.iter().filter(behind).flat_map(|entry| entry.all.split(' ')) {
                assert!(word.starts_with('-') && seen.insert(word), "{name} {word}");
            }
        }
        let mut seen = BTreeSet::new();
        for word in COMMANDS.iter().flat_map(|entry| entry.all.split(' ')) {
            assert!(seen.insert(word), "{word}");
        }
    }

    #[test]
    fn answers_name_commands_and_flags_that_there_are() {
        let program = program();
        let below = program.get_subcommands().flat_map(Command::get_subcommands);
        let all: BTreeSet<String> =
            program.get_subcommands().chain(below).flat_map(flags_of).collect();
        let commands: BTreeSet<&str> = program.get_subcommands().map(Command::get_name).collect();
        // Of systemd-run, jq and COPY, which are not ours.
        let others = ["--scope", "--from=STAGE", "-p", "--version"];
        for entry in FLAGS.iter().chain(COMMANDS).chain(SUBCOMMANDS) {
            let words: Vec<&str> = entry.instead.split([' ', ',', ';', '"']).collect();
            for pair in words.windows(2).filter(|pair| pair[0] == "gondola") {
                let known = commands.contains(pair[1]) || pair[1].starts_with("--");
                assert!(known, "gondola {}: {}", pair[1], entry.instead);
            }
            for word in words.iter().filter(|word| word.starts_with('-') && !word.starts_with("-N"))
            {
                let own = all.contains(*word) || *word == "--help" || others.contains(word);
                let foreign = ["-it", "-l", "-c", "-m"].contains(word);
                assert!(own || foreign, "{word}: {}", entry.instead);
            }
        }
    }
}
