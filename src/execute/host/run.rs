//! Runs the commands of a step, one after the other, on staged files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::Caches;
use super::command::{Argument, Verb};
use super::line::{NotHere, Refused};
use super::plan::{Plan, Planned};
use super::stage::Stage;
use crate::engine::files::{LastLink, locate};
use crate::engine::{Executed, Guard, Run};
use crate::error::{Cannot as _, Error, ErrorKind, Result};
use crate::execute::Chosen;
use crate::execute::attend::{Ended, attend, failure};
use crate::glob::in_folder;
use crate::layer::TreePath;
use crate::sandbox::{Access, FOR_THE_NETWORK, Network, Root, Spec, Unconfined};
use crate::store::ScratchFolder;

/// The machine's own variables that say where certificates are.
const CERTIFICATES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
/// Marks a package with C code in what go says.
const WITH_C: &str = "gondola: C in ";

/// A step about to be executed.
pub(super) struct Step {
    pub chosen: Chosen,
    pub stage: Stage,
    /// A home for go that goes away.
    pub home: ScratchFolder,
    pub plan: Plan,
    pub caches: Caches,
    pub network: Network,
    /// Whether they run where nothing confines them.
    pub unconfined: Unconfined,
    /// The machine's own variables.
    pub here: BTreeMap<String, String>,
    /// Variables that the step gets unless it has them.
    pub proxies: Vec<(String, String)>,
}

impl Step {
    /// Executes the commands, and gives what they changed.
    pub(super) fn execute(mut self, run: &Run) -> Result<Executed, NotHere> {
        run.cancel.check()?;
        self.fill()?;
        for planned in &self.plan.commands {
            if planned.with_c {
                self.refuse_c(planned, run)?;
            }
            let (spec, task) = (self.spec(planned, self.words(planned)?)?, run.task.clone());
            let Ended { exit, last, .. } =
                attend(&self.chosen, &spec, run, move |line| task.line(line))?;
            if !exit.is_success() {
                return Err(failure("go", &exit, &last).into());
            }
        }
        let tree = self.stage.changes()?;
        let stage: Guard = Arc::new(Mutex::new(self.stage));
        Ok(Executed { tree, guards: vec![stage], ..Executed::default() })
    }

    /// Copies what the commands work on.
    fn fill(&mut self) -> Result<()> {
        let files = self.plan.files.as_ref();
        for folder in &self.plan.sources {
            self.stage.put_whole(files, folder)?;
        }
        for place in &self.plan.places {
            self.stage.put_place(files, place)?;
        }
        // Which modules were seen before is noted there.
        let seen = self.plan.go_path.join("pkg/sumdb")?;
        if files.node(Some(&seen))?.is_some_and(|node| node.entry.is_directory()) {
            self.stage.put_whole(files, &seen)?;
        }
        self.stage.begin()?;
        // Only what is there can be let in: of a cache mount for more than Go's, its part may not be.
        for cache in [&self.caches.build, &self.caches.modules] {
            cache.make()?;
        }
        // What go counts for its makers is nobody's.
        let counts = self.home.path().join(".config/go/telemetry");
        let off = fs_err::create_dir_all(&counts);
        off.and_then(|()| fs_err::write(counts.join("mode"), "off")).cannot(|| "get a step ready")
    }

    /// The arguments of a command, with the paths of this machine.
    fn words(&self, planned: &Planned) -> Result<Vec<String>> {
        let word = |argument: &Argument| match argument {
            Argument::Plain(text) => Ok(text.clone()),
            Argument::Output(prefix, path) => {
                let folder = if path.ends_with('/') { "/" } else { "" };
                Ok(format!("{prefix}{}{folder}", self.staged(path)?))
            }
            Argument::Folder(path) => self.staged(path),
        };
        planned.command.arguments.iter().map(word).collect()
    }

    /// Where a path of the step is on this machine.
    fn staged(&self, path: &str) -> Result<String> {
        let path = in_folder(&self.plan.folder.to_str_lossy(), path);
        let found = locate(self.plan.files.as_ref(), path.as_bytes(), LastLink::Follow)?;
        text(&self.stage.path(found.as_ref()))
    }

