//! Kaniko's flags about what becomes of the files that steps leave.

use super::{KanikoArgs, usage};
use crate::dockerfile::convert::LayerChoice;
use crate::error::Result;
use crate::layer::TreePath;

/// What kaniko never takes into an image unless it is told to.
const VAR_RUN: &str = "/var/run";
/// How kaniko may find changes.
const SNAPSHOT_MODES: [&str; 3] = ["full", "redo", "time"];

/// Which layers the image gets.
pub(super) fn translate(args: &KanikoArgs) -> Result<LayerChoice> {
    if let Some(mode) = args.snapshot_mode.as_deref().filter(|mode| !mode.is_empty())
        && !SNAPSHOT_MODES.contains(&mode)
    {
        let action = format!("use --snapshot-mode {}", mode.escape_debug());
        return Err(usage(action, "expected full, redo or time"));
    }
    // The later name of the two is the one that counts.
    let keeps_var_run = args.ignore_var_run.or(args.whitelist_var_run) == Some(false);
    let var_run = (!keeps_var_run).then_some(VAR_RUN);
    let typed = args.ignore_path.iter().map(String::as_str).filter(|path| !path.is_empty());
    let without = var_run.into_iter().chain(typed).map(|path| {
        TreePath::normalized(path).map_err(|error| {
            usage(format!("use --ignore-path {}", path.escape_debug()), error)
                .hint("write a path of the image, such as /var/cache")
        })
    });
    let single = args.single_snapshot == Some(true);
    Ok(LayerChoice { single, without: without.collect::<Result<_>>()? })
}
