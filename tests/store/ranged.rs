//! Files of a store that its user cannot read, or that belong to a range of ids.

use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;

use gondola::store::StorePlace;
use serde_json::Value;

use super::support::{Missing, Need, Ranged, Run, Sandbox, install, need, program};
use super::*;

const NAMES: [&str; 2] = ["00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"];

/// A user with a range of ids, and a store with two caches of steps: of one the range has a folder, of the
/// other a step of the user took all rights to one away.
struct Bench {
    sandbox: Sandbox,
    ranged: Ranged,
    program: PathBuf,
}

impl Bench {
    fn new() -> Need<Self> {
        let sandbox = Sandbox::new();
        let ranged = Ranged::new(&sandbox.work())?;
        let (work, root) = (sandbox.work(), sandbox.store());
        let open = |path: &Path, mode: u32| {
            fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for folder in [work.parent().unwrap(), &work] {
            open(folder, 0o755);
        }
        let program = work.join("gondola");
        install(env!("CARGO_BIN_EXE_gondola"), &program);
        drop(Store::open(&root).unwrap());
        for (form, name) in ["mapped", "recorded"].into_iter().zip(NAMES) {
            let cache = StorePlace::CacheMounts.of(&root).join(form).join(name);
            fs_err::create_dir_all(cache.join("d")).unwrap();
            fs_err::write(cache.join("d/f"), [0; 5000]).unwrap();
            fs_err::write(cache.with_extension("about"), "a cache\n").unwrap();
            let lock = fs_err::File::create(cache.with_extension("lock")).unwrap();
            lock.file().set_modified(now() - hours(2)).unwrap();
        }
        let all = Command::new("chown")
            .args(["-R", "54321:54321"])
            .args([&root, &sandbox.home()])
            .status();
        assert!(all.unwrap().success());
        let folder =
            |form: &str, name| StorePlace::CacheMounts.of(&root).join(form).join(name).join("d");
        let of_range = folder("mapped", NAMES[0]);
        chown(of_range.join("f"), Some(700_005), Some(700_005)).unwrap();
        chown(&of_range, Some(700_005), Some(700_005)).unwrap();
        open(&of_range, 0o700);
        open(&folder("recorded", NAMES[1]), 0);
        Ok(Self { sandbox, ranged, program })
    }

    fn settle(&self, mut command: Command, words: &[&str]) -> Run {
        command.args(words).env_clear().envs(self.sandbox.environment()).current_dir("/");
        Run::of(&mut command)
    }

    fn with_range(&self, words: &[&str]) -> Run {
        self.settle(self.ranged.command(&self.program), words)
    }

    /// The same user, whose range is gone.
    fn without_range(&self, words: &[&str]) -> Run {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "54321", "--regid", "54321", "--clear-groups"]).arg(&self.program);
        self.settle(command, words)
    }

    fn cache(&self, form: &str) -> PathBuf {
        let number = usize::from(form == "recorded");
        StorePlace::CacheMounts.of(&self.sandbox.store()).join(form).join(NAMES[number])
    }
}

fn json(ran: &Run) -> Value {
    serde_json::from_str(&ran.stdout).unwrap()
}

const DU: &[&str] = &["cache", "du", "--json"];
const DRY: &[&str] = &["cache", "prune", "--all", "--dry-run", "--json"];
const REAL: &[&str] = &["cache", "prune", "--all", "--json"];

/// Both caches, and what they are.
const BOTH: u64 = 2 * (5000 + 8);

#[test]
fn the_dry_run_says_what_the_real_run_frees_of_files_that_the_user_cannot_read() {
    let bench = need!(Bench::new());
    if !bench.with_range(&["doctor"]).success().stdout.contains("ns-subuid    works") {
        return Missing::because("a range of ids cannot be entered here").skip();
    }
    let du = json(&bench.with_range(DU).success());
    assert_eq!(du["cache-mounts"]["bytes"], BOTH, "{du}");
    let mut dry = json(&bench.with_range(DRY).success());
    assert_eq!(dry["cache-mounts"]["bytes"], BOTH, "{dry}");
    assert!(bench.cache("mapped").exists() && bench.cache("recorded").exists());
    dry["dry_run"] = false.into();
    let real = bench.with_range(REAL).success();
    assert_eq!(json(&real), dry);
    assert!(!bench.cache("mapped").exists() && !bench.cache("recorded").exists());
    // What was emptied needs no range any more.
    let after = bench.without_range(REAL).success();
    assert!(!after.stderr.contains("range of ids"), "{}", after.stderr);
}

#[test]
fn a_user_whose_range_is_gone_frees_the_rest_and_is_told_the_next_move() {
    let bench = need!(Bench::new());
    let is_own = |command: &mut Command| command.status().is_ok_and(|status| status.success());
    let mut unshare = Command::new("setpriv");
    unshare.args([
        "--reuid",
        "54321",
        "--regid",
        "54321",
        "--clear-groups",
        "unshare",
        "-U",
        "true",
    ]);
    if !is_own(&mut unshare) {
        return Missing::because("a user without rights gets no user namespace here").skip();
    }
    need!(program("setpriv"));
    let stays = "or have root run gondola cache prune on this store";
    let du = bench.without_range(DU).success();
    assert!(du.stderr.contains("has no range for") && du.stderr.contains(stays), "{}", du.stderr);
    // Of the other one nothing is seen but what it is.
    assert_eq!(json(&du)["cache-mounts"]["bytes"], BOTH - 5000);
    let ran = bench.without_range(DRY).success();
    let mut dry = json(&ran);
    assert_eq!(dry["cache-mounts"]["bytes"], BOTH / 2, "{dry}");
    dry["dry_run"] = false.into();
    let real = bench.without_range(REAL).success();
    assert_eq!(json(&real), dry);
    for ran in [ran, real] {
        assert!(
            ran.stderr.contains("1 entries with files of a range of ids stay"),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains(stays), "{}", ran.stderr);
    }
    assert!(bench.cache("mapped").exists() && !bench.cache("recorded").exists());
    // What cannot do without the range says where to look.
    let build = ["build", "--sandbox", "ns-subuid", "--package", "."];
    let ran = bench.without_range(&build).code(1).says("has no range for");
    ran.says("hint: gondola doctor says what the range of ids needs here");
}

#[test]
fn a_bound_that_files_of_a_range_exceed_says_what_removes_them() {
    let mut bench = need!(Bench::new());
    bench.sandbox.set("GONDOLA_STORE_KEEP", "1");
    bench.sandbox.set("TMPDIR", bench.sandbox.home().to_str().unwrap());
    let tool = bench.sandbox.write("tool", "a program");
    let place = format!("oci:{}", bench.sandbox.home().join("out").display());
    let tool = tool.to_str().unwrap();
    let build = ["build", "--base", "scratch", "--prebuilt", tool, "-o", &place];
    // It ends when its time is up, and goes on the next time.
    let is_told = || {
        let ran = bench.without_range(&build).success();
        ran.stderr.contains("files of a range of ids, which gondola cache prune --keep 1 removes")
    };
    assert!((0..50).any(|_| is_told()), "nothing was said");
    assert!(bench.cache("mapped").exists() && !bench.cache("recorded").exists());
}
