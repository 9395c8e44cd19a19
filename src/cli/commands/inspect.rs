//! `gondola inspect`.

use super::Runs;
use crate::sandbox::Isolation;
use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::args::PlatformArgs;
use crate::cli::output::human;
use crate::cli::session::{Session, print};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Artifact, Blob, Image};
use crate::layer::{self, ListedEntry, ListedKind};
use crate::oci::{Descriptor, Digest, History, PlatformSet};
use crate::registry::BlobSource;
use crate::transport::{self, Context, Location};

/// Arguments of `gondola inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Image to show: a name (in the local store, else in its registry), oci:DIR[:TAG], oci-archive:FILE or docker-archive:FILE
    image: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// List the files of each layer
    #[arg(long)]
    files: bool,
    #[command(flatten)]
    platform: PlatformArgs,
}

impl Runs for InspectArgs {
    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        session.wait(run(session, *self))
    }
}

async fn run(session: &Session, args: InspectArgs) -> Result<()> {
    let context = session.transport()?;
    let platforms = args.platform.platform.unwrap_or(PlatformSet::All);
    let mut artifact = find(&args.image, &platforms, &context).await?;
    if args.files {
        transport::fetch_blobs(&mut artifact, &context).await?;
    }
    let text = if args.json {
        format!("{}\n", as_json(&artifact, args.files)?)
    } else {
        as_text(&args.image, &artifact, args.files)?
    };
    print(&text)
}

/// A plain name is looked for in the local store before its registry is asked.
async fn find(text: &str, platforms: &PlatformSet, context: &Context) -> Result<Artifact> {
    let place: Location = text.parse()?;
    if let Location::Registry(reference) = &place
        && context.store.resolve(reference)?.is_some()
    {
        let local = Location::Store(Some(reference.clone()));
        return transport::read(&local, platforms, context).await;
    }
    transport::read(&place, platforms, context).await
}

/// A layer as it is shown: the blob, its uncompressed digest, and who made it.
struct LayerRow<'a> {
    descriptor: &'a Descriptor,
    diff_id: Option<&'a Digest>,
    history: Option<&'a History>,
}

fn layers(image: &Image) -> Vec<LayerRow<'_>> {
    let config = image.config.value();
    // History entries without a layer stand between those with one.
    let mut history = config.history.iter().filter(|entry| !entry.empty_layer);
    let mut diff_ids = config.rootfs.diff_ids.iter();
    let rows = image.layers.iter().map(|blob| LayerRow {
        descriptor: &blob.descriptor,
        diff_id: diff_ids.next(),
        history: history.next(),
    });
    rows.collect()
}

fn as_json(artifact: &Artifact, files: bool) -> Result<Value> {
    let images: Result<Vec<Value>> =
        artifact.images().into_iter().map(|image| image_json(image, files)).collect();
    Ok(json!({
        "digest": artifact.digest(),
        "mediaType": artifact.descriptor().media_type,
        "size": artifact.descriptor().size,
        "images": images?,
    }))
}

fn image_json(image: &Image, files: bool) -> Result<Value> {
    let mut rows = Vec::new();
    for (row, blob) in layers(image).iter().zip(&image.layers) {
        let mut value = json!({
            "digest": row.descriptor.digest,
            "mediaType": row.descriptor.media_type,
            "size": row.descriptor.size,
            "diffId": row.diff_id,
            "history": row.history,
        });
        if files {
            let listed = entries(blob)?;
            let listed: Vec<Value> = listed.iter().map(entry_json).collect();
            value["files"] = Value::Array(listed);
        }
        rows.push(value);
    }
    Ok(json!({
        "platform": image.platform().to_string(),
        "digest": image.manifest.digest(),
        "mediaType": image.manifest.media_type(),
        "annotations": image.manifest.value().annotations,
        "config": image.config.value(),
        "configDigest": image.config.digest(),
        "layers": rows,
    }))
}

fn entry_json(entry: &ListedEntry) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut value = json!({
        "path": text(&entry.path),
        "kind": entry.letter().to_string(),
        "mode": format!("{:04o}", entry.mode),
        "uid": entry.uid,
        "gid": entry.gid,
        "size": entry.size,
        "modified": entry.mtime,
    });
    if let ListedKind::Symlink(target) | ListedKind::HardLink(target) = &entry.kind {
        value["target"] = json!(text(target));
    }
    value
}

