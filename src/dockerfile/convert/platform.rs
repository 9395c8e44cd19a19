//! One platform's build: its variables, its graph, its bases, and its image at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

use super::failure::Failure;
use super::job::{ImagePlatform, Job, NamedContext, Tools};
use super::planned::PlannedStep;
use super::variables::BaseVariables;
use super::{Common, base, layers};
use crate::dockerfile::diagnostic::Diagnostics;
use crate::dockerfile::instruction::{Instruction, Kind};
use crate::dockerfile::source::Span;
use crate::dockerfile::{Diagnostic, Globals, Graph, Inputs, Origin, Scope};
use crate::engine::files::{Files, TreeFiles};
use crate::engine::materials::BaseImage;
use crate::engine::op::Input;
use crate::engine::{Provider, Snapshot};
use crate::error::{Error, Result, nearest};
use crate::image::Image;
use crate::oci::{ImageConfig, Platform, Reference};
use crate::transport::Location;

/// What a stage begins with.
#[derive(Clone)]
pub(super) enum Base {
    Scratch,
    Stage(usize),
    Image(Arc<Image>),
    Files(Input, Arc<dyn Files>),
}

/// What a stage is when all of it was executed.
pub(super) struct StageEnd {
    pub snapshot: Snapshot,
    pub scope: Scope,
    pub config: ImageConfig,
}

/// Executes a stage whole.
pub(super) type RunStage =
    for<'a> fn(&'a PlatformBuild<'a>, usize) -> BoxFuture<'a, Result<StageEnd>>;

/// The build of one platform.
pub(super) struct PlatformBuild<'a> {
    pub common: &'a Common,
    run: RunStage,
    pub inputs: Inputs,
    pub globals: Globals,
    pub graph: Graph,
    pub target: usize,
    /// Other stages that are built.
    also: Vec<usize>,
    needed: Vec<usize>,
    bases: BTreeMap<usize, Base>,
    ends: Vec<OnceCell<Option<Arc<StageEnd>>>>,
    /// How many programs of each stage have their results.
    programs_done: Vec<AtomicUsize>,
    /// The steps of stages that were planned, and not executed.
    planned: Mutex<BTreeMap<usize, Vec<PlannedStep>>>,
}

/// What the command line gives to a build for one platform.
pub(super) fn inputs(tools: &Tools, job: &Job, platform: &Platform) -> Inputs {
    Inputs {
        arguments: job.recipe.arguments.clone(),
        build: tools.host().clone(),
        target: platform.clone(),
        stage: job.recipe.target.clone(),
    }
}

impl<'a> PlatformBuild<'a> {
    /// Finds out what is needed, as far as the file says it.
    pub(super) fn begin(common: &'a Common, platform: &Platform, run: RunStage) -> Result<Self> {
        let (job, file) = (&common.job, &common.file);
        let inputs = inputs(&common.tools, job, platform);
        let globals = Globals::evaluate(file, &inputs).map_err(Diagnostics::into_error)?;
        let names: BTreeSet<String> = job.recipe.contexts.keys().cloned().collect();
        let graph = Graph::build(file, &globals, &inputs, &names);
        let graph = graph.map_err(Diagnostics::into_error)?;
        let target = graph.target(job.recipe.target.as_deref())?;
        let also = job.recipe.also.iter().map(|name| graph.target(Some(name)));
        let also = also.collect::<Result<_>>()?;
        for name in job.cache.off_in.iter().filter(|name| !name.is_empty()) {
            let option = "--no-cache-filter";
            graph.named(name, option, &format!("use {option} {name}"))?;
        }
        let ends = file.stages.iter().map(|_| OnceCell::new()).collect();
        Ok(Self {
            common,
            run,
            inputs,
            globals,
            graph,
            target,
            also,
            needed: Vec::new(),
            bases: BTreeMap::new(),
            ends,
            programs_done: file.stages.iter().map(|_| AtomicUsize::new(0)).collect(),
            planned: Mutex::default(),
        })
    }

