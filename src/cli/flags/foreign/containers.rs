//! Flags that other tools have for what `gondola run` and the other commands for containers do.

use super::{NO_DAEMON, NO_GROUPS, NO_RIGHTS, PROGRAMS, RUN, Words, words};

/// docker run and exec, and podman's.
pub(super) const FLAGS: &[Words] = &[
    // docker run and exec
    words(RUN, "--restart", NO_DAEMON, "a unit of systemd, or a loop, starts a program again"),
    words(
        PROGRAMS,
        "--privileged --cap-add --device --device-cgroup-rule --gpus --userns --use-api-socket",
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
        "-m --memory --memory-swap --memory-reservation --cpus -c --cpu-shares --cpu-period --cpu-quota --cpuset-cpus --cpuset-mems --cgroup-parent --blkio-weight --blkio-weight-device --device-read-bps --device-read-iops --device-write-bps --device-write-iops --cpu-rt-period --cpu-rt-runtime --cpu-count --cpu-percent --oom-kill-disable --oom-score-adj --kernel-memory --memory-swappiness",
        NO_GROUPS,
        "--ulimit limits each process; systemd-run --scope -p MemoryMax=1G limits all of them",
    ),
    words(
        RUN,
        "--health-cmd --health-interval --health-retries --health-timeout --health-start-period --health-start-interval --health-on-failure --no-healthcheck",
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
        "--link --link-local-ip --network-alias --net-alias --ip --ip6 --mac-address --domainname",
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
        RUN,
        "--annotation",
        "a container has labels, and its image has annotations",
        "write --label NAME=VALUE",
    ),
    words(RUN, "--label-file", "labels are given one by one", "write --label NAME=VALUE for each"),
    words(
        RUN,
        "--umask",
        "a program begins with the mask 0022, as in docker",
        "have it set another: --entrypoint sh IMAGE -c 'umask 027; exec PROGRAM'",
    ),
    // podman run
    words(
        RUN,
        "--arch --os --variant",
        "the system and the architecture are said together",
        "write --platform OS/ARCHITECTURE[/VARIANT]",
    ),
    words(
        RUN,
        "--env-host --env-merge --unsetenv --unsetenv-all",
        "variables are given one by one",
        "write --env NAME to pass one on, or --env NAME= to empty it",
    ),
    words(
        RUN,
        "--uidmap --gidmap --subuidname --subgidname --hostuser --group-entry --passwd-entry --passwd",
        "the isolation says which ids there are",
        "leave it out; --user chooses whose rights the program has",
    ),
    words(
        RUN,
        "--pod --pod-id-file --infra --init-ctr --requires",
        "containers are in no pods",
        "leave it out; --network host lets containers reach each other",
    ),
    words(
        RUN,
        "--replace",
        "a name is taken for as long as its container is there",
        "gondola rm --force NAME first",
    ),
    words(RUN, "--rmi", "images stay", "gondola rmi NAME afterwards"),
    words(RUN, "--secret", "secrets are for the steps of builds", "write --volume FILE:PATH:ro"),
    words(
        RUN,
        "--systemd --sdnotify --pidfile --conmon-pidfile --preserve-fds --rdt-class --seccomp-policy --chrootdirs --init-path --image-volume --shm-size-systemd --decryption-key",
        "containers are started in one way",
        "leave it out",
    ),
    words(
        RUN,
        "--no-hosts --no-hostname --hosts-file",
        "a container has files of its own for that",
        "leave it out; --add-host adds a line, and --hostname says its name",
    ),
    words(RUN, "--tz", "a variable says the time zone", "write --env TZ=ZONE"),
    words(
        &["exec"],
        "--preserve-fds --cidfile -l --latest",
        "a container is chosen by its name or id",
        "gondola exec NAME COMMAND",
    ),
    words(
        &["exec"],
        "-d --detach",
        "what is started stays in the foreground",
        "put & behind the command",
    ),
    words(&["exec"], "--detach-keys", "there is nothing to detach from", "leave it out"),
    words(
        &["start"],
        "--detach-keys --checkpoint --checkpoint-dir --sig-proxy",
        "a container in the foreground has the caller's streams and signals",
        "leave it out",
    ),
    words(
        &["start", "stop", "restart", "rm"],
        "--all --latest -l --filter --cidfile",
        "containers are chosen by their names",
        "gondola ps --all --quiet lists all ids",
    ),
    words(
        &["stop", "rm"],
        "-i --ignore",
        "a container that is not there is an error",
        "leave it out",
    ),
];
