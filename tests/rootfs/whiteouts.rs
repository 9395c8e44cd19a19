//! Whiteouts where nobody may make character devices 0/0: the system refuses the calls, as old kernels,
//! filters of system calls and some file systems do.

use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use gondola::image::Image;
use gondola::sandbox::Isolation;
use gondola::store::Store;
use serde_json::Value;

use super::archive::{Raw, file, folder, image};
use super::forks::base;
use super::pulls::pushed;
use super::support::{Need, Registry, Run, Sandbox, need, program, root};
use super::world::{World, block_on, paths};

/// Character devices are refused.
const NO_DEVICES: &str = "inject=mknod,mknodat:error=EPERM";
/// Attributes are not kept, so that the kernel knows as little of them as old ones do.
const NO_ATTRIBUTES: &str = "inject=fsetxattr:retval=0";

/// Runs the program where some system calls come out otherwise.
fn run_with((strace, sandbox): (&Path, &Sandbox), injected: &[&str], arguments: &[&str]) -> Run {
    let plain = sandbox.command(arguments);
    let mut command = Command::new(strace);
    command.args(["-f", "-qq", "-o", "/dev/null"]);
    command.args(injected.iter().flat_map(|injected| ["-e", *injected]));
    command.arg(plain.get_program()).args(plain.get_args());
    command.env_clear().envs(sandbox.environment()).current_dir(sandbox.work());
    Run::of(&mut command)
}

/// The sandboxes that work here, told by `doctor`.
fn working(said: &Run) -> Vec<String> {
    let findings: Value = serde_json::from_str(&said.stdout).unwrap();
    let works = findings.as_array().unwrap().iter().filter(|found| found["works"] == true);
    works.map(|found| found["isolation"].as_str().unwrap().to_owned()).collect()
}

/// An image whose upper layer hides a file, a folder, and what a folder has.
fn hiding() -> Need<Image> {
    let base = base(&program("busybox")?);
    let top: &[Raw] = &[
        file("etc/conf.d/.wh.a", ""),
        file("tree/.wh.x", ""),
        folder("srv"),
        file("srv/.wh..wh..opq", ""),
        file("srv/new", "x"),
    ];
    Ok(image(&[&base, top]))
}

/// Files of a layer that are there to hide something.
fn hidden_by_attributes(layer: &Path) -> Vec<PathBuf> {
    let hides = |path: &Path| {
        let mut names = vec![0; 4096];
        let length = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap();
        String::from_utf8_lossy(&names[..length]).contains(".overlay.whiteout\0")
    };
    let candidates = ["etc/conf.d/a", "tree/x"].map(|path| layer.join(path));
    let is_file = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    candidates.into_iter().filter(is_file).filter(|path| hides(path)).collect()
}

#[test]
fn attributes_hide_where_devices_are_refused() {
    need!(root("mounting as root"));
    let (strace, registry) = (need!(program("strace")), need!(Registry::plain()));
    let world = World::new();
    let image = pushed(&world, &registry, need!(hiding()));
    let sandbox = Sandbox::new();
    let injected = [NO_DEVICES];
    let doctor = run_with((&strace, &sandbox), &injected, &["doctor", "--json"]).success();
    let isolations = working(&doctor);
    assert!(isolations.contains(&"ns-copy".to_owned()), "{isolations:?}");
    let script =
        "cd /; B=/bin/busybox; $B ls etc/conf.d tree srv; $B rm etc/conf.d/b; $B ls etc/conf.d";
    let name = registry.image("test:latest");
    for isolation in [Isolation::NsRoot, Isolation::Ns, Isolation::NsCopy, Isolation::InContainer] {
        if !isolations.contains(&isolation.to_string()) {
            continue;
        }
        let arguments = [
            "run",
            "--rm",
            "--sandbox",
            isolation.as_str(),
            &name,
            "/bin/busybox",
            "sh",
            "-ec",
            script,
        ];
        let run = run_with((&strace, &sandbox), &injected, &arguments).success();
        let expected = "etc/conf.d:\nb\n\nsrv:\nnew\n\ntree:\nz\nz2\n";
        assert_eq!(run.stdout, expected, "{isolation}");
        let mut unpacker = world.unpacker(isolation);
        unpacker.context.store = Store::open(&sandbox.store()).unwrap();
        let rootfs = block_on(unpacker.unpack(&image)).unwrap();
        assert_eq!(hidden_by_attributes(&rootfs.layers()[1]).len(), 2, "{isolation}");
        let found = paths(&rootfs.view().unwrap());
        for gone in ["etc/conf.d/a", "tree/x", "tree/x/y", "srv/data", "srv/link"] {
            assert!(!found.iter().any(|path| path == gone), "{isolation}: {gone} in {found:?}");
        }
    }
}

#[test]
fn what_the_kernel_would_not_hide_takes_a_copy() {
    need!(root("mounting as root"));
    let strace = need!(program("strace"));
    let sandbox = Sandbox::new();
    let injected = [NO_DEVICES, NO_ATTRIBUTES];
    let doctor = run_with((&strace, &sandbox), &injected, &["doctor", "--json"]).success();
    let (before, now) =
        (working(&sandbox.gondola(&["doctor", "--json"]).success()), working(&doctor));
    for isolation in [Isolation::NsRoot, Isolation::NsSubuid, Isolation::Ns] {
        assert!(!now.contains(&isolation.to_string()), "{now:?}");
    }
    let copy = Isolation::NsCopy.to_string();
    assert_eq!(now.contains(&copy), before.contains(&copy), "{now:?}");
    let summary = "layers cannot be mounted: whiteouts can be made in the store's folder as extended \
                   attributes alone, and this kernel does not understand those";
    assert!(doctor.stdout.contains(summary), "{}", doctor.stdout);
}