    /// Looks up the bases of all stages that are needed; their triggers may need more.
    pub(super) async fn find_bases(&mut self) -> Result<()> {
        loop {
            // Those below stand above in the file.
            let needed: Vec<usize> = self.all_needed()?.into_iter().collect();
            let new: Vec<usize> =
                needed.iter().copied().filter(|stage| !self.bases.contains_key(stage)).collect();
            self.needed = needed;
            if new.is_empty() {
                return Ok(());
            }
            let found = new.iter().map(|&stage| self.find_base(stage));
            let found = futures_util::future::try_join_all(found).await?;
            for (stage, base) in new.into_iter().zip(found) {
                if let Base::Image(image) = &base
                    && !self.graph.nodes()[stage].replaced
                {
                    let triggers = base::triggers(image)?;
                    let from = self.common.file.stages[stage].from.base.span;
                    self.graph.add_triggers(stage, from, triggers);
                }
                self.bases.insert(stage, base);
            }
        }
    }

    /// The stages that are needed, as far as it is known: triggers of bases may need more.
    pub(super) fn all_needed(&self) -> Result<BTreeSet<usize>> {
        let mut needed = BTreeSet::new();
        for &target in [&self.target].into_iter().chain(&self.also) {
            needed.extend(self.graph.needed(target).map_err(Diagnostics::into_error)?);
        }
        Ok(needed)
    }

    /// The variables that a stage has from its base, as far as that was looked up.
    pub(super) fn environment_of(&self, stage: usize) -> Vec<String> {
        match self.bases.get(&stage) {
            Some(Base::Image(image)) => image.config.value().config.env.clone(),
            _ => Vec::new(),
        }
    }

    async fn find_base(&self, stage: usize) -> Result<Base> {
        let node = &self.graph.nodes()[stage];
        let platform = self.platform_of(stage);
        let from = &self.common.file.stages[stage].from;
        let given = self.globals.given_in(&from.base.text);
        let written = (!given.is_empty()).then_some(from.base.text.as_str());
        let here = |error: Error| {
            let told = self.unreachable(stage, &from.base.text, from.base.span, &error);
            self.common.at(told.masked(&given), error.kind())
        };
        match &node.base {
            Origin::Scratch => Ok(Base::Scratch),
            Origin::Stage(below) => Ok(Base::Stage(*below)),
            Origin::Image(_) | Origin::Context(_) => {
                match self.outside(&node.base, written, &platform).await.map_err(here)? {
                    Outside::Image(image) => Ok(Base::Image(image)),
                    Outside::Files(input, files) => Ok(Base::Files(input, files)),
                }
            }
        }
    }

    /// What comes from outside of the file; `written` is shown instead of an image's name that is made
    /// of values from the command line.
    async fn outside(
        &self,
        origin: &Origin,
        written: Option<&str>,
        platform: &Platform,
    ) -> Result<Outside> {
        let found = self.find_outside(origin, written, platform).await?;
        if let Outside::Image(image) = &found {
            let place = match origin {
                Origin::Context(name) => self.common.job.recipe.contexts.get(name),
                _ => None,
            };
            let name = match (origin, place) {
                (Origin::Image(name), _)
                | (_, Some(NamedContext::Image(Location::Registry(name)))) => Some(name),
                _ => None,
            };
            let (name, digest) = (name.map(Reference::familiar), image.manifest.digest().clone());
            self.common.solver.note_base(BaseImage { name, digest });
        }
        Ok(found)
    }

