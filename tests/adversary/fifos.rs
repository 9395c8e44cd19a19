//! Files that never end, planted where the program looks by itself: pipes that nobody writes to,
//! devices that give zeros for ever, and links to them.

use std::path::Path;
use std::time::Duration;

use fs_err as fs;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::Attack;
use super::support::{BaseImage, Need, go};
use super::world::{Bench, Ended, Findings, Session, at_once, must, start};

pub const ATTACKS: &[Attack] = &[("files that never end", endless)];

/// Long for a refusal, on a machine that does other things too.
const SOON: Duration = Duration::from_secs(30);
/// Far more than a refusal needs.
const MOST_KIB: u64 = 400 << 10;

/// Where something is planted, and the words of a command that may look there. `PLANT` in the words is
/// the planted path.
const PLANTS: [(&str, &[&str]); 37] = [
    ("ctx/Dockerfile", &["build", "ctx"]),
    ("ctx/Dockerfile", &["build", "-f", "PLANT", "ctx"]),
    ("ctx/Dockerfile", &["build", "--check", "-f", "PLANT", "ctx"]),
    ("ctx/Dockerfile", &["kaniko", "--context", "dir://ctx", "--no-push"]),
    ("ctx/Dockerfile.dockerignore", &["build", "-f", "ctx/Dockerfile", "ctx"]),
    ("ctx/.dockerignore", &["build", "-f", "ctx/Dockerfile", "ctx"]),
    ("ctx/copied", &["build", "-f", "ctx/Dockerfile", "ctx"]),
    ("ctx/beside", &["build", "-f", "ctx/Dockerfile", "ctx"]),
    ("ctx/some.tar", &["build", "-f", "ctx/Adding", "ctx"]),
    ("ctx/copied", &["build", "-f", "ctx/Mounting", "ctx"]),
    ("ctx/copied", &["build", "-f", "ctx/Folder", "ctx"]),
    ("ctx/gondola.yaml", &["build", "ctx"]),
    ("main/gondola.yaml", &["build", "./main"]),
    ("main/gondola.yaml", &["build", "--config", "PLANT", "./main"]),
    ("main/go.mod", &["build", "./main"]),
    ("main/go.sum", &["build", "./main"]),
    ("main/go.work", &["build", "./main"]),
    ("main/gondola.lock", &["build", "./main"]),
    ("main/main.go", &["build", "./main"]),
    ("main/other.go", &["build", "./main"]),
    ("main/other.s", &["build", "./main"]),
    ("main/vendor/modules.txt", &["build", "./main"]),
    ("main/embedded", &["build", "./main"]),
    ("main/.git", &["build", "./main"]),
    ("main/.git/HEAD", &["build", "./main"]),
    ("main/go.mod", &["run", "./main"]),
    ("app", &["build", "--prebuilt", "PLANT", "-t", "app"]),
    ("site/added", &["build", "--prebuilt", "binary", "--add", "PLANT:/added", "-t", "app"]),
    ("site/added", &["build", "--prebuilt", "binary", "--add", "site:/srv", "-t", "app"]),
    ("base/index.json", &["copy", "oci:base", "oci:copied"]),
    ("base/oci-layout", &["copy", "oci:base", "oci:copied"]),
    ("base/blobs/sha256/MANIFEST", &["copy", "oci:base", "oci:copied"]),
    ("base/blobs/sha256/LAYER", &["copy", "oci:base", "oci:copied"]),
    ("base/index.json", &["run", "--rm", "oci:base", "true"]),
    ("base/index.json", &["build", "--prebuilt", "binary", "--base", "oci:base", "-t", "app"]),
    ("base/blobs/sha256/LAYER", &["inspect", "oci:base", "--files"]),
    ("out/index.json", &["copy", "oci:base", "oci:out:t"]),
];

#[derive(Clone, Copy, Debug)]
enum Endless {
    Pipe,
    LinkToPipe,
    Zeros,
    LinkToZeros,
}

const KINDS: [Endless; 4] =
    [Endless::Pipe, Endless::LinkToPipe, Endless::Zeros, Endless::LinkToZeros];

