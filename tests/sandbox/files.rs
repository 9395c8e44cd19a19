//! What a process sees of files, and what it leaves.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use fs_err as fs;
use gondola::sandbox::{Access, Isolation, Mount, Root, Secret, Spec};

use super::context::{Context, lines};
use super::{LAYERED, NAMESPACES, ROOTED};

type Row = (&'static str, &'static [Isolation], fn(&Context));

pub const CASES: &[Row] = &[
    ("no_file_of_the_host_is_seen", NAMESPACES, no_host_files),
    ("no_path_of_the_host_is_in_the_mount_table", LAYERED, mount_table),
    ("changes_land_in_the_upper_layer_and_nothing_else_does", LAYERED, changes),
    ("later_layers_hide_earlier_ones", LAYERED, layers),
    ("a_single_layer_without_changes_is_read_only", LAYERED, single_layer),
    ("a_secret_is_in_memory_and_in_no_layer", NAMESPACES, secrets),
    ("mounts_are_as_writable_as_asked", NAMESPACES, mounts),
    ("a_subpath_never_leaves_its_source", NAMESPACES, subpath),
    ("a_read_only_root_takes_no_writes", NAMESPACES, read_only_root),
    ("links_left_by_a_step_lead_nowhere_outside", NAMESPACES, hostile_links),
    ("a_link_in_place_of_proc_dev_or_sys_is_refused", NAMESPACES, hostile_system_links),
    ("a_mount_over_proc_or_sys_is_refused", NAMESPACES, mount_over_proc),
    ("a_working_directory_is_made_and_followed_inside", ROOTED, working_directory),
    (
        "folders_of_others_are_not_mounted_where_nothing_can_be",
        &[Isolation::InContainer],
        no_mounts,
    ),
    (
        "what_cannot_be_mounted_is_there_for_the_program_and_gone_after_it",
        &[Isolation::InContainer],
        staged,
    ),
    (
        "devices_are_everybodys_where_nothing_can_be_mounted",
        &[Isolation::InContainer],
        staged_devices,
    ),
    ("proc_is_answered_for_where_it_cannot_be_mounted", &[Isolation::InContainer], answered),
];

fn bind(source: &Path, target: &str, access: Access) -> Mount {
    let (source, target) = (source.to_owned(), target.to_owned());
    Mount::Bind { source, subpath: None, target, access }
}

fn no_host_files(context: &Context) {
    let root = context.output(&["ls", "/"]);
    assert_eq!(lines(&root), ["dev", "etc", "payload", "proc", "sys"]);
    let etc = context.output(&["ls", "/etc"]);
    assert_eq!(lines(&etc), ["group", "hostname", "hosts", "passwd", "resolv.conf"]);
    let secret = context.host_file("host-secret", "x");
    let asked = format!("r:{}", secret.display());
    assert_eq!(context.output(&["probe", &asked]), format!("{asked} ENOENT\n"));
}

fn mount_table(context: &Context) {
    let mounts = context.output(&["cat", "/proc/self/mountinfo"]);
    let name = context.folder.parent().unwrap().file_name().unwrap().to_str().unwrap();
    assert!(mounts.contains(" - overlay "), "{mounts}");
    assert!(!mounts.contains(name), "{mounts}");
}

fn changes(context: &Context) {
    let spec = context.spec(&["write", "/etc/new", "text"]);
    let (mut child, _output, _error) = context.start(&spec);
    let stubs: Vec<_> =
        child.stubs().iter().map(|stub| stub.path.to_str().unwrap().to_owned()).collect();
    assert!(child.wait().unwrap().is_success());
    let made = ["dev", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "sys"];
    let mut sorted = stubs.clone();
    sorted.sort();
    assert_eq!(sorted, made);
    let mut expected: Vec<_> = stubs;
    expected.extend(["etc".to_owned(), "etc/new".to_owned()]);
    expected.sort();
    assert_eq!(context.changed(), expected);
    // The next step finds the places and makes nothing.
    let (mut child, _output, _error) = context.start(&context.spec(&["true"]));
    assert!(child.stubs().is_empty());
    assert!(child.wait().unwrap().is_success());
}

