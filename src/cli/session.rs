//! What a command works with: environment, store, registry client, progress.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::future::Future;
use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::io::Errno;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::args::GlobalArgs;
use super::environment::Environment;
use super::flags::{pair, registry as registries};
use super::limits;
use super::output::{self, About, Fanout, ProgressMode, Timings, View, human};
use super::passing_store::{PassingStore, is_writable};
use crate::cache::{Bounded, keep_within};
use crate::container::Containers;
use crate::disk::stream::{Stdout, hurry};
use crate::error::{Cannot, Error, ErrorKind, Result};
use crate::oci::Platform;
use crate::pipeline::BuildContext;
use crate::progress::Reporter;
use crate::registry::{self, Client, Mirrors};
use crate::sandbox::{Launcher, stdout_was_closed};
use crate::store::{Store, StorePlace};
use crate::transport::{Context, Location};

/// How long after a signal the work has time to notice it.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a build may take longer for the bound of the store.
const BOUND_TIME: Duration = Duration::from_millis(150);
/// How long threads are waited for at the end. When all went well, there are none.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// How many bytes of stack a thread has: folders are walked as deep as a path can be, which is 2,000 levels.
const STACK: usize = 8 << 20;

/// One run of one command.
pub(super) struct Session {
    /// The command, as it is named in errors.
    pub verb: String,
    /// The global options.
    pub global: GlobalArgs,
    /// What the process was given.
    pub environment: Environment,
    /// What shows progress and errors.
    pub view: Arc<dyn View>,
    /// What tells others of progress.
    pub reporter: Reporter,
    /// Why the command has no rights over files of a range of ids, where it needs some.
    pub lacks: Option<Error>,
    timings: Arc<Timings>,
    /// Its lease lasts as long as the handle.
    store: OnceLock<Store>,
    passing: Option<PassingStore>,
}

impl Session {
    pub(super) fn new(
        verb: String,
        global: GlobalArgs,
        environment: Environment,
        passing: Option<PassingStore>,
    ) -> Self {
        let environment = if global.offline { environment.offline() } else { environment };
        let clock = output::clock();
        let mode = if global.quiet { ProgressMode::Quiet } else { global.progress };
        let on_terminal = std::io::stderr().is_terminal();
        let view = output::view(mode, on_terminal, &environment.variables, clock.clone());
        let timings = Arc::new(Timings::new(clock));
        let readers = Fanout::new(vec![view.clone(), timings.clone()]);
        let reporter = Reporter::new(Arc::new(readers));
        let store = OnceLock::new();
        Self { verb, global, environment, view, reporter, lacks: None, timings, store, passing }
    }

    /// Opens the store, and keeps what this run uses from being collected. Where there is none the first that
    /// writes makes it.
    pub(super) fn store(&self) -> Result<Store> {
        if let Some(store) = self.store.get() {
            return Ok(store.clone());
        }
        let store = Store::open_as_it_is(&self.global.store_folder(&self.environment)?)?;
        store.lease_if_writable()?;
        Ok(self.store.get_or_init(|| store).clone())
    }

    /// The store for what only reads, but may have to fetch what it reads: where nothing can be kept, that
    /// goes with the run.
    pub(super) fn reading_store(&self) -> Result<Store> {
        if self.store.get().is_none() {
            let store = Store::open_as_it_is(&self.global.store_folder(&self.environment)?)?;
            if !store.is_writable()? {
                self.leave_store()?;
            }
        }
        self.store()
    }

    /// The containers of the store; where there is none, none are made.
    ///
    /// This begins no lease: what a container needs is kept by its own list, and whoever shows, joins or
    /// keeps one may live for weeks.
    pub(super) fn containers(&self) -> Result<Containers> {
        let store = Store::open_as_it_is(&self.global.store_folder(&self.environment)?)?;
        Ok(Containers::open(store.root()))
    }

    /// Lets everything go that this run used of the store: from now on what it needs is kept without it.
    pub(super) fn end_use_of_store(&self) {
        if let Some(store) = self.store.get() {
            store.end_lease();
        }
    }

    /// Has the command leave the store as it is: what it writes goes with the run. To be called before the
    /// store is opened.
    pub(super) fn leave_store(&self) -> Result<()> {
        let store = Store::over(&self.global.store_folder(&self.environment)?)?;
        self.store.get_or_init(|| store);
        Ok(())
    }

    /// The user's own store, where another takes its place because it cannot be written to.
    pub(super) fn store_to_read(&self) -> Result<Option<Store>> {
        let passing = self.passing.as_ref();
        passing.map(|passing| Store::open_as_it_is(&passing.instead_of)).transpose()
    }

