//! Layers and archives that mean harm, in every way that the program reads one: as a base that is
//! unpacked in each form, by `ADD`, listed, and packed again.
//!
//! Whatever comes of it, nothing outside is touched, nothing hangs or fills the memory, and a refusal
//! is a sentence. What must come out of the legal ones is told by the tests of unpacking.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fs_err as fs;
use gondola::image::{BlobLocation, Image};
use gondola::oci::Digest;
use serde_json::json;

use super::Attack;
use super::archive::{
    Raw, archive, device, fifo, file, folder, gzip, hard_link, image_of_blobs, other, symlink,
};
use super::support::Need;
use super::world::{Bench, Ended, Findings, Session, at_once, start};

pub const ATTACKS: &[Attack] = &[("hostile layers and archives", hostile)];

const LIMIT: Duration = Duration::from_mins(1);
/// What the program itself may take: a layer is read in pieces.
const MOST_KIB: u64 = 150 << 10;
/// More than that, in a file of zeros.
const BOMB: usize = 192 << 20;

/// A layer: its bytes as they lie in a registry, and the digest of what is in it, as the config says.
struct Kind {
    name: &'static str,
    layer: Vec<u8>,
    diff_id: Digest,
}

fn kind(name: &'static str, entries: &[Raw]) -> Kind {
    plain(name, &archive(entries))
}

fn plain(name: &'static str, archive: &[u8]) -> Kind {
    Kind { name, layer: gzip(archive), diff_id: Digest::of(archive) }
}

/// Everything that is known to have worked against somebody. `out` is a folder outside.
fn kinds(out: &str) -> Vec<Kind> {
    let mut kinds = paths(out);
    kinds.extend(links(out));
    kinds.extend(nodes());
    kinds.extend(whiteouts(out));
    kinds.extend(records(out));
    kinds.extend(sizes());
    kinds
}

fn paths(out: &str) -> Vec<Kind> {
    vec![
        kind("dots", &[file("../../../../../../../../tmp/gondola-taken", "x")]),
        kind("dots inside", &[folder("a"), file("a/../../../outside/taken", "x")]),
        kind("dots at the end", &[folder("a/..")]),
        kind("dots alone", &[folder("..")]),
        kind("absolute", &[file(format!("{out}/taken"), "x")]),
        kind("absolute with dots", &[file(format!("/..{out}/taken"), "x")]),
        kind("empty", &[file("", "x")]),
        kind("slashes alone", &[file("///", "x"), folder("//")]),
        kind("the root as a file", &[file(".", "x"), symlink("./", out)]),
        kind("NUL", &[file("a", "x").record("path", b"../outside/a\0b")]),
        kind("ESC", &[file("\x1b]0;taken\x07\x1b[2J", "x"), file("\x1b[31m/..", "x")]),
        kind("line ends", &[file("a\nb\rc", "x")]),
        kind("not UTF-8", &[file(b"\xff\xfe/\x80", "x")]),
        kind("a path longer than any", &[file("x/".repeat(2100) + "y", "x")]),
        kind("a name longer than any", &[file("x".repeat(256), "x")]),
        kind("2,000 deep", &[file("d/".repeat(2000) + "f", "x")]),
        kind("3,000 deep", &[file("d/".repeat(3000) + "f", "x")]),
        kind("names of devices", &[file("CON", "x"), file("a:b", "x"), file("C:\\a", "x")]),
        kind("equal but for their case", &[file("A", "x"), file("a", "y")]),
        kind("twice", &[file("a", "x"), file("a", "y"), folder("a"), file("a", "z")]),
        kind("a file above a folder", &[file("a", "x"), file("a/b", "x")]),
        kind("the mounts' places", &[file("proc", "x"), file("dev", "x"), file("sys", "x")]),
    ]
}