    async fn find_outside(
        &self,
        origin: &Origin,
        written: Option<&str>,
        platform: &Platform,
    ) -> Result<Outside> {
        let (tools, job) = (&self.common.tools, &self.common.job);
        let name = match origin {
            Origin::Image(name) => {
                let shown = written.map_or_else(|| name.to_string(), str::to_owned);
                let found = base::find(tools, job, (name, &shown), platform).await;
                return found.map(Outside::Image);
            }
            Origin::Context(name) => name,
            Origin::Scratch | Origin::Stage(_) => return Ok(Outside::empty("nothing")),
        };
        match (job.recipe.contexts.get(name), self.common.contexts.get(name)) {
            (Some(NamedContext::Image(place)), _) => {
                base::read_place(tools, job, place, platform).await.map(Outside::Image)
            }
            (_, Some(opened)) => Ok(Outside::Files(local(name), opened.files.clone())),
            _ => Ok(Outside::empty(name)),
        }
    }

    /// The variables that stages have from their bases.
    pub(super) fn base_variables(&self) -> BaseVariables {
        let mut known = BaseVariables::default();
        for (&stage, base) in &self.bases {
            let origin = &self.graph.nodes()[stage].base;
            match base {
                Base::Image(image) => known.add_image(origin, image, &self.inputs),
                Base::Files(..) => known.add_files(origin),
                Base::Scratch | Base::Stage(_) => {}
            }
        }
        known
    }

    /// What the bases of all stages want to be executed first.
    pub(super) fn triggers(&self) -> impl Iterator<Item = &Instruction> {
        self.graph.nodes().iter().flat_map(|node| &node.triggers)
    }

    /// Where a stage's base comes from.
    pub(super) fn base(&self, stage: usize) -> Base {
        self.bases.get(&stage).cloned().unwrap_or(Base::Scratch)
    }

    /// The platform that a stage's base is wanted for.
    pub(super) fn platform_of(&self, stage: usize) -> Platform {
        let node = &self.graph.nodes()[stage];
        match (&node.platform, &node.base) {
            (Some(platform), _) => platform.clone(),
            (None, Origin::Stage(below)) => self.platform_of(*below),
            (None, _) => self.inputs.target.clone(),
        }
    }

    /// The files that `--from` or a mount's `from` names, for a stage.
    pub(super) async fn provider(
        &self,
        stage: usize,
        from: Option<(&str, Span)>,
    ) -> Result<(Input, Provider), Failure> {
        let of_snapshot = |of: Snapshot| (Input::Snapshot(of.key.clone()), Provider::Snapshot(of));
        let Some((name, span)) = from else {
            let files = self.common.context.files.clone();
            return Ok((local("context"), Provider::Folder(files)));
        };
        match self.graph.from(stage, name, span)? {
            Origin::Scratch => Ok(of_snapshot(Snapshot::scratch())),
            Origin::Stage(other) => {
                let end = self.stage(other).await.map_err(Failure::Told)?;
                Ok(of_snapshot(end.snapshot.clone()))
            }
            origin => match self.outside(&origin, None, &self.platform_of(stage)).await {
                Ok(Outside::Image(image)) => Ok(of_snapshot(Snapshot::of_image(image))),
                Ok(Outside::Files(input, files)) => Ok((input, Provider::Folder(files))),
                Err(error) => {
                    let told = self.unreachable(stage, name, span, &error);
                    Err(Failure::Here(told, error.kind()))
                }
            },
        }
    }

    /// What is said of an image that is not to be had: its name may be a stage's, mistyped.
    fn unreachable(&self, stage: usize, name: &str, span: Span, error: &Error) -> Diagnostic {
        let told = Diagnostic::of_error(span, error);
        let above = self.graph.nodes()[..stage].iter().filter_map(|node| node.name.as_deref());
        match nearest(name, above) {
            Some(near) => told.label(format!("did you mean the stage {near}?")),
            None => told,
        }
    }

    /// The stages that are needed, those below first.
    pub(super) fn needed(&self) -> &[usize] {
        &self.needed
    }

    /// Takes note of a step that was planned.
    pub(super) fn note(&self, stage: usize, step: PlannedStep) {
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        planned.entry(stage).or_default().push(step);
    }

