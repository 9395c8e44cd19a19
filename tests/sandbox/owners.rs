//! Owners where a user has one id: what programs are told, what is kept, and what packages make of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::time::Instant;

use fs_err as fs;
use gondola::sandbox::owner::{Kept, Owner, SideTable, capability_of_path};
use gondola::sandbox::{Exit, Isolation, Root};

use super::context::{Context, Outcome};

type Row = (&'static str, &'static [Isolation], fn(&Context));
const RECORDED: &[Isolation] = &[Isolation::Ns, Isolation::NsCopy];
/// Rungs that tell the same to programs, by recording or by truth.
const TELLING: &[Isolation] =
    &[Isolation::NsRoot, Isolation::NsSubuid, Isolation::Ns, Isolation::NsCopy];

pub const PACKAGES: &str = "packages_install_with_the_owners_of_real_root";

pub const CASES: &[Row] = &[
    ("programs_are_told_the_owners_that_they_set", TELLING, told),
    ("a_changed_user_is_believed_and_inherited", TELLING, users),
    ("files_of_a_changed_user_are_his", TELLING, made_by_user),
    ("a_user_gives_files_to_groups_of_his_and_to_no_other", TELLING, own_groups),
    ("a_folder_with_the_set_gid_bit_passes_its_group_on", TELLING, passed_on),
    ("owners_are_kept_for_the_layer", RECORDED, kept),
    ("owners_kept_by_unpacking_are_told", RECORDED, unpacked),
    ("no_owner_is_written_outside_the_root", RECORDED, contained),
    ("a_tree_changes_hands_quickly", &[Isolation::Ns], quick),
    (PACKAGES, &[Isolation::Ns, Isolation::NsRoot], packages),
];

fn told(context: &Context) {
    let expected = "file 7 8 100644\nopen 7 8\nstatx 7 8\ngroup-only 7 9\nlink 5 6\ntarget 0 0\n\
        setuid 104755\nchowned 3 4 100755\nfolder 10 11\nback 0 0\nmissing ENOENT\n";
    assert_eq!(context.output(&["owners"]), expected);
    if context.isolation == Isolation::NsSubuid {
        // The kernel makes devices for nobody in a user namespace.
        return;
    }
    assert_eq!(context.output(&["device", "/dev-node"]), "mknod ok\nc 1 3 20666\n");
}

fn users(context: &Context) {
    let expected = "first 0 0\nchanged 7 7 8 8 [9 10]\nchown EPERM\nback EPERM\nchild 7 8 [9 10]\n";
    assert_eq!(context.output(&["become"]), expected);
}

fn made_by_user(context: &Context) {
    let expected = "file 7 8\nagain 7 8\nexclusive EEXIST\nfolder 7 8\nlink 7 8\n";
    assert_eq!(context.output(&["make-as-user", "/made"]), expected);
    if context.isolation == Isolation::Ns || context.isolation == Isolation::NsCopy {
        let mut spec = context.spec(&["write", "/by-app", "text"]);
        spec.user = "app".to_owned();
        context.output_of(&spec);
        let owner = Kept::of_path(&changed_file(context, "by-app")).unwrap().owner;
        assert_eq!(owner, Some(Owner { uid: 1000, gid: 1001 }));
    }
}

fn own_groups(context: &Context) {
    let folder = context.base.join("open");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mut spec = context.spec(&["change-group", "/open/file", "1002", "8", "1001", "1002"]);
    spec.user = "app".to_owned();
    let expected = "group 1002 ok\ngroup 8 EPERM\ngroup 1001 ok\ngroup 1002 ok\nnow 1000 1002\n";
    assert_eq!(context.output_of(&spec), expected);
}

fn passed_on(context: &Context) {
    let expected = "file 0 8 100644\nfolder 0 8 42755\ninside 0 8 100600\nlink 0 8 120777\n\
        later 0 0 100644\n";
    assert_eq!(context.output(&["pass-group-on"]), expected);
    if context.isolation == Isolation::Ns || context.isolation == Isolation::NsCopy {
        let owner = |name: &str| Kept::of_path(&changed_file(context, name)).unwrap().owner;
        let of_group = |gid| Some(Owner { uid: 0, gid });
        assert_eq!(owner("passing/file"), of_group(8));
        assert_eq!(owner("passing/folder/inside"), of_group(8));
        assert_eq!(owner("passing/later"), None);
    }
}

/// The folder that holds what was written.
fn changes(context: &Context) -> std::path::PathBuf {
    if context.isolation == Isolation::Ns {
        context.folder.join("upper")
    } else {
        context.base.clone()
    }
}

fn changed_file(context: &Context, name: &str) -> std::path::PathBuf {
    changes(context).join(name)
}

fn kept(context: &Context) {
    context.output(&["owners"]);
    context.output(&["device", "/dev-node"]);
    let owner = |name: &str| Kept::of_path(&changed_file(context, name)).unwrap().owner;
    assert_eq!(owner("owned/file"), Some(Owner { uid: 3, gid: 4 }));
    assert_eq!(owner("owned"), Some(Owner { uid: 10, gid: 11 }));
    assert_eq!(owner("owned/target"), None);
    let device = Kept::of_path(&changed_file(context, "dev-node")).unwrap().device.unwrap();
    assert_eq!(device.to_string(), "c 1 3");
    let table = SideTable::of_folder(&changes(context)).unwrap();
    let lines: Vec<_> = table.iter().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let kept = Kept { owner: Some(Owner { uid: 5, gid: 6 }), ..Kept::default() };
    assert_eq!(table.get(Path::new("owned/link")), Some(&kept));
}

