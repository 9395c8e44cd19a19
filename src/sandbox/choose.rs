//! Which isolation a command gets: the one place that decides it, by what the command needs, what its
//! user asked for, and what this machine allows.
//!
//! ```text
//!   Needs ────────────┐
//!   IsolationRequest ─┼─► Chooser ─► Isolation        what earlier trials found: `trials`
//!   trials, probe ────┘
//! ```

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::str::FromStr;

use super::error::Fault;
use super::isolation::Isolation;
use super::other_user;
use super::probe::{Finding, Findings, OF_ONE_ID, ProbeOptions, probe, try_one};
use super::spawn::Launcher;
use super::spec::Unconfined;
use super::user_namespace::holds_id_range;
use crate::error::{Cannot as _, Error, ErrorKind, Result};

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IsolationRequest {
    /// Which one is to be used.
    pub preference: Preference,
    /// The least that will do.
    pub minimum: Option<Isolation>,
}

/// Which isolation was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// Nothing was said.
    #[default]
    Unstated,
    /// The best one that works here.
    Auto,
    /// This one.
    Only(Isolation),
}

impl FromStr for Preference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            name => name.parse().map(Self::Only),
        }
    }
}

impl IsolationRequest {
    /// What was asked for, unless the one that is to be used is weaker than the least that will do.
    pub fn new(preference: Preference, minimum: Option<Isolation>) -> Result<Self> {
        if let (Preference::Only(isolation), Some(least)) = (preference, minimum)
            && isolation > least
        {
            let action = format!("use --sandbox {isolation} with --sandbox-min {least}");
            return Err(Error::new(ErrorKind::Usage, action)
                .because(format!("{isolation} isolates less than {least}"))
                .hint("leave one of the two out"));
        }
        Ok(Self { preference, minimum })
    }

    /// Whether a root file system of a process's own was asked for.
    pub fn asks_for_root(self) -> bool {
        match self.preference {
            Preference::Only(isolation) => isolation != Isolation::Toolchain,
            Preference::Auto => true,
            Preference::Unstated => self.minimum.is_some_and(|least| least < Isolation::Toolchain),
        }
    }

    /// Whether a program of somebody else may run on the host's own files where nothing confines it: that
    /// isolation was asked for by its name.
    pub fn unconfined(self) -> Unconfined {
        match self.preference {
            Preference::Only(Isolation::Toolchain) => Unconfined::Accepted,
            Preference::Only(_) | Preference::Auto | Preference::Unstated => Unconfined::Refused,
        }
    }

    /// Whether a process may work on the host's own files, confined to a few of them, where nothing better
    /// works.
    pub fn allows_hosts_files(self) -> bool {
        let is_asked_for = match self.preference {
            Preference::Only(isolation) => isolation == Isolation::Toolchain,
            Preference::Auto | Preference::Unstated => true,
        };
        is_asked_for && self.minimum.is_none_or(|least| least == Isolation::Toolchain)
    }
}

/// Which files a command's processes see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// A root file system of their own.
    OwnRoot,
    /// A root file system of their own where that works, else the host's files.
    OwnRootOrHosts,
    /// The host's, confined to a few of them.
    Hosts,
}

/// What a command needs of its isolation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    files: Files,
    owners: bool,
    host_folders: bool,
    network: bool,
}

impl Needs {
    /// Files, and nothing else.
    pub fn new(files: Files) -> Self {
        Self { files, owners: false, host_folders: false, network: false }
    }

    /// Files of several owners are made, so that a range of ids is worth to be entered.
    #[must_use]
    pub fn with_owners(self) -> Self {
        Self { owners: true, ..self }
    }

    /// Folders of the host are seen in the root file system.
    #[must_use]
    pub fn with_host_folders(self) -> Self {
        Self { host_folders: true, ..self }
    }

    /// A network of its own.
    #[must_use]
    pub fn with_own_network(self) -> Self {
        Self { network: true, ..self }
    }

