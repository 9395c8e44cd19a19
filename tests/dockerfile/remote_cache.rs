//! Results of steps that go from one machine to another through a registry.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use gondola::image::{Blob, BlobLocation};
use gondola::oci::{Descriptor, Digest, MediaType};
use serde_json::Value;

use super::bench::{Bench, text};
use super::support::client::{client, reference};
use super::support::{
    PASSWORD, ReadImage, Registry, RegistryAuth, RegistryOptions, Run, Stored, USER, install, need,
    root, run,
};

/// Two of its steps write something else each time that they are executed.
const FILE: &str = "FROM busybox AS made\nWORKDIR /w\nCOPY a.txt .\n\
    RUN cat /proc/sys/kernel/random/uuid > when\nFROM busybox\nCOPY --from=made /w /w\n\
    RUN cat /proc/sys/kernel/random/uuid > /then\nENV X=1\n";
const STEPS: usize = 5;

fn prepared() -> super::support::Need<(Bench, String)> {
    let mut bench = Bench::new()?;
    // What histories say of a step comes from the registry as well.
    bench.sandbox.unset("SOURCE_DATE_EPOCH");
    bench.file(FILE);
    bench.write("a.txt", "a");
    let repository = bench.registry.image("cache");
    Ok((bench, repository))
}

/// Makes the program a machine that knows nothing.
fn move_on(bench: &mut Bench, name: &str) {
    let home = bench.sandbox.path(name);
    bench.sandbox.set("GONDOLA_HOME", home.to_str().unwrap());
}

fn hits(ran: &Run) -> usize {
    ran.stderr.matches("skipped, cached in the registry").count()
}

fn image(bench: &Bench) -> ReadImage {
    Stored::folder(&bench.sandbox.path("out")).image(Some("t"))
}

/// The digest of the layer that has a file.
fn layer_with(image: &ReadImage, file: &str) -> Digest {
    let holds = |layer: &Vec<super::support::Entry>| layer.iter().any(|entry| entry.path == file);
    let number = image.layers.iter().position(holds).unwrap();
    image.manifest["layers"][number]["digest"].as_str().unwrap().parse().unwrap()
}

/// The manifest of the cache, and the list of records that is its configuration.
fn cached(bench: &Bench) -> (Value, Value) {
    let source = format!("docker://{}:steps", bench.registry.image("cache"));
    let manifest = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &source]);
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let list: Digest = manifest["config"]["digest"].as_str().unwrap().parse().unwrap();
    let list = fs_err::read(bench.registry.blob_file(&list)).unwrap();
    (manifest, serde_json::from_slice(&list).unwrap())
}

/// Puts another list, or another manifest, in the place of what is there.
fn replace(bench: &Bench, manifest: &Value, list: &Value) {
    let name = reference(bench.registry.host(), "cache");
    let list = serde_json::to_vec(list).unwrap();
    let media_type = MediaType::new(manifest["config"]["mediaType"].as_str().unwrap());
    let descriptor = Descriptor::of(media_type, &list);
    let mut manifest = manifest.clone();
    manifest["config"] = serde_json::to_value(&descriptor).unwrap();
    let blob = Blob { descriptor: descriptor.clone(), source: BlobLocation::Memory(list.into()) };
    let client = client();
    let put = async {
        let (repository, silent) = (name.repository(), Arc::new(|_| {}));
        client.push_blob(repository, &descriptor, Arc::new(blob), &[], silent).await?;
        let bytes = serde_json::to_vec(&manifest).unwrap().into();
        client.push_manifest(repository, "steps", &MediaType::OCI_MANIFEST, bytes).await
    };
    tokio::runtime::Runtime::new().unwrap().block_on(put).unwrap();
}

