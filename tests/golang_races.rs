//! Sources that change while they are compiled: no program is ever other than its sources say.
//!
//! A stand-in between `go` and its tools (`-toolexec`) changes a source at the boundary: after `go`
//! has hashed it and before the compiler reads it, or when the linker starts.

#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "tests start programs and read their environment")]

#[path = "support/go.rs"]
mod go;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use go::{Bench, environment, output};
use gondola::golang::Toolchain;

const MAIN: &str = "package main\n\nimport \"example.com/race/lib\"\n\nconst text = \"one\"\n\n\
                    func main() { println(text + lib.Text()) }\n";
const LIB: &str = "package lib\n\nimport _ \"embed\"\n\n//go:embed note.txt\nvar note string\n\n\
                   func Text() string { return \"one\" + note }\n";

/// A module, a build cache of its own, and a stand-in before the tools of `go`.
struct Race(Bench);

/// A cache that has what every program needs.
fn warm_cache() -> &'static Path {
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    CACHE.get_or_init(|| {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golang-races-warm");
        let bench = Bench::empty();
        write_module(&bench);
        // The packages of the tests themselves are compiled in the tests.
        bench.write("main.go", &MAIN.replace("one", "warm"));
        bench.write("lib/lib.go", &LIB.replace("one", "warm"));
        go_build(&bench, &cache, &["-trimpath"]);
        cache
    })
}

fn write_module(bench: &Bench) {
    bench.write("go.mod", "module example.com/race\n\ngo 1.21\n");
    bench.write("main.go", MAIN);
    bench.write("lib/lib.go", LIB);
    bench.write("lib/note.txt", "one");
}

fn with_cache(cache: &Path) -> BTreeMap<String, String> {
    let mut environment = environment();
    environment.insert("GOCACHE".to_owned(), cache.display().to_string());
    environment
}

/// Plain `go build`; gives what the program prints.
fn go_build(bench: &Bench, cache: &Path, flags: &[&str]) -> String {
    let program = bench.folder.path().join("plain");
    let mut go = Command::new(bench.builder.toolchain.program());
    go.arg("build").args(flags).arg("-o").arg(&program).arg(".").current_dir(bench.dir());
    go.env_clear().envs(with_cache(cache)).env("CGO_ENABLED", "0");
    let ended = go.output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    output(&program)
}

impl Race {
    fn new() -> Self {
        let mut bench = Bench::empty();
        write_module(&bench);
        let cache = bench.folder.path().join("cache");
        let copied = Command::new("cp").arg("-a").arg(warm_cache()).arg(&cache).status().unwrap();
        assert!(copied.success());
        bench.builder.toolchain = Toolchain::find(&with_cache(&cache), &bench.dir()).unwrap();
        let stand_in = bench.folder.path().join("stand-in");
        let script = format!(
            "#!/bin/sh\nbase={}\ncase \" $* \" in *\" -V=full \"*) exec \"$@\";; esac\n\
             for hook in $base/hooks/*.sh; do [ -f \"$hook\" ] && . \"$hook\"; done\nexec \"$@\"\n",
            bench.folder.path().display()
        );
        // Written by another process: a child of another test's would hold it open for a moment.
        let text = bench.folder.path().join("stand-in.text");
        fs_err::write(&text, script).unwrap();
        let mut install = Command::new("install");
        assert!(install.args(["-m", "755"]).args([&text, &stand_in]).status().unwrap().success());
        fs_err::create_dir(bench.folder.path().join("hooks")).unwrap();
        bench.builder.flags.flags = vec![format!("-toolexec={}", stand_in.display())];
        Self(bench)
    }

    fn cache(&self) -> PathBuf {
        self.0.folder.path().join("cache")
    }

    /// Runs a script, once, before the tool that compiles a package, or links (`link`).
    fn once_before(&self, tool: &str, script: &str) {
        self.before(tool, &format!("mv \"$hook\" \"$hook.done\"; {script}"));
    }

    /// Runs a script before each such tool, in the folder of the module.
    fn before(&self, tool: &str, script: &str) {
        let pattern = match tool {
            "link" => "*/link\\ *".to_owned(),
            package => format!("*/compile\\ *\" -p {package} \"*"),
        };
        let hooks = self.0.folder.path().join("hooks");
        let number = fs_err::read_dir(&hooks).unwrap().count();
        let source = self.0.dir();
        let script = format!(
            "case \"$*\" in {pattern}) here=$PWD; cd {}; {script}; cd \"$here\";; esac\n",
            source.display()
        );
        fs_err::write(hooks.join(format!("{number}.sh")), script).unwrap();
    }

    /// Builds the program and runs it.
    async fn says(&self) -> String {
        self.0.build_and_run(".").await.trim_end().to_owned()
    }
}

