//! A stage that is executed again: whatever is made of it is made of one version of it.

use serde_json::Value;

use super::bench::{Bench, text};
use super::support::{Need, ReadImage, need};

/// A stage that comes out otherwise each time.
const STAGE: &str = "FROM busybox AS a\nRUN cat /proc/sys/kernel/random/uuid > /all\n";

/// Ways from the file `/all` of the stage to `/copied` in an image on the stage.
const WAYS: [&str; 5] = [
    "FROM a\nCOPY --from=a /all /copied\n",
    "FROM a\nRUN --mount=from=a,target=/m cp /m/all /copied\n",
    "FROM a\nRUN cp /all /copied\n",
    "FROM a AS b\nRUN cp /all /more\nFROM a\nCOPY --from=b /more /copied\n",
    "FROM busybox AS b\nRUN --mount=from=a,target=/m cp /m/all /all\nFROM a\nCOPY --from=b /all /copied\n",
];

/// Removes a layer from the store.
pub fn evict(bench: &Bench, digest: &Value) {
    let digest = digest.as_str().unwrap();
    let blob = bench.sandbox.store().join("blobs").join(digest.replace(':', "/"));
    fs_err::remove_file(blob).unwrap();
}

/// Removes the layer of an image's first step from the store.
fn evict_first(bench: &Bench, image: &ReadImage) {
    evict(bench, &image.manifest["layers"][1]["digest"]);
}

fn built(file: &str) -> Need<(Bench, ReadImage)> {
    let bench = Bench::new()?;
    bench.file(file);
    let image = bench.build(&[]);
    Ok((bench, image))
}

#[track_caller]
fn has_one_version(bench: &Bench, first: &ReadImage, more: &[&str], way: &str) {
    let second = bench.build(more);
    assert_ne!(text(first, "all"), text(&second, "all"), "{way}");
    assert_eq!(text(&second, "all"), text(&second, "copied"), "{way}");
    assert_eq!(bench.build(&[]).digest, second.digest, "{way}");
}

#[test]
fn an_image_has_one_version_of_a_stage_whose_results_are_passed_over() {
    for way in WAYS {
        let (bench, first) = need!(built(&format!("{STAGE}{way}")));
        has_one_version(&bench, &first, &["--no-cache-filter", "a"], way);
    }
}

#[test]
fn an_image_has_one_version_of_a_stage_whose_result_was_lost() {
    for way in WAYS {
        let (bench, first) = need!(built(&format!("{STAGE}{way}")));
        evict_first(&bench, &first);
        has_one_version(&bench, &first, &[], way);
    }
}

#[test]
fn an_image_has_one_version_of_a_stage_that_another_build_executed_again() {
    for way in WAYS {
        let (bench, first) = need!(built(&format!("{STAGE}{way}")));
        let alone = bench.build(&["--target", "a", "--no-cache-filter", "a"]);
        has_one_version(&bench, &first, &[], way);
        assert_eq!(text(&bench.image(), "all"), text(&alone, "all"), "{way}");
        let ran = bench.run(&["--dry-run"]).success();
        assert!(!ran.stdout.contains("    runs") && !ran.stdout.contains("    unknown"), "{way}");
    }
}

#[test]
fn a_plan_knows_that_another_build_executed_a_stage_again() {
    let (bench, _) = need!(built(&format!("{STAGE}{}", WAYS[2])));
    bench.build(&["--target", "a", "--no-cache-filter", "a"]);
    let planned = bench.run(&["--dry-run"]).success().stdout;
    assert!(planned.contains("    known   RUN cat /proc"), "{planned}");
    let why = "a program below it was executed and came out otherwise";
    let step = format!("    runs    RUN cp /all /copied\n              {why}\n");
    assert!(planned.contains(&step), "{planned}");
    let ran = bench.run(&["--explain"]).success();
    assert!(ran.stderr.contains(&format!("/copied: executed: {why}")), "{}", ran.stderr);
}

#[test]
fn an_image_has_one_version_of_a_stage_that_another_machine_executed_again() {
    for way in WAYS {
        let (mut bench, _) = need!(built(&format!("{STAGE}{way}")));
        let cache = bench.registry.image("cache");
        let cached = ["--cache-repo", &cache];
        let move_on = |bench: &mut Bench, name: &str| {
            let home = bench.sandbox.path(name);
            bench.sandbox.set("GONDOLA_HOME", home.to_str().unwrap());
        };
        move_on(&mut bench, "first");
        let first = bench.build(&cached);
        move_on(&mut bench, "second");
        let mut alone = vec!["--target", "a", "--no-cache-filter", "a"];
        alone.extend(cached);
        let alone = bench.build(&alone);
        move_on(&mut bench, "third");
        let third = bench.build(&cached);
        assert_ne!(text(&first, "all"), text(&third, "all"), "{way}");
        assert_eq!(text(&alone, "all"), text(&third, "all"), "{way}");
        assert_eq!(text(&third, "all"), text(&third, "copied"), "{way}");
        move_on(&mut bench, "fourth");
        let ran = bench.run(&cached).success();
        let executed = |line: &&str| line.contains(" step ") && line.contains(": done");
        assert_eq!(ran.stderr.lines().find(executed), None, "{way}");
        assert_eq!(bench.image().digest, third.digest, "{way}");
    }
}

#[test]
fn what_works_on_a_stage_that_comes_out_the_same_is_found() {
    let (bench, first) = need!(built(
        "FROM busybox AS a\nRUN echo same > /all\nFROM a\nCOPY --from=a /all /copied\n\
         RUN --mount=from=a,target=/m cp /m/all /mounted\n\
         RUN cat /proc/sys/kernel/random/uuid > /when\n"
    ));
    assert_eq!(bench.build(&["--no-cache-filter", "a"]).digest, first.digest);
    evict_first(&bench, &first);
    let ran = bench.run(&[]).success();
    assert_eq!(ran.stderr.matches("skipped, cached").count(), 3, "{}", ran.stderr);
    assert_eq!(bench.image().digest, first.digest);
}