fn layers(context: &Context) {
    fs::write(context.base.join("file"), "old").unwrap();
    fs::write(context.folder.join("layer/file"), "new").unwrap();
    assert_eq!(context.output(&["cat", "/file"]), "new");
    // Many layers, under long names with what overlay options are made of.
    let folder = context.folder.join(format!("a:b,c\\{}", "x".repeat(200)));
    let mut layers = vec![context.base.clone()];
    for number in 0..60 {
        let layer = folder.join(number.to_string());
        fs::create_dir_all(&layer).unwrap();
        fs::write(layer.join(format!("file-{number}")), "").unwrap();
        layers.push(layer);
    }
    let mut spec = context.spec(&["ls", "/"]);
    spec.root = Root::overlay(layers, context.folder.join("upper"), context.folder.join("work"));
    let output = context.output_of(&spec);
    assert_eq!(output.lines().filter(|line| line.starts_with("file-")).count(), 60);
}

fn single_layer(context: &Context) {
    for name in ["dev", "proc", "sys"] {
        fs::create_dir(context.base.join(name)).unwrap();
    }
    for name in ["hosts", "hostname", "resolv.conf"] {
        fs::write(context.base.join("etc").join(name), "").unwrap();
    }
    let mut spec = context.spec(&["probe", "w:/new", "r:/etc/passwd"]);
    spec.root = Root::Overlay { layers: vec![context.base.clone()], changes: None };
    assert_eq!(context.output_of(&spec), "w:/new EROFS\nr:/etc/passwd ok\n");
}

pub fn secret(target: &str) -> Mount {
    let (target, content) = (target.to_owned(), Secret::new(*b"hunter2"));
    Mount::Secret { target, content, mode: 0o400, uid: 0, gid: 0 }
}

/// The magic number of tmpfs, as the payload prints it.
const TMPFS: &str = "1021994\n";

fn secrets(context: &Context) {
    let with = |arguments: &[&str]| -> Spec {
        let mut spec = context.spec(arguments);
        spec.mounts.push(secret("/run/secrets/token"));
        spec
    };
    assert_eq!(context.output_of(&with(&["cat", "/run/secrets/token"])), "hunter2");
    assert_eq!(context.output_of(&with(&["mode", "/run/secrets/token"])), "400 0 0\n");
    assert_eq!(context.output_of(&with(&["statfs", "/run/secrets/token"])), TMPFS);
    let (mut child, _output, _error) = context.start(&with(&["sleep"]));
    let line = fs::read(format!("/proc/{}/cmdline", child.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&line).contains("hunter2"));
    child.kill();
    child.wait().unwrap();
    // What is left on disk is an empty place to mount on.
    let place = match context.isolation {
        Isolation::NsCopy => context.base.join("run/secrets/token"),
        _ => context.folder.join("upper/run/secrets/token"),
    };
    assert_eq!(fs::read(place).unwrap(), b"");
    assert_eq!(format!("{:?}", secret("/x")).matches("hunter2").count(), 0);
}

fn mounts(context: &Context) {
    let source = context.folder.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "old").unwrap();
    let mut spec =
        context.spec(&["probe", "w:/ro/new", "r:/ro/file", "w:/rw/new", "w:/tmp/new", "w:/one"]);
    let file = context.host_file("one", "1");
    spec.mounts = vec![
        bind(&source, "/ro", Access::ReadOnly),
        bind(&source, "/rw", Access::ReadWrite),
        bind(&file, "/one", Access::ReadOnly),
        Mount::Tmpfs { target: "/tmp".to_owned(), size_bytes: Some(1 << 20), mode: 0o1777 },
    ];
    let expected = "w:/ro/new EROFS\nr:/ro/file ok\nw:/rw/new ok\nw:/tmp/new ok\nw:/one EROFS\n";
    assert_eq!(context.output_of(&spec), expected);
    assert!(source.join("new").exists());
    assert_eq!(fs::read_to_string(&file).unwrap(), "1");
    // A target below another one's, in whichever order they are named.
    let mut spec = context.spec(&["cat", "/deep/er/file"]);
    spec.mounts = vec![
        bind(&source, "/deep/er", Access::ReadOnly),
        Mount::Tmpfs { target: "/deep".to_owned(), size_bytes: None, mode: 0o755 },
    ];
    assert_eq!(context.output_of(&spec), "old");
}

