//! What a program gets: from the image, from the options, from the caller.

use super::support::{Registry, Run, Sandbox, Terminal, go, need, program, run};
use super::world::{User, World, as_users};
use fs_err as fs;

#[test]
fn an_image_says_program_user_folder_and_variables() {
    as_users!(|world: &World| {
        let ran = world.gondola(&["run", "--rm", "IMAGE"]).success();
        assert_eq!(ran.stdout, "1000\n/work\nhello\n");
        assert_eq!(ran.stderr, "");
        assert_eq!(world.count(), 0);
    });
}

#[test]
fn options_win_over_what_the_image_says() {
    as_users!(|world: &World| {
        fs::write(world.home().join("variables"), "# none\n\nFROM_FILE=a b\nGREETING=file\n")
            .unwrap();
        let mut command = world.gondola_command(&[
            "run", "--rm", "--env-file", "variables", "-e", "GREETING=typed", "-e", "PASSED", "-e",
            "SPARE", "-e", "EMPTY=", "-w", "/tmp/made", "-u", "0", "--hostname", "box",
            "--entrypoint", "/bin/sh", "IMAGE", "-c",
            "id -u; pwd; hostname; echo $GREETING $FROM_FILE $PASSED ${SPARE-unset} ${EMPTY-unset}. $HOME",
        ]);
        let ran = Run::of(command.env("PASSED", "on")).success();
        assert_eq!(ran.stdout, "0\n/tmp/made\nbox\ntyped a b on unset . /root\n");
    });
}

#[test]
fn the_host_name_is_the_short_id() {
    as_users!(|world: &World| {
        world.gondola(&["run", "--name", "named", "IMAGE", "sh", "-c", "echo $HOSTNAME; hostname"]);
        let id = world.ps("named")["id"].as_str().unwrap()[..12].to_owned();
        assert_eq!(world.gondola(&["logs", "named"]).success().stdout, format!("{id}\n{id}\n"));
    });
}

#[test]
fn options_behind_the_image_are_the_programs() {
    let world = need!(World::new(User::Own));
    let ran = world.gondola(&["run", "--rm", "IMAGE", "echo", "-q", "--rm", "--", "x"]).success();
    assert_eq!(ran.stdout, "-q --rm -- x\n");
}

#[test]
fn standard_input_is_passed_on_until_its_end_and_only_when_asked_for() {
    as_users!(|world: &World| {
        fs::write(world.home().join("input"), "one\ntwo").unwrap();
        let feed = |arguments: &[&str]| {
            let input = fs::File::open(world.home().join("input")).unwrap().into_parts().0;
            Run::of(world.gondola_command(arguments).stdin(input)).success().stdout
        };
        assert_eq!(feed(&["run", "--rm", "-i", "IMAGE", "cat"]), "one\ntwo");
        assert_eq!(feed(&["run", "--rm", "IMAGE", "cat"]), "");
    });
}

#[test]
fn a_program_gets_a_terminal_where_the_caller_has_none() {
    as_users!(|world: &World| {
        let script = "test -t 0 && test -t 1 && echo terminal";
        for (flags, warns) in [("-it", true), ("-t", false)] {
            let run = ["run", "--rm", flags, "IMAGE", "sh", "-c", script];
            let ran = world.gondola(&run).success();
            assert_eq!(ran.stdout, "terminal\r\n", "{flags}");
            assert_eq!(
                ran.stderr.contains("standard input is no terminal"),
                warns,
                "{}",
                ran.stderr
            );
        }
    });
}