#[test]
fn steps_that_another_machine_executed_are_not_executed_and_only_what_is_needed_is_fetched() {
    let (mut bench, repository) = need!(prepared());
    let more = ["--cache-repo", &repository];
    let first = bench.build(&more);
    // One manifest for all steps; a copy from a stage is also known by a key that looks at no files.
    assert_eq!(bench.registry.tags("cache"), ["steps"]);
    let (_, list) = cached(&bench);
    let records = list["records"].as_array().unwrap();
    let asked = records.iter().filter(|record| record.get("asked").is_some());
    assert_eq!((records.len(), asked.count()), (STEPS, 1));
    // A look at what is not there costs one request, at the begin and before writing; nothing is listed.
    let missing = bench.registry.count("GET", "/v2/cache/manifests/", &[404]);
    let listed = bench.registry.count("GET", "/v2/cache/tags/", &[200, 404]);
    assert_eq!((missing, listed), (2, 0));
    let path = "/v2/cache/blobs/sha256:";
    assert_eq!(bench.registry.count("GET", path, &[200]), 0);

    move_on(&mut bench, "second");
    let ran = bench.run(&more).success();
    assert_eq!(hits(&ran), STEPS, "{}", ran.stderr);
    let second = image(&bench);
    assert_eq!(first.digest, second.digest);
    assert_eq!(text(&first, "then"), text(&second, "then"));
    // The layers of the stage that is copied from stay where they are, and nothing is unpacked.
    assert_eq!(bench.registry.count("GET", path, &[200]), 1 + 2, "the list and two layers");
    assert_eq!(bench.registry.count("PUT", "/v2/cache/manifests/", &[201]), 1);
    assert!(!bench.sandbox.path("second/gondola/rootfs").exists());

    // What was fetched is known from then on.
    let asked = || bench.registry.count("GET", "/v2/cache/manifests/", &[200]);
    let before = asked();
    let again = bench.run(&more).success();
    assert_eq!((hits(&again), asked() - before), (3, 1), "{}", again.stderr);
}

#[test]
fn what_was_executed_before_results_were_shared_is_shared_too() {
    let (mut bench, repository) = need!(prepared());
    let more = ["--cache-repo", &repository];
    let first = bench.build(&[]);
    let again = bench.run(&more).success();
    assert_eq!(hits(&again), 0, "{}", again.stderr);
    // What is there is not sent again.
    let written = || bench.registry.count("PUT", "/v2/cache/manifests/", &[201]);
    let before = written();
    bench.run(&more).success();
    assert_eq!(written() - before, 0);
    move_on(&mut bench, "second");
    let ran = bench.run(&more).success();
    assert!(hits(&ran) > 0, "{}", ran.stderr);
    // Two of the steps would have written something else.
    assert_eq!(image(&bench).digest, first.digest);
}

#[test]
fn what_is_executed_on_results_of_others_goes_back_to_them() {
    let (mut bench, repository) = need!(prepared());
    let more = ["--cache-repo", &repository];
    let first = bench.build(&more);
    move_on(&mut bench, "second");
    bench.file(&FILE.replace("ENV X=1", "RUN cat /then /w/when > both"));
    let second = bench.build(&more);
    assert_eq!(text(&second, "both"), text(&first, "then") + &text(&first, "w/when"));
    move_on(&mut bench, "third");
    let ran = bench.run(&more).success();
    assert_eq!(hits(&ran), STEPS + 1, "{}", ran.stderr);
    assert_eq!(image(&bench).digest, second.digest);
    // The cache can be passed by, and what comes of that takes the place of what was there.
    let fresh = bench.build(&["--cache-repo", &repository, "--no-cache"]);
    assert_ne!(text(&fresh, "then"), text(&first, "then"));
    move_on(&mut bench, "fourth");
    assert_eq!(bench.build(&more).digest, fresh.digest);
    // Nothing refers to the layers that were there before.
    let (manifest, list) = cached(&bench);
    let digests = |layers: &Value, pointer: &str| -> BTreeSet<String> {
        let layers = layers.as_array().unwrap().iter();
        layers.map(|of| of.pointer(pointer).unwrap().as_str().unwrap().to_owned()).collect()
    };
    let named = digests(&list["records"], "/layer/digest");
    assert_eq!(digests(&manifest["layers"], "/digest"), named);
}

