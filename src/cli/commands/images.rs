//! `gondola images`.

use super::Runs;
use crate::sandbox::Isolation;
use clap::Args;
use serde_json::{Value, json};
use std::process::ExitCode;

use crate::cli::output::human;
use crate::cli::session::{Session, print, print_lines};
use crate::error::Result;
use crate::image::Artifact;
use crate::oci::{Descriptor, Reference};
use crate::store::Store;
use crate::transport::read_from_store;

/// Arguments of `gondola images`.
#[derive(Debug, Args)]
pub struct ImagesArgs {
    /// Show only names that contain this text
    filter: Option<String>,
    /// Print JSON, one array
    #[arg(long)]
    json: bool,
    /// Print whole digests
    #[arg(long, alias = "no-trunc")]
    digests: bool,
    /// Print digests only, one on a line
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

impl Runs for ImagesArgs {
    fn run(self: Box<Self>, session: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        session.wait(async { run(session, &self) })
    }
}

fn run(session: &Session, args: &ImagesArgs) -> Result<()> {
    let store = session.store()?;
    let mut names = store.names()?;
    names.sort_by(|a, b| a.0.cmp(&b.0));
    if let Some(filter) = &args.filter {
        names.retain(|(name, _)| name.to_string().contains(filter.as_str()));
        if names.is_empty() {
            session.reporter.note(format!(
                "no image of the local store has \"{}\" in its name; tags of a registry are not listed",
                filter.escape_debug()
            ));
        }
    }
    let rows: Vec<Row> =
        names.into_iter().map(|(name, descriptor)| Row::new(&store, name, descriptor)).collect();
    if args.json {
        let rows: Vec<Value> = rows.iter().map(Row::to_json).collect();
        return print(&format!("{}\n", Value::Array(rows)));
    }
    if args.quiet || session.global.quiet {
        return print_lines(rows.iter().map(|row| row.digest(args.digests)));
    }
    print(&table(&rows, args.digests))
}

struct Row {
    name: Reference,
    descriptor: Descriptor,
    /// What the image holds; `None` where the store has lost a part of it.
    contents: Option<Contents>,
}

struct Contents {
    platforms: Vec<String>,
    bytes: u64,
    created: Option<String>,
}

impl Row {
    fn new(store: &Store, name: Reference, descriptor: Descriptor) -> Self {
        let contents =
            read_from_store(store, &descriptor).ok().map(|artifact| Contents::of(&artifact));
        Self { name, descriptor, contents }
    }

    fn digest(&self, whole: bool) -> &str {
        let digest = &self.descriptor.digest;
        if whole { digest.as_str() } else { digest.short() }
    }

    fn to_json(&self) -> Value {
        let contents = self.contents.as_ref();
        json!({
            "name": self.name.to_string(),
            "digest": self.descriptor.digest,
            "mediaType": self.descriptor.media_type,
            "platforms": contents.map(|c| &c.platforms),
            "size": contents.map(|c| c.bytes),
            "created": contents.and_then(|c| c.created.as_ref()),
        })
    }
}

impl Contents {
    fn of(artifact: &Artifact) -> Self {
        let images = artifact.images();
        Self {
            platforms: images.iter().map(|image| image.platform().to_string()).collect(),
            bytes: artifact.blobs().iter().map(|blob| blob.descriptor.size).sum(),
            created: images.first().and_then(|image| image.config.value().created.clone()),
        }
    }
}

fn table(rows: &[Row], digests: bool) -> String {
    let mut cells = vec![["NAME", "DIGEST", "PLATFORMS", "SIZE"].map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        let (platforms, size) = match &row.contents {
            Some(contents) => (contents.platforms.join(","), human::bytes(contents.bytes)),
            None => ("incomplete".to_owned(), "-".to_owned()),
        };
        [row.name.familiar(), row.digest(digests).to_owned(), platforms, size]
    }));
    human::columns(&cells)
}
