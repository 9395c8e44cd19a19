//! One image for one platform: its base, its layers, its configuration.

use std::path::PathBuf;

use super::base::{Base, static_draft};
use super::{BuildContext, Packaging, Settings};
use crate::engine::{Packer, Reuse};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Draft, Image, Layer, static_base};
use crate::layer::{Content, Entry, Tree};
use crate::oci::{History, Platform};

/// The folder of an image that binaries are put into.
const BINARY_FOLDER: &str = "usr/local/bin";

/// Folders in which everybody may write.
const SHARED_FOLDERS: [&str; 2] = ["tmp", "var/tmp"];

/// What a shell and most programs look through when an image sets no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How often a layer is made again because a file changed.
const REPEATS: usize = 2;

/// A compiled program, and the name it gets in the image.
#[derive(Clone, Debug)]
pub(super) struct Binary {
    /// The file name in the image.
    pub name: String,
    /// What it was made from, for the history: an import path or `prebuilt`.
    pub origin: String,
    /// The file on this machine.
    pub path: PathBuf,
}

/// Everything that one image is made of.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub name: String,
    pub platform: Platform,
    pub base: Base,
    pub binaries: Vec<Binary>,
    pub settings: Settings,
    /// Annotations that say where the source came from.
    pub origin: Vec<(String, String)>,
    /// Seconds since 1970.
    pub created: i64,
    pub folder: PathBuf,
    /// Whether a layer that was made of an equal tree may be used again.
    pub use_cache: bool,
}

/// Puts one image together. Blocks: layers are compressed here.
pub(super) fn assemble(context: &BuildContext, parts: &Parts) -> Result<Image> {
    let mut draft = parts.base.draft(&parts.platform, || {
        let tree = static_base::tree(parts.created);
        let mut draft = static_draft(&parts.platform)?;
        let layer = store_layer(context, parts, "static base", tree)?;
        draft.push_layer(layer, history(parts, "static base", "certificates, time zones, users"));
        Ok(draft)
    })?;
    let assets = &parts.settings.image.assets;
    if !assets.is_empty() {
        let name = format!("{} files", parts.name);
        let layer = settled_layer(context, parts, &name, || asset_tree(parts))?;
        let targets: Vec<&str> = assets.iter().map(|asset| asset.target.as_str()).collect();
        draft.push_layer(layer, history(parts, "added files", &targets.join(" ")));
    }
    let name = format!("{} {}", parts.name, parts.platform);
    let layer = settled_layer(context, parts, &name, || binary_tree(parts))?;
    let origins: Vec<&str> = parts.binaries.iter().map(|b| b.origin.as_str()).collect();
    draft.push_layer(
        layer,
        history(parts, &origins.join(" "), &format!("on {}", parts.base.name())),
    );
    configure(&mut draft, parts)?;
    Ok(draft.finish())
}

/// The files that are added, without the folders that are the base's affair.
fn asset_tree(parts: &Parts) -> Result<Tree> {
    let mut added = Tree::new();
    for asset in &parts.settings.image.assets {
        asset.add_to(&mut added, &parts.folder, parts.created)?;
    }
    let mut tree = Tree::new();
    for (path, entry) in &added {
        let name = path.to_str_lossy();
        check_place(&name, &entry, parts)?;
        let mut entry = entry.clone();
        if entry.is_directory() {
            if !matches!(parts.base, Base::Scratch) && belongs_to_the_base(&name) {
                continue;
            }
            if SHARED_FOLDERS.contains(&&*name) {
                entry.mode = 0o1777;
            }
        }
        tree.insert(path.clone(), entry)?;
    }
    Ok(tree)
}

/// Whether a folder is a link in many bases, or has an owner and mode that an entry of ours would
/// take from it. All bases that programs reach into it for have it.
fn belongs_to_the_base(path: &str) -> bool {
    const NAMES: [&str; 9] =
        ["bin", "home", "lib", "lib32", "lib64", "root", "sbin", "var/lock", "var/run"];
    let is_home = path.strip_prefix("home/").is_some_and(|user| !user.contains('/'));
    NAMES.contains(&path) || is_home
}

/// Refuses a file where every image has a folder, and anything where a binary goes.
fn check_place(path: &str, entry: &Entry, parts: &Parts) -> Result<()> {
    const FOLDERS: [&str; 19] = [
        "bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc", "root",
        "run", "sbin", "srv", "sys", "tmp", "usr", "var",
    ];
    let refused =
        |why: String| Error::new(ErrorKind::Usage, format!("add a file as /{path}")).because(why);
    let leads_to_binaries = BINARY_FOLDER == path || BINARY_FOLDER.starts_with(&format!("{path}/"));
    if !entry.is_directory() && (FOLDERS.contains(&path) || leads_to_binaries) {
        return Err(refused("images have a folder there".to_owned())
            .hint(format!("write /{path}/ to put it into that folder")));
    }
    let name = path.strip_prefix(BINARY_FOLDER).and_then(|rest| rest.strip_prefix('/'));
    match parts.binaries.iter().find(|binary| Some(binary.name.as_str()) == name) {
        Some(binary) => Err(refused(format!("the program {} goes there", binary.origin))),
        None => Ok(()),
    }
}

