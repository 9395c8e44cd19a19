//! A folder with Go sources and a builder, for tests.

#![allow(dead_code, reason = "not every test needs all of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use gondola::error::Result;
use gondola::golang::{BuildFlags, Builder, Built, Package, Toolchain};
use gondola::oci::Platform;
use gondola::progress::Reporter;
use tempfile::TempDir;

/// The environment of the tests, with nothing to be had from the network.
pub fn environment() -> BTreeMap<String, String> {
    #[expect(clippy::disallowed_methods, reason = "the tests find go as a user's shell does")]
    let mut environment: BTreeMap<String, String> = std::env::vars().collect();
    environment.insert("GOPROXY".into(), "off".into());
    environment.insert("GOTOOLCHAIN".into(), "local".into());
    environment
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

pub fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// A copy of a fixture that a test may change, and a builder with a folder of its own.
pub struct Bench {
    pub folder: TempDir,
    pub builder: Builder,
    pub platform: Platform,
}

impl Bench {
    pub fn new(name: &str) -> Self {
        let bench = Self::empty();
        copy(&fixture(name), &bench.dir());
        bench
    }

    pub fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let toolchain = Toolchain::find(&environment(), folder.path()).unwrap();
        let builder = Builder {
            toolchain,
            flags: BuildFlags::default(),
            out_dir: folder.path().join("out"),
            reporter: Reporter::silent(),
        };
        Self { folder, builder, platform: Platform::host() }
    }

    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("src")
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.dir().join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }

    pub async fn list(&self, patterns: &[&str]) -> Result<Vec<Package>> {
        self.list_in(&self.dir(), patterns).await
    }

    pub async fn list_in(&self, dir: &Path, patterns: &[&str]) -> Result<Vec<Package>> {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        self.builder.list(dir, &patterns, &self.platform).await
    }

    pub async fn build(&self, patterns: &[&str]) -> Result<Built> {
        let packages = self.list(patterns).await?;
        self.builder.compile(&packages, &self.platform).await
    }

    pub async fn build_and_run(&self, pattern: &str) -> String {
        output(&self.build(&[pattern]).await.unwrap().binaries[0].path)
    }

    pub async fn failure(&self, patterns: &[&str]) -> String {
        match self.build(patterns).await {
            Ok(built) => panic!("{patterns:?} was built: {:?}", built.binaries),
            Err(error) => error.to_string(),
        }
    }
}

pub fn output(program: &Path) -> String {
    let output = Command::new(program).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}