/// A source, the package that it is compiled in, and what the program says if it is the other one.
const EDITS: [(&str, &str, &str); 4] = [
    ("sed -i s/one/two/ main.go", "main", "twooneone"),
    ("sed s/one/two/ main.go >x; mv x main.go", "main", "twooneone"),
    ("sed -i s/one/two/ lib/lib.go", "example.com/race/lib", "onetwoone"),
    ("echo two | tr -d '\\n' >lib/note.txt", "example.com/race/lib", "oneonetwo"),
];

const ORIGINAL: &str = "oneoneone";

/// The fault that everything here is about. Where it is gone, much can become simpler.
#[test]
fn bare_go_build_keeps_what_it_compiled_of_another_source() {
    for (edit, package, expect) in EDITS {
        let race = Race::new();
        race.once_before(package, edit);
        let flags: Vec<&str> = race.0.builder.flags.flags.iter().map(String::as_str).collect();
        let flags = [&["-trimpath"], &flags[..]].concat();
        assert_eq!(go_build(&race.0, &race.cache(), &flags).trim_end(), expect, "{edit}");
        write_module(&race.0);
        // The sources say otherwise.
        assert_eq!(go_build(&race.0, &race.cache(), &flags).trim_end(), expect, "{edit}");
    }
}

#[tokio::test]
async fn a_source_saved_before_the_compiler_reads_it_does_not_stay_in_the_cache() {
    for (edit, package, expect) in EDITS {
        let race = Race::new();
        race.once_before(package, edit);
        assert_eq!(race.says().await, expect, "{edit}");
        write_module(&race.0);
        assert_eq!(race.says().await, ORIGINAL, "put back after {edit}");
    }
}

#[tokio::test]
async fn a_source_put_back_before_the_end_is_compiled_as_it_is() {
    for (edit, package, _) in EDITS {
        let race = Race::new();
        race.0.write("../kept/main.go", MAIN);
        race.once_before(package, &format!("cp -r lib main.go ../kept; {edit}"));
        race.once_before("link", "cat ../kept/main.go >main.go; cp -r ../kept/lib .");
        assert_eq!(race.says().await, ORIGINAL, "{edit}");
        assert_eq!(race.says().await, ORIGINAL, "a second build after {edit}");
    }
}

#[tokio::test]
async fn a_folder_swapped_for_a_while_is_compiled_as_it_is() {
    for (before, swap, back) in [
        // A link that leads elsewhere, and a folder in the place of another one.
        ("mv lib real; ln -s real lib; cp -r real other", "ln -sfn other lib", "ln -sfn real lib"),
        ("cp -r lib other", "mv lib real; mv other lib", "mv lib other; mv real lib"),
    ] {
        let race = Race::new();
        let prepare = format!("{before}; sed -i s/one/two/ other/lib.go");
        let status = Command::new("sh").args(["-ec", &prepare]).current_dir(race.0.dir()).status();
        assert!(status.unwrap().success());
        race.once_before("example.com/race/lib", swap);
        race.once_before("link", back);
        assert_eq!(race.says().await, ORIGINAL, "{swap}");
        assert_eq!(race.says().await, ORIGINAL, "a second build after {swap}");
    }
}

#[tokio::test]
async fn a_half_saved_source_is_compiled_again_when_it_is_whole() {
    let race = Race::new();
    let script = "if [ -e ../half ]; then sed -i '$d' main.go; mv ../half ../whole; \
                  elif [ ! -e ../whole ]; then echo broken >>main.go; touch ../half; fi";
    race.before("main", script);
    assert_eq!(race.says().await, ORIGINAL);
}

#[tokio::test]
async fn a_source_that_changes_each_time_is_an_error_that_names_it() {
    let race = Race::new();
    race.before("main", "echo '// more' >> main.go");
    let text = race.0.failure(&["."]).await;
    assert!(text.contains("main.go changed each time while it was compiled"), "{text}");
    assert!(text.contains("hint: build when nothing writes there"), "{text}");
    let count = fs_err::read_to_string(race.0.dir().join("main.go")).unwrap();
    assert_eq!(count.matches("// more").count(), 3, "{count}");
    fs_err::remove_dir_all(race.0.folder.path().join("hooks")).unwrap();
    write_module(&race.0);
    assert_eq!(race.says().await, ORIGINAL);
}

#[tokio::test]
async fn a_file_that_is_no_source_may_come_and_go() {
    let race = Race::new();
    assert_eq!(race.says().await, ORIGINAL);
    let linked = race.0.folder.path().join("linked");
    race.before("link", &format!("echo >> {}; echo > notes.txt; rm notes.txt", linked.display()));
    race.0.write("main.go", &MAIN.replace("one", "two"));
    assert_eq!(race.says().await, "twooneone");
    let links = fs_err::read_to_string(&linked).unwrap();
    // The first time it is not known which names there were.
    assert!(links.lines().count() <= 2, "{links}");
}

