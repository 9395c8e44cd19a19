//! Containers that run by themselves.

use fs_err as fs;
use serde_json::Value;

use super::support::{Run, Sandbox, need};
use super::world::{User, World, as_users};

/// Counts its starts in a file, says so, and stays.
const COUNTER: &str = "echo x >>/work/starts; cat /work/starts; echo up $(wc -l </work/starts); echo warn >&2; sleep 1000 & wait";

#[test]
fn a_container_is_listed_stopped_restarted_with_its_files_and_removed() {
    as_users!(|world: &World| {
        let run = ["run", "-d", "--name", "bg", "IMAGE", "sh", "-c", COUNTER];
        let id = world.gondola(&run).success().line().to_owned();
        assert_eq!(id.len(), 64);
        world.wait_for_log("bg", "up");
        let row = world.ps("bg");
        assert_eq!((&row["status"], &row["id"]), (&"running".into(), &id.clone().into()));
        let table = world.gondola(&["ps"]).success().stdout;
        assert!(table.starts_with("CONTAINER ID") && table.contains(" Up "), "{table}");
        assert!(table.contains("\"sh -c echo x >>/wor…\""), "{table}");
        world.gondola(&["rm", "bg"]).code(1).says("gondola rm -f bg");
        // The image's own signal, which the shell does not handle.
        assert_eq!(world.gondola(&["stop", "bg"]).success().stdout, "bg\n");
        let row = world.ps("bg");
        assert_eq!((&row["status"], &row["exitCode"]), (&"exited".into(), &138.into()));
        world.gondola(&["stop", "bg"]).success();
        assert_eq!(world.gondola(&["ps", "-q"]).success().stdout, "");
        world.gondola(&["restart", &id[..7]]).success();
        world.wait_for_log("bg", "up 2");
        world.gondola(&["restart", "-t", "5", "bg"]).success();
        world.wait_for_log("bg", "up 3");
        assert_eq!(world.gondola(&["rm", "-f", "bg", "none"]).success().stdout, "bg\n");
        assert_eq!(world.count(), 0);
        let left = fs::read_dir(world.home().join("store/gondola/containers")).unwrap();
        assert_eq!(left.count(), 1, "the lock alone");
    });
}

#[test]
fn logs_are_followed_to_the_end_and_chosen_by_lines_and_times() {
    as_users!(|world: &World| {
        let script = "for i in 1 2 3; do echo line $i; done; echo oops >&2; cat";
        let run = ["run", "-d", "-i", "--name", "bg", "IMAGE", "sh", "-c", script];
        world.gondola(&run).success();
        let follow = world.start(&["logs", "-f", "bg"], "oops");
        world.gondola(&["stop", "-s", "TERM", "bg"]).success();
        // It ends by itself, with the container.
        assert_eq!(follow.wait(std::time::Duration::from_secs(20), |_| None::<()>), None);
        let logs =
            |arguments: &[&str]| world.gondola(&[&["logs"], arguments, &["bg"]].concat()).success();
        let all = logs(&[]);
        assert_eq!(
            (all.stdout.as_str(), all.stderr.as_str()),
            ("line 1\nline 2\nline 3\n", "oops\n")
        );
        // Two streams have no order among each other.
        let last = logs(&["--tail", "2"]);
        assert_eq!(last.stdout.lines().count() + last.stderr.lines().count(), 2, "{last:?}");
        assert_eq!(logs(&["-n", "0"]).stdout, "");
        assert_eq!(logs(&["--since", "1h"]).stdout, all.stdout);
        assert_eq!(logs(&["--until", "1h"]).stdout, "");
        let timed = logs(&["-t"]).stdout;
        let (time, text) = timed.lines().next().unwrap().split_once(' ').unwrap();
        assert_eq!((time.len(), text), ("2026-01-02T03:04:05.000000006Z".len(), "line 1"));
        // The file is the one that the documentation describes.
        let file = fs::read_to_string(world.container_folder().join("log")).unwrap();
        let line = file.lines().find(|line| line.contains("oops")).unwrap();
        assert!(line.ends_with(" stderr F oops"), "{file}");
    });
}

#[test]
fn further_programs_run_with_options_of_their_own_and_the_containers_settings() {
    as_users!(|world: &World| {
        let run = ["run", "-d", "-e", "A=1", "--name", "bg", "IMAGE", "sh", "-c", COUNTER];
        world.gondola(&run).success();
        world.wait_for_log("bg", "up");
        let exec = |options: &[&str], script: &str| {
            world.gondola(&[&["exec"], options, &["bg", "sh", "-c", script]].concat())
        };
        let ran = exec(&[], "cat /work/starts; id -u; pwd; echo $A $GREETING; exit 9").code(9);
        assert_eq!(ran.stdout, "x\n1000\n/work\n1 hello\n");
        let ran = exec(&["-e", "A=2", "-w", "/tmp", "-u", "0"], "id -u; pwd; echo $A").success();
        assert_eq!(ran.stdout, "0\n/tmp\n2\n");
        let ran = exec(&["-t"], "[ -t 1 ] && echo terminal").success();
        assert_eq!(ran.stdout, "terminal\r\n");
        let ran = exec(&[], "ps | grep -c 'sleep 1000' >/dev/null || [ $(ps | wc -l) -gt 2 ]");
        assert!(matches!(ran.code, Some(0 | 1)), "{ran:?}");
        world.gondola(&["exec", "bg", "missing"]).code(127).says("missing: not found");
        world.gondola(&["exec", "nobody", "true"]).code(125).says("there is none");
        world.gondola(&["stop", "bg"]).success();
        exec(&[], "true").code(125).says("gondola restart bg");
    });
}

