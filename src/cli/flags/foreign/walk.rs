//! What other tools take, word by word: none of it is left to the parser's nearest guess.

use std::collections::BTreeSet;

use clap::CommandFactory as _;

use super::tests::flags_of;
use crate::cli::commands::Cli;

/// Of a command here: the command of another tool, and its flags, as its help has them.
const WALK: &[(&str, &str, &str)] = &[
    (
        "",
        "skopeo",
        "--command-timeout --debug --insecure-policy --override-arch --override-os --override-variant --policy --registries.d --tmpdir -v",
    ),
    (
        "",
        "podman",
        "--cgroup-manager --conmon --connection --events-backend --hooks-dir --identity --log-level --namespace --network-cmd-path --network-config-dir --noout --remote --root --runroot --runtime --runtime-flag --ssh --storage-driver --storage-opt --syslog --tmpdir --url --volumepath -c -r -v",
    ),
    (
        "",
        "buildah",
        "--cgroup-manager --log-level --registries-conf --registries-conf-dir --root --runroot --short-name-alias-conf --storage-driver --storage-opt --userns-gid-map --userns-uid-map -v",
    ),
    (
        "",
        "docker",
        "--config --context --debug --host --log-level --tls --tlscacert --tlscert --tlskey --tlsverify -D -H -c -l -v",
    ),
    (
        "copy",
        "skopeo copy",
        "--additional-tag --all --authfile --decryption-key --dest-authfile --dest-cert-dir --dest-compress --dest-compress-format --dest-compress-level --dest-creds --dest-daemon-host --dest-decompress --dest-no-creds --dest-oci-accept-uncompressed-layers --dest-password --dest-precompute-digests --dest-registry-token --dest-shared-blob-dir --dest-tls-verify --dest-username --digestfile --encrypt-layer --encryption-key --format --multi-arch --preserve-digests --quiet --remove-signatures --retry-times --sign-by --sign-by-sigstore-private-key --sign-identity --sign-passphrase-file --src-authfile --src-cert-dir --src-creds --src-daemon-host --src-no-creds --src-password --src-registry-token --src-shared-blob-dir --src-tls-verify --src-username -a -f -q",
    ),
    (
        "copy",
        "skopeo sync",
        "--all --authfile --dest --dest-authfile --dest-cert-dir --dest-creds --dest-no-creds --dest-password --dest-registry-token --dest-tls-verify --dest-username --dry-run --format --keep-going --preserve-digests --remove-signatures --retry-times --scoped --sign-by --sign-by-sigstore-private-key --sign-passphrase-file --src --src-authfile --src-cert-dir --src-creds --src-no-creds --src-password --src-registry-token --src-tls-verify --src-username -a -d -f -s",
    ),
    (
        "inspect",
        "skopeo inspect",
        "--authfile --cert-dir --config --creds --daemon-host --format --no-creds --no-tags --password --raw --registry-token --retry-times --shared-blob-dir --tls-verify --username -f -n",
    ),
    (
        "images",
        "skopeo list-tags",
        "--authfile --cert-dir --creds --no-creds --password --registry-token --retry-times --tls-verify --username",
    ),
    (
        "login",
        "skopeo login",
        "--authfile --cert-dir --get-login --password --password-stdin --tls-verify --username --verbose -p -u -v",
    ),
    ("logout", "skopeo logout", "--all --authfile --tls-verify -a"),
    (
        "rmi",
        "skopeo delete",
        "--authfile --cert-dir --creds --daemon-host --no-creds --password --registry-token --retry-times --shared-blob-dir --tls-verify --username",
    ),
    (
        "push",
        "podman push",
        "--authfile --cert-dir --compress --compression-format --creds --digestfile --disable-content-trust --format --quiet --remove-signatures --sign-by --sign-by-sigstore-private-key --sign-passphrase-file --tls-verify -f -q",
    ),
    (
        "pull",
        "podman pull",
        "--all-tags --arch --authfile --cert-dir --creds --disable-content-trust --os --platform --quiet --tls-verify --variant -a -q",
    ),
    (
        "login",
        "podman login",
        "--authfile --cert-dir --get-login --password --password-stdin --tls-verify --username --verbose -p -u -v",
    ),
    ("logout", "podman logout", "--all --authfile -a"),
    ("inspect", "podman inspect", "--format --latest --size --type -f -l -s -t"),
    (
        "images",
        "podman images",
        "--all --digests --filter --format --history --no-trunc --noheading --quiet --sort -a -f -n -q",
    ),
    ("rmi", "podman rmi", "--all --force --ignore --no-prune -a -f -i"),
    (
        "build",
        "podman build",
        "--add-host --all-platforms --annotation --arch --authfile --build-arg --build-context --cache-from --cache-to --cache-ttl --cap-add --cap-drop --cert-dir --cgroup-parent --cgroupns --compress --cpp-flag --cpu-period --cpu-quota --cpu-shares --cpuset-cpus --cpuset-mems --creds --decryption-key --device --disable-compression --disable-content-trust --dns --dns-option --dns-search --env --file --force-rm --format --from --hooks-dir --http-proxy --identity-label --ignorefile --iidfile --ipc --isolation --jobs --label --layers --logfile --logsplit --manifest --memory --memory-swap --network --no-cache --no-hosts --omit-history --os --os-feature --os-version --output --pid --platform --pull --quiet --retry --retry-delay --rm --runtime-flag --secret --security-opt --shm-size --sign-by --skip-unused-stages --squash --squash-all --ssh --stdin --tag --target --timestamp --tls-verify --ulimit --unsetenv --userns --userns-gid-map --userns-gid-map-group --userns-uid-map --userns-uid-map-user --uts --variant --volume -D -c -f -m -o -q -t -v",
    ),
    (
        "push",
        "buildah push",
        "--all --authfile --cert-dir --compression-format --compression-level --creds --digestfile --disable-compression --encrypt-layer --encryption-key --format --quiet --remove-signatures --retry --retry-delay --rm --sign-by --tls-verify -D -f -q",
    ),
    (
        "pull",
        "buildah pull",
        "--all-tags --arch --authfile --cert-dir --creds --decryption-key --os --platform --policy --quiet --remove-signatures --retry --retry-delay --tls-verify --variant -a -q",
    ),
    (
        "login",
        "buildah login",
        "--authfile --cert-dir --get-login --password --password-stdin --tls-verify --username --verbose -p -u -v",
    ),
    ("logout", "buildah logout", "--all --authfile -a"),
    ("inspect", "buildah inspect", "--format --type -f -t"),
    (
        "images",
        "buildah images",
        "--all --digests --filter --format --history --json --no-trunc --noheading --quiet -a -f -n -q",
    ),
    ("rmi", "buildah rmi", "--all --force --prune -a -f -p"),
    (
        "build",
        "buildah build",
        "--add-host --all-platforms --annotation --arch --authfile --build-arg --build-context --cache-from --cache-to --cache-ttl --cap-add --cap-drop --cert-dir --cgroup-parent --cgroupns --compress --cpp-flag --cpu-period --cpu-quota --cpu-shares --cpuset-cpus --cpuset-mems --creds --decryption-key --device --disable-compression --disable-content-trust --dns --dns-option --dns-search --env --file --force-rm --format --from --hooks-dir --http-proxy --identity-label --ignorefile --iidfile --ipc --isolation --jobs --label --layers --logfile --logsplit --manifest --memory --memory-swap --network --no-cache --no-hosts --omit-history --os --os-feature --os-version --output --pid --platform --pull --quiet --retry --retry-delay --rm --runtime --runtime-flag --secret --security-opt --shm-size --sign-by --skip-unused-stages --squash --ssh --stdin --tag --target --timestamp --tls-verify --ulimit --unsetenv --userns --userns-gid-map --userns-gid-map-group --userns-uid-map --userns-uid-map-user --uts --variant --volume -D -c -f -m -o -q -t -v",
    ),
    ("push", "docker push", "--all-tags --disable-content-trust --platform --quiet -a -q"),
    ("pull", "docker pull", "--all-tags --disable-content-trust --platform --quiet -a -q"),
    ("login", "docker login", "--password --password-stdin --username -p -u"),
    ("inspect", "docker inspect", "--format --size --type -f -s"),
    (
        "images",
        "docker images",
        "--all --digests --filter --format --no-trunc --quiet --tree -a -f -q",
    ),
    ("rmi", "docker rmi", "--force --no-prune --platform -f"),
    (
        "build",
        "docker build",
        "--add-host --build-arg --cache-from --cgroup-parent --compress --cpu-period --cpu-quota --cpu-shares --cpuset-cpus --cpuset-mems --disable-content-trust --file --force-rm --iidfile --isolation --label --memory --memory-swap --network --no-cache --platform --pull --quiet --rm --security-opt --shm-size --squash --tag --target --ulimit -c -f -m -q -t",
    ),
    (
        "run",
        "podman run",
        "--add-host --annotation --arch --attach --authfile --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-conf --cgroup-parent --cgroupns --cgroups --chrootdirs --cidfile --conmon-pidfile --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime --cpu-shares --cpus --cpuset-cpus --cpuset-mems --detach --detach-keys --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --disable-content-trust --dns --dns-option --dns-search --entrypoint --env --env-file --env-host --env-merge --expose --gidmap --group-add --health-cmd --health-interval --health-on-failure --health-retries --health-start-period --health-timeout --hostname --hostuser --http-proxy --image-volume --init --init-path --interactive --ip --ip6 --ipc --label --label-file --log-driver --log-opt --mac-address --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --no-healthcheck --no-hosts --oom-kill-disable --oom-score-adj --os --passwd --passwd-entry --personality --pid --pidfile --pids-limit --platform --pod --pod-id-file --preserve-fds --privileged --publish --publish-all --pull --quiet --read-only --read-only-tmpfs --replace --requires --restart --rm --rmi --rootfs --sdnotify --seccomp-policy --secret --security-opt --shm-size --sig-proxy --stop-signal --stop-timeout --subgidname --subuidname --sysctl --systemd --timeout --tls-verify --tmpfs --tty --tz --uidmap --ulimit --umask --unsetenv --unsetenv-all --user --userns --uts --variant --volume --volumes-from --workdir -P -a -c -d -e -i -l -m -p -q -t -u -v -w",
    ),
    (
        "ps",
        "podman ps",
        "--all --external --filter --format --last --latest --no-trunc --noheading --ns --pod --quiet --size --sort --sync --watch -a -f -l -n -p -q -s -w",
    ),
    (
        "logs",
        "podman logs",
        "--color --follow --latest --names --since --tail --timestamps --until -f -l -n -t",
    ),
    ("stop", "podman stop", "--all --cidfile --filter --ignore --latest --time -a -f -i -l -t"),
    (
        "start",
        "podman start",
        "--all --attach --detach-keys --filter --interactive --latest --sig-proxy -a -f -i -l",
    ),
    ("restart", "podman restart", "--all --cidfile --filter --latest --running --time -a -f -l -t"),
    (
        "exec",
        "podman exec",
        "--detach --detach-keys --env --env-file --interactive --latest --preserve-fds --privileged --tty --user --workdir -d -e -i -l -t -u -w",
    ),
    (
        "rm",
        "podman rm",
        "--all --cidfile --depend --filter --force --ignore --latest --time --volumes -a -f -i -l -t -v",
    ),
    (
        "stats",
        "podman stats",
        "--all --format --interval --latest --no-reset --no-stream --no-trunc -a -i -l",
    ),
    ("version", "podman version", "--format -f"),
    (
        "run",
        "docker run",
        "--add-host --annotation --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent --cgroupns --cidfile --cpu-count --cpu-percent --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime --cpu-shares --cpus --cpuset-cpus --cpuset-mems --detach --detach-keys --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --disable-content-trust --dns --dns-option --dns-search --domainname --entrypoint --env --env-file --expose --gpus --group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout --hostname --init --interactive --io-maxbandwidth --io-maxiops --ip --ip6 --ipc --isolation --kernel-memory --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --no-healthcheck --oom-kill-disable --oom-score-adj --pid --pids-limit --platform --privileged --publish --publish-all --pull --quiet --read-only --restart --rm --runtime --security-opt --shm-size --sig-proxy --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs --tty --ulimit --use-api-socket --user --userns --uts --volume --volume-driver --volumes-from --workdir -P -a -c -d -e -i -l -m -p -q -t -u -v -w",
    ),
    (
        "ps",
        "docker ps",
        "--all --filter --format --last --latest --no-trunc --quiet --size -a -f -l -n -q -s",
    ),
    ("logs", "docker logs", "--details --follow --since --tail --timestamps --until -f -n -t"),
    ("stop", "docker stop", "--signal --timeout -s -t"),
    (
        "start",
        "docker start",
        "--attach --checkpoint --checkpoint-dir --detach-keys --interactive -a -i",
    ),
    ("restart", "docker restart", "--signal --timeout -s -t"),
    (
        "exec",
        "docker exec",
        "--detach --detach-keys --env --env-file --interactive --privileged --tty --user --workdir -d -e -i -t -u -w",
    ),
    ("rm", "docker rm", "--force --link --volumes -f -l -v"),
    ("stats", "docker stats", "--all --format --no-stream --no-trunc -a"),
    ("version", "docker version", "--format -f"),
    ("cache", "docker builder prune", "--all --filter --force --keep-storage -a -f"),
    ("cache", "podman system prune", "--all --filter --force --volumes -a -f"),
    (
        "copy",
        "crane copy",
        "-a --all-tags --no-clobber -n -j --jobs --allow-nondistributable-artifacts --insecure --platform -v --verbose",
    ),
    ("push", "crane push", "--image-refs --index --insecure --platform -v --verbose"),
    (
        "pull",
        "crane pull",
        "--format -c --cache_path --annotate-ref --insecure --platform -v --verbose",
    ),
    ("images", "crane ls", "--full-ref -O --omit-digest-tags --insecure -v --verbose"),
    ("login", "crane auth login", "-u --username -p --password --password-stdin"),
    (
        "copy",
        "oras copy",
        "--from-plain-http --to-plain-http --from-username --from-password --to-username --to-password --from-identity-token --to-identity-token --from-registry-config --to-registry-config --from-ca-file --to-ca-file --from-cert-file --to-cert-file --from-key-file --to-key-file --from-insecure --to-insecure --from-oci-layout --to-oci-layout --from-resolve --to-resolve --from-header --to-header --from-distribution-spec --to-distribution-spec -r --recursive --concurrency --no-tty -d --debug -v --verbose --platform",
    ),
    (
        "push",
        "oras push",
        "--artifact-type -a --annotation --annotation-file --config --export-manifest --image-spec --disable-path-validation --ca-file --cert-file --key-file --header --identity-token --registry-config --resolve --insecure --plain-http --concurrency -u --username -p --password --password-stdin -v --verbose --debug",
    ),
    (
        "pull",
        "oras pull",
        "-o --output --allow-path-traversal --include-subject -k --keep-old-files --concurrency --platform --config --ca-file --registry-config --insecure --plain-http -u --username -p --password --password-stdin --format",
    ),
    (
        "login",
        "oras login",
        "-u --username -p --password --password-stdin --identity-token --identity-token-stdin --insecure --plain-http --ca-file --registry-config --debug",
    ),
    ("logout", "oras logout", "--registry-config --debug"),
    (
        "tag",
        "oras tag",
        "--concurrency --plain-http --insecure -u --username -p --password --registry-config --ca-file --debug",
    ),
    (
        "images",
        "oras repo tags",
        "--last --exclude-digest-tags --format --plain-http --insecure --username --password --registry-config",
    ),
    (
        "inspect",
        "oras manifest fetch",
        "--descriptor --pretty --output -o --format --platform --plain-http --insecure --registry-config --ca-file",
    ),
    (
        "build",
        "ko build",
        "-B --bare --base-import-paths -P --preserve-import-paths --tag-only -t --tags -L --local --tarball --oci-layout-path --sbom --sbom-dir --image-refs --image-label --image-annotation --image-user --image-workdir --disable-optimizations --debug -j --jobs --platform --push --target-repo --insecure-registry -v --verbose",
    ),
    (
        "build",
        "ko apply",
        "-f -R --recursive -W --watch -l --selector -k --kustomize --prune --server-side --force --force-conflicts --record --validate --cascade --grace-period --overwrite --wait --field-manager --kubeconfig --context --cluster -n --namespace -s --server --token --as --as-group --as-uid --certificate-authority --client-certificate --client-key --insecure-skip-tls-verify --request-timeout --tls-server-name --cache-dir --match-server-version --dry-run",
    ),
    (
        "build",
        "go build",
        "-C -a -n -p -race -msan -asan -cover -covermode -coverpkg -v -work -x -asmflags -buildmode -buildvcs -compiler -gccgoflags -gcflags -installsuffix -json -ldflags -linkshared -mod -modcacherw -modfile -overlay -pgo -pkgdir -tags -trimpath -toolexec",
    ),
    (
        "run",
        "gondola build",
        "--go --go-flag --go-env --build-tags --ldflags --gcflags --asmflags --mod --cgo",
    ),
];

#[test]
fn every_flag_of_another_tool_is_one_of_ours_or_answered() {
    let mut program = Cli::command();
    program.build();
    let mut open = Vec::new();
    for (verb, tool, words) in WALK {
        // Without a command, what stands in front of it.
        let command = program.find_subcommand(verb).unwrap_or(&program);
        let own: BTreeSet<String> = flags_of(command);
        let unknown = words
            .split(' ')
            .filter(|word| !own.contains(*word) && super::flag(verb, word).is_none());
        open.extend(unknown.map(|word| format!("gondola {verb} {word} ({tool})")));
    }
    assert!(open.is_empty(), "{open:#?}");
}