fn binary_tree(parts: &Parts) -> Result<Tree> {
    let mut tree = Tree::new();
    for binary in &parts.binaries {
        let content = Content::from_file(&binary.path)?;
        let entry = Entry::file(content, 0o755).modified(parts.created);
        let path = format!("{BINARY_FOLDER}/{}", binary.name);
        // Some engines give folders that no layer mentions to root alone.
        tree.insert_with_parents(path.parse()?, entry)?;
    }
    Ok(tree)
}

fn history(parts: &Parts, what: &str, comment: &str) -> History {
    History {
        created: Some(rfc3339(parts.created)),
        created_by: Some(format!("gondola build {what}")),
        comment: Some(comment.to_owned()),
        ..History::default()
    }
}

/// Writes a time as RFC 3339 in UTC, to the second.
pub(super) fn rfc3339(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).expect("checked when it was read");
    time.to_string()
}

fn configure(draft: &mut Draft, parts: &Parts) -> Result<()> {
    let image = &parts.settings.image;
    let first = parts.binaries.first().map(|b| format!("/{BINARY_FOLDER}/{}", b.name));
    draft.config().created = Some(rfc3339(parts.created));
    let container = draft.container();
    container.entrypoint = image.entrypoint.clone().or(first.map(|path| vec![path]));
    // The base's default arguments are meant for the base's program.
    container.cmd.clone_from(&image.cmd);
    if container.env_value("PATH").is_none() {
        container.env.insert(0, format!("PATH={DEFAULT_PATH}"));
    }
    for (name, value) in &image.env {
        container.set_env(name, value);
    }
    replace_if_set(&mut container.user, image.user.as_ref());
    replace_if_set(&mut container.working_dir, image.workdir.as_ref());
    replace_if_set(&mut container.stop_signal, image.stop_signal.as_ref());
    for port in &image.ports {
        container.exposed_ports.insert(exposed_port(port)?, serde_json::json!({}));
    }
    for volume in &image.volumes {
        container.volumes.insert(volume.clone(), serde_json::json!({}));
    }
    container.labels.extend(parts.settings.packaging.labels.clone());
    annotate(draft, &parts.settings.packaging, &parts.origin);
    Ok(())
}

/// Annotations given by hand win over those that gondola makes.
fn annotate(draft: &mut Draft, packaging: &Packaging, origin: &[(String, String)]) {
    for (key, value) in origin {
        draft.annotate(key, value);
    }
    for (key, value) in &packaging.annotations {
        draft.annotate(key, value);
    }
}

fn replace_if_set(field: &mut String, value: Option<&String>) {
    if let Some(value) = value {
        field.clone_from(value);
    }
}

/// Completes a port as `EXPOSE` does: `8080` is `8080/tcp`.
fn exposed_port(text: &str) -> Result<String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let is_number = number.parse::<u16>().is_ok_and(|port| port > 0);
    if is_number && matches!(protocol, "tcp" | "udp" | "sctp") {
        return Ok(format!("{number}/{protocol}"));
    }
    Err(Error::new(ErrorKind::Usage, format!("expose port \"{}\"", text.escape_debug()))
        .because("expected a number from 1 to 65535, and tcp, udp or sctp after a slash")
        .hint("write 8080 or 53/udp"))
}

/// Makes a layer of files as they are. If one changes between the looks at it, it is looked at again.
fn settled_layer(
    context: &BuildContext,
    parts: &Parts,
    name: &str,
    tree: impl Fn() -> Result<Tree>,
) -> Result<Layer> {
    let mut repeats = REPEATS;
    loop {
        match tree().and_then(|tree| store_layer(context, parts, name, tree)) {
            Err(error) if error.kind() == ErrorKind::Changed && repeats > 0 => repeats -= 1,
            made => return made,
        }
    }
}

