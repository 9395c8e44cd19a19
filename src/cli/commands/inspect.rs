//! `gondola inspect`.

use std::io::{self, BufWriter, Seek as _, Write as _};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::SpooledTempFile;

use super::Runs;
use crate::cli::args::PlatformArgs;
use crate::cli::output::human;
use crate::cli::session::{Session, print_from};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::image::{Artifact, Blob, Image};
use crate::layer::{self, ListedEntry, ListedKind};
use crate::oci::{Descriptor, Digest, History, PlatformSet};
use crate::registry::BlobSource;
use crate::sandbox::Isolation;
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
    session.reading_store()?;
    let context = session.transport()?;
    let platforms = args.platform.platform.unwrap_or(PlatformSet::All);
    let mut artifact = find(&args.image, &platforms, &context).await?;
    if args.files {
        transport::fetch_blobs(&mut artifact, &context).await?;
    }
    let mut text = Output::new();
    if args.json {
        write_json(&mut text, &artifact, args.files)?;
    } else {
        write_text(&mut text, &args.image, &artifact, args.files)?;
    }
    text.print()
}

/// What is printed once it is whole. A list of many files waits on disk.
struct Output(BufWriter<SpooledTempFile>);

/// So many bytes wait in memory.
const IN_MEMORY: usize = 1 << 20;

impl Output {
    fn new() -> Self {
        Self(BufWriter::with_capacity(64 << 10, SpooledTempFile::new(IN_MEMORY)))
    }

    fn line(&mut self, indent: usize, label: &str, value: &str) -> Result<()> {
        if value.is_empty() {
            return Ok(());
        }
        let width = 12 - indent;
        writeln!(self.0, "{:indent$}{label:<width$} {value}", "").cannot(WRITE)
    }

    fn put(&mut self, text: &str) -> Result<()> {
        self.0.write_all(text.as_bytes()).cannot(WRITE)
    }

    /// A member of a JSON object: what stands before it, its name and its value.
    fn member(&mut self, before: &str, name: &str, value: impl Serialize) -> Result<()> {
        self.put(&format!("{before}\"{name}\":"))?;
        // A value has sorted keys.
        let value = serde_json::to_value(value).map_err(io::Error::other).cannot(WRITE)?;
        serde_json::to_writer(&mut self.0, &value).map_err(io::Error::from).cannot(WRITE)
    }

    fn print(self) -> Result<()> {
        let whole = self.0.into_inner().map_err(io::IntoInnerError::into_error);
        let mut whole = whole.cannot(WRITE)?;
        whole.rewind().cannot(WRITE)?;
        print_from(&mut whole)
    }
}

/// What is said where there is no room for the list.
const WRITE: fn() -> &'static str = || "write what is inspected to a temporary file";

