//! `RUN --mount=type=ssh` as root of an ordinary container: a real agent, and the real client in the step.

use std::process::Command;

use super::pod::Pod;
use super::support::{Busybox, Need, Registry, Service, libraries, need, program, run, succeed};

const FILE: &str = "FROM busybox\nCOPY ssh /\nRUN --mount=type=ssh,required ssh-add -l >/keys\n\
    USER 1000\nRUN --mount=type=ssh,uid=1000 ssh-add -l >/tmp/keys && ! ssh-add -D\n\
    RUN --mount=type=ssh ! ssh-add -l\nRUN test -z \"$SSH_AUTH_SOCK\"\n";

/// Puts the client and its libraries into the context.
fn write_client(pod: &Pod) -> Need<()> {
    let client = program("ssh-add")?;
    for (file, name) in libraries(&client)
        .into_iter()
        .map(|file| (file.clone(), file))
        .chain([(client.clone(), "/bin/ssh-add".into())])
    {
        let content = fs_err::read(file).unwrap();
        let target = pod.write(&format!("ssh{}", name.display()), content);
        run("chmod", &["755", target.to_str().unwrap()]);
    }
    Ok(())
}

#[test]
fn a_step_in_a_container_lists_the_keys_of_an_agent_as_root_and_as_a_user() {
    let registry = need!(Registry::plain());
    let pod = need!(Pod::new(registry.host()));
    let base = pod.sandbox.path("base");
    need!(Busybox::default().push(&base, &registry.image("library/busybox:latest")));
    need!(write_client(&pod));
    pod.write("Dockerfile", FILE);
    let (key, socket) = (pod.sandbox.path("key"), pod.sandbox.path("agent.sock"));
    let keygen = need!(program("ssh-keygen"));
    run(keygen, &["-q", "-t", "ed25519", "-N", "", "-C", "mine", "-f", key.to_str().unwrap()]);
    let mut agent = Command::new(need!(program("ssh-agent")));
    agent.args(["-D", "-a"]).arg(&socket);
    let started = Service::start(agent, |said| said.contains("Agent pid").then_some(()));
    let (_agent, ()) = need!(started);
    let mut add = Command::new(need!(program("ssh-add")));
    let listed = succeed(add.arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket));
    assert_eq!(listed, "");
    let listed =
        succeed(Command::new(need!(program("ssh-add"))).arg("-l").env("SSH_AUTH_SOCK", &socket));
    assert!(listed.contains(" mine (ED25519)"), "{listed}");
    let given = format!("--env=SSH_AUTH_SOCK={}", socket.display());
    let (run, image) = pod.built(&[&given], &["--ssh", "default"]);
    run.says("sandbox in-container");
    let files = image.files();
    for path in ["keys", "tmp/keys"] {
        assert_eq!(String::from_utf8_lossy(&files[path].bytes), listed, "{path}");
    }
    assert!(!files.keys().any(|path| path.starts_with("run/")), "{:?}", files.keys());
}