    /// Adds to an error of the system which store it may come from, where that cannot be written to.
    pub(super) fn explain(&self, error: Error) -> Error {
        let Ok(folder) = self.global.store_folder(&self.environment) else { return error };
        let text = error.to_string();
        let is_about_it = text.contains("the store") || text.contains(&*folder.to_string_lossy());
        let is_refusal = error.next_move().is_none()
            && is_about_it
            && self.passing.is_none()
            && error.os_error().map(Errno::from_raw_os_error).is_some_and(|number| {
                [Errno::ACCESS, Errno::NOENT, Errno::PERM, Errno::ROFS].contains(&number)
            });
        match is_refusal {
            true if !is_writable(&folder) => error.hint(format!(
                "the store {} can neither be made nor written to: set GONDOLA_HOME to a folder that can be",
                folder.display()
            )),
            true => error.hint(format!(
                "something in the store {} belongs to another user: set GONDOLA_HOME to a folder of this one's",
                folder.display()
            )),
            false => error,
        }
    }

    /// Says which store takes the place of the user's own.
    pub(super) fn note_passing_store(&self) {
        if let Some(passing) = &self.passing {
            self.reporter.note(format!(
                "the store {} cannot be written to: what this run unpacks goes with it; set GONDOLA_HOME \
                 to a folder that can be",
                passing.instead_of.display()
            ));
        }
    }

    /// How registries are spoken to.
    pub(super) fn registry_options(&self) -> Result<registry::Options> {
        let options = registry::Options::from_environment(&self.environment.variables)?;
        Ok(registry::Options {
            insecure: registries::hosts("--insecure-registry", &self.global.insecure_registry)?,
            jobs: usize::from(self.global.jobs),
            mirrors: Mirrors::replacing(&self.mirrors()?)?.over(options.mirrors),
            offline: self.global.offline,
            reporter: self.reporter.clone(),
            ..options
        })
    }

    /// What `--mirror` says: places by those that they take the place of.
    fn mirrors(&self) -> Result<BTreeMap<String, String>> {
        pair::replacements("--mirror", &self.global.mirror)
    }

    /// Store and client together, as transports take them.
    pub(super) fn transport(&self) -> Result<Context> {
        Ok(Context {
            store: self.store()?,
            client: Client::new(self.registry_options()?)?,
            reporter: self.reporter.clone(),
            host: Platform::host(),
            jobs: usize::from(self.global.jobs),
        })
    }

    /// Removes what is over the bound of the store, for a moment: the next build goes on.
    pub(super) fn keep_store_within(&self, keep: Option<u64>) {
        let Some(keep) = keep.filter(|_| self.passing.is_none()) else { return };
        let began = std::time::Instant::now();
        let is_over = || began.elapsed() >= BOUND_TIME;
        let kept = self.store().and_then(|store| keep_within(&store, keep, &is_over));
        match kept {
            Err(error) => {
                self.reporter.warn(format!("the store may be larger than asked for: {error}"));
            }
            Ok(Bounded { of_others: bytes @ 1.., .. }) => self.reporter.note(format!(
                "the store is larger than asked for: {} of it are files of a range of ids, which \
                 gondola cache prune --keep {keep} removes",
                human::bytes(bytes)
            )),
            Ok(_) => {}
        }
    }

    /// Writes the page that shows what ran when.
    pub(super) fn write_timings(&self, path: &Path) -> Result<()> {
        let began = self.environment.now.duration_since(std::time::UNIX_EPOCH);
        let about = About {
            // Arguments may hold credentials, so only the command is named.
            command: "gondola build".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            began: began.ok().and_then(|time| i64::try_from(time.as_secs()).ok()),
        };
        self.timings.write(&about, path)
    }

    /// All that a build needs.
    pub(super) fn build_context(&self) -> Result<BuildContext> {
        let transport = self.transport()?;
        Ok(BuildContext {
            programs: transport.store.place(StorePlace::Programs),
            transport,
            variables: self.environment.variables.clone(),
            launcher: self.launcher(),
            cores: self.environment.cores,
        })
    }

    /// What starts sandboxes.
    pub(super) fn launcher(&self) -> Launcher {
        if self.store.get().is_some_and(Store::is_over) {
            return Launcher::new(self.environment.get("PATH").unwrap_or_default());
        }
        super::sandbox::remembering_launcher(&self.global, &self.environment)
    }

    /// Waits for work that Ctrl-C and SIGTERM end.
    pub(super) fn wait(&self, work: impl Future<Output = Result<()>>) -> Result<ExitCode> {
        self.finish(until_interrupted(self, work)).map(|()| ExitCode::SUCCESS)
    }

    /// Waits for work that deals with signals itself, on a runtime of its own.
    #[expect(clippy::unused_self, reason = "beside `wait`, where it is looked for")]
    pub(super) fn finish<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let runtime = runtime()?;
        let outcome = runtime.block_on(work);
        // After an interruption, what still writes a file has a moment to take it away.
        runtime.shutdown_timeout(LAST_MOMENT);
        outcome
    }
}

/// Makes the runtime on which everything waits.
fn runtime() -> Result<tokio::runtime::Runtime> {
    limits::check_threads()?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(STACK)
        .enable_all()
        .build()
        .cannot(|| "start the worker threads")
}