#[test]
fn statistics_count_the_containers_own_processes() {
    as_users!(|world: &World| {
        let script = "sleep 1000 & echo up; while :; do :; done";
        world.gondola(&["run", "-d", "--name", "busy", "IMAGE", "sh", "-c", script]).success();
        world.wait_for_log("busy", "up");
        let stats = world.gondola(&["stats", "--no-stream", "--json"]).success().stdout;
        let stats: Value = serde_json::from_str(&stats).unwrap();
        let row = &stats[0];
        assert_eq!((&row["name"], &row["pids"]), (&"busy".into(), &2.into()), "{stats}");
        let busy = row["cpuPercent"].as_f64().unwrap();
        assert!(busy > 5.0 && busy < 150.0, "{stats}");
        assert!(row["memoryBytes"].as_u64().unwrap() > 100_000, "{stats}");
        let table = world.gondola(&["stats", "--no-stream", "busy"]).success().stdout;
        assert!(table.starts_with("CONTAINER ID  NAME  CPU %"), "{table}");
    });
}

#[test]
fn a_container_that_removes_itself_leaves_nothing_and_is_not_restarted() {
    as_users!(|world: &World| {
        let run = ["run", "-d", "--rm", "--name", "bg", "IMAGE", "sh", "-c", COUNTER];
        world.gondola(&run).success();
        world.gondola(&["restart", "bg"]).code(2).says("--rm");
        world.gondola(&["stop", "-t", "0", "bg"]).success();
        assert_eq!(world.count(), 0);
        world.gondola(&run).success();
        world.gondola(&["rm", "-f", "bg"]).success();
        assert_eq!(world.count(), 0);
    });
}

#[test]
fn a_log_that_cannot_be_written_stops_no_program() {
    let world = need!(World::new(User::Own));
    world
        .gondola(&["run", "--name", "full", "IMAGE", "sh", "-c", "yes | head -c 100000; exit 4"])
        .code(4);
    let log = world.container_folder().join("log");
    fs::remove_file(&log).unwrap();
    std::os::unix::fs::symlink("/dev/full", &log).unwrap();
    world.gondola(&["restart", "full"]).success();
    // With nobody to tell of its end but the state.
    world.gondola(&["stop", "-t", "20", "-s", "CONT", "full"]).success();
    assert_eq!(world.ps("full")["exitCode"], 4);
}

#[test]
fn a_program_that_was_replaced_while_it_starts_a_container_finds_the_older_verb() {
    let sandbox = Sandbox::new();
    let said = |verb| sandbox.gondola(&[verb, "nothing"]).code(1).stderr;
    assert_eq!(said("keep"), said("shim"));
    assert!(said("shim").contains("nothing"));
}

#[test]
fn whatever_runs_keeps_what_it_needs_and_nothing_else() {
    let world = need!(World::new(User::Own));
    world.gondola(&["run", "-d", "--name", "web", "IMAGE", "sh", "-c", COUNTER]).success();
    world.wait_for_log("web", "up 1");
    let long = "echo begun; exec sleep 1000";
    let running = [
        world.start(&["logs", "-f", "web"], "up 1"),
        world.start(&["stats"], "web"),
        world.start(&["exec", "web", "sh", "-c", long], "begun"),
        world.start(&["run", "--name", "front", "IMAGE", "sh", "-c", long], "begun"),
    ];
    let build = |number: usize, keep: &str| {
        fs::write(world.home().join("tool"), format!("tool {number}")).unwrap();
        let words = ["build", "--base", "scratch", "--prebuilt", "tool", "-o", "oci:out"];
        Run::of(world.gondola_command(&words).env("GONDOLA_STORE_KEEP", keep)).success();
    };
    let du = || -> Value {
        let printed = world.gondola(&["cache", "du", "--json"]).success().stdout;
        serde_json::from_str(&printed).unwrap()
    };
    (0..3).for_each(|number| build(number, ""));
    let before = du()["layers"]["count"].as_u64().unwrap();
    // The bound ends when its time is up, and goes on the next time. The last build's own stay.
    let is_bounded = |number| {
        build(number, "1");
        3 * du()["layers"]["count"].as_u64().unwrap() <= before
    };
    assert!((3..50).any(is_bounded), "{before} layers before: {}", du());
    world.gondola(&["cache", "prune", "--all"]).success();
    let du = du();
    for (cache, usage) in du.as_object().unwrap() {
        if !["containers", "unpacked", "temporary"].contains(&cache.as_str()) {
            assert!(usage["count"].as_u64().unwrap_or_default() == 0, "{cache} is held: {du}");
        }
    }
    // What the two have of the image is there: of the running ones, and for another start.
    world.gondola(&["exec", "web", "cat", "/data/seed"]).success();
    world.gondola(&["exec", "front", "cat", "/data/seed"]).success();
    drop(running);
    world.gondola(&["restart", "-t", "0", "web"]).success();
    world.wait_for_log("web", "up 2");
}