fn links(out: &str) -> Vec<Kind> {
    let kept = format!("{out}/kept");
    let up = "../".repeat(20) + out.trim_start_matches('/');
    vec![
        kind("written through a link", &[symlink("l", out), file("l/taken", "x")]),
        kind("written through a relative link", &[symlink("l", &up), file("l/taken", "x")]),
        kind(
            "written through two links",
            &[symlink("a", out), symlink("b", "a"), file("b/taken", "x")],
        ),
        kind(
            "written through the own root",
            &[symlink("l", "/proc/self/root"), file("l/tmp/gondola-taken", "x")],
        ),
        kind(
            "written through the own folder",
            &[symlink("l", "/proc/self/cwd"), file("l/taken", "x")],
        ),
        kind("a link, then a file of its name", &[symlink("x", &kept), file("x", "taken")]),
        kind("a link, then a folder of its name", &[symlink("x", out), folder("x").mode(0o777)]),
        kind(
            "a link, then a folder with a file",
            &[symlink("x", out), folder("x"), file("x/kept", "taken")],
        ),
        kind("a link, then its mode", &[symlink("x", &kept), hard_link("x", "x").mode(0o777)]),
        kind("a link, then a pipe", &[symlink("x", &kept), fifo("x")]),
        kind("a link, then a device", &[symlink("x", &kept), device(b'3', "x", 1, 3)]),
        kind(
            "a folder becomes a link",
            &[folder("a"), file("a/b", "x"), symlink("a", out), file("a/taken", "x")],
        ),
        kind("links in a circle", &[symlink("a", "b"), symlink("b", "a"), file("a/x", "")]),
        kind("a link to itself", &[symlink("a", "a"), file("a/x", "")]),
        kind("a link without a target", &[symlink("a", "")]),
        kind("a link to a target longer than any", &[symlink("a", &"x".repeat(5000))]),
        kind("hard, absolute", &[hard_link("x", &kept)]),
        kind("hard, with dots", &[hard_link("x", "../../../outside/kept")]),
        kind(
            "hard, through a link",
            &[symlink("l", out), hard_link("x", "l/kept"), file("x", "taken")],
        ),
        kind("hard, to a link", &[symlink("l", &kept), hard_link("x", "l"), file("x", "taken")]),
        kind("hard, to a later one", &[hard_link("x", "later"), file("later", "")]),
        kind("hard, to a folder", &[folder("a"), hard_link("x", "a")]),
        kind("hard, to itself", &[file("a", "x"), hard_link("a", "a")]),
        kind("hard, to the layer below", &[hard_link("x", "payload"), file("x", "taken")]),
        kind("hard, to a device", &[device(b'3', "d", 1, 3), hard_link("x", "d")]),
        kind("users are a link", &[symlink("etc/passwd", &kept), symlink("etc/group", &kept)]),
    ]
}

fn nodes() -> Vec<Kind> {
    vec![
        kind("a pipe", &[fifo("pipe"), file("pipe2", "x"), fifo("pipe2")]),
        kind("a pipe that is written to", &[fifo("pipe"), file("pipe", "x")]),
        kind("devices", &[device(b'4', "disk", 8, 0), device(b'3', "mem", 1, 1)]),
        kind("devices of no kernel", &[device(b'3', "x", 0o777_7777, 0o777_7777)]),
        kind("a device of an overlay", &[device(b'3', "x", 0, 0), device(b'3', "payload2", 0, 0)]),
        kind("set user", &[file("su", "x").mode(0o6777)]),
        kind(
            "closed folders",
            &[folder("a").mode(0), file("a/b", "x").mode(0), folder("a/c").mode(0)],
        ),
        kind("modes of no file", &[file("a", "x").mode(0o7_777_777)]),
        kind("a multi-volume archive", &[other(b'V', "volume"), other(b'M', "rest")]),
        kind("a dump", &[other(b'D', "dump")]),
        kind("types of no archive", &[other(b'~', "a"), other(0x80, "b"), other(b' ', "c")]),
    ]
}