    /// The steps of a stage that were planned.
    pub(super) fn planned(&self, stage: usize) -> Vec<PlannedStep> {
        let planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        planned.get(&stage).cloned().unwrap_or_default()
    }

    /// Executes the stages that are needed, and makes the target's image.
    pub(super) async fn execute(&self) -> Result<Image> {
        if self.common.job.is_kept_here
            && let Some(base) = self.target_base()
        {
            self.common.solver.executor().store_layers_of(&base);
        }
        for base in self.bases_of_programs() {
            self.common.solver.executor().expect_programs_on(&base);
        }
        let stages = self.needed.iter().map(|&stage| self.stage(stage));
        tokio::select! {
            executed = futures_util::future::try_join_all(stages) => drop(executed?),
            () = self.fetch_bases() => {}
        }
        let end = self.stage(self.target).await?;
        self.finish(&end).await
    }

    /// The bases that programs are executed on from here on.
    fn bases_of_programs(&self) -> Vec<Snapshot> {
        let runs = |stage: &&usize| self.programs_follow(**stage);
        let bases = self.needed.iter().filter(runs).filter_map(|&stage| match self.base(stage) {
            Base::Image(image) => Some(Snapshot::of_image(image)),
            _ => None,
        });
        bases.collect()
    }

    /// Takes note that a program of a stage has its result.
    pub(super) fn note_program(&self, stage: usize) {
        self.programs_done[stage].fetch_add(1, Ordering::Relaxed);
    }

    /// Whether programs are executed on the files of a stage from here on, in it or in those that stand on it.
    pub(super) fn programs_follow(&self, stage: usize) -> bool {
        self.programs_left(stage) > 0 || self.runs_above(stage)
    }

    /// How many programs a stage executes from here on.
    fn programs_left(&self, stage: usize) -> usize {
        let done = self.programs_done[stage].load(Ordering::Relaxed);
        self.programs_in(stage).saturating_sub(done)
    }

    /// How many programs a stage executes.
    fn programs_in(&self, stage: usize) -> usize {
        let node = &self.graph.nodes()[stage];
        if node.replaced {
            return 0;
        }
        let all = node.triggers.iter().chain(&self.common.file.stages[stage].instructions);
        all.filter(|instruction| matches!(instruction.kind, Kind::Run(_))).count()
    }

    /// Whether a stage that is needed and stands on this one executes a program.
    fn runs_above(&self, stage: usize) -> bool {
        let nodes = self.graph.nodes();
        let stands_on = |mut at: usize| {
            while let Origin::Stage(below) = nodes[at].base {
                if below == stage {
                    return true;
                }
                at = below;
            }
            false
        };
        self.needed.iter().any(|&above| stands_on(above) && self.programs_left(above) > 0)
    }

    /// Unpacks the bases of all stages that execute programs while the first steps are executed. Never ends: a stage that needs
    /// a base reports its failure.
    async fn fetch_bases(&self) {
        let solver = &self.common.solver;
        solver.until_begun().await;
        if let Some(step) = self.foreign_step() {
            self.common.tools.transport.reporter.note(step);
        }
        let bases = self.bases_of_programs();
        let unpacking = bases.iter().map(|base| solver.executor().warm_up(base));
        futures_util::future::join_all(unpacking).await;
        std::future::pending::<()>().await;
    }

    /// The image below the target, through all stages.
    fn target_base(&self) -> Option<Arc<Image>> {
        let mut at = self.target;
        loop {
            match self.base(at) {
                Base::Stage(below) => at = below,
                Base::Image(image) => return Some(image),
                Base::Scratch | Base::Files(..) => return None,
            }
        }
    }

    /// The end of a stage; it is executed by the first who asks.
    pub(super) async fn stage(&self, stage: usize) -> Result<Arc<StageEnd>> {
        let mut failure = None;
        let end = self.ends[stage].get_or_init(|| async {
            match (self.run)(self, stage).await {
                Ok(end) => Some(Arc::new(end)),
                Err(error) => {
                    failure = Some(error);
                    None
                }
            }
        });
        let end = end.await.clone();
        match (end, failure) {
            (Some(end), _) => Ok(end),
            (None, Some(error)) => Err(error),
            // The task that executed it reports the failure, and that ends the build.
            (None, None) => std::future::pending().await,
        }
    }

