//! A container for the program, and a registry and a context that it sees.

use std::path::PathBuf;

use serde_json::Value;

use super::support::{Docker, GONDOLA, Need, ReadImage, Run, Sandbox, Stored};

/// Docker's engine, an image with the program in it, and the files of a test.
pub struct Pod {
    docker: Docker,
    image: String,
    pub sandbox: Sandbox,
    mirror: String,
}

impl Pod {
    /// Starts the engine. Bases come from a registry at this address.
    pub fn new(registry: &str) -> Need<Self> {
        let (docker, mut sandbox) = (Docker::start()?, Sandbox::new());
        sandbox.set("SOURCE_DATE_EPOCH", "1700000000");
        let image = docker.image_with_gondola(&sandbox.path("image"), &[]);
        Ok(Self { docker, image, sandbox, mirror: format!("docker.io={registry}") })
    }

    /// Writes a file of the context `ctx`.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        self.sandbox.write(&format!("ctx/{name}"), text)
    }

    /// Runs the program in a container of its own, with its store where root has it.
    pub fn gondola(&self, options: &[&str], words: &[&str]) -> Run {
        let work = self.sandbox.work();
        let volume = format!("--volume={0}:{0}", work.display());
        let folder = format!("--workdir={}", work.display());
        let usual = [
            "run",
            "--rm",
            "--network=host",
            "--env=HOME=/root",
            "--env=SOURCE_DATE_EPOCH=1700000000",
            &volume,
            &folder,
        ];
        let program = [self.image.as_str(), GONDOLA];
        Run::of(&mut self.docker.command(&[&usual, options, &program, words].concat()))
    }

    /// The words of a build of the context.
    pub fn build<'a>(&'a self, output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let usual = [
            "build",
            "--progress=plain",
            "--mirror",
            &self.mirror,
            "-t",
            "example.com/app:v1",
            "-o",
        ];
        [&usual[..], &[output], more, &["-f", "ctx/Dockerfile", "ctx"]].concat()
    }

    /// Builds the context in a container and reads the image.
    #[track_caller]
    pub fn built(&self, options: &[&str], more: &[&str]) -> (Run, ReadImage) {
        let _ = fs_err::remove_dir_all(self.sandbox.path("out"));
        let run = self.gondola(options, &self.build("oci:out:t", more)).success();
        (run, Stored::folder(&self.sandbox.path("out")).image(Some("t")))
    }

    /// Builds the context on this machine.
    #[track_caller]
    pub fn built_outside(&self, more: &[&str]) -> ReadImage {
        let _ = fs_err::remove_dir_all(self.sandbox.path("outside"));
        self.sandbox.gondola(&self.build("oci:outside:t", more)).success();
        Stored::folder(&self.sandbox.path("outside")).image(Some("t"))
    }

    /// What `gondola doctor` says there of one isolation, and of all.
    pub fn doctor(&self, options: &[&str], isolation: &str) -> (Value, String) {
        let json = self.gondola(options, &["doctor", "--json"]).success().stdout;
        let findings: Vec<Value> = serde_json::from_str(&json).unwrap();
        let found = findings.iter().find(|found| found["isolation"] == isolation).unwrap();
        (found.clone(), findings.last().unwrap()["summary"].as_str().unwrap().to_owned())
    }
}

/// The layers of an image.
pub fn layers(image: &ReadImage) -> Value {
    image.manifest["layers"].clone()
}
