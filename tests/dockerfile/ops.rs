//! Steps as data: what each instruction becomes, without a word of the machine that executes it.
//!
//! The golden file is `fixtures/ops/ops.json`; `BLESS=1` writes it anew. A change of a key in it means
//! that all caches are cold once: the version of keys goes up with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use gondola::context::GitSource;
use gondola::dockerfile::convert::{
    CachePolicy, ContextSource, FileSource, ImagePlatform, Job, LayerChoice, NamedContext, Recipe,
    SecretSource, Tools, build,
};
use gondola::engine::materials::{BaseImage, Revision};
use gondola::engine::op::{Action, Input, MountKind};
use gondola::engine::{
    Execute, Executed, Inputs, Materials, OnFailure, Op, OpError, Prepared, ReadFile, Run, Snapshot,
};
use gondola::error::Result;
use gondola::image::Image;
use gondola::layer::Encoding;
use gondola::oci::Digest;
use gondola::progress::Reporter;
use gondola::registry::{Client, Options};
use gondola::sandbox::Network;
use gondola::store::{CacheScope, Store};
use gondola::transport::{Context, Location};
use serde_json::{Value, json};

use super::support::{need, program, succeed};

/// An executor that reads and runs nothing, and notes what it was asked for.
#[derive(Default)]
struct Recorder(Arc<Mutex<Vec<Value>>>);

/// An op that was noted.
struct Noted(usize);

impl Execute for Recorder {
    fn prepare(&self, op: Arc<Op>, _: Inputs) -> BoxFuture<'_, Result<Box<dyn Prepared>, OpError>> {
        let noted = Noted(folders(&op));
        let (definition, key) = (op.definition(), op.key(&noted.digests()));
        let entry = json!({
            "decided": op.is_decided(), "definition": definition, "key": key, "op": *op,
        });
        self.0.lock().unwrap().push(entry);
        let written = serde_json::to_string(&*op).unwrap();
        assert_eq!(serde_json::from_str::<Op>(&written).unwrap(), *op, "it can be read again");
        std::future::ready(Ok(Box::new(noted) as Box<dyn Prepared>)).boxed()
    }

    fn warm_up<'a>(&'a self, _: &'a Snapshot) -> BoxFuture<'a, ()> {
        std::future::ready(()).boxed()
    }

    fn expect_programs_on(&self, _: &Snapshot) {}

    fn store_layers_of(&self, _: &Image) {}

    fn forget(&self) {}

    fn after_failure(&self) -> BoxFuture<'_, Result<()>> {
        std::future::ready(Ok(())).boxed()
    }
}

/// How many digests an op's key takes.
fn folders(op: &Op) -> usize {
    let is_folder = |from: &Input| matches!(from, Input::Local(_));
    match &op.action {
        Action::Copy(_) | Action::Take(_) => 1,
        Action::MakeFolder { .. } => 0,
        Action::Exec(exec) => {
            let binds = exec.mounts.iter().filter(
                |mount| matches!(&mount.kind, MountKind::Bind { from, .. } if is_folder(from)),
            );
            binds.count()
        }
    }
}

impl Prepared for Noted {
    fn digests(&self) -> Vec<Vec<u8>> {
        vec![b"what was read".to_vec(); self.0]
    }

    fn files(&self, _: usize) -> Option<Vec<ReadFile>> {
        Some(Vec::new())
    }

    fn execute(self: Box<Self>, _: Run) -> BoxFuture<'static, Result<Executed, OpError>> {
        std::future::ready(Ok(Executed::default())).boxed()
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ops").join(name)
}