fn unpacked(context: &Context) {
    let file = context.base.join("etc/group");
    let owned = |uid, gid| Kept { owner: Some(Owner { uid, gid }), ..Kept::default() };
    assert!(owned(0, 42).write_to_path(&file).unwrap());
    std::os::unix::fs::symlink("group", context.base.join("etc/link")).unwrap();
    let mut table = SideTable::default();
    table.insert("etc/link".into(), owned(33, 34));
    table.write_for_folder(&context.base).unwrap();
    assert_eq!(context.output(&["mode", "/etc/group"]), "644 0 42\n");
    assert_eq!(context.output(&["mode", "/etc/link"]), "644 0 42\n");
    assert_eq!(context.output(&["lmode", "/etc/link"]), "777 33 34\n");
    assert_eq!(context.output(&["mode", "/etc/passwd"]), "644 0 0\n");
    // A copy in the layer of changes keeps the owner.
    context.output(&["append", "/etc/group", "x"]);
    assert_eq!(context.output(&["mode", "/etc/group"]), "644 0 42\n");
}

fn contained(context: &Context) {
    let victim = context.host_file("victim", "");
    let output = context.run(&["chown-outside", "victim"]);
    assert!(output.exit.is_success(), "{output:?}");
    assert!(Kept::of_path(&victim).unwrap().is_empty());
    assert!(Kept::of_path(&context.folder).unwrap().is_empty());
    assert!(SideTable::of_folder(&context.folder).unwrap().is_empty());
}

fn quick(context: &Context) {
    context.output(&["tree", "/tree", "10000"]);
    let begin = Instant::now();
    context.output(&["chown-tree", "/tree"]);
    let time = begin.elapsed();
    println!("{}: chown of 10000 files {time:?}", context.isolation);
    let limit = if cfg!(debug_assertions) { 8000 } else { 1200 };
    assert!(time.as_millis() < limit, "{time:?}");
}

const INSTALL: &str = "set -e; export DEBIAN_FRONTEND=noninteractive; apt-get update; \
    apt-get install --yes --no-install-recommends openssh-client postfix cron; \
    useradd --create-home --shell /bin/bash carol; \
    su carol -c 'test \"$(id -un)\" = carol && touch ~/made'";

/// The same packages by a user and by root, compared file by file. The user's turn is the first.
fn packages(context: &Context) {
    let shared = context.folder.parent().unwrap().parent().unwrap().join("packages");
    let base = shared.join(if context.isolation == Isolation::Ns { "recorded" } else { "real" });
    let folder = |name: &str| context.folder.join(name);
    let mut spec = context.spec(&[]);
    spec.root = Root::overlay(vec![base], folder("upper"), folder("work"));
    spec.argv = ["/bin/sh", "-c", INSTALL].map(str::to_owned).into();
    spec.timeout = Some(std::time::Duration::from_mins(5));
    for name in ["http_proxy", "https_proxy", "no_proxy"] {
        if let Ok(value) = std::env::var(name) {
            spec.env.insert(name.to_owned(), value);
        }
    }
    let Outcome { exit, output, error } = context.run_spec(&spec);
    assert_eq!(exit, Exit::Code(0), "{output}\n{error}");
    let listing = list(&folder("upper"), context.isolation == Isolation::Ns);
    assert!(listing.contains(" postfix") || listing.contains("/postfix"), "{listing}");
    if context.isolation == Isolation::Ns {
        fs::write(shared.join("listing"), listing).unwrap();
        return;
    }
    let recorded = fs::read_to_string(shared.join("listing")).unwrap();
    let lines = |text: &str| {
        let lines = text.lines().map(|line| line.rsplit_once(' ').unwrap());
        lines.map(|(facts, path)| (path.to_owned(), facts.to_owned())).collect::<BTreeMap<_, _>>()
    };
    let (recorded, real) = (lines(&recorded), lines(&listing));
    let paths = recorded.keys().chain(real.keys());
    let different: std::collections::BTreeSet<_> =
        paths.filter(|path| recorded.get(*path) != real.get(*path)).collect();
    println!("{} files installed, {} different", real.len(), different.len());
    let shown: Vec<_> =
        different.iter().map(|path| (path, recorded.get(*path), real.get(*path))).collect();
    assert!(different.is_empty(), "{shown:#?}");
}

/// Every changed file: type, permissions, owner, capabilities, path.
fn list(upper: &Path, recorded: bool) -> String {
    let table = SideTable::of_folder(upper).unwrap();
    let mut text = String::new();
    for path in paths(upper) {
        let (full, found) = (upper.join(&path), fs::symlink_metadata(upper.join(&path)).unwrap());
        let real = Owner { uid: found.uid(), gid: found.gid() };
        let owner = if recorded {
            let kept = Kept::of_path(&full).unwrap().owner;
            kept.or_else(|| table.get(&path)?.owner).unwrap_or(Owner::ROOT)
        } else {
            real
        };
        if found.file_type().is_char_device() && found.rdev() == 0 {
            writeln!(text, "removed {}", path.display()).unwrap();
            continue;
        }
        let capability = capability_of_path(&full).unwrap();
        writeln!(text, "{:o} {owner} {capability:?} {}", found.mode(), path.display()).unwrap();
    }
    text
}

fn paths(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![std::path::PathBuf::new()];
    while let Some(below) = folders.pop() {
        // Folders of others are not ours to read outside the sandbox.
        for entry in fs::read_dir(folder.join(&below)).into_iter().flatten() {
            let entry = entry.unwrap();
            let path = below.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}
