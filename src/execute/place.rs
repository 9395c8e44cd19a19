//! Where programs are executed: in a sandbox, or on the host where there is none.

use super::{Chosen, Executor};
use crate::blocking::blocking_or;
use crate::error::{Error, ErrorKind, Result};
use crate::rootfs::Unpacker;
use crate::sandbox::{Isolation, IsolationRequest, Preference, Unconfined, other_user};

/// Where programs are executed.
pub(super) enum Place {
    /// In sandboxes.
    Sandbox(Box<Isolated>),
    /// On the host's own files, confined; there few programs are.
    Host(NoSandbox),
}

/// How programs are isolated.
pub(super) struct Isolated {
    /// The isolation, and what starts processes on it.
    pub chosen: Chosen,
    /// What makes root file systems for that.
    pub unpacker: Unpacker,
}

/// Why there is no sandbox.
#[derive(Clone, Debug)]
pub(super) struct NoSandbox {
    kind: ErrorKind,
    why: String,
    fix: Option<String>,
    /// Whether a program may be executed all the same.
    pub may_execute: bool,
    /// Whether that goes where nothing confines it to some files.
    pub unconfined: Unconfined,
}

impl NoSandbox {
    fn of(error: &Error, request: IsolationRequest) -> Self {
        let fix = error.next_move().map(str::to_owned);
        let (kind, why) = (error.kind(), error.message());
        Self::because(kind, why, fix, request)
    }

    /// The user wants none.
    fn wanted(request: IsolationRequest) -> Self {
        let why = "cannot isolate a step: --sandbox toolchain asks for none".to_owned();
        let (kind, fix) = (ErrorKind::Unsupported, Some("--sandbox auto".to_owned()));
        Self::because(kind, why, fix, request)
    }

    fn because(
        kind: ErrorKind,
        why: String,
        fix: Option<String>,
        request: IsolationRequest,
    ) -> Self {
        let (may_execute, unconfined) = (request.allows_hosts_files(), request.unconfined());
        Self { kind, why, fix, may_execute, unconfined }
    }

    /// Why, without what was tried.
    pub(super) fn why(&self) -> &str {
        self.why.split_once(": ").map_or(self.why.as_str(), |(_, why)| why)
    }

    /// As an error of whoever needs one.
    pub(super) fn error(&self) -> Error {
        let why = self.why.strip_prefix("cannot ").unwrap_or(&self.why);
        let error = Error::new(self.kind, why);
        match &self.fix {
            Some(fix) => error.hint(fix),
            None => error,
        }
    }
}

impl Executor {
    /// Where programs are executed, which is chosen when it is first asked for.
    pub(super) async fn place(&self) -> &Place {
        let begin = || async {
            let chooser = self.tools.isolation.clone();
            let (launcher, request) = (chooser.launcher.clone(), chooser.request);
            if request.preference == Preference::Only(Isolation::Toolchain) {
                return Place::Host(NoSandbox::wanted(request));
            }
            let isolation = match blocking_or(move || chooser.choose()).await {
                Ok(isolation) => isolation,
                Err(error) => return Place::Host(NoSandbox::of(&error, request)),
            };
            if !isolation.has_namespaces() {
                let warning = format!("sandbox {isolation}: {}", isolation.runs());
                self.tools.transport.reporter.warn(warning);
            }
            if let Some(user) = other_user() {
                let note = format!(
                    "steps and all that is written are user {user}'s: root of this container may \
                     have no user namespace (it lacks CAP_SETFCAP), and others may"
                );
                self.tools.transport.reporter.note(note);
            }
            let chosen = Chosen { launcher, isolation };
            Place::Sandbox(Box::new(Isolated { chosen, unpacker: self.unpacker(isolation) }))
        };
        self.place.get_or_init(begin).await
    }

    /// What makes root file systems, or folders, for an isolation.
    pub(super) fn unpacker(&self, isolation: Isolation) -> Unpacker {
        let (context, cores) = (self.tools.transport.clone(), self.tools.cores);
        Unpacker { context, isolation, cores }
    }

    /// The sandbox.
    pub(super) async fn isolated(&self) -> Result<&Isolated> {
        match self.place().await {
            Place::Sandbox(isolated) => Ok(isolated),
            Place::Host(none) => Err(none.error()),
        }
    }
}