/// Another folder with equal sources shares the cache, and reads from it before the first build has
/// seen that its own sources changed.
#[tokio::test]
async fn a_build_beside_one_whose_sources_changed_does_not_keep_what_that_compiled() {
    let (first, mut second) = (Race::new(), Race::new());
    second.0.builder.toolchain = first.0.builder.toolchain.clone();
    let path = |name: &str| first.0.folder.path().join(name);
    let (ready, linked) = (path("ready"), path("linked"));
    first.once_before("main", "sed -i s/one/two/ main.go");
    let wait = format!("until [ -e {} ]; do sleep 0.01; done", linked.display());
    first.once_before("link", &format!("touch {}; {wait}", ready.display()));
    second.before("link", &format!("touch {}", linked.display()));
    let beside = async {
        while !ready.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        second.says().await
    };
    let (first_says, second_says) = tokio::join!(first.says(), beside);
    assert_eq!((first_says.as_str(), second_says.as_str()), ("twooneone", ORIGINAL));
    assert_eq!(second.says().await, ORIGINAL);
}

/// The program itself, killed when the cache has the wrong entry already, and before it has it:
/// `go` lives on then.
#[test]
fn a_killed_build_leaves_nothing_wrong_behind() {
    const KILL: &str = "kill -9 $(cut -d' ' -f4 /proc/$PPID/stat)";
    for killed_before in ["link", "main"] {
        let race = Race::new();
        let gondola = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_gondola"));
            let [toolexec] = &race.0.builder.flags.flags[..] else { unreachable!() };
            command.args(["build", "-o", "oci:../out", &format!("--go-flag={toolexec}"), "."]);
            command.env_clear().envs(with_cache(&race.cache())).current_dir(race.0.dir());
            command.env("GONDOLA_HOME", race.0.folder.path().join("store"));
            command.output().unwrap()
        };
        race.once_before("main", "sed -i s/one/two/ main.go");
        race.once_before(killed_before, KILL);
        let ended = gondola();
        assert_eq!(ended.status.code(), None, "it was not killed: {ended:?}");
        write_module(&race.0);
        let ended = gondola();
        assert!(ended.status.success(), "{ended:?}");
        let kept = race.0.folder.path().join("store/programs");
        let programs = Command::new("find")
            .arg(kept)
            .args(["-path", "*/kept/*", "-type", "f", "-name", "race"])
            .output();
        let programs = String::from_utf8(programs.unwrap().stdout).unwrap();
        let said: Vec<String> = programs.lines().map(|path| output(Path::new(path))).collect();
        assert_eq!(said, [format!("{ORIGINAL}\n")], "killed before {killed_before}");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        assert_eq!(runtime.block_on(race.says()), ORIGINAL, "killed before {killed_before}");
    }
}

/// For how long the moments are tried.
fn time_for_moments() -> Duration {
    let minutes = std::env::var("GONDOLA_TEST_LONG").ok().and_then(|text| text.parse::<u64>().ok());
    minutes.map_or(Duration::from_secs(20), |minutes| Duration::from_secs(minutes * 60))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_changed_and_put_back_at_any_moment_is_compiled_as_it_is() {
    let mut race = Race::new();
    race.0.builder.flags.flags.clear();
    let begun = Instant::now();
    race.says().await;
    race.0.write("main.go", &MAIN.replace("one", "0"));
    let one_build = Instant::now();
    race.says().await;
    let whole = one_build.elapsed();
    // A fixed sequence that visits every part of a build.
    let mut state = 0x2545_f491_u32;
    let mut moment = move |most: Duration| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        most.mul_f64(f64::from(state >> 8) / f64::from(1_u32 << 24))
    };
    let mut moments = 0;
    while begun.elapsed() < time_for_moments() {
        moments += 1;
        let text = |word: &str| MAIN.replace("one", &format!("{word}{moments}-"));
        race.0.write("main.go", &text("right"));
        let (path, first, then) = (race.0.dir().join("main.go"), moment(whole), moment(whole / 4));
        let (wrong, right) = (text("wrong"), text("right"));
        let editor = tokio::task::spawn_blocking(move || {
            // Not a wait for something to be done: the moment is what varies.
            std::thread::sleep(first);
            fs_err::write(&path, wrong).unwrap();
            std::thread::sleep(then);
            fs_err::write(&path, right).unwrap();
        });
        let _ = race.0.build(&["."]).await;
        editor.await.unwrap();
        assert_eq!(
            race.says().await,
            format!("right{moments}-oneone"),
            "after {first:?}, {then:?}"
        );
    }
    assert!(moments > 3, "only {moments} moments were tried");
}
