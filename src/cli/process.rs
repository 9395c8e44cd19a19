//! What a program gets that is started in a container: of `gondola run` and `gondola exec`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::environment::Environment;
use super::flags::pair;
use super::session::Session;
use crate::disk;
use crate::error::{Error, ErrorKind, Result};

/// No file of variables comes near: the kernel takes less.
const LARGEST_FILE: u64 = 16 << 20;

/// What both have.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Program")]
pub(super) struct ProcessArgs {
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Allocate a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Set a variable; without a value, it is the caller's; repeatable
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read variables from a file, one NAME=VALUE or NAME on each line; repeatable
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    env_file: Vec<PathBuf>,
    /// Working folder of the program
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User that runs the program
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
}

impl ProcessArgs {
    /// The variables: of the files, and on top those that were typed.
    pub fn variables(&self, environment: &Environment) -> Result<BTreeMap<String, Option<String>>> {
        variables(&self.env, &self.env_file, environment)
    }
}

/// Warns where keys were to be carried and nobody can press any. The program gets its terminal
/// all the same: a command that is typed by hand works in a script, too.
pub(super) fn check_terminal(session: &Session, interactive: bool, tty: bool) {
    if interactive && tty && !std::io::stdin().is_terminal() {
        session.reporter.warn("standard input is no terminal: nobody types on the one that -t gives; -i alone has none");
    }
}

/// Variables of files, and on top those that were typed. A name alone passes the caller's value on.
fn variables(
    typed: &[String],
    files: &[PathBuf],
    environment: &Environment,
) -> Result<BTreeMap<String, Option<String>>> {
    let mut all = BTreeMap::new();
    for file in files {
        let path = environment.resolve(file);
        let text = disk::read_named_text(&path, LARGEST_FILE).map_err(|error| {
            Error::new(ErrorKind::Usage, format!("read variables from {}", file.display()))
                .caused_by(error)
        })?;
        for (number, line) in text.lines().map(str::trim_start).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let flag = format!("--env-file {}:{}", file.display(), number + 1);
            all.extend(pair::variables(&flag, &[line.to_owned()], &environment.variables)?);
        }
    }
    all.extend(pair::variables("--env", typed, &environment.variables)?);
    Ok(all)
}