#[test]
fn a_step_is_found_from_another_user_folder_and_sandbox() {
    need!(root("another user"));
    let (mut bench, repository) = need!(prepared());
    let first = bench.build(&["--cache-repo", &repository]);
    // Another checkout: other times, inodes and names of the same files, and another program.
    let folder = bench.sandbox.path("elsewhere/checkout");
    fs_err::create_dir_all(&folder).unwrap();
    for name in ["Dockerfile", "a.txt"] {
        fs_err::copy(bench.sandbox.path("ctx").join(name), folder.join(name)).unwrap();
    }
    // A further name outside of the context is none of the context's business.
    fs_err::hard_link(folder.join("a.txt"), bench.sandbox.path("elsewhere/other")).unwrap();
    let program = bench.sandbox.path("gondola");
    install(env!("CARGO_BIN_EXE_gondola"), &program);
    move_on(&mut bench, "second");
    let (user, work) = (54_321, bench.sandbox.work());
    run("chown", &["-R", &user.to_string(), work.parent().unwrap().to_str().unwrap()]);
    let mut command = std::process::Command::new(&program);
    command.env_clear().envs(bench.sandbox.environment()).current_dir(&work);
    command.args(["build", "--mirror", bench.mirror(), "--cache-repo", &repository]);
    command.args(["-f", "elsewhere/checkout/Dockerfile", "-o", "oci:other:t", "--sandbox=proot"]);
    let ran = Run::of(command.arg("elsewhere/checkout").uid(user).gid(user)).success();
    assert_eq!(hits(&ran), STEPS, "{}", ran.stderr);
    let second = Stored::folder(&bench.sandbox.path("other")).image(Some("t"));
    assert_eq!(first.digest, second.digest);
}

#[test]
fn a_layer_that_is_broken_is_not_used_and_takes_nobodys_place() {
    let (mut bench, repository) = need!(prepared());
    let more = ["--cache-repo", &repository];
    let first = bench.build(&more);
    let change = |blob: PathBuf| {
        let mut bytes = fs_err::read(&blob).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs_err::write(blob, bytes).unwrap();
    };
    let remove = |blob: PathBuf| fs_err::remove_file(blob).unwrap();
    let mut before = first;
    for (name, harm) in [("changed", change as fn(PathBuf)), ("removed", remove)] {
        harm(bench.registry.blob_file(&layer_with(&before, "then")));
        move_on(&mut bench, name);
        let ran = bench.run(&more).success().says("cache:steps is not used: step ");
        assert_eq!(ran.stderr.matches("is not used").count(), 1, "{}", ran.stderr);
        let made = image(&bench);
        assert_ne!(text(&before, "then"), text(&made, "then"));
        assert_eq!(text(&before, "w/when"), text(&made, "w/when"));

        // The good one is there now.
        move_on(&mut bench, &format!("after-{name}"));
        assert_eq!(bench.build(&more).digest, made.digest);
        before = made;
    }
}

#[test]
fn what_was_executed_before_a_failure_is_there_for_others() {
    let (mut bench, repository) = need!(prepared());
    let more = ["--cache-repo", &repository];
    bench.file(&FILE.replace("ENV X=1", "RUN exit 7"));
    bench.run(&more).code(1).says("exit code 7");
    move_on(&mut bench, "second");
    bench.file(FILE);
    let ran = bench.run(&more).success();
    assert_eq!(hits(&ran), STEPS, "{}", ran.stderr);
}

