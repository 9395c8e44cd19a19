//! `gondola version`.

use clap::Args;
use serde_json::json;

use crate::cli::session::print;
use crate::error::Result;
use crate::layer::FORMAT;
use crate::oci::Platform;

/// Arguments of `gondola version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// Write JSON
    #[arg(long)]
    json: bool,
}

pub(in crate::cli) fn run(args: &VersionArgs) -> Result<()> {
    let (version, host) = (env!("CARGO_PKG_VERSION"), Platform::host());
    if args.json {
        let value =
            json!({ "version": version, "platform": host.to_string(), "layerFormat": FORMAT });
        return print(&format!("{value}\n"));
    }
    print(&format!("gondola {version} ({host}, layer format {FORMAT})\n"))
}
