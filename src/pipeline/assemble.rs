//! One image for one platform: its base, its layers, its configuration.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::base::{Base, static_draft};
use super::early_push::{ConfigOf, EarlyPush};
use super::{BuildContext, Packaging, Settings};
use crate::engine::{Follow, Making, Packer, Reuse};
use crate::error::{Error, ErrorKind, Result};
use crate::golang::Asset;
use crate::golang::go_build::ImageBinary;
use crate::image::{Blob, Draft, Image, Layer, static_base};
use crate::layer::{Content, Encoding, Entry, Tree};
use crate::oci::{Descriptor, History, MediaType, Platform};

/// The folder of an image that binaries are put into.
const BINARY_FOLDER: &str = "usr/local/bin";

/// Folders in which everybody may write.
const SHARED_FOLDERS: [&str; 2] = ["tmp", "var/tmp"];

/// What a shell and most programs look through when an image sets no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How often a layer is made again because a file changed.
const REPEATS: usize = 2;

/// Everything that one image is made of.
#[derive(Clone)]
pub(super) struct Parts {
    pub name: String,
    pub platform: Platform,
    pub base: Base,
    pub binaries: Vec<ImageBinary>,
    pub settings: Settings,
    /// Annotations that say where the source came from.
    pub origin: Vec<(String, String)>,
    /// Seconds since 1970.
    pub created: i64,
    pub folder: PathBuf,
    /// Whether a layer that was made of an equal tree may be used again.
    pub use_cache: bool,
    /// Where the layer of the binaries goes while it is made.
    pub early_push: Option<EarlyPush>,
    /// Whether the binaries were compiled just now: then they are made again and again.
    pub was_compiled: bool,
}

impl Parts {
    /// What its layer of binaries is one of a series of.
    fn series(&self) -> Option<String> {
        let Self { name, platform, folder, .. } = self;
        self.was_compiled.then(|| format!("{name} for {platform} in {}", folder.display()))
    }
}

/// Layers that several images of a build have; each is made, or looked up, once.
#[derive(Default)]
pub(super) struct SharedLayers {
    bases: Mutex<Vec<(Encoding, Layer)>>,
    assets: Mutex<Vec<(AssetsOf, AssetLayer)>>,
}

/// What decides what is in a layer of files that are added.
#[derive(PartialEq)]
struct AssetsOf {
    assets: Vec<Asset>,
    is_on_nothing: bool,
    encoding: Encoding,
}

/// A layer of files that are added.
struct AssetLayer {
    places: Vec<Place>,
    layer: Layer,
}

/// Where something is added.
struct Place {
    path: String,
    is_directory: bool,
}

/// Puts one image together. Blocks: layers are compressed here.
pub(super) fn assemble(
    context: &BuildContext,
    parts: &Parts,
    shared: &SharedLayers,
) -> Result<Image> {
    let mut draft = parts.base.draft(&parts.platform, || {
        let mut draft = static_draft(&parts.platform)?;
        let layer = static_base_layer(context, parts, shared)?;
        draft.push_layer(layer, history(parts, "static base", "certificates, time zones, users"));
        Ok(draft)
    })?;
    let assets = &parts.settings.image.assets;
    if !assets.is_empty() {
        let layer = asset_layer(context, parts, shared)?;
        let targets: Vec<&str> = assets.iter().map(|asset| asset.target.as_str()).collect();
        draft.push_layer(layer, history(parts, "added files", &targets.join(" ")));
    }
    let layer = binary_layer(context, parts, &draft)?;
    Ok(finished(draft, parts, layer))
}

/// The image, once it has its last layer.
fn finished(mut draft: Draft, parts: &Parts, layer: Layer) -> Image {
    let origins: Vec<&str> = parts.binaries.iter().map(|b| b.origin.as_str()).collect();
    let comment = format!("on {}", parts.base.name());
    draft.push_layer(layer, history(parts, &origins.join(" "), &comment));
    configure(&mut draft, parts);
    draft.finish()
}

