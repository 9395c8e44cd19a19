//! Caches between projects: what one project's steps leave for themselves, no other one's may find.

use std::path::Path;
use std::process::{Command, Stdio};

use fs_err as fs;

use super::Attack;
use super::support::{Need, Service, program, run as output, succeed};
use super::world::{Bench, Findings, Session, must};

pub const ATTACKS: &[Attack] = &[
    ("caches planted by another folder's steps", folders),
    ("caches planted by another archive's steps", archives),
    ("caches planted by another ref's steps", refs),
];

/// An image for which the program keeps caches: it seems to have Go and apt.
const TOOLS: &str = "FROM busybox
RUN mkdir -p /usr/local/go/bin /etc/apt/apt.conf.d /src \\
 && printf '#!/bin/sh\\n' > /usr/local/go/bin/go && chmod 755 /usr/local/go/bin/go \\
 && cp /usr/local/go/bin/go /usr/bin/apt-get && echo x > /etc/apt/apt.conf.d/docker-clean
ENV GOLANG_VERSION=1.26 GOPATH=/go PATH=/usr/local/go/bin:/usr/bin:/bin
";

/// Leaves a file in every folder that could be a cache, and says which it found kept.
fn steps(project: &str, turn: usize) -> String {
    format!(
        "FROM tools
RUN : {project} {turn}; find / -name 'planted-*' -not -path '/proc/*' 2>/dev/null | sort > /found; true
RUN apt=/nowhere; [ -z \"$APT_CONFIG\" ] \\
  || apt=$(sed -n 's/^Dir::Cache::archives \"\\(.*\\)\";/\\1/p' $APT_CONFIG); \\
  for folder in /root/.cache/go-build /go/pkg/mod /go/pkg/mod/cache/download \\
    /var/cache/apt/archives /var/lib/apt/lists /root/.config/go/telemetry $apt /run/gondola/*; do \\
    mkdir -p $folder 2>/dev/null && echo {project} > $folder/planted-{project} 2>/dev/null; \\
  done; true
"
    )
}

/// A store with the base, and what a build of a context found planted.
struct Stage {
    bench: Bench,
    tools: String,
}

impl Stage {
    fn new(session: &Session, findings: &mut Findings) -> Need<Self> {
        let bench = Bench::new(session)?;
        bench.sandbox.write("made/Dockerfile", TOOLS);
        let layout = format!("oci:{}:t", bench.sandbox.path("tools").display());
        findings.judge("the base", must(&mut bench.build("made", &["-o", &layout])).map(drop));
        let tools = format!("tools=oci-layout://{}:t", bench.sandbox.path("tools").display());
        Ok(Self { bench, tools })
    }

    fn found(&self, command: &mut Command) -> Result<Vec<String>, String> {
        self.bench.forget();
        must(command)?;
        let found = self.bench.image().files().remove("found").ok_or("the step left nothing")?;
        Ok(String::from_utf8_lossy(&found.bytes).lines().map(str::to_owned).collect())
    }

    /// Builds for the planter, for others, and for the planter again, as `build` says.
    fn judge(
        &self,
        findings: &mut Findings,
        others: usize,
        build: &dyn Fn(usize, usize) -> Command,
    ) {
        findings.judge("planting", self.found(&mut build(0, 0)).map(drop));
        for other in 1..=others {
            let outcome = self.found(&mut build(other, 0)).and_then(|found| {
                let foreign: Vec<&String> =
                    found.iter().filter(|path| path.contains("planted-planter")).collect();
                if foreign.is_empty() { Ok(()) } else { Err(format!("finds {foreign:?}")) }
            });
            findings.judge(&format!("project {other}"), outcome);
        }
        // What is kept for nobody is no cache: the attack would show nothing.
        match self.found(&mut build(0, 1)) {
            Ok(found) => findings.note(format!("{} places kept", found.len())),
            Err(why) => findings.judge("the planter again", Err(why)),
        }
    }
}

const NAMES: [&str; 4] = ["planter", "victim", "planter-too", "third"];

fn folders(session: &Session, findings: &mut Findings) -> Need<()> {
    let stage = Stage::new(session, findings)?;
    let build = |which: usize, turn: usize| {
        let name = ["planter", "victim", "planter/inner", "third"][which];
        stage.bench.sandbox.write(&format!("{name}/Dockerfile"), steps(NAMES[which], turn));
        stage.bench.build(name, &["--build-context", &stage.tools])
    };
    stage.judge(findings, 3, &build);
    Ok(())
}

fn archives(session: &Session, findings: &mut Findings) -> Need<()> {
    let tar = program("tar")?;
    let stage = Stage::new(session, findings)?;
    let sandbox = &stage.bench.sandbox;
    let build = |which: usize, turn: usize| {
        let folder = format!("archive{which}");
        sandbox.write(&format!("{folder}/Dockerfile"), steps(NAMES[which], turn));
        let file = sandbox.path(&format!("{folder}.tar"));
        let inside = sandbox.path(&folder);
        output(&tar, &["-cf", file.to_str().unwrap(), "-C", inside.to_str().unwrap(), "."]);
        let words = ["build", "-o", "oci:out:t", "--build-context", &stage.tools];
        let mut command = sandbox.command(&[&words[..], &["-"]].concat());
        command.stdin(Stdio::from(fs::File::open(file).unwrap().into_file()));
        command
    };
    stage.judge(findings, 2, &build);
    Ok(())
}

/// A branch of a stranger, as a pull request is one, and the main branch of the same repository.
fn refs(session: &Session, findings: &mut Findings) -> Need<()> {
    let git = program("git")?;
    let stage = Stage::new(session, findings)?;
    let sandbox = &stage.bench.sandbox;
    let repository = sandbox.path("served/repository");
    fs::create_dir_all(&repository).unwrap();
    let do_git = |words: &[&str]| {
        let mut command = Command::new(&git);
        command.arg("-C").arg(&repository).args(["-c", "user.name=n", "-c", "user.email=e@e"]);
        succeed(command.args(words).env_clear().envs(sandbox.environment()))
    };
    do_git(&["init", "--quiet"]);
    let (_daemon, address) = serve(&git, &sandbox.path("served"))?;
    let build = |which: usize, turn: usize| {
        let branch = ["planter", "main", "release", "other"][which];
        do_git(&["checkout", "--quiet", "-B", branch]);
        sandbox.write("served/repository/Dockerfile", steps(NAMES[which], turn));
        do_git(&["add", "Dockerfile"]);
        do_git(&["commit", "--quiet", "--allow-empty", "-m", "x"]);
        let context = format!("git://{address}/repository#{branch}");
        let words = ["build", "-o", "oci:out:t", "--build-context", &stage.tools];
        sandbox.command(&[&words[..], &[&context]].concat())
    };
    stage.judge(findings, 2, &build);
    Ok(())
}

/// Serves the repositories of a folder on a free port of loopback.
fn serve(git: &Path, folder: &Path) -> Need<(Service, String)> {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let mut command = Command::new(git);
    command.args(["daemon", "--verbose", "--export-all", "--reuseaddr", "--listen=127.0.0.1"]);
    command.arg(format!("--port={port}")).arg(format!("--base-path={}", folder.display()));
    let ready = |text: &str| text.contains("Ready to rumble").then_some(());
    command.env("HOME", folder);
    let (service, ()) = Service::start(command, ready)?;
    Ok((service, format!("127.0.0.1:{port}")))
}