/// Runs `work` until it ends, or until Ctrl-C or SIGTERM.
///
/// Dropping the work kills its child processes and removes its temporary files. Work that does not
/// notice, because it waits for a pipe or a disk, is left behind.
pub(super) async fn until_interrupted<T>(
    session: &Session,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    // Before the work begins: until then signals end the program at once.
    let mut own = Interruption::listen()?;
    let noticed = Arc::new(AtomicBool::new(false));
    let _until_then = last_resort(session, noticed.clone())?;
    let interruption = async {
        let name = own.comes().await;
        // Told before the work is dropped, which may take a moment.
        noticed.store(true, Ordering::Relaxed);
        name
    };
    tokio::select! {
        outcome = work => outcome,
        name = interruption => Err(interrupted(&session.verb, name)),
    }
}

/// Has a thread of its own notice signals, until the answer is dropped: all others may wait for whoever
/// reads what this process writes, or for a disk.
fn last_resort(session: &Session, noticed: Arc<AtomicBool>) -> Result<oneshot::Sender<()>> {
    let action = || "listen for signals";
    let runtime = runtime::Builder::new_current_thread().enable_all().build().cannot(action)?;
    let mut interruption = {
        let _context = runtime.enter();
        Interruption::listen()?
    };
    let (until_then, mut is_over) = oneshot::channel();
    let (view, verb) = (session.view.clone(), session.verb.clone());
    let watch = async move {
        let name = tokio::select! {
            name = interruption.comes() => name,
            _ = &mut is_over => return,
        };
        hurry();
        tokio::select! {
            () = tokio::time::sleep(PATIENCE) => {}
            _ = &mut is_over => return,
        }
        if !noticed.load(Ordering::Relaxed) {
            leave(&*view, &interrupted(&verb, name));
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(move || runtime.block_on(watch)).cannot(action)?;
    Ok(until_then)
}

fn interrupted(verb: &str, name: &str) -> Error {
    Error::new(ErrorKind::Interrupted, format!("finish gondola {verb}"))
        .because(format!("{name} came"))
}

/// Ends the process where its main thread does not.
#[expect(clippy::exit, reason = "the main thread waits for what may never come")]
fn leave(view: &dyn View, error: &Error) {
    view.close();
    view.fail(error);
    std::process::exit(super::INTERRUPTED.into());
}

/// The signals that end a run.
struct Interruption([(&'static str, Signal); 3]);

impl Interruption {
    fn listen() -> Result<Self> {
        let listen = |name, kind| {
            let arriving = signal(kind).cannot(|| format!("listen for {name}"))?;
            Ok::<_, Error>((name, arriving))
        };
        Ok(Self([
            listen("Ctrl-C", SignalKind::interrupt())?,
            listen("SIGTERM", SignalKind::terminate())?,
            listen("SIGHUP", SignalKind::hangup())?,
        ]))
    }

    /// Waits for one of them, and gives its name.
    async fn comes(&mut self) -> &'static str {
        let [(first, a), (second, b), (third, c)] = &mut self.0;
        tokio::select! {
            _ = a.recv() => first,
            _ = b.recv() => second,
            _ = c.recv() => third,
        }
    }
}

/// Refuses to write an archive to a terminal, or several into one stream.
pub(super) fn check_streams<'a>(places: impl IntoIterator<Item = &'a Location>) -> Result<()> {
    let streams = places.into_iter().filter(|place| place.is_stream()).count();
    if streams > 1 {
        return Err(Error::new(ErrorKind::Usage, "write several archives to stdout")
            .because("nobody could tell where one ends"));
    }
    if streams == 1 && stdout_was_closed() {
        return Err(
            Error::new(ErrorKind::Usage, "write an archive to stdout").because("it is closed")
        );
    }
    if streams == 1 && std::io::stdout().is_terminal() {
        return Err(Error::new(ErrorKind::Usage, "write an archive to the terminal")
            .because("it is not text")
            .hint("send stdout to a file or a program"));
    }
    Ok(())
}

/// Refuses to begin what takes long, or cannot be taken back, and has a result that nobody would get.
pub(super) fn check_stdout() -> Result<()> {
    if !stdout_was_closed() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Usage, "write the result to stdout")
        .because("it is closed")
        .hint("send it to a file, or to /dev/null"))
}

/// Writes results to stdout, one on a line.
pub(super) fn print_lines<T: Display>(results: impl IntoIterator<Item = T>) -> Result<()> {
    let mut text = String::new();
    for result in results {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{result}");
    }
    print(&text)
}

/// Writes a result to stdout. A reader that went away has read enough.
pub(super) fn print(text: &str) -> Result<()> {
    print_from(&mut text.as_bytes())
}

/// The same of a result that is not all in memory.
pub(super) fn print_from(text: &mut impl std::io::Read) -> Result<()> {
    let mut stdout = Stdout;
    let mut buffer = vec![0; 64 << 10];
    let mut write_all = || {
        loop {
            match text.read(&mut buffer)? {
                0 => return stdout.flush(),
                _ if stdout_was_closed() => return Err(Errno::BADF.into()),
                count => stdout.write_all(&buffer[..count])?,
            }
        }
    };
    match write_all() {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).cannot(|| "write the result to stdout")
        }
        _ => Ok(()),
    }
}