    /// Why an isolation will not do.
    fn unmet_by(self, isolation: Isolation) -> Option<&'static str> {
        match isolation {
            Isolation::Toolchain if self.files == Files::OwnRoot => {
                Some("it has no root file system")
            }
            Isolation::InContainer if self.host_folders => {
                Some("it can show no sources, caches and programs of this machine")
            }
            Isolation::InContainer | Isolation::Proot if self.network => {
                Some("it has no network of its own")
            }
            // The host's own files need no mounts.
            _ => None,
        }
    }

    /// What is tried where nothing is preferred, best first. A range of ids takes the whole program to
    /// be in it: only owners are worth that.
    fn candidates(self) -> impl Iterator<Item = Isolation> {
        let worth = move |isolation: &Isolation| self.owners || *isolation != Isolation::NsSubuid;
        let all = Isolation::ALL.into_iter().filter(worth);
        all.filter(move |isolation| self.unmet_by(*isolation).is_none())
    }
}

/// Whether a range of ids can be entered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IdRange {
    /// It can: nothing else was begun.
    CanBeEntered,
    /// It cannot: where the process is in none, it stays so.
    IsSettled,
}

/// Chooses the isolation of a command when it is asked.
#[derive(Clone, Debug)]
pub struct Chooser {
    /// What starts sandboxes.
    pub launcher: Launcher,
    /// A folder on the file system that root file systems will be on, which is made where there is none.
    pub folder: PathBuf,
    /// What the user asked for.
    pub request: IsolationRequest,
    /// What the command needs.
    pub needs: Needs,
    /// What was chosen before.
    pub decided: Option<Isolation>,
}

impl Chooser {
    /// Chooses at the start of a command, which can still enter a range of ids
    /// ([`Launcher::enter_id_range`]), and does so where the answer is [`Isolation::NsSubuid`].
    pub fn choose_at_start(&self) -> Result<Isolation> {
        self.choose_now(IdRange::CanBeEntered)
    }

    /// Chooses, with as little trying as that takes: a range of ids only where this process is in one.
    ///
    /// # Errors
    /// Where nothing works that will do, with the reason and what to do about it.
    pub fn choose(&self) -> Result<Isolation> {
        self.choose_now(IdRange::IsSettled)
    }

    /// Where this process is root of a container that may have no user namespace, and another user may:
    /// becomes that user. Comes before anything that starts a thread.
    ///
    /// # Errors
    /// Where that worked when it was tried, and does not now.
    pub fn become_other_user(&self) -> Result<()> {
        if !other_user::is_worth_trying() {
            return Ok(());
        }
        let mut candidates = self.candidates(IdRange::IsSettled)?;
        candidates.retain(|isolation| OF_ONE_ID.contains(isolation));
        if candidates.is_empty()
            || self.make_folder().is_err()
            || !self.options().works_for_other_user(&candidates)
        {
            return Ok(());
        }
        let become_it =
            || other_user::hand_over(&self.folder).and_then(|()| other_user::become_it());
        become_it().map_err(Fault::into_error)
    }

    fn choose_now(&self, id_range: IdRange) -> Result<Isolation> {
        if let Some(isolation) = self.decided {
            return Ok(isolation);
        }
        let candidates = self.candidates(id_range)?;
        // Nothing is tried where there is no choice, and nothing to be missing.
        if self.needs.files == Files::Hosts && candidates == [Isolation::Toolchain] {
            return Ok(Isolation::Toolchain);
        }
        self.make_folder()?;
        match candidates.iter().find(|isolation| self.works(**isolation)) {
            Some(isolation) => Ok(*isolation),
            // What was known is asked anew, so that the reasons are today's.
            None => self.explain(&candidates),
        }
    }