/// A line as `ls -l` has it, with numbers for the owner.
fn entry_text(entry: &ListedEntry) -> String {
    let bit = |at: u32, letter: char| if entry.mode >> at & 1 == 1 { letter } else { '-' };
    let mode: String = (0..9).rev().map(|at| bit(at, ['x', 'w', 'r'][at as usize % 3])).collect();
    let mut mode: Vec<char> = mode.chars().collect();
    for (at, bit, set, unset) in
        [(2, 0o4000, 's', 'S'), (5, 0o2000, 's', 'S'), (8, 0o1000, 't', 'T')]
    {
        if entry.mode & bit != 0 {
            mode[at] = if mode[at] == 'x' { set } else { unset };
        }
    }
    let mode: String = mode.into_iter().collect();
    let path = String::from_utf8_lossy(&entry.path);
    let target = match &entry.kind {
        ListedKind::Symlink(target) => format!(" -> {}", String::from_utf8_lossy(target)),
        ListedKind::HardLink(target) => format!(" = {}", String::from_utf8_lossy(target)),
        _ => String::new(),
    };
    let owner = format!("{}:{}", entry.uid, entry.gid);
    let line = format!("{}{mode} {owner:<11} {:>11} {path}{target}", entry.letter(), entry.size);
    human::line(&line).into_owned()
}

fn entries(blob: &Blob) -> Result<Vec<ListedEntry>> {
    let compression = blob.descriptor.media_type.layer_compression().ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, format!("list the files of {}", blob.descriptor.digest))
            .because(format!("{} is no layer type", blob.descriptor.media_type))
    })?;
    layer::entries(layer::decompress(compression, blob.open()?)?).collect()
}

fn as_text(name: &str, artifact: &Artifact, files: bool) -> Result<String> {
    let mut out = String::new();
    line(&mut out, 0, "name", name);
    line(&mut out, 0, "digest", artifact.digest().as_str());
    line(&mut out, 0, "type", artifact.descriptor().media_type.as_str());
    for image in artifact.images() {
        out.push('\n');
        image_text(&mut out, image, files)?;
    }
    Ok(out)
}

fn line(out: &mut String, indent: usize, label: &str, value: &str) {
    if !value.is_empty() {
        let width = 12 - indent;
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{:indent$}{label:<width$} {value}", "");
    }
}

fn image_text(out: &mut String, image: &Image, files: bool) -> Result<()> {
    let (config, container) = (image.config.value(), &image.config.value().config);
    let words = |words: &Option<Vec<String>>| {
        words.as_ref().map_or(String::new(), |w| json!(w).to_string())
    };
    line(out, 0, "platform", &image.platform().to_string());
    line(out, 2, "manifest", image.manifest.digest().as_str());
    line(out, 2, "config", image.config.digest().as_str());
    line(out, 2, "created", config.created.as_deref().unwrap_or_default());
    line(out, 2, "entrypoint", &words(&container.entrypoint));
    line(out, 2, "cmd", &words(&container.cmd));
    line(out, 2, "user", &container.user);
    line(out, 2, "workdir", &container.working_dir);
    line(out, 2, "stopsignal", &container.stop_signal);
    for variable in &container.env {
        line(out, 2, "env", variable);
    }
    for port in container.exposed_ports.keys() {
        line(out, 2, "port", port);
    }
    for volume in container.volumes.keys() {
        line(out, 2, "volume", volume);
    }
    for (key, value) in &container.labels {
        line(out, 2, "label", &format!("{key}={value}"));
    }
    for (key, value) in &image.manifest.value().annotations {
        line(out, 2, "annotation", &format!("{key}={value}"));
    }
    for (row, blob) in layers(image).iter().zip(&image.layers) {
        let made_by = row.history.and_then(|h| h.created_by.as_deref()).unwrap_or("unknown");
        let text =
            format!("{} {:>9} {made_by}", row.descriptor.digest, human::bytes(row.descriptor.size));
        line(out, 2, "layer", &text);
        if files {
            for entry in entries(blob)? {
                let _ = writeln!(out, "{:15}{}", "", entry_text(&entry));
            }
        }
    }
    Ok(())
}
