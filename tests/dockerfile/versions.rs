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
