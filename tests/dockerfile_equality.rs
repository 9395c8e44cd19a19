//! Dockerfiles built here and by buildah: the files and the configurations are equal.
//!
//! Each folder of `fixtures/dockerfiles` is a case. It is the build context, but for these:
//!
//! ```text
//! Dockerfile        FROM busybox is the base of tests::support::Busybox
//! arguments         further arguments for both builders, one a line
//! differences       what may differ, one a line: a path of the image or config.FIELD, and why
//! expected          the files that the build adds or changes, instead of buildah's, where buildah
//!                   cannot build the case: lines as `f 0755 0:0 /path content`
//! unprivileged      what may differ in the same way when a user without any rights builds it
//! setup.sh          makes what cannot be committed (modes, links, archives), run in a copy
//! ```

#![cfg(test)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use gondola::oci::Digest;
use serde_json::Value;
use support::{
    Busybox, Entry, Need, ReadImage, Registry, Sandbox, Stored, need, program, root, run,
};

/// Files of a case that are no part of its context.
const OWN_FILES: [&str; 5] = ["arguments", "differences", "expected", "setup.sh", "unprivileged"];
/// A user without rights: nobody has this number, and no ids belong to it.
const NOBODY: &str = "54321";
/// What buildah leaves in an image of what it mounted while a step ran.
const LEFT_BY_BUILDAH: [&str; 7] =
    ["dev", "proc", "sys", "etc/hostname", "etc/hosts", "etc/resolv.conf", "run/secrets"];
/// Fields of a configuration that are compared.
const FIELDS: [&str; 13] = [
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
    "Author",
];

struct Bench {
    registry: Registry,
    sandbox: Sandbox,
    /// What a user without rights builds with, and its copy of the program.
    user: Option<(Sandbox, PathBuf)>,
    base: BTreeMap<String, Entry>,
}

impl Bench {
    fn new() -> Need<Self> {
        let registry = Registry::plain()?;
        let sandbox = Sandbox::new();
        let layout = sandbox.path("base");
        Busybox::default().push(&layout, &registry.image("library/busybox:latest"))?;
        let base = Stored::folder(&layout).image(None).files();
        let user = (program("setpriv").is_ok() && root("to build as somebody else").is_ok())
            .then(|| (Sandbox::new(), PathBuf::new()))
            .map(|(user, _)| {
                let copy = user.work().parent().unwrap().join("gondola");
                fs::copy(env!("CARGO_BIN_EXE_gondola"), &copy).unwrap();
                (user, copy)
            });
        Ok(Self { registry, sandbox, user, base })
    }

    /// Builds as a user without rights; `None` where this process cannot become one.
    fn build_unprivileged(&self, case: &Path, context: &Path) -> Option<Result<ReadImage, String>> {
        let (user, copy) = self.user.as_ref()?;
        let (own, out) = (user.path("ctx"), user.path("ours"));
        let _ = (fs::remove_dir_all(&own), fs::remove_dir_all(&out));
        run("cp", &["-a", context.to_str().unwrap(), own.to_str().unwrap()]);
        let folder = user.work().parent().unwrap().to_owned();
        run("chown", &["-R", &format!("{NOBODY}:{NOBODY}"), folder.to_str().unwrap()]);
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(copy);
        command.env_clear().envs(user.environment()).env("SECRET_OF_TEST", "hunter2");
        command.current_dir(user.work());
        command.args(self.words(case, &own));
        Some(succeeded(&mut command).map(|()| Stored::folder(&out).image(Some("t"))))
    }

    /// The arguments of a build of a case.
    fn words(&self, case: &Path, context: &Path) -> Vec<String> {
        let mirror = format!("docker.io={}", self.registry.host());
        let file = context.join("Dockerfile").display().to_string();
        let first = ["build", "--mirror", &mirror, "-f", &file].map(str::to_owned);
        let context = context.display().to_string();
        let last = ["--no-go-cache", "-o", "oci:ours:t", &context].map(str::to_owned);
        first.into_iter().chain(lines(&case.join("arguments"))).chain(last).collect()
    }

