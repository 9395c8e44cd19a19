//! What containers are called.

use super::endings::kill_supervisor;
use super::support::{Run, need};
use super::world::{User, World};

#[test]
fn a_name_is_taken_until_its_container_is_removed() {
    let world = need!(World::new(User::Own));
    world.gondola(&["run", "--name", "one", "IMAGE", "true"]).success();
    let taken = world.gondola(&["run", "--name", "one", "oci:missing"]).code(125);
    assert!(taken.stderr.contains("has this name; hint: gondola rm -f one"), "{taken:?}");
    world.gondola(&["rm", "one"]).success();
    world.gondola(&["run", "--name", "one", "IMAGE", "true"]).success();
    for bad in ["a b", "-", "ä", "a/b", "x"] {
        world
            .gondola(&["run", &format!("--name={bad}"), "IMAGE", "true"])
            .code(125)
            .says("cannot call a container");
    }
    assert_eq!(world.count(), 1);
}

#[test]
fn of_two_at_once_one_gets_the_name() {
    let world = need!(World::new(User::Own));
    let run = || {
        let mut command =
            world.gondola_command(&["run", "-d", "--name", "one", "IMAGE", "sleep", "1000"]);
        std::thread::spawn(move || Run::of(&mut command).code)
    };
    let started: Vec<_> = (0..4).map(|_| run()).collect();
    let mut codes: Vec<_> = started.into_iter().map(|thread| thread.join().unwrap()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(125), Some(125), Some(125)]);
    assert_eq!(world.count(), 1);
}

#[test]
fn an_id_may_be_shortened_and_a_name_that_is_near_is_suggested() {
    let world = need!(World::new(User::Own));
    world.gondola(&["run", "--name", "container-one", "IMAGE", "true"]).success();
    world.gondola(&["run", "IMAGE", "true"]).success();
    let id = world.ps("container-one")["id"].as_str().unwrap().to_owned();
    world.gondola(&["logs", &id]).success();
    world.gondola(&["logs", &id[..8]]).success();
    world.gondola(&["logs", "container-on"]).code(1).says("did you mean container-one?");
    assert_eq!(
        world.gondola(&["ps", "-aq", "--no-trunc"]).success().stdout.lines().next().unwrap().len(),
        64
    );
}

#[test]
fn the_name_of_one_that_was_to_be_removed_is_free_once_its_supervisor_was_killed() {
    let world = need!(World::new(User::Own));
    let run = ["run", "-d", "--rm", "--name", "one", "IMAGE", "sleep", "1000"];
    world.gondola(&run).success();
    world.gondola(&run).code(125).says("has this name");
    let first = world.ps("one")["id"].clone();
    kill_supervisor(&world.container_folder());
    assert_eq!(world.count(), 0, "nobody is left who would remove it: whoever looks does");
    world.gondola(&run).success();
    assert_ne!(world.ps("one")["id"], first);
    assert_eq!(world.count(), 1);
    world.gondola(&["rm", "-f", "one"]).success();
    // One that was to stay does.
    world.gondola(&["run", "-d", "--name", "two", "IMAGE", "sleep", "1000"]).success();
    kill_supervisor(&world.container_folder());
    world.gondola(&["run", "--name", "two", "IMAGE", "true"]).code(125).says("has this name");
    assert_eq!(world.ps("two")["status"], "dead");
}
