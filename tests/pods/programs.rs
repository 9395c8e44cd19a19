//! Programs that need more of `/proc` and `/dev` than others, as root of an ordinary container.

use super::pod::{Pod, layers};
use super::support::{Base, Bases, need};

/// Fails where anything is not as in docker's containers.
const SCRIPT: &str = r#"#!/bin/bash
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
cat <(echo "bash of $(id -u)")
python3 -c 'import multiprocessing as m; print("python", m.Pool(2).map(abs, [-1, 2]))'
node -e 'console.log("node", require("fs").readlinkSync("/proc/self/exe"))'
java -XX:-UsePerfData -version 2>&1 | sed -n 's/^openjdk version .*/java runs/p'
cargo --version | sed 's/ .*/ runs/'
echo "to the standard error" >/dev/stderr
echo "to the standard output" >/dev/stdout
echo piped | cat /dev/stdin
for device in null 1:3 zero 1:5 full 1:7 random 1:8 urandom 1:9 tty 5:0; do
  case $device in
    *:*) test "$(stat -c '%a %F %t:%T' "/dev/$name")" = "666 character special file $device" ;;
    *) name=$device ;;
  esac
done
test "$(head -c 3 /dev/zero | wc -c)" = 3
! echo x >/dev/full
echo x >/dev/null
head -c 1 /dev/urandom | wc -c | grep -q 1
for link in fd stdin stdout stderr; do test -L /dev/$link; done
test "$(stat -c %a /dev/shm)" = 1777
echo x >/dev/shm/mine
grep -q localhost /etc/hosts
test "$(cat /etc/hostname)" = "$(cat /proc/sys/kernel/hostname)"
test -f /etc/resolv.conf
ls -l /proc/self/fd >/dev/null
test "$(tr '\0' ' ' </proc/self/cmdline | cut -d' ' -f1)" = tr
"#;

const LINES: [&str; 7] = [
    "python [1, 2]",
    "node /usr/local/bin/node",
    "java runs",
    "cargo runs",
    "to the standard error",
    "to the standard output",
    "piped",
];

#[test]
fn programs_of_every_kind_run_in_a_container_as_root_and_as_a_user() {
    let bases = need!(Bases::start());
    need!(bases.digest(Base::Programs));
    let pod = need!(Pod::new(bases.registry().host()));
    let step = |marks: &str| format!("RUN <<'{marks}'\n{SCRIPT}{marks}\n");
    let both = format!("FROM programs\n{}USER 1000\n{}", step("ROOT"), step("APP"));
    pod.write("Dockerfile", &both);
    let (run, image) = pod.built(&[], &[]);
    for user in ["0", "1000"] {
        assert!(run.stderr.contains(&format!("bash of {user}")), "{}", run.stderr);
    }
    for line in LINES {
        assert_eq!(run.stderr.matches(line).count(), 2, "{line}: {}", run.stderr);
    }
    // Nothing that is there for steps alone is in a layer.
    assert_eq!(layers(&image), layers(&pod.built_outside(&[])));

    let packages = "FROM programs\nRUN apt-get update && apt-get install -y uuid-runtime && uuidgen >/id\n\
        RUN useradd --create-home made && su made -c id >/made\nUSER made\nRUN id -un >~/me\n";
    pod.write("Dockerfile", packages);
    let (_, image) = pod.built(&[], &[]);
    let files = image.files();
    let text = |path: &str| String::from_utf8_lossy(&files[path].bytes).into_owned();
    assert_eq!(text("id").trim().len(), 36);
    assert!(text("made").contains("(made)"), "{}", text("made"));
    assert_eq!(text("home/made/me"), "made\n");
    let ours = files.keys().find(|path| path.starts_with("dev/") || path.contains("gondola"));
    assert_eq!(ours, None);
}