    /// Copies a case and makes what cannot be committed.
    fn context(&self, case: &Path) -> PathBuf {
        let context = self.sandbox.path("cases").join(case.file_name().unwrap());
        fs::create_dir_all(context.parent().unwrap()).unwrap();
        run("cp", &["-a", case.to_str().unwrap(), context.to_str().unwrap()]);
        if context.join("setup.sh").exists() {
            let mut setup = Command::new("sh");
            setup.args(["-eu", "setup.sh"]).current_dir(&context);
            assert!(setup.status().unwrap().success(), "{}", case.display());
        }
        for name in OWN_FILES {
            let path = context.join(name);
            if path.exists() {
                fs::remove_file(path).unwrap();
            }
        }
        context
    }

    fn build_here(&self, case: &Path, context: &Path) -> Result<ReadImage, String> {
        let out = self.sandbox.path("ours");
        let _ = fs::remove_dir_all(&out);
        let mut command = self.sandbox.command(&self.words(case, context));
        command.env("SECRET_OF_TEST", "hunter2");
        succeeded(&mut command)?;
        Ok(Stored::folder(&out).image(Some("t")))
    }

    fn build_there(&self, case: &Path, context: &Path) -> Need<Result<ReadImage, String>> {
        let buildah = program("buildah")?;
        root("buildah without subordinate ids")?;
        let out = self.sandbox.path("theirs");
        let _ = fs::remove_dir_all(&out);
        let registries = self.sandbox.write(
            "registries.conf",
            format!(
                "[[registry]]\nprefix = \"docker.io\"\nlocation = \"{}\"\ninsecure = true\n",
                self.registry.host()
            ),
        );
        let mut build = Command::new(&buildah);
        build.env("CONTAINERS_REGISTRIES_CONF", registries).env("HOME", self.sandbox.home());
        build.env("SECRET_OF_TEST", "hunter2").current_dir(self.sandbox.work());
        let storage = self.sandbox.path("buildah");
        build.args(["--storage-driver", "vfs", "--root"]).arg(storage.join("root"));
        build.arg("--runroot").arg(storage.join("run"));
        build.args(["build", "--isolation", "chroot", "--quiet", "--layers=false"]);
        build.args(["--format", "docker", "--pull-always", "--identity-label=false"]);
        build.args(lines(&case.join("arguments")));
        build.arg("-f").arg(context.join("Dockerfile")).args(["-t", "docker.io/library/case"]);
        build.arg(context);
        if let Err(why) = succeeded(&mut build) {
            return Ok(Err(why));
        }
        let mut push = Command::new(&buildah);
        push.args(["--storage-driver", "vfs", "--root"]).arg(storage.join("root"));
        push.arg("--runroot").arg(storage.join("run")).args(["push", "--format", "docker"]);
        push.arg("docker.io/library/case").arg(format!("oci:{}:t", out.display()));
        support::Run::of(&mut push).success();
        Ok(Ok(Stored::folder(&out).image(Some("t"))))
    }
}

fn succeeded(command: &mut Command) -> Result<(), String> {
    let ran = support::Run::of(command);
    if ran.code == Some(0) { Ok(()) } else { Err(ran.stderr) }
}

/// The lines of a file that mean something; none where there is no file.
fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let used = |line: &&str| !line.is_empty() && !line.starts_with('#');
    text.lines().filter(used).map(str::to_owned).collect()
}

/// What is compared of a file: everything but its time.
fn line(path: &str, entry: &Entry) -> String {
    let kind = match entry.kind {
        '5' => 'd',
        '2' => 'l',
        '3' => 'c',
        '4' => 'b',
        '6' => 'p',
        _ => 'f',
    };
    let mut line =
        format!("{kind} {:04o} {}:{} /{path}", entry.mode & 0o7777, entry.uid, entry.gid);
    let short = entry.bytes.len() <= 64
        && entry.bytes.iter().all(|b| (b' '..=b'~').contains(b) || *b == b'\n');
    if kind == 'l' {
        write!(line, " -> {}", entry.target).unwrap();
    } else if kind == 'f' && short {
        write!(line, " {}", entry.bytes.escape_ascii()).unwrap();
    } else if kind == 'f' {
        write!(line, " {}", Digest::of(&entry.bytes).short()).unwrap();
    }
    line
}

