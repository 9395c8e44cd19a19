//! Which Go a build uses: this machine's, or that of an image.

use std::path::Path;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::Tools;
use super::flags::BuildFlags;
use super::image::{Images, Need, Unpacked};
use super::lock::LockFile;
use super::request::{ProgramRequest, Settings, ToolchainChoice};
use super::requirement::Modules;
use super::toolchain::Toolchain;
use crate::cache::gocache::GoCache;
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::oci::{Digest, PlatformSet, Reference};
use crate::progress::TaskKind;
use crate::sandbox::{Chooser, Files, Isolation, Needs, Unconfined, can_confine_files};
use crate::transport::{self, Location};

/// The kind of the store's records that say where an image's Go is.
const RECORDS: &str = "toolchain";

/// The image that is used where none is named; `{version}` is what `go.mod` asks for.
const DEFAULT_IMAGE: &str = "golang:{version}";

/// The toolchains of a build, each found once.
#[derive(Default)]
pub struct Toolchains {
    found: Vec<(Wanted, Toolchain)>,
    /// Images whose Go is not here, where nothing is fetched.
    absent: Vec<(Wanted, Location)>,
    /// The caches of those that come from an image.
    go_cache: OnceLock<GoCache>,
}

/// What makes one toolchain another than the next.
#[derive(Clone, PartialEq, Eq)]
struct Wanted {
    choice: ToolchainChoice,
    need: Need,
}

impl Wanted {
    fn new(choice: &ToolchainChoice, flags: &BuildFlags) -> Self {
        Self { choice: choice.clone(), need: Need::of(flags) }
    }
}

/// What is remembered of an unpacked toolchain.
#[derive(Serialize, Deserialize)]
struct Record {
    image: Digest,
    folder: String,
}

impl Toolchains {
    /// Finds what the targets are compiled with.
    pub async fn find_for_targets(
        &mut self,
        tools: &Tools,
        request: &ProgramRequest,
    ) -> Result<()> {
        let compiled = request.programs.targets.iter().filter(|target| target.prebuilt.is_empty());
        self.find(tools, request, compiled.map(|target| &target.settings)).await
    }

    /// Finds what is not known yet of what these settings are compiled with.
    pub async fn find(
        &mut self,
        tools: &Tools,
        request: &ProgramRequest,
        settings: impl Iterator<Item = &Settings>,
    ) -> Result<()> {
        for settings in settings {
            let wanted = Wanted::new(&settings.toolchain, &settings.go);
            let is_known = self.found.iter().any(|(known, _)| *known == wanted)
                || self.absent.iter().any(|(known, _)| *known == wanted);
            if is_known {
                continue;
            }
            let (need, absent) = (wanted.need, OnceLock::new());
            let search = Search { tools, request, need, go_cache: &self.go_cache, absent };
            match (search.find(&wanted.choice).await, search.absent.into_inner()) {
                (Ok(found), _) => self.found.push((wanted, found)),
                (Err(_), Some(place)) => self.absent.push((wanted, place)),
                (Err(error), None) => return Err(error),
            }
        }
        Ok(())
    }

    /// The image whose Go is wanted and is not here.
    pub fn absent(&self, settings: &Settings) -> Option<&Location> {
        let wanted = Wanted::new(&settings.toolchain, &settings.go);
        self.absent.iter().find(|(known, _)| *known == wanted).map(|(_, place)| place)
    }

    /// The images whose Go is wanted and is not here.
    pub fn all_absent(&self) -> impl Iterator<Item = &Location> {
        self.absent.iter().map(|(_, place)| place)
    }

    /// The first that was found.
    pub fn first(&self) -> Option<&Toolchain> {
        self.found.first().map(|(_, toolchain)| toolchain)
    }

    /// Has those of this machine write below a folder, and nowhere else.
    pub fn write_below(&mut self, folder: &Path) -> Result<()> {
        for (_, toolchain) in &mut self.found {
            *toolchain = toolchain.clone().writing_below(folder)?;
        }
        Ok(())
    }

    /// A toolchain that was found.
    pub fn get(&self, choice: &ToolchainChoice, flags: &BuildFlags) -> &Toolchain {
        let wanted = Wanted::new(choice, flags);
        let found = self.found.iter().find(|(known, _)| *known == wanted);
        &found.expect("all toolchains were found before the first is asked for").1
    }
}

struct Search<'a> {
    tools: &'a Tools,
    request: &'a ProgramRequest,
    need: Need,
    go_cache: &'a OnceLock<GoCache>,
    /// The image that would have to be fetched, where nothing is.
    absent: OnceLock<Location>,
}