#[test]
fn limits_memory_name_servers_and_notes_are_as_asked_for() {
    as_users!(|world: &World| {
        let options = [
            "--ulimit",
            "nofile=100:200",
            "--shm-size",
            "3m",
            "--dns",
            "192.0.2.7",
            "--dns",
            "2001:db8::7",
            "--init",
            "-u",
            "0",
        ];
        let script = "ulimit -Sn; ulimit -Hn; grep nameserver /etc/resolv.conf; \
                      grep /dev/shm /proc/mounts | grep -o size=3072k";
        let ran = world.script(&options, script).success();
        let servers = "nameserver 192.0.2.7\nnameserver 2001:db8::7\n";
        assert_eq!(ran.stdout, format!("100\n200\n{servers}size=3072k\n"));
        let run = ["run", "-d", "--name", "noted", "-l", "team=core", "--label", "plain"];
        let rest = ["--ulimit", "nofile=100", "IMAGE", "sleep", "1000"];
        world.gondola(&[&run[..], &rest].concat()).success();
        assert_eq!(world.ps("noted")["labels"], serde_json::json!({"plain": "", "team": "core"}));
        let ran = world.gondola(&["exec", "noted", "sh", "-c", "ulimit -n"]).success();
        assert_eq!(ran.stdout, "100\n");
        world.gondola(&["run", "--label", "=x", "IMAGE", "true"]).code(125).says("NAME=VALUE");
        world.gondola(&["run", "--dns", "here", "IMAGE", "true"]).code(125).says("here");
    });
}

#[test]
fn both_outputs_stay_apart_and_a_reader_that_goes_away_ends_the_program() {
    as_users!(|world: &World| {
        let ran = world.script(&[], "echo out; echo err >&2").success();
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("out\n", "err\n"));
        let mut command = world.gondola_command(&["run", "--rm", "IMAGE", "yes"]);
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut beginning = [0; 4];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut beginning).unwrap();
        drop(child.stdout.take());
        assert_eq!((&beginning, child.wait().unwrap().code()), (b"y\ny\n", Some(141)));
    });
}

#[test]
fn exit_codes_are_dockers_and_what_never_started_leaves_nothing() {
    as_users!(|world: &World| {
        world.script(&[], "exit 7").code(7);
        world.script(&[], "kill -9 $$").code(137);
        world.gondola(&["run", "IMAGE", "missing"]).code(127).says("missing: not found");
        world.gondola(&["run", "-d", "IMAGE", "/bin/text"]).code(126).says("/bin/text");
        world.gondola(&["run", "-w", "/bin/text", "IMAGE", "true"]).code(126).says("/bin/text");
        world.gondola(&["run", "-u", "ghost", "IMAGE", "true"]).code(125).says("ghost");
        world.gondola(&["run", "-d", "-u", "ghost", "IMAGE", "true"]).code(125).says("ghost");
        world.gondola(&["run", "--entrypoint", "", "IMAGE"]).code(125).says("names no program");
        world.gondola(&["run", "oci:missing"]).code(125);
        world.gondola(&["run", "--pull", "never", "missing/image"]).code(125).says("missing/image");
        world
            .gondola(&["run", "--sandbox", "toolchain", "IMAGE"])
            .code(125)
            .says("root file system");
        assert_eq!(world.count(), 0);
    });
}

#[test]
fn folders_of_the_host_appear_as_asked_for() {
    as_users!(|world: &World| {
        let script = "cat /in/file; echo back >/in/out; echo no >/ro/x; ls /scratch; echo x >/scratch/x && echo ok";
        fs::create_dir_all(world.home().join("in")).unwrap();
        fs::write(world.home().join("in/file"), "from host\n").unwrap();
        fs::set_permissions(
            world.home().join("in"),
            std::os::unix::fs::PermissionsExt::from_mode(0o777),
        )
        .unwrap();
        let mount =
            format!("type=bind,source={},target=/ro,readonly", world.home().join("in").display());
        let ran = world.script(
            &["-u", "0", "-v", "./in:/in", "--mount", &mount, "--tmpfs", "/scratch:size=1m"],
            script,
        );
        assert_eq!(ran.stdout, "from host\nok\n", "{ran:?}");
        assert!(ran.stderr.contains("Read-only"), "{ran:?}");
        assert_eq!(fs::read_to_string(world.home().join("in/out")).unwrap(), "back\n");
        world.script(&["-v", "./new:/new"], "ls -d /new").success();
        assert!(world.home().join("new").is_dir());
        world
            .script(&["--mount", "type=bind,source=/missing,target=/x"], "true")
            .code(125)
            .says("/missing");
        world.script(&["-v", "name:/x"], "true").code(125).says("./data:/data");
    });
}

