//! What a case works with: a root file system with the payload in it, and ways to run that.

use std::io::{PipeReader, Read as _, pipe};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use gondola::sandbox::{Child, Exit, Isolation, Launcher, Root, Spec, Streams};

use super::settings::install;

/// Folders and programs that the host's `PATH` leads to.
pub const HOST_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Longer than any case takes: a sandbox that hangs fails the case instead of the run.
const LIMIT: Duration = Duration::from_mins(1);

pub struct Context {
    pub isolation: Isolation,
    pub launcher: Launcher,
    /// This case's own folder.
    pub folder: PathBuf,
    /// The root file system: the layer, or all of it.
    pub base: PathBuf,
}

/// What a run left.
#[derive(Debug)]
pub struct Outcome {
    pub exit: Exit,
    pub output: String,
    pub error: String,
}

impl Context {
    pub fn new(isolation: Isolation, folder: &str) -> Self {
        let folder = PathBuf::from(folder);
        let base = folder.join("base");
        if !base.exists() {
            let world = folder.parent().unwrap().parent().unwrap();
            for name in ["base/etc", "layer", "upper", "work"] {
                fs::create_dir_all(folder.join(name)).unwrap();
            }
            install(world.join("payload"), base.join("payload"));
            fs::write(base.join("etc/passwd"), PASSWD).unwrap();
            fs::write(base.join("etc/group"), GROUP).unwrap();
        }
        let launcher = Launcher::new(HOST_PATH);
        Self { isolation, launcher, folder, base }
    }

    /// The root file system of the isolation.
    pub fn root(&self) -> Root {
        if matches!(self.isolation, Isolation::NsRoot | Isolation::NsSubuid | Isolation::Ns) {
            let layers = vec![self.base.clone(), self.folder.join("layer")];
            Root::overlay(layers, self.folder.join("upper"), self.folder.join("work"))
        } else {
            Root::Folder(self.base.clone())
        }
    }

    /// The payload with arguments.
    pub fn spec(&self, arguments: &[&str]) -> Spec {
        let argv = ["/payload"].iter().chain(arguments).copied();
        let mut spec = Spec::new(self.root(), argv);
        spec.timeout = Some(LIMIT);
        spec
    }

    /// Runs the payload to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_spec(&self.spec(arguments))
    }

    /// What the payload printed; it must have succeeded.
    pub fn output(&self, arguments: &[&str]) -> String {
        self.output_of(&self.spec(arguments))
    }

    pub fn output_of(&self, spec: &Spec) -> String {
        let outcome = self.run_spec(spec);
        assert!(outcome.exit.is_success(), "{outcome:?}");
        outcome.output
    }

    pub fn run_spec(&self, spec: &Spec) -> Outcome {
        let (mut child, mut output, mut error) = self.start(spec);
        let mut outcome =
            Outcome { exit: Exit::Code(0), output: String::new(), error: String::new() };
        output.read_to_string(&mut outcome.output).unwrap();
        error.read_to_string(&mut outcome.error).unwrap();
        outcome.exit = child.wait().unwrap();
        outcome
    }

    /// Starts a process whose output and complaints can be read.
    pub fn start(&self, spec: &Spec) -> (Child, PipeReader, PipeReader) {
        let (output, output_end) = pipe().unwrap();
        let (error, error_end) = pipe().unwrap();
        let null = Streams::null().unwrap();
        let streams = Streams { output: output_end.into(), error: error_end.into(), ..null };
        let child = self.launcher.spawn(spec, self.isolation, streams).unwrap();
        (child, output, error)
    }

    /// The message with which the sandbox refuses to run this.
    pub fn refusal(&self, spec: &Spec) -> String {
        self.launcher.spawn(spec, self.isolation, Streams::null().unwrap()).unwrap_err().to_string()
    }

    /// A file outside the root file system that only this test knows.
    pub fn host_file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// The files that a run left in the layer of changes, relative to it.
    pub fn changed(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.folder.join("upper"), Path::new(""), &mut found);
        found.sort();
        found
    }
}

fn collect(folder: &Path, below: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        found.push(path.to_str().unwrap().to_owned());
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &path, found);
        }
    }
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n";
const GROUP: &str = "root:x:0:\napp:x:1001:\nextra:x:1002:app\n";

/// Lines, for comparing with.
pub fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}