impl Search<'_> {
    async fn find(&self, choice: &ToolchainChoice) -> Result<Toolchain> {
        let (variables, folder) = (&self.tools.variables, &self.request.programs.folder);
        match choice {
            ToolchainChoice::Host | ToolchainChoice::Program(_)
                if self.request.isolation.asks_for_root() =>
            {
                Err(Error::new(ErrorKind::Usage, "build in a sandbox with the Go of this machine")
                    .because("a sandbox is the root file system of an image")
                    .hint("name an image: --go golang:VERSION"))
            }
            ToolchainChoice::Host | ToolchainChoice::Program(_)
                if !self.request.caches.are_shared =>
            {
                let action = "build without shared caches with the Go of this machine";
                Err(Error::new(ErrorKind::Usage, action)
                    .because("its caches are those of all builds of this user")
                    .hint("name an image: --go golang:VERSION"))
            }
            ToolchainChoice::Host => Toolchain::find(variables, folder),
            ToolchainChoice::Program(program) => Toolchain::at(program, variables, folder),
            ToolchainChoice::Image(place) => self.of_image(place, &self.modules()?).await,
            ToolchainChoice::Auto { image } => {
                self.choose(image.as_deref().unwrap_or(DEFAULT_IMAGE)).await
            }
        }
    }

    /// The modules of all that is compiled.
    fn modules(&self) -> Result<Modules> {
        let targets =
            self.request.programs.targets.iter().filter(|target| target.prebuilt.is_empty());
        let patterns: Vec<String> = targets.flat_map(|t| t.patterns.iter().cloned()).collect();
        let workspace = self.tools.variables.get("GOWORK").map(String::as_str);
        let workspace = workspace.filter(|value| !value.is_empty());
        Modules::of(&self.request.programs.folder, &patterns, workspace)
    }

    /// This machine's Go where it will do, else an image's.
    async fn choose(&self, image: &str) -> Result<Toolchain> {
        let modules = self.modules()?;
        let (host, why) =
            match Toolchain::find(&self.tools.variables, &self.request.programs.folder) {
                Ok(host) if self.request.isolation.asks_for_root() => {
                    (Some(host), "a sandbox needs an image".to_owned())
                }
                Ok(host) if !self.request.caches.are_shared => {
                    (Some(host), "the caches of the Go here are shared".to_owned())
                }
                Ok(host) => match &modules.requirement {
                    Some(needed) if !needed.is_met_by(host.version()) => {
                        let (here, file, version) = (host.version(), needed.file, &needed.version);
                        let why = format!("{here} is here, and {file} asks for go {version}");
                        (Some(host), why)
                    }
                    _ => return Ok(host),
                },
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    (None, "there is no go on PATH".to_owned())
                }
                Err(error) => return Err(error),
            };
        let version = modules.requirement.as_ref().map(|needed| needed.version.to_string());
        let version = version.unwrap_or_else(|| "latest".to_owned());
        let place: Location = image.replace("{version}", &version).parse()?;
        let place = place.in_folder(&self.request.programs.folder);
        self.tools.transport.reporter.note(format!("using Go of {}: {why}", display_name(&place)));
        let found = self.of_image(&place, &modules).await;
        found.map_err(|error| {
            let hint = if host.is_some() { "a newer Go" } else { "Go" };
            Error::new(error.kind(), format!("use Go of {}, as {why}", display_name(&place)))
                .hint(format!("install {hint} from https://go.dev/dl/, or name an image by --go"))
                .caused_by(error)
        })
    }

    async fn of_image(&self, place: &Location, modules: &Modules) -> Result<Toolchain> {
        let images = self.images()?;
        let isolation = self.isolation(place)?;
        let is_offline = self.tools.transport.client.is_offline();
        if is_offline {
            // Until it is found.
            let _ = self.absent.set(place.clone());
        }
        let pinned = self.pinned(place, modules).await?;
        let found = self.of_pinned(&pinned.place, &images, isolation).await?;
        // Only now: an image that is of no use leaves no trace.
        if let Some(lock) =
            pinned.unwritten.as_ref().filter(|_| !self.request.is_dry_run && !is_offline)
        {
            self.keep(lock, &pinned.place);
        }
        Ok(found)
    }

    async fn of_pinned(
        &self,
        place: &Location,
        images: &Images,
        isolation: Option<Isolation>,
    ) -> Result<Toolchain> {
        let key = place.reference().and_then(Reference::digest).filter(|_| isolation.is_none());
        let key = key.map(|digest| format!("{digest} {}", self.tools.transport.host));
        if let Some(key) = &key
            && let Some(found) = self.remembered(images, key)?
        {
            return Ok(found);
        }
        if self.request.is_dry_run {
            let _ = self.absent.set(place.clone());
            return Err(Error::new(ErrorKind::NotFound, format!("use Go of {place}"))
                .because("it was not fetched yet"));
        }
        let platform = PlatformSet::Listed(vec![self.tools.transport.host.clone()]);
        let artifact = transport::read(place, &platform, &self.tools.transport).await?;
        let image = artifact.as_image().ok_or_else(|| {
            Error::new(ErrorKind::Invalid, format!("take Go out of {place}"))
                .because("it is no image")
        })?;
        if let Some(isolation) = isolation {
            return images.enter(image, &display_name(place), (isolation, self.need)).await;
        }
        let (Unpacked { image, folder }, toolchain) =
            images.unpack(image, &display_name(place)).await?;
        if let Some(key) = key {
            // Without it the next build reads the image's documents once more.
            let record = Record { image, folder };
            let _ = self.tools.transport.store.put_record(RECORDS, &key, &record);
        }
        Ok(toolchain)
    }

    /// The sandbox for builds in the image's root file system; none for its Go alone, confined.
    fn isolation(&self, place: &Location) -> Result<Option<Isolation>> {
        let request = self.request.isolation;
        let is_bound = request.unconfined() == Unconfined::Accepted || can_confine_files();
        let files = match (self.need, request.asks_for_root()) {
            // An image's Go is somebody else's program: nothing less confines it here.
            (Need::Go, _) if !is_bound => Files::OwnRoot,
            (Need::Go, false) => Files::Hosts,
            (Need::Go, true) => Files::OwnRootOrHosts,
            (Need::Everything, _) => Files::OwnRoot,
        };
        let chooser = Chooser {
            launcher: self.tools.launcher.clone(),
            folder: self.tools.transport.store.root().to_owned(),
            request,
            needs: Needs::new(files).with_host_folders(),
            decided: None,
        };
        let with = match self.need {
            Need::Go if !is_bound => ", as this kernel has no Landlock to confine its Go by",
            Need::Go => "",
            Need::Everything => ", with its C compiler and git",
        };
        let isolation =
            chooser.choose().cannot(|| format!("build inside {}{with}", display_name(place)))?;
        if isolation == Isolation::Toolchain && files == Files::OwnRootOrHosts {
            self.tools.transport.reporter.note(chooser.probe()?.summary());
        }
        Ok((isolation != Isolation::Toolchain).then_some(isolation))
    }

    fn remembered(&self, images: &Images, key: &str) -> Result<Option<Toolchain>> {
        let Some(record) = self.tools.transport.store.get_record::<Record>(RECORDS, key) else {
            return Ok(None);
        };
        images.unpacked(&Unpacked { image: record.image, folder: record.folder })
    }

    fn images(&self) -> Result<Images> {
        let variables = self.tools.variables.clone();
        let go_cache = if let Some(known) = self.go_cache.get() {
            known
        } else {
            let made = GoCache::of_scope(&self.tools.transport.store, &self.request.scope)?;
            self.go_cache.get_or_init(|| made)
        };
        Ok(Images {
            context: self.tools.transport.clone(),
            go_cache: go_cache.clone(),
            variables,
            launcher: self.tools.launcher.clone(),
            unconfined: self.request.isolation.unconfined(),
            cores: self.tools.cores,
        })
    }

    /// The place with the digest that its tag stands for, as the lock file has it or else as the
    /// registry says.
    async fn pinned(&self, place: &Location, modules: &Modules) -> Result<Pinned> {
        let as_it_is = |place: &Location| Pinned { place: place.clone(), unwritten: None };
        let Location::Registry(name) = place else { return Ok(as_it_is(place)) };
        if name.digest().is_some() {
            return Ok(as_it_is(place));
        }
        let mut lock = LockFile::read(&modules.folder)?;
        if let Some(digest) = lock.get(name).filter(|_| !self.request.caches.pull) {
            return Ok(as_it_is(&Location::Registry(name.with_digest(digest.clone()))));
        }
        let digest = self.look_up(name).await?;
        let place = Location::Registry(name.with_digest(digest.clone()));
        if lock.get(name) == Some(&digest) {
            return Ok(as_it_is(&place));
        }
        lock.set(name, digest);
        Ok(Pinned { place, unwritten: Some(lock) })
    }

    /// Asks the registry what a tag stands for, and keeps the document that it names.
    async fn look_up(&self, name: &Reference) -> Result<Digest> {
        let transport = &self.tools.transport;
        if transport.client.is_offline()
            && let Some(known) = transport::known_tag(name, transport)?
        {
            return Ok(known.digest);
        }
        let task = transport.reporter.start(TaskKind::Resolve, name.familiar(), None);
        let pulled = transport.client.manifest(name).await?;
        transport.store.put(&pulled.bytes).cannot(|| format!("keep the manifest of {name}"))?;
        task.done();
        Ok(pulled.descriptor.digest)
    }

    /// Writes the lock file. Where that is not possible the build goes on: its sources may be
    /// somebody else's, or read-only.
    fn keep(&self, lock: &LockFile, pinned: &Location) {
        let reporter = &self.tools.transport.reporter;
        match lock.write() {
            Ok(()) => reporter.note(format!("{} has {}", lock.display(), display_name(pinned))),
            Err(error) => reporter.warn(format!("{error}; the next build may use another image")),
        }
    }
}

/// A place whose tag, if it has one, has a digest.
struct Pinned {
    place: Location,
    /// The lock file that is to have it from now on.
    unwritten: Option<LockFile>,
}

/// A place as people write it.
pub fn display_name(place: &Location) -> String {
    match place {
        Location::Registry(name) => name.familiar(),
        other => other.to_string(),
    }
}
