//! The one table of flags: what each does for `gondola build` and `gondola run`, by what is built or run.
//!
//! ```text
//! flag("platform").build(ALL).run(RUN_PLATFORM)
//!      │                 │        └ of an image, a package, a folder
//!      │                 └ of Go packages, prebuilt programs, a Dockerfile
//!      └ its name; a command that it does not name has no such flag
//! ```
//!
//! Kaniko's flags are words of another tool: they stand with its dialect.

use super::table::{Effect, Flag};

/// What a flag does for Go packages, for prebuilt programs and for a Dockerfile; or for an image, for a
/// package and for a folder.
type Effects = [Effect; 3];

const APPLIES: Effect = Effect::Applies;
const SAYS_IT_ITSELF: Effect = Effect::Refused(
    "a Dockerfile is built, which says this itself",
    "leave the flag out, or name a Go package and no Dockerfile",
);
const NOTHING_IS_COMPILED: Effect = Effect::Refused(
    "the programs are built already, and nothing is compiled",
    "leave the flag out, or name a Go package in the place of --prebuilt",
);
const NO_DOCKERFILE: Effect = Effect::Refused(
    "programs are put into an image, and no Dockerfile is built",
    "leave the flag out, or name the Dockerfile with --file",
);
const COMPILED: Effect = Effect::Refused("packages are compiled", "leave one of the two out");
const NO_GROUPS: Effect = Effect::Ignored("builds are in no control group of their own");
const SANDBOX_SAYS: Effect = Effect::Ignored("--sandbox says how steps are isolated");
const NO_BUILD: Effect = Effect::Ignored("nothing is executed to build the image");
const EACH_TIME: Effect = Effect::Ignored("bases are looked up each time");
const NOT_PULLED: Effect =
    Effect::Refused("a Go package is built, and nothing is pulled", "leave the flag out");
const FOLDER: Effect =
    Effect::Refused("a folder is run as it is", "leave the flag out, or name an image");

/// What its help says, whatever is built or run.
const ALL: Effects = [APPLIES; 3];
/// Nothing: what it asks for is so anyway.
const FULFILLED: Effects = [Effect::Fulfilled; 3];

/// How Go packages are compiled.
const OF_GO: Effects = [APPLIES, NOTHING_IS_COMPILED, SAYS_IT_ITSELF];
/// What the image of a program is like.
const OF_PROGRAMS: Effects = [APPLIES, APPLIES, SAYS_IT_ITSELF];
/// How a Dockerfile is built.
const OF_DOCKERFILES: Effects = [NO_DOCKERFILE, NO_DOCKERFILE, APPLIES];
/// How something is executed to build an image.
const NOT_OF_PREBUILT: Effects = [APPLIES, NO_BUILD, APPLIES];
/// What is built: packages, or the context of a Dockerfile.
const OF_COMPILED_OR_FILE: Effects = [APPLIES, NOTHING_IS_COMPILED, APPLIES];
const PACKAGE: Effects = [Effect::Fulfilled, NOTHING_IS_COMPILED, SAYS_IT_ITSELF];
const PREBUILT: Effects = [COMPILED, APPLIES, SAYS_IT_ITSELF];
const PULL: Effects = [APPLIES, EACH_TIME, APPLIES];
/// What is made of an image: nothing, where the Dockerfile is only checked.
const RESULT: Effects = [Effect::AppliesWithout(
    &["check"],
    "the Dockerfile is checked, and no image is built",
    "leave one of the two out",
); 3];
/// What shows how a build went.
const PAGE: Effects = [Effect::AppliesWithout(
    &["check", "dry-run"],
    "no image is built",
    "leave one of the two out",
); 3];
const PLAN: Effects = [Effect::AppliesWithout(
    &["check"],
    "the Dockerfile is checked, and no build is planned",
    "leave one of the two out",
); 3];
/// What is said of what is made.
const EXPLAINED: Effects = [Effect::AppliesWithout(
    &["check"],
    "the Dockerfile is checked, and nothing is made",
    "leave one of the two out",
); 3];
/// What happens where a step of a Dockerfile is executed.
const OF_EXECUTION: Effects = [
    NO_DOCKERFILE,
    NO_DOCKERFILE,
    Effect::AppliesWithout(
        &["check", "dry-run"],
        "no step is executed",
        "leave one of the two out",
    ),
];
/// How a plan is written.
const PLAN_FORM: Effects =
    [Effect::Needs("dry-run", "it is the form of a plan", "add --dry-run, or leave it out"); 3];

const RUN_PULL: Effects = [APPLIES, NOT_PULLED, FOLDER];
const RUN_PLATFORM: Effects = [APPLIES, APPLIES, FOLDER];

const fn flag(name: &'static str) -> Flag {
    Flag::named(name)
}

