//! Which isolations this machine allows, found out by entering each once and doing everything short of
//! starting a program. Settings and versions are read only to explain a failure, never to decide.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::advice::{Fix, Place};
use super::error::{At as _, Attempt, Fault, NO_LANDLOCK, NO_LANDLOCK_FIX, Stage};
use super::exit::Exit;
use super::isolation::Isolation;
use super::other_user::{self, OTHER};
use super::privileges::Confinement;
use super::protocol::SELF_TEST;
use super::spawn::{Launcher, Streams};
use super::spec::{Access, Mount, Network, Root, Spec};
use super::whiteout::make_whiteout;
use crate::error::{Cannot as _, Error, Result};

/// What a machine says about one isolation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The isolation.
    pub isolation: Isolation,
    /// Whether it works here.
    pub works: bool,
    /// Why it does not, or what is weaker than it could be.
    pub reason: Option<String>,
    /// The one thing to do about it, as a command where there is one.
    pub fix: Option<String>,
    /// Whether the next trial will find the same, as long as nothing changes on the machine.
    #[serde(skip)]
    pub(super) lasts: bool,
}

/// What a machine says about every isolation, best first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    /// The best isolation that works.
    pub fn best(&self) -> Option<Isolation> {
        self.0.iter().find(|finding| finding.works).map(|finding| finding.isolation)
    }

    /// What was found of one isolation.
    pub(super) fn of(&self, isolation: Isolation) -> Option<&Finding> {
        self.0.iter().find(|finding| finding.isolation == isolation)
    }

    /// One line: which isolation runs, and why not a better one.
    pub fn summary(&self) -> String {
        let Some(best) = self.best() else { return "no sandbox works here".to_owned() };
        let mut line = format!("sandbox {best}: {}", best.runs());
        if let Some(finding) = self.better_than(Some(best)) {
            let reason = finding.reason.as_deref().unwrap_or("it does not work");
            line = format!("{line}; not {}: {reason}", finding.isolation);
            if let Some(fix) = &finding.fix {
                line = format!("{line}; fix: {fix}");
            }
        }
        line
    }

    /// What executes steps of Dockerfiles.
    pub fn of_steps(&self) -> Option<Isolation> {
        self.best().filter(|best| *best < Isolation::Toolchain)
    }

    /// One line: what is built here, by which isolation, and what to change for more.
    pub fn verdict(&self) -> String {
        let steps = self.of_steps();
        let line = match steps {
            Some(best) => {
                format!(
                    "here Go packages and Dockerfiles are built, steps by {best}: {}",
                    best.runs()
                )
            }
            None => "here Go packages are built, and no RUN of a Dockerfile is executed".to_owned(),
        };
        let better = self.better_than(steps).filter(|finding| finding.fix.is_some());
        match better.map(|finding| finding.isolation) {
            Some(better) => format!("{line}; better: {better} ({}), by its fix", better.runs()),
            None => line,
        }
    }

    /// The one to ask for where it does not work: what needs the least for everything comes first. That
    /// nobody is root is no defect.
    fn better_than(&self, best: Option<Isolation>) -> Option<&Finding> {
        let order = [Isolation::Ns, Isolation::NsCopy, Isolation::NsSubuid];
        let is_better = |isolation: &Isolation| best.is_none_or(|best| *isolation < best);
        let found = order.into_iter().filter(is_better).filter_map(|it| self.of(it));
        found.into_iter().find(|finding| !finding.works)
    }
}

/// With what to probe.
#[derive(Clone, Copy, Debug)]
pub struct ProbeOptions<'a> {
    /// What starts sandboxes.
    pub launcher: &'a Launcher,
    /// A folder on the file system that root file systems will be on; a folder is made in it and
    /// removed again.
    pub folder: &'a Path,
}

/// Tries every isolation once.
pub fn probe(options: &ProbeOptions<'_>) -> Result<Findings> {
    let place = Place::here(options.folder);
    let trial = |isolation| trial(options, &place, isolation);
    let mut trials: Vec<Trial> = Isolation::ALL.into_iter().map(trial).collect::<Result<_>>()?;
    add_what_namespaces_need(&mut trials);
    let mut findings = Findings(trials.into_iter().map(|trial| trial.told(&place)).collect());
    if other_user::is_worth_trying() {
        try_as_other_user(options, &mut findings);
    }
    Ok(findings)
}