/// A plain name is looked for in the local store before its registry is asked; `docker://` means the registry.
async fn find(text: &str, platforms: &PlatformSet, context: &Context) -> Result<Artifact> {
    let place: Location = text.parse()?;
    if let Location::Registry(reference) = &place
        && !Location::names_registry(text)
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

/// Keys are in their order.
fn write_json(out: &mut Output, artifact: &Artifact, files: bool) -> Result<()> {
    out.member("{", "digest", artifact.digest())?;
    out.put(",\"images\":[")?;
    for (number, image) in artifact.images().into_iter().enumerate() {
        out.put(if number == 0 { "" } else { "," })?;
        write_image_json(out, image, files)?;
    }
    out.put("]")?;
    out.member(",", "mediaType", &artifact.descriptor().media_type)?;
    out.member(",", "size", artifact.descriptor().size)?;
    out.put("}\n")
}

fn write_image_json(out: &mut Output, image: &Image, files: bool) -> Result<()> {
    out.member("{", "annotations", &image.manifest.value().annotations)?;
    out.member(",", "config", image.config.value())?;
    out.member(",", "configDigest", image.config.digest())?;
    out.member(",", "digest", image.manifest.digest())?;
    out.put(",\"layers\":[")?;
    for (number, (row, blob)) in layers(image).iter().zip(&image.layers).enumerate() {
        out.put(if number == 0 { "" } else { "," })?;
        out.member("{", "diffId", row.diff_id)?;
        out.member(",", "digest", &row.descriptor.digest)?;
        if files {
            write_files_json(out, blob)?;
        }
        out.member(",", "history", row.history)?;
        out.member(",", "mediaType", &row.descriptor.media_type)?;
        out.member(",", "size", row.descriptor.size)?;
        out.put("}")?;
    }
    out.put("]")?;
    out.member(",", "mediaType", image.manifest.media_type())?;
    out.member(",", "platform", image.platform().to_string())?;
    out.put("}")
}

fn write_files_json(out: &mut Output, blob: &Blob) -> Result<()> {
    out.put(",\"files\":[")?;
    for (number, entry) in entries(blob)?.enumerate() {
        out.put(if number == 0 { "" } else { "," })?;
        let entry = entry_json(&entry?);
        serde_json::to_writer(&mut out.0, &entry).map_err(io::Error::from).cannot(WRITE)?;
    }
    out.put("]")
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

fn entries(blob: &Blob) -> Result<impl Iterator<Item = Result<ListedEntry>>> {
    let compression = blob.descriptor.media_type.layer_compression().ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, format!("list the files of {}", blob.descriptor.digest))
            .because(format!("{} is no layer type", blob.descriptor.media_type))
    })?;
    Ok(layer::entries(layer::decompress(compression, blob.open()?)?))
}

fn write_text(out: &mut Output, name: &str, artifact: &Artifact, files: bool) -> Result<()> {
    out.line(0, "name", name)?;
    out.line(0, "digest", artifact.digest().as_str())?;
    out.line(0, "type", artifact.descriptor().media_type.as_str())?;
    for image in artifact.images() {
        out.put("\n")?;
        write_image_text(out, image, files)?;
    }
    Ok(())
}

fn write_image_text(out: &mut Output, image: &Image, files: bool) -> Result<()> {
    let (config, container) = (image.config.value(), &image.config.value().config);
    let words = |words: &Option<Vec<String>>| {
        words.as_ref().map_or(String::new(), |w| json!(w).to_string())
    };
    out.line(0, "platform", &image.platform().to_string())?;
    out.line(2, "manifest", image.manifest.digest().as_str())?;
    out.line(2, "config", image.config.digest().as_str())?;
    out.line(2, "created", config.created.as_deref().unwrap_or_default())?;
    out.line(2, "entrypoint", &words(&container.entrypoint))?;
    out.line(2, "cmd", &words(&container.cmd))?;
    out.line(2, "user", &container.user)?;
    out.line(2, "workdir", &container.working_dir)?;
    out.line(2, "stopsignal", &container.stop_signal)?;
    for variable in &container.env {
        out.line(2, "env", variable)?;
    }
    for port in container.exposed_ports.keys() {
        out.line(2, "port", port)?;
    }
    for volume in container.volumes.keys() {
        out.line(2, "volume", volume)?;
    }
    for (key, value) in &container.labels {
        out.line(2, "label", &format!("{key}={value}"))?;
    }
    for (key, value) in &image.manifest.value().annotations {
        out.line(2, "annotation", &format!("{key}={value}"))?;
    }
    for (row, blob) in layers(image).iter().zip(&image.layers) {
        let made_by = row.history.and_then(|h| h.created_by.as_deref()).unwrap_or("unknown");
        let text =
            format!("{} {:>9} {made_by}", row.descriptor.digest, human::bytes(row.descriptor.size));
        out.line(2, "layer", &text)?;
        if files {
            for entry in entries(blob)? {
                writeln!(out.0, "{:15}{}", "", entry_text(&entry?)).cannot(WRITE)?;
            }
        }
    }
    Ok(())
}