fn subpath(context: &Context) {
    let source = context.folder.join("cache");
    fs::create_dir_all(source.join("inner")).unwrap();
    fs::write(source.join("mark"), "").unwrap();
    symlink("/", source.join("link")).unwrap();
    for subpath in ["../..", "/", "inner/../../..", "link", "link/../.."] {
        let mut spec = context.spec(&["ls", "/mnt"]);
        spec.mounts.push(Mount::Bind {
            source: source.clone(),
            subpath: Some(subpath.into()),
            target: "/mnt".to_owned(),
            access: Access::ReadOnly,
        });
        assert_eq!(lines(&context.output_of(&spec)), ["inner", "link", "mark"], "{subpath}");
    }
}

fn read_only_root(context: &Context) {
    let mut spec = context.spec(&["probe", "w:/new", "w:/tmp/new", "w:/dev/null"]);
    spec.root_access = Access::ReadOnly;
    let target = "/tmp".to_owned();
    spec.mounts.push(Mount::Tmpfs { target, size_bytes: None, mode: 0o1777 });
    assert_eq!(context.output_of(&spec), "w:/new EROFS\nw:/tmp/new ok\nw:/dev/null ok\n");
}

fn hostile_links(context: &Context) {
    let outside = context.folder.join("outside");
    fs::create_dir(&outside).unwrap();
    let victim = context.host_file("outside/victim", "precious");
    symlink(&victim, context.base.join("etc/resolv.conf")).unwrap();
    symlink(format!("../../../../../..{}", victim.display()), context.base.join("etc/hosts"))
        .unwrap();
    symlink(&outside, context.base.join("run")).unwrap();
    symlink("/proc/self/root/../../..", context.base.join("magic")).unwrap();
    let mut spec = context.spec(&["cat", "/run/secrets/token"]);
    spec.mounts.push(secret("/run/secrets/token"));
    assert_eq!(context.output_of(&spec), "hunter2");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    let mut spec = context.spec(&["true"]);
    spec.mounts.push(secret("/magic/token"));
    // The way through /proc may be refused; it never leads outside.
    if let Ok(mut child) =
        context.launcher.spawn(&spec, context.isolation, gondola::sandbox::Streams::null().unwrap())
    {
        child.wait().unwrap();
    }
    assert!(!std::path::Path::new("/token").exists());
}

fn hostile_system_links(context: &Context) {
    for name in ["proc", "dev", "sys"] {
        let link = context.base.join(name);
        // An earlier turn made a plain folder of it, in the layer of changes.
        for made in [link.clone(), context.folder.join("upper").join(name)] {
            let _ = fs::remove_dir_all(made);
        }
        symlink("/etc", &link).unwrap();
        let message = context.refusal(&context.spec(&["true"]));
        assert!(
            message.contains(&format!("cannot mount /{name}: it is a symbolic link to /etc")),
            "{message}"
        );
        fs::remove_file(&link).unwrap();
    }
}

fn mount_over_proc(context: &Context) {
    symlink("/proc/self", context.base.join("sly")).unwrap();
    for target in ["/proc/self/attr", "/sys", "/sly/fd", "/", "relative"] {
        let mut spec = context.spec(&["true"]);
        let target = target.to_owned();
        spec.mounts.push(Mount::Tmpfs { target: target.clone(), size_bytes: None, mode: 0o755 });
        let message = context.refusal(&spec);
        assert!(message.contains("cannot mount"), "{target}: {message}");
    }
}

fn working_directory(context: &Context) {
    symlink("/really/here", context.base.join("link")).unwrap();
    fs::create_dir_all(context.base.join("really/here")).unwrap();
    for (cwd, seen) in [("/a/b", "/a/b\n"), ("/link", "/really/here\n"), ("/", "/\n")] {
        let mut spec = context.spec(&["pwd"]);
        spec.cwd = cwd.to_owned();
        assert_eq!(context.output_of(&spec), seen);
    }
    let mut spec = context.spec(&["pwd"]);
    spec.cwd = "/etc/passwd".to_owned();
    assert_eq!(context.run_spec(&spec).exit.code(), 126);
}

/// Every entry below a folder: its path, mode and number, and when its content changed.
pub fn listing(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(path) = pending.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(folder).unwrap().display();
        let time = (found.mtime(), found.mtime_nsec());
        lines.push(format!("{name} {:o} {time:?} {}", found.mode(), found.ino()));
        if found.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    lines.sort();
    lines
}