fn whiteouts(out: &str) -> Vec<Kind> {
    vec![
        kind("hiding nothing", &[file(".wh.", "")]),
        kind("hiding the folder", &[file("a/.wh..", ""), file(".wh..", "")]),
        kind("hiding the parent", &[file("a/.wh...", ""), file(".wh...", "")]),
        kind("hiding through a link", &[symlink("l", out), file("l/.wh.kept", "")]),
        kind("emptying through a link", &[symlink("l", out), file("l/.wh..wh..opq", "")]),
        kind("emptying the root", &[file(".wh..wh..opq", "")]),
        kind("hiding, then bringing", &[file(".wh.payload", ""), file("payload", "x")]),
        kind("bringing, then hiding", &[file("a", "x"), file(".wh.a", "")]),
        kind("in a hidden folder", &[file(".wh.x/y", "")]),
        kind("a hiding folder", &[folder(".wh.a"), folder(".wh..wh..opq")]),
        kind("a hiding link", &[symlink(".wh.a", out), symlink(".wh..wh..opq", out)]),
        kind("hidden twice", &[file(".wh..wh.a", ""), file(".wh..wh..wh.b", "")]),
    ]
}

fn records(out: &str) -> Vec<Kind> {
    let global = |text: String| Raw { content: text.into_bytes(), ..other(b'g', "g") };
    let raw = |name: &str, text: &[u8]| Raw { content: text.to_vec(), ..other(b'x', name) };
    let path = format!("path={out}/taken\n");
    let attributes = |entry: Raw| {
        entry
            .xattr("user.overlay.opaque", "y")
            .xattr("user.overlay.redirect", "/etc")
            .xattr("user.overlay.metacopy", "")
            .xattr("trusted.overlay.redirect", "/etc")
            .xattr("trusted.overlay.opaque", "y")
            .xattr("user.gondola.owner", "0:0")
            .xattr("user.gondola.device", "b 8 0")
            .xattr("security.selinux", "x")
    };
    let capability =
        b"\x01\x00\x00\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    vec![
        kind(
            "a path in a record",
            &[file("a", "x").record("path", format!("{out}/../outside/taken"))],
        ),
        kind(
            "a target in a record",
            &[hard_link("a", "b").record("linkpath", format!("{out}/kept"))],
        ),
        kind("a size in a record", &[file("a", "x").record("size", "9223372036854775807")]),
        kind("a negative size", &[file("a", "x").record("size", "-1")]),
        kind("a global path", &[global(format!("{} {path}", path.len() + 3)), file("a", "x")]),
        kind("records without an end", &[raw("x", b"99999 path=a"), file("a", "x")]),
        kind("records of no length", &[raw("x", b"0 =\n0 =\n"), file("a", "x")]),
        kind("huge ids", &[file("a", "x").owner(u64::MAX, 1 << 40)]),
        kind("the last id", &[file("a", "x").owner(u64::from(u32::MAX), 0)]),
        kind(
            "ids in a record",
            &[file("a", "x").record("uid", "-1").record("gid", "99999999999999999999")],
        ),
        kind(
            "negative times",
            &[file("a", "").record("mtime", "-99999999999"), file("b", "").mtime(u64::MAX)],
        ),
        kind(
            "times of no calendar",
            &[file("a", "").record("mtime", "9e99"), file("b", "").record("mtime", "NaN")],
        ),
        kind("attributes of the system", &[attributes(folder("a")), attributes(file("b", "x"))]),
        kind("all capabilities", &[file("a", "x").xattr("security.capability", capability)]),
        kind("a large attribute", &[file("a", "x").xattr("user.large", vec![b'x'; 200_000])]),
        kind(
            "many attributes",
            &[(0..3000).fold(file("a", "x"), |a, n| a.xattr(&format!("user.{n}"), "x"))],
        ),
        kind("an attribute of no name", &[file("a", "x").xattr("", "x").xattr("user.a=b", "x")]),
        kind(
            "access control lists",
            &[file("a", "x").xattr("system.posix_acl_access", "\x02\0\0\0")],
        ),
    ]
}