/// Writes an image layout whose image has triggers. Nobody reads its layer.
fn write_base(folder: &Path) -> Digest {
    let blobs = folder.join("blobs/sha256");
    fs_err::create_dir_all(&blobs).unwrap();
    let put = |media_type: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs_err::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let layer = put("application/vnd.oci.image.layer.v1.tar", b"a layer");
    let config = json!({
        "os": "linux", "architecture": "amd64",
        "config": {
            "Env": ["PATH=/bin", "OF_BASE=1"], "WorkingDir": "/of/base",
            "OnBuild": ["COPY a.txt /triggered/", "RUN triggered"],
        },
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    });
    let config = put("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string();
    let named = put("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [named]});
    fs_err::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs_err::write(folder.join("index.json"), index.to_string()).unwrap();
    Digest::of(manifest.as_bytes())
}

fn job(scratch: &Path) -> Job {
    let secret = scratch.join("secret");
    let base = Location::Layout { folder: scratch.join("base"), tag: None };
    let recipe = Recipe {
        file: FileSource::InContext("Dockerfile".to_owned()),
        context: ContextSource::Folder(fixture("context")),
        contexts: BTreeMap::from([
            ("files".to_owned(), NamedContext::Files(ContextSource::Folder(fixture("other")))),
            ("base".to_owned(), NamedContext::Image(base)),
        ]),
        target: None,
        also: Vec::new(),
        arguments: BTreeMap::new(),
        secrets: BTreeMap::from([
            ("token".to_owned(), SecretSource::Value("hunter2".to_owned())),
            ("key".to_owned(), SecretSource::File(secret)),
        ]),
        agents: BTreeMap::from([("agent".to_owned(), scratch.join("agent.sock"))]),
        hosts: vec![("host".to_owned(), "10.0.0.1".parse().unwrap())],
        network: Network::Private,
        limits: vec!["nofile=100:200".parse().unwrap()],
        shared_memory_bytes: Some(1 << 20),
        go_cache: true,
        epoch: Some(1_700_000_000),
        now: 1_700_000_001,
        manifest_format: None,
        layers: LayerChoice::default(),
        on_failure: OnFailure::End(None),
    };
    Job {
        recipe,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        cache: CachePolicy::default(),
        scope: Some(CacheScope::of_this_build()),
        shares_caches: true,
        encoding: Encoding::default(),
        is_kept_here: true,
        image_platform: ImagePlatform::AsRequested,
        explain: false,
    }
}

/// What the Dockerfile of the fixture becomes.
fn ops(scratch: &Path) -> Vec<Value> {
    recorded(scratch, job(scratch)).0
}

/// What the Dockerfile of the fixture becomes, and what that was made of.
fn recorded(scratch: &Path, job: Job) -> (Vec<Value>, Materials) {
    let transport = Context {
        store: Store::open(&scratch.join("store")).unwrap(),
        client: Client::new(Options::default()).unwrap(),
        reporter: Reporter::silent(),
        host: "linux/amd64".parse().unwrap(),
        jobs: 2,
    };
    let tools = Tools { transport, variables: BTreeMap::new(), cores: 2 };
    let recorder = Recorder::default();
    let found = recorder.0.clone();
    write_base(&scratch.join("base"));
    let platforms = ["linux/amd64".parse().unwrap()];
    let built = build(&tools, Arc::new(recorder), job, &platforms);
    let built = tokio::runtime::Runtime::new().unwrap().block_on(built).unwrap();
    let mut found = std::mem::take(&mut *found.lock().unwrap());
    // Stages are executed side by side.
    found.sort_by_key(|op| op["op"].to_string());
    (found, built.materials)
}

#[test]
fn every_instruction_becomes_the_ops_of_the_golden_file() {
    let scratch = tempfile::tempdir().unwrap();
    let ops = ops(scratch.path());
    let text = serde_json::to_string_pretty(&ops).unwrap() + "\n";
    for hidden in
        [scratch.path().to_str().unwrap(), env!("CARGO_MANIFEST_DIR"), "hunter2", "agent.sock"]
    {
        assert!(!text.contains(hidden), "{hidden} is written in an op");
    }
    let golden = fixture("ops.json");
    #[expect(clippy::disallowed_methods, reason = "asks for a new golden file")]
    let is_new = std::env::var_os("BLESS").is_some();
    if is_new {
        fs_err::write(&golden, &text).unwrap();
    }
    assert_eq!(text, fs_err::read_to_string(golden).unwrap());
}

#[test]
fn an_op_that_reads_no_files_has_its_definition_for_a_key() {
    let scratch = tempfile::tempdir().unwrap();
    let ops = ops(scratch.path());
    let mut definitions = BTreeSet::new();
    for op in &ops {
        assert!(definitions.insert(op["definition"].as_str().unwrap()), "{op}");
        let reads = op["op"]["action"].as_object().unwrap().contains_key("copy")
            || !op["decided"].as_bool().unwrap();
        assert_eq!(op["definition"] != op["key"], reads, "{op}");
    }
}

#[test]
fn the_materials_name_contexts_and_caches_and_no_path_of_this_machine() {
    let scratch = tempfile::tempdir().unwrap();
    let (_, materials) = recorded(scratch.path(), job(scratch.path()));
    let contexts: Vec<&String> = materials.contexts.keys().collect();
    assert_eq!(contexts, ["local:context", "local:files"]);
    assert!(materials.contexts.values().all(|digest| digest.starts_with("blake3:")));
    assert_eq!(materials.caches.iter().collect::<Vec<_>>(), ["/cache", "seeded"]);
    let digest = write_base(&scratch.path().join("base"));
    let base = BaseImage { name: None, digest };
    assert_eq!(materials.bases, BTreeSet::from([base]));
    assert!(materials.toolchain.is_none());
    let text = serde_json::to_string(&materials).unwrap();
    for hidden in [scratch.path().to_str().unwrap(), env!("CARGO_MANIFEST_DIR"), "hunter2"] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
    assert_eq!(serde_json::from_str::<Materials>(&text).unwrap(), materials);
}

#[test]
fn the_materials_name_the_commit_of_a_repository() {
    need!(program("git"));
    let scratch = tempfile::tempdir().unwrap();
    let repository = scratch.path().join("repository");
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=n", "-c", "user.email=e@example.com"]).args(arguments);
        succeed(git.current_dir(&repository)).trim().to_owned()
    };
    fs_err::create_dir(&repository).unwrap();
    fs_err::write(repository.join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").unwrap();
    git(&["init", "-q"]);
    git(&["add", "Dockerfile"]);
    git(&["commit", "-q", "-m", "m"]);
    let mut job = job(scratch.path());
    let remote = repository.display().to_string();
    let source = GitSource::new(remote.clone());
    job.recipe.context = ContextSource::Git(source);
    let (_, materials) = recorded(scratch.path(), job);
    let revision = git(&["rev-parse", "HEAD"]);
    assert_eq!(materials.revision, Some(Revision { source: Some(remote), revision }));
}