/// What makes the image's configuration of the diff ID of its last layer alone.
fn config_of(draft: &Draft, parts: &Parts) -> ConfigOf {
    let (draft, parts) = (draft.clone(), parts.clone());
    Box::new(move |diff_id| {
        let compression = parts.settings.packaging.encoding.compression();
        let media_type = MediaType::layer_for(&MediaType::OCI_MANIFEST, compression);
        // Of the layer itself a configuration says nothing more.
        let blob = Blob::in_memory(Descriptor::of(media_type, b""), Bytes::new());
        let layer = Layer { blob, diff_id: diff_id.clone() };
        finished(draft.clone(), &parts, layer).config_blob()
    })
}

fn binary_layer(context: &BuildContext, parts: &Parts, draft: &Draft) -> Result<Layer> {
    let follow = parts
        .early_push
        .as_ref()
        .map(|early| move |file| early.follow(file, draft.layers(), config_of(draft, parts)));
    let series = parts.series();
    let making = Making {
        follow: follow.as_ref().map(|follow| follow as Follow<'_>),
        series: series.as_deref(),
    };
    let name = format!("{} {}", parts.name, parts.platform);
    settled_layer(context, parts, &name, || binary_tree(parts), making)
}

fn static_base_layer(
    context: &BuildContext,
    parts: &Parts,
    shared: &SharedLayers,
) -> Result<Layer> {
    let encoding = parts.settings.packaging.encoding;
    let mut known = shared.bases.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, layer)) = known.iter().find(|(of, _)| *of == encoding) {
        return Ok(layer.clone());
    }
    let tree = static_base::tree(parts.created);
    let layer = store_layer(context, parts, "static base", tree, Making::default())?;
    known.push((encoding, layer.clone()));
    Ok(layer)
}

fn asset_layer(context: &BuildContext, parts: &Parts, shared: &SharedLayers) -> Result<Layer> {
    let of = AssetsOf {
        assets: parts.settings.image.assets.clone(),
        is_on_nothing: matches!(parts.base, Base::Scratch),
        encoding: parts.settings.packaging.encoding,
    };
    let mut known = shared.assets.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, AssetLayer { places, layer })) = known.iter().find(|(other, _)| *other == of) {
        places.iter().try_for_each(|place| check_place(place, parts))?;
        return Ok(layer.clone());
    }
    let name = format!("{} files", parts.name);
    let places = RefCell::default();
    let look = || {
        let (tree, found) = asset_tree(parts)?;
        places.replace(found);
        Ok(tree)
    };
    let layer = settled_layer(context, parts, &name, look, Making::default())?;
    let made = AssetLayer { places: places.into_inner(), layer: layer.clone() };
    known.push((of, made));
    Ok(layer)
}

/// The files that are added to an image.
pub(super) fn added_files(parts: &Parts) -> Result<Tree> {
    asset_tree(parts).map(|(tree, _)| tree)
}