/// The isolations of which every user may have one where user namespaces are allowed.
pub(super) const OF_ONE_ID: [Isolation; 2] = [Isolation::Ns, Isolation::NsCopy];

/// What works for another user works for root, who can become that one.
fn try_as_other_user(options: &ProbeOptions<'_>, findings: &mut Findings) {
    let of_one_id = findings.0.iter_mut().filter(|found| OF_ONE_ID.contains(&found.isolation));
    for finding in of_one_id.filter(|found| !found.works) {
        if options.works_for_other_user(&[finding.isolation]) {
            let reason = finding.reason.take().unwrap_or_default();
            finding.reason = Some(format!("as user {OTHER}: {reason}, and others have one"));
            (finding.works, finding.fix) = (true, None);
        }
    }
}

impl ProbeOptions<'_> {
    /// Whether one of some isolations works for the user that root of this container can become.
    pub(super) fn works_for_other_user(&self, isolations: &[Isolation]) -> bool {
        let starter = (self.launcher.helper(), self.launcher.path());
        other_user::works(starter, self.folder, isolations)
    }
}

/// Does that user's part: a folder, a `PATH` and the names of isolations.
pub(super) fn try_each(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut words = arguments.filter_map(|word| word.into_string().ok());
    let (Some(folder), Some(path)) = (words.next(), words.next()) else {
        return ExitCode::FAILURE;
    };
    let launcher = Launcher::new(path);
    let options = ProbeOptions { launcher: &launcher, folder: Path::new(&folder) };
    let is_usable = |name: String| {
        let isolation = name.parse().ok()?;
        try_one(&options, isolation).ok().filter(|found| found.works)
    };
    if other_user::become_it().is_ok() && words.find_map(is_usable).is_some() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

pub(super) fn try_one(options: &ProbeOptions<'_>, isolation: Isolation) -> Result<Finding> {
    let place = Place::here(options.folder);
    Ok(trial(options, &place, isolation)?.told(&place))
}

/// What came of a trial.
struct Trial {
    finding: Finding,
    fix: Option<Fix>,
}

impl Trial {
    /// Says what is to be changed as it is told.
    fn told(self, place: &Place) -> Finding {
        let fix = self.fix.and_then(|fix| fix.text(place)).or(self.finding.fix);
        Finding { fix, ..self.finding }
    }
}

/// What needs more than namespaces gets no further than these do: a fix of its own alone cannot help.
fn add_what_namespaces_need(trials: &mut [Trial]) {
    let failed = |isolation: Isolation, trials: &[Trial]| {
        let found = trials.iter().find(|trial| trial.finding.isolation == isolation);
        let found = found.filter(|trial| !trial.finding.works);
        found.map(|trial| (trial.finding.reason.clone(), trial.fix.clone()))
    };
    let (copy, layers) = (failed(Isolation::NsCopy, trials), failed(Isolation::Ns, trials));
    for trial in trials.iter_mut().filter(|trial| !trial.finding.works) {
        let own = trial.fix.take();
        let with = |other: &Option<Fix>| Some(own.clone().unwrap_or_default().and(other.as_ref()?));
        let needs_layers = own.as_ref().is_some_and(Fix::moves_store);
        trial.fix = match (trial.finding.isolation, &copy, &layers) {
            (Isolation::NsSubuid, Some((reason, fix)), _) => {
                trial.finding.reason.clone_from(reason);
                with(fix)
            }
            (Isolation::NsSubuid, None, Some((_, fix))) => with(fix),
            (Isolation::Ns, Some((_, fix)), _) if needs_layers => with(fix),
            // Root needs no user namespace, and the same mounts.
            (Isolation::NsRoot, Some((_, Some(fix))), _) if needs_layers => {
                with(&Some(fix.of_filters()))
            }
            _ => own,
        };
    }
}

fn trial(options: &ProbeOptions<'_>, place: &Place, isolation: Isolation) -> Result<Trial> {
    // Every isolation gets folders of its own: each leaves other traces in them.
    let scratch = tempfile::Builder::new()
        .prefix("sandbox-probe-")
        .tempdir_in(options.folder)
        .cannot(|| "try the sandbox")?;
    let outcome = rehearse(options.launcher, isolation, scratch.path());
    open_for_removal(scratch.path());
    Ok(match outcome {
        Ok(confinement) => weakness(place, isolation, confinement),
        Err(fault) => {
            let lasts = fault.lasts();
            let (reason, fix) = place.explain(isolation, &fault);
            let finding =
                Finding { isolation, works: false, reason: Some(reason), fix: None, lasts };
            Trial { finding, fix }
        }
    })
}

/// Long enough for a busy machine, short enough for a person.
const TIMEOUT: Duration = Duration::from_secs(10);

fn rehearse(launcher: &Launcher, isolation: Isolation, scratch: &Path) -> Attempt<Confinement> {
    if isolation == Isolation::Proot {
        return rehearse_proot(launcher, scratch).map(|()| Confinement::Full);
    }
    let mut spec = Spec::new(root(isolation, scratch)?, ["true"]);
    spec.timeout = Some(TIMEOUT);
    if isolation.has_overlay() {
        hide_file(isolation, scratch)?;
        spec.cwd = format!("/{HIDDEN}");
    }
    match run(launcher, &spec, isolation, true)? {
        Exit::NotExecutable(_) if isolation.has_overlay() => {
            let reason = "whiteouts can be made in the store's folder as extended attributes alone, \
                          and this kernel does not understand those";
            Err(Fault::new(Stage::Overlay, "hide a file of a layer", reason))
        }
        Exit::Code(code) if code == Confinement::Partial as u8 => Ok(Confinement::Partial),
        Exit::Code(code) if code == Confinement::Absent as u8 => Ok(Confinement::Absent),
        Exit::Code(0) => Ok(Confinement::Full),
        exit => {
            Err(Fault::new(Stage::Helper, "try it", format!("the rehearsal ended in {exit:?}")))
        }
    }
}

/// The name of a file that the upper one of two layers hides: a folder for the program can be made in
/// its place only where the kernel understands that.
const HIDDEN: &str = "hidden";

/// Hides a file of one layer by another, in the way of layers that are unpacked here.
fn hide_file(isolation: Isolation, scratch: &Path) -> Attempt<()> {
    let action = || "hide a file of a layer";
    let marks = if isolation.has_user_namespace() { "user.overlay." } else { "trusted.overlay." };
    fs_err::write(scratch.join("base").join(HIDDEN), "").at(Stage::Overlay, action)?;
    let layer = fs_err::File::open(scratch.join("layer")).at(Stage::Overlay, action)?;
    let layer = layer.file();
    make_whiteout(layer, HIDDEN.as_bytes(), layer, marks).at(Stage::Overlay, action)
}

/// The kernel leaves a folder without permissions in an overlay's folder for its own use.
fn open_for_removal(scratch: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let open = std::fs::Permissions::from_mode(0o700);
    // Where there was no overlay there is none.
    let _ = fs_err::set_permissions(scratch.join("work/work"), open);
}

fn run(launcher: &Launcher, spec: &Spec, isolation: Isolation, rehearsal: bool) -> Attempt<Exit> {
    let failed = |error: Error| Fault::new(Stage::Helper, "try it", error.to_string());
    let streams = Streams::null().map_err(failed)?;
    launcher.launch(spec, isolation, streams, rehearsal)?.wait().map_err(failed)
}

fn root(isolation: Isolation, scratch: &Path) -> Attempt<Root> {
    let folder = |name: &str| {
        let path = scratch.join(name);
        let made = fs_err::create_dir(&path);
        made.map_err(|error| Fault::new(Stage::Helper, "try it", error.to_string()))?;
        Ok(path)
    };
    Ok(match isolation {
        Isolation::Toolchain => Root::Host { read: Vec::new(), write: vec!["/".into()] },
        _ if isolation.has_overlay() => Root::overlay(
            vec![folder("base")?, folder("layer")?],
            folder("upper")?,
            folder("work")?,
        ),
        _ => Root::Folder(folder("root")?),
    })
}

/// A `proot` counts only if it runs this very binary well: some that are installed do not.
fn rehearse_proot(launcher: &Launcher, scratch: &Path) -> Attempt<()> {
    let failed = |reason: String| Fault::new(Stage::Helper, "try proot", reason);
    let helper = fs_err::canonicalize(launcher.helper()).map_err(|e| failed(e.to_string()))?;
    fs_err::write(scratch.join("present"), "").map_err(|e| failed(e.to_string()))?;
    let helper = helper.to_string_lossy().into_owned();
    let mut spec = Spec::new(Root::Folder("/".into()), [helper, SELF_TEST.to_owned()]);
    spec.timeout = Some(TIMEOUT);
    spec.network = Network::Host;
    spec.mounts.push(Mount::Bind {
        source: scratch.to_owned(),
        subpath: None,
        target: "/gondola-self-test".to_owned(),
        access: Access::ReadWrite,
    });
    match run(launcher, &spec, Isolation::Proot, false)? {
        Exit::Code(0) => Ok(()),
        _ => Err(failed("this proot fails its self-test".to_owned())),
    }
}

/// An isolation that works, with what Landlock could not add.
fn weakness(place: &Place, isolation: Isolation, confinement: Confinement) -> Trial {
    if isolation == Isolation::InContainer
        && let Some((reason, fix)) = place.weakness()
    {
        let (reason, lasts) = (Some(reason), true);
        let finding = Finding { isolation, works: true, reason, fix: None, lasts };
        return Trial { finding, fix };
    }
    if (isolation, confinement) == (Isolation::Toolchain, Confinement::Absent) {
        let (reason, fix) = (Some(NO_LANDLOCK.to_owned()), Some(NO_LANDLOCK_FIX.to_owned()));
        let finding = Finding { isolation, works: false, reason, fix, lasts: true };
        return Trial { finding, fix: None };
    }
    let reason = match (isolation, confinement) {
        (_, Confinement::Full) | (Isolation::InContainer | Isolation::Proot, _) => None,
        (Isolation::Toolchain, Confinement::Partial) => {
            Some("Landlock here lacks rules that newer kernels have")
        }
        _ => {
            Some("with the host's network its abstract sockets can be reached (no Landlock scope)")
        }
    };
    let fix = reason.map(|_| "Linux 6.12 or newer with Landlock".to_owned());
    let reason = reason.map(str::to_owned);
    Trial { finding: Finding { isolation, works: true, reason, fix, lasts: true }, fix: None }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What each isolation says where those of `working` work and no other.
    pub fn findings(working: &[Isolation]) -> Findings {
        let finding = |isolation| Finding {
            isolation,
            works: working.contains(&isolation),
            reason: Some(format!("no {isolation}")),
            fix: (isolation == Isolation::Ns).then(|| "switch it on".to_owned()),
            lasts: true,
        };
        Findings(Isolation::ALL.into_iter().map(finding).collect())
    }

    #[test]
    fn the_summary_says_why_not_a_better_one_and_what_to_do() {
        let line = findings(&[Isolation::Toolchain]).summary();
        assert_eq!(
            line,
            "sandbox toolchain: Go packages, and go commands in RUN; not ns: no ns; fix: switch it on"
        );
        assert_eq!(findings(&[]).summary(), "no sandbox works here");
        let line = findings(&[Isolation::Ns, Isolation::NsCopy]).summary();
        let expected =
            "sandbox ns: everything; file owners are recorded; not ns-subuid: no ns-subuid";
        assert_eq!(line, expected);
    }

    #[test]
    fn the_verdict_says_what_is_built_by_which_isolation_and_how_to_get_more() {
        for (working, expected) in [
            (
                &[Isolation::Toolchain][..],
                "here Go packages are built, and no RUN of a Dockerfile is executed; better: ns \
                 (everything; file owners are recorded), by its fix",
            ),
            (
                &[Isolation::InContainer, Isolation::Toolchain],
                "here Go packages and Dockerfiles are built, steps by in-container: most steps, as \
                 root of the container that gondola runs in; steps are no boundary; better: ns \
                 (everything; file owners are recorded), by its fix",
            ),
            (
                &[Isolation::NsRoot, Isolation::Ns],
                "here Go packages and Dockerfiles are built, steps by ns-root: everything",
            ),
        ] {
            assert_eq!(findings(working).verdict(), expected);
        }
    }

    #[test]
    fn a_fix_for_ids_is_none_where_there_are_no_namespaces() {
        let trial = |isolation, reason: &str, fix: Option<Fix>| {
            let (works, reason) = (false, Some(reason.to_owned()));
            Trial { finding: Finding { isolation, works, reason, fix: None, lasts: true }, fix }
        };
        let uidmap = || trial(Isolation::NsSubuid, "no newuidmap", Some(Fix::default()));
        let mut trials = [uidmap(), trial(Isolation::NsCopy, "no namespaces", None)];
        add_what_namespaces_need(&mut trials);
        assert_eq!(trials[0].finding.reason.as_deref(), Some("no namespaces"));
        assert_eq!(trials[0].fix, None);
        let mut trials = [uidmap()];
        add_what_namespaces_need(&mut trials);
        assert_eq!(trials[0].fix, Some(Fix::default()));
    }
}