fn sizes() -> Vec<Kind> {
    let sparse = file("a", "abc")
        .record("GNU.sparse.major", "1")
        .record("GNU.sparse.minor", "0")
        .record("GNU.sparse.name", "../outside/taken")
        .record("GNU.sparse.realsize", (1_u64 << 40).to_string());
    let whole = archive(&[file("a", "content"), file("b", "content")]);
    let packed = gzip(&whole);
    let (first, second) = whole.split_at(600);
    let with =
        |name, layer: Vec<u8>, archive: &[u8]| Kind { name, layer, diff_id: Digest::of(archive) };
    vec![
        kind("8 GiB in a header", &[file("a", "abc").size(8 << 30)]),
        kind("more than any disk in a header", &[file("a", "abc").size(u64::MAX >> 1)]),
        kind("1 TiB of holes", &[sparse]),
        kind("an old sparse file", &[other(b'S', "a").size(1 << 40)]),
        kind("a folder with content", &[folder("a").size(512), file("b", "x")]),
        plain("junk behind the end", &[&whole[..], b"junk".repeat(1000).as_slice()].concat()),
        plain("no end", &whole[..whole.len() - 1024]),
        plain("cut in a header", &whole[..700]),
        plain("cut in a block", &whole[..1024 + 3]),
        plain("nothing", b""),
        plain("no archive", &b"x".repeat(5000)),
        plain(
            "a wrong sum",
            &whole
                .iter()
                .enumerate()
                .map(|(at, byte)| if at == 3 { b'!' } else { *byte })
                .collect::<Vec<_>>(),
        ),
        with("cut in the compression", packed[..packed.len() / 2].to_vec(), &whole),
        with("junk behind the compression", [&packed[..], b"junk"].concat(), &whole),
        with("two members", [gzip(first), gzip(second)].concat(), &whole),
        with(
            "a further archive behind",
            [gzip(&whole), gzip(&archive(&[file("../taken", "x")]))].concat(),
            &whole,
        ),
        with("another diff ID", packed.clone(), b"something else"),
        with("a zstd window of gibibytes", b"\x28\xb5\x2f\xfd\x00\xff\x01\x00\x00".to_vec(), b""),
        with("compressed twice", gzip(&packed), &packed),
        with("not compressed", whole.clone(), &whole),
    ]
}

/// Kinds that take long to make.
const LARGE: [fn() -> Kind; 4] = [
    || plain("a bomb in a file", &bomb()),
    || plain("a bomb behind the end", &[archive(&[file("a", "x")]), vec![0; BOMB]].concat()),
    || {
        let layer = zstd::bulk::compress(&bomb(), 1).unwrap();
        Kind { name: "a zstd bomb", layer, diff_id: Digest::of(&bomb()) }
    },
    || {
        let files: Vec<Raw> = (0..30_000).map(|number| file(format!("d/{number}"), "")).collect();
        kind("30,000 files", &files)
    },
];

fn bomb() -> Vec<u8> {
    archive(&[Raw { content: vec![0; BOMB], ..file("zeros", "") }])
}

/// The kind of a number, made for a folder outside.
fn make(number: usize, out: &str) -> Option<Kind> {
    let mut small = kinds(out);
    match number.checked_sub(small.len()) {
        None => Some(small.swap_remove(number)),
        Some(large) => LARGE.get(large).map(|make| make()),
    }
}

/// A way to read a layer: unpacked in each form, and otherwise.
const WAYS: [&str; 6] = ["ns-root", "ns", "in-container", "ADD", "inspect", "copy"];

fn hostile(session: &Session, findings: &mut Findings) -> Need<()> {
    session.base()?;
    let payload = session.payload()?;
    let count = kinds("/outside").len() + LARGE.len();
    // Two at once: every kind has folders of its own.
    let found = at_once(count, 2, |number| {
        let world = World::new(Bench::new(session).unwrap(), number, &payload);
        WAYS.map(|way| (format!("{}, {way}", world.name), world.attempt(way)))
    });
    findings.note(format!("{count} kinds"));
    let (mut longest, mut peak) = (Duration::ZERO, 0);
    for (name, (outcome, ended)) in found.into_iter().flatten() {
        peak = ended.as_ref().map_or(0, |it| it.peak_kib).max(peak);
        longest = ended.map_or(Duration::ZERO, |it| it.took).max(longest);
        findings.judge(&name, outcome);
    }
    findings.note(format!("at most {} MiB and {:.1} s", peak >> 10, longest.as_secs_f64()));
    let taken = Path::new("/tmp/gondola-taken").exists();
    let outcome = if taken { Err("a file of a layer is there".to_owned()) } else { Ok(()) };
    findings.judge("/tmp", outcome);
    Ok(())
}