/// What each flag does.
pub static FLAGS: [Flag; 96] = [
    flag("add").build(OF_PROGRAMS),
    flag("add-host").build(OF_DOCKERFILES).run(ALL),
    flag("annotation").build(ALL),
    flag("asmflags").build(OF_GO),
    flag("base").build(OF_PROGRAMS),
    flag("bin").build(OF_GO),
    flag("build-arg").build(OF_DOCKERFILES),
    flag("build-context").build(OF_DOCKERFILES),
    flag("build-tags").build(OF_GO),
    flag("cache-repo").build(OF_DOCKERFILES),
    flag("cache-scope").build(NOT_OF_PREBUILT),
    flag("cgo").build(OF_GO),
    flag("cgroup-parent").build([NO_GROUPS; 3]),
    flag("check").build(OF_DOCKERFILES),
    flag("cmd").build(OF_PROGRAMS),
    flag("compress").build(FULFILLED),
    flag("compression").build(ALL),
    flag("config").build(OF_PROGRAMS),
    flag("cpu-period").build([NO_GROUPS; 3]),
    flag("cpu-quota").build([NO_GROUPS; 3]),
    flag("cpu-shares").build([NO_GROUPS; 3]),
    flag("cpuset-cpus").build([NO_GROUPS; 3]),
    flag("cpuset-mems").build([NO_GROUPS; 3]),
    flag("detach").run(ALL),
    flag("dns").run(ALL),
    flag("dry-run").build(PLAN),
    flag("entrypoint").build(OF_PROGRAMS).run(ALL),
    flag("env").build(OF_PROGRAMS).run(ALL),
    flag("env-file").run(ALL),
    flag("explain").build(EXPLAINED),
    flag("file").build(OF_DOCKERFILES),
    flag("force-rm").build(FULFILLED),
    flag("gcflags").build(OF_GO),
    flag("go").build(OF_GO),
    flag("go-env").build(OF_GO),
    flag("go-flag").build(OF_GO),
    flag("gzip-single-member").build(ALL),
    flag("hostname").run(ALL),
    flag("iidfile").build(RESULT),
    flag("image-refs").build(RESULT),
    flag("init").run(FULFILLED),
    flag("interactive").run(ALL),
    flag("isolation").build([SANDBOX_SAYS; 3]),
    flag("json").build(PLAN_FORM),
    flag("label").build(ALL).run(ALL),
    flag("ldflags").build(OF_GO),
    flag("memory").build([NO_GROUPS; 3]),
    flag("memory-swap").build([NO_GROUPS; 3]),
    flag("metadata-file").build(RESULT),
    flag("mod").build(OF_GO),
    flag("mount").run(ALL),
    flag("name").run(ALL),
    flag("network").build(OF_DOCKERFILES).run(ALL),
    flag("no-cache").build(ALL),
    flag("no-cache-filter").build(OF_DOCKERFILES),
    flag("no-go-cache").build(OF_DOCKERFILES),
    flag("no-shared-caches").build(NOT_OF_PREBUILT),
    flag("one-image").build(OF_GO),
    flag("output").build(RESULT),
    flag("package").build(PACKAGE),
    flag("packages").build(OF_COMPILED_OR_FILE),
    flag("pids-limit").run(ALL),
    flag("platform").build(ALL).run(RUN_PLATFORM),
    flag("port").build(OF_PROGRAMS),
    flag("prebuilt").build(PREBUILT),
    flag("provenance").build(FULFILLED),
    flag("publish").run(ALL),
    flag("publish-all").run(ALL),
    flag("pull").build(PULL).run(RUN_PULL),
    flag("push").build(RESULT),
    flag("read-only").run(ALL),
    flag("revision").build(OF_PROGRAMS),
    flag("rm").build(FULFILLED).run(ALL),
    flag("rootfs").run(ALL),
    flag("sandbox").build(NOT_OF_PREBUILT).run(ALL),
    flag("sandbox-min").build(NOT_OF_PREBUILT).run(ALL),
    flag("sbom").build(FULFILLED),
    flag("secret").build(OF_DOCKERFILES),
    flag("security-opt").build([SANDBOX_SAYS; 3]),
    flag("shell-on-failure").build(OF_EXECUTION),
    flag("shm-size").build(OF_DOCKERFILES).run(ALL),
    flag("ssh").build(OF_DOCKERFILES),
    flag("stop-signal").build(OF_PROGRAMS).run(ALL),
    flag("stop-timeout").run(ALL),
    flag("tag").build(ALL),
    flag("target").build(OF_DOCKERFILES),
    flag("timeout").run(ALL),
    flag("timings").build(PAGE),
    flag("tmpfs").run(ALL),
    flag("tty").run(ALL),
    flag("ulimit").build(OF_DOCKERFILES).run(ALL),
    flag("user").build(OF_PROGRAMS).run(ALL),
    flag("vcs-stamp").build(OF_GO),
    flag("volume").build(OF_PROGRAMS).run(ALL),
    flag("words").run(ALL),
    flag("workdir").build(OF_PROGRAMS).run(ALL),
];