#[test]
fn records_that_say_something_wrong_are_not_used() {
    let (mut bench, repository) = need!(prepared());
    let more = ["--cache-repo", &repository];
    let first = bench.build(&more);
    let (manifest, good) = cached(&bench);
    let digest = layer_with(&first, "then");
    let changed = |name: &str, value: &str| {
        let mut list = good.clone();
        let records = list["records"].as_array_mut().unwrap();
        let of_then = records.iter_mut().find(|r| r["layer"]["digest"] == digest.as_str()).unwrap();
        *of_then.pointer_mut(name).unwrap() = value.into();
        list
    };
    for (number, (list, why)) in [
        (changed("/layer/diff_id", Digest::of(b"x").as_str()), "its diff ID is"),
        (changed("/created", "yesterday"), "its time is none"),
        (changed("/layer/media_type", "text/plain"), "its layer is of no type of layers"),
    ]
    .into_iter()
    .enumerate()
    {
        replace(&bench, &manifest, &list);
        move_on(&mut bench, &format!("home-{number}"));
        bench.run(&more).success().says("is not used").says(why);
        let image = image(&bench);
        assert_ne!(text(&first, "then"), text(&image, "then"), "{why}");
        assert_eq!(text(&first, "w/when"), text(&image, "w/when"), "{why}");
    }
    let mut image_there = manifest.clone();
    image_there["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
    let newer = serde_json::json!({"version": 99, "records": []});
    let nameless = serde_json::json!({"records": []});
    for (number, (manifest, list, why)) in [
        (&image_there, &good, "its configuration is"),
        (&manifest, &newer, "its version is 99"),
        (&manifest, &nameless, "its list is none"),
        (&manifest, &Value::Null, "its list is none"),
    ]
    .into_iter()
    .enumerate()
    {
        replace(&bench, manifest, list);
        let before = cached(&bench).0;
        let uploads = bench.registry.uploads();
        move_on(&mut bench, &format!("other-{number}"));
        let ran = bench.run(&more).success().says("cache:steps is not used").says(why);
        assert_eq!(hits(&ran), 0, "{}", ran.stderr);
        move_on(&mut bench, &format!("after-{number}"));
        let ran = bench.run(&more).success();
        if number < 2 {
            // What is somebody's, or newer, stays, and nothing is brought there.
            ran.says("it stays as it is: name another repository");
            assert_eq!(cached(&bench).0, before, "{why}");
            assert_eq!(bench.registry.uploads(), uploads, "{why}");
        } else {
            // The good one is there now.
            assert_eq!(hits(&ran), STEPS, "{}", ran.stderr);
        }
    }
}

#[test]
fn a_tag_of_somebody_else_is_not_replaced_by_a_build_that_looks_nothing_up() {
    let (mut bench, repository) = need!(prepared());
    bench.build(&["--cache-repo", &repository]);
    let (manifest, list) = cached(&bench);
    let mut image_there = manifest;
    image_there["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
    replace(&bench, &image_there, &list);
    let source = format!("docker://{}:steps", bench.registry.image("cache"));
    let there = || run("skopeo", &["inspect", "--raw", "--tls-verify=false", &source]);
    let image = there();
    move_on(&mut bench, "second");
    let more = ["--cache-repo", &repository, "--no-cache"];
    bench.run(&more).success().says("its configuration is");
    assert_eq!(there(), image);
    // An index is no manifest of ours either.
    let entry = Descriptor::of(MediaType::OCI_MANIFEST, image.as_bytes());
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [entry],
    });
    let name = reference(bench.registry.host(), "cache");
    let (client, bytes) = (client(), serde_json::to_vec(&index).unwrap());
    let of_index = MediaType::OCI_INDEX;
    let put = client.push_manifest(name.repository(), "steps", &of_index, bytes.into());
    tokio::runtime::Runtime::new().unwrap().block_on(put).unwrap();
    let index = there();
    for more in [&more[..2], &more] {
        bench.run(more).success().says("it is no manifest");
        assert_eq!(there(), index);
    }
}

