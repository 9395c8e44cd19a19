//! The builders, and what is asked of their results.

use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use tempfile::TempDir;

use crate::case::{Case, as_user};
use crate::contained::{Contained, Exceptions, Outcome, SAMPLE, Starter};
use crate::differences::unexcused;
use crate::support::{Bases, Buildah, Lines, Need, Sandbox, describe, install, required, run};

/// A user who owns nothing here but a folder, and has no further ids.
const UNPRIVILEGED: u32 = 54321;
/// Older than every file that the tests make.
const SOURCE_DATE_EPOCH: &str = "1700000000";

/// What an image says about the machine that it was built on.
const MACHINE: [&str; 2] = ["config architecture", "config os"];

/// What all cases share.
pub struct World {
    bases: Bases,
    buildah: Buildah,
    /// Where the program is, readable by everybody.
    program: PathBuf,
    sandbox: Sandbox,
    contained: Contained,
    exceptions: Exceptions,
    folder: TempDir,
}

/// One build of ours.
struct Built {
    lines: Lines,
    digest: String,
}

impl World {
    /// Finds what every case needs.
    pub fn new() -> Need<Self> {
        let (bases, buildah) = (Bases::start()?, Buildah::start()?);
        let folder = TempDir::with_prefix("gondola-equality-").unwrap();
        run("chmod", &["755", folder.path().to_str().unwrap()]);
        run("chmod", &["-R", "a+rX", bases.registries_conf().parent().unwrap().to_str().unwrap()]);
        let program = folder.path().join("gondola");
        install(env!("CARGO_BIN_EXE_gondola"), &program);
        let registries = bases.registries_conf().parent().unwrap().to_owned();
        let contained = Contained::new(vec![folder.path().to_owned(), registries]);
        let (sandbox, exceptions) = (Sandbox::new(), Exceptions::read());
        Ok(Self { bases, buildah, program, sandbox, contained, exceptions, folder })
    }

    /// Builds a case in every way; returns what is wrong with it.
    pub fn check(&self, case: &Case) -> Need<Vec<String>> {
        self.make_bases(case)?;
        let folder = self.folder.path().join(&case.name);
        fs::create_dir(&folder).unwrap();
        let mut faults = Vec::new();
        let ours = self.as_root(case, &folder)?;
        if case.buildah_cannot.is_none() {
            let theirs = self.buildah(case, &folder)?;
            faults.extend(unexcused(&case.name, &ours.lines, &theirs));
        }
        if let Some(expected) = &case.expected {
            let differing = ours.lines.differences(expected).into_iter();
            // Cases are committed once, for machines of any kind.
            let differing = differing.filter(|(subject, ..)| !MACHINE.contains(subject));
            faults.extend(differing.map(|(_, ours, expected)| {
                let (ours, expected) = (ours.unwrap_or("-"), expected.unwrap_or("-"));
                format!("  ours:     {ours}\n  expected: {expected}")
            }));
        }
        let somebody = case.not_unprivileged.is_none().then_some(UNPRIVILEGED);
        let again = self.again(case, &folder, somebody)?;
        if again.digest != ours.digest {
            faults.push(format!("  {}, and {} the second time", ours.digest, again.digest));
            faults.extend(unequal(&ours.lines, &again.lines));
        }
        if SAMPLE.contains(&case.name.as_str()) {
            for starter in [Starter::Docker, Starter::Runc] {
                match self.in_container((case, starter), &folder, &ours) {
                    Err(missing) if !required() => {
                        println!("{}: not built in a container: {missing}", case.name);
                    }
                    found => faults.extend(found?),
                }
            }
        }
        // A failed case leaves its folder to look at, where it was asked for.
        run("rm", &["-rf", folder.to_str().unwrap()]);
        Ok(faults)
    }

    /// Builds a case here and in a container; returns what is wrong with it.
    pub fn check_in_container(&self, case: &Case, starter: Starter) -> Need<Vec<String>> {
        self.make_bases(case)?;
        let folder = self.folder.path().join(&case.name);
        fs::create_dir(&folder).unwrap();
        let ours = self.as_root(case, &folder)?;
        let faults = self.in_container((case, starter), &folder, &ours);
        run("rm", &["-rf", folder.to_str().unwrap()]);
        faults
    }

    /// What is wrong with a case in a container: that it comes out worse than is listed, or better.
    fn in_container(
        &self,
        (case, starter): (&Case, Starter),
        folder: &Path,
        ours: &Built,
    ) -> Need<Vec<String>> {
        let own = folder.join(format!("{starter:?}").to_lowercase());
        let context = own.join("context");
        fs::create_dir(&own).unwrap();
        case.make_context(&context, None);
        let shown = [&own, self.bases.registries_conf().parent().unwrap()].map(Path::to_path_buf);
        let build = self.contained.command(starter, &shown)?;
        let (found, mut faults) = match self.try_build(build, case, &Place { context, own })? {
            Err(failed) => (Outcome::OtherResult, vec![failed]),
            Ok(there) if there.digest == ours.digest => (Outcome::Same, Vec::new()),
            Ok(there) => match unequal(&ours.lines, &there.lines) {
                none if none.is_empty() => {
                    let digests = format!("  {}, and {} there", ours.digest, there.digest);
                    (Outcome::OtherLayers, vec![digests])
                }
                differences => (Outcome::OtherResult, differences),
            },
        };
        let listed = self.exceptions.of(&case.name);
        if found == listed {
            return Ok(Vec::new());
        }
        let list = "fixtures/in_container.txt has";
        faults.push(format!("  in a container of {starter:?}: {found:?}; {list} {listed:?}"));
        Ok(faults)
    }