/// Folders of one kind: a neighbour that it must not reach, and the layer in all its places.
struct World {
    bench: Bench,
    name: &'static str,
    outside: PathBuf,
}

impl World {
    fn new(bench: Bench, number: usize, payload: &Path) -> Self {
        let outside = bench.sandbox.path("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "as it was").unwrap();
        let kind = make(number, outside.to_str().unwrap()).unwrap();
        bench.sandbox.write("ctx/layer.tar", &kind.layer);
        bench.sandbox.write("ctx/Adding", "FROM busybox\nADD layer.tar /\n");
        let run = "FROM hostile\nRUN [\"/payload\", \"identity\"]\nCOPY layer.tar /etc/copied\n";
        bench.sandbox.write("ctx/Running", run);
        let program =
            Raw { content: fs::read(payload).unwrap(), ..file("payload", "").mode(0o755) };
        let below = archive(&[program]);
        let layers = [(gzip(&below), Digest::of(&below)), (kind.layer, kind.diff_id)];
        write_layout(&bench.sandbox.path("hostile"), &image_of_blobs(layers));
        Self { bench, name: kind.name, outside }
    }

    fn attempt(&self, way: &str) -> (Result<(), String>, Option<Ended>) {
        match start(&mut self.command(way)).end(LIMIT) {
            Err(why) => (Err(why), None),
            Ok(ended) => (self.judge(&ended), Some(ended)),
        }
    }

    fn command(&self, way: &str) -> Command {
        let hostile =
            format!("hostile=oci-layout://{}:t", self.bench.sandbox.path("hostile").display());
        let out = format!("oci:out-{way}:t");
        match way {
            "ADD" => {
                let mut command = self.bench.build("ctx", &[]);
                command.args(["-f", "ctx/Adding"]);
                command
            }
            "inspect" => self.bench.sandbox.command(&["inspect", "oci:hostile:t", "--files"]),
            "copy" => {
                let archive = "docker-archive:copied.tar:hostile:t";
                self.bench.sandbox.command(&["copy", "oci:hostile:t", archive])
            }
            isolation => self.bench.sandbox.command(&[
                "build",
                "-f",
                "ctx/Running",
                "--build-context",
                &hostile,
                "--sandbox",
                isolation,
                "-o",
                &out,
                "ctx",
            ]),
        }
    }

    fn judge(&self, ended: &Ended) -> Result<(), String> {
        if ended.code != Some(0) {
            ended.failed_in_words()?;
        }
        if ended.stderr.contains('\x1b') || ended.stdout.contains("\x1b]") {
            return Err(format!("an escape sequence reaches the terminal: {:?}", ended.said()));
        }
        if ended.peak_kib > MOST_KIB {
            return Err(format!("took {} MiB", ended.peak_kib >> 10));
        }
        untouched(&self.outside)
    }
}

fn untouched(outside: &Path) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt as _;
    let names: Vec<_> = fs::read_dir(outside).unwrap().map(|it| it.unwrap().file_name()).collect();
    let kept = outside.join("kept");
    let found = fs::symlink_metadata(&kept).map_err(|error| error.to_string())?;
    let text = fs::read_to_string(&kept).unwrap_or_default();
    let same = text == "as it was" && found.is_file() && found.nlink() == 1;
    if same && names.len() == 1 && found.mode() & 0o7777 == 0o644 && found.uid() == own_id() {
        return Ok(());
    }
    Err(format!("the folder outside was changed: {names:?}, {text:?}, {found:?}"))
}

fn own_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn write_layout(layout: &Path, image: &Image) {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    for blob in image.layers.iter().cloned().chain([image.config_blob()]) {
        let BlobLocation::Memory(bytes) = blob.source else { panic!("it was made in memory") };
        fs::write(blobs.join(blob.descriptor.digest.hex()), bytes).unwrap();
    }
    let manifest = image.manifest.descriptor();
    fs::write(blobs.join(manifest.digest.hex()), image.manifest.bytes()).unwrap();
    let named = json!({
        "mediaType": manifest.media_type, "digest": manifest.digest, "size": manifest.size,
        "annotations": {"org.opencontainers.image.ref.name": "t"},
    });
    let index = json!({"schemaVersion": 2, "manifests": [named]});
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}
