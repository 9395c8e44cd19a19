//! A base with a shell in a registry, and the program.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Response;

use super::support::{
    Busybox, HttpServer, Need, ReadImage, Registry, Run, Sandbox, Stored, go, install, program,
    root, run, succeed,
};

/// An id that no distribution gives to anybody: a user without a name and without ranges.
pub const NOBODYS_ID: &str = "54321";

/// What a test builds with.
pub struct Bench {
    pub registry: Registry,
    pub sandbox: Sandbox,
    mirror: String,
}

impl Bench {
    /// Starts a registry with the base `busybox`.
    pub fn new() -> Need<Self> {
        Self::with_base(&Busybox::default())
    }

    /// Starts a registry with a base of one's own.
    pub fn with_base(base: &Busybox) -> Need<Self> {
        let registry = Registry::plain()?;
        let mut sandbox = Sandbox::new();
        // Images carry the time; tests compare them.
        sandbox.set("SOURCE_DATE_EPOCH", "1700000000");
        base.push(&sandbox.path("base"), &registry.image("library/busybox:latest"))?;
        let mirror = format!("docker.io={}", registry.host());
        Ok(Self { registry, sandbox, mirror })
    }

    /// Writes a file of the context `ctx`.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        self.sandbox.write(&format!("ctx/{name}"), text)
    }

    /// Writes the Dockerfile of the context.
    pub fn file(&self, text: &str) -> &Self {
        self.write("Dockerfile", text);
        self
    }

    /// The arguments of a build of the context, with further ones.
    pub fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec!["build", "--mirror", &self.mirror, "-f", "ctx/Dockerfile"];
        // A check has no output.
        if !more.contains(&"--check") {
            all.extend(["-o", "oci:out:t"]);
        }
        all.extend(["-t", "example.com/app:v1"]);
        all.extend(more);
        all.push("ctx");
        all
    }

    /// Builds the context.
    pub fn run(&self, more: &[&str]) -> Run {
        self.sandbox.gondola(&self.arguments(more))
    }

    /// The command that builds the context, run by a user with one id, to whom all files of the test
    /// belong from now on.
    pub fn command_of_nobody(&self, more: &[&str]) -> Need<Command> {
        root("becoming another user")?;
        let setpriv = program("setpriv")?;
        let folder = self.sandbox.work();
        let folder = folder.parent().expect("the folder of the test");
        let copy = folder.join("gondola");
        install(env!("CARGO_BIN_EXE_gondola"), &copy);
        run("chown", &["-R", NOBODYS_ID, folder.to_str().unwrap()]);
        let mut command = Command::new(setpriv);
        command.args(["--reuid", NOBODYS_ID, "--regid", NOBODYS_ID, "--clear-groups"]);
        command.arg(copy).args(self.arguments(more));
        command.env_clear().envs(self.sandbox.environment());
        command.current_dir(self.sandbox.work()).stdin(Stdio::null());
        Ok(command)
    }

    /// The image that a build has written.
    #[track_caller]
    pub fn image(&self) -> ReadImage {
        Stored::folder(&self.sandbox.path("out")).image(Some("t"))
    }

    /// Builds the context and reads the image.
    #[track_caller]
    pub fn build(&self, more: &[&str]) -> ReadImage {
        let out = self.sandbox.path("out");
        let _ = fs_err::remove_dir_all(&out);
        self.run(more).success();
        self.image()
    }

    /// The mirror that stands for Docker Hub.
    pub fn mirror(&self) -> &str {
        &self.mirror
    }
}

/// Compiles a Go program of one file without libraries.
pub fn compile(sandbox: &Sandbox, source: &str, architecture: &str, to: &str) -> Need<()> {
    let go = go()?;
    let file = sandbox.write("src/main.go", source);
    let mut build = Command::new(go);
    build.args(["build", "-o", sandbox.path(to).to_str().unwrap()]).arg(file);
    build.env_clear().envs(sandbox.environment()).current_dir(sandbox.work());
    build.env("CGO_ENABLED", "0").env("GOARCH", architecture);
    succeed(&mut build);
    Ok(())
}

/// The text of a file of an image.
#[track_caller]
pub fn text(image: &ReadImage, path: &str) -> String {
    let files = image.files();
    let entry = files.get(path).unwrap_or_else(|| panic!("no {path} in {:?}", files.keys()));
    String::from_utf8(entry.bytes.clone()).unwrap()
}

/// Serves what `answer` gives for a path; anything else is not found.
pub fn serve(
    answer: impl Fn(&str) -> Option<Vec<u8>> + Clone + Send + Sync + 'static,
) -> HttpServer {
    HttpServer::start(None, move |request| {
        let found = answer(request.uri().path());
        async move {
            let (status, bytes) = found.map_or((404, Vec::new()), |bytes| (200, bytes));
            let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {});
            Ok(Response::builder().status(status).body(body.boxed_unsync()).unwrap())
        }
    })
}

/// The address of a path on a server.
pub fn url(server: &HttpServer, path: &str) -> String {
    format!("http://{}{path}", server.address())
}
