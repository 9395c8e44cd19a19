//! `--dry-run`: what a build would do, and that nothing of it is done.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::bench::{Bench, NOBODYS_ID};
use super::support::{Busybox, Need, Run, install, need, program, root, run, state};
use super::versions::evict;

const FILE: &str = "FROM busybox AS made\nWORKDIR /w\nCOPY src src\nRUN cat src/a > made\n\
    FROM busybox\nCOPY --from=made /w/made /made\nRUN cat /made > /again\n";

fn prepared() -> Need<Bench> {
    let bench = Bench::new()?;
    bench.file(FILE);
    bench.write("src/a", "one");
    bench.write("src/b", "one");
    Ok(bench)
}

/// The plan of a build of the context. It leaves everything as it is: home, store, context, output.
#[track_caller]
fn plan(bench: &Bench, more: &[&str]) -> Value {
    let folder = bench.sandbox.work();
    let folder = folder.parent().unwrap();
    let before = state(folder);
    let ran = bench.run(&[&["--dry-run", "--json"], more].concat()).success();
    assert_eq!(state(folder), before);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// Each step of a plan: stage, the first word of its text, what becomes of it, and why.
fn steps(plan: &Value) -> Vec<(String, String, String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut all = Vec::new();
    for platform in list(&plan["images"][0]["platforms"]) {
        for stage in list(&platform["stages"]) {
            for step in list(&stage["steps"]) {
                let name = stage["name"].as_str().map_or(stage["index"].to_string(), str::to_owned);
                let verb = text(&step["text"]).split(' ').next().unwrap().to_owned();
                let why = list(&step["why"]).iter().map(text).collect();
                all.push((name, verb, text(&step["state"]), why));
            }
        }
    }
    all
}

/// The steps without their reasons, each as `stage verb state`.
fn states(plan: &Value) -> Vec<String> {
    let steps = steps(plan).into_iter();
    steps.map(|(stage, verb, state, _)| format!("{stage} {verb} {state}")).collect()
}

#[track_caller]
fn why(plan: &Value, stage: &str, verb: &str) -> Vec<String> {
    let found = steps(plan).into_iter().find(|step| (&*step.0, &*step.1) == (stage, verb));
    found.unwrap_or_else(|| panic!("no {verb} of {stage}: {plan:#}")).3
}

/// The plan where no result of the stage `made` counts.
const NOTHING_KNOWN: [&str; 5] = [
    "made WORKDIR runs",
    "made COPY runs",
    "made RUN runs",
    "1 COPY unknown until executed",
    "1 RUN unknown until executed",
];
const FIRST: [&str; 1] = ["it is executed for the first time"];
const BELOW: &str = "it works on what a step below it leaves, which was not executed";
const READS: &str = "it reads files of a stage or image that were not looked at";

#[test]
fn a_plan_says_before_and_after_a_build_what_runs_and_what_is_known() {
    let bench = need!(prepared());
    let first = plan(&bench, &[]);
    assert!(!bench.sandbox.store().exists() && !bench.sandbox.path("out").exists());
    assert_eq!(states(&first), NOTHING_KNOWN);
    for verb in ["WORKDIR", "COPY", "RUN"] {
        assert_eq!(why(&first, "made", verb), FIRST);
    }
    assert_eq!(why(&first, "1", "COPY"), [READS]);
    assert_eq!(why(&first, "1", "RUN"), [BELOW]);
    assert_eq!(first["version"], 1);
    assert_eq!(first["images"][0]["references"], json!(["example.com/app:v1"]));
    let out = format!("oci:{}:t", bench.sandbox.path("out").display());
    assert_eq!(first["outputs"], json!([{"kind": "place", "to": out}]));

    let image = bench.build(&[]);
    let known = plan(&bench, &[]);
    assert!(steps(&known).iter().all(|step| step.2 == "known" && step.3.is_empty()), "{known:#}");
    let stage = &known["images"][0]["platforms"][0]["stages"][1];
    assert_eq!(stage["base"]["name"], "busybox:latest");
    assert_eq!(stage["base"]["digest"], known["bases"][0]["digest"]);
    let layers: Vec<&Value> = stage["steps"].as_array().unwrap().iter().collect();
    let layers: Vec<&Value> = layers.iter().map(|step| &step["layer"]["digest"]).collect();
    let all = image.manifest["layers"].as_array().unwrap();
    assert_eq!(layers, [&all[1]["digest"], &all[2]["digest"]]);

    let passed_over = plan(&bench, &["--no-cache"]);
    assert!(steps(&passed_over).iter().all(|step| step.2 == "runs" && step.3 == ["--no-cache"]));
    let filtered = plan(&bench, &["--no-cache-filter", "made"]);
    assert_eq!(states(&filtered), NOTHING_KNOWN);
    // Here the stage comes out the same.
    assert_eq!(executed_and_found(&bench, &["--no-cache-filter", "made"]), (3, 2));
}

/// How many steps of a build are executed, and how many are found.
#[track_caller]
fn executed_and_found(bench: &Bench, more: &[&str]) -> (usize, usize) {
    let ran = bench.run(&[&["--explain"], more].concat()).success();
    let steps: Vec<&str> =
        ran.stderr.lines().filter(|line| line.starts_with("explain: step")).collect();
    let with = |how: &str| steps.iter().filter(|line| line.contains(how)).count();
    (with(": executed: "), with(": found in the store"))
}

#[test]
fn a_plan_does_not_say_what_works_on_a_program_that_may_come_out_otherwise() {
    let ids = "RUN cat /proc/sys/kernel/random/uuid > /all";
    let copied = "FROM busybox\nCOPY --from=a /all /copy\nRUN cat /copy > /two\nRUN echo end\n";
    let mounted = "FROM busybox\nRUN --mount=from=a,target=/m cat /m/all > /two\nRUN echo end\n";
    let on_it = "FROM a\nCOPY src /src\nRUN cat /all > /two\nRUN echo end\n";
    for (rest, others) in [(copied, 3), (mounted, 2), (on_it, 3)] {
        for (first, counts) in [(ids, (1 + others, 0)), ("RUN echo same > /all", (1, others))] {
            for filter in [&["--no-cache-filter", "a"][..], &[]] {
                let bench = need!(prepared());
                bench.file(&format!("FROM busybox AS a\n{first}\n{rest}"));
                bench.run(&[]).success();
                let known = plan(&bench, &[]);
                assert!(steps(&known).iter().all(|step| step.2 == "known"), "{known:#}");
                if filter.is_empty() {
                    let stage = &known["images"][0]["platforms"][0]["stages"][0];
                    evict(&bench, &stage["steps"][0]["layer"]["digest"]);
                }
                let planned = states(&plan(&bench, filter));
                assert_eq!(planned[0], "a RUN runs");
                assert_eq!(planned.len(), 1 + others);
                let unknown = |step: &String| step.ends_with(" unknown until executed");
                assert!(planned[1..].iter().all(unknown), "{planned:?}");
                assert_eq!(executed_and_found(&bench, filter), counts, "{first} {rest} {filter:?}");
            }
        }
    }
}

#[test]
fn a_plan_knows_what_works_on_a_lost_step_that_can_come_out_in_one_way() {
    let bench = need!(prepared());
    bench.file("FROM busybox AS a\nCOPY src /src\nFROM a\nCOPY --from=a /src/a /b\nRUN cat /b\n");
    bench.run(&[]).success();
    let known = plan(&bench, &[]);
    let stage = &known["images"][0]["platforms"][0]["stages"][0];
    evict(&bench, &stage["steps"][0]["layer"]["digest"]);
    assert_eq!(states(&plan(&bench, &[])), ["a COPY runs", "1 COPY known", "1 RUN known"]);
    assert_eq!(executed_and_found(&bench, &[]), (1, 2));
}

#[test]
fn a_plan_after_an_edit_names_the_file_and_what_follows() {
    let bench = need!(prepared());
    bench.build(&[]);
    bench.write("src/a", "two");
    let edited = plan(&bench, &[]);
    let expected = [
        "made WORKDIR known",
        "made COPY runs",
        "made RUN runs",
        "1 COPY unknown until executed",
        "1 RUN unknown until executed",
    ];
    assert_eq!(states(&edited), expected);
    assert_eq!(why(&edited, "made", "COPY"), ["src/a changed"]);
    assert_eq!(why(&edited, "made", "RUN"), ["a step below it changed"]);
    // What the plan said is what is done.
    let ran = bench.run(&["--explain"]).success();
    let executed = ran.stderr.lines().filter(|line| line.contains(": executed: "));
    assert_eq!(executed.count(), 4, "{}", ran.stderr);

    bench.write("Dockerfile", FILE.replace("cat /made", "cat  /made"));
    let rewritten = plan(&bench, &[]);
    assert_eq!(states(&rewritten).last().unwrap(), "1 RUN runs");
    let expected = ["the instruction is another one", "the command changed"];
    assert_eq!(why(&rewritten, "1", "RUN"), expected);
}

#[test]
fn all_steps_on_one_that_was_never_executed_run_however_many_they_are() {
    let bench = need!(prepared());
    let file = |first: &str| {
        let steps: Vec<String> = (0..40).map(|number| format!("RUN echo {number}\n")).collect();
        let steps = steps.concat();
        bench.file(&format!("FROM busybox\n{first}{steps}"));
    };
    file("COPY src /src\n");
    let planned = states(&plan(&bench, &[]));
    assert_eq!((planned.len(), planned[0].as_str()), (41, "0 COPY runs"));
    assert!(planned[1..].iter().all(|step| step == "0 RUN runs"), "{planned:?}");
    bench.run(&[]).success();
    let known = states(&plan(&bench, &[]));
    assert!(known[1..].iter().all(|step| step == "0 RUN known"), "{known:?}");
    bench.write("src/a", "two");
    let edited = plan(&bench, &[]);
    assert!(states(&edited).iter().all(|step| step.ends_with(" runs")), "{edited:#}");
    assert!(steps(&edited)[1..].iter().all(|step| step.3 == ["a step below it changed"]));
}

#[test]
fn a_copy_from_a_stage_that_runs_says_why() {
    let bench = need!(prepared());
    bench.file("FROM busybox AS a\nRUN echo 1 > /x\nFROM busybox\nCOPY --from=a /x /y\n");
    bench.run(&[]).success();
    let known = plan(&bench, &[]);
    let stages = &known["images"][0]["platforms"][0]["stages"];
    evict(&bench, &stages[1]["steps"][0]["layer"]["digest"]);
    let lost = plan(&bench, &[]);
    assert_eq!(states(&lost), ["a RUN known", "1 COPY runs"]);
    let expected = "nothing it is made of changed, but its result is not in the store";
    assert_eq!(why(&lost, "1", "COPY"), [expected]);
    let ran = bench.run(&["--explain"]).success();
    assert!(ran.stderr.contains(&format!("/y: executed: {expected}")), "{}", ran.stderr);
}

#[test]
fn a_plan_has_what_the_base_wants_to_be_executed() {
    let triggers = BTreeMap::from([("OnBuild".to_owned(), json!(["COPY src /on/", "RUN true"]))]);
    let bench = need!(Bench::with_base(&Busybox { config: triggers, issue: None }));
    bench.file("FROM busybox\nENV A=b\nRUN cat /on/a\n");
    bench.write("src/a", "one");
    let first = plan(&bench, &[]);
    assert_eq!(states(&first), ["0 COPY runs", "0 RUN runs", "0 RUN runs"]);
    bench.run(&[]).success();
    let known = plan(&bench, &[]);
    assert_eq!(states(&known), ["0 COPY known", "0 RUN known", "0 RUN known"]);
}

#[test]
fn a_plan_has_every_platform_and_says_what_is_done_once_for_several() {
    let bench = need!(prepared());
    // No step of the other platform could be executed here.
    bench
        .file("FROM scratch\nCOPY src /own/\nRUN [\"/own/a\"]\nARG TARGETARCH\nRUN [\"/own/b\"]\n");
    let both = plan(&bench, &["--platform", "linux/amd64,linux/s390x"]);
    let one = ["0 COPY runs", "0 RUN runs", "0 RUN runs"];
    assert_eq!(states(&both), [one, one].concat());
    let again = "the same step runs already, and once is enough";
    let whys: Vec<Vec<String>> = steps(&both).into_iter().map(|step| step.3).collect();
    assert_eq!(whys[..3], [FIRST, FIRST, FIRST]);
    assert_eq!(whys[3..], [[again], [again], FIRST]);
    let platforms = &both["images"][0]["platforms"];
    assert_eq!(platforms[0]["platform"], "linux/amd64");
    assert_eq!(platforms[1]["platform"], "linux/s390x");
}

#[test]
fn what_would_end_a_build_before_its_first_step_ends_the_plan() {
    let bench = need!(prepared());
    let folder = bench.sandbox.work();
    let folder = folder.parent().unwrap().to_owned();
    for (file, code, said) in [
        ("FROM nowhere:1\n", 1, "nowhere:1"),
        ("FROM busybox\nCOPY missing /\n", 1, "missing"),
        ("FROM busybox\nFRON x\n", 2, "FRON"),
    ] {
        bench.file(file);
        let before = state(&folder);
        let ran = bench.run(&["--dry-run"]);
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
        assert_eq!((ran.code, &*ran.stdout), (Some(code), ""), "{file}: {}", ran.stderr);
        assert_eq!(state(&folder), before);
    }
}

#[test]
fn a_sandbox_that_does_not_work_is_told_of_before_the_first_step() {
    let mut bench = need!(prepared());
    bench.sandbox.set("PATH", "/nowhere");
    let folder = bench.sandbox.work().parent().unwrap().to_owned();
    let asked = ["--sandbox", "proot"];
    let before = state(&folder);
    let planned = bench.run(&[&["--dry-run"][..], &asked].concat());
    assert_eq!(state(&folder), before);
    let built = bench.run(&asked);
    for ran in [planned, built] {
        assert_eq!((ran.code, &*ran.stdout), (Some(1), ""), "{}", ran.stderr);
        assert!(ran.stderr.contains("cannot use the sandbox proot"), "{}", ran.stderr);
        assert!(!ran.stderr.contains(" step "), "{}", ran.stderr);
    }
    // Where nothing is executed none is needed.
    bench.run(&[]).success();
    bench.run(&asked).success();
    bench.run(&[&["--dry-run"][..], &asked].concat()).success();
}

#[test]
fn an_output_that_cannot_take_the_compression_is_told_of_before_the_first_step() {
    let bench = need!(prepared());
    let asked = ["--compression", "zstd", "-o", "docker-archive:a.tar"];
    for more in [&["--dry-run"][..], &[]] {
        let ran = bench.run(&[more, &asked].concat());
        assert_eq!((ran.code, &*ran.stdout), (Some(1), ""), "{}", ran.stderr);
        assert!(ran.stderr.contains("it has a zstd layer"), "{}", ran.stderr);
        assert!(!ran.stderr.contains(" step ") && !bench.sandbox.path("a.tar").exists());
    }
}

/// The command that plans, as a user who may read everything and write nothing.
fn as_nobody(bench: &Bench, more: &[&str]) -> Need<Command> {
    root("becoming another user")?;
    let setpriv = program("setpriv")?;
    let folder = bench.sandbox.work();
    let folder = folder.parent().expect("the folder of the test");
    let copy = folder.join("gondola");
    install(env!("CARGO_BIN_EXE_gondola"), &copy);
    run("chmod", &["a+rx", folder.to_str().unwrap()]);
    run("chmod", &["-R", "a+rX,a-w", bench.sandbox.store().to_str().unwrap()]);
    let mut command = Command::new(setpriv);
    command.args(["--reuid", NOBODYS_ID, "--regid", NOBODYS_ID, "--clear-groups"]);
    command.arg(copy).args(bench.arguments(more)).env_clear().envs(bench.sandbox.environment());
    command.current_dir(bench.sandbox.work()).stdin(Stdio::null());
    Ok(command)
}

#[test]
fn a_store_that_cannot_be_written_to_is_planned_with_as_any() {
    let bench = need!(prepared());
    bench.build(&[]);
    bench.write("src/a", "two");
    let own = plan(&bench, &[]);
    let mut command = need!(as_nobody(&bench, &["--dry-run", "--json"]));
    let folder = bench.sandbox.work();
    let folder = folder.parent().unwrap();
    let before = state(folder);
    let ran = Run::of(&mut command).success();
    assert_eq!(state(folder), before);
    assert_eq!(serde_json::from_str::<Value>(&ran.stdout).unwrap(), own);
}

#[test]
fn a_plan_knows_what_other_machines_know_and_tells_them_nothing() {
    let mut bench = need!(prepared());
    let repository = bench.registry.image("cache");
    let cached = ["--cache-repo", &repository];
    bench.run(&cached).success();
    let home = bench.sandbox.path("elsewhere");
    bench.sandbox.set("GONDOLA_HOME", home.to_str().unwrap());
    let requests = bench.registry.log().len();
    let found = plan(&bench, &cached);
    assert!(steps(&found).iter().all(|step| step.2 == "known"), "{found:#}");
    let stages = &found["images"][0]["platforms"][0]["stages"];
    assert_eq!(stages[0]["steps"][0]["origin"], "registry");
    let log = bench.registry.log();
    let writes = |method: &str| matches!(method, "PUT" | "POST" | "PATCH" | "DELETE");
    assert!(!log[requests..].iter().any(|asked| writes(&asked.method)), "{log:#?}");
}