    /// Refuses a command with which C code would be compiled.
    fn refuse_c(&self, planned: &Planned, run: &Run) -> Result<(), NotHere> {
        let found: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut words = ["list", "-deps", "-f"].map(str::to_owned).to_vec();
        words.push(format!("{{{{if .CgoFiles}}}}{WITH_C}{{{{.ImportPath}}}}{{{{end}}}}"));
        let is_for_list = |argument: &&Argument| match argument {
            Argument::Plain(flag) => !["-a", "-json", "-v", "-x", "-o"].contains(&flag.as_str()),
            Argument::Output(..) => false,
            Argument::Folder(_) => true,
        };
        for argument in planned.command.arguments[1..].iter().filter(is_for_list) {
            words.push(match argument {
                Argument::Folder(path) => self.staged(path)?,
                Argument::Plain(text) | Argument::Output(_, text) => text.clone(),
            });
        }
        let of = found.clone();
        let say = move |line: &str| {
            if let Some(package) = line.strip_prefix(WITH_C) {
                of.lock().unwrap_or_else(PoisonError::into_inner).push(package.to_owned());
            }
        };
        let Ended { exit, last, .. } = attend(&self.chosen, &self.spec(planned, words)?, run, say)?;
        if !exit.is_success() {
            return Err(failure("go list", &exit, &last).into());
        }
        let found = found.lock().unwrap_or_else(PoisonError::into_inner);
        // That one is there for the sake of others.
        let other = found.iter().find(|package| *package != "runtime/cgo");
        let Some(package) = other.or(found.first()) else { return Ok(()) };
        let why = format!("{package} has C code, whose compiler takes a sandbox");
        Err(Refused::new(why, "ENV CGO_ENABLED=0, or CGO_ENABLED=0 in front of go").into())
    }

    fn spec(&self, planned: &Planned, words: Vec<String>) -> Result<Spec> {
        let go = self.plan.go.1.join("bin/go");
        let words = std::iter::once(text(&go)?).chain(words);
        let mut read: Vec<PathBuf> = vec![self.plan.go.1.clone()];
        if self.network == Network::Host {
            read.extend(FOR_THE_NETWORK.map(PathBuf::from));
            let named = CERTIFICATES.iter().filter_map(|name| self.here.get(*name));
            read.extend(named.flat_map(|list| list.split(':')).map(PathBuf::from));
        }
        // The user's own links lead to the store; in a cache of a step's they are what a step put there.
        let own = [self.stage.path(None), self.home.path().to_owned()];
        let own = own.into_iter().map(fs_err::canonicalize).collect::<std::io::Result<Vec<_>>>();
        let mut write = own.cannot(|| "find the files of a step")?;
        write.extend([self.caches.build.path()?, self.caches.modules.path()?]);
        let mut spec = Spec::new(Root::Host { read, write }, words);
        spec.cwd = text(&self.stage.path(Some(&self.plan.folder)))?;
        spec.env = self.environment(planned)?;
        spec.env.insert("PWD".to_owned(), spec.cwd.clone());
        spec.network = self.network;
        spec.unconfined = self.unconfined;
        spec.attributes = Access::ReadOnly;
        Ok(spec)
    }

    fn environment(&self, planned: &Planned) -> Result<BTreeMap<String, String>> {
        let Self { plan, caches, stage, .. } = self;
        let mut environment: BTreeMap<String, String> = self.proxies.iter().cloned().collect();
        environment.extend(plan.environment.clone());
        environment.extend(planned.command.variables.iter().cloned());
        let staged = |path: &TreePath| text(&stage.path(Some(path)));
        if planned.command.verb == Verb::Compile {
            let with_c = if planned.with_c { "1" } else { "0" };
            environment.insert("CGO_ENABLED".to_owned(), with_c.to_owned());
        }
        for (name, value) in [
            ("GOCACHE", text(&caches.build.path()?)?),
            ("GOENV", "off".to_owned()),
            ("GOMODCACHE", text(&caches.modules.path()?)?),
            ("GOPATH", staged(&plan.go_path)?),
            ("GOROOT", text(&plan.go.1)?),
            // Another one would be fetched and executed.
            ("GOTOOLCHAIN", "local".to_owned()),
            ("HOME", text(self.home.path())?),
            ("PATH", text(&plan.go.1.join("bin"))?),
            ("TMPDIR", staged(&plan.temporary)?),
        ] {
            environment.insert(name.to_owned(), value);
        }
        if let Some(folder) = &plan.programs {
            environment.insert("GOBIN".to_owned(), staged(folder)?);
        }
        for name in CERTIFICATES {
            let value = self.here.get(name).map(|value| (name.to_owned(), value.clone()));
            environment.extend(value);
        }
        Ok(environment)
    }
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, format!("use {} for a step", path.display()))
            .because("the path is not UTF-8")
            .hint("set GONDOLA_HOME to another folder")
    })
}
