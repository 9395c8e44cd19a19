//! The same as an unprivileged user with one id: this program runs itself again as such a user.

use std::process::Command;

use fs_err as fs;
use gondola::sandbox::Isolation;

use super::archive::{device, file, folder, image, symlink};
use super::forks::{STEP, base, expected, lines};
use super::support::{Need, install, need, program, root};
use super::world::{World, listing, paths, read, shell};

/// An id that no distribution gives to anybody.
const NOBODYS_ID: &str = "54321";

/// Runs one of the tests below as an unprivileged user.
fn as_user(test: &str) -> Need<()> {
    root("becoming another user")?;
    let setpriv = program("setpriv")?;
    let folder = tempfile::Builder::new().prefix("gondola-user-").tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::metadata("/tmp").unwrap().permissions()).unwrap();
    let copy = |from: &std::path::Path, name: &str| {
        let to = folder.path().join(name);
        install(from, &to);
        to
    };
    let own = copy(&std::env::current_exe().unwrap(), "tests");
    copy(std::path::Path::new(env!("CARGO_BIN_EXE_gondola")), "gondola");
    let mut command = Command::new(setpriv);
    command.args(["--reuid", NOBODYS_ID, "--regid", NOBODYS_ID, "--clear-groups"]).arg(own);
    command.args(["--exact", test, "--ignored", "--nocapture"]).env("TMPDIR", folder.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    Ok(())
}

#[test]
fn a_user_with_one_id_unpacks_every_owner_mode_and_device() {
    need!(as_user("users::unpack_as_this_user"));
}

#[test]
#[ignore = "run as another user by the test above"]
fn unpack_as_this_user() {
    let world = World::new();
    let entries = [
        folder("closed").mode(0o000).owner(0, 42),
        file("closed/secret", "hidden").mode(0).owner(0, 42),
        folder("read-only").mode(0o555),
        file("read-only/x", "x").mode(0o444),
        file("suid", "x").mode(0o4755).owner(0, 5),
        file("shadow", "top secret").mode(0),
        symlink("link", "suid").owner(7, 8),
        device(b'3', "null", 1, 3).owner(0, 6),
        file("ping", "x").xattr(
            "security.capability",
            b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        ),
    ];
    let top = [file("suid", "y"), file("read-only/.wh.x", ""), file("read-only/y", "")];
    let rootfs = world.unpack(&image(&[&entries, &top]), Isolation::Ns).unwrap();
    let view = rootfs.view().unwrap();
    assert_eq!(read(&view, "/shadow").as_deref(), Some("top secret"));
    let expected = [
        "d 0000 0:42 1000 closed",
        "f 0000 0:42 1000 closed/secret <6 bytes>",
        "l 0777 7:8 1000 link -> suid",
        "c 0666 0:6 1000 null 1 3",
        "f 0644 0:0 1000 ping <1 bytes> security.capability",
        "d 0555 0:0 1000 read-only",
        "f 0644 0:0 1000 read-only/y <0 bytes>",
        "f 0000 0:0 1000 shadow <10 bytes>",
        "f 0644 0:0 1000 suid <1 bytes>",
    ];
    assert_eq!(listing(&view), expected);
    let copy = Isolation::NsCopy;
    let rootfs = world.unpack(&image(&[&entries]), copy).unwrap();
    let fork = rootfs.fork().unwrap();
    assert_eq!(listing(&fork.view().unwrap()), listing(&rootfs.view().unwrap()));
    assert!(fork.changes(&[]).unwrap().is_empty());
    drop(fork);
    let root = world.store.root().to_owned();
    drop(rootfs);
    // All of it can be removed again.
    gondola::store::remove_tree(&root).unwrap();
    assert!(!root.exists());
}

#[test]
fn a_user_with_one_id_reads_the_changes_of_a_step() {
    need!(program("busybox"));
    need!(as_user("users::change_as_this_user"));
}

#[test]
#[ignore = "run as another user by the test above"]
fn change_as_this_user() {
    let busybox = program("busybox").unwrap();
    for isolation in [Isolation::Ns, Isolation::NsCopy] {
        let world = World::new();
        let rootfs = world.layer(&base(&busybox), isolation).unwrap();
        let fork = rootfs.fork().unwrap();
        let stubs = shell(fork.root(), isolation, STEP);
        assert_eq!(lines(&fork.changes(&stubs).unwrap()), expected(isolation), "{isolation}");
        let before = paths(&fork.view().unwrap());
        let (kept, _) = fork.keep(None).unwrap();
        assert_eq!(paths(&kept.view().unwrap()), before, "{isolation}");
        let fork = kept.fork().unwrap();
        let stubs = shell(fork.root(), isolation, "/bin/busybox true");
        assert!(fork.changes(&stubs).unwrap().is_empty(), "{isolation}");
    }
}
