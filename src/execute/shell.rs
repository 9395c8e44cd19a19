//! `--shell-on-failure`: a shell among the files of the step that failed, as it left them.
//!
//! It is opened when everything else has ended, so that nobody else writes to the terminal and no
//! other failure ends the program meanwhile. What is done in it belongs to no layer: the build has
//! failed.

use std::io::IsTerminal as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use super::Chosen;
use crate::blocking::blocking_or;
use crate::engine::Guard;
use crate::error::Result;
use crate::progress::Reporter;
use crate::rootfs::Fork;
use crate::sandbox::{Exit, RawMode, Spec, Streams, relay, window_size};

/// A step that failed, with all that it had.
pub(super) struct Failed {
    pub chosen: Chosen,
    /// How it was run: its user, folder, variables and mounts.
    pub spec: Spec,
    /// The shell's program, and what it needs to be one.
    pub shell: Vec<String>,
    /// Its files.
    pub fork: Fork,
    /// What its mounts need.
    pub guards: Vec<Guard>,
}

/// Where the first step that fails is kept.
pub(super) type FirstFailed = Arc<Mutex<Option<Failed>>>;

/// Keeps a step that failed, unless another one did before.
pub(super) fn keep(first: &FirstFailed, failed: Failed) {
    first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failed);
}

/// Opens a shell where a step failed, if one did, and waits until it ends.
pub(super) async fn open(first: &FirstFailed, reporter: &Reporter) -> Result<()> {
    let failed = first.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(failed) = failed else { return Ok(()) };
    if !std::io::stdin().is_terminal() {
        reporter.warn("no shell is opened where the step failed: standard input is no terminal");
        return Ok(());
    }
    let shell = failed.shell.join(" ");
    reporter.note(format!("{shell} where the step failed; the build ends with it"));
    reporter.give_terminal();
    // Held here and not by the thread that waits, so that an interruption gives the terminal back.
    let mode = RawMode::enter(rustix::stdio::stdin())?;
    let exit = blocking_or(move || failed.run()).await;
    drop(mode);
    match exit? {
        Exit::NotFound(_) => {
            reporter.warn(format!("no shell is opened: the image has no {shell}"));
        }
        Exit::NotExecutable(why) => reporter.warn(format!("no shell is opened: {why}")),
        Exit::Code(_) | Exit::Signal(_) | Exit::TimedOut => {}
    }
    Ok(())
}

impl Failed {
    fn run(self) -> Result<Exit> {
        let Self { chosen, mut spec, shell, fork, guards } = self;
        let stdin = std::io::stdin();
        spec.argv = shell;
        spec.terminal = window_size(&stdin);
        let mut child = chosen.launcher.spawn(&spec, chosen.isolation, Streams::null()?)?;
        if let Some(terminal) = child.terminal().filter(|_| child.exit().is_none()) {
            let stderr = std::io::stderr();
            // Where messages go to a file, the shell still is on the terminal.
            let output: BorrowedFd<'_> =
                if stderr.is_terminal() { stderr.as_fd() } else { stdin.as_fd() };
            relay(terminal, &stdin, output)?;
        }
        let exit = child.wait();
        drop((fork, guards));
        exit
    }
}