#[test]
fn machines_that_write_at_once_lose_nothing_of_each_other() {
    let (mut bench, repository) = need!(prepared());
    let own =
        |number: usize| format!("FROM busybox\nRUN echo {number} > /own\nRUN cat /own > /two\n");
    let machines: Vec<_> = (0..4)
        .map(|number| {
            move_on(&mut bench, &format!("machine-{number}"));
            let file = bench.sandbox.write(&format!("files/{number}"), own(number));
            let output = format!("oci:out-{number}:t");
            let words = ["build", "--mirror", bench.mirror(), "--cache-repo", &repository];
            let words =
                [&words[..], &["-f", file.to_str().unwrap(), "-o", &output, "ctx"]].concat();
            let mut command = bench.sandbox.command(&words);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let child = command.spawn().unwrap();
            (command, child)
        })
        .collect();
    for (command, child) in machines {
        Run::ended(&command, child.wait_with_output().unwrap()).success();
    }
    move_on(&mut bench, "last");
    for number in 0..4 {
        bench.file(&own(number));
        let ran = bench.run(&["--cache-repo", &repository]).success();
        assert_eq!(hits(&ran), 2, "machine {number}: {}", ran.stderr);
    }
    assert_eq!(bench.registry.tags("cache"), ["steps"]);
}

#[test]
fn a_repository_out_of_reach_is_told_of_once_and_ends_no_build() {
    let (mut bench, _) = need!(prepared());
    let closed = need!(Registry::start(RegistryOptions {
        auth: RegistryAuth::Htpasswd,
        ..RegistryOptions::default()
    }));
    // Nobody listens there.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (name, place) in [("one", closed.image("cache")), ("two", format!("{silent}/cache"))] {
        move_on(&mut bench, name);
        let ran = bench.run(&["--cache-repo", &place]).success().says(&format!("from {place}"));
        assert_eq!(ran.stderr.matches("no results of steps").count(), 1, "{}", ran.stderr);
        assert_eq!(text(&image(&bench), "w/a.txt"), "a");
    }
    let odd = bench.run(&["--cache-repo", "UPPER/cache"]).code(2);
    odd.says("cannot use --cache-repo UPPER/cache");
}

#[test]
fn whoever_may_only_read_is_told_and_reads() {
    let (mut bench, _) = need!(prepared());
    let registry = need!(Registry::start(RegistryOptions {
        auth: RegistryAuth::Token,
        ..RegistryOptions::default()
    }));
    let place = registry.image("cache");
    let host = registry.host();
    bench.sandbox.gondola(&["login", host, "-u", USER, "-p", PASSWORD]).success();
    let first = bench.build(&["--cache-repo", &place]);
    assert_eq!(registry.tags("cache"), ["steps"]);
    bench.sandbox.gondola(&["logout", host]).success();
    move_on(&mut bench, "second");
    bench.file(&FILE.replace("ENV X=1", "RUN true"));
    let ran = bench.run(&["--cache-repo", &place]).success();
    assert_eq!(hits(&ran), STEPS, "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("no results of steps are put into").count(), 1, "{}", ran.stderr);
    assert_eq!(text(&image(&bench), "then"), text(&first, "then"));
}

#[test]
fn a_push_to_the_caches_registry_sends_no_layer_twice() {
    let (mut bench, repository) = need!(prepared());
    let name = bench.registry.image("app:v1");
    let arguments = |bench: &Bench| {
        let words = ["build", "--mirror", bench.mirror(), "-f", "ctx/Dockerfile"];
        let words = words.into_iter().chain(["--cache-repo", &repository, "--push", "-t", &name]);
        words.chain(["ctx"]).map(str::to_owned).collect::<Vec<_>>()
    };
    bench.sandbox.gondola(&arguments(&bench)).success();
    let uploads = bench.registry.uploads();
    move_on(&mut bench, "second");
    let ran = bench.sandbox.gondola(&arguments(&bench)).success();
    assert_eq!((hits(&ran), bench.registry.uploads() - uploads), (STEPS, 0), "{}", ran.stderr);
}
