//! How programs end, and that nothing is left of them.

use std::path::Path;
use std::time::Duration;

use fs_err as fs;
use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, kill_process};

use super::support::need;
use super::world::{User, World, as_users};

const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until whoever keeps the container has ended.
fn wait_for_end(folder: &Path) {
    let lock = fs::File::open(folder.join("lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
}

/// The process that keeps the container.
fn supervisor(folder: &Path) -> Pid {
    let noted: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("lock")).unwrap()).unwrap();
    Pid::from_raw(i32::try_from(noted["pid"].as_i64().unwrap()).unwrap()).unwrap()
}

/// Kills the process that keeps the container, and waits until it has ended.
pub fn kill_supervisor(folder: &Path) {
    kill_process(supervisor(folder), Signal::KILL).unwrap();
    wait_for_end(folder);
}

#[test]
fn a_program_ends_as_it_likes_when_asked_and_is_killed_when_it_does_not() {
    as_users!(|world: &World| {
        let script = "trap 'echo bye; exit 5' USR1; echo up; while :; do sleep 0.1; done";
        world.gondola(&["run", "-d", "--name", "polite", "IMAGE", "sh", "-c", script]).success();
        world.wait_for_log("polite", "up");
        world.gondola(&["stop", "polite"]).success();
        assert_eq!(world.ps("polite")["exitCode"], 5);
        assert_eq!(world.gondola(&["logs", "polite"]).stdout, "up\nbye\n");
        let script = "trap '' USR1 TERM; echo up; while :; do sleep 0.1; done";
        let run =
            ["run", "-d", "--stop-timeout", "1", "--name", "deaf", "IMAGE", "sh", "-c", script];
        world.gondola(&run).success();
        world.wait_for_log("deaf", "up");
        world.gondola(&["stop", "deaf"]).success();
        assert_eq!(world.ps("deaf")["exitCode"], 137);
        let run =
            ["run", "-d", "--stop-signal", "KILL", "--name", "shot", "IMAGE", "sleep", "1000"];
        world.gondola(&run).success();
        world.gondola(&["stop", "-t", "-1", "shot"]).success();
        assert_eq!(world.ps("shot")["exitCode"], 137);
        world.gondola(&["stop", "polite", "nobody"]).code(1).says("there is none");
    });
}

#[test]
fn a_killed_supervisor_leaves_a_dead_container_that_can_be_started_and_removed() {
    as_users!(|world: &World| {
        let run = ["run", "-d", "--name", "bg", "IMAGE", "sh", "-c", "echo up; sleep 1000"];
        world.gondola(&run).success();
        world.wait_for_log("bg", "up");
        let folder = world.container_folder();
        let follow = world.start(&["logs", "-f", "bg"], "up");
        kill_supervisor(&folder);
        assert_eq!(world.ps("bg")["status"], "dead");
        assert!(world.gondola(&["ps", "-a"]).success().stdout.contains(" Dead "));
        assert_eq!(world.gondola(&["ps", "-q"]).success().stdout, "");
        assert_eq!(follow.wait(PATIENCE, |_| None::<()>), None);
        world.gondola(&["exec", "bg", "true"]).code(125).says("it is dead");
        world.gondola(&["restart", "bg"]).success();
        world.wait_for_log("bg", "up\nup");
        kill_supervisor(&folder);
        world.gondola(&["rm", "bg"]).success();
        assert_eq!(world.count(), 0);
    });
}

#[test]
fn a_container_to_be_removed_is_gone_when_its_supervisor_is_killed() {
    as_users!(|world: &World| {
        let run = ["run", "-d", "--rm", "--name", "bg", "IMAGE", "sh", "-c", "echo up; sleep 1000"];
        world.gondola(&run).success();
        world.wait_for_log("bg", "up");
        kill_supervisor(&world.container_folder());
        assert_eq!(world.gondola(&["ps", "-aq"]).success().stdout, "");
        world.gondola(&["logs", "bg"]).code(1).says("there is none");
        // At whatever moment it is killed.
        for round in 0..60 {
            let mut command = world.gondola_command(&["run", "--rm", "IMAGE", "sleep", "1"]);
            let mut child = command.spawn().unwrap();
            std::thread::sleep(Duration::from_millis(3 * round));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(world.gondola(&["ps", "-aq"]).success().stdout, "");
        // What was still in the making goes with the next.
        world.script(&[], "true").success();
        let left = fs::read_dir(world.home().join("store/gondola/containers")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["lock"]);
    });
}

#[test]
fn what_a_program_leaves_behind_ends_with_it() {
    as_users!(|world: &World| {
        // Reading its output to the end would hang, if the sleeper lived on.
        let ran = world.script(&[], "sleep 1000 & echo started").success();
        assert_eq!(ran.stdout, "started\n");
        world.gondola(&["run", "--timeout", "1", "--rm", "IMAGE", "sleep", "1000"]).code(124);
    });
}

#[test]
fn ctrl_c_asks_first_and_kills_the_second_time() {
    as_users!(|world: &World| {
        let run = |script: &str| {
            let mut command = world
                .gondola_command(&["run", "--rm", "--name", "fg", "IMAGE", "sh", "-c", script]);
            command.stdout(std::process::Stdio::piped()).spawn().unwrap()
        };
        let read = |child: &mut std::process::Child, wanted: &str| {
            let mut text = vec![0; wanted.len()];
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut text).unwrap();
            assert_eq!(String::from_utf8(text).unwrap(), wanted);
        };
        let interrupt = || {
            // `setpriv` became the program: the lock names it.
            kill_process(supervisor(&world.container_folder()), Signal::INT).unwrap();
        };
        let mut child = run("echo up; sleep 1000");
        read(&mut child, "up\n");
        interrupt();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let mut child = run("trap 'echo asked' INT; echo up; while :; do sleep 0.1; done");
        read(&mut child, "up\n");
        interrupt();
        read(&mut child, "asked\n");
        interrupt();
        assert_eq!(child.wait().unwrap().code(), Some(137));
        let mut child = run("trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done");
        read(&mut child, "up\n");
        kill_process(supervisor(&world.container_folder()), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(3));
        assert_eq!(world.count(), 0);
    });
}

#[test]
fn files_that_a_program_shut_are_removed_all_the_same() {
    as_users!(|world: &World| {
        let script = "mkdir -p /work/a/b; touch /work/a/b/c; chmod 0 /work/a/b /work/a";
        world.gondola(&["run", "--name", "shut", "IMAGE", "busybox", "sh", "-c", script]).success();
        world.gondola(&["rm", "shut"]).success();
        let left = fs::read_dir(world.home().join("store/gondola/containers")).unwrap();
        assert_eq!(left.count(), 1, "the lock alone");
    });
}

#[test]
fn a_program_in_the_foreground_is_stopped_and_listed_like_any_other() {
    let world = need!(World::new(User::Own));
    let service =
        world.start(&["run", "--name", "fg", "IMAGE", "sh", "-c", "echo up; sleep 1000"], "up");
    assert_eq!(world.ps("fg")["status"], "running");
    world.gondola(&["stop", "-t", "1", "fg"]).success();
    assert_eq!(service.wait(PATIENCE, |_| None::<()>), None);
    assert_eq!(world.gondola(&["logs", "fg"]).success().stdout, "up\n");
    world.gondola(&["rm", "fg"]).success();
}
