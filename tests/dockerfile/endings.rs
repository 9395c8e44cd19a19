//! Steps that nobody waits for any more.

use super::bench::Bench;
use super::support::need;

#[test]
fn a_failing_step_stops_those_of_other_stages_at_once() {
    let bench = need!(Bench::new());
    let word = format!("{}98765", std::process::id());
    bench.file(&format!(
        "FROM busybox AS slow\n\
         RUN --mount=type=cache,target=/both sleep {word} & touch /both/begun; sleep {word}\n\
         FROM busybox AS failing\n\
         RUN --mount=type=cache,target=/both \
         timeout 60 sh -c 'until test -e /both/begun; do :; done'; exit 7\n\
         FROM scratch\nCOPY --from=slow / /\nCOPY --from=failing / /\n"
    ));
    let ran = bench.run(&["--progress=plain"]).code(1).says("exit code 7");
    // It had ended before the program did, and was not only left behind.
    let stopped = |line: &str| line.contains("[slow 2/2]") && line.contains(": stopped after ");
    assert!(ran.stderr.lines().any(stopped), "{}", ran.stderr);
    assert_eq!(processes(&word), Vec::<String>::new());
    // Files of steps are in the trash, which the next run empties; nothing counts as in use.
    let left = fs_err::read_dir(bench.sandbox.store().join("gondola/work")).unwrap();
    let mut left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.find(|name| !name.starts_with("trash-")), None);
}

/// The processes whose command line holds a word.
fn processes(word: &str) -> Vec<String> {
    let entries = fs_err::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let lines = entries.filter_map(|path| fs_err::read(path.join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(word)).collect()
}
