//! What other processes reach of a running sandbox: its namespaces and its network.

use std::io::Read as _;
use std::path::PathBuf;

use gondola::error::ErrorKind;
use gondola::sandbox::{
    Child, Connector, Exit, Isolation, Join, Network, Spec, Streams, WindowSize,
};

use super::NAMESPACES;
use super::context::{Context, Outcome};
use super::endings::{read_terminal, wait_for_word};

type Row = (&'static str, &'static [Isolation], fn(&Context));

pub const CASES: &[Row] = &[
    ("a_further_program_is_among_the_others", NAMESPACES, joins),
    ("a_further_program_is_hardened_as_the_first", NAMESPACES, joins_hardened),
    ("a_further_program_has_its_own_terminal_and_end", NAMESPACES, joins_and_ends),
    ("a_sandbox_that_has_ended_is_not_joined", NAMESPACES, ended),
    ("without_namespaces_there_is_nothing_to_join", &[Isolation::InContainer], not_joined),
    ("a_port_of_a_private_network_is_reached", NAMESPACES, connects),
    (
        "a_port_of_the_hosts_network_is_reached",
        &[Isolation::Ns, Isolation::InContainer],
        connects_on_host,
    ),
];

/// Starts the payload where others can reach it, and waits for its word.
fn started(context: &Context, arguments: &[&str], network: Network) -> (Child, PathBuf) {
    let mut spec = context.spec(arguments);
    spec.network = network;
    let control = context.folder.join("x".repeat(120)).join("control");
    fs_err::create_dir_all(control.parent().unwrap()).unwrap();
    spec.control = Some(control.clone());
    (wait_until_ready(context, &spec), control)
}

fn wait_until_ready(context: &Context, spec: &Spec) -> Child {
    let (child, mut output, _) = context.start(spec);
    wait_for_word(&mut output, "ready");
    child
}

fn join(control: &std::path::Path, arguments: &[&str]) -> Join {
    let argv = ["/payload"].iter().chain(arguments).map(|word| (*word).to_owned()).collect();
    Join {
        control: control.to_owned(),
        argv,
        env: [("A".to_owned(), "b".to_owned())].into(),
        cwd: "/etc".to_owned(),
        user: String::new(),
        terminal: None,
    }
}

fn run(context: &Context, join: &Join) -> Outcome {
    let (mut output, output_end) = std::io::pipe().unwrap();
    let (mut error, error_end) = std::io::pipe().unwrap();
    let null = Streams::null().unwrap();
    let streams = Streams { output: output_end.into(), error: error_end.into(), ..null };
    let mut child = context.launcher.join(join, streams).unwrap();
    let mut outcome = Outcome { exit: Exit::Code(0), output: String::new(), error: String::new() };
    output.read_to_string(&mut outcome.output).unwrap();
    error.read_to_string(&mut outcome.error).unwrap();
    outcome.exit = child.wait().unwrap();
    outcome
}

fn output(context: &Context, control: &std::path::Path, arguments: &[&str]) -> String {
    let outcome = run(context, &join(control, arguments));
    assert!(outcome.exit.is_success(), "{outcome:?}");
    outcome.output
}

fn joins(context: &Context) {
    let (_child, control) = started(context, &["sleep"], Network::None);
    let processes = output(context, &control, &["getpid"]);
    let processes: Vec<_> = processes.split_whitespace().collect();
    assert!(processes.contains(&"1") && processes.contains(&"2"), "{processes:?}");
    assert_eq!(output(context, &control, &["pwd"]), "/etc\n");
    assert_eq!(output(context, &control, &["hostname"]), "gondola\n");
    assert_eq!(output(context, &control, &["interfaces"]), "lo\n");
    assert!(output(context, &control, &["env"]).starts_with("A=b\nHOME=/root\n"));
    output(context, &control, &["write", "/etc/shared", "text"]);
    assert_eq!(output(context, &control, &["cat", "/etc/shared"]), "text");
    let listed = output(context, &control, &["ls", "/"]);
    assert_eq!(listed, "dev\netc\npayload\nproc\nsys\n");
}