/// The files that are added, without the folders that are the base's affair, and where all of it goes.
fn asset_tree(parts: &Parts) -> Result<(Tree, Vec<Place>)> {
    let mut added = Tree::new();
    for asset in &parts.settings.image.assets {
        asset.add_to(&mut added, &parts.folder, parts.created)?;
    }
    let (mut tree, mut places) = (Tree::new(), Vec::new());
    for (path, entry) in &added {
        let name = path.to_str_lossy();
        let place = Place { path: name.to_string(), is_directory: entry.is_directory() };
        check_place(&place, parts)?;
        places.push(place);
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
    Ok((tree, places))
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
fn check_place(Place { path, is_directory }: &Place, parts: &Parts) -> Result<()> {
    const FOLDERS: [&str; 19] = [
        "bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc", "root",
        "run", "sbin", "srv", "sys", "tmp", "usr", "var",
    ];
    let refused =
        |why: String| Error::new(ErrorKind::Usage, format!("add a file as /{path}")).because(why);
    let leads_to_binaries = BINARY_FOLDER == path || BINARY_FOLDER.starts_with(&format!("{path}/"));
    if !is_directory && (FOLDERS.contains(&&**path) || leads_to_binaries) {
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
        let content = match &binary.content {
            Some(content) => content.clone(),
            None => Content::from_file(&binary.path)?,
        };
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

fn configure(draft: &mut Draft, parts: &Parts) {
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
        container.exposed_ports.insert(port.clone(), serde_json::json!({}));
    }
    for volume in &image.volumes {
        container.volumes.insert(volume.clone(), serde_json::json!({}));
    }
    container.labels.extend(parts.settings.packaging.labels.clone());
    annotate(draft, &parts.settings.packaging, &parts.origin);
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

/// Makes a layer of files as they are. If one changes between the looks at it, it is looked at again.
fn settled_layer(
    context: &BuildContext,
    parts: &Parts,
    name: &str,
    tree: impl Fn() -> Result<Tree>,
    making: Making<'_>,
) -> Result<Layer> {
    let mut repeats = REPEATS;
    loop {
        match tree().and_then(|tree| store_layer(context, parts, name, tree, making)) {
            Err(error) if error.kind() == ErrorKind::Changed && repeats > 0 => repeats -= 1,
            made => return made,
        }
    }
}

/// Makes a layer of `tree`, or finds the one that was made of an equal tree.
fn store_layer(
    context: &BuildContext,
    parts: &Parts,
    name: &str,
    tree: Tree,
    making: Making<'_>,
) -> Result<Layer> {
    let packer = Packer {
        transport: context.transport.clone(),
        encoding: parts.settings.packaging.encoding,
        threads: context.cores,
    };
    let reuse = Reuse::of(parts.use_cache);
    let record = packer.find_or_make(name, tree, reuse, making)?;
    Ok(record.layer(&context.transport.store))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::path::Path;
    use std::rc::Rc;

    use crate::image::BlobLocation;
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
        let binary = ImageBinary {
            name: "app".to_owned(),
            origin: "prebuilt".to_owned(),
            path: folder.join("files/app"),
            content: None,
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
            early_push: None,
            was_compiled: false,
        }
    }

    /// An image that shares nothing.
    fn alone(context: &BuildContext, parts: &Parts) -> Result<Image> {
        assemble(context, parts, &SharedLayers::default())
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
            let image = hooked(hook, || alone(&context, &parts)).unwrap();
            assert!(count.get() > boundary, "there are {} boundaries", count.get());
            let bytes_then = bytes(&image);
            for (state, expect) in [(BEFORE, BEFORE), (AFTER, AFTER)] {
                fs_err::write(&file, state).unwrap();
                let text = bytes(&alone(&context, &parts).unwrap());
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
        let error = hooked(hook, || alone(&context, &parts)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Changed);
        let text = error.to_string();
        assert!(text.contains("files/app") && text.contains("changed meanwhile"), "{text}");
        fs_err::write(&file, BEFORE).unwrap();
        assert!(bytes(&alone(&context, &parts).unwrap()).contains(BEFORE));
    }

    #[test]
    fn files_that_images_share_are_looked_at_once_and_hide_no_program() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("files/tool");
        fs_err::create_dir(scratch.path().join("files")).unwrap();
        fs_err::write(&file, BEFORE).unwrap();
        let context = context(scratch.path());
        let mut one = parts(scratch.path(), true);
        one.settings.image.assets = vec!["files:/usr/local/bin".parse().unwrap()];
        let shared = SharedLayers::default();
        let first = assemble(&context, &one, &shared).unwrap();
        // What is saved meanwhile does not tear the images of a build apart.
        fs_err::write(&file, AFTER).unwrap();
        assert_eq!(bytes(&assemble(&context, &one, &shared).unwrap()), bytes(&first));
        assert!(bytes(&alone(&context, &one).unwrap()).contains(AFTER));
        let binary = parts(scratch.path(), false).binaries.remove(0);
        one.binaries.push(ImageBinary { name: "tool".to_owned(), path: file, ..binary });
        let error = assemble(&context, &one, &shared).unwrap_err().to_string();
        assert!(error.contains("the program prebuilt goes there"), "{error}");
    }

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_767_225_600), "2026-01-01T00:00:00Z");
    }
}