/// A job with everything that others mount: a secret, a cache, files that are shown, and memory.
fn staged_spec(context: &Context, arguments: &[&str]) -> Spec {
    let mut spec = context.spec(arguments);
    spec.mounts.push(secret("/run/secrets/token"));
    spec.mounts.push(Mount::Own {
        source: context.folder.join("cache"),
        target: "/root/.cache".to_owned(),
        access: Access::ReadWrite,
    });
    spec.mounts.push(bind(&context.folder.join("shown"), "/data", Access::ReadOnly));
    spec.mounts.push(Mount::Tmpfs { target: "/t".to_owned(), size_bytes: None, mode: 0o1777 });
    // In what is itself put there, and in a folder that the image has, too.
    spec.mounts.push(bind(&context.folder.join("shown"), "/dev/pipes/one", Access::ReadOnly));
    spec
}

/// An image that was made elsewhere has files where others mount.
fn staged(context: &Context) {
    for folder in ["base/dev/pipes", "base/data/sub", "cache/kept", "shown"] {
        fs::create_dir_all(context.folder.join(folder)).unwrap();
    }
    fs::write(context.base.join("dev/null"), "no device").unwrap();
    fs::write(context.base.join("etc/resolv.conf"), "the image's own").unwrap();
    fs::write(context.base.join("data/hidden"), "x").unwrap();
    fs::write(context.folder.join("shown/file"), "shown").unwrap();
    let now = || (listing(&context.base), listing(&context.folder.join("shown")));
    let before = now();
    let run = |arguments: &[&str]| context.output_of(&staged_spec(context, arguments));
    assert_eq!(run(&["cat", "/run/secrets/token"]), "hunter2");
    assert_eq!(run(&["mode", "/run/secrets/token"]), "400 0 0\n");
    assert_eq!(run(&["ls", "/data"]), "file\n");
    assert_eq!(run(&["ls", "/root/.cache"]), "kept\n");
    for path in ["/root/.cache/new", "/t/gone", "/data/gone", "/dev/shm/gone"] {
        run(&["write", path, "text"]);
    }
    assert!(!run(&["cat", "/etc/resolv.conf"]).contains("the image's own"));
    assert!(run(&["cat", "/etc/hosts"]).contains("localhost"));
    // All of it is gone, and all else as it was; the cache has what was written to it.
    assert_eq!(now(), before);
    assert_eq!(fs::read_to_string(context.folder.join("cache/new")).unwrap(), "text");
    assert!(context.folder.join("cache/kept").is_dir());
    // What a step writes stays, beside all that.
    run(&["write", "/etc/new", "text"]);
    assert_eq!(fs::read_to_string(context.base.join("etc/new")).unwrap(), "text");
    let left = fs::read_dir(&context.folder).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().contains("aside")));
}

/// Also for a user who is not the one that made them, whatever the caller's umask.
fn staged_devices(context: &Context) {
    for user in ["", "app"] {
        let asked = ["probe", "w:/dev/null", "r:/dev/zero", "w:/dev/shm/x", "r:/dev/fd/0"];
        let mut spec = context.spec(&asked);
        spec.user = user.to_owned();
        let said = context.output_of(&spec);
        assert_eq!(said, "w:/dev/null ok\nr:/dev/zero ok\nw:/dev/shm/x ok\nr:/dev/fd/0 empty\n");
    }
}

/// `/proc` and `/sys` are those of the container, for every user.
fn answered(context: &Context) {
    for user in ["", "app"] {
        let run = |arguments: &[&str]| {
            let mut spec = context.spec(arguments);
            spec.user = user.to_owned();
            context.output_of(&spec)
        };
        let asked = ["l:/proc/self/exe", "r:/proc/self/status", "r:/proc/cpuinfo", "l:/proc/none"];
        let said = run(&[&["probe"][..], &asked].concat());
        let expected = "l:/proc/self/exe ok\nr:/proc/self/status ok\nr:/proc/cpuinfo ok\n\
            l:/proc/none ENOENT\n";
        assert_eq!(said, expected, "{user}");
        // Its own, though another process opens it.
        assert_eq!(run(&["cat", "/proc/self/comm"]), "payload\n", "{user}");
    }
}

fn no_mounts(context: &Context) {
    let mut spec = context.spec(&["true"]);
    let shared = context.folder.join("shared");
    fs::create_dir(&shared).unwrap();
    spec.mounts.push(bind(&shared, "/shared", Access::ReadWrite));
    assert!(context.refusal(&spec).contains("nothing can be mounted here"));
    assert!(shared.is_dir());
    assert!(!context.base.join("shared").exists());
}