    /// Makes the folder as the store does: for the owner alone.
    fn make_folder(&self) -> Result<()> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.cannot(|| format!("make the folder {}", self.folder.display()))
    }

    fn candidates(&self, id_range: IdRange) -> Result<Vec<Isolation>> {
        let least = self.request.minimum.unwrap_or(Isolation::Toolchain);
        let Preference::Only(isolation) = self.request.preference else {
            let hosts = (self.needs.files == Files::Hosts).then_some(Isolation::Toolchain);
            let can_be_entered = |isolation: &Isolation| {
                *isolation != Isolation::NsSubuid
                    || id_range == IdRange::CanBeEntered
                    || holds_id_range()
            };
            let all = self.needs.candidates().filter(can_be_entered);
            let all = all.filter(|isolation| hosts.is_none_or(|only| only == *isolation));
            return Ok(all.filter(|isolation| *isolation <= least).collect());
        };
        if let Some(why) = self.needs.unmet_by(isolation) {
            let error = Error::new(ErrorKind::Usage, format!("use --sandbox {isolation}"));
            return Err(error.because(why).hint("use --sandbox auto"));
        }
        Ok(if isolation <= least { vec![isolation] } else { Vec::new() })
    }

    /// Whether an isolation works, as an earlier trial found or a new one does.
    fn works(&self, isolation: Isolation) -> bool {
        if isolation == Isolation::Toolchain {
            // Without Landlock it refuses to start what nobody accepted the risk of.
            return true;
        }
        let trials = self.launcher.trials();
        if let Some(known) = trials.as_ref().and_then(|trials| trials.found(isolation)) {
            return known;
        }
        let Ok(finding) = try_one(&self.options(), isolation) else { return false };
        if let Some(trials) = trials.filter(|_| finding.works || finding.lasts) {
            trials.keep(isolation, finding.works);
        }
        finding.works
    }

    fn options(&self) -> ProbeOptions<'_> {
        ProbeOptions { launcher: &self.launcher, folder: &self.folder }
    }

    /// What every isolation says of itself here.
    pub fn probe(&self) -> Result<Findings> {
        probe(&self.options())
    }

    /// Why none of the candidates works; or which one does by now.
    fn explain(&self, candidates: &[Isolation]) -> Result<Isolation> {
        let findings = self.probe()?;
        let works =
            |isolation: &&Isolation| findings.of(**isolation).is_some_and(|finding| finding.works);
        match candidates.iter().find(works) {
            Some(isolation) => {
                if let Some(trials) = self.launcher.trials() {
                    trials.keep(*isolation, true);
                }
                Ok(*isolation)
            }
            None => Err(why_not(self.request, self.needs, &findings)),
        }
    }
}

/// Why nothing will do, and the one thing to do about it.
fn why_not(request: IsolationRequest, needs: Needs, findings: &Findings) -> Error {
    let named = match request.preference {
        Preference::Only(isolation) => Some(isolation),
        Preference::Auto | Preference::Unstated => request.minimum,
    };
    if let Some(isolation) = named.filter(|isolation| *isolation <= Isolation::Proot) {
        let error = Error::new(ErrorKind::Unsupported, format!("use the sandbox {isolation}"));
        return match findings.of(isolation).filter(|finding| !finding.works) {
            Some(finding) => explained(error, finding),
            None => error.because(needs.unmet_by(isolation).map_or_else(
                || {
                    let least = request.minimum.unwrap_or(isolation);
                    format!("--sandbox-min={least} asks for a better one")
                },
                str::to_owned,
            )),
        };
    }
    let error = Error::new(ErrorKind::Unsupported, "isolate a process here");
    let insufficient = findings.0.iter().find(|f| f.works && f.isolation < Isolation::Toolchain);
    if let Some(isolation) = insufficient.map(|finding| finding.isolation)
        && let Some(why) = needs.unmet_by(isolation)
    {
        return error
            .because(format!("of the sandboxes {isolation} alone works here, and {why}"))
            .hint("run \"gondola doctor\": it says what the others lack");
    }
    // The one that needs the least is the one to ask for.
    match findings.of(Isolation::Ns) {
        Some(finding) => explained(error, finding),
        None => error.hint("gondola doctor"),
    }
}

