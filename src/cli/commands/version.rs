//! `gondola version`.

use super::Runs;
use crate::cli::session::Session;
use crate::sandbox::Isolation;
use clap::Args;
use serde_json::json;
use std::process::ExitCode;

use crate::cli::session::print;
use crate::error::Result;
use crate::image;
use crate::layer::FORMAT;
use crate::oci::Platform;

/// Arguments of `gondola version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Runs for VersionArgs {
    fn run(self: Box<Self>, _: &Session, _: Option<Isolation>) -> Result<ExitCode> {
        run(&self)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn run(args: &VersionArgs) -> Result<()> {
    let (version, host) = (env!("CARGO_PKG_VERSION"), Platform::host());
    if args.json {
        let value = json!({
            "version": version,
            "platform": host.to_string(),
            "layerFormat": FORMAT,
            "imageFormat": image::FORMAT,
        });
        return print(&format!("{value}\n"));
    }
    print(&format!(
        "gondola {version} ({host}, layer format {FORMAT}, image format {})\n",
        image::FORMAT
    ))
}