#[test]
fn a_declared_folder_begins_with_what_the_image_has_there_and_stays_writable() {
    as_users!(|world: &World| {
        let script = "stat -c '%a %u' /data /data/seed; cat /data/seed; echo mine >/data/seed; \
            cat /data/seed; touch /work/x || echo refused";
        let ran = world.script(&["--read-only"], script).success();
        assert_eq!(ran.stdout, "750 1000\n640 1000\nseed\nmine\nrefused\n", "{ran:?}");
        // The next container has one of its own.
        assert_eq!(world.script(&[], "cat /data/seed").success().stdout, "seed\n");
    });
}

#[test]
fn names_of_hosts_are_added() {
    as_users!(|world: &World| {
        let options = ["--add-host", "db:10.1.2.3", "--add-host", "here:host-gateway"];
        let hosts = world.script(&options, "cat /etc/hosts").success().stdout;
        assert!(hosts.contains("10.1.2.3\tdb\n") && hosts.contains("127.0.0.1\there\n"), "{hosts}");
        world.script(&["--add-host", "db"], "true").code(125).says("NAME:IP");
    });
}

#[test]
fn the_tutorials_command_builds_runs_and_names() {
    need!(go());
    need!(program("setsid"));
    let world = need!(World::new(User::Own));
    let sandbox = Sandbox::new();
    let module = sandbox.go_module("my-go-app", "works");
    let command = |arguments: &[&str]| {
        let mut command = world.gondola_command(arguments);
        let settings = sandbox.environment().iter().filter(|(name, _)| name.starts_with("GO"));
        let settings = settings.filter(|(name, _)| *name != "GONDOLA_HOME");
        command.envs(settings).current_dir(&module);
        command
    };
    let gondola = |arguments: &[&str]| Run::of(&mut command(arguments));
    gondola(&["build", "-t", "my-go-app", "."]).success();
    let run = ["run", "-it", "--name", "my-go-app-container", "my-go-app"];
    let ran = Terminal::start(&command(&run)).finish();
    assert_eq!(ran, ("works []\r\n".to_owned(), Some(0)));
    assert_eq!(world.ps("my-go-app-container")["image"], "my-go-app");
    // In a script, too, where there is no terminal to carry.
    let ran = gondola(&["run", "-it", "--rm", "my-go-app"]).success();
    assert_eq!(ran.stdout, "works []\r\n");
    let ran = gondola(&["run", "--rm", ".", "a", "b"]).success();
    assert_eq!(ran.stdout, "works [a b]\n");
    gondola(&["run", "--rm", "./missing"]).code(125).says("missing");
}

#[test]
fn a_mirror_stands_in_for_the_registry_that_an_image_is_named_by() {
    let registry = need!(Registry::plain());
    let world = need!(World::new(User::Own));
    let name = registry.image("library/app:v1");
    world.gondola(&["copy", &world.image(), &name]).success();
    let mirror = format!("docker.io={}", registry.host());
    let run = ["run", "--rm", "--mirror", &mirror, "app:v1", "echo", "ok"];
    assert_eq!(world.gondola(&run).success().stdout, "ok\n");
    // It is called as it was named, wherever it came from.
    assert_eq!(world.gondola(&["run", "--rm", "app:v1", "echo", "ok"]).success().stdout, "ok\n");
    world.gondola(&["rmi", "app:v1"]).success();
    let pulled = world.gondola(&["pull", "--mirror", &mirror, "app:v1"]).success();
    assert!(pulled.line().starts_with("docker.io/library/app:v1@sha256:"), "{pulled:?}");
    world.gondola(&["run", "--rm", "--pull", "never", "app:v1", "true"]).success();
    let wrong = world.gondola(&["pull", "--mirror", "docker.io", "app:v1"]).code(2);
    wrong.says("--mirror");
    world.gondola(&["pull", "--mirror", "hub=m.test", "app:v1"]).code(2).says("\"hub\" is no");
}