    /// Puts the image together.
    async fn finish(&self, end: &StageEnd) -> Result<Image> {
        let mut config = end.config.clone();
        let choice = &self.common.job.recipe.layers;
        let snapshot =
            layers::chosen(&self.common.solver, &end.snapshot, (choice, &mut config.history));
        let mut draft = self.common.solver.draft(&snapshot.await?).await?;
        if let Some(family) = &self.common.job.recipe.manifest_format {
            draft = draft.in_family(family.clone())?;
        }
        let diff_ids = std::mem::take(&mut draft.config().rootfs.diff_ids);
        let asked = match self.common.job.image_platform {
            ImagePlatform::OfBase => None,
            ImagePlatform::AsRequested => Some(&self.inputs.target),
        };
        config.platform = platform_of_result(&config.platform, asked);
        config.config.labels.extend(self.common.job.labels.clone());
        config.rootfs.diff_ids = diff_ids;
        let last = config.history.iter().rev().find_map(|entry| entry.created.clone());
        config.created = Some(match self.common.job.recipe.epoch {
            Some(_) => self.common.job.created(),
            None => last.unwrap_or_else(|| self.common.job.created()),
        });
        *draft.config() = config;
        for (name, value) in &self.common.job.annotations {
            draft.annotate(name, value);
        }
        Ok(draft.finish())
    }
}

/// The platform that an image is said to be for: its own, unless one was asked for. As in BuildKit,
/// that holds then, whatever its last stage is based on.
fn platform_of_result(own: &Platform, asked: Option<&Platform>) -> Platform {
    let own = own.normalized();
    let Some(target) = asked.map(Platform::normalized) else { return own };
    let is_same = own.os == target.os && own.architecture == target.architecture;
    let or_own = |asked: &Option<String>, own: &Option<String>| match asked {
        None if is_same => own.clone(),
        asked => asked.clone(),
    };
    Platform {
        variant: or_own(&target.variant, &own.variant),
        os_version: or_own(&target.os_version, &own.os_version),
        os: target.os,
        architecture: target.architecture,
        os_features: own.os_features,
    }
}

/// What comes from outside of the file.
enum Outside {
    Image(Arc<Image>),
    Files(Input, Arc<dyn Files>),
}

impl Outside {
    fn empty(name: &str) -> Self {
        Self::Files(local(name), Arc::new(TreeFiles::default()))
    }
}

/// What ops call a folder of whoever builds.
fn local(name: &str) -> Input {
    Input::Local(format!("local:{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_for_what_was_asked_for_and_says_so_as_buildkit_does() {
        for (own, asked, expected) in [
            ("linux/arm64/v8", "linux/arm64", "linux/arm64"),
            ("linux/amd64", "linux/arm64", "linux/arm64"),
            ("linux/arm/v6", "linux/arm", "linux/arm/v7"),
            ("linux/arm", "linux/arm/v6", "linux/arm/v6"),
            ("linux/amd64/v2", "linux/amd64", "linux/amd64/v2"),
            ("linux/amd64/v1", "linux/amd64", "linux/amd64"),
            ("linux/s390x", "linux/amd64", "linux/amd64"),
            ("linux/s390x", "", "linux/s390x"),
            ("linux/arm64/v8", "", "linux/arm64"),
            ("windows/amd64:10.0.1", "linux/arm64", "linux/arm64"),
        ] {
            let own: Platform = own.parse().unwrap();
            let wanted: Option<Platform> = asked.parse().ok();
            let found = platform_of_result(&own, wanted.as_ref());
            assert_eq!(found.to_string(), expected, "{own} for {asked:?}");
        }
    }
}