/// Makes a layer of `tree`, or finds the one that was made of an equal tree.
fn store_layer(context: &BuildContext, parts: &Parts, name: &str, tree: Tree) -> Result<Layer> {
    let packer = Packer {
        transport: context.transport.clone(),
        encoding: parts.settings.packaging.encoding,
        threads: context.cores,
    };
    let record = packer.find_or_pack(name, tree, Reuse::of(parts.use_cache))?;
    Ok(record.layer(&context.transport.store))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::path::Path;
    use std::rc::Rc;

    use crate::image::{Blob, BlobLocation};
    use crate::layer::boundary::hooked;
    use crate::pipeline::{BaseChoice, ImageSettings, ToolchainChoice};
    use crate::progress::Reporter;
    use crate::registry::{Client, Options};
    use crate::sandbox::Launcher;
    use crate::store::Store;
    use crate::transport::Context;

    const BEFORE: &str = "the first contents";
    const AFTER: &str = "the other contents";

    fn context(folder: &Path) -> BuildContext {
        let transport = Context {
            store: Store::open(&folder.join("store")).unwrap(),
            client: Client::new(Options::default()).unwrap(),
            reporter: Reporter::silent(),
            host: Platform::host(),
            jobs: 1,
        };
        let programs = folder.join("programs");
        let (variables, launcher) = (std::collections::BTreeMap::new(), Launcher::new(""));
        BuildContext { transport, variables, programs, launcher, cores: 1 }
    }

    /// An image of a prebuilt program, or of a folder that is added.
    fn parts(folder: &Path, is_added: bool) -> Parts {
        let added = if is_added { vec!["files:/srv".parse().unwrap()] } else { Vec::new() };
        let binary = Binary {
            name: "app".to_owned(),
            origin: "prebuilt".to_owned(),
            path: folder.join("files/app"),
        };
        Parts {
            name: "app".to_owned(),
            platform: Platform::host(),
            base: Base::Scratch,
            binaries: if is_added { Vec::new() } else { vec![binary] },
            settings: Settings {
                base: BaseChoice::Scratch,
                packaging: Packaging { encoding: "none".parse().unwrap(), ..Packaging::default() },
                toolchain: ToolchainChoice::Host,
                go: crate::golang::BuildFlags::default(),
                image: ImageSettings { assets: added, ..ImageSettings::default() },
            },
            origin: Vec::new(),
            created: 0,
            folder: folder.to_owned(),
            use_cache: true,
        }
    }

    /// The bytes of all layers.
    fn bytes(image: &Image) -> String {
        let read = |layer: &Blob| match &layer.source {
            BlobLocation::File(path) => fs_err::read_to_string(path).unwrap(),
            _ => panic!("it is not in the store"),
        };
        image.layers.iter().map(read).collect()
    }

    #[test]
    fn a_layer_is_kept_under_the_key_of_its_own_bytes_wherever_its_files_are_changed() {
        for (is_added, boundary) in
            [false, true].into_iter().flat_map(|of| (0..4).map(move |n| (of, n)))
        {
            let scratch = tempfile::tempdir().unwrap();
            let file = scratch.path().join("files/app");
            fs_err::create_dir(scratch.path().join("files")).unwrap();
            fs_err::write(&file, BEFORE).unwrap();
            let (context, parts) = (context(scratch.path()), parts(scratch.path(), is_added));
            // It is opened and read for its key first, and then for the layer.
            let count = Rc::new(Cell::new(0));
            let (counted, edited) = (count.clone(), file.clone());
            let hook = move |_, _: &crate::layer::FileContent| {
                if counted.replace(counted.get() + 1) == boundary {
                    fs_err::write(&edited, AFTER).unwrap();
                }
            };
            let image = hooked(hook, || assemble(&context, &parts)).unwrap();
            assert!(count.get() > boundary, "there are {} boundaries", count.get());
            let bytes_then = bytes(&image);
            for (state, expect) in [(BEFORE, BEFORE), (AFTER, AFTER)] {
                fs_err::write(&file, state).unwrap();
                let text = bytes(&assemble(&context, &parts).unwrap());
                assert!(text.contains(expect), "added {is_added}, edited at {boundary}");
            }
            // Only at the very last boundary its old bytes are packed already.
            let packed = if bytes_then.contains(AFTER) { AFTER } else { BEFORE };
            assert!(bytes_then.contains(packed) && (packed == AFTER || boundary == 3));
        }
    }

    #[test]
    fn a_file_that_changes_whenever_it_is_read_is_an_error_that_names_it() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("files/app");
        fs_err::create_dir(scratch.path().join("files")).unwrap();
        fs_err::write(&file, BEFORE).unwrap();
        let (context, parts) = (context(scratch.path()), parts(scratch.path(), false));
        let count = Cell::new(0);
        let edited = file.clone();
        let hook = move |_, _: &crate::layer::FileContent| {
            count.set(count.get() + 1);
            fs_err::write(&edited, format!("{:018}", count.get())).unwrap();
        };
        let error = hooked(hook, || assemble(&context, &parts)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Changed);
        let text = error.to_string();
        assert!(text.contains("files/app") && text.contains("changed meanwhile"), "{text}");
        fs_err::write(&file, BEFORE).unwrap();
        assert!(bytes(&assemble(&context, &parts).unwrap()).contains(BEFORE));
    }

    #[test]
    fn ports_are_completed_and_checked() {
        for (text, expect) in [("8080", "8080/tcp"), ("53/udp", "53/udp"), ("1/sctp", "1/sctp")] {
            assert_eq!(exposed_port(text).unwrap(), expect);
        }
        for bad in ["", "0", "65536", "80/http", "a", "80/"] {
            assert!(exposed_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_767_225_600), "2026-01-01T00:00:00Z");
    }
}