#[test]
fn an_image_of_a_registry_is_pulled_once_and_kept() {
    let registry = need!(Registry::plain());
    let skopeo = need!(program("skopeo"));
    let world = need!(World::new(User::Own));
    let name = registry.image("test/app:v1");
    run(
        skopeo,
        &["copy", "-q", "--dest-tls-verify=false", &world.image(), &format!("docker://{name}")],
    );
    let manifests =
        || registry.log().iter().filter(|line| line.path.contains("/manifests/")).count();
    world.gondola(&["run", "--rm", "--pull", "never", &name]).code(125);
    let ran = world.gondola(&["run", "--rm", &name]).success();
    assert_eq!(ran.stdout, "1000\n/work\nhello\n");
    let once = manifests();
    assert!(once > 0);
    assert_eq!(world.gondola(&["run", "--rm", &name]).success().stderr, "");
    assert_eq!(manifests(), once);
    assert!(world.gondola(&["images"]).success().stdout.contains("test/app:v1"));
    world.gondola(&["run", "--rm", "--pull", "always", &name]).success();
    assert!(manifests() > once);
    // What a container needs is no cache.
    world.gondola(&["run", "--name", "kept", &name]).success();
    world.gondola(&["rmi", &name]).success();
    world.gondola(&["cache", "prune", "--all"]).success();
    world.gondola(&["restart", "kept"]).success();
    world.gondola(&["logs", "-f", "kept"]).success();
    let output = world.gondola(&["logs", "kept"]).success().stdout;
    assert_eq!(output, "1000\n/work\nhello\n".repeat(2));
}

#[test]
fn root_in_a_container_is_told_what_is_missing_and_runs_the_rest() {
    let world = need!(World::new(User::Contained));
    let script = |options: &[&str], script: &str| {
        world.script(&[&["--sandbox", "in-container"], options].concat(), script)
    };
    let ran = script(&[], "id -u; pwd; cat /data/seed").success();
    assert_eq!(ran.stdout, "1000\n/work\nseed\n");
    assert!(ran.stderr.contains("sandbox in-container: the program has no processes"), "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    script(&["-p", "0:8080"], "true").code(125).says("no network of its own; hint");
    script(&["--read-only"], "true").code(125).says("no mounts of its own");
    world
        .gondola(&[
            "run",
            "--sandbox",
            "in-container",
            "-d",
            "--name",
            "bg",
            "IMAGE",
            "sh",
            "-c",
            "echo up; sleep 1000",
        ])
        .success();
    world.wait_for_log("bg", "up");
    assert_eq!(world.gondola(&["exec", "bg", "cat", "/data/seed"]).success().stdout, "seed\n");
    world.gondola(&["stop", "-t", "0", "bg"]).success();
    world.gondola(&["rm", "bg"]).success();
    assert_eq!(world.count(), 0);
}

#[test]
fn where_no_sandbox_works_the_error_says_what_is_missing() {
    // Whoever may neither chroot nor make namespaces: as under docker's profile, without root.
    need!(super::support::root("taking rights away"));
    let unshare = need!(program("unshare"));
    let world = need!(World::new(User::Unprivileged));
    let gondola = world.gondola_command(&["run", "IMAGE"]);
    let words: Vec<_> = gondola.get_args().map(|word| word.to_str().unwrap().to_owned()).collect();
    let script = "echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv \"$@\"";
    // In a user namespace of its own, whose root may lower its own limit, and nothing else.
    let mut command = world.command(unshare);
    command.args(["--user", "--map-root-user", "sh", "-c", script, "sh"]);
    command.args(["--bounding-set", "-all", "--inh-caps", "-all"]).args(&words[5..]);
    let ran = Run::of(&mut command).code(125);
    let message = ran.stderr.lines().last().unwrap();
    assert!(
        message.starts_with("error: cannot isolate a process here: user namespaces"),
        "{ran:?}"
    );
    assert!(message.contains("; hint: "), "{ran:?}");
}

#[test]
fn a_program_has_the_signals_that_it_had_before() {
    as_users!(|world: &World| {
        // SIGXFSZ is the 25th.
        let ran = world.script(&[], "grep SigIgn /proc/self/status").success();
        let mask = ran.line().rsplit('\t').next().unwrap();
        assert_eq!(u64::from_str_radix(mask, 16).unwrap() & 1 << 24, 0, "{mask}");
    });
}