fn endless(session: &Session, findings: &mut Findings) -> Need<()> {
    go()?;
    session.base()?;
    // What waits for a pipe takes no processor.
    let outcomes = at_once(PLANTS.len() * KINDS.len(), 6, |number| {
        let (place, words) = PLANTS[number / KINDS.len()];
        attempt(session, place, words, KINDS[number % KINDS.len()])
    });
    let (mut longest, mut most) = (Duration::ZERO, 0);
    for (name, outcome) in outcomes {
        if let Ok(ended) = &outcome {
            longest = longest.max(ended.took);
            most = most.max(ended.peak_kib);
        }
        findings.judge(&name, outcome.and_then(|ended| judge(&ended)));
    }
    findings.note(format!(
        "the longest {:.1} s, at most {} MiB",
        longest.as_secs_f64(),
        most >> 10
    ));
    Ok(())
}

fn attempt(
    session: &Session,
    place: &str,
    words: &[&str],
    kind: Endless,
) -> (String, Result<Ended, String>) {
    let bench = Bench::new(session).unwrap();
    let place = prepare(&bench, place);
    let name = format!("{kind:?} at {place}: {}", words.join(" "));
    if let Err(error) = plant(&bench.sandbox.path(&place), kind) {
        return (name, Err(format!("it could not be planted: {error}")));
    }
    let mut words: Vec<String> = words.iter().map(|it| it.replace("PLANT", &place)).collect();
    if words.iter().any(|word| word == "-f") {
        words = with(&words, &["--build-context", &session.base().unwrap()]);
    }
    (name, start(&mut bench.sandbox.command(&words)).end(SOON))
}

fn judge(ended: &Ended) -> Result<(), String> {
    if ended.peak_kib > MOST_KIB {
        return Err(format!("took {} MiB", ended.peak_kib >> 10));
    }
    // What is not read, or copied as what it is, does no harm.
    if ended.code == Some(0) { Ok(()) } else { ended.failed_in_words() }
}

/// Puts words behind the first.
fn with(words: &[String], more: &[&str]) -> Vec<String> {
    let more = more.iter().map(|word| (*word).to_owned());
    words[..1].iter().cloned().chain(more).chain(words[1..].iter().cloned()).collect()
}

/// Writes a project of each sort; gives the place with the names of blobs.
fn prepare(bench: &Bench, place: &str) -> String {
    let sandbox = &bench.sandbox;
    sandbox.write("ctx/Dockerfile", "FROM busybox\nCOPY copied /\nCOPY . /all/\n");
    sandbox.write("ctx/Adding", "FROM busybox\nADD some.tar /\n");
    sandbox.write("ctx/Folder", "FROM busybox\nCOPY . /all/\n");
    let mounting = "FROM busybox\nRUN --mount=type=bind,source=copied,target=/x true\n";
    sandbox.write("ctx/Mounting", mounting);
    sandbox.write("ctx/copied", "copied");
    sandbox.write("main/go.mod", "module example.com/main\n\ngo 1.21\n");
    sandbox.write("main/embedded", "x");
    let main = "package main\n\nimport _ \"embed\"\n\n//go:embed embedded\nvar x string\n\n\
                func main() { println(x) }\n";
    sandbox.write("main/main.go", main);
    sandbox.write("binary", "a program");
    sandbox.write("site/index.html", "x");
    let base = sandbox.path("base");
    let digest = BaseImage::default().write(&base);
    let manifest = fs::read(base.join("blobs/sha256").join(digest.hex())).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().replace("sha256:", "");
    if place.starts_with("out/") {
        must(&mut sandbox.command(&["copy", "oci:base", "oci:out:t"])).unwrap();
    }
    place.replace("MANIFEST", digest.hex()).replace("LAYER", &layer)
}

/// Puts something without an end in the place of whatever is there.
fn plant(place: &Path, kind: Endless) -> std::io::Result<()> {
    fs::create_dir_all(place.parent().unwrap())?;
    let _ = fs::remove_file(place);
    // Outside of the context, so that it is found through the link alone.
    let aside = place.ancestors().nth(2).unwrap().join("never-ends");
    let pipe = |path: &Path| Ok(mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0)?);
    match kind {
        Endless::Pipe => pipe(place),
        Endless::LinkToPipe => {
            pipe(&aside)?;
            std::os::unix::fs::symlink(&aside, place)
        }
        // Links in their own right: devices need root.
        Endless::Zeros => std::os::unix::fs::symlink("/dev/zero", place),
        Endless::LinkToZeros => {
            std::os::unix::fs::symlink("/dev/zero", &aside)?;
            std::os::unix::fs::symlink(&aside, place)
        }
    }
}