    fn make_bases(&self, case: &Case) -> Need<()> {
        case.bases().into_iter().try_for_each(|base| self.bases.digest(base).map(drop))
    }

    /// The cases that are listed as exceptions in a container.
    pub fn exceptions(&self) -> &Exceptions {
        &self.exceptions
    }

    /// What buildah makes of a case, to look at while writing one.
    pub fn print_theirs(&self, case: &Case) -> Need<()> {
        self.make_bases(case)?;
        let folder = TempDir::new_in(self.folder.path()).unwrap();
        println!("--- {}", case.name);
        for line in self.buildah(case, folder.path())?.lines.values() {
            println!("{line}");
        }
        Ok(())
    }

    fn buildah(&self, case: &Case, folder: &Path) -> Need<Lines> {
        let (context, result) = (folder.join("buildah"), folder.join("buildah-result"));
        case.make_context(&context, None);
        let mut build = self.buildah.command();
        build.env("CONTAINERS_REGISTRIES_CONF", self.bases.registries_conf());
        build.args(["bud", "--isolation", "chroot", "--format", "docker", "--no-cache"]);
        build
            .args(["--identity-label=false"])
            .arg("--tag")
            .arg(format!("dir:{}", result.display()));
        build.arg(if case.layers_in_buildah { "--layers=true" } else { "--layers=false" });
        case.add_arguments(&mut build, &context, &self.bases)?;
        let output = build.output().unwrap();
        assert!(output.status.success(), "{}", describe(&build, &output));
        Ok(Lines::of_image(&result))
    }

    fn as_root(&self, case: &Case, folder: &Path) -> Need<Built> {
        let context = folder.join("one");
        case.make_context(&context, None);
        let mut build = Command::new(&self.program);
        build.env_clear();
        self.build(build, case, &Place { context, own: folder.join("root") })
    }

    /// Builds in a place where all is different.
    fn again(&self, case: &Case, folder: &Path, user: Option<u32>) -> Need<Built> {
        let own = folder.join("user");
        fs::create_dir(&own).unwrap();
        std::os::unix::fs::chown(&own, user, user).unwrap();
        let context = own.join("another folder");
        case.make_context(&context, user);
        let mut build = as_user(Path::new("sh"), user);
        build.env_clear();
        build.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(&self.program);
        build.env("TZ", "Asia/Kathmandu").env("LC_ALL", "tr_TR.UTF-8");
        self.build(build, case, &Place { context, own })
    }

    fn build(&self, build: Command, case: &Case, place: &Place) -> Need<Built> {
        Ok(self.try_build(build, case, place)?.unwrap_or_else(|failed| panic!("{failed}")))
    }

    /// Builds a case, or says why that failed.
    fn try_build(
        &self,
        mut build: Command,
        case: &Case,
        place: &Place,
    ) -> Need<Result<Built, String>> {
        let result = place.own.join("result");
        let home = place.own.join("home");
        run("install", &["-d", "-o", &owner(&place.context), home.to_str().unwrap()]);
        build.env("PATH", &self.sandbox.environment()["PATH"]).env("HOME", &home);
        build.env("GONDOLA_HOME", place.own.join("store"));
        build.env("CONTAINERS_REGISTRIES_CONF", self.bases.registries_conf());
        build.env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH).current_dir(&home);
        build.arg("build").arg("--output").arg(format!("oci:{}:t", result.display()));
        case.add_arguments(&mut build, &place.context, &self.bases)?;
        let output = build.output().unwrap();
        if !output.status.success() {
            return Ok(Err(describe(&build, &output)));
        }
        let index = fs::read_to_string(result.join("index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_str(&index).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
        Ok(Ok(Built { lines: Lines::of_image(&result), digest }))
    }
}

/// What two builds of one case differ in.
fn unequal(first: &Lines, second: &Lines) -> Vec<String> {
    let lines = first.differences(second).into_iter().map(|(_, first, second)| {
        let (first, second) = (first.unwrap_or("-"), second.unwrap_or("-"));
        format!("    first:  {first}\n    second: {second}")
    });
    let times = first.times.iter().filter_map(|(path, time)| {
        let other = second.times.get(path).filter(|other| *other != time)?;
        Some(format!("    {path}: modified {time}, and {other} the second time"))
    });
    lines.chain(times).collect()
}

/// Where a build happens.
struct Place {
    context: PathBuf,
    /// Holds home, store and result.
    own: PathBuf,
}

fn owner(file: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(file).unwrap().uid().to_string()
}