/// The files that a build added or changed, and those that it removed.
fn changes(base: &BTreeMap<String, Entry>, image: &ReadImage) -> BTreeSet<String> {
    let mut files = image.files();
    files.retain(|path, _| base.contains_key(path) || !LEFT_BY_BUILDAH.contains(&path.as_str()));
    let same = |path: &str, entry: &Entry| {
        base.get(path).is_some_and(|old| line(path, old) == line(path, entry))
    };
    let changed = files.iter().filter(|(path, entry)| !same(path, entry));
    let removed = base.keys().filter(|path| !files.contains_key(*path));
    changed
        .map(|(path, entry)| line(path, entry))
        .chain(removed.map(|path| format!("- /{path}")))
        .collect()
}

/// The fields of the configuration that a container runs by.
fn configuration(image: &ReadImage) -> BTreeMap<String, Value> {
    let inside = &image.config["config"];
    let field = |&name: &&str| {
        let value = if name == "Author" { &image.config["author"] } else { &inside[name] };
        let is_empty = value.is_null()
            || value.as_str() == Some("")
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(serde_json::Map::is_empty);
        let mut value = value.clone();
        if name == "Env"
            && let Some(list) = value.as_array_mut()
        {
            list.sort_by_key(ToString::to_string);
        }
        (!is_empty).then(|| (format!("config.{name}"), value))
    };
    FIELDS.iter().filter_map(field).collect()
}

/// What is in one list and not in the other, without what may differ.
fn difference(
    ours: &BTreeSet<String>,
    theirs: &BTreeSet<String>,
    allowed: &[String],
) -> Vec<String> {
    let is_allowed = |line: &String| {
        let names = allowed.iter().filter_map(|line| line.split_whitespace().next());
        names.into_iter().any(|name| line.split_whitespace().any(|word| word == name))
    };
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>, mark: &str| {
        let lines = a.difference(b).filter(|line| !is_allowed(line));
        lines.map(|line| format!("{mark} {line}")).collect::<Vec<_>>()
    };
    [only(ours, theirs, "ours:  "), only(theirs, ours, "theirs:")].concat()
}

fn all_of(image: &ReadImage, base: &BTreeMap<String, Entry>) -> BTreeSet<String> {
    let config = configuration(image);
    let config = config.into_iter().map(|(name, value)| format!("{name} {value}"));
    changes(base, image).into_iter().chain(config).collect()
}

fn check(bench: &Bench, case: &Path) -> Need<Vec<String>> {
    let context = bench.context(case);
    let ours = match bench.build_here(case, &context) {
        Ok(ours) => all_of(&ours, &bench.base),
        Err(why) => return Ok(vec![format!("not built here: {why}")]),
    };
    let mut unequal = Vec::new();
    match bench.build_unprivileged(case, &context) {
        Some(Ok(image)) => {
            let allowed = lines(&case.join("unprivileged"));
            let found = difference(&all_of(&image, &bench.base), &ours, &allowed);
            unequal.extend(found.into_iter().map(|line| format!("unprivileged: {line}")));
        }
        Some(Err(why)) => unequal.push(format!("not built by a user without rights: {why}")),
        None => {}
    }
    let expected = case.join("expected");
    let theirs = if expected.exists() {
        lines(&expected).into_iter().collect()
    } else {
        match bench.build_there(case, &context)? {
            Ok(theirs) => all_of(&theirs, &bench.base),
            Err(why) => return Ok(vec![format!("not built by buildah: {why}")]),
        }
    };
    unequal.extend(difference(&ours, &theirs, &lines(&case.join("differences"))));
    Ok(unequal)
}

#[test]
fn every_case_comes_out_as_from_buildah() {
    let bench = need!(Bench::new());
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dockerfiles");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let only = std::env::var("GONDOLA_CASE").ok();
    let mut report = String::new();
    for case in &cases {
        let name = case.file_name().unwrap().to_str().unwrap();
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        for line in need!(check(&bench, case)) {
            writeln!(report, "{name}: {line}").unwrap();
        }
    }
    assert!(report.is_empty(), "{report}");
}