fn joins_hardened(context: &Context) {
    let (_child, control) = started(context, &["sleep"], Network::Host);
    for arguments in [&super::cases::FIELDS[..], &["calls"], &["fds"]] {
        assert_eq!(output(context, &control, arguments), context.output(arguments));
    }
    let asked = ["probe", "r:/proc/1/environ", "r:/proc/2/environ", "w:/proc/sysrq-trigger"];
    let answers = output(context, &control, &asked);
    assert!(answers.contains("r:/proc/1/environ EACCES"), "{answers}");
    let mut as_user = join(&control, &["id"]);
    as_user.user = "app".to_owned();
    assert!(run(context, &as_user).output.starts_with("1000 1001"));
}

fn joins_and_ends(context: &Context) {
    let (mut child, control) = started(context, &["sleep"], Network::Host);
    assert_eq!(run(context, &join(&control, &["exit", "7"])).exit, Exit::Code(7));
    let mut missing = join(&control, &[]);
    missing.argv = vec!["missing".to_owned()];
    assert_eq!(run(context, &missing).exit.code(), 127);
    let mut on_terminal = join(&control, &["tty"]);
    on_terminal.terminal = Some(WindowSize { rows: 33, columns: 101 });
    let mut further = context.launcher.join(&on_terminal, Streams::null().unwrap()).unwrap();
    assert_eq!(read_terminal(&further), "/dev/pts/0 33 101 true xterm\r\n");
    assert!(further.wait().unwrap().is_success());
    // It ends with the first program.
    let mut further =
        context.launcher.join(&join(&control, &["ignore"]), Streams::null().unwrap()).unwrap();
    child.kill();
    child.wait().unwrap();
    assert_eq!(further.wait().unwrap(), Exit::Signal(9));
}

fn ended(context: &Context) {
    let (mut child, control) = started(context, &["sleep"], Network::Host);
    child.kill();
    child.wait().unwrap();
    assert!(!control.exists());
    // As a killed helper leaves it.
    drop(std::os::unix::net::UnixListener::bind(context.folder.join("left")).unwrap());
    let gone = join(&context.folder.join("left"), &["true"]);
    let error = context.launcher.join(&gone, Streams::null().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().ends_with("it has ended"), "{error}");
    assert!(Connector::at(&gone.control).connect(80).is_err());
    // The next sandbox takes the place.
    let mut spec = context.spec(&["sleep"]);
    spec.control = Some(gone.control.clone());
    let _child = wait_until_ready(context, &spec);
    assert_eq!(output(context, &gone.control, &["pwd"]), "/etc\n");
}

fn not_joined(context: &Context) {
    let (_child, control) = started(context, &["sleep"], Network::Host);
    let error =
        context.launcher.join(&join(&control, &["true"]), Streams::null().unwrap()).unwrap_err();
    assert!(error.to_string().contains("it has no namespaces"), "{error}");
}

fn greeting(connector: &Connector, port: u16) -> String {
    let mut text = String::new();
    connector.connect(port).unwrap().read_to_string(&mut text).unwrap();
    text
}

fn connects(context: &Context) {
    for address in ["127.0.0.1:8080", "[::1]:8080", ":8080"] {
        let (mut child, control) = started(context, &["serve", address], Network::None);
        assert_eq!(greeting(&child.connector(), 8080), "hello\n", "{address}");
        assert_eq!(greeting(&Connector::at(control), 8080), "hello\n");
        let error = child.connector().connect(8081).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network);
        assert!(error.to_string().contains("onnection refused"), "{error}");
        let connector = child.connector();
        child.kill();
        child.wait().unwrap();
        assert_eq!(connector.connect(8080).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

fn connects_on_host(context: &Context) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (child, _) = started(context, &["sleep"], Network::Host);
    let answering = std::thread::spawn(move || {
        std::io::Write::write_all(&mut listener.accept().unwrap().0, b"hello\n").unwrap();
    });
    assert_eq!(greeting(&child.connector(), port), "hello\n");
    answering.join().unwrap();
}
