//! Where the result is meant to differ from buildah's, with the reason. BuildKit is the reference.
//!
//! Each row holds what our line has to be, so that a row excuses nothing but what it states; a row
//! that no longer differs fails its case.

use crate::support::Lines;

/// The case; the path or `config FIELD`, with a `*` at its end for everything that begins like
/// this; our whole line, or that there is none; the reason.
type Difference = (&'static str, &'static str, Option<&'static str>, &'static str);

/// Every deliberate difference. Those of the case `*` may show in any.
#[rustfmt::skip]
const DIFFERENCES: &[Difference] = &[
    ("*", "/etc/hostname", None, "buildah leaves what it mounts; BuildKit takes its stubs away"),
    ("*", "/etc/hosts", None, "buildah leaves what it mounts; BuildKit takes its stubs away"),
    ("*", "/etc/resolv.conf", None, "buildah leaves what it mounts; BuildKit takes its stubs away"),
    ("add-archive-over", "/owned/dir", Some("d 0755 1:2 /owned/dir"), "--chown holds for what is unpacked, too"),
    ("add-archive-over", "/owned/dir/added", Some(r"f 0644 1:2 /owned/dir/added added\n"), "--chown holds for what is unpacked, too"),
    ("add-archive-over", "/owned/file", Some(r"f 0644 1:2 /owned/file new\n"), "--chown holds for what is unpacked, too"),
    ("add-archive-over", "/owned/new", Some("d 0755 1:2 /owned/new"), "--chown holds for what is unpacked, too"),
    ("add-archive-over", "/owned/new/n", Some(r"f 0644 1:2 /owned/new/n n\n"), "--chown holds for what is unpacked, too"),
    ("arg-and-env", "/arg-after-env", Some(r"f 0644 0:0 /arg-after-env arg\n"), "BuildKit adds ARG to the environment in its turn: the later one holds"),
    ("arg-sequence", "/args", Some(r"f 0644 0:0 /args 1 1 12\n"), "the arguments of one ARG are evaluated one after the other"),
    ("copy-chmod", "/dir", Some("d 0750 0:0 /dir"), "the folder made for the copy takes --chmod"),
    ("copy-implicit-parents", "/f", Some("d 0700 1:2 /f"), "parents made for a copy take --chmod"),
    ("copy-implicit-parents", "/f/g", Some("d 0700 1:2 /f/g"), "parents made for a copy take --chmod"),
    ("copy-modes", "/d2755", Some("d 2755 0:0 /d2755"), "all permission bits of the context are kept"),
    ("copy-modes", "/d4755", Some("d 4755 0:0 /d4755"), "all permission bits of the context are kept"),
    ("copy-modes", "/f2755", Some(r"f 2755 0:0 /f2755 2755\n"), "all permission bits of the context are kept"),
    ("copy-modes", "/f4755", Some(r"f 4755 0:0 /f4755 4755\n"), "all permission bits of the context are kept"),
    ("copy-over-symlink", "/link", Some("l 0777 0:0 /link -> target"), "BuildKit resolves the destination, its last part too"),
    ("copy-over-symlink", "/target", Some(r"f 0644 0:0 /target new\n"), "BuildKit resolves the destination, its last part too"),
    ("dockerignore-not-from", "/seen", Some(r"f 0644 0:0 /seen /context\n/context/build\n/context/build/keep\n/context/build/keep/this\n/context/build/out\n/context/node_modules\n/context/node_modules/m\n/context/node_modules/m/index.js\n/context/src\n/context/src/deep\n/context/src/deep/er\n/context/src/deep/er/x.tmp\n/context/src/deep/y.go\n/context/src/main.go\n/context/src/main_test.go\n/context/src/vendor\n/context/src/vendor/v.go\n"), "ignored files are no part of the context, and so of no mount of it"),
    ("metadata", "config ExposedPorts", Some(r#"config ExposedPorts {"443/tcp":{},"53/udp":{},"80/tcp":{},"8000/tcp":{},"8001/tcp":{},"8002/tcp":{},"9000/sctp":{}}"#), "ranges are written out, protocols in small letters"),
    ("mount-bind", "/mnt*", None, "folders made for mounts go again"),
    ("mount-bind-writable", "/seen", Some(r"f 0644 0:0 /seen new\nold\nfile\n"), "what is written to a bind mount is thrown away"),
    ("mount-bind-writable", "/out/other", None, "what is written to a bind mount is thrown away"),
    ("mount-bind-writable", "/out/file", Some(r"f 0644 0:0 /out/file built\n"), "what is written to a bind mount is thrown away"),
    ("mount-cache", "/out/expanded", Some(r"f 0644 0:0 /out/expanded x\n"), "buildah keeps its lock in the cache"),
    ("mount-cache", "/var/cache", None, "folders made for mounts go again"),
    ("mount-secret", "/root/deep", None, "folders made for mounts go again"),
    ("mount-secret", "/run/secrets", None, "folders made for mounts go again"),
    ("mount-secret", "/seen", Some(r"f 0644 0:0 /seen hush\n440 5:6\n-r--------\nnone\n"), "without a secret there is no folder of secrets"),
    ("mount-tmpfs", "/made*", None, "folders made for mounts go again"),
    ("shell-form", "config Cmd", Some(r#"config Cmd ["/bin/busybox","ash","-c","echo cmd"]"#), "SHELL holds for CMD and ENTRYPOINT"),
    ("shell-form", "config Entrypoint", Some(r#"config Entrypoint ["/bin/busybox","ash","-c","echo entry"]"#), "SHELL holds for CMD and ENTRYPOINT"),
    ("stage-on-stage", "/tmp/seen", Some(r"f 0644 65534:65534 /tmp/seen red dark /work 65534\n"), "arguments of a stage hold in those on it"),
    ("volume", "/json", None, "VOLUME makes no folder"),
    ("volume", "/log", None, "VOLUME makes no folder"),
    ("volume", r"/with\sspace", None, "VOLUME makes no folder"),
    ("volume-then-run", "/data/after", Some(r"f 0644 0:0 /data/after after\n"), "what RUN writes below a volume stays"),
    ("volume-then-run", "/data/before", None, "what RUN removes below a volume is gone"),
    ("tutorial", "/root/.cache*", None, "the caches of Go are mounted by themselves"),
    ("*", "config WorkingDir", Some(r#"config WorkingDir "/""#), "BuildKit's empty image has it"),
    ("*", "config ArgsEscaped", Some("config ArgsEscaped true"), "BuildKit sets it with CMD"),
    ("add-archives", "/by-content", Some("d 0755 0:0 /by-content"), "the archive's entry for its root has no say in a folder that is there"),
    ("add-archives", "/bz2", Some("d 0755 0:0 /bz2"), "the archive's entry for its root has no say in a folder that is there"),
    ("add-archives", "/gz", Some("d 0755 0:0 /gz"), "the archive's entry for its root has no say in a folder that is there"),
    ("add-archives", "/tar", Some("d 0755 0:0 /tar"), "the archive's entry for its root has no say in a folder that is there"),
    ("add-archives", "/with-file", Some("d 0755 0:0 /with-file"), "the archive's entry for its root has no say in a folder that is there"),
    ("add-archives", "/xz", Some("d 0755 0:0 /xz"), "the archive's entry for its root has no say in a folder that is there"),
    ("mount-from-image", "/dev", None, "buildah leaves what it mounts; BuildKit takes its stubs away"),
    ("mount-from-image", "/etc", None, "buildah leaves what it mounts; BuildKit takes its stubs away"),
    ("mount-from-image", "/proc", None, "buildah leaves what it mounts; BuildKit takes its stubs away"),
    ("mount-from-image", "/run", None, "buildah leaves what it mounts; BuildKit takes its stubs away"),
    ("mount-from-image", "/sys", None, "buildah leaves what it mounts; BuildKit takes its stubs away"),
    ("mount-tmpfs", "/there", Some("d 0755 0:0 /there"), "buildah removes the folder that it mounted over"),
    ("mount-tmpfs", "/there/file", Some(r"f 0644 0:0 /there/file hidden\n"), "buildah removes the folder that it mounted over"),
    ("scratch-static", "/dev", None, "buildah leaves what it mounts; BuildKit takes its stubs away"),
    ("scratch-static", "/proc", None, "buildah leaves what it mounts; BuildKit takes its stubs away"),
    ("scratch-static", "/run", None, "buildah leaves what it mounts; BuildKit takes its stubs away"),
    ("scratch-static", "/sys", None, "buildah leaves what it mounts; BuildKit takes its stubs away"),
    ("run-hard-links", "/h/soft", Some("l 0777 0:0 /h/soft -> one"), "two names of one symbolic link are two links: nobody can tell, and not every reader knows them"),
    ("run-hard-links", "/h/soft-hard", Some("l 0777 0:0 /h/soft-hard -> one"), "two names of one symbolic link are two links: nobody can tell, and not every reader knows them"),
    ("run-stubs", "/dev", None, "buildah leaves what it mounts; BuildKit takes its stubs away"),
    ("run-stubs", "/etc", None, "buildah leaves what it mounts; BuildKit takes its stubs away"),
    ("run-stubs", "/proc", None, "buildah leaves what it mounts; BuildKit takes its stubs away"),
    ("run-stubs", "/run", None, "buildah leaves what it mounts; BuildKit takes its stubs away"),
    ("run-stubs", "/sys", None, "buildah leaves what it mounts; BuildKit takes its stubs away"),
    ("apt-as-in-real-files", "/var/cache/apt", Some("d 0755 0:0 /var/cache/apt"), "buildah removes the folders that it mounted over"),
    ("apt-as-in-real-files", "/var/cache/apt/archives", Some("d 0755 0:0 /var/cache/apt/archives"), "buildah removes the folders that it mounted over"),
    ("apt-as-in-real-files", "/var/cache/apt/archives/partial", Some("d 0755 0:0 /var/cache/apt/archives/partial"), "buildah removes the folders that it mounted over"),
    ("apt-as-in-real-files", "/var/lib/apt/lists", Some("d 0755 0:0 /var/lib/apt/lists"), "buildah removes the folders that it mounted over"),
    ("apt-as-in-real-files", "/var/lib/apt/lists/partial", Some("d 0755 0:0 /var/lib/apt/lists/partial"), "buildah removes the folders that it mounted over"),
    ("go-without-module", "/found", Some(r"f 0644 0:0 /found main\n"), "Go builds a folder of no module, as before there were any"),
    ("go-without-module", "/go/pkg", None, "the module cache is mounted aside"),
    ("go-without-module", "/go/pkg/mod", None, "the module cache is mounted aside"),
    ("go-without-module", "/mode", Some(r"f 0644 0:0 /mode GO111MODULE=auto\n"), "Go builds a folder of no module, as before there were any"),
    ("tutorial", "/root/.config*", None, "what Go counts about itself is no part of the image"),
];

/// What differs in a case and is not meant to, one text each.
pub fn unexcused(case: &str, ours: &Lines, theirs: &Lines) -> Vec<String> {
    let rows: Vec<_> = DIFFERENCES.iter().filter(|row| row.0 == case || row.0 == "*").collect();
    let mut used = vec![false; rows.len()];
    let mut rest = Vec::new();
    for (subject, our, their) in ours.differences(theirs) {
        match rows.iter().position(|row| covers(row.1, subject) && row.2 == our) {
            Some(row) => used[row] = true,
            None => rest.push(format!(
                "  {subject}\n    ours:   {}\n    theirs: {}",
                our.unwrap_or("-"),
                their.unwrap_or("-")
            )),
        }
    }
    let stale = rows.iter().zip(used).filter(|(row, used)| !used && row.0 == case);
    rest.extend(stale.map(|(row, _)| format!("  {}: differs no longer because {}", row.1, row.3)));
    rest
}

fn covers(pattern: &str, subject: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => subject.starts_with(start),
        None => pattern == subject,
    }
}