fn explained(error: Error, finding: &Finding) -> Error {
    let error = match &finding.reason {
        Some(reason) => error.because(reason),
        None => error,
    };
    error.hint(finding.fix.clone().unwrap_or_else(|| "gondola doctor".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::probe::tests::findings;
    use super::*;

    fn chooser(request: IsolationRequest, needs: Needs) -> Chooser {
        let launcher = Launcher::new("").with_helper("/nonexistent");
        Chooser { launcher, folder: PathBuf::from("/nonexistent"), request, needs, decided: None }
    }

    fn only(isolation: Isolation) -> IsolationRequest {
        IsolationRequest { preference: Preference::Only(isolation), minimum: None }
    }

    fn at_least(isolation: Isolation) -> IsolationRequest {
        IsolationRequest { preference: Preference::Unstated, minimum: Some(isolation) }
    }

    #[test]
    fn what_is_needed_and_asked_for_says_what_is_tried() {
        let steps = Needs::new(Files::OwnRoot).with_owners();
        let go = Needs::new(Files::OwnRoot).with_host_folders();
        let either = Needs { files: Files::OwnRootOrHosts, ..go };
        let hosts = Needs::new(Files::Hosts);
        let nothing = IsolationRequest::default();
        let cases = [
            (steps, nothing, "ns-root ns-subuid ns ns-copy in-container proot"),
            (steps.with_own_network(), nothing, "ns-root ns-subuid ns ns-copy"),
            (steps, at_least(Isolation::Ns), "ns-root ns-subuid ns"),
            (steps, only(Isolation::InContainer), "in-container"),
            (go, nothing, "ns-root ns ns-copy proot"),
            (go, only(Isolation::NsSubuid), "ns-subuid"),
            (either, nothing, "ns-root ns ns-copy proot toolchain"),
            (hosts, nothing, "toolchain"),
        ];
        for (needs, request, expected) in cases {
            let found = chooser(request, needs).candidates(IdRange::CanBeEntered).unwrap();
            let found: Vec<_> = found.iter().map(|isolation| isolation.as_str()).collect();
            assert_eq!(found.join(" "), expected, "{needs:?} {request:?}");
        }
        let both =
            IsolationRequest { minimum: Some(Isolation::Ns), ..only(Isolation::InContainer) };
        assert!(chooser(both, steps).candidates(IdRange::CanBeEntered).unwrap().is_empty());
        for (needs, isolation) in [(steps, Isolation::Toolchain), (go, Isolation::InContainer)] {
            let error =
                chooser(only(isolation), needs).candidates(IdRange::CanBeEntered).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        }
    }

    #[test]
    fn one_that_is_weaker_than_the_least_is_refused_when_it_is_asked_for() {
        for (number, isolation) in Isolation::ALL.into_iter().enumerate() {
            for (least_number, least) in Isolation::ALL.into_iter().enumerate() {
                let asked = IsolationRequest::new(Preference::Only(isolation), Some(least));
                assert_eq!(asked.is_ok(), number <= least_number, "{isolation} {least}");
            }
            assert!(IsolationRequest::new(Preference::Auto, Some(isolation)).is_ok());
            assert!(IsolationRequest::new(Preference::Only(isolation), None).is_ok());
        }
        let asked = IsolationRequest::new(Preference::Only(Isolation::Ns), Some(Isolation::NsRoot));
        let error = asked.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        let expected = "cannot use --sandbox ns with --sandbox-min ns-root: ns isolates less than \
                        ns-root; hint: leave one of the two out";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_range_of_ids_is_chosen_only_where_it_can_be_entered() {
        let steps = Needs::new(Files::OwnRoot).with_owners();
        let later =
            chooser(IsolationRequest::default(), steps).candidates(IdRange::IsSettled).unwrap();
        assert_eq!(later.contains(&Isolation::NsSubuid), holds_id_range());
    }

    #[test]
    fn the_reason_is_that_of_what_was_asked_for() {
        let steps = Needs::new(Files::OwnRoot).with_owners();
        let why = |request, needs, working: &[Isolation]| {
            why_not(request, needs, &findings(working)).to_string()
        };
        let plain = IsolationRequest::default();
        let both =
            IsolationRequest { minimum: Some(Isolation::Ns), ..only(Isolation::InContainer) };
        let go = Needs::new(Files::OwnRoot).with_host_folders();
        let cases = [
            (only(Isolation::Ns), steps, &[][..], "use the sandbox ns: no ns; hint: switch it on"),
            (at_least(Isolation::Ns), steps, &[], "use the sandbox ns: no ns; hint: switch it on"),
            (
                both,
                steps,
                &[Isolation::InContainer],
                "use the sandbox in-container: --sandbox-min=ns asks for",
            ),
            (
                plain,
                steps,
                &[Isolation::Toolchain],
                "isolate a process here: no ns; hint: switch it on",
            ),
            (
                plain,
                go,
                &[Isolation::InContainer],
                "isolate a process here: of the sandboxes in-container alone",
            ),
        ];
        for (request, needs, working, expected) in cases {
            let found = why(request, needs, working);
            assert!(found.starts_with(&format!("cannot {expected}")), "{found}");
        }
    }
}
